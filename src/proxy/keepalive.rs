//! Bytes for clients that wait.
//!
//! Load balancers cut silent connections, and clients give up on them. So from [`KeepaliveConfig::after`] until the
//! server's first byte, a client that asked for a stream is sent what its stream passes over. That commits status 200:
//! whatever goes wrong from then on is told as an event.

mod held;
mod words;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Sleep, sleep};

use super::answer::Body;
use super::classify::{Dialect, Endpoint, Route};
use super::error::{Refusal, answer_event};
use super::headers;
use crate::core::RequestId;
use crate::gate::Gate;

pub(super) use held::Held;

/// The most of an answer that is no event stream that is read, to be told as an event.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// When waiting clients are sent bytes, and which.
#[derive(Debug, Clone, Copy)]
pub struct KeepaliveConfig {
    /// After how long the first ones; none for never.
    pub after: Option<Duration>,
    /// From one to the next.
    pub interval: Duration,
    /// Whether clients that wait for plain JSON are sent blanks.
    pub is_for_json: bool,
    /// Whether streams are told how long it takes.
    pub tells_status: bool,
}

impl Default for KeepaliveConfig {
    /// What the program does unless it is told otherwise. Of all that stands between, what is known to wait least gives
    /// up after 29 s.
    fn default() -> Self {
        let interval = Duration::from_secs(15);
        Self { after: Some(interval), interval, is_for_json: false, tells_status: false }
    }
}

impl KeepaliveConfig {
    /// What is done for a request, if anything: nothing for HTTP/1.0, whose clients know no chunks.
    pub(super) fn plan(&self, route: Route, version: Version, is_stream: bool) -> Option<Keepalive> {
        let form = match route {
            Route::Slot(endpoint) if is_stream && endpoint.streams() => Form::Events,
            // It may be asked for as plain text.
            Route::Slot(Endpoint::Transcription) => return None,
            Route::Slot(_) | Route::Server(_) if self.is_for_json => Form::Json,
            Route::Slot(_)
            | Route::Server(_)
            | Route::Health
            | Route::Models
            | Route::Props
            | Route::SlotsEndpoint
            | Route::Blocked
            | Route::Live => return None,
        };
        let after = self.after.filter(|_| version >= Version::HTTP_11)?;
        Some(Keepalive { form, dialect: route.dialect(), after, interval: self.interval })
    }
}

/// What is done for one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keepalive {
    form: Form,
    dialect: Dialect,
    after: Duration,
    interval: Duration,
}

/// What the client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Events,
    Json,
}

/// Who knows how long it takes.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) gate: Gate,
    pub(super) request: RequestId,
}

/// The answer to a request, or why there is none.
pub(super) type Answer = Result<Response<Body>, Refusal>;

/// The answer; or, if it takes long, one that has begun and goes on with it, which `was_begun` is told. Dropping either
/// drops the work.
///
/// # Errors
/// Those of the work, if they come early.
pub(super) async fn answer(
    mut work: Pin<Box<dyn Future<Output = Answer>>>,
    keepalive: Keepalive,
    teller: Option<Teller>,
    was_begun: Option<Rc<Cell<bool>>>,
) -> Answer {
    let mut due = Box::pin(sleep(keepalive.after));
    let early = tokio::select! {
        biased;
        answer = &mut work => Some(answer?),
        () = &mut due => None,
    };
    let Some(response) = early else {
        was_begun.iter().for_each(|was_begun| was_begun.set(true));
        return Ok(held(work, keepalive, teller, due));
    };
    // What has a length cannot be added to.
    let is_open = is_plain_stream(&response) && response.body().size_hint().exact().is_none();
    if keepalive.form != Form::Events || !is_open {
        return Ok(response);
    }
    Ok(response.map(|body| Body::Held(Box::new(Held::beginning(body, keepalive, teller, due)))))
}

/// An answer that begins before there is one.
fn held(
    work: Pin<Box<dyn Future<Output = Answer>>>,
    keepalive: Keepalive,
    teller: Option<Teller>,
    due: Pin<Box<Sleep>>,
) -> Response<Body> {
    let Keepalive { form, dialect, .. } = keepalive;
    let rest = Box::pin(async move {
        let answer = work.await;
        if let Err(refusal) = &answer {
            tracing::debug!(%refusal, "a request that was kept waiting is refused");
        }
        match form {
            Form::Events => Rest::of_stream(answer, dialect).await,
            Form::Json => Rest::of_json(answer, dialect),
        }
    });
    let mut response = Response::new(Body::Held(Box::new(Held::waiting(rest, keepalive, teller, due))));
    let kind = match form {
        Form::Events => "text/event-stream",
        Form::Json => "application/json",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What follows the bytes that were sent meanwhile.
struct Rest {
    first: Option<Bytes>,
    then: Body,
}

impl Rest {
    fn only(bytes: Bytes) -> Self {
        Self { first: Some(bytes), then: Body::whole(Bytes::new()) }
    }

    /// A stream of the same kind is joined on, behind a comment with what its headers would have said. Anything else
    /// becomes the one event that clients take for an error.
    async fn of_stream(answer: Answer, dialect: Dialect) -> Self {
        let response = match answer {
            Ok(response) => response,
            Err(refusal) => return Self::only(refusal.to_event(dialect)),
        };
        if is_plain_stream(&response) {
            let facts = words::facts(response.headers());
            return Self { first: Some(facts.into()), then: response.into_body() };
        }
        let status = response.status();
        let body = start_of(response.into_body()).await;
        Self::only(answer_event(dialect, status, &body))
    }

    fn of_json(answer: Answer, dialect: Dialect) -> Self {
        match answer {
            Ok(response) => Self { first: None, then: response.into_body() },
            Err(refusal) => Self::only(refusal.into_response(dialect).into_body()),
        }
    }
}

fn is_plain_stream(response: &Response<Body>) -> bool {
    response.status() == StatusCode::OK
        && headers::is_event_stream(response.headers())
        && !response.headers().contains_key(header::CONTENT_ENCODING)
}

/// What is longer is not read on, and its connection not used again.
async fn start_of(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_MAX - bytes.len())]);
        }
        if bytes.len() == ANSWER_BYTES_MAX {
            body.is_enough();
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
