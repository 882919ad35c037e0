//! Errors as events: for streams whose client has seen status 200 already.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::{Anthropic, Error, OpenAi, Refusal, Row, anthropic_type, openai_type};
use crate::metrics::{Label, Outcome};
use crate::proxy::classify::Dialect;

/// The most of a server's words that is repeated, in characters.
const MESSAGE_CHARS_MAX: usize = 4096;

/// The last event of a stream that was cut.
pub(in crate::proxy) fn error_event(dialect: Dialect, message: &str) -> Bytes {
    let row = Row { status: StatusCode::BAD_GATEWAY, code: Outcome::UpstreamFailed, retry_after: None };
    event(dialect, &row, row.code.value(), None, message)
}

impl Refusal {
    /// The refusal as the only event of a stream. What its headers would say is in the event.
    pub(in crate::proxy) fn to_event(&self, dialect: Dialect) -> Bytes {
        let row = self.row();
        event(dialect, &row, row.code.value(), None, &self.to_string())
    }
}

/// A server's answer that is no event stream, with its status as code. Of its body, what llama.cpp's errors hold is
/// told on; anything else as it is.
pub(in crate::proxy) fn answer_event(dialect: Dialect, status: StatusCode, body: &[u8]) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Outer {
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        message: String,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let row = Row { status, code: Outcome::Served, retry_after: None };
    let told = serde_json::from_slice::<Outer>(body).ok().map(|outer| outer.error);
    let (text, kind) = match told {
        Some(Inner { message, kind }) => (message, kind),
        None => (String::from_utf8_lossy(body).trim().to_owned(), None),
    };
    let text: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    let message = match (text.is_empty(), status.is_success()) {
        (false, false) => text,
        (true, false) => format!("the server answered {status}"),
        (_, true) => format!("the server answered {status}, but with no event stream"),
    };
    event(dialect, &row, status.as_str(), kind.as_deref(), &message)
}

/// OpenAI's `error` event of the Responses API is flat. Its official clients raise an exception only for the `error` of
/// the other APIs, so that is there too.
#[derive(Serialize)]
struct Responses<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
    error: Error<'a>,
}

fn event(dialect: Dialect, row: &Row, code: &str, kind: Option<&str>, message: &str) -> Bytes {
    let own = match dialect {
        Dialect::Anthropic => anthropic_type(row.status),
        Dialect::OpenAi | Dialect::LlamaCpp | Dialect::Responses => openai_type(row.status),
    };
    let error = Error {
        message,
        kind: kind.unwrap_or(own),
        code: Some(code),
        status: Some(row.status.as_u16()),
        retry_after: row.retry_after_seconds(),
    };
    let json = match dialect {
        Dialect::OpenAi | Dialect::LlamaCpp => serde_json::to_string(&OpenAi { error }),
        Dialect::Anthropic => serde_json::to_string(&Anthropic { kind: "error", error }),
        Dialect::Responses => serde_json::to_string(&Responses {
            kind: "error",
            code,
            message,
            param: None,
            sequence_number: 0,
            error,
        }),
    };
    // Plain structs of strings always serialise.
    let json = json.unwrap_or_default();
    match dialect {
        Dialect::OpenAi | Dialect::LlamaCpp => format!("data: {json}\n\n"),
        Dialect::Anthropic | Dialect::Responses => format!("event: error\ndata: {json}\n\n"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Rejection;

    fn text(event: Bytes) -> String {
        String::from_utf8(event.to_vec()).unwrap()
    }

    #[test]
    fn an_error_event_is_a_whole_event() {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::LlamaCpp, Dialect::Responses] {
            for event in [
                error_event(dialect, "line\nbreak"),
                Refusal::Upstream("line\r\nbreak".into()).to_event(dialect),
                answer_event(dialect, StatusCode::BAD_REQUEST, b"line\n\nbreak"),
            ] {
                let event = text(event);
                assert!(event.ends_with("\n\n") && event.trim_end().lines().count() <= 2, "{event:?}");
            }
        }
    }

    #[test]
    fn a_refusal_keeps_its_status_code_and_time() {
        let full = Refusal::Rejected(Rejection::QueueFull { retry_after: Duration::from_millis(1500) });
        let error = "\"type\":\"rate_limit_error\",\"code\":\"queue_full\",\"status\":429,\"retry_after\":2}";
        for (dialect, begins) in [
            (Dialect::OpenAi, "data: {\"error\":{"),
            (Dialect::LlamaCpp, "data: {\"error\":{"),
            (Dialect::Anthropic, "event: error\ndata: {\"type\":\"error\",\"error\":{"),
            (
                Dialect::Responses,
                "event: error\ndata: {\"type\":\"error\",\"code\":\"queue_full\",\"message\":",
            ),
        ] {
            let event = text(full.to_event(dialect));
            assert!(event.starts_with(begins) && event.contains(error), "{event}");
        }
    }

    #[test]
    fn a_servers_answer_is_told_on() {
        let body = br#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#;
        let event = text(answer_event(Dialect::OpenAi, StatusCode::BAD_REQUEST, body));
        assert_eq!(
            event,
            "data: {\"error\":{\"message\":\"too long\",\"type\":\"exceed_context_size_error\",\"code\":\"400\",\
             \"status\":400}}\n\n"
        );
        let event = text(answer_event(Dialect::OpenAi, StatusCode::NOT_IMPLEMENTED, b""));
        assert!(event.contains("the server answered 501") && event.contains("\"code\":\"501\""), "{event}");
        let event = text(answer_event(Dialect::OpenAi, StatusCode::OK, b"{}"));
        assert!(event.contains("no event stream") && event.contains("\"code\":\"200\""), "{event}");
        let long = answer_event(Dialect::OpenAi, StatusCode::BAD_REQUEST, "é".repeat(100_000).as_bytes());
        assert!(long.len() < 3 * MESSAGE_CHARS_MAX, "{}", long.len());
    }
}
