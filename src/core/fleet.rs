//! What the fleet did: the ends of operations, and what it was observed to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::event::{Action, Command, InstanceObserved, InstanceState, OperationFailure, Phase};
use super::ids::{InstanceId, Mono, OperationId, PoolId};
use super::instances::{Drain, Instance, Terminate};
use super::rest::REST_INTERVAL;
use super::scaling::{Launch, Pool};
use super::{Broken, Core, Timer};

/// The pause before a failed termination or a lost look at the fleet is repeated.
const OPERATION_PAUSE: Duration = Duration::from_secs(2);

impl Core {
    pub(super) fn operation_started(&mut self, operation: OperationId, action: Action) {
        let now = self.now;
        match action {
            Action::Wake { pool: id, instances } => {
                let Some(pool) = self.pools.get_mut(&id) else { return };
                if pool.wake.is_some() {
                    self.broke(Broken::SecondWake);
                    return;
                }
                pool.wake = Some(operation);
                let more = (instances as usize).saturating_sub(pool.instances_all());
                pool.launches.extend((0..more).map(|_| Launch { operation, started_at: now }));
                let deadline = now + pool.config.boot_timeout;
                self.arm_by(Timer::Boot(id), deadline);
            }
            Action::Terminate { pool: id, instance: instance_id } => {
                let Some(instance) = self.pools.get(&id).and_then(|pool| pool.instances.get(&instance_id))
                else {
                    return;
                };
                if self.is_busy(instance) || instance.drain.is_none() {
                    self.broke(Broken::BusyInstanceTerminated);
                }
                let Some(pool) = self.pools.get_mut(&id) else { return };
                if let Some(instance) = pool.instances.get_mut(&instance_id) {
                    instance.terminate = Terminate::Started;
                }
                pool.terminations.insert(operation, instance_id);
            }
            Action::Describe { pool: id } => {
                if let Some(pool) = self.pools.get_mut(&id) {
                    pool.describe = Some(operation);
                }
            }
        }
    }

    pub(super) fn operation_succeeded(&mut self, operation: OperationId, launched: Vec<InstanceId>) {
        self.plan_changed = true;
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        match step {
            Step::Wake => {
                for instance in launched {
                    pool.adopt(instance, operation, self.now);
                }
                if let Some(at) = pool.boot_deadline() {
                    self.arm_by(Timer::Boot(id), at);
                }
            }
            Step::Terminate(instance) => {
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    instance.terminate = Terminate::Asked;
                }
            }
            // Its answer is the observation itself.
            Step::Describe => {}
        }
        self.bind_all(id);
    }

    pub(super) fn operation_failed(
        &mut self,
        operation: OperationId,
        kind: OperationFailure,
        cause: &Arc<str>,
    ) {
        self.plan_changed = true;
        let now = self.now;
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        match step {
            Step::Wake => {
                pool.launches.retain(|launch| launch.operation != operation);
                self.boot_failed(id, kind, cause);
            }
            Step::Terminate(instance) => {
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    instance.terminate = Terminate::Failed { retry_at: now + OPERATION_PAUSE };
                }
                self.keep_what_is_wanted(id);
            }
            Step::Describe => pool.describe_after = now + OPERATION_PAUSE,
        }
    }

    pub(super) fn operation_unknown(&mut self, operation: OperationId) {
        self.plan_changed = true;
        let now = self.now;
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        match step {
            Step::Wake => pool.is_uncertain = true,
            Step::Terminate(instance) => {
                pool.is_uncertain = true;
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    instance.terminate = Terminate::Asked;
                }
            }
            Step::Describe => pool.describe_after = now + OPERATION_PAUSE,
        }
    }

    fn take_operation(&mut self, operation: OperationId) -> Option<(PoolId, Step)> {
        for (&id, pool) in &mut self.pools {
            if pool.wake == Some(operation) {
                pool.wake = None;
                return Some((id, Step::Wake));
            }
            if let Some(instance) = pool.terminations.remove(&operation) {
                return Some((id, Step::Terminate(instance)));
            }
            if pool.describe == Some(operation) {
                pool.describe = None;
                return Some((id, Step::Describe));
            }
        }
        None
    }

    /// The fleet is this. What is missing is lost, what is new is adopted.
    pub(super) fn fleet_observed(&mut self, id: PoolId, observed: BTreeMap<InstanceId, InstanceObserved>) {
        self.plan_changed = true;
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.is_observed = true;
        let was_uncertain = std::mem::take(&mut pool.is_uncertain);
        let unseen = pool.instances.iter().filter(|(known, instance)| {
            !observed.contains_key(known) && (instance.was_seen || !instance.is_booting())
        });
        let missing: Vec<InstanceId> = unseen.map(|(known, _)| known.clone()).collect();
        let mut lost: Vec<(InstanceId, Arc<str>)> = missing
            .into_iter()
            .map(|instance| (instance, Arc::from("it is not in the fleet any more")))
            .collect();
        for (instance_id, seen) in observed {
            if let InstanceState::Ended { cause } = &seen.state {
                lost.push((instance_id, cause.clone()));
                continue;
            }
            let oldest = pool.launches.first().map(|launch| launch.operation);
            if !pool.instances.contains_key(&instance_id) {
                pool.adopt(instance_id.clone(), oldest.unwrap_or(OperationId(0)), now);
            }
            let Some(instance) = pool.instances.get_mut(&instance_id) else { continue };
            instance.was_seen = true;
            instance.state = seen.state;
            instance.address = seen.address;
            if !instance.is_there() {
                instance.drain = Some(Drain::Notice);
            } else if was_uncertain && instance.terminate == Terminate::Asked {
                // The lost call did not reach it.
                instance.terminate = Terminate::NotAsked;
            }
        }
        if was_uncertain && pool.wake.is_none() {
            // What the lost wake launched would be here.
            pool.launches.clear();
        }
        let deadline = pool.boot_deadline();
        for (instance, cause) in lost {
            self.instance_lost(id, &instance, &cause);
        }
        if let Some(at) = deadline {
            self.arm_by(Timer::Boot(id), at);
        }
        self.bind_all(id);
        self.reindex_pool(id);
        self.keep_what_is_wanted(id);
        self.settle(id);
        self.arm_by(Timer::Rest(id), now + REST_INTERVAL);
    }

    /// An instance is gone: so is its agent, and what ran there is cut.
    fn instance_lost(&mut self, id: PoolId, instance_id: &InstanceId, cause: &Arc<str>) {
        let Some(instance) = self.pools.get_mut(&id).and_then(|pool| pool.instances.remove(instance_id))
        else {
            return;
        };
        for &agent in &instance.agents {
            let leases = self.agents.get(&agent).map(|agent| agent.leases.clone()).unwrap_or_default();
            self.commands.extend(leases.into_iter().map(|lease| Command::Abort { lease }));
            self.agent_gone(agent);
        }
        if instance.is_booting() {
            self.boot_failed(id, OperationFailure::Transient, cause);
        }
        if self.pools.get(&id).is_some_and(Pool::is_below_min) {
            self.cancel_idle_drain(id);
        }
    }

    pub(super) fn boot_deadline_passed(&mut self, id: PoolId) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let boot_timeout = pool.config.boot_timeout;
        let mut causes = Vec::new();
        pool.launches.retain(|launch| {
            let is_late = launch.started_at + boot_timeout <= now;
            if is_late {
                causes.push("the fleet started no instance".to_owned());
            }
            !is_late
        });
        for (instance_id, instance) in &mut pool.instances {
            if instance.is_booting() && instance.boot_deadline <= now {
                instance.drain = Some(Drain::Fault);
                let why = match instance.phase {
                    Phase::Starting => "its agent or its llama.cpp was not heard",
                    Phase::Loading => "its llama.cpp still loads the model",
                    Phase::Ready | Phase::Failing => "its llama.cpp has no slot to offer",
                };
                causes.push(format!("{instance_id}: {why}"));
            }
        }
        let next = pool.boot_deadline();
        for cause in causes {
            let cause = format!("no server within {}s of its launch ({cause})", boot_timeout.as_secs());
            self.boot_failed(id, OperationFailure::Transient, &cause.into());
        }
        if let Some(at) = next {
            self.arm_by(Timer::Boot(id), at);
        }
    }
}

impl Pool {
    /// Takes in an instance that is new here, in place of a launch: the operation's own, else the oldest.
    fn adopt(&mut self, id: InstanceId, operation: OperationId, now: Mono) {
        if self.instances.contains_key(&id) {
            return;
        }
        let own = self.launches.iter().position(|launch| launch.operation == operation);
        let launch =
            own.or(if self.launches.is_empty() { None } else { Some(0) }).map(|at| self.launches.remove(at));
        let launched_at = launch.map_or(now, |launch| launch.started_at);
        self.instances.insert(
            id,
            Instance {
                state: InstanceState::Pending,
                was_seen: false,
                address: None,
                heard_at: None,
                launched_at,
                boot_deadline: launched_at + self.config.boot_timeout,
                phase: Phase::Starting,
                registered_at: None,
                agents: BTreeSet::new(),
                agent_lost_at: None,
                unready_since: None,
                rest_since: now,
                drain: None,
                terminate: Terminate::NotAsked,
            },
        );
    }

    /// The next time at which a launch is late.
    fn boot_deadline(&self) -> Option<Mono> {
        let launches = self.launches.iter().map(|launch| launch.started_at + self.config.boot_timeout);
        let booting = self.instances.values().filter(|instance| instance.is_booting());
        launches.chain(booting.map(|instance| instance.boot_deadline)).min()
    }
}

#[derive(Debug)]
enum Step {
    Wake,
    Terminate(InstanceId),
    Describe,
}
