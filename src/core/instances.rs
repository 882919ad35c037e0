//! The instances of a pool's fleet, and which agent speaks for which.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::boot::BootLog;
use super::event::{InstanceState, NoticeReason, OperationFailure, Phase};
use super::groups::Origin;
use super::ids::{AgentKey, GroupId, InstanceId, Mono, PoolId};
use super::scaling::Launch;
use super::snapshot::HappeningKind;
use super::trouble::Trouble;
use super::{Core, Timer};

/// How long an instance that served keeps its place while its agent is not heard.
pub(super) const LOST_AGENT_GRACE: Duration = Duration::from_secs(30);

/// How long an agent that could tell its instance is waited for, before it is guessed.
const NAME_WAIT: Duration = Duration::from_secs(10);

/// Why nothing new is sent to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// It was idle, or the others can carry its load. An arrival cancels it, until its end was asked for.
    Idle,
    /// It did not boot in time, or its agent was not heard for long.
    Fault,
    /// Its fleet ends it.
    Notice,
    /// The day has cost as much as it may. Over with the day, until its end was asked for.
    Budget,
}

/// An instance of the pool's fleet.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) group: GroupId,
    pub(super) origin: Origin,
    pub(super) state: InstanceState,
    /// The fleet has shown it: what it never showed may only be late, and is not lost before its boot deadline.
    pub(super) was_seen: bool,
    pub(super) address: Option<SocketAddr>,
    /// Where its agent says that its server listens: how the agent's next life finds back.
    pub(super) heard_at: Option<SocketAddr>,
    pub(super) launched_at: Mono,
    pub(super) boot_deadline: Mono,
    /// Somebody else's, and not heard of by its boot deadline: nothing is expected of it any more.
    pub(super) is_overdue: bool,
    /// How far its server has come, by its agent's reports.
    pub(super) phase: Phase,
    /// The steps of its boot.
    pub(super) boot: BootLog,
    /// When it first had a slot to offer.
    pub(super) registered_at: Option<Mono>,
    /// Every life of an agent on it that is heard or holds leases.
    pub(super) agents: BTreeSet<AgentKey>,
    pub(super) agent_lost_at: Option<Mono>,
    /// Since when its agent says that its server cannot be used, after it once could.
    pub(super) unready_since: Option<Mono>,
    /// The last response byte, or the registration.
    pub(super) rest_since: Mono,
    /// Its agent says that the machine is about to end.
    pub(super) notice: Option<NoticeReason>,
    pub(super) drain: Option<Drain>,
    pub(super) terminate: Progress,
    /// For an end that the fleet holds.
    pub(super) complete: Progress,
    /// When the fleet is to be asked to hold its end for longer.
    pub(super) extend_at: Mono,
    /// Steps towards its end that failed.
    pub(super) end_failures: u32,
}

/// How far a step towards an instance's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    NotAsked,
    Started,
    /// Done as far as the fleet said, or unknown: the instance is yet to be missing.
    Asked {
        at: Mono,
    },
    Failed {
        retry_at: Mono,
    },
}

impl Instance {
    pub(super) fn is_booting(&self) -> bool {
        let is_expected = !self.is_overdue && self.state != InstanceState::Aside;
        self.registered_at.is_none() && self.drain.is_none() && is_expected
    }

    /// Registered, not leaving, and its agent is heard, or was a moment ago.
    pub(super) fn is_serving(&self, now: Mono) -> bool {
        self.registered_at.is_some()
            && self.drain.is_none()
            && self.is_there()
            && self.agent_lost_at.is_none_or(|lost| now < lost + LOST_AGENT_GRACE)
    }

    pub(super) fn is_there(&self) -> bool {
        match self.state {
            InstanceState::Pending | InstanceState::Running => true,
            InstanceState::Aside
            | InstanceState::TerminatingWait
            | InstanceState::Terminating
            | InstanceState::Ended { .. } => false,
        }
    }

    /// It is back in service, from standing by or a warm pool: whatever was known of it was before that.
    pub(super) fn begin_anew(&mut self, now: Mono, boot_timeout: Duration) {
        self.boot = BootLog::new(&Launch::by_itself(self.group, self.origin, now));
        self.launched_at = now;
        self.boot_deadline = now + boot_timeout;
        self.is_overdue = false;
        self.registered_at = None;
        self.agent_lost_at = None;
        self.unready_since = None;
        self.rest_since = now;
        self.notice = None;
        self.drain = None;
        self.terminate = Progress::NotAsked;
        self.complete = Progress::NotAsked;
        self.end_failures = 0;
    }

    /// Whether it leaves for idleness and nobody was told yet, so that it may stay.
    pub(super) fn can_come_back(&self) -> bool {
        self.drain == Some(Drain::Idle) && !self.is_end_asked()
    }

    pub(super) fn is_end_asked(&self) -> bool {
        matches!(self.terminate, Progress::Started | Progress::Asked { .. })
    }

    /// Whether its group's wish counts it.
    pub(super) fn is_counted(&self) -> bool {
        self.is_there() && !self.is_end_asked()
    }

    /// Whether it is on its way out.
    pub(super) fn is_ending(&self) -> bool {
        self.drain.is_some() || self.is_end_asked()
    }
}

impl Core {
    /// Finds the instance that an agent speaks for: by the id that it reports, then by its address, then the oldest
    /// that nobody speaks for and whose address the fleet does not know. The last is a guess: it holds until the fleet
    /// shows another address, or an agent names the instance. It is not made for an agent that was there before the
    /// launch, or beside another at its address, nor at once for one that may yet say where it runs.
    pub(super) fn bind(&mut self, key: AgentKey) {
        self.doubt_guess(key);
        let Some(agent) = self.agents.get_mut(&key) else { return };
        let Some(pool) = self.pools.get_mut(&agent.pool) else { return };
        let is_known = |id: &InstanceId| pool.instances.contains_key(id);
        let address = agent.report.address;
        let is_alone =
            self.addresses.get(&address).is_none_or(|there| there.iter().all(|&other| other == key));
        let known_since = agent.known_since;
        // An agent of ours learns its instance within moments of its start, and says so.
        let is_old = agent.report.heartbeat.is_none();
        let may_guess = is_old || self.now.since(known_since) >= NAME_WAIT;
        let bound = agent.instance.clone().filter(is_known);
        let named = agent.report.instance.clone();
        let by_id = named.clone().filter(is_known);
        // Who names an instance is not taken for another one at its address.
        let is_of_name = |id: &InstanceId| named.as_ref().is_none_or(|named| named == id);
        let by_address = || {
            pool.instances.iter().find(|(id, i)| i.address.or(i.heard_at) == Some(address) && is_of_name(id))
        };
        let by_age = || {
            let is_silent = |i: &Instance| i.agents.is_empty() && i.address.is_none() && i.is_booting();
            let could_be =
                pool.instances.iter().filter(|(_, i)| is_silent(i) && i.launched_at <= known_since);
            could_be.min_by_key(|(_, i)| i.launched_at).filter(|_| is_alone && named.is_none() && may_guess)
        };
        let is_new = bound.is_none();
        let found = bound.or(by_id).or_else(|| by_address().or_else(by_age).map(|(id, _)| id.clone()));
        agent.instance.clone_from(&found);
        let Some(id) = found else { return };
        let Some(instance) = pool.instances.get_mut(&id) else { return };
        agent.is_guess = named.as_ref() != Some(&id) && instance.address != Some(address);
        let is_sure = is_new && !agent.is_guess;
        instance.agents.insert(key);
        instance.agent_lost_at = None;
        instance.heard_at = Some(address);
        let has_leases = !agent.leases.is_empty();
        let others: Vec<AgentKey> = instance.agents.iter().copied().filter(|&other| other != key).collect();
        let pool_id = agent.pool;
        if has_leases {
            self.count_busy(pool_id, &id);
        }
        if is_sure {
            for other in others {
                self.doubt_guess_beside(other, address);
            }
        }
    }

    /// Gives up a guess that the agent's own word, or the fleet's about the address, contradicts.
    fn doubt_guess(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get(&key).filter(|agent| agent.is_guess) else { return };
        if agent.report.instance.is_some() && agent.report.instance != agent.instance {
            self.give_up_guess(key);
            return;
        }
        if let Some(instance) = self.instance_of(agent)
            && let Some(address) = instance.address
        {
            self.doubt_guess_beside(key, address);
        }
    }

    /// Gives up a guess, if the instance turns out to be at this address.
    fn doubt_guess_beside(&mut self, key: AgentKey, address: SocketAddr) {
        if self.agents.get(&key).is_some_and(|agent| agent.is_guess && agent.report.address != address) {
            self.give_up_guess(key);
        }
    }

    /// The agent speaks for nobody that is known. Its instance boots still, as far as is known.
    fn give_up_guess(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get_mut(&key) else { return };
        agent.is_guess = false;
        let Some(id) = agent.instance.take() else { return };
        let pool_id = agent.pool;
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        if let Some(instance) = pool.instances.get_mut(&id) {
            instance.agents.remove(&key);
            instance.heard_at = None;
            if instance
                .agents
                .iter()
                .all(|other| self.agents.get(other).is_some_and(|other| !other.is_serving()))
            {
                instance.registered_at = None;
                instance.unready_since = None;
                instance.phase = Phase::Starting;
            }
        }
        self.count_busy(pool_id, &id);
        self.plan_changed = true;
        self.reindex(key);
    }

    pub(super) fn bind_all(&mut self, id: PoolId) {
        let agents: Vec<AgentKey> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.pool == id && agent.is_connected)
            .map(|(key, _)| *key)
            .collect();
        for key in agents {
            self.bind(key);
            self.note_boot_progress(key);
            self.note_notice(key);
        }
    }

    pub(super) fn reindex_pool(&mut self, id: PoolId) {
        let agents: Vec<AgentKey> =
            self.agents.iter().filter(|(_, agent)| agent.pool == id).map(|(key, _)| *key).collect();
        for key in agents {
            self.reindex(key);
        }
    }

    /// What an agent's report says about its instance's boot.
    pub(super) fn note_boot_progress(&mut self, key: AgentKey) {
        let now = self.now;
        let Some(agent) = self.agents.get(&key) else { return };
        let (id, phase, serves, slots) =
            (agent.pool, agent.report.phase, agent.is_serving(), agent.report.slots_total);
        let is_misconfigured = agent.report.is_authorized == Some(false)
            || agent.report.is_slots_endpoint_enabled == Some(false);
        let error = agent.report.error.clone();
        let (ages, reported_at, serving_since) = (agent.report.boot, agent.reported_at, agent.serving_since);
        let instance_id = agent.instance.clone();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if serves {
            pool.slots_learnt = Some(slots);
        }
        let Some(instance_id) = instance_id else { return };
        let Some(instance) = pool.instances.get_mut(&instance_id) else { return };
        instance.phase = phase;
        instance.boot.heard(ages, reported_at);
        let is_late = instance.is_overdue && serves;
        if !instance.is_booting() && !is_late {
            if serves {
                instance.unready_since = None;
            } else if instance.unready_since.is_none() {
                instance.unready_since = Some(now);
                let given_up_at = now + pool.config.boot_timeout;
                self.arm_by(Timer::Rest(id), given_up_at);
            }
            return;
        }
        if serves {
            instance.registered_at = Some(now);
            instance.rest_since = now;
            instance.is_overdue = false;
            instance.boot.registered(serving_since.unwrap_or(now));
            let took = instance.boot.phases().into_iter().flatten().sum::<Duration>().as_secs();
            // How long somebody else's took is not known.
            let took = (instance.origin == Origin::Asked).then(|| format!("after {took} s").into());
            let which = (&instance_id, instance.group);
            pool.journal.of_instance(now, HappeningKind::Registered, which, took);
            if instance.origin == Origin::Asked {
                self.booted.push(instance.boot.phases());
                pool.boots.add(instance_id, &instance.boot);
            }
            if let Some(group) = pool.groups.get_mut(&instance.group) {
                group.has_worked();
            }
            pool.trouble = Trouble::default();
            let rest_at = now + pool.config.idle_timeout;
            self.plan_changed = true;
            self.arm_by(Timer::Rest(id), rest_at);
        } else if is_misconfigured && instance.origin != Origin::Stranger {
            // It will not heal by waiting.
            instance.drain = Some(Drain::Fault);
            let cause = error.unwrap_or_else(|| "its llama.cpp cannot be used".into());
            let group = instance.group;
            let told = Some(cause.clone());
            pool.journal.of_instance(now, HappeningKind::BootFailed, (&instance_id, group), told);
            self.boot_failed(id, Some(group), OperationFailure::Permanent, &cause);
        }
    }

    pub(super) fn agent_of_instance_gone(&mut self, id: PoolId, instance_id: &InstanceId) {
        let now = self.now;
        let Some(pool) = self.pools.get(&id) else { return };
        let Some(instance) = pool.instances.get(instance_id) else { return };
        if instance.agents.iter().any(|key| self.agents.get(key).is_some_and(|agent| agent.is_connected)) {
            return;
        }
        if let Some(pool) = self.pools.get_mut(&id)
            && let Some(instance) = pool.instances.get_mut(instance_id)
        {
            instance.agent_lost_at = Some(now);
            // Perhaps it is gone itself.
            pool.look_by(now);
        }
        self.arm_by(Timer::Rest(id), now + LOST_AGENT_GRACE);
    }
}
