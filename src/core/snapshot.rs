//! What the core would tell somebody who asks: plain values, ready to be shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Core;
use super::boot::Boot;
pub use super::boot::BootPhase;
use super::dispatch::LeaseState;
use super::event::{InstanceState, Notice, Phase};
use super::groups::Group;
use super::ids::{AgentKey, GroupId, InstanceId, PoolId};
pub use super::instances::Drain;
use super::instances::Instance;
use super::scaling::Pool;

/// The whole state at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// Which.
    pub pool: PoolId,
    /// Requests that wait for it.
    pub requests_buffered: usize,
    /// Slots of servers that are up.
    pub slots_total: u32,
    /// Of these, slots that may be given to the next request.
    pub slots_idle: u32,
    /// Of these, slots in use. The rest is not offered: its agents get nothing new.
    pub slots_processing: u32,
    /// Whether somebody else, such as an alarm, should start an instance: requests wait, none is there or asked for, and
    /// the core cannot ask, or its call failed or is late.
    pub wake_wanted: bool,
    /// Launches that have not registered yet.
    pub pending: usize,
    /// When the next boot is expected to end, in seconds.
    pub boot_eta_seconds: f64,
    /// The last launches' failure, until one registers.
    pub trouble: Option<Arc<str>>,
    /// The groups of its fleet, in the order in which they are tried; none without a fleet.
    pub groups: Vec<GroupSnapshot>,
    /// The instances of its fleet.
    pub instances: Vec<InstanceSnapshot>,
    /// The last boots, the latest last.
    pub boots: Vec<BootSnapshot>,
    /// The last things worth telling, the latest last.
    pub happenings: Vec<HappeningSnapshot>,
    /// What its instances ran and cost.
    pub ledger: LedgerSnapshot,
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HappeningSnapshot {
    /// How long ago, in seconds.
    pub ago_seconds: f64,
    /// What.
    pub kind: HappeningKind,
    /// In which group.
    pub group: Option<GroupId>,
    /// Which instance.
    pub instance: Option<InstanceId>,
    /// Why, in words.
    pub cause: Option<Arc<str>>,
}

/// What is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HappeningKind {
    /// The fleet was asked for an instance.
    WakeAsked,
    /// It refused.
    WakeFailed,
    /// Its answer was lost.
    WakeUnknown,
    /// Its group tried to launch an instance, and failed.
    LaunchFailed,
    /// An instance did not come up.
    BootFailed,
    /// An instance has slots to offer.
    Registered,
    /// Nothing new is sent to an instance, and it will end.
    DrainBegan,
    /// An instance ended that was not asked to.
    Lost,
    /// An instance ended that was.
    Ended,
}

/// What a pool's instances ran and cost, in UTC days and months. Every sum of money is an estimate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerSnapshot {
    /// Since the present day began.
    pub today: UsageSnapshot,
    /// Since the present month began.
    pub month: UsageSnapshot,
    /// Since this balancer began, and what it found that had run since the ledger was last kept.
    pub since_start: UsageSnapshot,
    /// The same of each group, but for the last.
    pub groups: Vec<LedgerGroupSnapshot>,
    /// The most that a day may cost, where that is limited.
    pub budget: Option<BudgetSnapshot>,
}

/// One group's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerGroupSnapshot {
    /// Which.
    pub group: GroupId,
    /// What an hour of one instance costs, in USD, where that is known.
    pub price_per_hour: Option<f64>,
    /// Since the present day began.
    pub today: UsageSnapshot,
    /// Since the present month began.
    pub month: UsageSnapshot,
}

/// What was used in a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageSnapshot {
    /// Of all instances together.
    pub instance_seconds: f64,
    /// Of these, with something to serve.
    pub busy_seconds: f64,
    /// The others: boots, the wait for the next request, and drains.
    pub idle_seconds: f64,
    /// What it cost, in USD; none without a price.
    pub cost_usd: Option<f64>,
    /// What one instance of the first group that never ends would have cost; none without a price.
    pub always_on_usd: Option<f64>,
}

/// A limit to what a day costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BudgetSnapshot {
    /// In USD.
    pub usd_per_day: f64,
    /// Whether nothing more is started today.
    pub is_exhausted: bool,
    /// When the next day begins, in seconds.
    pub ends_in_seconds: f64,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// Which.
    pub group: GroupId,
    /// What people call it. The core does not know: whoever shows it does.
    pub name: Option<Arc<str>>,
    /// How many instances it tries to have, where it keeps such a wish and was seen.
    pub desired: Option<u32>,
    /// How much of that was given up.
    pub abandoned: u32,
    /// It never has fewer.
    pub min: u32,
    /// It never has more; none without a limit of its own.
    pub max: Option<u32>,
    /// How much longer it is left alone, in seconds.
    pub left_alone_seconds: Option<f64>,
    /// Why, or why it last was.
    pub cause: Option<Arc<str>>,
    /// Whether another balancer works on it.
    pub has_rival: bool,
}

/// A boot that came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootSnapshot {
    /// Of which instance.
    pub instance: InstanceId,
    /// From the call to the first slot.
    pub total_seconds: f64,
    /// Each phase.
    pub phase_seconds: BTreeMap<BootPhase, f64>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSnapshot {
    /// Its id.
    pub id: InstanceId,
    /// Its group.
    pub group: GroupId,
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
    /// The phase that its boot is in, while it boots.
    pub boot_phase: Option<BootPhase>,
    /// The phases of its boot, as far as they are over and known.
    pub phase_seconds: BTreeMap<BootPhase, f64>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The cloud's zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The fleet's group that it says it belongs to.
    pub group: Option<Arc<str>>,
    /// That its machine is about to end.
    pub notice: Option<Notice>,
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
    /// Slots that may be given to the next request: none if it is not eligible.
    pub slots_idle: u32,
    /// Slots in use.
    pub slots_processing: u32,
    /// Of these, slots that others than this gateway use.
    pub slots_foreign: u32,
    /// Of these, slots of requests that were cancelled: llama.cpp may still compute.
    pub slots_cooling: u32,
    /// Attempts that are not over.
    pub leases: usize,
}

/// What a snapshot says of all pools in sums: for somebody who looks often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Slots of servers that are up.
    pub slots_total: u32,
    /// Of these, those that are in use.
    pub slots_processing: u32,
    /// Instances that are there or asked for.
    pub instances: usize,
}

impl Core {
    /// How much there is, and how much of it is used.
    #[must_use]
    pub fn load(&self) -> Load {
        let connected = self.agents.iter().filter(|(_, agent)| agent.is_connected);
        let slots = connected.map(|(&key, agent)| (agent.report.slots_total, self.free(key, agent)));
        let (slots_total, free) = slots.fold((0, 0), |(total, free), (t, f)| (total + t, free + f));
        let instances = self.pools.values().map(Pool::instances_all).sum();
        Load { slots_total, slots_processing: slots_total - free, instances }
    }

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
                let groups = || pool.groups.iter().filter(|_| pool.config.has_fleet);
                PoolSnapshot {
                    pool: id,
                    requests_buffered: pool.queue.len(),
                    slots_total: own().map(|agent| agent.slots_total).sum(),
                    slots_idle: own().map(|agent| agent.slots_idle).sum(),
                    slots_processing: own().map(|agent| agent.slots_processing).sum(),
                    wake_wanted: pool.wants_wake(self.now),
                    pending: pool.pending(),
                    boot_eta_seconds: self.boot_eta(id).as_secs_f64(),
                    trouble: pool.trouble.cause(),
                    groups: groups().map(|(&id, group)| self.group_snapshot(id, group)).collect(),
                    instances: pool.instances.iter().map(|(id, i)| self.instance_snapshot(id, i)).collect(),
                    boots: pool.boots.last().map(boot_snapshot).collect(),
                    happenings: pool.journal.told(self.now),
                    ledger: self.ledger_snapshot(pool),
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

    fn group_snapshot(&self, id: GroupId, group: &Group) -> GroupSnapshot {
        let left_alone = group.blocked_until(self.now).map(|until| until.since(self.now));
        GroupSnapshot {
            group: id,
            name: None,
            desired: group.desired,
            abandoned: group.abandoned,
            min: group.min,
            max: (group.max != u32::MAX).then_some(group.max),
            left_alone_seconds: left_alone.map(|left| left.as_secs_f64()),
            cause: group.cause.clone(),
            has_rival: group.has_rival,
        }
    }

    fn instance_snapshot(&self, id: &InstanceId, instance: &Instance) -> InstanceSnapshot {
        let phases = BootPhase::ALL.into_iter().zip(instance.boot.phases());
        InstanceSnapshot {
            id: id.clone(),
            group: instance.group,
            state: instance.state.clone(),
            phase: instance.phase,
            address: instance.address,
            age_seconds: self.now.since(instance.launched_at).as_secs_f64(),
            registered: instance.registered_at.is_some(),
            drain: instance.drain,
            boot_phase: BootPhase::ALL.get(instance.boot.step().0).copied().filter(|_| instance.is_booting()),
            phase_seconds: phases.filter_map(|(phase, took)| Some((phase, took?.as_secs_f64()))).collect(),
        }
    }

    fn agent_snapshot(&self, key: AgentKey) -> Option<AgentSnapshot> {
        let agent = self.agents.get(&key)?;
        let report = &agent.report;
        let is_eligible = self.is_eligible(key, agent);
        let free = self.free(key, agent);
        let leases = agent.leases.iter().filter_map(|id| self.leases.get(id));
        let cooling = leases.filter(|lease| matches!(lease.state, LeaseState::Cooling { .. }));
        Some(AgentSnapshot {
            key,
            pool: agent.pool,
            name: report.name.clone(),
            address: report.address,
            instance: agent.instance.clone(),
            error: report.error.clone().or_else(|| agent.quarantined_until.and(agent.trouble.clone())),
            zone: report.zone.clone(),
            group: report.group.clone(),
            notice: report.notice,
            is_authorized: report.is_authorized,
            is_slots_endpoint_enabled: report.is_slots_endpoint_enabled,
            phase: report.phase,
            is_connected: agent.is_connected,
            is_eligible,
            silent_for: self.now.since(agent.reported_at),
            quarantined_for: agent.quarantined_until.map(|until| until.since(self.now)),
            slots_total: report.slots_total,
            slots_idle: if is_eligible { free } else { 0 },
            slots_processing: report.slots_total - free,
            slots_foreign: agent.foreign,
            slots_cooling: cooling.map(|lease| lease.slots).sum(),
            leases: agent.leases.len(),
        })
    }
}

fn boot_snapshot(boot: &Boot) -> BootSnapshot {
    let phases = BootPhase::ALL.into_iter().zip(boot.phases);
    BootSnapshot {
        instance: boot.instance.clone(),
        total_seconds: boot.total().as_secs_f64(),
        phase_seconds: phases.map(|(phase, took)| (phase, took.as_secs_f64())).collect(),
    }
}
