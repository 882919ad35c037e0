//! Who publishes how many requests wait, and whether a wake is wanted: each reader has its own maximum, so that none takes another's.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{Gate, Inner};

/// All that the lock guards of the readers. There are as many as there are ways to publish metrics.
#[derive(Debug, Default)]
pub(super) struct Readers {
    readers: BTreeMap<u64, Reader>,
    next: u64,
}

#[derive(Debug)]
struct Reader {
    /// Since this reader last took it.
    peak: Peak,
    rose: Arc<Notify>,
}

/// What the queue came to at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peak {
    /// Requests that waited.
    pub queued: usize,
    /// Whether somebody else should have started an instance.
    pub wake_wanted: bool,
}

impl Peak {
    /// The greater of both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { queued: self.queued.max(other.queued), wake_wanted: self.wake_wanted || other.wake_wanted }
    }

    /// Whether it holds something of which the other has nothing.
    fn rises_above(self, other: Self) -> bool {
        (self.queued > 0 && other.queued == 0) || (self.wake_wanted && !other.wake_wanted)
    }
}

impl Readers {
    /// After each event: what the queue came to since the event before. Returns whom to wake once the lock is free.
    pub(super) fn note(&mut self, peak: Peak) -> Vec<Arc<Notify>> {
        let mut risen = Vec::new();
        if peak.queued > 0 || peak.wake_wanted {
            for reader in self.readers.values_mut() {
                if peak.rises_above(reader.peak) {
                    risen.push(reader.rose.clone());
                }
                reader.peak = reader.peak.max(peak);
            }
        }
        risen
    }
}

/// One reader's view of the queue. Dropping it ends the view.
#[derive(Debug)]
pub struct QueueWatch {
    gate: Gate,
    reader: u64,
    rose: Arc<Notify>,
}

impl Gate {
    /// A new view of the queue, whose maximum begins with what waits now.
    #[must_use]
    pub fn watch_queue(&self) -> QueueWatch {
        let rose = Arc::new(Notify::new());
        let mut inner = self.lock();
        let peak = inner.peak_now();
        let readers = &mut inner.readers;
        let reader = readers.next;
        readers.next += 1;
        readers.readers.insert(reader, Reader { peak, rose: rose.clone() });
        drop(inner);
        QueueWatch { gate: self.clone(), reader, rose }
    }
}

impl Inner {
    fn peak_now(&self) -> Peak {
        Peak { queued: self.core.queued(), wake_wanted: self.core.is_wake_wanted() }
    }
}

impl QueueWatch {
    /// What the queue came to at any time since the last call.
    #[must_use]
    pub fn take_peak(&self) -> Peak {
        let mut inner = self.gate.lock();
        let now = inner.peak_now();
        let reader = inner.readers.readers.get_mut(&self.reader);
        reader.map_or(now, |reader| std::mem::replace(&mut reader.peak, now))
    }

    /// Returns once a request waits or a wake is wanted, or was since the peak was last taken, of which `told` says
    /// nothing.
    pub async fn until_above(&self, told: Peak) {
        while !self.peak().rises_above(told) {
            self.rose.notified().await;
        }
    }

    fn peak(&self) -> Peak {
        self.gate.lock().readers.readers.get(&self.reader).map_or(Peak::default(), |reader| reader.peak)
    }
}

impl Drop for QueueWatch {
    fn drop(&mut self) {
        self.gate.lock().readers.readers.remove(&self.reader);
    }
}
