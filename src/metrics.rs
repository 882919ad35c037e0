//! What is measured, in one place for every way of publishing it.

mod aws_calls;
pub mod cloudwatch;
mod each;
mod histogram;
mod instruments;
mod label;
pub mod prometheus;
pub mod statsd;
#[cfg(test)]
mod tests;

use crate::core::snapshot::{InstanceSnapshot, PoolSnapshot, Snapshot};
use crate::core::{BootPhases, InstanceState};
use crate::gate::{Gate, Peak};

pub use aws_calls::{AwsCalls, CountCalls};
pub use instruments::Instruments;
pub use label::{BootPart, CallResult, Label, Outcome, State, UpstreamError, WakeResult};

/// The state in numbers, summed over the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Requests that wait at this moment.
    pub requests_buffered: u64,
    /// Slots of servers that are up.
    pub slots_total: u64,
    /// Of these, slots that may be given to the next request.
    pub slots_idle: u64,
    /// Of these, slots in use; the rest is not offered.
    pub slots_processing: u64,
    /// Agents that are heard.
    pub agents: u64,
    /// Whether somebody else should start an instance.
    pub wake_wanted: bool,
    /// Instances, by the places of [`State::ALL`].
    pub instances: [u64; State::ALL.len()],
}

/// What StatsD and CloudWatch call what they are told, and how much of it there is.
pub type Named = [(&'static str, u64); 6];

impl Gauges {
    /// All of them, as of one moment.
    #[must_use]
    pub fn read(gate: &Gate) -> Self {
        Self::of(&gate.snapshot().0)
    }

    fn of(snapshot: &Snapshot) -> Self {
        let sum = |of: fn(&PoolSnapshot) -> u32| snapshot.pools.iter().map(|pool| u64::from(of(pool))).sum();
        Self {
            requests_buffered: snapshot.requests_buffered as u64,
            slots_total: sum(|pool| pool.slots_total),
            slots_idle: sum(|pool| pool.slots_idle),
            slots_processing: sum(|pool| pool.slots_processing),
            agents: snapshot.agents.iter().filter(|agent| agent.is_connected).count() as u64,
            wake_wanted: snapshot.pools.iter().any(|pool| pool.wake_wanted),
            instances: instances(&snapshot.pools),
        }
    }

    /// For those who look now and then: of what comes and goes, the greatest since they last looked.
    #[must_use]
    pub fn named(&self, peak: Peak) -> Named {
        [
            ("requests_buffered", peak.queued as u64),
            ("slots_idle", self.slots_idle),
            ("slots_processing", self.slots_processing),
            ("slots_total", self.slots_total),
            ("agents", self.agents),
            ("wake_wanted", u64::from(peak.wake_wanted)),
        ]
    }
}

/// Instances that are there or asked for, by the places of [`State::ALL`].
#[must_use]
pub fn instances(pools: &[PoolSnapshot]) -> [u64; State::ALL.len()] {
    let mut instances = [0; State::ALL.len()];
    for pool in pools {
        let booting = pool.instances.iter().filter(|instance| instance.boot_phase.is_some()).count();
        instances[State::Launching.place()] += pool.pending.saturating_sub(booting) as u64;
        for instance in &pool.instances {
            instances[state(instance).place()] += 1;
        }
    }
    instances
}

/// What an instance is good for, by what its fleet calls it and what is known here.
fn state(instance: &InstanceSnapshot) -> State {
    match &instance.state {
        InstanceState::Aside => State::Aside,
        InstanceState::TerminatingWait | InstanceState::Terminating | InstanceState::Ended { .. } => {
            State::Ending
        }
        InstanceState::Pending | InstanceState::Running => match (instance.drain, instance.registered) {
            (Some(_), _) => State::Draining,
            (None, true) => State::Serving,
            (None, false) => State::Booting,
        },
    }
}
