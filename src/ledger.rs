//! The shell of the ledger: what servers ran and cost is kept over restarts, in one file of `--state-dir`.
//!
//! 1. At the start what was kept is read, and what ran since then is asked of the fleet ([`restore`]).
//! 2. Each minute it is kept anew if it changed, and at each day's end.
//! 3. At the begin of a drain it is kept once more. From then on it is the successor's. Only processes end with their
//!    balancer: what they ran in the drain is kept at its end.
//!
//! **Invariant:** a balancer does not write over what one kept that began after it. Each takes the next number at its
//! start.

mod file;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::core::{Day, Event, LedgerRecord, OperationFailure, PoolId};
use crate::fleet::Fleet;
use crate::gate::Gate;

pub use file::Damage;
pub use store::{FILE_NAME, LedgerError, Store, check};

/// How often it is kept while it changes: what a kill loses is less, and of Auto Scaling groups nothing.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// A disk that takes longer is left to itself.
const KEEP_MAX: Duration = Duration::from_secs(10);

/// For the fleet's own memory. Clients wait for as long: their connections are queued by the kernel. Then it is asked on
/// beside them.
const HISTORY_MAX: Duration = Duration::from_secs(10);

/// Before it is asked again; it doubles with each time, up to the maximum.
const HISTORY_PAUSE: Duration = Duration::from_secs(1);
const HISTORY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often it is asked at most: for some five minutes.
const HISTORY_TRIES_MAX: u32 = 14;

/// Before the time of the record: an instance may have been launched by then that the balancer had not seen.
const UNSEEN_MAX: Duration = Duration::from_secs(120);

/// Keeps a pool's ledger.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Locked by whoever writes, however long the disk takes.
    store: Arc<Mutex<Store>>,
    gate: Gate,
    pool: PoolId,
    clock: Clock,
}

impl Keeper {
    /// Keeps what this gate knows.
    #[must_use]
    pub fn new(store: Store, gate: Gate, pool: PoolId, clock: Clock) -> Self {
        Self { store: Arc::new(Mutex::new(store)), gate, pool, clock }
    }

    /// Keeps it until cancelled from outside.
    pub async fn run(self) {
        loop {
            let wall = self.clock.now().wall;
            // A moment later, so that the day is surely over.
            let day_left = Day::of(wall).end().saturating_sub(wall) + Duration::from_millis(1);
            sleep(day_left.min(KEEP_EVERY)).await;
            self.keep().await;
        }
    }

    /// Keeps it now, unless it is what was kept last. A failure is logged, once until it works again.
    pub async fn keep(&self) {
        let keeping = async {
            // On a disk that hangs one write waits, and no more are begun.
            let mut store = self.store.clone().lock_owned().await;
            let Some(record) = self.gate.ledger(self.pool) else { return };
            // A panic there is the store's, and is told by it.
            let _ = tokio::task::spawn_blocking(move || store.keep(&record)).await;
        };
        if timeout(KEEP_MAX, keeping).await.is_err() {
            tracing::warn!(after = ?KEEP_MAX, "the disk of --state-dir hangs: the ledger is not kept");
        }
    }
}

/// Opens the file in `dir`; gives what it holds. `groups` are what the fleet's groups are called there, in their order.
///
/// # Errors
/// If the directory is of no use.
pub fn open(
    dir: &Path,
    groups: Vec<Arc<str>>,
    clock: Clock,
) -> Result<(Store, Option<LedgerRecord>), LedgerError> {
    Store::open(dir, groups, clock.now().wall)
}

/// Tells the core what was kept, and what its fleet remembers since then: without a record, since the day began. Before the
/// first look at the fleet; gives what is left to be done beside it, if the fleet does not answer so soon.
pub async fn restore(
    gate: &Gate,
    fleet: Arc<Fleet>,
    pool: PoolId,
    record: Option<LedgerRecord>,
    clock: Clock,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let today = Day::of(clock.now().wall);
    let since = record.as_ref().map_or(today.start(), |record| {
        record.at.saturating_sub(UNSEEN_MAX).max(today.month().start().start())
    });
    gate.handle(Event::LedgerRestored { pool, record: record.map(Box::new) });
    let mut telling = Box::pin(tell_history(gate.clone(), fleet, pool, since));
    match timeout(HISTORY_MAX, &mut telling).await {
        Ok(()) => None,
        Err(_) => {
            tracing::warn!("AWS does not answer yet: what ran while no balancer did is counted once it does");
            Some(telling)
        }
    }
}

/// Asks the fleet until it answers, or will not.
async fn tell_history(gate: Gate, fleet: Arc<Fleet>, pool: PoolId, since: Duration) {
    let (mut tries, mut pause) = (1, HISTORY_PAUSE);
    let history = loop {
        match fleet.history(since).await {
            Ok(history) => break history,
            Err(error) if tries == HISTORY_TRIES_MAX || error.failure() == OperationFailure::Permanent => {
                tracing::warn!(%error, "what ran while no balancer did is missing in the ledger");
                break None;
            }
            Err(error) => tracing::debug!(%error, "the fleet is asked again what ran"),
        }
        sleep(pause).await;
        (tries, pause) = (tries + 1, (pause * 2).min(HISTORY_PAUSE_MAX));
    };
    gate.handle(Event::HistoryTold { pool, history });
}

#[cfg(test)]
mod tests;
