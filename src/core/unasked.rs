//! Requests that wait for what nobody has asked for: then somebody else should start an instance.

use std::time::Duration;

use super::event::OperationFailure;
use super::ids::{Mono, PoolId};
use super::scaling::Pool;
use super::{Core, Timer};

/// How long a call that asks for an instance may take before it is late. Most take a tenth of a second; who acts on a
/// gauge needs more than ten.
const ASKING_MAX: Duration = Duration::from_secs(5);

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
            (is_unasked != pool.unasked_since.is_some()).then_some((*id, is_unasked))
        };
        let changed: Vec<(PoolId, bool)> = self.pools.iter().filter_map(has_changed).collect();
        for (id, is_unasked) in changed {
            let Some(pool) = self.pools.get_mut(&id) else { continue };
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
        let Some(pool) = self.pools.get(&id).filter(|_| kind != OperationFailure::Unavailable) else {
            return;
        };
        self.wake_wanted_peak |= self.is_unasked(id, pool);
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.asking_fails = true;
        }
    }

    /// Whether requests wait, and nothing that could serve them is there, on its way or wished for.
    fn is_unasked(&self, id: PoolId, pool: &Pool) -> bool {
        if pool.queue.is_empty() {
            return false;
        }
        if !pool.config.has_fleet {
            return !self.agents.values().any(|agent| agent.pool == id && agent.is_connected);
        }
        // A launch is noted before its call is answered, so of a group it is the wish that counts.
        let is_wished = pool.groups.values().any(|group| group.desired.is_some_and(|desired| desired > 0));
        let is_started = pool.config.looks.is_none() && pool.instances_all() > 0;
        !is_wished && !is_started && self.serving(id, pool) == 0
    }
}

impl Pool {
    /// Whether somebody else should start an instance.
    ///
    /// 1. Nobody waits, or something serves, boots or is wished for: no.
    /// 2. There is no fleet that could be asked: yes.
    /// 3. The last call that asked failed, or the one that is on its way is late: yes.
    pub(super) fn wants_wake(&self, now: Mono) -> bool {
        self.unasked_since
            .is_some_and(|since| !self.config.has_fleet || self.asking_fails || since + ASKING_MAX <= now)
    }
}
