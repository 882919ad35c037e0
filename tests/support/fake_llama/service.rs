//! What a fake server answers to one request.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::Shared;
use super::answer::{self, Body, Dialect};
use super::behaviour::{Behaviour, Death, slots_taken};
use super::connection::Busy;
use super::ledger::Seen;

/// An error of the service is how hyper is told to cut the connection.
pub(super) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    busy: Busy,
    connection: u64,
    is_stale: bool,
) -> Result<Response<Body>, io::Error> {
    if is_stale {
        shared.ledger.count(|stats| stats.refused_stale += 1);
        return Err(cut());
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let sha256: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = head.uri.path().to_owned();
    shared.ledger.saw(Seen {
        method: head.method.clone(),
        target: head.uri.to_string(),
        headers: head.headers.clone(),
        body_sha256: sha256.clone(),
        body_length: body.len(),
        connection,
    });
    let mut response = if shared.is_loading.load(Ordering::SeqCst) {
        shared.ledger.count(|stats| stats.refused_loading += 1);
        error(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "Loading model")
    } else if path != "/health" && !is_authorized(&head.headers, shared.config.api_key.as_deref()) {
        error(StatusCode::UNAUTHORIZED, "authentication_error", "Invalid API Key")
    } else if let Some(dialect) = Dialect::of(&path).filter(|_| head.method == Method::POST) {
        infer(&shared, dialect, &body, busy).await?
    } else {
        shared.ledger.count(|stats| stats.slotless += 1);
        slotless(&shared, &head.method, &path, &body)
    };
    // The echo: what came, whatever the answer is.
    let headers = response.headers_mut();
    headers.insert("x-fake-body-sha256", HeaderValue::try_from(sha256).map_err(io::Error::other)?);
    headers.insert("x-fake-body-length", HeaderValue::from(body.len()));
    headers.insert("x-fake-connection", HeaderValue::from(connection));
    Ok(response)
}

/// A request that takes a slot.
async fn infer(
    shared: &Arc<Shared>,
    dialect: Dialect,
    body: &Bytes,
    busy: Busy,
) -> Result<Response<Body>, io::Error> {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(cause) => {
            return Ok(error(StatusCode::BAD_REQUEST, "invalid_request_error", &cause.to_string()));
        }
    };
    let behaviour = match Behaviour::of(&body, &shared.config.behaviour) {
        Ok(behaviour) => behaviour,
        Err(cause) => {
            return Ok(error(StatusCode::BAD_REQUEST, "invalid_request_error", &cause.to_string()));
        }
    };
    let task = shared.ledger.take(slots_taken(&body)).await;
    sleep(behaviour.delay()).await;
    if let Some(name) = &behaviour.hold {
        held(shared, name).await;
    }
    if behaviour.die == Some(Death::BeforeHead) {
        task.die();
        return Err(cut());
    }
    let status = StatusCode::from_u16(behaviour.status).map_err(io::Error::other)?;
    if status.is_client_error() || status.is_server_error() {
        task.complete();
        return Ok(error(status, "server_error", "as the request asked"));
    }
    if behaviour.empty {
        task.complete();
        return Ok(with_status(status, Response::new(answer::whole(""))));
    }
    let is_streaming = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    if is_streaming || behaviour.die == Some(Death::MidStream) || behaviour.hold_stream.is_some() {
        let pieces = if is_streaming {
            dialect.events(behaviour.chunks)
        } else {
            answer::halves(&dialect.whole(behaviour.chunks, &shared.config.model).to_string())
        };
        let kind = if is_streaming { "text/event-stream" } else { "application/json; charset=utf-8" };
        let stream = answer::Pieces { pieces, behaviour, task, busy, shared: Arc::clone(shared) };
        let mut response = with_status(status, Response::new(stream.into_body()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        return Ok(response);
    }
    for _ in 1..behaviour.chunks {
        sleep(behaviour.chunk_delay()).await;
    }
    task.complete();
    Ok(with_status(status, json_response(&dialect.whole(behaviour.chunks, &shared.config.model))))
}

/// Waits until the test says so.
pub(super) async fn held(shared: &Shared, name: &str) {
    // The sender lives in `shared`: the wait cannot fail.
    let _ = shared.released.subscribe().wait_for(|names| names.contains(name)).await;
}

pub(super) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose")
}

fn slotless(shared: &Shared, method: &Method, path: &str, body: &Bytes) -> Response<Body> {
    let model = &shared.config.model;
    match (method.as_str(), path) {
        ("GET", "/health" | "/v1/health") => json_response(&json!({ "status": "ok" })),
        ("GET", "/slots") if shared.config.is_slots_endpoint_disabled => error(
            StatusCode::NOT_IMPLEMENTED,
            "not_supported_error",
            "This server does not support slots endpoint.",
        ),
        ("GET", "/slots") => {
            let busy = shared.ledger.stats().busy + usize::from(shared.foreign.load(Ordering::SeqCst));
            let slots = (0..shared.config.slots).map(
                |id| json!({ "id": id, "n_ctx": 4096, "speculative": false, "is_processing": id < busy }),
            );
            json_response(&slots.collect())
        }
        ("GET", "/props") => json_response(&json!({
            "total_slots": shared.config.slots,
            "default_generation_settings": { "n_ctx": 4096 },
            "model_alias": model,
            "is_sleeping": false,
        })),
        ("GET", "/models" | "/v1/models") => {
            json_response(&json!({ "object": "list", "data": [{ "id": model, "object": "model" }] }))
        }
        ("POST", "/tokenize") => json_response(&json!({ "tokens": body.iter().collect::<Vec<_>>() })),
        _ => error(StatusCode::NOT_FOUND, "not_found_error", "File Not Found"),
    }
}

fn is_authorized(headers: &HeaderMap, key: Option<&str>) -> bool {
    let Some(key) = key else { return true };
    let given = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    given("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(key)
        || given("x-api-key") == Some(key)
}

fn with_status(status: StatusCode, mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = status;
    response
}

fn json_response(value: &Value) -> Response<Body> {
    let mut response = Response::new(answer::whole(&value.to_string()));
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let body = json!({ "error": { "code": status.as_u16(), "message": message, "type": kind } });
    with_status(status, json_response(&body))
}
