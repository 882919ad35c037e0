//! Who publishes how many requests wait: each reader has its own maximum, so that none takes another's.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Gate;

/// All that the lock guards of the readers. There are as many as there are ways to publish metrics.
#[derive(Debug, Default)]
pub(super) struct Readers {
    readers: BTreeMap<u64, Reader>,
    next: u64,
}

#[derive(Debug)]
struct Reader {
    /// The most that waited since this reader last took it.
    peak: usize,
    rose: Arc<Notify>,
}

impl Readers {
    /// After each event: the most that waited since the event before. Returns whom to wake once the lock is free.
    pub(super) fn note(&mut self, peak: usize) -> Vec<Arc<Notify>> {
        let mut risen = Vec::new();
        if peak > 0 {
            for reader in self.readers.values_mut() {
                if reader.peak == 0 {
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
        let peak = inner.core.queued();
        let readers = &mut inner.readers;
        let reader = readers.next;
        readers.next += 1;
        readers.readers.insert(reader, Reader { peak, rose: rose.clone() });
        drop(inner);
        QueueWatch { gate: self.clone(), reader, rose }
    }
}

impl QueueWatch {
    /// The most requests that waited at any time since the last call.
    #[must_use]
    pub fn take_peak(&self) -> usize {
        let mut inner = self.gate.lock();
        let queued = inner.core.queued();
        let reader = inner.readers.readers.get_mut(&self.reader);
        reader.map_or(queued, |reader| std::mem::replace(&mut reader.peak, queued))
    }

    /// Returns once a request waits, or has waited since the peak was last taken.
    pub async fn until_waiting(&self) {
        while self.peak() == 0 {
            self.rose.notified().await;
        }
    }

    fn peak(&self) -> usize {
        self.gate.lock().readers.readers.get(&self.reader).map_or(0, |reader| reader.peak)
    }
}

impl Drop for QueueWatch {
    fn drop(&mut self) {
        self.gate.lock().readers.readers.remove(&self.reader);
    }
}
