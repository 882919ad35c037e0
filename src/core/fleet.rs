//! What became of the calls to the fleet, and of launches that nothing was heard of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Action, OperationFailure, Phase};
use super::groups::{Origin, Withdraw};
use super::ids::{GroupId, InstanceId, Mono, OperationId, PoolId};
use super::instances::{Drain, Progress};
use super::rest::REST_INTERVAL;
use super::scaling::{Launch, Pool};
use super::snapshot::HappeningKind;
use super::{Broken, Core, Timer};

/// The pause before a step that failed is repeated; it doubles with each failure in a row, up to the maximum.
const OPERATION_PAUSE: Duration = Duration::from_secs(2);
const OPERATION_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A fleet needs a moment to show what a call did.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// How often the fleet is asked to hold an end for longer: hooks may wait for as little as 30 s (EC2 Auto Scaling API,
/// PutLifecycleHook), so two of these may fail.
pub(super) const LIFECYCLE_BEAT: Duration = Duration::from_secs(10);

/// The pause after so many failures before this one.
pub(super) fn growing_pause(failures: u32) -> Duration {
    OPERATION_PAUSE.saturating_mul(2u32.saturating_pow(failures)).min(OPERATION_PAUSE_MAX)
}

/// A call that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wake { group: GroupId, instances: u32, began: Mono },
    Withdraw(GroupId),
    Terminate { instance: InstanceId, replace: bool },
    CompleteLifecycle(InstanceId),
    ExtendLifecycle(InstanceId),
    Describe { began: Mono },
}

impl Core {
    pub(super) fn operation_started(&mut self, operation: OperationId, action: Action) {
        let now = self.now;
        let id = action.pool();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let step = match action {
            Action::Wake { group: gid, instances, .. } => {
                if pool.is_waking() {
                    self.broke(Broken::SecondWake);
                    return;
                }
                let expected = pool.groups.get(&gid).and_then(|group| group.expected());
                let there = expected.map_or_else(|| pool.instances_all(), |expected| expected as usize);
                let more = (instances as usize).saturating_sub(there);
                // **Invariant:** a wish is never lowered by a wake.
                let desired = pool.groups.get(&gid).and_then(|group| group.desired);
                if desired.is_some_and(|desired| instances < desired) {
                    self.broke(Broken::WishLowered);
                    return;
                }
                let launch = Launch {
                    group: gid,
                    origin: Origin::Asked,
                    operation: Some(operation),
                    started_at: now,
                    accepted_at: None,
                };
                pool.launches.extend(std::iter::repeat_n(launch, more));
                let reason = Core::wake_reason(pool.queue.len()).into();
                pool.journal.of_group(now, HappeningKind::WakeAsked, gid, Some(reason));
                let deadline = now + pool.config.boot_timeout;
                self.arm_by(Timer::Boot(id), deadline);
                Step::Wake { group: gid, instances, began: now }
            }
            Action::Withdraw { group: gid, .. } => {
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.withdraw = Withdraw::Started;
                }
                Step::Withdraw(gid)
            }
            Action::Terminate { group, instance: instance_id, replace, .. } => {
                let Some(instance) = pool.instances.get_mut(&instance_id) else { return };
                instance.terminate = Progress::Started;
                if replace {
                    pool.launches.push(Launch::by_itself(group, Origin::Spare, now));
                }
                let is_drained = instance.drain.is_some();
                let is_busy = self
                    .pools
                    .get(&id)
                    .and_then(|pool| pool.instances.get(&instance_id))
                    .is_some_and(|i| self.is_busy(i));
                if is_busy || !is_drained {
                    self.broke(Broken::BusyInstanceTerminated);
                }
                Step::Terminate { instance: instance_id, replace }
            }
            Action::CompleteLifecycle { instance, .. } => {
                let Some(found) = pool.instances.get_mut(&instance) else { return };
                found.complete = Progress::Started;
                Step::CompleteLifecycle(instance)
            }
            Action::ExtendLifecycle { instance, .. } => {
                let Some(found) = pool.instances.get_mut(&instance) else { return };
                found.extend_at = now + LIFECYCLE_BEAT;
                Step::ExtendLifecycle(instance)
            }
            Action::Describe { .. } => {
                pool.look_by = None;
                Step::Describe { began: now }
            }
        };
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.operations.insert(operation, step);
        }
    }

    pub(super) fn operation_succeeded(
        &mut self,
        operation: OperationId,
        launched: Vec<InstanceId>,
        wish: Option<u32>,
    ) {
        self.plan_changed = true;
        let now = self.now;
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.trouble.was_heard();
        let is_fleet_changed = !launched.is_empty();
        match step {
            Step::Wake { group, instances, began } => {
                self.wake_succeeded(id, group, instances, operation, launched, began);
            }
            Step::Withdraw(gid) => {
                // The whole of what was missing is taken back: what of it is wanted is asked for anew.
                pool.launches.retain(|launch| launch.group != gid);
                let counted = pool.counted(gid);
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.withdrawn(wish.unwrap_or(counted.max(group.min)), counted, now);
                }
                pool.look_by(now + SHOWN_AFTER);
            }
            Step::Terminate { instance, replace } => {
                pool.look_by(now + SHOWN_AFTER);
                if let Some(found) = pool.instances.get_mut(&instance) {
                    found.terminate = Progress::Asked { at: now };
                    if let Some(group) = pool.groups.get_mut(&found.group).filter(|_| !replace) {
                        group.desired = group.desired.map(|desired| desired.saturating_sub(1));
                        group.written_at = Some(now);
                    }
                }
            }
            Step::CompleteLifecycle(instance) => {
                pool.look_by(now + SHOWN_AFTER);
                if let Some(found) = pool.instances.get_mut(&instance) {
                    found.complete = Progress::Asked { at: now };
                }
            }
            Step::ExtendLifecycle(_) => {}
            // Its answer is the observation itself.
            Step::Describe { began } => {
                pool.looked_at = Some(began);
                pool.look_failures = 0;
            }
        }
        self.bind_all(id);
        self.reindex_pool(id);
        if is_fleet_changed {
            self.count_instances(id);
            self.keep_budget(id);
        }
        self.settle(id);
    }

    fn wake_succeeded(
        &mut self,
        id: PoolId,
        gid: GroupId,
        instances: u32,
        operation: OperationId,
        launched: Vec<InstanceId>,
        began: Mono,
    ) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        pool.asking_failed_at = None;
        for launch in pool.launches.iter_mut().filter(|launch| launch.operation == Some(operation)) {
            launch.accepted_at = Some(now);
        }
        if let Some(group) = pool.groups.get_mut(&gid) {
            // A fleet that names what it launched raised its wish by that; another took the wish as it was put.
            let named = u32::try_from(launched.len()).unwrap_or(u32::MAX);
            let wish = |desired: u32| match named {
                0 => desired.max(instances),
                _ => desired.saturating_add(named),
            };
            group.wish_put(wish, now);
        }
        let is_named = !launched.is_empty();
        for instance in launched {
            pool.adopt(instance, gid, Some(operation), Origin::Asked, began);
        }
        if is_named {
            // A fleet that names what it launched has launched no more.
            pool.launches.retain(|launch| launch.operation != Some(operation));
        }
        pool.look_by(now + SHOWN_AFTER);
        if let Some(at) = pool.boot_deadline() {
            self.arm_by(Timer::Boot(id), at);
        }
    }

    pub(super) fn operation_failed(
        &mut self,
        operation: OperationId,
        kind: OperationFailure,
        cause: &Arc<str>,
    ) {
        self.plan_changed = true;
        let now = self.now;
        let jitter = self.random.u32(0..=500);
        let retry_at = |failures: &mut u32| {
            let pause = growing_pause(*failures);
            *failures = failures.saturating_add(1);
            now + pause + pause * jitter / 1000
        };
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        match step {
            Step::Wake { group: gid, .. } => {
                pool.launches.retain(|launch| launch.operation != Some(operation));
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.wish_not_put();
                }
                self.note_of_group(id, HappeningKind::WakeFailed, gid, cause);
                self.asking_failed(id, kind);
                self.boot_failed(id, Some(gid), kind, cause);
            }
            Step::Withdraw(gid) => {
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.withdraw_failed(kind, now);
                }
            }
            Step::Terminate { instance, replace } => {
                // It may be gone already.
                pool.look_by(now);
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    let retry_at = retry_at(&mut instance.end_failures);
                    instance.terminate = Progress::Failed { retry_at };
                    let group = instance.group;
                    let is_spare = |launch: &Launch| launch.group == group && launch.origin == Origin::Spare;
                    if replace && let Some(at) = pool.launches.iter().position(is_spare) {
                        pool.launches.remove(at);
                    }
                }
                self.keep_what_is_wanted(id);
            }
            Step::CompleteLifecycle(instance) => {
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    let retry_at = retry_at(&mut instance.end_failures);
                    instance.complete = Progress::Failed { retry_at };
                }
            }
            // The next beat comes in time.
            Step::ExtendLifecycle(_) => {}
            Step::Describe { .. } => {
                self.look_failed(id);
                // Nothing can be asked for before the fleet was seen, once or after a lost answer: those who wait are
                // told why.
                let is_blind = |pool: &Pool| !pool.is_observed || pool.uncertain_since.is_some();
                if self.pools.get(&id).is_some_and(is_blind) {
                    self.asking_failed(id, kind);
                    self.boot_failed(id, None, kind, cause);
                }
            }
        }
    }

    fn look_failed(&mut self, id: PoolId) {
        let jitter = self.random.u32(0..=500);
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let pause = growing_pause(pool.look_failures);
        pool.look_failures = pool.look_failures.saturating_add(1);
        pool.look_after = now + pause + pause * jitter / 1000;
    }

    pub(super) fn operation_unknown(&mut self, operation: OperationId) {
        self.plan_changed = true;
        let now = self.now;
        let Some((id, step)) = self.take_operation(operation) else { return };
        let Some(pool) = self.pools.get_mut(&id) else { return };
        match step {
            Step::Wake { group: gid, .. } => {
                pool.journal.of_group(now, HappeningKind::WakeUnknown, gid, None);
                pool.uncertain_since = Some(now);
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.written_at = None;
                    group.wish_not_put();
                }
            }
            // Asked again, it lowers the wish to what is there by then: a repeat is harmless.
            Step::Withdraw(gid) => {
                if let Some(group) = pool.groups.get_mut(&gid) {
                    group.written_at = None;
                    group.withdraw_failed(OperationFailure::Transient, now);
                }
            }
            Step::Terminate { instance, .. } => {
                pool.uncertain_since = Some(now);
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    instance.terminate = Progress::Asked { at: now };
                    if let Some(group) = pool.groups.get_mut(&instance.group) {
                        group.written_at = None;
                    }
                }
            }
            Step::CompleteLifecycle(instance) => {
                if let Some(instance) = pool.instances.get_mut(&instance) {
                    instance.complete = Progress::Failed { retry_at: now + OPERATION_PAUSE };
                }
            }
            Step::ExtendLifecycle(_) => {}
            Step::Describe { .. } => self.look_failed(id),
        }
    }

    fn take_operation(&mut self, operation: OperationId) -> Option<(PoolId, Step)> {
        self.pools.iter_mut().find_map(|(&id, pool)| Some((id, pool.operations.remove(&operation)?)))
    }

    /// Launches and boots that are late.
    ///
    /// 1. A launch that brought no instance is given up, with its wish.
    /// 2. An instance that we asked for, or that its group launched by itself, is to end.
    /// 3. One that somebody else asked for, or may have, is no longer waited for; its end is a matter of [`Core::rest`].
    pub(super) fn boot_deadline_passed(&mut self, id: PoolId) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let boot_timeout = pool.config.boot_timeout;
        let mut causes: Vec<(GroupId, String)> = Vec::new();
        pool.launches.retain(|launch| {
            let is_late = launch.started_at + boot_timeout <= now;
            if is_late {
                causes.push((launch.group, "the fleet started no instance".to_owned()));
            }
            !is_late
        });
        let given_up: Vec<GroupId> = causes.iter().map(|(group, _)| *group).collect();
        for gid in given_up {
            if let Some(group) = pool.groups.get_mut(&gid) {
                group.give_up(1, now);
            }
        }
        let mut leaving = BTreeSet::new();
        for (instance_id, instance) in &mut pool.instances {
            if !instance.is_booting() || instance.boot_deadline > now {
                continue;
            }
            // What another balancer works on may be its own, whoever asked for it.
            let has_rival = pool.groups.get(&instance.group).is_some_and(|group| group.has_rival);
            if instance.origin == Origin::Stranger || has_rival {
                instance.is_overdue = true;
                self.plan_changed = true;
                continue;
            }
            instance.drain = Some(Drain::Fault);
            leaving.extend(instance.agents.iter().copied());
            let why = match instance.phase {
                Phase::Starting => "its agent or its llama.cpp was not heard",
                Phase::Loading => "its llama.cpp still loads the model",
                Phase::Ready | Phase::Failing => "its llama.cpp has no slot to offer",
            };
            causes.push((instance.group, format!("{instance_id}: {why}")));
        }
        let next = pool.boot_deadline();
        for key in leaving {
            self.reindex(key);
        }
        for (group, cause) in causes {
            let cause =
                format!("no server within {}s of its launch ({cause})", boot_timeout.as_secs()).into();
            self.note_of_group(id, HappeningKind::BootFailed, group, &cause);
            self.boot_failed(id, Some(group), OperationFailure::Transient, &cause);
        }
        if let Some(at) = next {
            self.arm_by(Timer::Boot(id), at);
        }
        self.arm_by(Timer::Rest(id), now + REST_INTERVAL);
    }
}

impl Pool {
    /// The next time at which a launch is late.
    pub(super) fn boot_deadline(&self) -> Option<Mono> {
        let launches = self.launches.iter().map(|launch| launch.started_at + self.config.boot_timeout);
        let booting = self.instances.values().filter(|instance| instance.is_booting());
        launches.chain(booting.map(|instance| instance.boot_deadline)).min()
    }
}
