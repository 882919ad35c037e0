//! Identifiers and time, as values.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A set of interchangeable instances that serve one model.
    PoolId(u32)
);
number_id!(
    /// A group of a pool's fleet, by its place in the order in which they are tried.
    GroupId(u32)
);
number_id!(
    /// Whose request it is: tenants take turns.
    TenantId(u32)
);
number_id!(
    /// One client request, from its arrival to its last byte, over all attempts.
    RequestId(u64)
);
number_id!(
    /// One attempt of one request on one agent's server.
    LeaseId(u64)
);
number_id!(
    /// An agent, by the id that it reports under.
    AgentId(u64)
);
number_id!(
    /// One life of an agent's process.
    Incarnation(u64)
);
number_id!(
    /// One connection over which an agent reports; later connections have greater numbers.
    Connection(u64)
);
number_id!(
    /// One call to a fleet, whose end may stay unknown.
    OperationId(u64)
);

/// One life of one agent: what holds leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentKey {
    /// Which agent.
    pub agent: AgentId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.agent, self.incarnation)
    }
}

/// What the fleet calls an instance: an EC2 instance id, or a name made for a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub Arc<str>);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for InstanceId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// Monotonic time since the process began. The only time that orders or expires anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Mono(pub Duration);

impl Mono {
    /// How long ago `earlier` was; zero if it is yet to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// The time of an event: one reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Orders and expires.
    pub mono: Mono,
    /// Since the Unix epoch. It is shown to people, and names the days of the ledger; nothing is ordered or expires by it.
    pub wall: Duration,
}
