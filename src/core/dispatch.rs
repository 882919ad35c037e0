//! Every request is answered exactly once: granted until its lease ends, or rejected with a reason.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Arrival, AttemptFailure, Command, LeaseEnd, Rejection};
use super::fair_queue::Place;
use super::ids::{AgentKey, LeaseId, Mono, PoolId, RequestId};
use super::scaling::{Kept, Pool};
use super::{Broken, Core, Timer};

/// How often a request may fail to reach a server and still be tried again.
const CONNECT_FAILURES_MAX: u32 = 3;
/// How often a server may die under a request that is still tried again: once, because a poisonous request must not
/// travel the fleet.
const DEATHS_MAX: u32 = 1;
/// How long a cancelled request's slot counts as busy, unless a report shows that it is free.
const COOLING: Duration = Duration::from_secs(2);
/// Bounds of the `Retry-After` that is computed from measured service times.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) pool: PoolId,
    pub(super) place: Place,
    pub(super) deadline: Mono,
    /// No server was up when it arrived.
    cold_start: bool,
    /// None while it waits.
    pub(super) lease: Option<LeaseId>,
    connect_failures: u32,
    deaths: u32,
    last_failure: Option<(AttemptFailure, Arc<str>)>,
    /// Since when a request for several slots has seen others pass.
    passed_over_since: Option<Mono>,
}

/// One attempt of a request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) request: RequestId,
    pub(super) pool: PoolId,
    pub(super) agent: AgentKey,
    pub(super) slots: u32,
    pub(super) granted_at: Mono,
    pub(super) state: LeaseState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// Sent, or about to be.
    Waiting,
    /// The answer runs.
    Answering { since: Mono },
    /// Cancelled: llama.cpp may still compute. Whether it did by the last report is noted.
    Cooling { since: Mono, is_seen: bool },
}

impl Core {
    /// A request arrives.
    ///
    /// 1. A free slot that nobody is waiting for in front of it: granted.
    /// 2. Shutting down: rejected, for nothing may wait any more. What arrives then came over a connection from before.
    /// 3. No room in the queue: rejected.
    /// 4. No server is up or boots, and the fleet is known to fail: rejected with the cause.
    /// 5. Its client would not wait as long as it takes: rejected, and nothing is woken for it.
    /// 6. It waits. An idle instance that is on its way out comes back.
    pub(super) fn request_arrived(&mut self, arrival: Arrival) {
        let Arrival { request, pool: pool_id, tenant, slots, wait_max } = arrival;
        let Some(pool) = self.pools.get(&pool_id) else {
            self.broke(Broken::UnknownPool);
            self.reject(request, Rejection::NoAgents);
            return;
        };
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let place = Place { tenant, sequence, slots };
        self.requests.insert(
            request,
            Request {
                pool: pool_id,
                place,
                deadline: self.now
                    + wait_max.map_or(self.config.wait_max, |own| own.min(self.config.wait_max)),
                cold_start: pool.live.is_empty(),
                lease: None,
                connect_failures: 0,
                deaths: 0,
                last_failure: None,
                passed_over_since: None,
            },
        );
        if let Some(agent) = pool.passes(place) {
            self.grant(request, agent);
            return;
        }
        if self.shutting_down {
            self.answer(request, Rejection::ShuttingDown);
            return;
        }
        if self.queued >= self.config.queue_max {
            let because = self.full_rejection(pool_id);
            self.answer(request, because);
            return;
        }
        if let Some(because) = self.out_of_capacity(pool_id) {
            self.answer(request, because);
            return;
        }
        if wait_max.is_some_and(|wait_max| self.is_too_late(pool_id, place, wait_max)) {
            let retry_after = self.retry_after(pool_id);
            self.answer(request, Rejection::TooLate { retry_after });
            return;
        }
        self.enqueue(request);
        self.cancel_idle_drain(pool_id);
        self.settle(pool_id);
    }

    /// What a request is told for which the queue has no room.
    #[must_use]
    pub fn full_rejection(&self, pool_id: PoolId) -> Rejection {
        let is_bare =
            self.pools.get(&pool_id).is_none_or(|pool| !pool.config.has_fleet && pool.live.is_empty());
        if self.config.queue_max == 0 && is_bare {
            Rejection::NoAgents
        } else {
            Rejection::QueueFull { retry_after: self.retry_after(pool_id) }
        }
    }

    pub(super) fn request_abandoned(&mut self, request: RequestId) {
        if self.requests.get(&request).is_some_and(|found| found.lease.is_none()) {
            let pool = self.dequeue(request);
            self.requests.remove(&request);
            // A request for many slots may have stood in the way of its tenant's others.
            if let Some(pool) = pool {
                self.settle(pool);
            }
        }
    }

    pub(super) fn answer_started(&mut self, lease: LeaseId) {
        let since = self.now;
        if let Some(lease) = self.leases.get_mut(&lease)
            && lease.state == LeaseState::Waiting
        {
            lease.state = LeaseState::Answering { since };
        }
    }

    pub(super) fn lease_ended(&mut self, id: LeaseId, end: LeaseEnd) {
        let now = self.now;
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if matches!(lease.state, LeaseState::Cooling { .. }) {
            return;
        }
        let request = lease.request;
        if end == LeaseEnd::Cancelled && lease.slots > 0 {
            lease.state = LeaseState::Cooling { since: now, is_seen: false };
            self.arm(Timer::Cooling(id), now + COOLING);
            self.requests.remove(&request);
            return;
        }
        let span = now.since(lease.granted_at);
        let measured = end == LeaseEnd::Done && lease.slots > 0;
        let pool = self.requests.remove(&request).map(|request| request.pool);
        self.release(id);
        if let Some(pool_id) = pool {
            if measured && let Some(pool) = self.pools.get_mut(&pool_id) {
                pool.service.add(span);
            }
            self.settle(pool_id);
        }
    }

    /// The cooling time is over. llama.cpp notices a client's leaving late while it is asked or prefills, so what the
    /// last report still counted goes on being busy, as foreign use.
    pub(super) fn cooling_ended(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(&id) else { return };
        let (agent, pool, slots) = (lease.agent, lease.pool, lease.slots);
        if matches!(lease.state, LeaseState::Cooling { is_seen: true, .. }) {
            self.make_foreign(agent, slots);
        }
        self.release(id);
        self.settle(pool);
    }

    /// Ends the cooling that a report shows to be over: of the busy slots that it counts, those that surely belong to
    /// answers that ran already when it was sampled are not cooling ones.
    pub(super) fn release_cooled(&mut self, key: AgentKey, sampled: Mono) {
        let Some(agent) = self.agents.get(&key) else { return };
        let mut answering = 0;
        let mut cooling: Vec<(Mono, LeaseId, u32)> = Vec::new();
        for id in &agent.leases {
            let Some(lease) = self.leases.get(id) else { continue };
            match lease.state {
                LeaseState::Answering { since } if since <= sampled => answering += lease.slots,
                LeaseState::Cooling { since, .. } if since < sampled => {
                    cooling.push((since, *id, lease.slots));
                }
                LeaseState::Cooling { .. } | LeaseState::Answering { .. } | LeaseState::Waiting => {}
            }
        }
        let mut still_cooling = agent.report.slots_busy.saturating_sub(answering);
        // The ones cancelled last go on cooling: the server has had least time for them.
        cooling.sort_unstable();
        for (_, id, slots) in cooling.into_iter().rev() {
            if still_cooling > 0 {
                still_cooling = still_cooling.saturating_sub(slots);
                if let Some(lease) = self.leases.get_mut(&id)
                    && let LeaseState::Cooling { is_seen, .. } = &mut lease.state
                {
                    *is_seen = true;
                }
            } else {
                self.release(id);
            }
        }
    }

    /// An attempt failed before its answer began.
    ///
    /// 1. The slot is free again; after a death or a recall it cools, for the server may go on computing.
    /// 2. The agent is left alone for a while: quarantined, or not ready until it reports again. One whose machine is about
    ///    to end is left alone anyway.
    /// 3. The request goes back to the head of its queue, with its first deadline, exempt from the queue's limit;
    ///    unless it failed too often, or the gateway shuts down.
    pub(super) fn attempt_failed(&mut self, id: LeaseId, kind: AttemptFailure, cause: &Arc<str>) {
        let now = self.now;
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let (request_id, agent) = (lease.request, lease.agent);
        if matches!(lease.state, LeaseState::Cooling { .. }) {
            return;
        }
        let may_compute = matches!(kind, AttemptFailure::Died | AttemptFailure::Recalled);
        if may_compute && lease.slots > 0 {
            lease.state = LeaseState::Cooling { since: now, is_seen: false };
            self.arm(Timer::Cooling(id), now + COOLING);
        } else {
            self.release(id);
        }
        match kind {
            AttemptFailure::CouldNotConnect | AttemptFailure::Died => self.quarantine(agent, cause),
            AttemptFailure::NotReady => self.not_ready(agent),
            AttemptFailure::Recalled => {}
        }
        let Some(request) = self.requests.get_mut(&request_id) else { return };
        let pool = request.pool;
        request.lease = None;
        if kind != AttemptFailure::Recalled {
            request.last_failure = Some((kind, cause.clone()));
        }
        match kind {
            AttemptFailure::CouldNotConnect => request.connect_failures += 1,
            AttemptFailure::Died => request.deaths += 1,
            AttemptFailure::NotReady | AttemptFailure::Recalled => {}
        }
        if self.shutting_down {
            self.answer(request_id, Rejection::ShuttingDown);
        } else if request.connect_failures > CONNECT_FAILURES_MAX || request.deaths > DEATHS_MAX {
            self.answer(request_id, Rejection::UpstreamFailed { kind, cause: cause.clone() });
        } else {
            self.enqueue(request_id);
            self.cancel_idle_drain(pool);
        }
        self.settle(pool);
    }

    /// A request has waited as long as it may. What it is told is what kept it waiting.
    pub(super) fn deadline_passed(&mut self, request: RequestId) {
        let Some(found) = self.requests.get(&request) else { return };
        let pool_id = found.pool;
        let failure = found.last_failure.clone();
        let because = match (self.boots_fail(pool_id), failure) {
            (Some(because), _) => because,
            (None, Some((kind, cause))) => Rejection::UpstreamFailed { kind, cause },
            (None, None) => Rejection::QueueTimeout { retry_after: self.retry_after(pool_id) },
        };
        self.dequeue(request);
        self.answer(request, because);
        self.settle(pool_id);
    }

    pub(super) fn shutdown_began(&mut self) {
        self.shutting_down = true;
        self.plan_changed = true;
        self.reject_queued(None, &Rejection::ShuttingDown);
    }

    /// Answers everything that waits, in one pool or in all, in order of arrival.
    pub(super) fn reject_queued(&mut self, only: Option<PoolId>, because: &Rejection) {
        let pools = self.pools.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
        let mut waiting: Vec<RequestId> = pools.flat_map(|(_, pool)| pool.queue.requests()).collect();
        waiting.sort_by_key(|id| self.requests.get(id).map(|request| request.place.sequence));
        for request in waiting {
            self.dequeue(request);
            self.answer(request, because.clone());
        }
    }

    /// Grants whatever can be granted now, in fair order.
    pub(super) fn settle(&mut self, pool: PoolId) {
        if self.pools.get(&pool).is_none_or(|pool| pool.queue.is_empty()) {
            return;
        }
        while let Some((request, agent)) = self.next_grant(pool) {
            self.dequeue_for_grant(request);
            self.grant(request, agent);
        }
    }

    /// The next grant.
    ///
    /// 1. A request that needs a server but no slot: any live one.
    /// 2. The request for which an agent's slots are kept, if there are enough of them.
    /// 3. Tenants in turn, each one's older request first:
    ///    a. it fits: granted;
    ///    b. one for several slots that fits nowhere lets its tenant's younger ones for one slot pass, for `bypass_max`;
    ///    c. from then on the roomiest agent's slots are kept for it.
    ///
    /// **Invariant:** no eligible request waits while a slot that is not kept for another is free, but for requests for
    /// several slots behind another such one, for `bypass_max` at most until slots are kept for the first.
    fn next_grant(&mut self, pool_id: PoolId) -> Option<(RequestId, AgentKey)> {
        loop {
            let pool = self.pools.get(&pool_id)?;
            if let Some(request) = pool.queue.slotless()
                && let Some(&(_, agent)) = pool.live.first()
            {
                return Some((request, agent));
            }
            if let Some(kept) = pool.kept
                && self.has_room(kept)
            {
                return Some((kept.request, kept.agent));
            }
            if pool.open.is_empty() {
                return None;
            }
            let mut passed_over = Vec::new();
            let mut granted = None;
            for tenant in pool.queue.turns() {
                let (one, many) = pool.queue.heads(tenant);
                let slots_of =
                    |id: RequestId| self.requests.get(&id).map_or(1, |request| request.place.slots);
                let many_first = many.is_some_and(|(many, _)| one.is_none_or(|(one, _)| many < one));
                let heads = if many_first { [many, one] } else { [one, many] };
                for (_, request) in heads.into_iter().flatten() {
                    if let Some(agent) = pool.open.fit(slots_of(request)) {
                        granted = Some((request, agent));
                        break;
                    }
                    passed_over.push(request);
                }
                if granted.is_some() {
                    break;
                }
            }
            if !self.keep_for_passed_over(pool_id, &passed_over) {
                return granted;
            }
        }
    }

    /// Notes who was passed over, and keeps an agent's slots for the first that was so for long enough. True if it did.
    fn keep_for_passed_over(&mut self, pool_id: PoolId, passed_over: &[RequestId]) -> bool {
        let (now, bypass_max) = (self.now, self.config.bypass_max);
        for &id in passed_over {
            let Some(request) = self.requests.get_mut(&id) else { continue };
            let since = *request.passed_over_since.get_or_insert(now);
            let Some(pool) = self.pools.get_mut(&pool_id) else { continue };
            if pool.kept.is_some() {
                continue;
            }
            if since + bypass_max > now {
                self.arm_by(Timer::Bypass(pool_id), since + bypass_max);
            } else if let Some(agent) = pool.open.roomiest() {
                pool.kept = Some(Kept { request: id, agent });
                self.reindex(agent);
                return true;
            }
        }
        false
    }

    fn has_room(&self, kept: Kept) -> bool {
        let (Some(agent), Some(request)) = (self.agents.get(&kept.agent), self.requests.get(&kept.request))
        else {
            return false;
        };
        let wanted = request.place.slots.min(agent.report.slots_total);
        self.is_eligible(kept.agent, agent) && wanted > 0 && self.free(kept.agent, agent) >= wanted
    }

    /// Leases the slots. The request is in no queue.
    fn grant(&mut self, request_id: RequestId, agent_id: AgentKey) {
        let id = LeaseId(self.lease_next);
        self.lease_next += 1;
        let now = self.now;
        let (Some(request), Some(agent)) = (self.requests.get_mut(&request_id), self.agents.get(&agent_id))
        else {
            self.broke(Broken::GrantToNobody);
            return;
        };
        let slots = request.place.slots.min(agent.report.slots_total);
        let pool = request.pool;
        request.lease = Some(id);
        let cold_start = request.cold_start;
        // **Invariant:** no grant exceeds free slots.
        if self.free(agent_id, agent) < slots {
            self.broke(Broken::OverCommit);
        }
        self.leases.insert(
            id,
            Lease {
                request: request_id,
                pool,
                agent: agent_id,
                slots,
                granted_at: now,
                state: LeaseState::Waiting,
            },
        );
        self.hold(agent_id, id, slots);
        self.commands.push_back(Command::Grant {
            request: request_id,
            lease: id,
            agent: agent_id,
            cold_start,
        });
    }

    /// Ends a lease and gives its slots back.
    fn release(&mut self, id: LeaseId) {
        self.disarm(Timer::Cooling(id));
        if let Some(lease) = self.leases.remove(&id) {
            self.let_go(lease.agent, id, lease.slots);
        }
    }

    fn enqueue(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        let Some(pool) = self.pools.get_mut(&request.pool) else { return };
        self.plan_changed |= pool.queue.is_empty();
        pool.queue.insert(id, request.place);
        pool.surplus_since = None;
        self.deadlines.insert((request.deadline, id));
        self.queued += 1;
        self.queued_peak = self.queued_peak.max(self.queued);
    }

    fn dequeue(&mut self, id: RequestId) -> Option<PoolId> {
        self.take_from_queue(id, |pool, place| pool.queue.remove(place))
    }

    fn dequeue_for_grant(&mut self, id: RequestId) {
        self.take_from_queue(id, |pool, place| pool.queue.give(place));
    }

    fn take_from_queue(
        &mut self,
        id: RequestId,
        take: impl FnOnce(&mut Pool, Place) -> bool,
    ) -> Option<PoolId> {
        let request = self.requests.get(&id)?;
        let (pool_id, place) = (request.pool, request.place);
        let pool = self.pools.get_mut(&pool_id)?;
        if !take(pool, place) {
            self.broke(Broken::QueueDiffersFromRequests);
            return None;
        }
        self.deadlines.remove(&(request.deadline, id));
        self.queued -= 1;
        if let Some(kept) = pool.kept.filter(|kept| kept.request == id) {
            pool.kept = None;
            self.reindex(kept.agent);
        }
        Some(pool_id)
    }

    /// The one end of a request that was not served.
    fn answer(&mut self, request: RequestId, because: Rejection) {
        self.requests.remove(&request);
        self.reject(request, because);
    }

    fn reject(&mut self, request: RequestId, because: Rejection) {
        self.commands.push_back(Command::Reject { request, because });
    }

    /// When a slot may be free: the backlog at the measured pace, or the boot's end if nothing serves.
    fn retry_after(&self, pool_id: PoolId) -> Duration {
        let Some(pool) = self.pools.get(&pool_id) else { return RETRY_AFTER_MIN };
        let slots = self.slots_serving(pool_id);
        if slots == 0 {
            return self.boot_eta(pool_id).max(RETRY_AFTER_MIN);
        }
        let turns = pool.queue.slots() as f64 / f64::from(slots);
        let after = pool.service.estimate().unwrap_or_default().mul_f64(turns);
        after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }
}
