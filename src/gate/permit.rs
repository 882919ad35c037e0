//! A held slot.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::{Answer, Gate, Upstream};
use crate::core::{AttemptFailure, Event, LeaseEnd, LeaseId, RequestId};

/// The right to send one request to one server. Dropping it, anywhere, returns the slot.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    request: RequestId,
    lease: LeaseId,
    upstream: Arc<Upstream>,
    abort: Arc<AbortSignal>,
    cold_start: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server knows nothing of the request.
    Unsent,
    /// The server may be computing.
    Sent,
    /// The lease's end was told.
    Over,
}

/// Tells one attempt that the instance under it is lost.
#[derive(Debug, Default)]
pub(super) struct AbortSignal {
    is_aborted: AtomicBool,
    waker: AtomicWaker,
}

impl AbortSignal {
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Permit {
    pub(super) fn new(
        gate: Gate,
        request: RequestId,
        lease: LeaseId,
        upstream: Arc<Upstream>,
        cold_start: bool,
    ) -> Self {
        Self { gate, request, lease, upstream, abort: Arc::default(), cold_start, stage: Stage::Unsent }
    }

    pub(super) fn abort_signal(&self) -> Arc<AbortSignal> {
        self.abort.clone()
    }

    /// Where to send the request.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether no server was up when the request arrived.
    #[must_use]
    pub fn is_cold_start(&self) -> bool {
        self.cold_start
    }

    /// From here on the server may compute: dropping the permit lets its slot cool.
    pub fn mark_sent(&mut self) {
        self.stage = Stage::Sent;
    }

    /// The answer began: the request cannot be repeated.
    pub fn mark_answering(&mut self) {
        self.gate.handle(Event::AnswerStarted { lease: self.lease });
    }

    /// The last byte of the answer was seen.
    pub fn finish(mut self) {
        self.end(LeaseEnd::Done);
    }

    /// The attempt failed before its answer began: waits for another one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn retry(mut self, kind: AttemptFailure, cause: Arc<str>) -> Answer {
        self.stage = Stage::Over;
        let (request, lease) = (self.request, self.lease);
        let hold = self.gate.decide(|inner| {
            inner.aborts.remove(&lease);
            (request, Event::AttemptFailed { lease, kind, cause })
        });
        hold.answer().await
    }

    /// Ready once the instance under this attempt is lost. One task at a time may wait for it.
    pub fn poll_aborted(&self, context: &Context<'_>) -> Poll<()> {
        self.abort.waker.register(context.waker());
        if self.abort.is_aborted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Runs until the future is ready, or the instance under this attempt is lost.
    pub async fn unless_aborted<F: Future>(&self, mut future: Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            self.poll_aborted(context).map(|()| None)
        })
        .await
    }

    fn end(&mut self, end: LeaseEnd) {
        self.stage = Stage::Over;
        let mut inner = self.gate.lock();
        let signal = inner.aborts.remove(&self.lease);
        self.gate.apply(inner, Event::LeaseEnded { lease: self.lease, end });
        drop(signal);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent => self.end(LeaseEnd::Unsent),
            Stage::Sent => self.end(LeaseEnd::Cancelled),
            Stage::Over => {}
        }
    }
}
