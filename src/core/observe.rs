//! What the fleet was observed to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::boot::BootLog;
use super::event::{Command, GroupObserved, InstanceObserved, InstanceState, OperationFailure, Phase};
use super::groups::{Origin, SETTLE};
use super::ids::{GroupId, InstanceId, Mono, OperationId, PoolId};
use super::instances::{Drain, Instance, Progress};
use super::journal::FLEET_ENDS_IT;
use super::rest::REST_INTERVAL;
use super::scaling::{Launch, Pool};
use super::snapshot::HappeningKind;
use super::{Core, Timer};

/// An instance whose end was asked for, and which is still shown as running after this time, was not ended.
const TERMINATION_SHOWN_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Instances that are gone and remembered: more than can be on their way out within a report's longest way.
const ENDED_KEPT: usize = 64;

impl Core {
    /// The fleet is this.
    ///
    /// 1. Each group's wish and limits are noted, unless the look is older than a change of ours.
    /// 2. What left without our doing will be replaced by its group: a spare is expected.
    /// 3. What is new is adopted, in place of a launch.
    /// 4. What is missing or ended is lost, and what ran there is cut.
    /// 5. What a wish lacks beyond that is on its way; a launch that no wish stands for any more is not.
    pub(super) fn fleet_observed(
        &mut self,
        id: PoolId,
        as_of: Mono,
        groups: &BTreeMap<GroupId, GroupObserved>,
        observed: BTreeMap<InstanceId, InstanceObserved>,
    ) {
        self.plan_changed = true;
        let now = self.now;
        let Some(pool) = self.pools.get(&id) else { return };
        let settle = if pool.config.looks.is_some() { SETTLE } else { std::time::Duration::ZERO };
        let clears_doubt = pool.uncertain_since.is_some_and(|since| since + settle <= as_of);
        for (&gid, &seen) in groups {
            self.group_observed(id, gid, seen, as_of);
        }
        for (instance, cause) in self.instances_observed(id, observed, as_of, clears_doubt) {
            self.instance_lost(id, &instance, &cause);
        }
        for &gid in groups.keys() {
            self.reconcile(id, gid, as_of);
        }
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.is_observed = true;
        pool.seen_at = pool.seen_at.max(Some(as_of));
        if clears_doubt {
            pool.uncertain_since = None;
            if groups.is_empty() && !pool.is_waking() {
                // What the lost wake launched would be here.
                pool.launches.clear();
            }
        }
        if let Some(at) = pool.boot_deadline() {
            self.arm_by(Timer::Boot(id), at);
        }
        self.bind_all(id);
        self.count_instances(id);
        self.reindex_pool(id);
        self.keep_budget(id);
        self.keep_the_least(id);
        self.keep_what_is_wanted(id);
        self.dismiss_spares(id);
        self.settle(id);
        self.arm_by(Timer::Rest(id), now + REST_INTERVAL);
    }

    /// Takes in each instance; gives those that are lost, with the cause.
    fn instances_observed(
        &mut self,
        id: PoolId,
        observed: BTreeMap<InstanceId, InstanceObserved>,
        as_of: Mono,
        clears_doubt: bool,
    ) -> Vec<(InstanceId, Arc<str>)> {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return Vec::new() };
        pool.expect_replacements(&observed, now);
        let unseen = pool.instances.iter().filter(|(known, instance)| {
            !observed.contains_key(known) && (instance.was_seen || !instance.is_booting())
        });
        let mut lost: Vec<(InstanceId, Arc<str>)> =
            unseen.map(|(known, _)| (known.clone(), Arc::from("it is not in the fleet any more"))).collect();
        for (instance_id, seen) in observed {
            if let InstanceState::Ended { cause } = &seen.state {
                lost.push((instance_id, cause.clone()));
                continue;
            }
            let origin = pool.origin_of_unasked(seen.group);
            if matches!(seen.state, InstanceState::Pending | InstanceState::Running) {
                // A fleet may launch more than was missed here, if it has lost some meanwhile.
                let since = pool.waking_since().filter(|_| origin == Origin::Asked).unwrap_or(now);
                pool.adopt(instance_id.clone(), seen.group, None, origin, since);
            } else if !pool.instances.contains_key(&instance_id) {
                // It is no part of what the group wishes for, so it takes no launch's place.
                pool.insert(instance_id.clone(), Launch::by_itself(seen.group, Origin::Stranger, now));
            }
            let Some(instance) = pool.instances.get_mut(&instance_id) else { continue };
            instance.was_seen = true;
            pool.ended.retain(|ended| *ended != instance_id);
            instance.group = seen.group;
            instance.address = seen.address;
            if instance.state == InstanceState::Aside && seen.state != InstanceState::Aside {
                instance.begin_anew(now, pool.config.boot_timeout);
            }
            instance.boot.saw(&seen.state, now);
            instance.state = seen.state;
            match instance.state {
                InstanceState::Terminating | InstanceState::TerminatingWait => {
                    if !instance.is_ending() {
                        let which = (&instance_id, instance.group);
                        pool.journal.of_instance(
                            now,
                            HappeningKind::DrainBegan,
                            which,
                            Some(FLEET_ENDS_IT.into()),
                        );
                    }
                    instance.drain = Some(Drain::Notice);
                    if let Progress::Asked { at } = instance.complete
                        && at + TERMINATION_SHOWN_MAX <= as_of
                    {
                        // Another hook holds it.
                        instance.complete = Progress::NotAsked;
                    }
                }
                InstanceState::Pending | InstanceState::Running => {
                    if let Progress::Asked { at } = instance.terminate
                        && (clears_doubt || at + TERMINATION_SHOWN_MAX <= as_of)
                    {
                        // The call did not reach it.
                        instance.terminate = Progress::NotAsked;
                    }
                }
                InstanceState::Aside | InstanceState::Ended { .. } => {}
            }
        }
        lost
    }

    /// An instance is gone: so is its agent, and what ran there is cut.
    fn instance_lost(&mut self, id: PoolId, instance_id: &InstanceId, cause: &Arc<str>) {
        let Some(instance) = self.pools.get_mut(&id).and_then(|pool| pool.instances.remove(instance_id))
        else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&id) {
            if pool.ended.len() == ENDED_KEPT {
                pool.ended.pop_front();
            }
            pool.ended.push_back(instance_id.clone());
            pool.journal.gone(self.now, instance_id, &instance, cause);
        }
        for &agent in &instance.agents {
            let leases = self.agents.get(&agent).map(|agent| agent.leases.clone()).unwrap_or_default();
            self.commands.extend(leases.into_iter().map(|lease| Command::Abort { lease }));
            self.agent_gone(agent);
        }
        if instance.is_booting() && instance.origin != Origin::Stranger {
            self.boot_failed(id, Some(instance.group), OperationFailure::Transient, cause);
        }
        self.keep_the_least(id);
    }
}

impl Pool {
    /// Each instance of a wish that went or goes without our doing is going to be replaced.
    fn expect_replacements(&mut self, observed: &BTreeMap<InstanceId, InstanceObserved>, now: Mono) {
        let stays = |id: &InstanceId| {
            observed
                .get(id)
                .is_some_and(|seen| matches!(seen.state, InstanceState::Pending | InstanceState::Running))
        };
        let left = self.instances.iter().filter(|(id, i)| i.is_counted() && i.was_seen && !stays(id));
        let left: Vec<GroupId> = left.map(|(_, instance)| instance.group).collect();
        for group in left {
            if self.groups.get(&group).is_some_and(|group| group.desired.is_some()) {
                self.launches.push(Launch::by_itself(group, Origin::Spare, now));
            }
        }
    }

    /// Who asked for an instance for which no launch was expected.
    fn origin_of_unasked(&self, group: GroupId) -> Origin {
        match self.groups.get(&group) {
            Some(group) if self.is_observed && group.abandoned > 0 => Origin::Spare,
            Some(group) if group.desired.is_some() => Origin::Stranger,
            // A fleet without wishes launches nothing but what it was asked for.
            Some(_) | None => Origin::Asked,
        }
    }

    /// Takes in an instance that is new here, in place of a launch: the operation's own, else the oldest of its group.
    pub(super) fn adopt(
        &mut self,
        id: InstanceId,
        group: GroupId,
        operation: Option<OperationId>,
        otherwise: Origin,
        since: Mono,
    ) {
        if self.instances.get(&id).is_some_and(|known| known.state != InstanceState::Aside) {
            return;
        }
        let launch = self.take_launch(group, operation);
        if self.instances.contains_key(&id) {
            return;
        }
        let launch = launch.unwrap_or_else(|| Launch::by_itself(group, otherwise, since));
        self.insert(id, launch);
    }

    fn insert(&mut self, id: InstanceId, launch: Launch) {
        let launched_at = launch.started_at;
        self.instances.insert(
            id,
            Instance {
                group: launch.group,
                origin: launch.origin,
                state: InstanceState::Pending,
                was_seen: false,
                address: None,
                heard_at: None,
                launched_at,
                boot_deadline: launched_at + self.config.boot_timeout,
                is_overdue: false,
                phase: Phase::Starting,
                boot: BootLog::new(&launch),
                registered_at: None,
                agents: BTreeSet::new(),
                agent_lost_at: None,
                unready_since: None,
                rest_since: launched_at,
                notice: None,
                drain: None,
                terminate: Progress::NotAsked,
                complete: Progress::NotAsked,
                extend_at: Mono::default(),
                end_failures: 0,
            },
        );
    }
}
