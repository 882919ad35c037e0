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

/// Where watchers find the latest event.
pub(super) struct Feed {
    /// None while nobody watches: what was told then is old.
    latest: watch::Receiver<Option<Bytes>>,
    places: Arc<Semaphore>,
    came: Notify,
}

impl Feed {
    /// A feed, and what [`produce`] writes to.
    pub(super) fn new() -> (Self, watch::Sender<Option<Bytes>>) {
        let (sender, latest) = watch::channel(None);
        (Self { latest, places: Arc::new(Semaphore::new(WATCHERS_MAX)), came: Notify::new() }, sender)
    }

    fn watchers(&self) -> usize {
        WATCHERS_MAX - self.places.available_permits()
    }
}

/// Reads the state for all who watch, until cancelled. Its end is the end of every stream.
pub(super) async fn produce(shared: Arc<Shared>, latest: watch::Sender<Option<Bytes>>) {
    let telling = async {
        loop {
            if shared.feed.watchers() == 0 {
                latest.send_replace(None);
                shared.feed.came.notified().await;
            } else {
                latest.send_replace(Some(event(&shared)));
                tokio::time::sleep(EVENT_INTERVAL).await;
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
    let Ok(place) = shared.feed.places.clone().try_acquire_owned() else {
        let message =
            format!("{WATCHERS_MAX} watch already: close some, or ask for /api/v1/state now and then");
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_watchers", &message);
        return ([(RETRY_AFTER, RETRY_SECONDS)], refusal.answer(Body::empty())).into_response();
    };
    let mut latest = shared.feed.latest.clone();
    // What was told a moment ago will do for the first.
    latest.mark_changed();
    shared.feed.came.notify_one();
    let watcher = Watcher { latest, under_way: None, _place: place };
    let events = stream::unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let session_end = async move {
        match admitted {
            Admitted::Session(left) => tokio::time::sleep(left).await,
            Admitted::Entirely | Admitted::Stranger => std::future::pending().await,
        }
    };
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache, no-store"), NO_BUFFERING];
    (headers, Body::from_stream(events.take_until(Box::pin(session_end)))).into_response()
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
