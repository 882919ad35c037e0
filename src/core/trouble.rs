//! What it means that launches fail: a pause, and in the end a refusal with the cause.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::event::{OperationFailure, Rejection};
use super::ids::{Mono, PoolId};

/// Launches that may fail in a row before the waiting clients are told.
const BOOT_FAILURES_MAX: u32 = 3;
/// The pause before a failed launch is repeated; it doubles with each failure.
const LAUNCH_PAUSE: Duration = Duration::from_millis(500);
/// How long requests are refused after launches failed; it doubles with each time, up to the maximum.
const REFUSAL: Duration = Duration::from_secs(5);
const REFUSAL_MAX: Duration = Duration::from_secs(300);

/// What is known of the fleet's failures.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// In a row; none since an instance registered.
    failures: u32,
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

    fn refusal(&self, now: Mono) -> Option<Mono> {
        self.refuse_until.filter(|&until| until > now)
    }

    fn rejection(&self, until: Mono, now: Mono) -> Rejection {
        let cause = self.cause.clone().unwrap_or_else(|| "no instance could be started".into());
        Rejection::NoCapacity { retry_after: until.since(now).max(Duration::from_secs(1)), cause }
    }
}

impl Core {
    /// A launch came to nothing.
    ///
    /// 1. It is repeated after a pause.
    /// 2. After three in a row, or if it cannot work, the waiting clients are told, and so is whoever comes, for a time
    ///    that doubles; then one launch is tried, and its failure opens the next, longer such time.
    pub(super) fn boot_failed(&mut self, id: PoolId, kind: OperationFailure, cause: &Arc<str>) {
        let now = self.now;
        let jitter = self.random.u32(0..=500);
        let Some(pool) = self.pools.get_mut(&id) else { return };
        self.plan_changed = true;
        let trouble = &mut pool.trouble;
        trouble.failures += 1;
        trouble.cause = Some(cause.clone());
        let pause = LAUNCH_PAUSE * 2u32.saturating_pow(trouble.failures - 1);
        trouble.pause_until = now + pause + pause * jitter / 1000;
        if kind == OperationFailure::Transient && trouble.failures < BOOT_FAILURES_MAX {
            return;
        }
        trouble.failures = BOOT_FAILURES_MAX - 1;
        trouble.refusal = (trouble.refusal * 2).clamp(REFUSAL, REFUSAL_MAX);
        trouble.refuse_until = Some(now + trouble.refusal);
    }

    /// Tells those who wait for a fleet that is known to fail, once nothing serves or boots: after the last failure, or
    /// after the loss of what still served.
    pub(super) fn refuse_hopeless(&mut self) {
        let now = self.now;
        let refusing = self.pools.iter().filter(|(_, pool)| pool.trouble.refusal(now).is_some());
        let refusing: Vec<PoolId> =
            refusing.filter(|(_, pool)| !pool.queue.is_empty()).map(|(&id, _)| id).collect();
        for id in refusing {
            if let Some(because) = self.out_of_capacity(id) {
                self.reject_queued(Some(id), &because);
            }
        }
    }

    /// Why a request that nobody serves is refused instead of held.
    pub(super) fn out_of_capacity(&self, id: PoolId) -> Option<Rejection> {
        let pool = self.pools.get(&id)?;
        let until = pool.trouble.refusal(self.now)?;
        let hopeless = self.serving(id, pool) == 0 && pool.pending() == 0;
        hopeless.then(|| pool.trouble.rejection(until, self.now))
    }

    /// What a request is told that waited to its end while launches failed and nothing served.
    pub(super) fn boots_fail(&self, id: PoolId) -> Option<Rejection> {
        let pool = self.pools.get(&id)?;
        let fails = pool.trouble.failures > 0 && self.serving(id, pool) == 0;
        fails.then(|| pool.trouble.rejection(pool.trouble.pause_until, self.now))
    }
}
