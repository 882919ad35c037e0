//! A model of Auto Scaling groups: each keeps a wish and acts by itself until it is fulfilled.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::hosts::HostState;
use super::world::{Happening, World};
use crate::core::{
    Event, GroupId, GroupObserved, InstanceId, InstanceObserved, InstanceState, Mono, NoticeReason,
    OperationFailure, PoolId,
};

/// A group tries a launch that failed again after this time.
const RETRY: Duration = Duration::from_secs(10);
/// From a loss to the replacement.
const REPLACEMENT_MAX: Duration = Duration::from_secs(20);
/// How long a hook holds an end that nobody completes or extends.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// A read may be older than the latest write by this.
const LAG_MAX: Duration = Duration::from_millis(1500);
/// From the notice to the end of a spot instance.
const SPOT_NOTICE: Duration = Duration::from_secs(120);

/// One group.
#[derive(Debug)]
pub(super) struct GroupModel {
    pub(super) desired: u32,
    /// What a read may still show, until then.
    before: (u32, Mono),
    pub(super) min: u32,
    pub(super) max: u32,
    /// Whether ends are held.
    has_hook: bool,
    /// Launches fail until then, with this kind.
    lacks: Option<(Mono, OperationFailure)>,
    /// Failed attempts that were not read yet.
    failures: Vec<OperationFailure>,
    /// Since when each missing instance is wished for.
    wishes: VecDeque<Mono>,
    /// When it next tries.
    tries_at: Option<Mono>,
}

impl World {
    pub(super) fn add_groups(&mut self, pool: PoolId) {
        let config = self.pool(pool).config.clone();
        for at in 0..config.groups {
            // Two groups of three have room for more than the gateway is to use.
            let max = self.rng.u32(config.instances_max.max(1)..=config.instances_max.max(1) + 2);
            let min = if at == 0 && self.chance(200) { config.instances_min.min(1) } else { 0 };
            let has_hook = self.chance(400);
            self.fleet.groups.insert(
                (pool, GroupId(at)),
                GroupModel {
                    desired: min,
                    before: (min, Mono::default()),
                    min,
                    max,
                    has_hook,
                    lacks: None,
                    failures: Vec::new(),
                    wishes: (0..min).map(|_| self.now).collect(),
                    tries_at: None,
                },
            );
            self.group_acts(pool, GroupId(at), Duration::from_secs(3));
        }
    }

    fn counted(&self, pool: PoolId, group: GroupId) -> u32 {
        let is_counted = |state| matches!(state, HostState::Pending | HostState::Running);
        let of_group = self.hosts.iter().filter(|host| host.pool == pool && host.group == group);
        of_group.filter(|host| host.instance.is_some() && is_counted(host.state)).count() as u32
    }

    /// `SetDesiredCapacity`. **Invariant:** a wish is never lowered but by a withdrawal.
    pub(super) fn set_desired(&mut self, pool: PoolId, group: GroupId, instances: u32, begun_at: Mono) {
        let Some(found) = self.fleet.groups.get(&(pool, group)) else { return };
        let desired = found.desired;
        if instances < desired {
            self.fail(&format!(
                "the wish of group {group} is lowered by number, from {desired} to {instances}"
            ));
        }
        self.write(pool, group, instances, begun_at);
    }

    /// The one legal lowering: to what is there in any state, and never below that.
    pub(super) fn withdraw(&mut self, pool: PoolId, group: GroupId) -> Option<u32> {
        let is_part = |host: &&super::hosts::Host| {
            host.pool == pool && host.group == group && host.instance.is_some() && host.is_there()
        };
        let there = self.hosts.iter().filter(is_part).count() as u32;
        let found = self.fleet.groups.get(&(pool, group))?;
        let (wish, desired) = (there.max(found.min), found.desired);
        if wish < desired {
            self.count("a wish was withdrawn");
            self.write(pool, group, wish, self.now);
        }
        Some(wish.min(desired))
    }

    /// Whether the group may go below its wish by one.
    pub(super) fn may_decrement(&self, pool: PoolId, group: GroupId) -> bool {
        self.fleet.groups.get(&(pool, group)).is_none_or(|found| found.desired > found.min)
    }

    pub(super) fn decrement(&mut self, pool: PoolId, group: GroupId) {
        if let Some(found) = self.fleet.groups.get(&(pool, group)) {
            let wish = found.desired.saturating_sub(1);
            self.write(pool, group, wish, self.now);
        }
    }

    fn write(&mut self, pool: PoolId, group: GroupId, desired: u32, begun_at: Mono) {
        let lag = self.up_to(LAG_MAX);
        let now = self.now;
        let Some(found) = self.fleet.groups.get_mut(&(pool, group)) else { return };
        let more = desired.saturating_sub(found.desired);
        found.wishes.extend((0..more).map(|_| begun_at));
        found.before = (found.desired, now + lag);
        found.desired = desired;
        self.note(format_args!("  group {group} of pool {pool} wishes for {desired}"));
        self.group_acts(pool, group, Duration::from_millis(500));
    }

    /// An instance is gone that the wish still counts: it is replaced.
    pub(super) fn is_missed(&mut self, pool: PoolId, group: GroupId) {
        let now = self.now;
        if let Some(found) = self.fleet.groups.get_mut(&(pool, group)) {
            found.wishes.push_back(now);
            self.group_acts(pool, group, REPLACEMENT_MAX);
        }
    }

    fn group_acts(&mut self, pool: PoolId, group: GroupId, within: Duration) {
        let at = self.now + self.up_to(within);
        if let Some(found) = self.fleet.groups.get_mut(&(pool, group)) {
            found.tries_at = Some(found.tries_at.map_or(at, |before| before.min(at)));
            self.at(at, Happening::GroupActs { pool, group });
        }
    }

    /// The group compares what it wishes for with what it has.
    pub(super) fn group_tries(&mut self, pool: PoolId, group: GroupId) {
        let now = self.now;
        let counted = self.counted(pool, group);
        let is_healed = self.is_healed;
        let Some(found) = self.fleet.groups.get_mut(&(pool, group)) else { return };
        if found.tries_at.is_none_or(|at| at > now) {
            return;
        }
        found.tries_at = None;
        let missing = found.desired.saturating_sub(counted);
        found.wishes.truncate(missing as usize);
        if missing == 0 {
            return;
        }
        if let Some((until, kind)) = found.lacks
            && until > now
            && !is_healed
        {
            found.failures.push(kind);
            self.count("a group could not launch");
            self.boot_fails(pool);
            self.group_acts(pool, group, RETRY);
            return;
        }
        for _ in 0..missing {
            let wished_at = self.fleet.groups.get_mut(&(pool, group)).and_then(|g| g.wishes.pop_front());
            self.launch_one(pool, group, wished_at.unwrap_or(now));
        }
    }

    fn launch_one(&mut self, pool: PoolId, group: GroupId, wished_at: Mono) {
        let id: InstanceId = format!("i-{}", self.hosts.len()).as_str().into();
        let host = self.add_host(pool, Some(id.clone()), wished_at);
        self.hosts[host].group = group;
        let fate = self.begin_boot(pool, host);
        self.note(format_args!("  {id} is launched by group {group}, {fate:?}"));
    }

    /// What a read shows of the groups, some of it a moment old.
    pub(super) fn groups_shown(&self, pool: PoolId) -> BTreeMap<GroupId, GroupObserved> {
        let of_pool = self.fleet.groups.iter().filter(|((of, _), _)| *of == pool);
        of_pool
            .map(|(&(_, group), found)| {
                let (before, until) = found.before;
                let desired = if until > self.now { before } else { found.desired };
                let (min, max) = (found.min, found.max);
                (group, GroupObserved { desired, min, max, is_protected: true, has_rival: false })
            })
            .collect()
    }

    /// The failed attempts of a group whose wish lacks something, as a look finds them.
    pub(super) fn tell_launch_failures(&mut self, pool: PoolId) {
        let groups: Vec<GroupId> =
            self.fleet.groups.keys().filter(|(of, _)| *of == pool).map(|(_, group)| *group).collect();
        for group in groups {
            let counted = self.counted(pool, group);
            let Some(found) = self.fleet.groups.get_mut(&(pool, group)) else { continue };
            let failures = std::mem::take(&mut found.failures);
            if found.desired > counted {
                for kind in failures {
                    self.tell(Event::LaunchFailed { pool, group, kind, cause: "nothing to give".into() });
                }
            }
        }
    }

    /// The end of an instance of a group begins: a hook may hold it.
    pub(super) fn group_ends(&mut self, at: usize, within: Duration) {
        let (pool, group) = (self.hosts[at].pool, self.hosts[at].group);
        let has_hook = self.fleet.groups.get(&(pool, group)).is_some_and(|found| found.has_hook);
        if !has_hook || self.hosts[at].state == HostState::Held {
            self.host_ends(at, within);
            return;
        }
        self.count("an end was held");
        self.hosts[at].state = HostState::Held;
        self.hosts[at].steady_since = self.now;
        self.hosts[at].notice = Some(NoticeReason::LifecycleTermination);
        self.hosts[at].held_until = self.now + HOOK_TIMEOUT;
        self.sample_now(at);
        self.after(HOOK_TIMEOUT, Happening::HookEnds { host: at });
    }

    pub(super) fn extend_hook(&mut self, at: usize) {
        self.hosts[at].held_until = self.now + HOOK_TIMEOUT;
        self.after(HOOK_TIMEOUT, Happening::HookEnds { host: at });
    }

    pub(super) fn hook_ends(&mut self, at: usize) {
        if self.hosts[at].state == HostState::Held && self.hosts[at].held_until <= self.now {
            self.host_ends(at, Duration::from_secs(2));
        }
    }

    /// AWS takes a machine back, or says that it may.
    pub(super) fn take_back(&mut self, at: usize) {
        let reason = match self.rng.u32(0..3) {
            0 => {
                self.count("fault: the group ends an instance");
                let (pool, group) = (self.hosts[at].pool, self.hosts[at].group);
                self.group_ends(at, Duration::from_secs(20));
                self.is_missed(pool, group);
                NoticeReason::LifecycleTermination
            }
            1 => {
                self.count("fault: a spot interruption");
                self.after(SPOT_NOTICE, Happening::SpotEnds { host: at });
                NoticeReason::SpotInterruption
            }
            _ => {
                self.count("fault: a rebalance recommendation");
                NoticeReason::RebalanceRecommendation
            }
        };
        self.hosts[at].notice = Some(reason);
        self.hosts[at].steady_since = self.now;
        self.sample_now(at);
    }

    pub(super) fn spot_ends(&mut self, at: usize) {
        let is_counted = matches!(self.hosts[at].state, HostState::Pending | HostState::Running);
        let (pool, group) = (self.hosts[at].pool, self.hosts[at].group);
        if self.hosts[at].is_there() {
            self.host_vanishes(at);
            if is_counted {
                self.is_missed(pool, group);
            }
        }
    }

    /// A group has nothing to give for a while, or somebody else raises its wish.
    pub(super) fn disturb_a_group(&mut self) {
        let groups: Vec<(PoolId, GroupId)> = self.fleet.groups.keys().copied().collect();
        if groups.is_empty() {
            return;
        }
        let (pool, group) = groups[self.rng.usize(0..groups.len())];
        let until = self.now + self.up_to(Duration::from_secs(120));
        let kinds = [OperationFailure::Unavailable, OperationFailure::Permanent, OperationFailure::Transient];
        let kind = kinds[self.rng.usize(0..kinds.len())];
        let is_lack = self.chance(700);
        let Some(found) = self.fleet.groups.get_mut(&(pool, group)) else { return };
        if is_lack {
            found.lacks = Some((until, kind));
            self.count("fault: a group has nothing to give");
        } else if found.desired < found.max {
            let desired = found.desired + 1;
            self.count("fault: somebody raises a wish");
            self.fleet.foreign_wishes += 1;
            self.write(pool, group, desired, self.now);
        }
    }

    pub(super) fn observed_state(state: HostState) -> Option<InstanceState> {
        match state {
            HostState::Pending => Some(InstanceState::Pending),
            HostState::Running => Some(InstanceState::Running),
            HostState::Held => Some(InstanceState::TerminatingWait),
            HostState::Terminating => Some(InstanceState::Terminating),
            HostState::Ended | HostState::Gone => None,
        }
    }

    /// What a read shows of the instances of groups.
    pub(super) fn group_instances(&mut self, pool: PoolId) -> BTreeMap<InstanceId, InstanceObserved> {
        let mut seen = BTreeMap::new();
        for host in &mut self.hosts {
            let Some(id) = host.instance.clone().filter(|_| host.pool == pool) else { continue };
            let Some(state) = Self::observed_state(host.state) else {
                host.state = HostState::Gone;
                continue;
            };
            if host.visible_at > self.now {
                continue;
            }
            seen.insert(id, InstanceObserved { group: host.group, state, address: None });
        }
        seen
    }
}
