//! What the core is told ([`Event`]), and what it answers ([`Command`], [`Plan`]). All of it is values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{
    AgentKey, Connection, GroupId, InstanceId, LeaseId, Mono, OperationId, PoolId, RequestId, TenantId,
};
use super::ledger::{History, LedgerRecord};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client's request was read whole and wants a server.
    RequestArrived(Arrival),
    /// The client of a queued request went away.
    RequestAbandoned {
        /// The request; one that is not queued any more is left alone.
        request: RequestId,
    },
    /// The upstream's answer began: from here on the request cannot be repeated.
    AnswerStarted {
        /// The attempt.
        lease: LeaseId,
    },
    /// An attempt is over and its request is answered.
    LeaseEnded {
        /// The attempt.
        lease: LeaseId,
        /// How.
        end: LeaseEnd,
    },
    /// An attempt failed before its answer began: release, quarantine and requeue are one event.
    AttemptFailed {
        /// The attempt.
        lease: LeaseId,
        /// Why, which decides whether the request may be repeated.
        kind: AttemptFailure,
        /// The error in words, for the agent's issue and the client's answer.
        cause: Arc<str>,
    },
    /// An agent told how its server is.
    AgentReported {
        /// Who.
        agent: AgentKey,
        /// Over which connection.
        connection: Connection,
        /// What.
        report: Box<AgentReport>,
    },
    /// An agent's connection ended.
    AgentDisconnected {
        /// Who.
        agent: AgentKey,
        /// Which connection; an older one than the latest is of no account.
        connection: Connection,
    },
    /// What the fleet consists of now.
    FleetObserved {
        /// The pool that the fleet serves.
        pool: PoolId,
        /// When the look began: it does not show what was changed after that.
        began: Mono,
        /// Every group that keeps a wish of its own; none for a fleet of processes.
        groups: BTreeMap<GroupId, GroupObserved>,
        /// Every instance; one that is missing is gone.
        instances: BTreeMap<InstanceId, InstanceObserved>,
    },
    /// A group tried to launch an instance by itself, for a wish that stands, and failed.
    LaunchFailed {
        /// The pool that the fleet serves.
        pool: PoolId,
        /// Which group.
        group: GroupId,
        /// Whether to try again there.
        kind: OperationFailure,
        /// Why, in words for people.
        cause: Arc<str>,
    },
    /// A planned action is being carried out.
    OperationStarted {
        /// Its number.
        operation: OperationId,
        /// What.
        action: Action,
    },
    /// The fleet did it.
    OperationSucceeded {
        /// Its number.
        operation: OperationId,
        /// For a wake: the instances that it launched, as far as the fleet names them.
        launched: Vec<InstanceId>,
        /// For a withdrawal: what the group wishes for now, as far as the fleet says.
        wish: Option<u32>,
    },
    /// The fleet refused it.
    OperationFailed {
        /// Its number.
        operation: OperationId,
        /// Whether to try again.
        kind: OperationFailure,
        /// Why, in words for people.
        cause: Arc<str>,
    },
    /// The answer was lost: it may have been done. Blocks a repeat until the fleet was observed.
    OperationUnknown {
        /// Its number.
        operation: OperationId,
    },
    /// What was kept of the time before this balancer: told once, before the first look at groups, and before what they
    /// remember.
    LedgerRestored {
        /// Whose ledger.
        pool: PoolId,
        /// What was kept of it.
        record: Option<Box<LedgerRecord>>,
    },
    /// What the fleet remembers since the record was taken, or since the day began: told once after
    /// [`Event::LedgerRestored`], before the first look or after it.
    HistoryTold {
        /// Whose ledger.
        pool: PoolId,
        /// None if it remembers nothing, or could not be asked.
        history: Option<History>,
    },
    /// The gateway is shutting down: what runs may finish, nothing new is accepted.
    ShutdownBegan,
}

/// A request that wants a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, never used before.
    pub request: RequestId,
    /// The pool that it was classified into.
    pub pool: PoolId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How many slots it takes; 0 needs a server but no slot.
    pub slots: u32,
    /// The client's own limit to its wait, where it gave one. It shortens the gateway's, and never extends it.
    pub wait_max: Option<Duration>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The last byte of the answer was seen: the slot is free.
    Done,
    /// The client left, or the answer was cut: llama.cpp may still compute, so the slot cools.
    Cancelled,
    /// Nothing was ever sent to the server.
    Unsent,
}

/// Why an attempt failed before its answer began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptFailure {
    /// No connection could be made.
    CouldNotConnect,
    /// The server answered `503 Loading model`.
    NotReady,
    /// A fresh connection died after the request was sent on it.
    Died,
    /// It was called back with [`Command::Recall`], because its machine is about to end.
    Recalled,
}

/// How an agent's server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentReport {
    /// The pool that it serves.
    pub pool: PoolId,
    /// The name that people gave it.
    pub name: Option<Arc<str>>,
    /// Where requests are sent.
    pub address: SocketAddr,
    /// The instance that it runs on, where it knows.
    pub instance: Option<InstanceId>,
    /// Where in its start the server is.
    pub phase: Phase,
    /// Slots in all. Zero unless `phase` is [`Phase::Ready`] and the slots are known.
    pub slots_total: u32,
    /// Slots that compute, whoever asked.
    pub slots_busy: u32,
    /// How old the count of busy slots is; none from Paddler 1.x agents.
    pub sample_age: Option<Duration>,
    /// How often it reports; none from Paddler 1.x agents.
    pub heartbeat: Option<Duration>,
    /// Whether llama.cpp accepted the agent's key.
    pub is_authorized: Option<bool>,
    /// Whether llama.cpp's `/slots` is on.
    pub is_slots_endpoint_enabled: Option<bool>,
    /// What is wrong, in words.
    pub error: Option<Arc<str>>,
    /// The cloud's zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The fleet's group that it belongs to, as the machine itself knows it.
    pub group: Option<Arc<str>>,
    /// The machine is about to end.
    pub notice: Option<Notice>,
    /// How long ago the steps of its start were.
    pub boot: BootAges,
}

/// What a machine has learnt about its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Why.
    pub reason: NoticeReason,
    /// How long it will still be there, where that is known.
    pub left: Option<Duration>,
}

/// Why a machine is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeReason {
    /// The spot market takes it back.
    SpotInterruption,
    /// The spot market may take it back soon.
    RebalanceRecommendation,
    /// Its fleet is ending it.
    LifecycleTermination,
}

/// The steps of a start that the machine itself has seen, as the time that has passed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootAges {
    /// The machine was asked for.
    pub launched: Option<Duration>,
    /// Its kernel came up.
    pub kernel: Option<Duration>,
    /// Its agent started.
    pub agent: Option<Duration>,
    /// Its llama.cpp answered for the first time.
    pub answered: Option<Duration>,
    /// Its llama.cpp had loaded the model.
    pub loaded: Option<Duration>,
}

/// Where in its start a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing answers on its port yet.
    Starting,
    /// llama.cpp answers 503: it loads the model.
    Loading,
    /// llama.cpp is healthy.
    Ready,
    /// llama.cpp answers, but not in a way that can be used; the report's `error` says how.
    Failing,
}

/// A group as its fleet describes it: one that keeps a wish, and acts by itself to fulfil it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupObserved {
    /// How many instances it tries to have.
    pub desired: u32,
    /// It never has fewer.
    pub min: u32,
    /// It never has more.
    pub max: u32,
    /// Whether a lowered wish leaves its running instances alone.
    pub is_protected: bool,
    /// Whether another balancer says that it works on the group.
    pub has_rival: bool,
}

/// An instance as its fleet describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceObserved {
    /// Of which group.
    pub group: GroupId,
    /// In which part of its life.
    pub state: InstanceState,
    /// Where its server will listen, where the fleet knows.
    pub address: Option<SocketAddr>,
}

/// The part of its life that an instance is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Asked for, not there yet.
    Pending,
    /// There.
    Running,
    /// There, but not in service and not part of the fleet's number: standing by. The fleet may bring it back. It is
    /// neither used nor ended, and costs as any other.
    Aside,
    /// Going away, and held until [`Action::CompleteLifecycle`].
    TerminatingWait,
    /// Going away.
    Terminating,
    /// It ended by itself. Named once, then missing.
    Ended {
        /// Its last words.
        cause: Arc<str>,
    },
}

/// Whether a failed operation is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationFailure {
    /// It may work in a moment.
    Transient,
    /// The fleet is asked too often: it says nothing about what it can do.
    Throttled,
    /// This group has nothing to give for some minutes: no capacity, no quota, not offered there.
    Unavailable,
    /// It will not work until somebody mends it: told to the waiting clients at once.
    Permanent,
}

/// Something to do at once. A shell carries it out outside the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The request may use the agent's server, until its lease ends.
    Grant {
        /// Which request.
        request: RequestId,
        /// The attempt that this begins.
        lease: LeaseId,
        /// Where.
        agent: AgentKey,
        /// Whether the request had to wait for an instance to boot.
        cold_start: bool,
    },
    /// The request is not going to be served.
    Reject {
        /// Which request.
        request: RequestId,
        /// Why.
        because: Rejection,
    },
    /// The instance under this attempt is lost: end the answer.
    Abort {
        /// The attempt; its end is still to be reported.
        lease: LeaseId,
    },
    /// The machine under this attempt is about to end: if its answer has not begun, the attempt is over, and its failure
    /// [`AttemptFailure::Recalled`] is to be reported.
    Recall {
        /// The attempt.
        lease: LeaseId,
    },
    /// Idle connections to this agent are of no use any more.
    ForgetConnections {
        /// Whose.
        agent: AgentKey,
    },
}

/// Why a request was not served. Each is told to the client in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// `queue_max` requests wait already.
    QueueFull {
        /// When there may be room.
        retry_after: Duration,
    },
    /// It waited `wait_max`.
    QueueTimeout {
        /// When a server may be free.
        retry_after: Duration,
    },
    /// Its client would not wait until a server is free, as far as can be foretold: it was not queued.
    TooLate {
        /// When a server may be free.
        retry_after: Duration,
    },
    /// No instance can be had.
    NoCapacity {
        /// When the next attempt is made.
        retry_after: Duration,
        /// What the fleet said.
        cause: Arc<str>,
    },
    /// An instance would cost more than the day may.
    BudgetExhausted {
        /// How long that goes on.
        ends_in: Duration,
        /// When it ends, since the Unix epoch.
        ends_at: Duration,
    },
    /// No agent is registered, nothing could start one, and nothing may wait.
    NoAgents,
    /// The gateway is shutting down.
    ShuttingDown,
    /// The servers failed it as often as is allowed.
    UpstreamFailed {
        /// The last failure.
        kind: AttemptFailure,
        /// In words.
        cause: Arc<str>,
    },
}

/// A step towards the fleet that the load asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Let the group have this many instances. A group that keeps a wish takes it as its new one; otherwise those that
    /// boot and those that are not gone yet are counted.
    Wake {
        /// Of which pool.
        pool: PoolId,
        /// Which group.
        group: GroupId,
        /// How many, in all.
        instances: u32,
    },
    /// Take back what the group wishes for beyond the instances that it has.
    Withdraw {
        /// Of which pool.
        pool: PoolId,
        /// Which group.
        group: GroupId,
    },
    /// End this instance; it is drained.
    Terminate {
        /// Of which pool.
        pool: PoolId,
        /// Of which group.
        group: GroupId,
        /// Which.
        instance: InstanceId,
        /// Whether the group is to launch another in its place.
        replace: bool,
    },
    /// Let an end go on that the fleet holds: the instance is drained.
    CompleteLifecycle {
        /// Of which pool.
        pool: PoolId,
        /// Of which group.
        group: GroupId,
        /// Which.
        instance: InstanceId,
    },
    /// Ask the fleet to hold an end for longer: the instance still serves.
    ExtendLifecycle {
        /// Of which pool.
        pool: PoolId,
        /// Of which group.
        group: GroupId,
        /// Which.
        instance: InstanceId,
    },
    /// Look what the fleet is.
    Describe {
        /// Which pool.
        pool: PoolId,
    },
}

impl Action {
    /// The pool that it is for.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        match self {
            Self::Wake { pool, .. }
            | Self::Withdraw { pool, .. }
            | Self::Terminate { pool, .. }
            | Self::CompleteLifecycle { pool, .. }
            | Self::ExtendLifecycle { pool, .. }
            | Self::Describe { pool } => *pool,
        }
    }
}

/// What [`Core::plan`](super::Core::plan) found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be started now, each under an operation's number.
    pub actions: Vec<Action>,
    /// When to plan again if nothing happens before, and what for.
    pub wait: Option<(Mono, Wait)>,
}

/// What a plan waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A failed launch is repeated after a pause.
    LaunchBackoff,
    /// Whether another instance would pay is asked again.
    GrowCheck,
    /// A step towards an instance's end that failed is repeated after a pause.
    TerminateBackoff,
    /// A wish that could not be taken back is taken back again.
    WithdrawBackoff,
    /// An end that the fleet holds is to be held for longer.
    LifecycleBeat,
    /// The day's budget has no room for an instance that is wanted.
    Budget,
    /// The fleet is looked at.
    Look,
}
