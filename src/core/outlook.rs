//! What can be foretold to a request that waits.

use std::time::Duration;

use super::Core;
use super::boot::BootPhase;
use super::event::Phase;
use super::fair_queue::Place;
use super::ids::{Mono, Now, PoolId, RequestId};
use super::scaling::Pool;

/// How far a place in the queue is counted: beyond it, it is told as more. What is asked for under the lock must be short.
pub const POSITION_MAX: usize = 1000;

/// What a request that waits can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Its place among those that wait, from 1; [`POSITION_MAX`] + 1 for whatever is beyond.
    pub position: usize,
    /// When a server may be free for it; none before an answer was measured.
    pub eta: Option<Duration>,
    /// What the next server is doing, while none serves.
    pub phase: Option<BootPhase>,
}

impl Core {
    /// What the request can be told; none if it does not wait.
    #[must_use]
    pub fn outlook(&self, request: RequestId, now: Now) -> Option<Outlook> {
        let found = self.requests.get(&request).filter(|found| found.lease.is_none())?;
        let pool = self.pools.get(&found.pool)?;
        let now = self.now.max(now.mono);
        let ahead = pool.queue.ahead(found.place, POSITION_MAX);
        let phase =
            if self.slots_serving(found.pool) == 0 { self.phase(found.pool, pool, now) } else { None };
        Some(Outlook {
            position: ahead.min(POSITION_MAX) + 1,
            eta: self.eta(found.pool, pool, ahead, now),
            phase,
        })
    }

    /// Whether a request that is about to be queued would wait longer than its client does.
    ///
    /// 1. An idle instance that is on its way out would come back for it: no.
    /// 2. It does not wait at all: yes.
    /// 3. Nothing was measured yet: nobody knows, so no.
    pub(super) fn is_too_late(&self, id: PoolId, place: Place, wait_max: Duration) -> bool {
        let Some(pool) = self.pools.get(&id) else { return false };
        if pool.instances.values().any(|instance| instance.can_come_back()) {
            return false;
        }
        if wait_max.is_zero() {
            return true;
        }
        let ahead = pool.queue.ahead(place, POSITION_MAX);
        self.eta(id, pool, ahead, self.now).is_some_and(|eta| eta > wait_max)
    }

    /// When so many others were served: on what serves, or after the boot that ends first.
    fn eta(&self, id: PoolId, pool: &Pool, ahead: usize, now: Mono) -> Option<Duration> {
        let each = pool.queue.slots() as f64 / pool.queue.len().max(1) as f64;
        let slots_ahead = ahead as f64 * each.max(1.0);
        let serving = self.slots_serving(id);
        let service = pool.service.estimate();
        if serving > 0 {
            return Some(service?.mul_f64((slots_ahead + 1.0) / f64::from(serving)));
        }
        let boot = pool.boot_next(now).map_or_else(|| pool.boots.left((0, now), now), |(left, _)| left);
        let turns = (slots_ahead / f64::from(self.slots_per_instance(pool))).floor();
        Some(boot + service.unwrap_or_default().mul_f64(turns))
    }

    /// What boots, as its fleet shows it; else what an agent says that nobody launched.
    fn phase(&self, id: PoolId, pool: &Pool, now: Mono) -> Option<BootPhase> {
        if let Some((_, place)) = pool.boot_next(now) {
            return BootPhase::ALL.get(place).copied();
        }
        let own = self.agents.values().filter(|agent| agent.pool == id && agent.is_connected);
        own.filter_map(|agent| match agent.report.phase {
            Phase::Starting => Some(BootPhase::Service),
            Phase::Loading => Some(BootPhase::Load),
            Phase::Ready | Phase::Failing => None,
        })
        .max()
    }
}
