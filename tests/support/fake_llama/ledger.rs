//! The account that a fake server keeps: slots taken, requests come and gone.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests whose heads are kept: enough for every test that looks at them.
pub(super) const SEEN_MAX: usize = 1000;

/// Counts since the start. Of the requests that take a slot,
/// received = completed + cancelled + died + those still in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Requests that take a slot.
    pub received: u64,
    /// Those answered.
    pub completed: u64,
    /// Those whose client left before their end.
    pub cancelled: u64,
    /// Those that were told to die.
    pub died: u64,
    /// The most slots asked for at any one time.
    pub concurrent_max: usize,
    /// Requests that came while the slots that they need were not free.
    pub overcommit: u64,
    /// Requests that take no slot.
    pub slotless: u64,
    /// Requests answered `503 Loading model`.
    pub refused_loading: u64,
    /// Requests that met a stale connection.
    pub refused_stale: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: usize,
    /// Slots asked for now.
    pub busy: usize,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    /// SHA-256 in hex.
    pub body_sha256: String,
    pub body_length: usize,
    /// The connection's number, from 1.
    pub connection: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    slots: usize,
    free: Arc<Semaphore>,
    state: Mutex<(Stats, Vec<Seen>)>,
}

impl Ledger {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, free: Arc::new(Semaphore::new(slots)), state: Mutex::default() }
    }

    pub(super) fn stats(&self) -> Stats {
        self.state.lock().unwrap().0
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().1.clone()
    }

    pub(super) fn saw(&self, seen: Seen) {
        let mut state = self.state.lock().unwrap();
        if state.1.len() < SEEN_MAX {
            state.1.push(seen);
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.state.lock().unwrap().0);
    }

    /// Takes note of a request for `slots` slots, and waits until it has them, in the order of arrival.
    pub(super) async fn take(self: &Arc<Self>, slots: usize) -> Task {
        let slots = slots.min(self.slots);
        self.count(|stats| {
            stats.received += 1;
            if stats.busy + slots > self.slots {
                stats.overcommit += 1;
            }
            stats.busy += slots;
            stats.concurrent_max = stats.concurrent_max.max(stats.busy);
        });
        // Made before the wait, so that a client that leaves while it waits is counted.
        let mut task = Task { ledger: Arc::clone(self), slots, permit: None, end: End::Cancelled };
        let permits = slots.try_into().unwrap();
        task.permit = Some(Arc::clone(&self.free).acquire_many_owned(permits).await.unwrap());
        task
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Completed,
    Cancelled,
    Died,
}

/// A request in its slots. Dropped before an end was noted, its client has left.
#[derive(Debug)]
pub(super) struct Task {
    ledger: Arc<Ledger>,
    slots: usize,
    permit: Option<OwnedSemaphorePermit>,
    end: End,
}

impl Task {
    /// Frees the slots. Called before the last byte goes out: who reads that byte may use them.
    pub(super) fn complete(mut self) {
        self.end = End::Completed;
    }

    /// Frees the slots of a request that was told to die.
    pub(super) fn die(mut self) {
        self.end = End::Died;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.ledger.count(|stats| {
            stats.busy -= self.slots;
            match self.end {
                End::Completed => stats.completed += 1,
                End::Cancelled => stats.cancelled += 1,
                End::Died => stats.died += 1,
            }
        });
        drop(self.permit.take());
    }
}
