//! The invariants that span modules, all in one place: run after each event in tests and in the simulator.
//!
//! The cheap ones are looked at where they are enforced, at all times: a breach is noted as [`Broken`] and taken by the
//! shell, which logs and counts it. Nothing panics.

use super::dispatch::LeaseState;
use super::fair_queue::Width;
use super::{AgentKey, Core, Rejection};

/// An invariant that did not hold. Each is a fault of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Broken {
    /// An event names a pool that does not exist.
    #[error("an event names an unknown pool")]
    UnknownPool,
    /// A grant exceeds free slots.
    #[error("a grant exceeds the free slots")]
    OverCommit,
    /// A grant without its request or agent.
    #[error("a grant to a request or an agent that is not there")]
    GrantToNobody,
    /// A lease on an agent that was forgotten.
    #[error("a lease outlived its agent's account")]
    LeaseWithoutAgent,
    /// An agent's counters are not the sums over its leases.
    #[error("an agent's held slots differ from its leases")]
    HeldDiffersFromLeases,
    /// The queue and the requests disagree.
    #[error("the queue differs from the requests that wait")]
    QueueDiffersFromRequests,
    /// The deadlines and the requests disagree.
    #[error("the deadlines differ from the requests that wait")]
    DeadlinesDifferFromQueue,
    /// An index of agents is not what the agents are.
    #[error("an index of agents is stale")]
    IndexStale,
    /// A request waits for nothing.
    #[error("a request waits while a slot is free")]
    WaitsWhileFree,
    /// A lease whose request was answered otherwise.
    #[error("a lease without its request")]
    LeaseWithoutRequest,
    /// Two wakes of one pool at once.
    #[error("a second wake while one is in flight")]
    SecondWake,
    /// A wake that would have lowered a group's wish.
    #[error("a wake lowers its group's wish")]
    WishLowered,
    /// The end of an instance was begun while it served.
    #[error("a busy instance is terminated")]
    BusyInstanceTerminated,
    /// The ledger counts what is not there, or not what is.
    #[error("the ledger differs from the instances that are there")]
    LedgerDiffers,
    /// A queue that waits with nothing under way for it.
    #[error("requests wait, nothing serves or boots, and no plan mends it")]
    LostWake,
}

impl Core {
    pub(super) fn broke(&mut self, what: Broken) {
        self.broken.push(what);
    }

    /// Looks at everything, in time linear in the state.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        if let Some(&first) = self.broken.first() {
            return Err(first);
        }
        self.check_leases()?;
        self.check_queues()?;
        self.check_agents()?;
        self.check_waits()?;
        self.check_ledger()?;
        self.check_wake()
    }

    fn check_leases(&self) -> Result<(), Broken> {
        for (id, lease) in &self.leases {
            let is_cooling = matches!(lease.state, LeaseState::Cooling { .. });
            let request = self.requests.get(&lease.request);
            if !is_cooling && request.is_none_or(|request| request.lease != Some(*id)) {
                return Err(Broken::LeaseWithoutRequest);
            }
            if !self.agents.get(&lease.agent).is_some_and(|agent| agent.leases.contains(id)) {
                return Err(Broken::LeaseWithoutAgent);
            }
        }
        for request in self.requests.values() {
            if request.lease.is_some_and(|lease| !self.leases.contains_key(&lease)) {
                return Err(Broken::LeaseWithoutRequest);
            }
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), Broken> {
        let waiting = self.requests.values().filter(|request| request.lease.is_none()).count();
        let queued: usize = self.pools.values().map(|pool| pool.queue.len()).sum();
        if waiting != queued || queued != self.queued {
            return Err(Broken::QueueDiffersFromRequests);
        }
        for pool in self.pools.values() {
            let mut slots = 0;
            for id in pool.queue.requests() {
                let request = self.requests.get(&id).ok_or(Broken::QueueDiffersFromRequests)?;
                if request.lease.is_some() {
                    return Err(Broken::QueueDiffersFromRequests);
                }
                if !self.deadlines.contains(&(request.deadline, id)) {
                    return Err(Broken::DeadlinesDifferFromQueue);
                }
                slots += u64::from(request.place.slots);
            }
            if slots != pool.queue.slots() {
                return Err(Broken::QueueDiffersFromRequests);
            }
        }
        if self.deadlines.len() == self.queued { Ok(()) } else { Err(Broken::DeadlinesDifferFromQueue) }
    }

    fn check_agents(&self) -> Result<(), Broken> {
        for (&key, agent) in &self.agents {
            let leases = agent.leases.iter().filter_map(|id| self.leases.get(id));
            let (held, riders) = leases.fold((0, 0), |(held, riders), lease| {
                (held + lease.slots, riders + u32::from(lease.slots == 0))
            });
            if (held, riders) != (agent.held, agent.riders) {
                return Err(Broken::HeldDiffersFromLeases);
            }
            let pool = self.pools.get(&agent.pool).ok_or(Broken::UnknownPool)?;
            let is_eligible = self.is_eligible(key, agent);
            let is_kept = pool.kept.is_some_and(|kept| kept.agent == key);
            let free = self.free(key, agent);
            let should_be_open = is_eligible && !is_kept && free > 0;
            let is_open = agent.score.is_some_and(|score| pool.open.contains(&score) && score.free.0 == free);
            let is_live = agent.live.is_some_and(|riders| pool.live.contains(&(riders, key)));
            if should_be_open != is_open || is_eligible != is_live {
                return Err(Broken::IndexStale);
            }
        }
        Ok(())
    }

    /// **Invariant:** what is there counts, once, and is busy while it holds a lease.
    fn check_ledger(&self) -> Result<(), Broken> {
        let has_leases = |key: &AgentKey| self.agents.get(key).is_some_and(|agent| !agent.leases.is_empty());
        let agrees = self.pools.values().all(|pool| {
            pool.ledger.agrees(&pool.instances, |instance| instance.agents.iter().any(has_leases))
        });
        if agrees { Ok(()) } else { Err(Broken::LedgerDiffers) }
    }

    /// **Invariant:** no eligible request waits while a slot not reserved for another is free.
    fn check_waits(&self) -> Result<(), Broken> {
        for pool in self.pools.values() {
            if pool.queue.slotless().is_some() && !pool.live.is_empty() {
                return Err(Broken::WaitsWhileFree);
            }
            for tenant in pool.queue.turns() {
                let (one, many) = pool.queue.heads(tenant);
                let many = many.and_then(|(_, id)| self.requests.get(&id)).map(|request| request.place.slots);
                debug_assert!(many.is_none_or(|slots| Width::of(slots) == Width::Many));
                let one_fits = one.is_some() && !pool.open.is_empty();
                if one_fits || many.is_some_and(|slots| pool.open.fit(slots).is_some()) {
                    return Err(Broken::WaitsWhileFree);
                }
            }
        }
        Ok(())
    }

    /// **Invariant:** the wake is a matter of level: whenever requests wait that nothing serves and nothing boots for,
    /// the plan acts, or waits for something that it names.
    fn check_wake(&self) -> Result<(), Broken> {
        let plan = self.plan(self.time());
        for (&id, pool) in &self.pools {
            let can_launch = pool.config.has_fleet && pool.config.instances_max > 0;
            if !can_launch || pool.queue.is_empty() || self.shutting_down {
                continue;
            }
            if let Some(Rejection::NoCapacity { .. } | Rejection::BudgetExhausted { .. }) =
                self.out_of_capacity(id)
            {
                return Err(Broken::LostWake);
            }
            if plan.actions.is_empty() && plan.wait.is_none() && self.is_unserved(id) {
                return Err(Broken::LostWake);
            }
        }
        Ok(())
    }
}
