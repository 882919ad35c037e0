//! Snapshots as a balancer may give them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Agent, Snapshot};
use crate::clock::Clock;
use crate::core::snapshot::{
    BootPhase, BootSnapshot, BudgetSnapshot, GroupSnapshot, HappeningKind, HappeningSnapshot,
    InstanceSnapshot, UsageSnapshot,
};
use crate::core::{GroupId, InstanceId, InstanceState, Phase};
use crate::management::fixture::{gate, report};

/// When they were taken.
pub(crate) const AT: Duration = Duration::from_secs(1000);

/// Nothing runs.
pub(crate) fn at_zero() -> Snapshot {
    Snapshot::read(&gate(Clock::start()), AT, &[], None)
}

/// One agent with two free slots.
pub(crate) fn serving() -> Snapshot {
    let gate = gate(Clock::start());
    let by = gate.register("agent-1", Some("1"));
    gate.report(by, &Arc::from("agent-1"), report(8088, 2));
    let mut state = Snapshot::read(&gate, AT, &[], None);
    for agent in &mut state.agents {
        agent.last_update = SystemTime::UNIX_EPOCH + AT;
    }
    state
}

/// Requests wait for an instance that loads the model.
pub(crate) fn booting() -> Snapshot {
    let mut state = at_zero();
    let pool = &mut state.pools[0];
    pool.groups = vec![group()];
    pool.instances = vec![InstanceSnapshot {
        phase: Phase::Loading,
        age_seconds: 42.0,
        registered: false,
        boot_phase: Some(BootPhase::Load),
        phase_seconds: BTreeMap::from([(BootPhase::Call, 2.0), (BootPhase::Boot, 20.0)]),
        ..instance("i-booting")
    }];
    pool.pending = 1;
    pool.boot_eta_seconds = 18.0;
    pool.requests_buffered = 3;
    state.requests_buffered = 3;
    state
}

/// Three agents with a queue, the last boots, happenings, and what it costs.
pub(crate) fn busy() -> Snapshot {
    let mut state = serving();
    let first = state.agents.remove(0);
    let agent = |name: &str, port: u16, idle: u32| Agent {
        agent_id: format!("id-of-{name}").into(),
        agent_name: Some(name.into()),
        external_llamacpp_addr: ([10, 0, 0, 7], port).into(),
        slots_idle: idle,
        slots_processing: 4 - idle,
        slots_total: 4,
        leases: 4 - idle as usize,
        instance: Some(InstanceId::from(format!("i-{name}").as_str())),
        zone: Some("eu-central-1a".into()),
        group: Some("llama-spot".into()),
        ..first.clone()
    };
    state.agents = vec![agent("charlie", 8003, 0), agent("alpha", 8001, 3), agent("bravo", 8002, 1)];
    state.agents[1].is_slots_endpoint_enabled = Some(false);
    state.agents[2].last_update -= Duration::from_secs(2);
    state.requests_buffered = 12;
    let pool = &mut state.pools[0];
    pool.requests_buffered = 12;
    (pool.slots_total, pool.slots_idle, pool.slots_processing) = (12, 4, 8);
    pool.groups = vec![group()];
    pool.instances = vec![instance("i-charlie"), instance("i-alpha"), instance("i-bravo")];
    pool.boots = vec![boot("i-alpha", 71.0), boot("i-bravo", 64.0)];
    pool.happenings = vec![
        happening(120.0, HappeningKind::WakeAsked, "a request waits"),
        happening(90.0, HappeningKind::LaunchFailed, "InsufficientInstanceCapacity"),
        happening(3.0, HappeningKind::Registered, ""),
    ];
    pool.ledger.today = UsageSnapshot {
        instance_seconds: 3600.0,
        busy_seconds: 1800.0,
        idle_seconds: 1800.0,
        cost_usd: Some(1.234),
        always_on_usd: Some(12.4),
    };
    pool.ledger.budget =
        Some(BudgetSnapshot { usd_per_day: 5.0, is_exhausted: false, ends_in_seconds: 7200.0 });
    state
}

fn group() -> GroupSnapshot {
    GroupSnapshot {
        group: GroupId(0),
        name: Some("llama-spot".into()),
        desired: Some(1),
        abandoned: 0,
        min: 0,
        max: Some(4),
        left_alone_seconds: None,
        cause: None,
        has_rival: false,
    }
}

fn instance(id: &str) -> InstanceSnapshot {
    InstanceSnapshot {
        id: id.into(),
        group: GroupId(0),
        state: InstanceState::Running,
        phase: Phase::Ready,
        address: None,
        age_seconds: 400.0,
        registered: true,
        drain: None,
        boot_phase: None,
        phase_seconds: BTreeMap::new(),
    }
}

fn boot(id: &str, total_seconds: f64) -> BootSnapshot {
    let rest = total_seconds - 20.0;
    BootSnapshot {
        instance: id.into(),
        total_seconds,
        phase_seconds: BTreeMap::from([
            (BootPhase::Call, 2.0),
            (BootPhase::Pending, 8.0),
            (BootPhase::Boot, 10.0),
            (BootPhase::Load, rest),
        ]),
    }
}

fn happening(ago_seconds: f64, kind: HappeningKind, cause: &str) -> HappeningSnapshot {
    HappeningSnapshot {
        ago_seconds,
        kind,
        group: Some(GroupId(0)),
        instance: Some("i-bravo".into()),
        cause: Some(cause.into()).filter(|_| !cause.is_empty()),
    }
}
