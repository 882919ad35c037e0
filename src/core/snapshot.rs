//! What the core would tell somebody who asks: plain values, ready to be shown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Core;
use super::event::{InstanceState, Phase};
use super::ids::{AgentKey, InstanceId, PoolId};
pub use super::instances::Drain;

/// The whole state at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Requests that wait.
    pub requests_buffered: usize,
    /// Attempts that are not over, cooling ones included.
    pub leases: usize,
    /// Whether a drain of the gateway itself has begun.
    pub shutting_down: bool,
    /// Each pool.
    pub pools: Vec<PoolSnapshot>,
    /// Each agent, of all pools.
    pub agents: Vec<AgentSnapshot>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolSnapshot {
    /// Which.
    pub pool: PoolId,
    /// Requests that wait for it.
    pub requests_buffered: usize,
    /// Slots of servers that are up.
    pub slots_total: u32,
    /// Of these, slots that may be given to the next request.
    pub slots_idle: u32,
    /// The others.
    pub slots_processing: u32,
    /// Launches that have not registered yet.
    pub pending: usize,
    /// When the next boot is expected to end, in seconds.
    pub boot_eta_seconds: f64,
    /// The last launches' failure, until one registers.
    pub trouble: Option<Arc<str>>,
    /// The instances of its fleet.
    pub instances: Vec<InstanceSnapshot>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceSnapshot {
    /// Its id.
    pub id: InstanceId,
    /// As its fleet calls it.
    pub state: InstanceState,
    /// How far its server has come.
    pub phase: Phase,
    /// Where its server listens.
    pub address: Option<SocketAddr>,
    /// Since its launch, in seconds.
    pub age_seconds: f64,
    /// Whether it has ever offered a slot.
    pub registered: bool,
    /// Why it leaves, if it does.
    pub drain: Option<Drain>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentSnapshot {
    /// Its key in the core.
    pub key: AgentKey,
    /// The pool that it serves.
    pub pool: PoolId,
    /// The name that people gave it.
    pub name: Option<Arc<str>>,
    /// Where requests are sent.
    pub address: SocketAddr,
    /// The instance that it speaks for.
    pub instance: Option<InstanceId>,
    /// What is wrong, in words.
    pub error: Option<Arc<str>>,
    /// Whether llama.cpp accepts its key.
    pub is_authorized: Option<bool>,
    /// Whether llama.cpp's `/slots` is on.
    pub is_slots_endpoint_enabled: Option<bool>,
    /// How far its server has come.
    pub phase: Phase,
    /// Whether it is heard.
    pub is_connected: bool,
    /// Whether new requests may go there.
    pub is_eligible: bool,
    /// Since its last report.
    pub silent_for: Duration,
    /// How long nothing more is sent there after a failure.
    pub quarantined_for: Option<Duration>,
    /// Slots in all.
    pub slots_total: u32,
    /// Slots that may be given to the next request.
    pub slots_idle: u32,
    /// The others.
    pub slots_processing: u32,
    /// Of these, slots that others than this gateway use.
    pub slots_foreign: u32,
    /// Attempts that are not over.
    pub leases: usize,
}

impl Core {
    /// The state, as of the last event.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let agents: Vec<AgentSnapshot> =
            self.agents.keys().filter_map(|&key| self.agent_snapshot(key)).collect();
        let pools = self
            .pools
            .iter()
            .map(|(&id, pool)| {
                let own = || agents.iter().filter(|agent| agent.pool == id && agent.is_connected);
                PoolSnapshot {
                    pool: id,
                    requests_buffered: pool.queue.len(),
                    slots_total: own().map(|agent| agent.slots_total).sum(),
                    slots_idle: own().map(|agent| agent.slots_idle).sum(),
                    slots_processing: own().map(|agent| agent.slots_processing).sum(),
                    pending: pool.pending(),
                    boot_eta_seconds: self.boot_eta(id).as_secs_f64(),
                    trouble: pool.trouble.cause(),
                    instances: pool
                        .instances
                        .iter()
                        .map(|(id, instance)| InstanceSnapshot {
                            id: id.clone(),
                            state: instance.state.clone(),
                            phase: instance.phase,
                            address: instance.address,
                            age_seconds: self.now.since(instance.launched_at).as_secs_f64(),
                            registered: instance.registered_at.is_some(),
                            drain: instance.drain,
                        })
                        .collect(),
                }
            })
            .collect();
        Snapshot {
            requests_buffered: self.queued,
            leases: self.leases.len(),
            shutting_down: self.shutting_down,
            pools,
            agents,
        }
    }

    fn agent_snapshot(&self, key: AgentKey) -> Option<AgentSnapshot> {
        let agent = self.agents.get(&key)?;
        let report = &agent.report;
        let is_eligible = self.is_eligible(key, agent);
        let slots_idle = self.free(key, agent);
        Some(AgentSnapshot {
            key,
            pool: agent.pool,
            name: report.name.clone(),
            address: report.address,
            instance: agent.instance.clone(),
            error: report.error.clone().or_else(|| agent.quarantined_until.and(agent.trouble.clone())),
            is_authorized: report.is_authorized,
            is_slots_endpoint_enabled: report.is_slots_endpoint_enabled,
            phase: report.phase,
            is_connected: agent.is_connected,
            is_eligible,
            silent_for: self.now.since(agent.reported_at),
            quarantined_for: agent.quarantined_until.map(|until| until.since(self.now)),
            slots_total: report.slots_total,
            slots_idle,
            slots_processing: report.slots_total - slots_idle,
            slots_foreign: agent.foreign,
            leases: agent.leases.len(),
        })
    }
}
