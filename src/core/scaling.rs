//! Load × fleet → plan. Level-triggered: recomputed from state, because fleets are eventually consistent and their
//! calls fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::boot::{BootTimes, ServiceTime};
use super::event::{Action, Plan, Wait};
use super::fair_queue::{FairQueue, Place, Width};
use super::ids::{AgentKey, InstanceId, Mono, Now, OperationId, PoolId, RequestId};
use super::instances::{Instance, Terminate};
use super::pick::OpenAgents;
use super::registry::Agent;
use super::trouble::Trouble;
use super::{Core, PoolConfig};

/// How often a backlog is weighed against a boot.
const GROW_INTERVAL: Duration = Duration::from_secs(1);
/// Slots that are kept for a request for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) request: RequestId,
    pub(super) agent: AgentKey,
}

/// An instance that was asked for and is not known by its id yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    pub(super) operation: OperationId,
    pub(super) started_at: Mono,
}

/// Instances that are alike, the requests that wait for them, and the agents that serve them.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) config: PoolConfig,
    pub(super) queue: FairQueue,
    pub(super) open: OpenAgents,
    /// Agents to which requests without a slot may go, those with the fewest of them first.
    pub(super) live: BTreeSet<(u32, AgentKey)>,
    pub(super) kept: Option<Kept>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) boots: BootTimes,
    pub(super) service: ServiceTime,
    pub(super) slots_learnt: Option<u32>,
    pub(super) launches: Vec<Launch>,
    /// At most one wake is in flight.
    pub(super) wake: Option<OperationId>,
    pub(super) terminations: BTreeMap<OperationId, InstanceId>,
    pub(super) describe: Option<OperationId>,
    /// An answer was lost: nothing is repeated before the fleet was observed.
    pub(super) is_uncertain: bool,
    pub(super) describe_after: Mono,
    pub(super) is_observed: bool,
    pub(super) trouble: Trouble,
    /// Since when the others could have carried the load of the least loaded instance.
    pub(super) surplus_since: Option<Mono>,
}

impl Pool {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            queue: FairQueue::default(),
            open: OpenAgents::default(),
            live: BTreeSet::new(),
            kept: None,
            instances: BTreeMap::new(),
            boots: BootTimes::default(),
            service: ServiceTime::default(),
            slots_learnt: None,
            launches: Vec::new(),
            wake: None,
            terminations: BTreeMap::new(),
            describe: None,
            is_uncertain: false,
            describe_after: Mono::default(),
            is_observed: false,
            trouble: Trouble::default(),
            surplus_since: None,
        }
    }

    /// The agent that a new request may use at once, with nobody in front of it.
    pub(super) fn passes(&self, place: Place) -> Option<AgentKey> {
        match Width::of(place.slots) {
            Width::None => self.live.first().map(|&(_, agent)| agent),
            Width::One => self.open.fit(1),
            Width::Many => self.queue.is_empty().then(|| self.open.fit(place.slots)).flatten(),
        }
    }

    /// Instances that are asked for or there, whatever their state.
    pub(super) fn instances_all(&self) -> usize {
        self.instances.len() + self.launches.len()
    }

    /// Launches that may yet register.
    pub(super) fn pending(&self) -> usize {
        self.launches.len() + self.instances.values().filter(|instance| instance.is_booting()).count()
    }

    /// Whether there are fewer instances than are always kept.
    pub(super) fn is_below_min(&self) -> bool {
        self.instances_staying() < self.config.instances_min as usize
    }

    /// Instances that serve or will, unless something happens to them.
    fn instances_staying(&self) -> usize {
        self.launches.len() + self.instances.values().filter(|instance| instance.drain.is_none()).count()
    }
}

/// What the fleet does next.
impl Core {
    /// The steps that load and fleet ask for, for each pool:
    ///
    /// 1. Without a fleet, or shutting down: none.
    /// 2. An answer was lost: look at the fleet, and repeat nothing before.
    /// 3. Drained instances end, once the fleet was observed.
    /// 4. One wake at a time: for the least number of instances, for a queue that nobody serves, or for a backlog that
    ///    takes longer than a boot.
    #[must_use]
    pub fn plan(&self, now: Now) -> Plan {
        let now = self.now.max(now.mono);
        let mut plan = Plan::default();
        if self.shutting_down {
            return plan;
        }
        for (&id, pool) in self.pools.iter().filter(|(_, pool)| pool.config.has_fleet) {
            if pool.is_uncertain {
                if pool.describe.is_some() {
                } else if now < pool.describe_after {
                    plan.wait_until(pool.describe_after, Wait::DescribeBackoff);
                } else {
                    plan.actions.push(Action::Describe { pool: id });
                }
                continue;
            }
            if pool.is_observed {
                self.plan_terminations(id, pool, now, &mut plan);
            }
            self.plan_wake(id, pool, now, &mut plan);
        }
        plan
    }

    fn plan_terminations(&self, id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
        for (instance_id, instance) in &pool.instances {
            if instance.drain.is_none() || !instance.is_there() || self.is_busy(instance) {
                continue;
            }
            match instance.terminate {
                Terminate::Failed { retry_at } if retry_at > now => {
                    plan.wait_until(retry_at, Wait::TerminateBackoff);
                }
                Terminate::NotAsked | Terminate::Failed { .. } => {
                    plan.actions.push(Action::Terminate { pool: id, instance: instance_id.clone() });
                }
                Terminate::Started | Terminate::Asked => {}
            }
        }
    }

    fn plan_wake(&self, id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
        let room = pool.config.instances_max as usize;
        if pool.wake.is_some() || pool.instances_all() >= room {
            return;
        }
        let staying = pool.instances_staying();
        let below_min = pool.is_below_min();
        let unserved = !pool.queue.is_empty() && self.serving(id, pool) == 0 && pool.pending() == 0;
        let backlog = !pool.queue.is_empty() && !unserved;
        let is_wanted = below_min || unserved || (backlog && self.growth_pays(id, pool, now));
        if !is_wanted {
            if backlog {
                plan.wait_until(now + GROW_INTERVAL, Wait::GrowCheck);
            }
            return;
        }
        let not_before = pool.trouble.pause_until.max(pool.trouble.refuse_until.unwrap_or_default());
        if now < not_before {
            plan.wait_until(not_before, Wait::LaunchBackoff);
            return;
        }
        let wanted = if below_min { pool.config.instances_min as usize } else { staying + 1 };
        // Those that leave still count for the fleet.
        let leaving = pool.instances_all() - staying;
        let instances = u32::try_from((wanted + leaving).min(room)).unwrap_or(pool.config.instances_max);
        plan.actions.push(Action::Wake { pool: id, instances });
    }

    /// Whether the backlog takes longer on what runs and boots than another boot takes. Never before both were
    /// measured: a boot that is under way has first to show what it brings.
    fn growth_pays(&self, id: PoolId, pool: &Pool, now: Mono) -> bool {
        let Some(boot) = pool.boots.quantile(500) else { return false };
        let oldest =
            self.leases.values().find(|lease| lease.pool == id).map(|lease| now.since(lease.granted_at));
        let Some(service) = pool.service.estimate().max(oldest) else { return false };
        let pending = u32::try_from(pool.pending()).unwrap_or(u32::MAX);
        let slots = self.slots_serving(id) + pending.saturating_mul(self.slots_per_instance(pool));
        service.mul_f64(pool.queue.slots() as f64 / f64::from(slots.max(1))) > boot
    }

    fn slots_per_instance(&self, pool: &Pool) -> u32 {
        pool.slots_learnt.unwrap_or(pool.config.slots_hint).max(1)
    }

    /// Slots of the agents that are up.
    pub(super) fn slots_serving(&self, pool: PoolId) -> u32 {
        let agents = self.agents.values().filter(|agent| agent.pool == pool && agent.is_serving());
        agents.map(|agent| agent.report.slots_total).sum()
    }

    /// Servers that are up, quarantined or not, and instances whose agent was lost a moment ago. Those that leave do
    /// not count.
    pub(super) fn serving(&self, id: PoolId, pool: &Pool) -> usize {
        let instances = pool.instances.values().filter(|instance| instance.is_serving(self.now)).count();
        let unbound = self
            .agents
            .values()
            .filter(|agent| agent.pool == id && agent.is_serving() && self.instance_of(agent).is_none());
        instances + unbound.count()
    }

    pub(super) fn instance_of<'a>(&'a self, agent: &Agent) -> Option<&'a Instance> {
        self.pools.get(&agent.pool)?.instances.get(agent.instance.as_ref()?)
    }

    /// Whether nothing serves, boots or is on its way to an end that makes room for a launch.
    pub(super) fn is_unserved(&self, id: PoolId) -> bool {
        let Some(pool) = self.pools.get(&id) else { return false };
        let is_under_way = pool.wake.is_some() || pool.describe.is_some() || pool.instances_all() > 0;
        !is_under_way && self.serving(id, pool) == 0
    }

    /// Whether anything computes there. **Invariant:** no busy instance is ever terminated.
    pub(super) fn is_busy(&self, instance: &Instance) -> bool {
        instance.agents.iter().filter_map(|key| self.agents.get(key)).any(Agent::is_busy)
    }

    /// How long until an instance that boots, or would boot now, has slots.
    pub(super) fn boot_eta(&self, id: PoolId) -> Duration {
        let Some(pool) = self.pools.get(&id) else { return Duration::ZERO };
        let booting = pool.instances.values().filter(|instance| instance.is_booting()).map(|i| i.launched_at);
        let first = booting.chain(pool.launches.iter().map(|launch| launch.started_at)).min();
        pool.boots.left(first.map_or(Duration::ZERO, |since| self.now.since(since)))
    }
}

impl Plan {
    fn wait_until(&mut self, at: Mono, why: Wait) {
        let wait = (at, why);
        self.wait = Some(self.wait.map_or(wait, |earlier| earlier.min(wait)));
    }
}
