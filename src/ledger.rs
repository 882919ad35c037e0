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
use crate::core::{Day, Event, History, LedgerRecord, PoolId};
use crate::fleet::Fleet;
use crate::gate::Gate;

pub use file::Damage;
pub use store::{FILE_NAME, LedgerError, Store, check};

/// How often it is kept while it changes: what a kill loses is less, and of Auto Scaling groups nothing.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// A disk that takes longer is left to itself.
const KEEP_MAX: Duration = Duration::from_secs(10);

/// For the fleet's own memory. Clients wait for as long: their connections are queued by the kernel.
const HISTORY_MAX: Duration = Duration::from_secs(10);

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
/// first look at the fleet.
pub async fn restore(gate: &Gate, fleet: &Fleet, pool: PoolId, record: Option<LedgerRecord>, clock: Clock) {
    let wall = clock.now().wall;
    let today = Day::of(wall);
    let since = record.as_ref().map_or(today.start(), |record| {
        record.at.saturating_sub(UNSEEN_MAX).max(today.month().start().start())
    });
    let history: Option<History> = match timeout(HISTORY_MAX, fleet.history(since)).await {
        Ok(Ok(history)) => history,
        Ok(Err(error)) => {
            tracing::warn!(%error, "what ran while no balancer did is missing in the ledger");
            None
        }
        Err(_) => {
            tracing::warn!("AWS is slow: what ran while no balancer did is missing in the ledger");
            None
        }
    };
    gate.handle(Event::LedgerRestored { pool, record: record.map(Box::new), history });
}

#[cfg(test)]
mod tests;
