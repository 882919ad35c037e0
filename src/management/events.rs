//! The state as it changes, for those who watch: `GET /api/v1/events`, as server-sent events (HTML Standard, section
//! 9.2).
//!
//! However many watch, the state is read and written down once. A watcher is given the latest one when it has taken the
//! one before, so that nothing queues up for a slow one. An event comes each second, and so is the sign of life as well.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

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

/// Watchers are told in so many groups, one after the other within each interval: a thousand writes at once would hold up
/// the machine's other work for as long as they take.
const GROUPS: usize = 128;

/// A group is filled before the next one: few watchers are told at once.
const GROUP_WATCHERS: usize = WATCHERS_MAX / GROUPS;

/// Where watchers find the latest event.
pub(super) struct Feed {
    /// For each group. None while nobody watches: what was told then is old.
    latest: [watch::Sender<Option<Bytes>>; GROUPS],
    places: Arc<Semaphore>,
    came: Notify,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            latest: std::array::from_fn(|_| watch::Sender::new(None)),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            came: Notify::new(),
        }
    }
}

impl Feed {
    /// A place for a watcher; none if all are taken.
    fn join(&self) -> Option<Watcher> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let has_room = |group: &&watch::Sender<_>| group.receiver_count() < GROUP_WATCHERS;
        // There is one with room for as long as there is a place; the last may be fuller for a moment.
        let group = self.latest.iter().find(has_room).or(self.latest.last())?;
        let mut latest = group.subscribe();
        // What was told a moment ago will do for the first.
        latest.mark_changed();
        self.came.notify_one();
        Some(Watcher { latest, under_way: None, _place: place })
    }

    fn has_watchers(&self) -> bool {
        self.places.available_permits() < WATCHERS_MAX
    }

    fn tell_all(&self, event: Option<&Bytes>) {
        for group in &self.latest {
            group.send_replace(event.cloned());
        }
    }

    /// Whether nothing is told at present.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.latest.iter().all(|group| group.borrow().is_none())
    }
}

/// Reads the state for all who watch, until cancelled.
pub(super) async fn produce(shared: Arc<Shared>) {
    let feed = &shared.feed;
    let telling = async {
        loop {
            while !feed.has_watchers() {
                feed.tell_all(None);
                feed.came.notified().await;
            }
            // The first is not to wait for its turn, nor is who comes before that of their group.
            feed.tell_all(Some(&event(&shared)));
            tokio::time::sleep(EVENT_INTERVAL).await;
            while feed.has_watchers() {
                let event = event(&shared);
                for group in &feed.latest {
                    group.send_replace(Some(event.clone()));
                    tokio::time::sleep(EVENT_INTERVAL / GROUPS as u32).await;
                }
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
    latest: watch::Receiver<Option<Bytes>>,
    /// Ends when the connection has handed the event before to the kernel.
    under_way: Option<oneshot::Receiver<Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(written) = self.under_way.take() {
            // Nobody sends anything: that the other end is dropped is the news.
            let _ = written.await;
        }
        loop {
            self.latest.changed().await.ok()?;
            let Some(event) = self.latest.borrow_and_update().clone() else { continue };
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
