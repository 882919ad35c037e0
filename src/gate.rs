//! The shell of the core: [`Gate::acquire`] gives a [`Permit`], and dropping either gives everything back.
//!
//! One short lock, never held across an await. Commands are collected under the lock and carried out after it: no
//! permit, waker or channel is used or dropped inside, because a refused grant drops a permit, whose drop takes the lock.

mod permit;
mod queue_watch;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::core::snapshot::{Load, Snapshot};
use crate::core::{
    Action, AgentId, AgentKey, AgentReport, Arrival, AttemptFailure, BootPhases, Command, Config, Connection,
    Core, Event, Incarnation, LeaseId, LedgerRecord, Mono, Now, OperationId, Outlook, Plan, PoolConfig,
    PoolId, Rejection, RequestId, TenantId,
};

use crate::metrics::Instruments;
use permit::Interrupt;
pub use permit::{Interruption, Permit};
use queue_watch::Readers;
pub use queue_watch::{Peak, QueueWatch};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Served by which pool.
    pub pool: PoolId,
    /// On whose account.
    pub tenant: TenantId,
    /// How many slots; 0 for a server without a slot.
    pub slots: u32,
    /// How long the client waits, where it says so.
    pub wait_max: Option<Duration>,
}

/// Where a grant leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Whose connections these are.
    pub agent: AgentKey,
    /// Where the server listens.
    pub address: SocketAddr,
    /// The name of the agent, else its id.
    pub name: Arc<str>,
    /// The same for clients, if it can be sent in a header.
    pub label: Option<HeaderValue>,
}

/// An agent that was taken in, and the connection over which it reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Who.
    pub agent: AgentKey,
    /// Over which connection.
    pub connection: Connection,
}

/// The answer to a request for slots.
pub type Answer = Result<Permit, Rejection>;

/// The core behind its lock: a handle that every thread may have.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    instruments: Instruments,
    inner: Mutex<Inner>,
    /// The core's advice on whether the queue is full, for reading without the lock.
    is_full: AtomicBool,
    request_next: AtomicU64,
    broken: AtomicU64,
    timer: Notify,
    plan: Notify,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    waiting: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    interrupts: BTreeMap<LeaseId, Arc<Interrupt>>,
    /// As the newest connection of each agent named them.
    upstreams: BTreeMap<AgentKey, (Connection, Arc<Upstream>)>,
    agents: BTreeMap<Arc<str>, KnownAgent>,
    forgetters: Vec<mpsc::UnboundedSender<AgentKey>>,
    readers: Readers,
    /// When the timer task will wake by itself.
    timer_at: Option<Mono>,
    operation_next: u64,
    connection_next: u64,
}

#[derive(Debug)]
struct KnownAgent {
    key: AgentKey,
    nonce: Option<Arc<str>>,
}

/// Agent ids that are remembered. Beyond this the oldest id is forgotten; its agent, if it lives, counts as a new one
/// when it reconnects.
const AGENT_IDS_MAX: usize = 10_000;

/// What the lock's holder found to do; done once the lock is free.
#[derive(Debug, Default)]
struct Deeds {
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    interruptions: Vec<(Arc<Interrupt>, Interruption)>,
    forget: Vec<AgentKey>,
    forgetters: Vec<mpsc::UnboundedSender<AgentKey>>,
    /// The answer to the request that the caller itself brought.
    own: Option<Answer>,
    /// Grants to callers that went away: their drop gives the slots back.
    orphans: Vec<Permit>,
    /// Grants that lead nowhere: their requests go back to their queue.
    lost: Vec<LeaseId>,
    booted: Vec<BootPhases>,
    wake_timer: bool,
    wake_scaler: bool,
    /// Readers who saw an empty queue.
    wake_readers: Vec<Arc<Notify>>,
}

impl Gate {
    /// A gate over a new core.
    #[must_use]
    pub fn new(config: Config, pools: BTreeMap<PoolId, PoolConfig>, clock: Clock) -> Self {
        let inner = Inner {
            core: Core::new(config, pools),
            waiting: BTreeMap::new(),
            interrupts: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            agents: BTreeMap::new(),
            forgetters: Vec::new(),
            readers: Readers::default(),
            timer_at: None,
            operation_next: 0,
            connection_next: 0,
        };
        let shared = Shared {
            clock,
            instruments: Instruments::default(),
            inner: Mutex::new(inner),
            is_full: AtomicBool::new(false),
            request_next: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            timer: Notify::new(),
            plan: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Waits for a slot. A free one is granted at the first poll, without a task switch. Dropping the future at any
    /// point gives back whatever it has or gets.
    ///
    /// # Errors
    /// Why the request is not served.
    pub async fn acquire(&self, ask: Ask) -> Answer {
        self.acquire_as(self.number(), ask).await
    }

    /// The same for a request that was given its number before, so that it can be asked about.
    ///
    /// # Errors
    /// Why the request is not served.
    pub async fn acquire_as(&self, request: RequestId, ask: Ask) -> Answer {
        let Ask { pool, tenant, slots, wait_max } = ask;
        let arrival = Arrival { request, pool, tenant, slots, wait_max };
        self.decide(|_| (request, Event::RequestArrived(arrival))).answer().await
    }

    /// A number for one request, never given before.
    #[must_use]
    pub fn number(&self) -> RequestId {
        RequestId(self.shared.request_next.fetch_add(1, Ordering::Relaxed))
    }

    /// What a request that waits can be told; none if it does not wait.
    #[must_use]
    pub fn outlook(&self, request: RequestId) -> Option<Outlook> {
        let inner = self.lock();
        inner.core.outlook(request, self.now())
    }

    /// Tells the core something about a request that has nobody waiting for its answer, and gets the answer, or a
    /// place to wait for it.
    fn decide(&self, what: impl FnOnce(&mut Inner) -> (RequestId, Event)) -> Hold {
        let mut inner = self.lock();
        let (request, event) = what(&mut inner);
        inner.core.handle(event, self.now());
        let mut deeds = self.collect(&mut inner, Some(request));
        let hold = match deeds.own.take() {
            Some(answer) => Hold::Answered(answer),
            None => {
                let (sender, receiver) = oneshot::channel();
                inner.waiting.insert(request, sender);
                Hold::Waiting(receiver, Place { gate: self.clone(), request })
            }
        };
        drop(inner);
        self.carry_out(deeds);
        hold
    }

    /// Whether a request that arrived now would find the queue full. Advice: the decision is made when it arrives.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// What a request is told that finds the queue full before its body is read.
    #[must_use]
    pub fn full_rejection(&self, pool: PoolId) -> Rejection {
        self.lock().core.full_rejection(pool)
    }

    /// A server that is up, without a lease: for what may neither wait nor keep an instance awake.
    #[must_use]
    pub fn live(&self, pool: PoolId) -> Option<Arc<Upstream>> {
        let inner = self.lock();
        let agent = inner.core.live(pool)?;
        inner.upstreams.get(&agent).map(|(_, upstream)| upstream.clone())
    }

    /// Takes in an agent's new connection. The same id with the same nonce is the same life of the same agent; another
    /// nonce begins a new one. Without nonces (Paddler 1.x draws a new id at each start) the id alone decides.
    pub fn register(&self, id: &str, nonce: Option<&str>) -> Registration {
        let mut inner = self.lock();
        let connection = Connection(inner.connection_next);
        inner.connection_next += 1;
        let same_life =
            inner.agents.get(id).filter(|known| known.nonce.as_deref() == nonce).map(|known| known.key);
        let agent = same_life.unwrap_or_else(|| inner.new_life(id, nonce, connection));
        Registration { agent, connection }
    }

    /// An agent's report.
    pub fn report(&self, by: Registration, id: &Arc<str>, report: AgentReport) {
        let Registration { agent, connection } = by;
        let name = report.name.clone().unwrap_or_else(|| id.clone());
        let label = HeaderValue::from_str(&name).ok();
        let upstream = Upstream { agent, address: report.address, name, label };
        let mut inner = self.lock();
        // An older connection may live on for a while, or belong to a second agent of the same id: the core does not
        // listen to it either.
        let is_news = |(by, known): &(Connection, Arc<Upstream>)| {
            *by < connection || (*by == connection && **known != upstream)
        };
        if inner.upstreams.get(&agent).is_none_or(is_news) {
            inner.upstreams.insert(agent, (connection, Arc::new(upstream)));
        }
        self.apply(inner, Event::AgentReported { agent, connection, report: Box::new(report) });
    }

    /// The end of an agent's connection.
    pub fn disconnected(&self, by: Registration) {
        let Registration { agent, connection } = by;
        self.handle(Event::AgentDisconnected { agent, connection });
    }

    /// Tells the core what happened, and carries out what follows.
    pub fn handle(&self, event: Event) {
        self.apply(self.lock(), event);
    }

    /// What the fleet should do now, each step marked as started under its number in the same critical section; and
    /// when to ask again.
    #[must_use]
    pub fn start_plan(&self) -> (Vec<(OperationId, Action)>, Option<Mono>) {
        let mut inner = self.lock();
        let now = self.now();
        let Plan { actions, wait } = inner.core.plan(now);
        let mut started = Vec::with_capacity(actions.len());
        for action in actions {
            let operation = OperationId(inner.operation_next);
            inner.operation_next += 1;
            inner.core.handle(Event::OperationStarted { operation, action: action.clone() }, now);
            started.push((operation, action));
        }
        let deeds = self.collect(&mut inner, None);
        drop(inner);
        self.carry_out(deeds);
        (started, wait.map(|(at, _)| at))
    }

    /// Returns when the plan may have changed.
    pub async fn plan_changed(&self) {
        self.shared.plan.notified().await;
    }

    /// The agents whose connections are to be forgotten, one message each. For the upstream pools; there are as many as
    /// threads, and a message is sent at the end of an agent, so the channel stays short.
    #[must_use]
    pub fn forgotten_agents(&self) -> mpsc::UnboundedReceiver<AgentKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().forgetters.push(sender);
        receiver
    }

    /// The state, and the id under which each agent reports.
    #[must_use]
    pub fn snapshot(&self) -> (Snapshot, BTreeMap<AgentKey, Arc<str>>) {
        let mut inner = self.lock();
        inner.core.advance(self.now());
        let ids = inner.agents.iter().map(|(id, known)| (known.key, id.clone())).collect();
        let state = inner.core.snapshot();
        // With the day a budget may have come to its end.
        let deeds = self.collect(&mut inner, None);
        drop(inner);
        self.carry_out(deeds);
        (state, ids)
    }

    /// What is to be kept of a pool's ledger; none before what ran earlier was seen.
    #[must_use]
    pub fn ledger(&self, pool: PoolId) -> Option<LedgerRecord> {
        self.lock().core.ledger(pool, self.now())
    }

    /// How much there is and is used, without the rest of the state.
    #[must_use]
    pub fn load(&self) -> Load {
        self.lock().core.load()
    }

    /// Where everything that happens is counted: every part has the gate.
    #[must_use]
    pub fn instruments(&self) -> &Instruments {
        &self.shared.instruments
    }

    /// How many invariants were found broken: each is a fault of this program.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Attempts that are not over, and requests that wait.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.core.leased(), inner.core.queued())
    }

    fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// A panic elsewhere must not stop the gateway: the core's own invariants hold between calls.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lock can be had now. Somebody who holds it for ever would be seen by nothing else.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !matches!(self.shared.inner.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn apply(&self, mut inner: MutexGuard<'_, Inner>, event: Event) {
        inner.core.handle(event, self.now());
        let deeds = self.collect(&mut inner, None);
        drop(inner);
        self.carry_out(deeds);
    }

    /// Turns commands into deeds. Under the lock; nothing here may drop a permit.
    fn collect(&self, inner: &mut Inner, own: Option<RequestId>) -> Deeds {
        let mut deeds = Deeds::default();
        while let Some(command) = inner.core.next_command() {
            match command {
                Command::Grant { request, lease, agent, cold_start } => {
                    let Some((_, upstream)) = inner.upstreams.get(&agent).cloned() else {
                        tracing::error!(%agent, "a grant to an agent without an address: please report this");
                        deeds.lost.push(lease);
                        continue;
                    };
                    let permit = Permit::new(self.clone(), request, lease, upstream, cold_start);
                    inner.interrupts.insert(lease, permit.interrupt());
                    if own == Some(request) {
                        deeds.own = Some(Ok(permit));
                    } else if let Some(sender) = inner.waiting.remove(&request) {
                        deeds.answers.push((sender, Ok(permit)));
                    } else {
                        deeds.orphans.push(permit);
                    }
                }
                Command::Reject { request, because } => {
                    if own == Some(request) {
                        deeds.own = Some(Err(because));
                    } else if let Some(sender) = inner.waiting.remove(&request) {
                        deeds.answers.push((sender, Err(because)));
                    }
                }
                Command::Abort { lease } => deeds.interrupt(inner, lease, Interruption::Lost),
                Command::Recall { lease } => deeds.interrupt(inner, lease, Interruption::Recalled),
                Command::ForgetConnections { agent } => {
                    inner.forgetters.retain(|forgetter| !forgetter.is_closed());
                    inner.upstreams.remove(&agent);
                    deeds.forget.push(agent);
                    deeds.forgetters.clone_from(&inner.forgetters);
                }
            }
        }
        let timer_at = inner.core.poll_timeout().map(|(at, _)| at);
        if timer_at.is_some_and(|at| inner.timer_at.is_none_or(|set| at < set)) {
            inner.timer_at = timer_at;
            deeds.wake_timer = true;
        }
        deeds.wake_scaler = inner.core.take_plan_changed();
        deeds.booted = inner.core.take_booted();
        let peak = Peak { queued: inner.core.take_queued_peak(), wake_wanted: inner.core.take_wake_wanted() };
        deeds.wake_readers = inner.readers.note(peak);
        self.shared.is_full.store(inner.core.is_full(), Ordering::Relaxed);
        for broken in inner.core.take_broken() {
            self.shared.broken.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%broken, "an invariant is broken: please report this");
        }
        deeds
    }

    fn carry_out(&self, deeds: Deeds) {
        for (sender, answer) in deeds.answers {
            // A caller that went away refuses it; dropping the permit gives the slot back.
            drop(sender.send(answer));
        }
        for (interrupt, why) in deeds.interruptions {
            interrupt.tell(why);
        }
        for agent in deeds.forget {
            for forgetter in &deeds.forgetters {
                // A pool that is gone has forgotten already.
                let _ = forgetter.send(agent);
            }
        }
        for lease in deeds.lost {
            let cause = "its agent has no address".into();
            self.handle(Event::AttemptFailed { lease, kind: AttemptFailure::NotReady, cause });
        }
        for phases in &deeds.booted {
            self.shared.instruments.booted(phases);
        }
        if deeds.wake_timer {
            self.shared.timer.notify_one();
        }
        if deeds.wake_scaler {
            self.shared.plan.notify_one();
        }
        for reader in deeds.wake_readers {
            reader.notify_one();
        }
    }
}

impl Deeds {
    fn interrupt(&mut self, inner: &Inner, lease: LeaseId, why: Interruption) {
        self.interruptions.extend(inner.interrupts.get(&lease).map(|interrupt| (interrupt.clone(), why)));
    }
}

impl Inner {
    fn new_life(&mut self, id: &str, nonce: Option<&str>, connection: Connection) -> AgentKey {
        // Both numbers are taken from one sequence that never repeats.
        let agent = self.agents.get(id).map_or(AgentId(connection.0), |known| known.key.agent);
        let key = AgentKey { agent, incarnation: Incarnation(connection.0) };
        if self.agents.len() >= AGENT_IDS_MAX
            && let Some(oldest) = self.agents.iter().min_by_key(|(_, known)| known.key.incarnation)
        {
            let oldest = oldest.0.clone();
            self.agents.remove(&oldest);
        }
        self.agents.insert(id.into(), KnownAgent { key, nonce: nonce.map(Into::into) });
        key
    }
}

/// An answer, or the wait for it.
enum Hold {
    Answered(Answer),
    Waiting(oneshot::Receiver<Answer>, Place),
}

impl Hold {
    async fn answer(self) -> Answer {
        match self {
            Self::Answered(answer) => answer,
            Self::Waiting(receiver, place) => {
                let answer = receiver.await;
                place.left();
                // The sender is kept until it is used, so it can be missing only when the gate ends.
                answer.unwrap_or(Err(Rejection::ShuttingDown))
            }
        }
    }
}

/// A place in the queue. Dropped while the request waits, it is given up.
struct Place {
    gate: Gate,
    request: RequestId,
}

impl Place {
    /// The request was answered: there is nothing to give up.
    fn left(mut self) {
        self.request = RequestId(u64::MAX);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.request != RequestId(u64::MAX) {
            let request = self.request;
            let mut inner = self.gate.lock();
            let sender = inner.waiting.remove(&request);
            self.gate.apply(inner, Event::RequestAbandoned { request });
            drop(sender);
        }
    }
}
