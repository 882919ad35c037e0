//! What the management address answers to people and programs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::Shared;
use super::refusal::Refusal;
use crate::core::snapshot::{AgentSnapshot, PoolSnapshot, Snapshot};
use crate::core::{AgentId, AgentKey, Incarnation, InstanceId, Notice, Phase, PoolId};
use crate::metrics::cloudwatch::PutsSnapshot;
use crate::metrics::prometheus;

/// One agent. The fields down to `slots_processing` have the names and types of Paddler 1.x.
#[derive(Debug, Serialize)]
struct Agent {
    agent_id: Arc<str>,
    agent_name: Option<Arc<str>>,
    error: Option<Arc<str>>,
    external_llamacpp_addr: SocketAddr,
    is_authorized: Option<bool>,
    is_slots_endpoint_enabled: Option<bool>,
    last_update: SystemTime,
    quarantined_until: Option<SystemTime>,
    slots_idle: u32,
    slots_processing: u32,
    slots_total: u32,
    slots_foreign: u32,
    leases: usize,
    phase: Phase,
    instance: Option<InstanceId>,
    /// The cloud's zone that it is in, and the group that it says it belongs to.
    zone: Option<Arc<str>>,
    group: Option<Arc<str>>,
    /// That its machine is about to end.
    notice: Option<Notice>,
    pool: PoolId,
    /// Which life of the agent.
    incarnation: Incarnation,
    /// False once its connection ended or it was silent for long. It is listed while answers of its server are under
    /// way.
    is_connected: bool,
    /// Whether new requests may go there.
    is_eligible: bool,
}

impl Agent {
    /// `wall` is the time since the Unix epoch at which the snapshot was taken.
    fn new(agent: AgentSnapshot, agent_id: Arc<str>, wall: Duration) -> Self {
        let at = |since_epoch| SystemTime::UNIX_EPOCH + since_epoch;
        Self {
            agent_id,
            agent_name: agent.name,
            error: agent.error,
            external_llamacpp_addr: agent.address,
            is_authorized: agent.is_authorized,
            is_slots_endpoint_enabled: agent.is_slots_endpoint_enabled,
            last_update: at(wall.saturating_sub(agent.silent_for)),
            quarantined_until: agent.quarantined_for.map(|left| at(wall + left)),
            // Programs that know Paddler's fields alone add these up: nothing is free at an agent that is gone.
            slots_idle: if agent.is_connected { agent.slots_idle } else { 0 },
            slots_processing: agent.slots_processing,
            slots_total: agent.slots_total,
            slots_foreign: agent.slots_foreign,
            leases: agent.leases,
            phase: agent.phase,
            instance: agent.instance,
            zone: agent.zone,
            group: agent.group,
            notice: agent.notice,
            pool: agent.pool,
            incarnation: agent.key.incarnation,
            is_connected: agent.is_connected,
            is_eligible: agent.is_eligible,
        }
    }
}

/// Everything that is known.
#[derive(Debug, Serialize)]
struct Whole {
    version: &'static str,
    requests_buffered: usize,
    leases: usize,
    shutting_down: bool,
    pools: Vec<PoolSnapshot>,
    agents: Vec<Agent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloudwatch: Option<PutsSnapshot>,
}

fn whole(shared: &Shared) -> Whole {
    let (snapshot, ids) = shared.gate.snapshot();
    let Snapshot { requests_buffered, leases, shutting_down, mut pools, agents } = snapshot;
    let wall = shared.clock.now().wall;
    for group in pools.iter_mut().flat_map(|pool| &mut pool.groups) {
        group.name = shared.config.groups.get(group.group.0 as usize).cloned();
    }
    // An earlier life has the same id as its successor.
    let ids: BTreeMap<AgentId, Arc<str>> =
        ids.into_iter().map(|(AgentKey { agent, .. }, id)| (agent, id)).collect();
    let agents = agents
        .into_iter()
        .map(|agent| {
            let id = ids.get(&agent.key.agent).cloned().unwrap_or_else(|| agent.key.to_string().into());
            Agent::new(agent, id, wall)
        })
        .collect();
    let cloudwatch = shared.config.cloudwatch.as_ref().map(|puts| puts.snapshot());
    Whole {
        version: env!("CARGO_PKG_VERSION"),
        requests_buffered,
        leases,
        shutting_down,
        pools,
        agents,
        cloudwatch,
    }
}

/// `GET /api/v1/agents`, as of Paddler 1.x.
pub(super) async fn agents(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "agents": whole(&shared).agents }))
}

/// `GET /api/v1/state`: pools with their instances, and agents.
pub(super) async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!(whole(&shared)))
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
    let message = "no such path here: the management address serves /health, /metrics, /api/v1/agents, /api/v1/state and \
                   /status_update/{agent_id}; requests for llama.cpp go to the reverse proxy's address";
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).answer(request.into_body())
}

/// A path of this address, asked in a way that it does not know. The answer's `Allow` names those that it does.
pub(super) async fn wrong_method(request: Request) -> Response {
    let message = "this path does not serve this method: see the answer's Allow header";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).answer(request.into_body())
}
