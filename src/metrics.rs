//! What is measured, read in one place for every way of publishing it.

pub mod cloudwatch;
pub mod statsd;

use crate::gate::Gate;

/// The state in numbers, summed over the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Requests that wait at this moment.
    pub requests_buffered: u64,
    /// Slots of servers that are up.
    pub slots_total: u64,
    /// Of these, slots that may be given to the next request.
    pub slots_idle: u64,
    /// The others.
    pub slots_processing: u64,
    /// Agents that are heard.
    pub agents: u64,
}

impl Gauges {
    /// All of them, as of one moment.
    #[must_use]
    pub fn read(gate: &Gate) -> Self {
        let (snapshot, _) = gate.snapshot();
        let sum = |of: fn(&crate::core::snapshot::PoolSnapshot) -> u32| {
            snapshot.pools.iter().map(|pool| u64::from(of(pool))).sum()
        };
        Self {
            requests_buffered: snapshot.requests_buffered as u64,
            slots_total: sum(|pool| pool.slots_total),
            slots_idle: sum(|pool| pool.slots_idle),
            slots_processing: sum(|pool| pool.slots_processing),
            agents: snapshot.agents.iter().filter(|agent| agent.is_connected).count() as u64,
        }
    }
}
