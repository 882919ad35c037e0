//! The one mapping from what went wrong to status and body.

mod event;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::classify::Dialect;
use crate::core::Rejection;
use crate::metrics::{Label, Outcome};

pub(super) use event::{answer_event, error_event};

/// Why a request is answered by the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the connection cannot be upgraded to another protocol: nothing is tunnelled")]
    Upgrade,
    #[error("the API key is missing or wrong: send 'Authorization: Bearer KEY' or 'X-Api-Key: KEY', once")]
    Unauthorized,
    #[error("this path is not served through the gateway")]
    Forbidden,
    #[error("no server runs, and this path does not start one")]
    NoServer,
    #[error("there is nothing at this path while no server runs")]
    NotFound,
    #[error("the request's body is larger than {max} bytes (--max-request-body)")]
    TooLarge { max: usize },
    #[error("the request's head did not come within {} s (--request-head-timeout)", after.as_secs_f32())]
    HeadTimeout { after: Duration },
    #[error("this address has as many connections as it may (--max-connections-per-client)")]
    TooManyConnections,
    #[error("the request's body did not come in time: {} s after its last part (--request-body-timeout)", after.as_secs_f32())]
    BodyTimeout { after: Duration },
    #[error("the bodies of waiting requests fill the buffer (--max-buffered-bytes)")]
    BytesFull,
    #[error("{}", told(.0))]
    Rejected(Rejection),
    #[error("the server failed before it answered: {0}")]
    Upstream(Arc<str>),
    #[error("the server did not begin its answer within {} s (--upstream-response-timeout)", after.as_secs_f32())]
    UpstreamTimeout { after: Duration },
}

/// A rejection in words for the client.
fn told(because: &Rejection) -> String {
    match because {
        Rejection::QueueFull { .. } => "as many requests wait as may (--max-buffered-requests)".to_owned(),
        Rejection::QueueTimeout { .. } => {
            "the request waited as long as it may (--buffered-request-timeout, or its own deadline)".to_owned()
        }
        Rejection::TooLate { retry_after } => {
            let after = retry_after.as_secs_f64().ceil();
            format!("a server is expected in about {after} s, and the request's own deadline is before that")
        }
        Rejection::NoCapacity { cause, .. } => format!("no server can be had: {cause}"),
        Rejection::BudgetExhausted { ends_at, .. } => {
            let until = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + *ends_at);
            format!("no server is started: that would cost more than today may (--max-cost-per-day), until {until}")
        }
        Rejection::NoAgents => {
            "no agent is registered, nothing starts one, and requests may not wait (--max-buffered-requests 0)".to_owned()
        }
        Rejection::ShuttingDown => "the gateway is shutting down".to_owned(),
        Rejection::UpstreamFailed { cause, .. } => {
            format!("every server that was tried failed before it answered: {cause}")
        }
    }
}

struct Row {
    status: StatusCode,
    code: Outcome,
    retry_after: Option<Duration>,
}

impl Row {
    /// Whole seconds, rounded up (RFC 9110 section 10.2.3).
    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_secs_f64().ceil().max(1.0) as u64)
    }
}

impl Refusal {
    fn row(&self) -> Row {
        let row = |status, code| Row { status, code, retry_after: None };
        let later = |status, code, after| Row { status, code, retry_after: Some(after) };
        match self {
            Self::BadRequest(_) => row(StatusCode::BAD_REQUEST, Outcome::BadRequest),
            Self::Upgrade => row(StatusCode::NOT_IMPLEMENTED, Outcome::UpgradeRefused),
            Self::Unauthorized => row(StatusCode::UNAUTHORIZED, Outcome::InvalidApiKey),
            Self::Forbidden => row(StatusCode::FORBIDDEN, Outcome::Forbidden),
            Self::NoServer => row(StatusCode::SERVICE_UNAVAILABLE, Outcome::NoServer),
            Self::NotFound => row(StatusCode::NOT_FOUND, Outcome::NotFound),
            Self::TooLarge { .. } => row(StatusCode::PAYLOAD_TOO_LARGE, Outcome::RequestTooLarge),
            Self::HeadTimeout { .. } => row(StatusCode::REQUEST_TIMEOUT, Outcome::HeadTimeout),
            Self::TooManyConnections => {
                later(StatusCode::TOO_MANY_REQUESTS, Outcome::TooManyConnections, Duration::from_secs(1))
            }
            Self::UpstreamTimeout { .. } => row(StatusCode::GATEWAY_TIMEOUT, Outcome::UpstreamTimeout),
            Self::BodyTimeout { .. } => row(StatusCode::REQUEST_TIMEOUT, Outcome::BodyTimeout),
            Self::BytesFull => {
                later(StatusCode::TOO_MANY_REQUESTS, Outcome::QueueFull, Duration::from_secs(1))
            }
            Self::Upstream(_) => row(StatusCode::BAD_GATEWAY, Outcome::UpstreamFailed),
            Self::Rejected(because) => match because {
                Rejection::QueueFull { retry_after } => {
                    later(StatusCode::TOO_MANY_REQUESTS, Outcome::QueueFull, *retry_after)
                }
                Rejection::QueueTimeout { retry_after } | Rejection::TooLate { retry_after } => {
                    later(StatusCode::GATEWAY_TIMEOUT, Outcome::QueueTimeout, *retry_after)
                }
                Rejection::NoCapacity { retry_after, .. } => {
                    later(StatusCode::SERVICE_UNAVAILABLE, Outcome::NoCapacity, *retry_after)
                }
                Rejection::BudgetExhausted { ends_in, .. } => {
                    later(StatusCode::SERVICE_UNAVAILABLE, Outcome::BudgetExhausted, *ends_in)
                }
                Rejection::NoAgents => row(StatusCode::SERVICE_UNAVAILABLE, Outcome::NoAgents),
                Rejection::ShuttingDown => {
                    later(StatusCode::SERVICE_UNAVAILABLE, Outcome::ShuttingDown, Duration::from_secs(1))
                }
                Rejection::UpstreamFailed { .. } => row(StatusCode::BAD_GATEWAY, Outcome::UpstreamFailed),
            },
        }
    }

    /// What the request is counted as: its code.
    pub(super) fn outcome(&self) -> Outcome {
        self.row().code
    }

    /// What it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.row().status
    }

    /// Whether the client may mean something else by the bytes that follow, so that they are not read as a request.
    pub(super) fn doubts_client(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::Upgrade)
    }

    /// The whole answer.
    pub(super) fn into_response(self, dialect: Dialect) -> Response<Bytes> {
        let row = self.row();
        let (status, code) = (row.status, row.code.value());
        let body = error_body(dialect, status, code, &self.to_string());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = row.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        response
    }
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    /// In events alone: a whole answer has it in its head.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error<'a>,
}

fn error_body(dialect: Dialect, status: StatusCode, code: &str, message: &str) -> Bytes {
    let error = |kind| Error { message, kind, code: Some(code), status: None, retry_after: None };
    let json = match dialect {
        Dialect::OpenAi | Dialect::LlamaCpp | Dialect::Responses => {
            serde_json::to_vec(&OpenAi { error: error(openai_type(status)) })
        }
        Dialect::Anthropic => {
            serde_json::to_vec(&Anthropic { kind: "error", error: error(anthropic_type(status)) })
        }
    };
    // Plain structs of strings always serialise.
    json.unwrap_or_default().into()
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "unavailable_error",
        _ => "server_error",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_of_the_table_has_its_status_and_code() {
        let second = Duration::from_secs(1);
        let cases = [
            (Refusal::Rejected(Rejection::QueueFull { retry_after: second }), 429, "queue_full", true),
            (Refusal::BytesFull, 429, "queue_full", true),
            (Refusal::Rejected(Rejection::QueueTimeout { retry_after: second }), 504, "queue_timeout", true),
            (Refusal::Rejected(Rejection::TooLate { retry_after: second }), 504, "queue_timeout", true),
            (
                Refusal::Rejected(Rejection::NoCapacity { retry_after: second, cause: "quota".into() }),
                503,
                "no_capacity",
                true,
            ),
            (
                Refusal::Rejected(Rejection::BudgetExhausted { ends_in: second, ends_at: second }),
                503,
                "budget_exhausted",
                true,
            ),
            (Refusal::Rejected(Rejection::NoAgents), 503, "no_agents", false),
            (Refusal::Rejected(Rejection::ShuttingDown), 503, "shutting_down", true),
            (Refusal::Upstream("reset".into()), 502, "upstream_failed", false),
            (Refusal::TooLarge { max: 9 }, 413, "request_too_large", false),
            (Refusal::Forbidden, 403, "forbidden", false),
            (Refusal::Upgrade, 501, "upgrade_refused", false),
            (Refusal::Unauthorized, 401, "invalid_api_key", false),
        ];
        for (refusal, status, code, says_when) in cases {
            let row = refusal.row();
            assert_eq!(
                (row.status.as_u16(), row.code.value(), row.retry_after.is_some()),
                (status, code, says_when)
            );
            let response = refusal.into_response(Dialect::OpenAi);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), says_when);
        }
    }

    #[test]
    fn the_cause_is_in_the_message() {
        let refusal = Refusal::Rejected(Rejection::NoCapacity {
            retry_after: Duration::ZERO,
            cause: "no such model".into(),
        });
        assert!(refusal.to_string().contains("no such model"));
    }

    #[test]
    fn errors_speak_the_callers_dialect() {
        let body = |dialect| {
            let body = error_body(dialect, StatusCode::TOO_MANY_REQUESTS, "queue_full", "full");
            String::from_utf8(body.to_vec()).unwrap()
        };
        let openai = r#"{"error":{"message":"full","type":"rate_limit_error","code":"queue_full"}}"#;
        assert_eq!(body(Dialect::OpenAi), openai);
        assert_eq!(body(Dialect::LlamaCpp), openai);
        assert_eq!(body(Dialect::Responses), openai);
        assert_eq!(
            body(Dialect::Anthropic),
            r#"{"type":"error","error":{"message":"full","type":"rate_limit_error","code":"queue_full"}}"#
        );
    }
}
