//! What it means that launches fail: a pause, and in the end a refusal with the cause.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::event::{OperationFailure, Rejection};
use super::ids::{GroupId, Mono, PoolId};
use super::instances::Instance;
use super::scaling::Pool;

/// Launches that may fail in a row before the waiting clients are told.
const BOOT_FAILURES_MAX: u32 = 3;
/// The pause before a failed launch is repeated; it doubles with each failure.
const LAUNCH_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause for a fleet that is asked too often.
const THROTTLE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long requests are refused after launches failed; it doubles with each time, up to the maximum.
const REFUSAL: Duration = Duration::from_secs(5);
const REFUSAL_MAX: Duration = Duration::from_secs(300);

/// What is known of the fleet's failures.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// In a row; none since an instance registered.
    failures: u32,
    /// In a row; none since the fleet took a call.
    throttled: u32,
    /// No launch before.
    pub(super) pause_until: Mono,
    /// Requests that nobody could serve are refused before this.
    pub(super) refuse_until: Option<Mono>,
    refusal: Duration,
    cause: Option<Arc<str>>,
}

impl Trouble {
    /// Why the last launch came to nothing, until one registers.
    pub(super) fn cause(&self) -> Option<Arc<str>> {
        self.cause.clone()
    }

    /// The fleet took a call.
    pub(super) fn was_heard(&mut self) {
        self.throttled = 0;
    }
}

impl Core {
    /// A launch came to nothing.
    ///
    /// 1. The fleet is asked too often: again after a pause that grows, for as long as it takes.
    /// 2. The group has nothing to give, or refuses for good: it is left alone for a while, and the next is asked at
    ///    once. If all are left alone, the waiting clients are told.
    /// 3. Anything else is repeated after a pause. After three in a row the next group is asked, if there is one. Else
    ///    the waiting clients are told, and so is whoever comes, for a time that doubles; then one launch is tried, and its
    ///    failure opens the next, longer such time.
    pub(super) fn boot_failed(
        &mut self,
        id: PoolId,
        group: Option<GroupId>,
        kind: OperationFailure,
        cause: &Arc<str>,
    ) {
        let now = self.now;
        let jitter = self.random.u32(0..=500);
        let Some(pool) = self.pools.get_mut(&id) else { return };
        self.plan_changed = true;
        let trouble = &mut pool.trouble;
        trouble.cause = Some(cause.clone());
        if kind == OperationFailure::Throttled {
            let pause =
                LAUNCH_PAUSE.saturating_mul(2u32.saturating_pow(trouble.throttled)).min(THROTTLE_PAUSE_MAX);
            trouble.throttled += 1;
            trouble.pause_until = now + pause + pause * jitter / 1000;
            return;
        }
        trouble.failures += 1;
        let is_final = matches!(kind, OperationFailure::Unavailable | OperationFailure::Permanent);
        if is_final && let Some(group) = group.and_then(|group| pool.groups.get_mut(&group)) {
            group.block(kind, cause, now);
            trouble.failures = trouble.failures.min(BOOT_FAILURES_MAX - 1);
            return;
        }
        let pause = LAUNCH_PAUSE * 2u32.saturating_pow(trouble.failures.min(BOOT_FAILURES_MAX) - 1);
        trouble.pause_until = now + pause + pause * jitter / 1000;
        if !is_final && trouble.failures < BOOT_FAILURES_MAX {
            return;
        }
        let has_other =
            pool.groups.iter().any(|(&other, found)| Some(other) != group && !found.is_blocked(now));
        if has_other && let Some(group) = group.and_then(|group| pool.groups.get_mut(&group)) {
            group.block(OperationFailure::Unavailable, cause, now);
            pool.trouble.failures = 0;
            return;
        }
        let trouble = &mut pool.trouble;
        trouble.failures = BOOT_FAILURES_MAX - 1;
        trouble.refusal = (trouble.refusal * 2).clamp(REFUSAL, REFUSAL_MAX);
        trouble.refuse_until = Some(now + trouble.refusal);
    }

    /// Tells those who wait for a fleet that is known to fail, once nothing serves or boots: after the last failure, or
    /// after the loss of what still served.
    pub(super) fn refuse_hopeless(&mut self) {
        let waiting = self.pools.iter().filter(|(_, pool)| !pool.queue.is_empty());
        let refusing: Vec<PoolId> = waiting
            .filter(|(_, pool)| pool.config.budget_per_day.is_some() || self.refusal(pool).is_some())
            .map(|(&id, _)| id)
            .collect();
        for id in refusing {
            if let Some(because) = self.out_of_capacity(id) {
                self.reject_queued(Some(id), &because);
            }
        }
    }

    /// Why a request that nobody serves is refused instead of held. Not while an instance boots, nor while one could come
    /// back that leaves for idleness.
    pub(super) fn out_of_capacity(&self, id: PoolId) -> Option<Rejection> {
        let pool = self.pools.get(&id)?;
        // Asked after each event while anything waits: the cheap ones first.
        if pool.config.budget_per_day.is_none() && self.refusal(pool).is_none() {
            return None;
        }
        let is_hopeful = pool.pending() > 0 || pool.instances.values().any(Instance::can_come_back);
        if is_hopeful || self.serving(id, pool) > 0 {
            return None;
        }
        let refusal = || self.refusal(pool).map(|(until, cause)| rejection(until, cause, self.now));
        self.out_of_budget(pool).or_else(refusal)
    }

    /// Until when those whom nobody serves are refused, and why: launches failed too often, or every group is left alone.
    fn refusal(&self, pool: &Pool) -> Option<(Mono, Option<Arc<str>>)> {
        let failed = pool.trouble.refuse_until.filter(|&until| until > self.now);
        let failed = failed.map(|until| (until, pool.trouble.cause()));
        failed.or_else(|| pool.all_blocked_until(self.now, |group| self.affords(pool, group, 1, self.time())))
    }

    /// What a request is told that waited to its end while launches failed and nothing served.
    pub(super) fn boots_fail(&self, id: PoolId) -> Option<Rejection> {
        let pool = self.pools.get(&id)?;
        let trouble = &pool.trouble;
        let has_failed = trouble.failures > 0 || trouble.throttled > 0;
        let fails = has_failed && self.serving(id, pool) == 0;
        let again = match pool.pending() {
            0 => trouble.pause_until,
            _ => self.now + self.boot_eta(id),
        };
        fails.then(|| rejection(again, trouble.cause(), self.now))
    }
}

fn rejection(until: Mono, cause: Option<Arc<str>>, now: Mono) -> Rejection {
    let cause = cause.unwrap_or_else(|| "no instance could be started".into());
    Rejection::NoCapacity { retry_after: until.since(now).max(Duration::from_secs(1)), cause }
}
