//! What the management address answers to people and programs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Shared;
use super::auth::Admitted;
use super::refusal::Refusal;
use crate::dashboard::Snapshot;
use crate::metrics::prometheus;

/// The state as of now.
pub(super) fn snapshot(shared: &Shared) -> Snapshot {
    let puts = shared.config.cloudwatch.as_ref().map(|puts| puts.snapshot());
    let state = Snapshot::read(&shared.gate, shared.clock.now().wall, &shared.config.groups, puts);
    Snapshot { clients: Some(shared.config.clients), ..state }
}

/// `GET /api/v1/agents`, as of Paddler 1.x.
pub(super) async fn agents(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "agents": snapshot(&shared).agents }))
}

/// `GET /api/v1/state`: pools with their instances, and agents.
pub(super) async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(snapshot(&shared)))
}

/// Tells the page, whose scripts do not see the cookie, that there is a session that can be ended.
const SESSION: (HeaderName, &str) = (HeaderName::from_static("x-paddock-session"), "1");

/// `GET /api/v1/timeline`: the last hour.
pub(super) async fn timeline(
    State(shared): State<Arc<Shared>>,
    Extension(admitted): Extension<Admitted>,
) -> Response {
    let session = matches!(admitted, Admitted::Session(_)).then_some([SESSION]);
    (session, Json(shared.last_hour.timeline())).into_response()
}

/// `GET /health`: the gateway is well, whatever its servers are.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /metrics`: what Prometheus scrapes.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::scrape(&shared.gate))
}

/// Any other path.
pub(super) async fn not_found(request: Request) -> Response {
    let message = "no such path here: the management address serves /health, /metrics, /dashboard, /api/v1/agents, \
                   /api/v1/state, /api/v1/events, /api/v1/timeline and /status_update/{agent_id}; requests for llama.cpp go to the reverse proxy's address";
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).answer(request.into_body())
}

/// A path of this address, asked in a way that it does not know. The answer's `Allow` names those that it does.
pub(super) async fn wrong_method(request: Request) -> Response {
    let message = "this path does not serve this method: see the answer's Allow header";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).answer(request.into_body())
}
