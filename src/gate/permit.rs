//! A held slot.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
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
    interrupt: Arc<Interrupt>,
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

/// Why an attempt is over before its server ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The machine is about to end; an answer that has begun may go on.
    Recalled,
    /// The instance is lost.
    Lost,
}

/// Tells one attempt that the instance under it is about to end, or lost.
#[derive(Debug, Default)]
pub(super) struct Interrupt {
    /// 0, or the gravest that was told: 1 for a recall, 2 for a loss.
    told: AtomicU8,
    waker: AtomicWaker,
}

impl Interrupt {
    pub(super) fn tell(&self, why: Interruption) {
        let told = match why {
            Interruption::Recalled => 1,
            Interruption::Lost => 2,
        };
        self.told.fetch_max(told, Ordering::AcqRel);
        self.waker.wake();
    }

    fn told(&self) -> Option<Interruption> {
        match self.told.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Interruption::Recalled),
            _ => Some(Interruption::Lost),
        }
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
        Self { gate, request, lease, upstream, interrupt: Arc::default(), cold_start, stage: Stage::Unsent }
    }

    pub(super) fn interrupt(&self) -> Arc<Interrupt> {
        self.interrupt.clone()
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
            inner.interrupts.remove(&lease);
            (request, Event::AttemptFailed { lease, kind, cause })
        });
        hold.answer().await
    }

    /// Ready once the instance under this attempt is lost. One task at a time may wait for it.
    pub fn poll_lost(&self, context: &Context<'_>) -> Poll<()> {
        match self.poll_interrupted(context) {
            Poll::Ready(Interruption::Lost) => Poll::Ready(()),
            Poll::Ready(Interruption::Recalled) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ready once the attempt is over before its time. One task at a time may wait for it.
    pub fn poll_interrupted(&self, context: &Context<'_>) -> Poll<Interruption> {
        self.interrupt.waker.register(context.waker());
        self.interrupt.told().map_or(Poll::Pending, Poll::Ready)
    }

    /// Runs until the future is ready.
    ///
    /// # Errors
    /// The attempt is over before: its instance is about to end, or lost.
    pub async fn unless_interrupted<F: Future>(
        &self,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Interruption> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            self.poll_interrupted(context).map(Err)
        })
        .await
    }

    fn end(&mut self, end: LeaseEnd) {
        self.stage = Stage::Over;
        let mut inner = self.gate.lock();
        let signal = inner.interrupts.remove(&self.lease);
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
