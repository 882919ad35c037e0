//! Clients and the shell that carries their requests: arrivals, attempts, answers, departures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hosts::HostState;
use super::world::{Happening, World};
use crate::core::{
    AgentKey, Arrival, AttemptFailure, Event, LeaseEnd, LeaseId, Mono, PoolId, RequestId, TenantId,
};

/// The way of a request to a server.
const SEND_MAX: Duration = Duration::from_millis(20);
/// Load goes on for so long after the heal, for what the faults left behind to meet it.
const LOAD_AFTER_HEAL: Duration = Duration::from_secs(20);
/// Longer than most boots: some such requests are queued, and some of those see their deadline pass.
const DEADLINE_MAX: Duration = Duration::from_secs(120);
/// Between two visits of a month, at most.
pub(super) const LULL_MAX: Duration = Duration::from_secs(3 * 3600);
/// More than this would only be more of the same.
const REQUESTS_MAX: usize = 400;

/// All requests and attempts.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// Of these, the ones that wait.
    pub(super) waiting: BTreeSet<RequestId>,
    pub(super) attempts: BTreeMap<LeaseId, Attempt>,
    pub(super) leases_seen: BTreeSet<LeaseId>,
    pub(super) probes: BTreeMap<PoolId, RequestId>,
    pub(super) is_load_over: bool,
}

/// A request, as its client sees it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) pool: PoolId,
    pub(super) tenant: TenantId,
    pub(super) slots: u32,
    pub(super) arrived_at: Mono,
    /// How long it waits, by its own limit or the gateway's.
    pub(super) wait_max: Duration,
    pub(super) has_deadline: bool,
    prefill: Duration,
    decode: Duration,
    pub(super) state: RequestState,
    pub(super) connect_failures: u32,
    pub(super) deaths: u32,
    pub(super) not_ready: u32,
    pub(super) recalls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestState {
    Waiting,
    Leased(LeaseId),
    Over(Outcome),
}

/// The one end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Cut,
    Left,
    Rejected,
}

impl Request {
    pub(super) fn failures(&self) -> u32 {
        self.connect_failures + self.deaths + self.not_ready
    }
}

/// A grant that is not over.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) request: RequestId,
    pub(super) host: usize,
    pub(super) slots: u32,
    task: Option<u64>,
    is_answering: bool,
}

impl World {
    /// A burst, or a single request; then a lull.
    pub(super) fn clients_arrive(&mut self) {
        if self.options.cycles > 0 {
            self.cycle();
            return;
        }
        if let Some(month) = self.options.month {
            self.visit(month);
            return;
        }
        if self.is_healed && self.now > self.options.heal_at + LOAD_AFTER_HEAL {
            self.clients.is_load_over = true;
            self.after(Duration::ZERO, Happening::Probe);
            return;
        }
        let burst = if self.chance(400) { self.rng.u32(1..=self.options.burst_max) } else { 1 };
        if self.clients.requests.len() < REQUESTS_MAX {
            for _ in 0..burst {
                let pool = PoolId(self.rng.u32(0..self.options.pools.len() as u32));
                let slots = if self.chance(self.options.many_permille) {
                    self.rng.u32(2..=10)
                } else {
                    u32::from(!self.chance(self.options.none_permille))
                };
                self.arrive(pool, slots);
            }
        }
        let most = if self.chance(500) { Duration::from_millis(500) } else { self.options.lull_max };
        let lull = self.up_to(most);
        self.after(lull, Happening::Arrivals);
    }

    /// One request, once the fleet is back at zero, so many times.
    fn cycle(&mut self) {
        let is_at_zero = !self.hosts.iter().any(super::hosts::Host::is_there);
        let is_known = self.core.snapshot().pools.iter().all(|pool| pool.instances.is_empty());
        if is_at_zero && is_known && self.clients.waiting.is_empty() && self.clients.attempts.is_empty() {
            if self.clients.requests.len() == self.options.cycles as usize {
                self.clients.is_load_over = true;
                self.after(Duration::ZERO, Happening::Probe);
                return;
            }
            self.arrive(PoolId(0), 1);
        }
        self.after(Duration::from_secs(2), Happening::Arrivals);
    }

    /// Some requests, and then a longer pause than an instance rests, or a shorter one.
    fn visit(&mut self, month: Duration) {
        if self.now.0 > month {
            self.clients.is_load_over = true;
            self.after(Duration::ZERO, Happening::Probe);
            return;
        }
        let burst = self.rng.u32(1..=self.options.burst_max);
        for _ in 0..if self.is_down { 0 } else { burst } {
            self.arrive(PoolId(0), 1);
        }
        let most = if self.chance(500) { Duration::from_secs(150) } else { LULL_MAX };
        let lull = self.up_to(most);
        self.after(lull, Happening::Arrivals);
    }

    /// The balancer is gone, and with it every connection.
    pub(super) fn clients_lose_all(&mut self) {
        for (_, attempt) in std::mem::take(&mut self.clients.attempts) {
            self.close(attempt.request, Outcome::Cut);
            if let Some(task) = attempt.task {
                self.cancel_task(attempt.host, task);
            }
        }
        for id in self.clients.waiting.clone() {
            self.close(id, Outcome::Cut);
        }
        self.clients.leases_seen.clear();
        self.promises.aborted.clear();
    }

    pub(super) fn arrive(&mut self, pool: PoolId, slots: u32) -> RequestId {
        let id = RequestId(self.clients.requests.len() as u64);
        let tenant = TenantId(self.rng.u32(0..self.options.tenants));
        let prefill = self.span(Duration::from_millis(5), Duration::from_secs(1));
        let decode = self.up_to(self.options.decode_max);
        let deadline = self.deadline();
        self.clients.requests.insert(
            id,
            Request {
                pool,
                tenant,
                slots,
                arrived_at: self.now,
                wait_max: deadline.unwrap_or(Duration::MAX).min(self.options.core.wait_max),
                has_deadline: deadline.is_some(),
                prefill,
                decode,
                state: RequestState::Waiting,
                connect_failures: 0,
                deaths: 0,
                not_ready: 0,
                recalls: 0,
            },
        );
        self.clients.waiting.insert(id);
        if self.chance(self.options.leave_permille) {
            let patience = self.up_to(Duration::from_secs(20));
            self.after(patience, Happening::ClientLeaves(id));
        }
        let (wakes, is_planned_anyway) = (self.fleet.wakes(pool), self.is_replan_due());
        self.tell(Event::RequestArrived(Arrival { request: id, pool, tenant, slots, wait_max: deadline }));
        self.check_wake_is_planned(id);
        let is_over = matches!(self.clients.requests.get(&id), Some(it) if it.state == RequestState::Over(Outcome::Rejected));
        if is_over && !is_planned_anyway && self.fleet.wakes(pool) > wakes {
            self.fail(&format!("request {id} was refused at once, and an instance woken for it"));
        }
        id
    }

    /// Some clients say how long they wait, some of these not at all.
    fn deadline(&mut self) -> Option<Duration> {
        if !self.chance(self.options.deadline_permille) {
            return None;
        }
        Some(if self.chance(100) { Duration::ZERO } else { self.up_to(DEADLINE_MAX) })
    }

    /// The core's word: send it there.
    pub(super) fn granted(&mut self, id: RequestId, lease: LeaseId, agent: AgentKey) {
        let Some(host) = self.check_grant(id, lease, agent) else { return };
        let Some(request) = self.clients.requests.get_mut(&id) else { return };
        let slots = request.slots.min(self.hosts[host].server.slots);
        request.state = RequestState::Leased(lease);
        self.clients.waiting.remove(&id);
        self.clients.leases_seen.insert(lease);
        let attempt = Attempt { request: id, host, slots, task: None, is_answering: false };
        self.clients.attempts.insert(lease, attempt);
        self.touch(host, Duration::ZERO);
        self.count("granted");
        let delay = self.up_to(SEND_MAX);
        let found = &self.hosts[host];
        let (is_there, is_ready) = (found.is_there() && found.server.is_up, found.server.is_ready);
        let happening = if !is_there || self.mishap(10) {
            Happening::Fails(lease, AttemptFailure::CouldNotConnect)
        } else if !is_ready || self.mishap(5) {
            Happening::Fails(lease, AttemptFailure::NotReady)
        } else {
            Happening::Reaches(lease)
        };
        self.after(delay, happening);
    }

    pub(super) fn attempt_reaches(&mut self, lease: LeaseId) {
        let Some(attempt) = self.clients.attempts.get(&lease) else { return };
        let (host, slots) = (attempt.host, attempt.slots);
        if !self.hosts[host].server.is_ready {
            self.attempt_fails(lease, AttemptFailure::Died);
            return;
        }
        self.touch(host, Duration::ZERO);
        let task = self.hosts[host].server.next_task();
        if let Some(attempt) = self.clients.attempts.get_mut(&lease) {
            attempt.task = Some(task);
        }
        self.server_takes(host, lease, slots);
    }

    /// The server has a slot for it.
    pub(super) fn task_started(&mut self, lease: LeaseId) {
        let Some(attempt) = self.clients.attempts.get(&lease) else { return };
        let Some(request) = self.clients.requests.get(&attempt.request) else { return };
        let prefill = request.prefill;
        let happening = if self.mishap(5) {
            Happening::Fails(lease, AttemptFailure::Died)
        } else {
            Happening::FirstByte(lease)
        };
        self.after(prefill, happening);
    }

    pub(super) fn first_byte(&mut self, lease: LeaseId) {
        let Some(attempt) = self.clients.attempts.get_mut(&lease) else { return };
        attempt.is_answering = true;
        let Some(request) = self.clients.requests.get(&attempt.request) else { return };
        let decode = request.decode;
        self.after(decode, Happening::LastByte(lease));
        self.tell(Event::AnswerStarted { lease });
    }

    pub(super) fn last_byte(&mut self, lease: LeaseId) {
        let Some(attempt) = self.end_attempt(lease, Outcome::Done) else { return };
        if let Some(task) = attempt.task {
            self.task_stops(attempt.host, task);
        }
        self.touch(attempt.host, Duration::ZERO);
        self.tell(Event::LeaseEnded { lease, end: LeaseEnd::Done });
    }

    /// The upstream's connection broke.
    pub(super) fn attempt_cut(&mut self, lease: LeaseId) {
        match self.clients.attempts.get(&lease).map(|attempt| attempt.is_answering) {
            Some(true) => self.cancel(lease, Outcome::Cut),
            Some(false) => self.attempt_fails(lease, AttemptFailure::Died),
            None => {}
        }
    }

    /// The core's word: the instance under it is lost.
    pub(super) fn aborted(&mut self, lease: LeaseId) {
        self.promises.aborted.insert(lease);
        let delay = self.up_to(Duration::from_millis(5));
        self.after(delay, Happening::Cut(lease));
    }

    /// The core's word: the machine under it is about to end.
    pub(super) fn recalled(&mut self, lease: LeaseId) {
        let delay = self.up_to(Duration::from_millis(5));
        self.after(delay, Happening::Fails(lease, AttemptFailure::Recalled));
    }

    pub(super) fn attempt_fails(&mut self, lease: LeaseId, kind: AttemptFailure) {
        let Some(attempt) = self.clients.attempts.remove(&lease) else { return };
        if attempt.is_answering {
            self.clients.attempts.insert(lease, attempt);
            return;
        }
        self.count(match kind {
            AttemptFailure::CouldNotConnect => "an attempt could not connect",
            AttemptFailure::NotReady => "an attempt met a loading server",
            AttemptFailure::Died => "an attempt died",
            AttemptFailure::Recalled => "an attempt was recalled",
        });
        self.touch(attempt.host, super::checks::COOLING);
        if let Some(task) = attempt.task {
            self.cancel_task(attempt.host, task);
        }
        if let Some(request) = self.clients.requests.get_mut(&attempt.request) {
            request.state = RequestState::Waiting;
            match kind {
                AttemptFailure::CouldNotConnect => request.connect_failures += 1,
                AttemptFailure::NotReady => request.not_ready += 1,
                AttemptFailure::Died => request.deaths += 1,
                AttemptFailure::Recalled => request.recalls += 1,
            }
        }
        self.clients.waiting.insert(attempt.request);
        self.tell(Event::AttemptFailed { lease, kind, cause: "by chance".into() });
        if self.mishap(200) {
            // What a guard would still say of an attempt that is over.
            self.tell(Event::LeaseEnded { lease, end: LeaseEnd::Unsent });
        }
    }

    pub(super) fn client_leaves(&mut self, id: RequestId) {
        match self.clients.requests.get(&id).map(|request| request.state) {
            Some(RequestState::Waiting) => {
                self.close(id, Outcome::Left);
                self.count("a client left the queue");
                self.tell(Event::RequestAbandoned { request: id });
            }
            Some(RequestState::Leased(lease)) => {
                self.count("a client left its answer");
                self.cancel(lease, Outcome::Left);
            }
            Some(RequestState::Over(_)) | None => {}
        }
    }

    fn cancel(&mut self, lease: LeaseId, outcome: Outcome) {
        let Some(attempt) = self.end_attempt(lease, outcome) else { return };
        self.touch(attempt.host, super::checks::COOLING);
        if let Some(task) = attempt.task {
            self.cancel_task(attempt.host, task);
        }
        self.tell(Event::LeaseEnded { lease, end: LeaseEnd::Cancelled });
    }

    fn end_attempt(&mut self, lease: LeaseId, outcome: Outcome) -> Option<Attempt> {
        let attempt = self.clients.attempts.remove(&lease)?;
        self.close(attempt.request, outcome);
        Some(attempt)
    }

    /// The one place where a request ends.
    pub(super) fn close(&mut self, id: RequestId, outcome: Outcome) {
        let before = self.clients.requests.get(&id).map(|request| request.state);
        if let Some(RequestState::Over(before)) = before {
            self.fail(&format!("request {id} ended twice: {before:?}, then {outcome:?}"));
        }
        if let Some(request) = self.clients.requests.get_mut(&id) {
            request.state = RequestState::Over(outcome);
        }
        self.clients.waiting.remove(&id);
        self.count(match outcome {
            Outcome::Done => "answered",
            Outcome::Cut => "cut",
            Outcome::Left => "left",
            Outcome::Rejected => "rejected",
        });
    }

    /// What is ours on this host changes, or may until `then`.
    fn touch(&mut self, host: usize, then: Duration) {
        let host = &mut self.hosts[host];
        host.calm_since = host.calm_since.max(self.now + then);
        host.steady_since = self.now;
    }

    /// After the load: every pool that can serve must serve again, and in the end be at rest.
    pub(super) fn probe(&mut self) {
        self.after(Duration::from_secs(2), Happening::Probe);
        if !self.clients.waiting.is_empty() || !self.clients.attempts.is_empty() {
            return;
        }
        let mut is_content = true;
        for at in 0..self.options.pools.len() {
            let pool = PoolId(at as u32);
            let is_wanted = self.options.pools[at].can_serve()
                && !self.is_shutting_down
                && self.options.core.queue_max > 0
                && self.options.cycles == 0
                && self.options.month.is_none();
            let done = self.clients.probes.get(&pool).and_then(|id| self.clients.requests.get(id));
            // On a day that is spent nothing is served.
            let has_budget = self.options.pools[at].config.budget_per_day.is_some();
            let is_good = |probe: &Request| match probe.state {
                RequestState::Over(Outcome::Done) => true,
                RequestState::Over(Outcome::Rejected) => has_budget,
                RequestState::Over(_) | RequestState::Waiting | RequestState::Leased(_) => false,
            };
            if is_wanted && !done.is_some_and(is_good) {
                let id = self.arrive(pool, 1);
                self.clients.probes.insert(pool, id);
                is_content = false;
            }
        }
        if is_content && self.is_at_rest() {
            self.is_over = true;
        }
    }

    /// Whether the fleets are back at their least, with nothing leased or under way.
    fn is_at_rest(&self) -> bool {
        if self.core.leased() > 0 || self.fleet.is_busy() {
            return false;
        }
        if self.is_shutting_down {
            return true;
        }
        self.options.pools.iter().enumerate().all(|(at, pool)| {
            let there = self.hosts.iter().filter(|host| {
                host.pool.0 as usize == at
                    && host.instance.is_some()
                    && !matches!(host.state, HostState::Gone | HostState::Ended)
            });
            let (there, min) = (there.count(), pool.config.instances_min as usize);
            let is_poor = pool.config.budget_per_day.is_some() && there < min;
            !pool.config.has_fleet || there == min || is_poor
        })
    }
}
