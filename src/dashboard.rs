//! What views are shown: the page, the terminal view, and programs that ask.

#[cfg(test)]
pub(crate) mod sample;
pub mod terminal;
mod timeline;
pub mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::core::snapshot::{self, AgentSnapshot, PoolSnapshot};
use crate::core::{AgentId, AgentKey, Incarnation, InstanceId, Notice, Phase, PoolId};
use crate::gate::Gate;
use crate::metrics::cloudwatch::PutsSnapshot;
pub use timeline::LastHour;

/// Everything that is known at one moment: what `GET /api/v1/state` answers, and the only type that views see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the balancer.
    pub version: Arc<str>,
    /// When, as the time since the Unix epoch in seconds.
    pub at_seconds: f64,
    /// Requests that wait.
    pub requests_buffered: usize,
    /// Attempts that are not over, cooling ones included.
    pub leases: usize,
    /// Whether a drain of the gateway itself has begun.
    pub shutting_down: bool,
    /// Each pool.
    pub pools: Vec<PoolSnapshot>,
    /// Each agent, of all pools.
    pub agents: Vec<Agent>,
    /// How publishing to CloudWatch goes, if it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudwatch: Option<PutsSnapshot>,
    /// Where clients call, if whoever shows it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
}

/// Where clients call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// The address that is listened on, which may be all of the machine's.
    pub address: SocketAddr,
    /// Whether TLS is spoken there.
    pub is_tls: bool,
}

/// One agent. The fields down to `slots_processing` have the names and types of Paddler 1.x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The id that it reports under.
    pub agent_id: Arc<str>,
    /// The name that people gave it.
    pub agent_name: Option<Arc<str>>,
    /// What is wrong, in words.
    pub error: Option<Arc<str>>,
    /// Where requests are sent.
    pub external_llamacpp_addr: SocketAddr,
    /// Whether llama.cpp accepts its key.
    pub is_authorized: Option<bool>,
    /// Whether llama.cpp's `/slots` is on.
    pub is_slots_endpoint_enabled: Option<bool>,
    /// When it last reported.
    pub last_update: SystemTime,
    /// Until when nothing more is sent there after a failure.
    pub quarantined_until: Option<SystemTime>,
    /// Slots that may be given to the next request: none if it is not eligible.
    pub slots_idle: u32,
    /// Slots in use.
    pub slots_processing: u32,
    /// Slots in all.
    pub slots_total: u32,
    /// Of those in use, slots that others than this gateway use.
    pub slots_foreign: u32,
    /// Of those in use, slots of requests that were cancelled: llama.cpp may still compute.
    #[serde(default)]
    pub slots_cooling: u32,
    /// Attempts that are not over.
    pub leases: usize,
    /// How far its server has come.
    pub phase: Phase,
    /// The instance that it speaks for.
    pub instance: Option<InstanceId>,
    /// The cloud's zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The group that it says it belongs to.
    pub group: Option<Arc<str>>,
    /// That its machine is about to end.
    pub notice: Option<Notice>,
    /// The pool that it serves.
    pub pool: PoolId,
    /// Which life of the agent.
    pub incarnation: Incarnation,
    /// False once its connection ended or it was silent for long. It is listed while answers of its server are under
    /// way.
    pub is_connected: bool,
    /// Whether new requests may go there.
    pub is_eligible: bool,
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
            slots_idle: agent.slots_idle,
            slots_processing: agent.slots_processing,
            slots_total: agent.slots_total,
            slots_foreign: agent.slots_foreign,
            slots_cooling: agent.slots_cooling,
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

impl Snapshot {
    /// As of now, which is `wall` since the Unix epoch. `groups` are the names of the fleet's groups, in their order.
    #[must_use]
    pub fn read(gate: &Gate, wall: Duration, groups: &[Arc<str>], cloudwatch: Option<PutsSnapshot>) -> Self {
        let (state, ids) = gate.snapshot();
        let snapshot::Snapshot { requests_buffered, leases, shutting_down, mut pools, agents } = state;
        for group in pools.iter_mut().flat_map(|pool| &mut pool.groups) {
            group.name = groups.get(group.group.0 as usize).cloned();
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
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            at_seconds: wall.as_secs_f64(),
            requests_buffered,
            leases,
            shutting_down,
            pools,
            agents,
            cloudwatch,
            clients: None,
        }
    }
}

/// What the last hour was, in even steps: what `GET /api/v1/timeline` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// From one point to the next, in seconds.
    pub step_seconds: f64,
    /// The latest last. Fewer until the balancer has run for an hour.
    pub points: Vec<Point>,
}

/// One moment of the last hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When its step ended, as the time since the Unix epoch in seconds.
    pub at_seconds: f64,
    /// The most requests that waited at any time of the step.
    pub requests_buffered: usize,
    /// Slots of servers that are up, at its end.
    pub slots_total: u32,
    /// Of these, the most that were in use at any look during the step.
    pub slots_processing: u32,
    /// Instances that are there or asked for, at its end.
    pub instances: usize,
}
