//! What is promised, judged by what the world itself knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clients::{LULL_MAX, Outcome, RequestState};
use super::hosts::{Fate, HostState};
use super::world::World;
use crate::core::snapshot::Drain;
use crate::core::{
    Action, AgentKey, AttemptFailure, InstanceId, LeaseId, PoolId, Rejection, RequestId, Wait,
};

/// The slot of a cancelled request counts as busy for so long.
pub(super) const COOLING: Duration = Duration::from_secs(2);
/// After so long without any disturbance a free slot is taken by whoever waits: longer than a quarantine.
const STEADY: Duration = Duration::from_secs(6);
/// After the heal everything is answered and at rest within this, plus what the options themselves ask for.
const BOUND: Duration = Duration::from_secs(900);

/// What the checks remember.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Launches that failed, or were bound to.
    pub(super) failures: BTreeMap<PoolId, u64>,
    /// Attempts that the core said to end.
    pub(super) aborted: BTreeSet<LeaseId>,
    pub(super) last_wait: Option<Wait>,
}

impl World {
    /// A grant goes to a request that waits, in order, and to slots that are free.
    pub(super) fn check_grant(&mut self, id: RequestId, lease: LeaseId, agent: AgentKey) -> Option<usize> {
        if self.clients.leases_seen.contains(&lease) {
            self.fail(&format!("lease {lease} was granted twice"));
        }
        let request = self.clients.requests.get(&id)?;
        if request.state != RequestState::Waiting {
            let state = request.state;
            self.fail(&format!("request {id} was granted while {state:?}"));
            return None;
        }
        let width = |slots: u32| slots.min(2);
        let older = self.clients.waiting.range(..id).find(|older| {
            self.clients.requests.get(older).is_some_and(|older| {
                // Slots may be kept for the next request for several while the first was away on an attempt.
                let was_away = older.slots > 1 && older.failures() + older.recalls > 0;
                (older.pool, older.tenant, width(older.slots))
                    == (request.pool, request.tenant, width(request.slots))
                    && !was_away
            })
        });
        if let Some(older) = older.copied() {
            self.fail(&format!("request {id} was granted before {older}, which is older"));
        }
        let Some(&host) = self.host_of_agent.get(&agent.agent) else {
            self.fail(&format!("request {id} was granted on an agent that does not exist"));
            return None;
        };
        let request = self.clients.requests.get(&id)?;
        let (wanted, pool) = (request.slots, request.pool);
        if self.hosts[host].pool != pool {
            self.fail(&format!("request {id} was granted in a foreign pool"));
        }
        let found = &self.hosts[host];
        let slots = wanted.min(found.server.slots);
        let leased = self.clients.attempts.values().filter(|attempt| attempt.host == host);
        let ours: u32 = leased.map(|attempt| attempt.slots).sum();
        let computing =
            found.server.tasks.values().filter(|task| {
                task.is_running && task.cancelled_at.is_some_and(|at| at + COOLING > self.now)
            });
        let cancelled: u32 = computing.map(|task| task.slots).sum();
        let (total, foreign) = (found.server.slots, found.foreign_known);
        if slots > 0 && !found.is_excused && ours + cancelled + foreign + slots > total {
            self.fail(&format!(
                "over-commit: {slots} more on {ours} leased, {cancelled} cancelled and {foreign} foreign of {total} slots"
            ));
        }
        Some(host)
    }

    /// A rejection says the truth.
    pub(super) fn rejected(&mut self, id: RequestId, because: &Rejection) {
        let Some(request) = self.clients.requests.get(&id) else { return };
        if request.state != RequestState::Waiting {
            let state = request.state;
            self.fail(&format!("request {id} was rejected while {state:?}"));
            return;
        }
        let pool = request.pool;
        let waited = self.now.since(request.arrived_at);
        let (has_waited, has_deadline) = (waited >= request.wait_max, request.has_deadline);
        let failures = (request.connect_failures, request.deaths, request.not_ready);
        let others = self.clients.waiting.len() - 1;
        let is_true = match because {
            Rejection::QueueFull { .. } => waited.is_zero() && others >= self.options.core.queue_max,
            Rejection::QueueTimeout { .. } => has_waited,
            Rejection::TooLate { .. } => waited.is_zero() && has_deadline,
            Rejection::NoCapacity { .. } => self.has_failed_launches(pool),
            Rejection::BudgetExhausted { .. } => self.pool(pool).config.budget_per_day.is_some(),
            Rejection::NoAgents => self.options.core.queue_max == 0 && !self.pool(pool).config.has_fleet,
            Rejection::ShuttingDown => self.is_shutting_down,
            Rejection::UpstreamFailed { kind, .. } => {
                let is_used_up = match kind {
                    AttemptFailure::CouldNotConnect => failures.0 > 3,
                    AttemptFailure::Died => failures.1 > 1,
                    AttemptFailure::NotReady | AttemptFailure::Recalled => false,
                };
                is_used_up || (has_waited && request.failures() > 0)
            }
        };
        if !is_true {
            self.fail(&format!(
                "request {id} was told {because:?}, after {waited:?} and {failures:?} failures"
            ));
        }
        self.count(match because {
            Rejection::QueueFull { .. } => "told: queue full",
            Rejection::QueueTimeout { .. } if has_deadline => "told: its deadline",
            Rejection::QueueTimeout { .. } => "told: queue timeout",
            Rejection::TooLate { .. } => "told: too late",
            Rejection::NoCapacity { .. } => "told: no capacity",
            Rejection::BudgetExhausted { .. } => "told: budget exhausted",
            Rejection::NoAgents => "told: no agents",
            Rejection::ShuttingDown => "told: shutting down",
            Rejection::UpstreamFailed { .. } => "told: upstream failed",
        });
        self.close(id, Outcome::Rejected);
    }

    /// Whether a launch failed, or one is past its deadline.
    fn has_failed_launches(&self, pool: PoolId) -> bool {
        let boot_timeout = self.pool(pool).config.boot_timeout;
        self.promises.failures.contains_key(&pool)
            || self.hosts.iter().any(|host| {
                let is_late = !host.has_registered && host.launched_at + boot_timeout <= self.now;
                host.pool == pool && host.instance.is_some() && is_late
            })
    }

    /// Nobody waits past the deadline.
    pub(super) fn check_deadlines(&mut self) {
        let late = self.clients.waiting.iter().find_map(|id| {
            let request = self.clients.requests.get(id)?;
            (self.now.since(request.arrived_at) >= request.wait_max).then_some((*id, request.wait_max))
        });
        if let Some((id, wait_max)) = late {
            self.fail(&format!("request {id} still waits after {wait_max:?}"));
        }
    }

    /// In the very step in which a request is queued with nothing serving or booting, a wake is planned.
    pub(super) fn check_wake_is_planned(&mut self, id: RequestId) {
        let Some(request) = self.clients.requests.get(&id) else { return };
        let pool = request.pool;
        let config = &self.pool(pool).config;
        if request.state != RequestState::Waiting || !config.has_fleet || config.instances_max == 0 {
            return;
        }
        let snapshot = self.core.snapshot();
        let is_served = snapshot.agents.iter().any(|agent| agent.pool == pool && agent.is_connected);
        let Some(seen) = snapshot.pools.iter().find(|seen| seen.pool == pool) else { return };
        if is_served || seen.pending > 0 || !seen.instances.is_empty() {
            return;
        }
        // The plan names the earliest of its waits; a failed launch is repeated after a pause.
        let is_held_back = self.promises.last_wait.is_some()
            && (seen.trouble.is_some() || self.fleet.unknown_at.contains_key(&pool));
        let is_under_way =
            self.fleet.wakes(pool) > 0 || self.fleet.is_looking(pool) || self.fleet.is_withdrawing(pool);
        if !is_under_way && !is_held_back {
            self.fail(&format!(
                "lost wake: request {id} waits, nothing serves or boots, and no wake is planned"
            ));
        }
    }

    /// An action harms nobody.
    pub(super) fn check_action(&mut self, action: &Action) {
        let pool = action.pool();
        if self.is_shutting_down && !matches!(action, Action::ExtendLifecycle { .. }) {
            self.fail(&format!("{action:?} during the shutdown"));
        }
        match action {
            Action::Wake { group, instances, .. } => {
                let there = self.hosts.iter().filter(|host| host.pool == pool && host.group == *group);
                let there = there.filter(|host| host.is_there() && host.instance.is_some()).count() as u32;
                self.check_budget(pool, *group, instances.saturating_sub(there).max(1));
                if self.fleet.wakes(pool) > 0 {
                    self.fail(&format!("a second wake of pool {pool} while one is in flight"));
                }
                let boot_timeout = self.pool(pool).config.boot_timeout;
                // Of those that were not heard of in time nothing is expected.
                let is_overdue = |host: &&super::hosts::Host| {
                    host.pool == pool && !host.has_registered && host.launched_at + boot_timeout <= self.now
                };
                let overdue = self.hosts.iter().filter(is_overdue).filter(|host| host.is_there()).count();
                let others = self.fleet.foreign_wishes + overdue as u32;
                if *instances > self.pool(pool).config.instances_max + others {
                    self.fail(&format!("a wake of pool {pool} to {instances} instances"));
                }
            }
            Action::Describe { .. } | Action::Withdraw { .. } | Action::ExtendLifecycle { .. } => {}
            Action::CompleteLifecycle { instance, .. } => {
                let host = self.host_of_instance.get(instance).copied();
                let served = self.clients.attempts.iter().find(|(_, attempt)| Some(attempt.host) == host);
                if let Some((lease, _)) = served {
                    self.fail(&format!(
                        "the end of {instance} is let go on while lease {lease} is served there"
                    ));
                }
            }
            Action::Terminate { instance, .. } => {
                let Some(&host) = self.host_of_instance.get(instance) else {
                    self.fail(&format!("{instance} is terminated, which does not exist"));
                    return;
                };
                self.check_termination(pool, host);
            }
        }
    }

    fn check_termination(&mut self, pool: PoolId, at: usize) {
        let host = &self.hosts[at];
        let instance = host.instance.clone();
        let name = instance.as_ref().map(ToString::to_string).unwrap_or_default();
        if !host.is_there() {
            return;
        }
        if let Some((lease, _)) = self.clients.attempts.iter().find(|(_, attempt)| attempt.host == at) {
            self.fail(&format!("{name} is terminated while lease {lease} is served there"));
            return;
        }
        let snapshot = self.core.snapshot();
        let pools = snapshot.pools.iter().find(|seen| seen.pool == pool);
        let drain =
            pools.and_then(|pool| pool.instances.iter().find(|seen| Some(&seen.id) == instance.as_ref()));
        let is_registered = drain.is_some_and(|seen| seen.registered);
        let drain = drain.and_then(|seen| seen.drain);
        let boot_timeout = self.pool(pool).config.boot_timeout;
        let is_named = self.pool(pool).fleet_names_launches;
        // Launches without a name are told apart by age alone: the oldest pending one counts.
        let oldest = self.fleet.wakes.iter().find(|&&(of, at)| {
            let is_near = at <= host.launched_at && at + boot_timeout > host.launched_at;
            of == pool && (at == host.launched_at || (!is_named && is_near))
        });
        let due = oldest.map_or(host.launched_at, |&(_, at)| at) + boot_timeout;
        // What a group launched by itself goes while it boots, if nobody waits: see below.
        let is_spare = drain == Some(Drain::Idle) && self.pool(pool).config.looks.is_some();
        let is_warned = drain == Some(Drain::Notice) && host.notice.is_some();
        let is_spent = drain == Some(Drain::Budget) && self.pool(pool).config.budget_per_day.is_some();
        let is_expected = host.fate != Fate::Misconfigured && !is_spare && !is_warned && !is_spent;
        if !host.has_registered && is_expected && due > self.now {
            self.fail(&format!("{name} is terminated for {drain:?} while it boots, before its deadline"));
            return;
        }
        let is_wanted = self
            .clients
            .waiting
            .iter()
            .any(|id| self.clients.requests.get(id).is_some_and(|request| request.pool == pool));
        if drain == Some(Drain::Fault) {
            self.boot_fails(pool);
        }
        if drain == Some(Drain::Idle) && is_wanted {
            self.fail(&format!("{name} is terminated as idle while requests wait"));
        }
        let staying =
            pools.map_or(0, |pool| pool.instances.iter().filter(|seen| seen.drain.is_none()).count());
        let is_below_min = staying < self.pool(pool).config.instances_min as usize;
        // A spare that boots is ended while what was asked for is on its way, in sight or not.
        if drain == Some(Drain::Idle) && is_below_min && is_registered {
            self.fail(&format!("{name} is terminated as idle below the least number"));
        }
    }

    /// What ran on a lost instance is ended in the same step, for its connections may say nothing.
    pub(super) fn check_aborts(&mut self, lost: &[InstanceId]) {
        for id in lost {
            let Some(&host) = self.host_of_instance.get(id) else { continue };
            let is_named = !self.pool(self.hosts[host].pool).agents_are_old;
            let left = self
                .clients
                .attempts
                .iter()
                .find(|(lease, attempt)| attempt.host == host && !self.promises.aborted.contains(lease));
            if let Some((&lease, _)) = left.filter(|_| is_named) {
                self.fail(&format!("{id} is lost, and lease {lease} on it was not aborted"));
            }
        }
    }

    pub(super) fn check_instances_max(&mut self, pool: PoolId) {
        let there = self.hosts.iter().filter(|host| host.pool == pool && host.instance.is_some());
        let there = there.filter(|host| host.is_there()).count();
        if there > self.pool(pool).config.instances_max as usize && self.pool(pool).config.looks.is_none() {
            self.fail(&format!("pool {pool} has {there} instances"));
        }
    }

    /// Nobody waits beside a free slot for long, and after the heal all comes to its end.
    pub(super) fn check_progress(&mut self) {
        self.check_nobody_starves();
        let asked =
            self.options.pools.iter().map(|pool| {
                pool.config.idle_timeout * 5 + pool.config.life_min + pool.config.boot_timeout * 3
            });
        let bound = asked.max().unwrap_or_default() + self.options.core.wait_max + BOUND;
        let bound = bound + Duration::from_secs(300) * self.options.cycles;
        // The last lull may begin just before the month ends.
        let bound = bound + self.options.month.map_or(Duration::ZERO, |month| month + LULL_MAX);
        if self.now > self.options.heal_at + bound {
            let waiting = self.clients.waiting.len();
            let leased = self.clients.attempts.len();
            let snapshot = self.core.snapshot();
            self.note(format_args!("  {snapshot:?}"));
            self.fail(&format!("not at rest {bound:?} after the heal: {waiting} wait, {leased} are served"));
        }
    }

    fn check_nobody_starves(&mut self) {
        for at in 0..self.options.pools.len() {
            let pool = PoolId(at as u32);
            let span = STEADY + self.options.pools[at].report_every * 4;
            let waits = |id: &&RequestId, slots: std::ops::RangeInclusive<u32>, since: Duration| {
                self.clients.requests.get(id).is_some_and(|request| {
                    request.pool == pool
                        && slots.contains(&request.slots)
                        && request.arrived_at + since < self.now
                })
            };
            let Some(&waiting) = self.clients.waiting.iter().find(|id| waits(id, 1..=1, span)) else {
                continue;
            };
            if self.clients.waiting.iter().any(|id| waits(&id, 2..=u32::MAX, Duration::ZERO)) {
                continue;
            }
            let free = self.hosts.iter().position(|host| host.pool == pool && self.is_free(host, span));
            if let Some(host) = free {
                let address = self.hosts[host].address;
                let snapshot = self.core.snapshot();
                self.note(format_args!("  {snapshot:?}"));
                self.fail(&format!(
                    "request {waiting} waits while {address} has had a free slot for {span:?}"
                ));
            }
        }
    }

    fn is_free(&self, host: &super::hosts::Host, span: Duration) -> bool {
        let is_steady = host.steady_since + span < self.now && host.calm_since + span < self.now;
        let is_heard = host.agents.iter().any(|agent| agent.connection.is_some())
            && host.agents.iter().all(|agent| agent.frozen_until + span < self.now);
        let is_good = host.state == HostState::Running && host.server.is_ready && host.fate == Fate::Healthy;
        if !is_steady || !is_heard || !is_good || host.lie != 0 || host.is_excused || host.notice.is_some() {
            return false;
        }
        let at = self.host_of_agent.get(&host.agents[0].key.agent).copied();
        let ours = self.clients.attempts.values().filter(|attempt| Some(attempt.host) == at);
        let ours: u32 = ours.map(|attempt| attempt.slots).sum();
        if ours + host.server.foreign() >= host.server.slots || host.server.defers() {
            return false;
        }
        let snapshot = self.core.snapshot();
        let pool = snapshot.pools.iter().find(|seen| seen.pool == host.pool);
        let instance =
            pool.and_then(|pool| pool.instances.iter().find(|seen| Some(&seen.id) == host.instance.as_ref()));
        instance.is_none_or(|seen| seen.drain.is_none())
    }

    /// What must hold at the very end.
    pub(super) fn check_end(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let open =
            self.clients.requests.iter().find(|(_, request)| !matches!(request.state, RequestState::Over(_)));
        if let Some((id, request)) = open {
            let state = request.state;
            self.fail(&format!("request {id} was never answered: {state:?}"));
        }
        if self.options.month.is_some() {
            self.check_days(Duration::from_secs(60));
        }
        if self.core.queued() > 0 || self.core.leased() > 0 {
            let (queued, leased) = (self.core.queued(), self.core.leased());
            self.fail(&format!("at the end the core has {queued} in its queue and {leased} leases"));
        }
    }
}
