//! When each worker last came round: one that hangs serves nobody, and nobody would see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::connection::LOOK_INTERVAL;
use crate::clock::Clock;

/// A worker that has not come round for so long hangs. It comes every [`LOOK_INTERVAL`]; a machine that has used up its CPU
/// credits is slow, and not hung.
const TURN_AGE_MAX: Duration = LOOK_INTERVAL.saturating_mul(20);

/// Before a worker's first turn.
const NEVER: u64 = 0;

/// After its last: it has ended, as it should.
const ENDED: u64 = u64::MAX;

/// The last turn of each worker, in milliseconds of the clock.
#[derive(Debug)]
pub struct Turns {
    clock: Clock,
    last: Vec<AtomicU64>,
}

impl Turns {
    pub(super) fn new(clock: Clock, workers: usize) -> Self {
        Self { clock, last: (0..workers).map(|_| AtomicU64::new(NEVER)).collect() }
    }

    /// The worker has come round.
    pub(super) fn made(&self, worker: usize) {
        self.last[worker].store(self.milliseconds().max(NEVER + 1), Ordering::Relaxed);
    }

    /// The worker has nothing more to do. One that panics never says so.
    pub(super) fn ended(&self, worker: usize) {
        self.last[worker].store(ENDED, Ordering::Relaxed);
    }

    /// Whether each worker has come round lately, or has ended.
    #[must_use]
    pub fn are_recent(&self) -> bool {
        let now = self.milliseconds();
        self.last.iter().map(|last| last.load(Ordering::Relaxed)).all(|last| match last {
            NEVER => false,
            ENDED => true,
            at => Duration::from_millis(now.saturating_sub(at)) <= TURN_AGE_MAX,
        })
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.clock.mono().0.as_millis()).unwrap_or(ENDED - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::sleep;

    use super::super::{Limits, Roll, look};
    use super::*;

    /// As each worker runs it.
    fn looking(turns: &Rc<Turns>, worker: usize) -> tokio::task::JoinHandle<()> {
        let (turns, clock) = (turns.clone(), turns.clock);
        spawn_local(async move { look(Roll::new(clock), Limits::default(), &turns, worker).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_hangs_is_seen_and_one_that_ended_is_not_missed() {
        let turns = Rc::new(Turns::new(Clock::start(), 2));
        let work = async {
            let first = looking(&turns, 0);
            sleep(LOOK_INTERVAL).await;
            assert!(!turns.are_recent(), "the second has not begun");
            let second = looking(&turns, 1);
            sleep(LOOK_INTERVAL).await;
            assert!(turns.are_recent());
            sleep(Duration::from_secs(3600)).await;
            assert!(turns.are_recent());

            second.abort();
            sleep(TURN_AGE_MAX - LOOK_INTERVAL).await;
            assert!(turns.are_recent(), "it may be slow");
            sleep(2 * LOOK_INTERVAL).await;
            assert!(!turns.are_recent(), "it hangs");
            turns.ended(1);
            assert!(turns.are_recent());
            first.abort();
            sleep(2 * TURN_AGE_MAX).await;
            assert!(!turns.are_recent());
            turns.ended(0);
            assert!(turns.are_recent(), "all are over");
        };
        LocalSet::new().run_until(work).await;
    }
}
