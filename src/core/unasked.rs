//! Requests that wait for what nobody has asked for: then somebody else should start an instance.

use std::time::Duration;

use super::event::OperationFailure;
use super::ids::{Mono, PoolId};
use super::scaling::Pool;
use super::{Core, Timer};

/// How long a call that asks for an instance may take before it is late. Most take a tenth of a second; who acts on a
/// gauge needs more than ten.
const ASKING_MAX: Duration = Duration::from_secs(5);

/// How long a look tells what the groups wish for. At rest there is one each minute, and one that fails is repeated within
/// 90 s: beyond that somebody else may have raised a wish, which an alarm that sets it to 1 would lower.
const WISHES_KNOWN_MAX: Duration = Duration::from_secs(180);

/// How long a call that failed tells that the next one would fail too.
const FAILURE_COUNTS_MAX: Duration = Duration::from_secs(120);

impl Core {
    /// Whether somebody else should start an instance, for any pool: see
    /// [`PoolSnapshot::wake_wanted`](super::snapshot::PoolSnapshot::wake_wanted).
    #[must_use]
    pub fn is_wake_wanted(&self) -> bool {
        self.pools.values().any(|pool| pool.wants_wake(self.now))
    }

    /// After each event. A call that is on its way is not late yet, so its time runs from here.
    pub(super) fn note_unasked(&mut self) {
        let now = self.now;
        let has_changed = |(id, pool): (&PoolId, &Pool)| {
            let is_unasked = self.is_unasked(*id, pool);
            let is_mended = pool.asking_failed_at.is_some() && self.is_helped(*id, pool);
            let has_changed = is_unasked != pool.unasked_since.is_some() || is_mended;
            has_changed.then_some((*id, is_unasked, is_mended))
        };
        let changed: Vec<(PoolId, bool, bool)> = self.pools.iter().filter_map(has_changed).collect();
        for (id, is_unasked, is_mended) in changed {
            let Some(pool) = self.pools.get_mut(&id) else { continue };
            if is_mended {
                pool.asking_failed_at = None;
            }
            if is_unasked == pool.unasked_since.is_some() {
                continue;
            }
            pool.unasked_since = is_unasked.then_some(now);
            match is_unasked {
                true => self.arm(Timer::Unasked(id), now + ASKING_MAX),
                false => self.disarm(Timer::Unasked(id)),
            }
        }
        self.wake_wanted_peak |= self.is_wake_wanted();
    }

    /// A call that should have led to an instance failed. Noted even if those who wait are told at once, and wait no
    /// more. That there is none to be had does not count: nobody else would get one.
    pub(super) fn asking_failed(&mut self, id: PoolId, kind: OperationFailure) {
        let Some(pool) = self.pools.get(&id) else { return };
        if kind == OperationFailure::Unavailable || !self.is_unasked(id, pool) {
            return;
        }
        self.wake_wanted_peak = true;
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.asking_failed_at = Some(self.now);
        }
    }

    /// Whether requests wait, and nothing that could serve them is there, on its way or wished for.
    fn is_unasked(&self, id: PoolId, pool: &Pool) -> bool {
        !pool.queue.is_empty() && pool.knows_wishes(self.now) && !self.is_helped(id, pool)
    }

    /// Whether something serves, boots or is wished for. What is known without a walk comes first: a queue may stand for
    /// long, and this is asked after each event.
    fn is_helped(&self, id: PoolId, pool: &Pool) -> bool {
        if !pool.config.has_fleet {
            return self.agents.values().any(|agent| agent.pool == id && agent.is_connected);
        }
        // A launch is noted before its call is answered, so of a group it is the wish that counts.
        let is_started = pool.config.looks.is_none() && pool.instances_all() > 0;
        let is_wished = || pool.groups.values().any(|group| group.desired.is_some_and(|desired| desired > 0));
        is_started || !pool.live.is_empty() || is_wished() || self.serving(id, pool) > 0
    }
}

impl Pool {
    /// Whether somebody else should start an instance.
    ///
    /// 1. Nobody waits, or something serves, boots or is wished for: no.
    /// 2. It is not known what is wished for: no, for what an alarm would lower may be busy.
    /// 3. There is no fleet that could be asked: yes.
    /// 4. The last call that asked failed a short while ago, or the one that is on its way is late: yes.
    pub(super) fn wants_wake(&self, now: Mono) -> bool {
        let fails = self.asking_failed_at.is_some_and(|at| now < at + FAILURE_COUNTS_MAX);
        self.unasked_since.is_some_and(|since| !self.config.has_fleet || fails || since + ASKING_MAX <= now)
    }

    /// Whether a look has shown lately what each group wishes for. A fleet that keeps no wishes has none to be known.
    fn knows_wishes(&self, now: Mono) -> bool {
        let is_seen = || self.seen_at.is_some_and(|at| now < at + WISHES_KNOWN_MAX);
        let has_groups = self.config.has_fleet && self.config.looks.is_some();
        !has_groups || (is_seen() && self.groups.values().all(|group| group.desired.is_some()))
    }
}
