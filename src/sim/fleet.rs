//! A model of fleets: they take their time, refuse, lose answers, and show late what they did.

use std::collections::BTreeMap;
use std::time::Duration;

use super::groups::GroupModel;
use super::hosts::{Fate, HostState};
use super::world::{Happening, World};
use crate::core::{
    Action, Event, GroupId, GroupObserved, InstanceId, InstanceObserved, InstanceState, Mono,
    OperationFailure, OperationId, PoolId,
};

/// From the notice to the end.
const TERMINATION_MAX: Duration = Duration::from_secs(3);

/// All fleets.
#[derive(Debug, Default)]
pub(super) struct FleetModel {
    pub(super) operations: BTreeMap<OperationId, Operation>,
    operation_last: u64,
    /// When wakes were begun, to judge boot deadlines by.
    pub(super) wakes: Vec<(PoolId, Mono)>,
    /// A look that began before an answer was lost says nothing about it.
    pub(super) unknown_at: BTreeMap<PoolId, Mono>,
    shown_at: BTreeMap<PoolId, Mono>,
    pub(super) groups: BTreeMap<(PoolId, GroupId), GroupModel>,
    /// How often somebody else raised a wish.
    pub(super) foreign_wishes: u32,
}

/// A call that is not answered yet.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) action: Action,
    begun_at: Mono,
    is_done: bool,
    answer: Answer,
    launched: Vec<InstanceId>,
    wish: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Success,
    Failure(OperationFailure),
    Lost,
}

impl FleetModel {
    pub(super) fn next_operation(&mut self) -> OperationId {
        self.operation_last += 1;
        OperationId(self.operation_last)
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.operations.is_empty()
    }

    pub(super) fn wakes(&self, pool: PoolId) -> usize {
        let wakes = self.operations.values();
        wakes.filter(|found| matches!(found.action, Action::Wake { pool: of, .. } if of == pool)).count()
    }

    pub(super) fn is_withdrawing(&self, pool: PoolId) -> bool {
        let mut actions = self.operations.values().map(|found| &found.action);
        actions.any(|action| matches!(action, Action::Withdraw { pool: of, .. } if *of == pool))
    }

    pub(super) fn is_looking(&self, pool: PoolId) -> bool {
        self.operations.values().any(|found| found.action == Action::Describe { pool })
    }
}

impl World {
    pub(super) fn operation_begins(&mut self, operation: OperationId, action: Action) {
        let pool = action.pool();
        let trouble = self.pool(pool).trouble_permille;
        let (answer, is_done) = if self.mishap(trouble) {
            match self.rng.u32(0..8) {
                0 => (Answer::Lost, true),
                1 => (Answer::Lost, false),
                2 => (Answer::Failure(OperationFailure::Permanent), false),
                3 => (Answer::Failure(OperationFailure::Unavailable), false),
                4 => (Answer::Failure(OperationFailure::Throttled), false),
                5.. => (Answer::Failure(OperationFailure::Transient), false),
            }
        } else {
            (Answer::Success, true)
        };
        if matches!(action, Action::Wake { .. }) {
            self.fleet.wakes.push((pool, self.now));
            self.count("a wake");
        }
        let begun_at = self.now;
        let found = Operation { action, begun_at, is_done, answer, launched: Vec::new(), wish: None };
        self.fleet.operations.insert(operation, found);
        let most = self.pool(pool).operation_max;
        let works = self.up_to(most);
        self.after(works, Happening::Works { operation });
    }

    /// The call reaches the fleet.
    pub(super) fn operation_works(&mut self, operation: OperationId) {
        let Some(found) = self.fleet.operations.get(&operation) else { return };
        let (action, is_done, begun_at) = (found.action.clone(), found.is_done, found.begun_at);
        let answer = found.answer;
        let pool = action.pool();
        let most = self.pool(pool).operation_max;
        let ends = self.up_to(most);
        match action {
            Action::Wake { pool, group, instances } if is_done && self.pool(pool).config.looks.is_some() => {
                let desired = self.fleet.groups.get(&(pool, group)).map_or(0, |found| found.desired);
                // The shell looks before it asks for more than one.
                if desired < instances {
                    self.set_desired(pool, group, instances, begun_at);
                }
            }
            Action::Withdraw { pool, group } if is_done => {
                let wish = self.withdraw(pool, group);
                if let Some(found) = self.fleet.operations.get_mut(&operation) {
                    found.wish = wish;
                }
            }
            Action::CompleteLifecycle { instance, .. } if is_done => {
                if let Some(&host) = self.host_of_instance.get(&instance)
                    && self.hosts[host].state == HostState::Held
                {
                    self.host_ends(host, TERMINATION_MAX);
                }
            }
            Action::ExtendLifecycle { instance, .. } if is_done => {
                if let Some(&host) = self.host_of_instance.get(&instance) {
                    self.extend_hook(host);
                }
            }
            Action::Terminate { pool, group, instance, replace }
                if is_done && self.pool(pool).config.looks.is_some() =>
            {
                self.terminate_in_group(operation, (pool, group), &instance, replace);
            }
            Action::Wake { pool, instances, .. } if is_done => {
                let launched = self.launch(pool, instances, begun_at);
                let is_named = self.pool(pool).fleet_names_launches;
                if let Some(found) = self.fleet.operations.get_mut(&operation).filter(|_| is_named) {
                    found.launched = launched;
                }
            }
            Action::Terminate { instance, .. } if is_done => {
                if let Some(&host) = self.host_of_instance.get(&instance) {
                    self.host_ends(host, TERMINATION_MAX);
                }
            }
            Action::Describe { pool } if answer == Answer::Success => {
                let (groups, seen) = (self.groups_shown(pool), self.observe(pool));
                let began = self.now;
                let ends = if self.pool(pool).fleet_names_launches { Duration::ZERO } else { ends };
                self.after(ends, Happening::Shows { pool, began, describe: Some(operation), groups, seen });
                return;
            }
            Action::Wake { .. }
            | Action::Withdraw { .. }
            | Action::Terminate { .. }
            | Action::CompleteLifecycle { .. }
            | Action::ExtendLifecycle { .. }
            | Action::Describe { .. } => {}
        }
        self.after(ends, Happening::Ends { operation });
    }

    /// `TerminateInstanceInAutoScalingGroup`: refused where the wish would fall below its least.
    fn terminate_in_group(
        &mut self,
        operation: OperationId,
        (pool, group): (PoolId, GroupId),
        instance: &InstanceId,
        replace: bool,
    ) {
        let Some(&host) = self.host_of_instance.get(instance) else { return };
        if !matches!(self.hosts[host].state, HostState::Pending | HostState::Running) {
            if let Some(found) = self.fleet.operations.get_mut(&operation) {
                found.answer = Answer::Failure(OperationFailure::Transient);
            }
            return;
        }
        if !replace && !self.may_decrement(pool, group) {
            if let Some(found) = self.fleet.operations.get_mut(&operation) {
                found.answer = Answer::Failure(OperationFailure::Transient);
            }
            return;
        }
        self.group_ends(host, TERMINATION_MAX);
        if replace {
            self.is_missed(pool, group);
        } else {
            self.decrement(pool, group);
        }
    }

    /// The call's answer, or its loss.
    pub(super) fn operation_ends(&mut self, operation: OperationId) {
        let Some(found) = self.fleet.operations.remove(&operation) else { return };
        let pool = found.action.pool();
        let is_wake = matches!(found.action, Action::Wake { .. });
        match found.answer {
            Answer::Success => {
                self.tell(Event::OperationSucceeded {
                    operation,
                    launched: found.launched,
                    wish: found.wish,
                });
                self.fleet_changed(pool);
            }
            Answer::Failure(kind) => {
                self.count(if is_wake { "a wake failed" } else { "a termination or a look failed" });
                let is_look = matches!(found.action, Action::Describe { .. });
                if is_wake || is_look {
                    self.boot_fails(pool);
                }
                let cause = "the fleet is out of sorts".into();
                self.tell(Event::OperationFailed { operation, kind, cause });
            }
            Answer::Lost => {
                self.count("an answer of the fleet was lost");
                if is_wake && !found.is_done {
                    self.boot_fails(pool);
                }
                self.fleet.unknown_at.insert(pool, self.now);
                self.tell(Event::OperationUnknown { operation });
            }
        }
    }

    pub(super) fn boot_fails(&mut self, pool: PoolId) {
        *self.promises.failures.entry(pool).or_default() += 1;
    }

    /// Draws how the boot of a host goes, when a look sees the host, and when it is up.
    pub(super) fn begin_boot(&mut self, pool: PoolId, host: usize) -> Fate {
        let trouble = self.pool(pool).trouble_permille;
        let fate = if self.mishap(trouble) {
            [Fate::Late, Fate::Mute, Fate::Exits, Fate::Misconfigured][self.rng.usize(0..4)]
        } else {
            Fate::Healthy
        };
        if fate != Fate::Healthy {
            self.count("a launch went wrong");
            self.boot_fails(pool);
        }
        let visible = self.up_to(self.pool(pool).visible_after_max);
        self.hosts[host].fate = fate;
        self.hosts[host].visible_at = self.now + visible;
        let boot = self.span(self.pool(pool).boot_min, self.pool(pool).boot_max) / 2;
        self.after(boot, Happening::Boots { host });
        fate
    }

    fn launch(&mut self, pool: PoolId, instances: u32, begun_at: Mono) -> Vec<InstanceId> {
        let there = self.hosts.iter().filter(|host| host.pool == pool && host.instance.is_some());
        let there = there.filter(|host| host.is_there()).count() as u32;
        let mut launched = Vec::new();
        for _ in there..instances {
            let id: InstanceId = format!("i-{}", self.hosts.len()).as_str().into();
            let host = self.add_host(pool, Some(id.clone()), begun_at);
            let fate = self.begin_boot(pool, host);
            let address = self.hosts[host].address;
            self.note(format_args!("  {id} is launched on {address}, {fate:?}"));
            launched.push(id);
        }
        self.check_instances_max(pool);
        launched
    }

    /// The fleet ends an instance.
    pub(super) fn host_ends(&mut self, at: usize, within: Duration) {
        if !self.hosts[at].is_there() {
            return;
        }
        self.hosts[at].state = HostState::Terminating;
        self.hosts[at].steady_since = self.now;
        let pool = self.hosts[at].pool;
        let ends = self.up_to(within);
        self.after(ends, Happening::Vanishes { host: at });
        self.fleet_changed(pool);
    }

    /// A fleet of processes tells of changes at once; others are looked at now and then.
    pub(super) fn fleet_changed(&mut self, pool: PoolId) {
        if self.pool(pool).config.has_fleet && self.pool(pool).fleet_names_launches {
            let seen = self.observe(pool);
            let began = self.now;
            self.after(
                Duration::ZERO,
                Happening::Shows { pool, began, describe: None, groups: BTreeMap::new(), seen },
            );
        }
    }

    pub(super) fn fleet_looks(&mut self, pool: PoolId) {
        let seen = self.observe(pool);
        let began = self.now;
        let is_told = self.pool(pool).fleet_names_launches;
        let takes = self.up_to(if is_told { Duration::ZERO } else { self.pool(pool).operation_max });
        self.after(takes, Happening::Shows { pool, began, describe: None, groups: BTreeMap::new(), seen });
        let again = self.pool(pool).observe_every;
        self.after(again, Happening::Looks { pool });
    }

    fn observe(&mut self, pool: PoolId) -> BTreeMap<InstanceId, InstanceObserved> {
        if self.pool(pool).config.looks.is_some() {
            return self.group_instances(pool);
        }
        let is_told = self.pool(pool).fleet_names_launches;
        // Agents without a name are told apart by their addresses, unless there is but one.
        let is_nameless = self.pool(pool).agents_are_old;
        let has_several = self.pool(pool).config.instances_max > 1;
        let mut seen = BTreeMap::new();
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let Some(id) = host.instance.clone().filter(|_| host.pool == pool) else { continue };
            let state = match host.state {
                HostState::Pending => InstanceState::Pending,
                HostState::Running => InstanceState::Running,
                HostState::Held | HostState::Terminating => InstanceState::Terminating,
                HostState::Ended if is_told => {
                    host.state = HostState::Gone;
                    InstanceState::Ended { cause: "its last words".into() }
                }
                HostState::Ended | HostState::Gone => {
                    host.state = HostState::Gone;
                    continue;
                }
            };
            if host.visible_at > self.now && host.state != HostState::Gone {
                continue;
            }
            let is_known = if is_nameless { has_several } else { at % 2 == 0 };
            let address = is_known.then_some(host.address);
            seen.insert(id, InstanceObserved { group: host.group, state, address });
        }
        seen
    }

    pub(super) fn fleet_shows(
        &mut self,
        pool: PoolId,
        began: Mono,
        describe: Option<OperationId>,
        groups: BTreeMap<GroupId, GroupObserved>,
        instances: BTreeMap<InstanceId, InstanceObserved>,
    ) {
        let is_of_use = |since: &BTreeMap<PoolId, Mono>| since.get(&pool).is_none_or(|&at| at <= began);
        let has_ended = instances.values().any(|seen| matches!(seen.state, InstanceState::Ended { .. }));
        // The core itself knows which looks at groups are too old.
        let is_of_group = !groups.is_empty();
        if has_ended || is_of_group || (is_of_use(&self.fleet.unknown_at) && is_of_use(&self.fleet.shown_at))
        {
            self.fleet.shown_at.insert(pool, began);
            let is_there = |id: &InstanceId| {
                instances.get(id).is_some_and(|seen| !matches!(seen.state, InstanceState::Ended { .. }))
            };
            let known = self.core.snapshot().pools.into_iter().filter(|of| of.pool == pool);
            let known = known.flat_map(|of| of.instances).filter(|known| known.registered);
            let lost: Vec<InstanceId> = known.map(|known| known.id).filter(|id| !is_there(id)).collect();
            let shown = instances.iter().filter(|(id, _)| is_there(id)).map(|(id, _)| id);
            self.book_instances(pool, shown);
            self.tell(Event::FleetObserved { pool, began, groups, instances });
            self.tell_launch_failures(pool);
            self.check_aborts(&lost);
        }
        if let Some(operation) = describe {
            self.fleet.operations.remove(&operation);
            self.tell(Event::OperationSucceeded { operation, launched: Vec::new(), wish: None });
        }
    }
}
