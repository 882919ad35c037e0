//! How the management address says no.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::{CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::json;

use crate::protocol::plain;

/// How much of a refused request's body is read on: who has this much under way sees the answer and not a reset.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// How long it is read on. A stream of reports does not end by itself.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest message, in bytes: some quote what an agent sent.
const MESSAGE_BYTES_MAX: usize = 1024;

/// An answer that says what is wrong and how to mend it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: plain(message, MESSAGE_BYTES_MAX) }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The answer, [`drained`].
    pub(super) fn answer(self, unread: Body) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response =
            (self.status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        drained(response, unread)
    }
}

/// The answer, while what is left of the request's body is read and dropped, within bounds: closing with unread bytes
/// resets the connection, and the client would not see the answer.
pub(super) fn drained(mut response: Response, unread: Body) -> Response {
    if !unread.is_end_stream() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        // Ends by itself within its bounds; there are at most as many as connections.
        tokio::spawn(tokio::time::timeout(DRAIN_TIMEOUT, drain(unread)));
    }
    response
}

async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
