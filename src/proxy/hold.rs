//! The request's body, read whole: so that it can be sent again, and so that the client's going away is seen.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::iter::successors;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;

use super::Limits;
use super::error::Refusal;

/// A whole body may take as long as so many of its parts: whoever dribbles must not hold its room for ever.
pub(super) const BODY_PARTS_PATIENCE: u32 = 10;
/// How much of a refused body is read, and for how long, so that the client sees the answer instead of a reset.
pub(super) const DRAIN_BYTES_MAX: usize = 1 << 20;
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(2);

/// The bytes that all held bodies may take together.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
    /// What is taken, for people.
    taken: Gauge,
}

impl Budget {
    pub(super) fn new(bytes: usize, taken: Gauge) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes), taken })
    }

    /// Sets so many bytes aside; none if there are not as many.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow_to(bytes).then_some(reservation)
    }
}

/// Bytes set aside; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let take = |left: usize| left.checked_sub(more);
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.bytes += more;
            self.budget.taken.inc_by(signed(more));
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
        self.budget.taken.dec_by(signed(self.bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What keeps a body from being read whole.
#[derive(Debug)]
pub(super) enum Unread {
    /// The client is told, and the rest of the body is read and thrown away, within bounds.
    Refused(Refusal),
    /// It cannot be read.
    Broken,
    /// The client broke it off, so nobody waits for an answer.
    Left,
}

impl Unread {
    /// hyper tells bytes that it cannot read by these kinds, and an early end by another.
    fn of(error: &hyper::Error) -> Self {
        let causes = successors(error.source(), |&cause| cause.source());
        let mut kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        let is_unreadable = |kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        if kinds.any(is_unreadable) { Self::Broken } else { Self::Left }
    }
}

/// The body, whole. What was reserved for its declared length grows as needed.
pub(super) async fn read(
    body: &mut Incoming,
    reservation: &mut Reservation,
    limits: &Limits,
) -> Result<Bytes, Unread> {
    let mut reading = Reading { body, reservation, limits, first: Bytes::new(), rest: BytesMut::new() };
    // Most bodies have come with their heads: those need no timer.
    match poll_fn(|context| Poll::Ready(reading.poll(context))).await {
        Poll::Ready(read) => read,
        Poll::Pending => Box::pin(in_time(reading)).await,
    }
}

async fn in_time(mut reading: Reading<'_>) -> Result<Bytes, Unread> {
    let part_max = reading.limits.body_read_max;
    let mut whole_late = pin!(tokio::time::sleep(part_max * BODY_PARTS_PATIENCE));
    let mut part_late = pin!(tokio::time::sleep(part_max));
    poll_fn(|context| {
        let before = reading.len();
        if let read @ Poll::Ready(_) = reading.poll(context) {
            return read;
        }
        if reading.len() > before {
            part_late.set(tokio::time::sleep(part_max));
        }
        let is_late =
            part_late.as_mut().poll(context).is_ready() || whole_late.as_mut().poll(context).is_ready();
        match is_late {
            true => Poll::Ready(Err(Unread::Refused(Refusal::BodyTimeout { after: part_max }))),
            false => Poll::Pending,
        }
    })
    .await
}

/// A body, and what has come of it.
struct Reading<'a> {
    body: &'a mut Incoming,
    reservation: &'a mut Reservation,
    limits: &'a Limits,
    first: Bytes,
    rest: BytesMut,
}

impl Reading<'_> {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Takes what has come.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Unread>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut *self.body).poll_frame(context)) else {
                let rest = std::mem::take(&mut self.rest);
                let first = std::mem::take(&mut self.first);
                return Poll::Ready(Ok(if rest.is_empty() { first } else { rest.freeze() }));
            };
            // Trailers of requests are of no use to llama.cpp.
            let Ok(part) = frame.map_err(|error| Unread::of(&error))?.into_data() else { continue };
            self.take(part)?;
        }
    }

    fn take(&mut self, part: Bytes) -> Result<(), Unread> {
        let (len, max) = (self.len() + part.len(), self.limits.body_bytes_max);
        if len > max {
            return Err(Unread::Refused(Refusal::TooLarge { max }));
        }
        if !self.reservation.grow_to(len) {
            return Err(Unread::Refused(Refusal::BytesFull));
        }
        if self.len() == 0 {
            // Most bodies come in one part, which is kept as it is.
            self.first = part;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.body.size_hint().lower().try_into().unwrap_or(0) + len);
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&part);
        Ok(())
    }
}

/// Reads on behind an answer that was given early, within bounds.
pub(super) async fn drain(mut body: Incoming) {
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    // Whatever is left after that is reset.
    let _ = tokio::time::timeout(DRAIN_MAX, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_comes_back() {
        let taken = Gauge::default();
        let budget = Budget::new(10, taken.clone());
        let mut six = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none());
        assert!(six.grow_to(10));
        assert!(!six.grow_to(11));
        assert!(budget.reserve(1).is_none());
        assert_eq!(taken.get(), 10);
        drop(six);
        assert_eq!(taken.get(), 0);
        assert!(budget.reserve(10).is_some());
    }
}
