//! The groups of a pool's fleet: what each wishes for, what it may have, and which is asked next.
//!
//! A group that keeps a wish (its desired capacity) acts by itself until it is fulfilled: it retries what failed, and
//! replaces what it lost. So a wish is a fact of its own, beside the instances: what it lacks is on its way, unless it
//! was given up.

use std::sync::Arc;
use std::time::Duration;

use super::event::{GroupObserved, OperationFailure};
use super::fleet::{Step, growing_pause};
use super::ids::{GroupId, InstanceId, Mono, OperationId, PoolId};
use super::scaling::{Launch, Pool};
use super::snapshot::HappeningKind;
use super::{Core, Timer};

/// How long a group is left alone that had nothing to give.
pub(super) const UNAVAILABLE: Duration = Duration::from_secs(180);
/// How long a group is left alone that refused for good; it doubles with each time, up to the maximum.
pub(super) const REFUSED: Duration = Duration::from_secs(5);
pub(super) const REFUSED_MAX: Duration = Duration::from_secs(300);
/// A look that began within this time after a change of ours may not show it yet: fleets are eventually consistent.
pub(super) const SETTLE: Duration = Duration::from_secs(3);

/// Who asked for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// This balancer.
    Asked,
    /// The group, by itself: in place of one that left, or late, for a wish that was given up.
    Spare,
    /// Somebody else; or it was there before this balancer was.
    Stranger,
}

/// What is known of one group.
#[derive(Debug)]
pub(super) struct Group {
    /// Its wish, as last seen or made. None before it was seen, and for a group that keeps none.
    pub(super) desired: Option<u32>,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) is_protected: bool,
    pub(super) has_rival: bool,
    /// How much of the wish was given up: nothing is expected of it, and what comes all the same is a spare.
    pub(super) abandoned: u32,
    /// What was given up of a wish that is being put.
    given_up_early: u32,
    pub(super) withdraw: Withdraw,
    withdrawals: u32,
    /// When this balancer last changed its wish.
    pub(super) written_at: Option<Mono>,
    /// When somebody else did.
    pub(super) foreign_write_at: Option<Mono>,
    /// No wake before.
    blocked_until: Option<Mono>,
    block: Duration,
    pub(super) cause: Option<Arc<str>>,
}

/// How far the taking back of a wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withdraw {
    Not,
    Needed { not_before: Mono },
    Started,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            desired: None,
            min: 0,
            max: u32::MAX,
            is_protected: false,
            has_rival: false,
            abandoned: 0,
            given_up_early: 0,
            withdraw: Withdraw::Not,
            withdrawals: 0,
            written_at: None,
            foreign_write_at: None,
            blocked_until: None,
            block: Duration::ZERO,
            cause: None,
        }
    }
}

impl Group {
    pub(super) fn is_blocked(&self, now: Mono) -> bool {
        self.blocked_until.is_some_and(|until| until > now)
    }

    pub(super) fn blocked_until(&self, now: Mono) -> Option<Mono> {
        self.blocked_until.filter(|&until| until > now)
    }

    /// Whether the wish may not be lowered any further.
    pub(super) fn is_at_min(&self) -> bool {
        self.desired.is_some_and(|desired| desired <= self.min)
    }

    /// What is still expected of the wish, in all.
    pub(super) fn expected(&self) -> Option<u32> {
        self.desired.map(|desired| desired.saturating_sub(self.abandoned))
    }

    pub(super) fn has_room(&self) -> bool {
        self.expected().is_none_or(|expected| expected < self.max)
    }

    /// Nothing more is asked of the group for some time.
    pub(super) fn block(&mut self, kind: OperationFailure, cause: &Arc<str>, now: Mono) {
        self.cause = Some(cause.clone());
        self.block = match kind {
            OperationFailure::Unavailable => UNAVAILABLE,
            OperationFailure::Permanent => (self.block * 2).clamp(REFUSED, REFUSED_MAX),
            OperationFailure::Transient | OperationFailure::Throttled => return,
        };
        self.blocked_until = Some(now + self.block);
    }

    /// An instance of the group serves.
    pub(super) fn has_worked(&mut self) {
        self.blocked_until = None;
        self.block = Duration::ZERO;
        self.cause = None;
    }

    /// What is missing of the wish is given up, and to be taken back where that can harm nobody: a lowered wish makes
    /// the group end instances of its own choice, unless they are protected.
    pub(super) fn give_up(&mut self, missing: u32, now: Mono) {
        self.abandoned = self.desired.unwrap_or_default().min(self.abandoned + missing);
        if self.is_protected && self.abandoned > 0 && self.withdraw == Withdraw::Not && !self.is_at_min() {
            self.withdraw = Withdraw::Needed { not_before: now };
            self.withdrawals = 0;
        }
    }

    /// A wish of ours is there: so is what was given up of it before its call was answered.
    pub(super) fn wish_put(&mut self, desired: impl FnOnce(u32) -> u32, now: Mono) {
        self.written_at = Some(now);
        self.desired = self.desired.map(desired);
        self.abandoned = 0;
        let early = std::mem::take(&mut self.given_up_early);
        if early > 0 {
            self.give_up(early, now);
        }
    }

    /// What of it could be taken back was. The wish is this now, and so many instances of it are there.
    pub(super) fn withdrawn(&mut self, wish: u32, counted: u32, now: Mono) {
        self.withdraw = Withdraw::Not;
        self.withdrawals = 0;
        self.written_at = Some(now);
        self.desired = self.desired.map(|desired| desired.min(wish));
        self.abandoned = self.abandoned.min(wish.saturating_sub(counted));
    }

    /// What became of a wish of ours is not known, or it was refused.
    pub(super) fn wish_not_put(&mut self) {
        self.given_up_early = 0;
    }

    /// The wish could not be taken back: again after a pause, unless that is refused for good.
    pub(super) fn withdraw_failed(&mut self, kind: OperationFailure, now: Mono) {
        self.withdraw = match kind {
            OperationFailure::Permanent => Withdraw::Not,
            OperationFailure::Transient | OperationFailure::Throttled | OperationFailure::Unavailable => {
                Withdraw::Needed { not_before: now + growing_pause(self.withdrawals) }
            }
        };
        self.withdrawals = self.withdrawals.saturating_add(1);
    }
}

impl Pool {
    /// The group that is asked next: the first that is not left alone and has room. If none has room, the first, so
    /// that it says why. None that the day's budget has no room for.
    pub(super) fn group_for_wake(
        &self,
        now: Mono,
        affords: impl Fn(GroupId) -> bool + Clone,
    ) -> Option<(GroupId, &Group)> {
        let groups = self.groups.iter().map(|(&id, group)| (id, group));
        let mut open = groups.filter(|(id, group)| !group.is_blocked(now) && affords(*id));
        let first = open.clone().next();
        open.find(|(_, group)| group.has_room()).or(first)
    }

    /// When the first of the groups for which there is money may be asked again, if all of them are left alone.
    pub(super) fn all_blocked_until(
        &self,
        now: Mono,
        affords: impl Fn(GroupId) -> bool,
    ) -> Option<(Mono, Option<Arc<str>>)> {
        let mut first: Option<(Mono, Option<Arc<str>>)> = None;
        for (_, group) in self.groups.iter().filter(|(id, _)| affords(**id)) {
            let until = group.blocked_until(now)?;
            if first.as_ref().is_none_or(|(at, _)| until < *at) {
                first = Some((until, group.cause.clone()));
            }
        }
        first
    }

    /// Instances of the group that its wish counts: there or on their way, and not being ended by us.
    pub(super) fn counted(&self, group: GroupId) -> u32 {
        let counted =
            self.instances.values().filter(|instance| instance.group == group && instance.is_counted());
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn launches_of(&self, group: GroupId) -> u32 {
        let launches = self.launches.iter().filter(|launch| launch.group == group);
        u32::try_from(launches.count()).unwrap_or(u32::MAX)
    }

    /// Takes the oldest launch of a group, those of the operation first, and those that we asked for before the others.
    pub(super) fn take_launch(&mut self, group: GroupId, operation: Option<OperationId>) -> Option<Launch> {
        let of_group = self.launches.iter().enumerate().filter(|(_, launch)| launch.group == group);
        let best = of_group.min_by_key(|(_, launch)| {
            (operation.is_none() || launch.operation != operation, launch.origin, launch.started_at)
        });
        best.map(|(at, _)| at).map(|at| self.launches.remove(at))
    }
}

impl Core {
    /// Takes in what a group is. A look says nothing about a change of ours that it may have missed.
    pub(super) fn group_observed(&mut self, id: PoolId, gid: GroupId, seen: GroupObserved, as_of: Mono) {
        let (now, was_observed) = (self.now, self.pools.get(&id).is_some_and(|pool| pool.is_observed));
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let is_changing = pool.is_changing(gid);
        let was_uncertain = pool.uncertain_since.is_some();
        let Some(group) = pool.groups.get_mut(&gid) else { return };
        group.min = seen.min;
        group.max = seen.max;
        group.is_protected = seen.is_protected;
        group.has_rival = seen.has_rival;
        let is_fresh = !is_changing && group.written_at.is_none_or(|at| at + SETTLE <= as_of);
        let Some(before) = group.desired else {
            group.desired = Some(seen.desired);
            return;
        };
        if !is_fresh || before == seen.desired {
            return;
        }
        group.desired = Some(seen.desired);
        if was_observed && !was_uncertain {
            group.foreign_write_at = Some(now);
            let raised = seen.desired.saturating_sub(before);
            pool.launches.extend((0..raised).map(|_| Launch::by_itself(gid, Origin::Stranger, now)));
        }
    }

    /// Brings the launches that are expected of a group in line with its wish: what the wish lacks is on its way.
    pub(super) fn reconcile(&mut self, id: PoolId, gid: GroupId, as_of: Mono) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if pool.is_changing(gid) {
            return;
        }
        let (counted, launches) = (pool.counted(gid), pool.launches_of(gid));
        let origin = if pool.is_observed { Origin::Spare } else { Origin::Stranger };
        let Some(group) = pool.groups.get_mut(&gid) else { return };
        let Some(desired) = group.desired else { return };
        let missing = desired.saturating_sub(counted);
        group.abandoned = group.abandoned.min(missing);
        let expected = missing - group.abandoned;
        if expected > launches {
            let more = expected - launches;
            pool.launches.extend((0..more).map(|_| Launch::by_itself(gid, origin, now)));
            let deadline = now + pool.config.boot_timeout;
            self.arm_by(Timer::Boot(id), deadline);
            return;
        }
        let mut surplus = launches - expected;
        let mut was_asked = false;
        for origin in [Origin::Spare, Origin::Stranger, Origin::Asked] {
            pool.launches.retain(|launch| {
                let is_of = launch.group == gid && launch.origin == origin;
                // What we asked for may only be shown late.
                let is_settled = origin != Origin::Asked || launch.settled_at() + SETTLE <= as_of;
                let is_over = is_of && surplus > 0 && is_settled;
                surplus -= u32::from(is_over);
                was_asked |= is_over && origin == Origin::Asked;
                !is_over
            });
        }
        if was_asked {
            let cause = "somebody lowered the group's desired capacity".into();
            self.boot_failed(id, Some(gid), OperationFailure::Transient, &cause);
        }
    }

    /// A group's own attempt to launch came to nothing. Its wish is given up, or it would go on trying for hours while
    /// another group is asked.
    pub(super) fn launch_failed(
        &mut self,
        id: PoolId,
        gid: GroupId,
        kind: OperationFailure,
        cause: &Arc<str>,
    ) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        // One that nothing is expected of any more goes on failing until its wish is taken back.
        let Some(_) = pool.take_launch(gid, None) else { return };
        let is_waking =
            pool.operations.values().any(|step| matches!(step, Step::Wake { group, .. } if *group == gid));
        if let Some(group) = pool.groups.get_mut(&gid) {
            if is_waking {
                group.given_up_early += 1;
            } else {
                group.give_up(1, now);
            }
        }
        self.note_of_group(id, HappeningKind::LaunchFailed, gid, cause);
        self.boot_failed(id, Some(gid), kind, cause);
    }

    /// Whether what a group launched by itself is of use: somebody waits or is served, or it keeps the least number.
    pub(super) fn wants_spares(&self, id: PoolId, gid: GroupId) -> bool {
        let Some(pool) = self.pools.get(&id) else { return false };
        let is_used = || self.agents.values().any(|agent| agent.pool == id && !agent.leases.is_empty());
        let is_spare = |origin: Origin, is_registered: bool| origin == Origin::Spare && !is_registered;
        let others = pool.instances.values().filter(|i| {
            i.is_counted() && i.drain.is_none() && !is_spare(i.origin, i.registered_at.is_some())
        });
        let launches = pool.launches.iter().filter(|launch| launch.origin != Origin::Spare);
        let is_short = others.count() + launches.count() < pool.config.instances_min as usize;
        // Another balancer may have asked for it.
        let is_kept = pool.groups.get(&gid).is_some_and(|group| group.is_at_min() || group.has_rival);
        !pool.queue.is_empty() || is_short || is_kept || is_used()
    }

    /// Spares that nobody wants go before they cost: as a wish that is taken back, or as an instance that is ended
    /// while it boots.
    pub(super) fn dismiss_spares(&mut self, id: PoolId) {
        let now = self.now;
        let Some(pool) = self.pools.get(&id) else { return };
        let unwanted: Vec<GroupId> =
            pool.groups.keys().copied().filter(|&gid| !self.wants_spares(id, gid)).collect();
        for gid in unwanted {
            let Some(pool) = self.pools.get_mut(&id) else { return };
            let Some(group) = pool.groups.get_mut(&gid) else { continue };
            let mut given_up = 0;
            if group.is_protected && group.withdraw == Withdraw::Not {
                pool.launches.retain(|launch| {
                    let is_over = launch.group == gid
                        && launch.origin == Origin::Spare
                        && launch.started_at + SETTLE <= now;
                    given_up += u32::from(is_over);
                    !is_over
                });
            }
            if given_up > 0 {
                group.give_up(given_up, now);
                self.plan_changed = true;
            }
            let spares: Vec<InstanceId> = pool
                .instances
                .iter()
                .filter(|(_, i)| {
                    i.group == gid && i.origin == Origin::Spare && i.is_booting() && i.is_there()
                })
                .map(|(instance, _)| instance.clone())
                .collect();
            for instance in spares {
                self.drain_idle(id, &instance);
            }
        }
    }
}
