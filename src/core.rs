//! The core decides; it neither waits nor acts.
//!
//! # Contract
//!
//! [`Core`] is the one owner of the state. It is pure: no I/O, no clock, no locks, no tasks, and no randomness but that
//! of its seed. The same calls with the same arguments give the same answers.
//!
//! 1. Tell it what happened: [`Core::handle`] with an [`Event`], or [`Core::handle_timeout`] when the time that
//!    [`Core::poll_timeout`] named has come.
//! 2. Carry out [`Core::next_command`] until it gives none. Commands are edge-triggered: each is given once.
//! 3. When [`Core::take_plan_changed`] says so, or the [`Plan`]'s own wait is over, ask for [`Core::plan`]. Plans are
//!    level-triggered: the same state gives the same plan, until an [`Event::OperationStarted`] says that an action is
//!    under way. Ask and start in one critical section.
//!
//! **Invariant:** a request is answered exactly once: a `Grant` whose lease ends, or a `Reject`.
//!
//! **Invariant:** `core` imports nothing else of the project.

mod boot;
mod budget;
mod calendar;
mod check;
mod dispatch;
pub mod event;
mod fair_queue;
mod fleet;
mod groups;
pub mod ids;
mod instances;
mod journal;
mod ledger;
mod money;
mod notice;
mod observe;
mod outlook;
mod pick;
mod registry;
mod rest;
mod scaling;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod trouble;
mod unasked;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::boot::BootPhases;
pub use self::calendar::{Day, NotADay};
pub use self::check::Broken;
use self::dispatch::{Lease, Request};
pub use self::event::*;
pub use self::ids::*;
pub use self::ledger::{DAYS_KEPT, Days, History, LedgerRecord, Life, Usage};
pub use self::money::{Money, Price};
pub use self::outlook::{Outlook, POSITION_MAX};
use self::registry::Agent;
use self::scaling::Pool;

/// The limits of the whole gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Requests that may wait, over all pools. A request that comes back after a failed attempt is exempt.
    pub queue_max: usize,
    /// How long a request may wait, over all attempts.
    pub wait_max: Duration,
    /// How long a request for several slots lets others pass before slots are kept for it.
    pub bypass_max: Duration,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl Default for Config {
    /// What the program does unless it is told otherwise.
    fn default() -> Self {
        Self {
            queue_max: 1000,
            wait_max: Duration::from_secs(600),
            bypass_max: Duration::from_secs(10),
            seed: 0,
        }
    }
}

/// The limits of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Whether instances can be started for it. Without a fleet it lives of agents that others start.
    pub has_fleet: bool,
    /// Never fewer instances.
    pub instances_min: u32,
    /// Never more instances.
    pub instances_max: u32,
    /// Slots of an instance before one was seen.
    pub slots_hint: u32,
    /// From an instance's last response byte to its drain.
    pub idle_timeout: Duration,
    /// A launch that has not registered by then has failed.
    pub boot_timeout: Duration,
    /// No instance is ended before it is this old: what is billed at least.
    pub life_min: Duration,
    /// How many groups its fleet has, in the order in which they are tried.
    pub groups: u32,
    /// For a fleet whose groups keep a wish and are looked at; none for one that tells its changes by itself.
    pub looks: Option<Looks>,
    /// What an hour of one instance costs, of each group in their order; none where that is not known.
    pub prices: Arc<[Price]>,
    /// The most that a UTC day may cost.
    pub budget_per_day: Option<Money>,
}

/// How often a fleet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// While something boots, drains or ends.
    pub hurry: Duration,
    /// Otherwise.
    pub rest: Duration,
}

impl Default for PoolConfig {
    /// What the program does unless it is told otherwise, for a pool without a fleet.
    fn default() -> Self {
        Self {
            has_fleet: false,
            instances_min: 0,
            instances_max: 1,
            slots_hint: 1,
            idle_timeout: Duration::from_secs(300),
            boot_timeout: Duration::from_secs(600),
            life_min: Duration::ZERO,
            groups: 1,
            looks: None,
            prices: Arc::default(),
            budget_per_day: None,
        }
    }
}

/// Why the core wants to be called again. The order is the order in which what is due at once is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// An agent's quarantine is over.
    Quarantine(AgentKey),
    /// A cancelled request's slot counts as free again.
    Cooling(LeaseId),
    /// A request for several slots was passed over long enough.
    Bypass(PoolId),
    /// A boot deadline.
    Boot(PoolId),
    /// An agent has been silent.
    Silence(AgentKey),
    /// An instance may have been idle long enough.
    Rest(PoolId),
    /// A day has cost as much as it may, or the next one begins.
    Budget(PoolId),
    /// Requests wait for what nobody has asked for yet.
    Unasked(PoolId),
    /// A request has waited long enough. Last, so that what became free in the same moment still serves it.
    Deadline(RequestId),
}

/// The one owner of the state. See the module's documentation for the contract.
#[derive(Debug)]
pub struct Core {
    config: Config,
    /// The greatest time seen: time never runs backwards here.
    now: Mono,
    /// Of the same event, since the Unix epoch. It names days, and orders nothing.
    wall: Duration,
    /// The day of the latest event.
    today: Option<Day>,
    pools: BTreeMap<PoolId, Pool>,
    requests: BTreeMap<RequestId, Request>,
    leases: BTreeMap<LeaseId, Lease>,
    agents: BTreeMap<AgentKey, Agent>,
    /// Who serves at an address: leases of an earlier life there still take slots.
    addresses: BTreeMap<SocketAddr, BTreeSet<AgentKey>>,
    /// Of queued requests alone.
    deadlines: BTreeSet<(Mono, RequestId)>,
    timers: BTreeSet<(Mono, Timer)>,
    armed: BTreeMap<Timer, Mono>,
    commands: VecDeque<Command>,
    random: fastrand::Rng,
    sequence_next: u64,
    lease_next: u64,
    queued: usize,
    queued_peak: usize,
    wake_wanted_peak: bool,
    /// The phases of boots that came to their end, as far as they are known.
    booted: Vec<BootPhases>,
    shutting_down: bool,
    plan_changed: bool,
    broken: Vec<Broken>,
}

impl Core {
    /// A core with these pools, and nothing in them.
    #[must_use]
    pub fn new(config: Config, pools: BTreeMap<PoolId, PoolConfig>) -> Self {
        Self {
            config,
            now: Mono::default(),
            wall: Duration::ZERO,
            today: None,
            pools: pools.into_iter().map(|(id, config)| (id, Pool::new(config))).collect(),
            requests: BTreeMap::new(),
            leases: BTreeMap::new(),
            agents: BTreeMap::new(),
            addresses: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            timers: BTreeSet::new(),
            armed: BTreeMap::new(),
            commands: VecDeque::new(),
            random: fastrand::Rng::with_seed(config.seed),
            sequence_next: 0,
            lease_next: 0,
            queued: 0,
            queued_peak: 0,
            wake_wanted_peak: false,
            booted: Vec::new(),
            shutting_down: false,
            // So that a pool that keeps instances at all times gets them at the start.
            plan_changed: true,
            broken: Vec::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Now) {
        self.advance(now);
        match event {
            Event::RequestArrived(arrival) => self.request_arrived(arrival),
            Event::RequestAbandoned { request } => self.request_abandoned(request),
            Event::AnswerStarted { lease } => self.answer_started(lease),
            Event::LeaseEnded { lease, end } => self.lease_ended(lease, end),
            Event::AttemptFailed { lease, kind, cause } => self.attempt_failed(lease, kind, &cause),
            Event::AgentReported { agent, connection, report } => {
                self.agent_reported(agent, connection, *report)
            }
            Event::AgentDisconnected { agent, connection } => self.agent_disconnected(agent, connection),
            Event::FleetObserved { pool, began, groups, instances } => {
                self.fleet_observed(pool, began, &groups, instances);
            }
            Event::LaunchFailed { pool, group, kind, cause } => {
                self.launch_failed(pool, group, kind, &cause);
            }
            Event::OperationStarted { operation, action } => self.operation_started(operation, action),
            Event::OperationSucceeded { operation, launched, wish } => {
                self.operation_succeeded(operation, launched, wish);
            }
            Event::OperationFailed { operation, kind, cause } => {
                self.operation_failed(operation, kind, &cause)
            }
            Event::OperationUnknown { operation } => self.operation_unknown(operation),
            Event::LedgerRestored { pool, record } => self.ledger_restored(pool, record),
            Event::HistoryTold { pool, history } => self.history_told(pool, history),
            Event::ShutdownBegan => self.shutdown_began(),
        }
        self.refuse_hopeless();
        self.note_unasked();
    }

    /// When to call [`Core::handle_timeout`], and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, Timer)> {
        let deadline = self.deadlines.first().map(|&(at, request)| (at, Timer::Deadline(request)));
        let timer = self.timers.first().copied();
        [timer, deadline].into_iter().flatten().min()
    }

    /// Does whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
        while let Some((at, timer)) = self.poll_timeout()
            && at <= self.now
        {
            self.disarm(timer);
            match timer {
                Timer::Quarantine(agent) => self.quarantine_ended(agent),
                Timer::Cooling(lease) => self.cooling_ended(lease),
                Timer::Bypass(pool) => self.settle(pool),
                Timer::Boot(pool) => self.boot_deadline_passed(pool),
                Timer::Silence(agent) => self.agent_silent(agent),
                Timer::Rest(pool) => self.rest(pool),
                Timer::Budget(pool) => self.keep_budget(pool),
                // That the time has come is all.
                Timer::Unasked(_) => {}
                Timer::Deadline(request) => self.deadline_passed(request),
            }
        }
        self.refuse_hopeless();
        self.note_unasked();
    }

    /// Lets time pass: what is asked for next is as of now.
    pub fn advance(&mut self, now: Now) {
        let is_other_day = self.today.replace(Day::of(now.wall)) != Some(Day::of(now.wall));
        if is_other_day {
            self.settle_ledgers();
        }
        self.now = self.now.max(now.mono);
        self.wall = now.wall;
        if is_other_day {
            self.begin_ledgers();
            self.note_day();
        }
    }

    fn time(&self) -> Now {
        Now { mono: self.now, wall: self.wall }
    }

    /// The next thing to do, once.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether [`Core::plan`] may have changed since the last call.
    pub fn take_plan_changed(&mut self) -> bool {
        std::mem::take(&mut self.plan_changed)
    }

    /// Whether a request that arrived now would find the queue full: advice for refusing it before its body is read.
    /// The decision is made when it arrives.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queued >= self.config.queue_max && self.pools.values().all(|pool| pool.open.is_empty())
    }

    /// A server that is up, for what takes no slot, waits for nothing and keeps nothing awake: scrapes, favicons.
    #[must_use]
    pub fn live(&self, pool: PoolId) -> Option<AgentKey> {
        self.pools.get(&pool)?.live.first().map(|&(_, agent)| agent)
    }

    /// Requests that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// The most requests that waited at any time since the last call.
    pub fn take_queued_peak(&mut self) -> usize {
        std::mem::replace(&mut self.queued_peak, self.queued)
    }

    /// Whether [`Core::is_wake_wanted`] was true at any time since the last call.
    pub fn take_wake_wanted(&mut self) -> bool {
        let is_wanted = self.is_wake_wanted();
        std::mem::replace(&mut self.wake_wanted_peak, is_wanted)
    }

    /// The boots that came to their end since the last call: how long each phase took, where that is known.
    pub fn take_booted(&mut self) -> Vec<BootPhases> {
        std::mem::take(&mut self.booted)
    }

    /// Leases that are not over, cooling ones included.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// Invariants that were found broken since the last call, to be logged and counted.
    pub fn take_broken(&mut self) -> Vec<Broken> {
        std::mem::take(&mut self.broken)
    }

    /// Sets the timer to this time, in place of the one that it had.
    fn arm(&mut self, timer: Timer, at: Mono) {
        self.disarm(timer);
        self.armed.insert(timer, at);
        self.timers.insert((at, timer));
    }

    /// Sets the timer to this time, unless it goes off before.
    fn arm_by(&mut self, timer: Timer, at: Mono) {
        if self.armed.get(&timer).is_none_or(|&armed| armed > at) {
            self.arm(timer, at);
        }
    }

    fn disarm(&mut self, timer: Timer) {
        if let Some(at) = self.armed.remove(&timer) {
            self.timers.remove(&(at, timer));
        }
    }
}
