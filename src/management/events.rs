//! The state as it changes, for those who watch: `GET /api/v1/events`, as server-sent events (HTML Standard, section
//! 9.2).
//!
//! However many watch, the state is read and written down once each second. A watcher is given the latest one when its
//! turn within the second has come and it has taken the one before, so that nothing queues up for a slow one. An event
//! comes each second, and so is the sign of life as well.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::auth::Admitted;
use super::refusal::Refusal;
use super::{Shared, api};

/// From one event to the next.
pub(super) const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// Watchers at once: agents' connections are taken from the same number, and need the rest.
pub(super) const WATCHERS_MAX: usize = super::CONNECTIONS_MAX / 2;

/// After which a browser comes again whose stream ended, in milliseconds; and a program whose turn it was not, in
/// seconds.
const RETRY_MILLISECONDS: u32 = 1000;
const RETRY_SECONDS: &str = "10";

/// What nginx and its kin call the wish that they pass each event on at once.
const NO_BUFFERING: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// So many watchers are told at once, when the state was read.
pub(super) const AT_ONCE: usize = 16;

/// The others have so many turns, spread over the second: a thousand writes at once would hold up the machine's other
/// work for as long as they take, and a turn for each would wake the thread a thousand times. A power of two; timers know
/// no less than a millisecond.
pub(super) const TURNS: u32 = 256;

/// Where watchers find the latest event.
pub(super) struct Feed {
    /// None while nobody watches: what was told then is old.
    latest: watch::Sender<Option<Told>>,
    places: Arc<Places>,
    came: Notify,
}

impl Default for Feed {
    fn default() -> Self {
        Self { latest: watch::Sender::new(None), places: Arc::default(), came: Notify::new() }
    }
}

impl Feed {
    /// A place for a watcher; none if all are taken.
    fn join(&self) -> Option<Watcher> {
        let place = Place::take(&self.places)?;
        let mut latest = self.latest.subscribe();
        // What was told a moment ago will do for the first.
        latest.mark_changed();
        self.came.notify_one();
        Some(Watcher { latest, due: None, under_way: None, place })
    }

    fn has_watchers(&self) -> bool {
        self.latest.receiver_count() > 0
    }

    /// Whether nothing is told at present.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.latest.borrow().is_none()
    }
}

/// An event, and when its second began.
#[derive(Clone)]
struct Told {
    event: Bytes,
    at: Instant,
}

/// Places of watchers that are free.
struct Places(Mutex<BTreeSet<usize>>);

impl Default for Places {
    fn default() -> Self {
        Self(Mutex::new((0..WATCHERS_MAX).collect()))
    }
}

impl Places {
    fn free(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watcher's place, given back when it is dropped.
struct Place {
    number: usize,
    of: Arc<Places>,
}

impl Place {
    /// The first that is free.
    fn take(places: &Arc<Places>) -> Option<Self> {
        let number = places.free().pop_first()?;
        Some(Self { number, of: places.clone() })
    }

    /// How long after the begin of each second its watcher is told. The turns of the first places are halves of the
    /// second, then quarters and so on, so that any number of watchers is spread evenly.
    fn turn(&self) -> Duration {
        let Some(after) = self.number.checked_sub(AT_ONCE) else { return Duration::ZERO };
        let after = after as u32 % TURNS;
        let turn = after.reverse_bits() >> (u32::BITS - TURNS.trailing_zeros());
        EVENT_INTERVAL * turn / TURNS
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.free().insert(self.number);
    }
}

/// Reads the state for all who watch, until cancelled.
pub(super) async fn produce(shared: Arc<Shared>) {
    let feed = &shared.feed;
    let now = || shared.clock.instant(shared.clock.mono());
    let telling = async {
        loop {
            while !feed.has_watchers() {
                feed.latest.send_replace(None);
                feed.came.notified().await;
            }
            let mut at = now();
            while feed.has_watchers() {
                feed.latest.send_replace(Some(Told { event: event(&shared), at }));
                // A deadline, so that delays do not add up. Seconds that were slept through are not made up for.
                at = (at + EVENT_INTERVAL).max(now());
                sleep_until(at).await;
            }
        }
    };
    let _: Option<Infallible> = shared.cancel.run_until_cancelled(telling).await;
}

fn event(shared: &Shared) -> Bytes {
    // What is made of plain values can be written.
    let state = serde_json::to_string(&api::snapshot(shared)).unwrap_or_default();
    format!("event: state\nretry: {RETRY_MILLISECONDS}\ndata: {state}\n\n").into()
}

/// `GET /api/v1/events`
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(admitted): Extension<Admitted>,
) -> Response {
    let Some(watcher) = shared.feed.join() else {
        let message =
            format!("{WATCHERS_MAX} watch already: close some, or ask for /api/v1/state now and then");
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_watchers", &message);
        return ([(RETRY_AFTER, RETRY_SECONDS)], refusal.answer(Body::empty())).into_response();
    };
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let cancel = shared.cancel.clone();
    let end = async move {
        match admitted {
            Admitted::Session(left) => drop(tokio::time::timeout(left, cancel.cancelled()).await),
            Admitted::Entirely | Admitted::Stranger => cancel.cancelled().await,
        }
    };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache, no-store"), NO_BUFFERING];
    (headers, Body::from_stream(events.take_until(Box::pin(end)))).into_response()
}

/// One who watches.
struct Watcher {
    latest: watch::Receiver<Option<Told>>,
    /// When its next turn is; none before its first event.
    due: Option<Instant>,
    /// Ends when the connection has handed the event before to the kernel.
    under_way: Option<oneshot::Receiver<Infallible>>,
    place: Place,
}

impl Watcher {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        // First of all: until then the event before is written, and its end is no reason to wake up.
        if let Some(due) = self.due {
            sleep_until(due).await;
        }
        if let Some(written) = self.under_way.take() {
            // Nobody sends anything: that the other end is dropped is the news.
            let _ = written.await;
        }
        loop {
            self.latest.changed().await.ok()?;
            let Some(Told { event, at }) = self.latest.borrow_and_update().clone() else { continue };
            self.due = Some(at + EVENT_INTERVAL + self.place.turn());
            let (held, written) = oneshot::channel();
            self.under_way = Some(written);
            return Some(Bytes::from_owner(Sent { event, _held: held }));
        }
    }
}

/// An event on its way to one watcher, dropped once the connection has written it.
struct Sent {
    event: Bytes,
    _held: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.event
    }
}
