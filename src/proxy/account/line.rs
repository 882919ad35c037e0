//! The access log: a line for each request of a client, once it has ended.
//!
//! **Invariant:** nothing of a prompt or of an answer's text is in it, no query of a path, no key, and no header but the
//! request's id. What a client can choose is cut, and is printable ASCII: no line can be forged.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tracing::{Level, enabled, info};

use super::tokens::{Ends, Form, Tokens};
use crate::config::POOL_NAME;
use crate::gate::Upstream;
use crate::metrics::{Label, Outcome};
use crate::proxy::headers::is_event_stream;
use crate::proxy::trace::Trace;

/// What the lines are told from the rest of the log by.
const TARGET: &str = "paddock::access";
/// The longest path, in bytes; of what is longer the beginning is shown.
const PATH_BYTES_MAX: usize = 512;
/// The longest method, in bytes. Those of HTTP are shorter.
const METHOD_BYTES_MAX: usize = 32;
/// The longest name of an agent, in bytes.
const AGENT_BYTES_MAX: usize = 256;

/// Whether anybody wants the lines, by `RUST_LOG`.
pub(super) fn is_wanted() -> bool {
    enabled!(target: TARGET, Level::INFO)
}

/// What never became a request.
pub(super) fn refused(client: IpAddr, status: StatusCode, outcome: Outcome) {
    info!(
        target: TARGET,
        client = %client,
        pool = POOL_NAME,
        status = status.as_u16(),
        outcome = outcome.value(),
    );
}

/// What is known of one request. Nothing is formatted before its end.
#[derive(Debug)]
pub(super) struct Line {
    id: HeaderValue,
    trace: Trace,
    client: IpAddr,
    method: Method,
    uri: Uri,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) by: Option<Arc<Upstream>>,
    pub(super) attempts: u32,
    pub(super) is_cold_start: Option<bool>,
    pub(super) first_byte: Option<Duration>,
    pub(super) request_bytes: u64,
    status: Option<StatusCode>,
    /// Of the answer's body; none where nobody counts it.
    response_bytes: Option<u64>,
    ends: Option<Ends>,
    /// Whether the client was sent the head of an answer before there was one.
    pub(super) was_begun: Rc<Cell<bool>>,
}

impl Line {
    pub(super) fn new(parts: &Parts, id: HeaderValue, trace: Trace, client: IpAddr) -> Self {
        Self {
            id,
            trace,
            client,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            tenant: None,
            by: None,
            attempts: 0,
            is_cold_start: None,
            first_byte: None,
            request_bytes: 0,
            status: None,
            response_bytes: None,
            ends: None,
            was_begun: Rc::default(),
        }
    }

    /// An answer begins.
    pub(super) fn answers(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.response_bytes = Some(0);
        self.ends = form(headers).map(Ends::new);
    }

    /// A part of its body passes.
    pub(super) fn passed(&mut self, data: &[u8]) {
        self.sized(data.len() as u64);
        if let Some(ends) = &mut self.ends {
            ends.saw(data);
        }
    }

    /// So much of its body is there without being looked at.
    pub(super) fn sized(&mut self, bytes: u64) {
        let is_sent = self.method != Method::HEAD;
        self.response_bytes = self.response_bytes.map(|before| before + if is_sent { bytes } else { 0 });
    }

    /// What the client was told, if an answer or a refusal began.
    fn status(&self) -> Option<u16> {
        let begun = self.was_begun.get().then_some(StatusCode::OK);
        begun.or(self.status).map(|status| status.as_u16())
    }

    pub(super) fn write(&self, outcome: Outcome, queue_wait: Option<Duration>, age: Duration) {
        let is_whole = outcome == Outcome::Served;
        let Tokens { prompt, generated } =
            self.ends.as_ref().map_or_else(Tokens::default, |ends| ends.tokens(is_whole));
        let agent = self.by.as_ref().map(|by| printable(&by.name, AGENT_BYTES_MAX));
        info!(
            target: TARGET,
            request_id = self.id.to_str().unwrap_or_default(),
            trace_id = %self.trace.id,
            span_id = %self.trace.span,
            client = %self.client,
            tenant = self.tenant.as_deref(),
            method = &*printable(self.method.as_str(), METHOD_BYTES_MAX),
            path = &*printable(self.uri.path(), PATH_BYTES_MAX),
            pool = POOL_NAME,
            agent = agent.as_deref(),
            status = self.status(),
            outcome = outcome.value(),
            queue_ms = queue_wait.map(milliseconds),
            first_byte_ms = self.first_byte.map(milliseconds),
            duration_ms = milliseconds(age),
            cold_start = self.is_cold_start,
            attempts = (self.attempts > 0).then_some(self.attempts),
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            prompt_tokens = prompt,
            generated_tokens = generated,
        );
    }
}

/// What can be read for tokens, if anything: what is packed cannot.
fn form(headers: &HeaderMap) -> Option<Form> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let is_json = kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"));
    if is_event_stream(headers) { Some(Form::Events) } else { is_json.then_some(Form::Json) }
}

/// The text's beginning in printable ASCII, anything else as `%` and two digits, as in a path.
fn printable(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut written = String::new();
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_graphic();
        if written.len() + if is_plain { 1 } else { 3 } > bytes_max {
            written.push('…');
            break;
        }
        match is_plain {
            true => written.push(char::from(byte)),
            false => written.push_str(&format!("%{byte:02X}")),
        }
    }
    Cow::Owned(written)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_is_printable_and_short() {
        for (text, expected) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/a%0Ab", "/a%0Ab"),
            ("/a b", "/a%20b"),
            ("/\u{9b}31m", "/%C2%9B31m"),
            ("/\u{2028}\u{202e}", "/%E2%80%A8%E2%80%AE"),
            ("\n\r\t\u{1b}\u{7f}\0", "%0A%0D%09%1B%7F%00"),
            ("", ""),
            ("0123456789abcdefghij", "0123456789abcdefghij"),
            ("0123456789abcdefghijk", "0123456789abcdefghij…"),
            ("0123456789abcdefghé", "0123456789abcdefgh…"),
        ] {
            assert_eq!(printable(text, 20), expected);
        }
    }

    #[test]
    fn plain_json_and_streams_are_read() {
        let form_of = |fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            form(&fields.collect())
        };
        assert_eq!(form_of(&[("content-type", "application/json; charset=utf-8")]), Some(Form::Json));
        assert_eq!(form_of(&[("content-type", "Text/Event-Stream")]), Some(Form::Events));
        assert_eq!(form_of(&[("content-type", "text/plain")]), None);
        assert_eq!(form_of(&[]), None);
        assert_eq!(form_of(&[("content-type", "application/json"), ("content-encoding", "gzip")]), None);
    }
}
