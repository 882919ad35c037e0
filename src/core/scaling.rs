//! Load × fleet → plan. Level-triggered: recomputed from state, because fleets are eventually consistent and their
//! calls fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::boot::{BOOT_ASSUMED, BootTimes, ServiceTime};
use super::event::{Action, AgentReport, InstanceState, NoticeReason, Plan, Wait};
use super::fair_queue::{FairQueue, Place, Width};
use super::fleet::Step;
use super::groups::{Group, Origin, SETTLE, Withdraw};
use super::ids::{AgentKey, GroupId, InstanceId, Mono, Now, OperationId, PoolId, RequestId};
use super::instances::{Drain, Instance, Progress};
use super::journal::Journal;
use super::ledger::Ledger;
use super::pick::OpenAgents;
use super::registry::Agent;
use super::trouble::Trouble;
use super::{Core, PoolConfig};

/// How often a backlog is weighed against a boot.
const GROW_INTERVAL: Duration = Duration::from_secs(1);
/// The fleet is not looked at more often, however often there is a reason to.
const LOOKS_APART_MIN: Duration = Duration::from_secs(1);
/// How often it is asked again whether the day has room for what is wanted: there is more the nearer its end is.
const BUDGET_INTERVAL: Duration = Duration::from_secs(60);

/// Slots that are kept for a request for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) request: RequestId,
    pub(super) agent: AgentKey,
}

/// An instance that is on its way and is not known by its id yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    pub(super) group: GroupId,
    /// By whom it was asked for.
    pub(super) origin: Origin,
    /// The wake that it is of, if we asked for it.
    pub(super) operation: Option<OperationId>,
    pub(super) started_at: Mono,
    /// When the fleet took the wake.
    pub(super) accepted_at: Option<Mono>,
}

impl Launch {
    /// One that the group makes by itself, or somebody else asked for.
    pub(super) fn by_itself(group: GroupId, origin: Origin, now: Mono) -> Self {
        Self { group, origin, operation: None, started_at: now, accepted_at: None }
    }

    /// From when on a look should show its wish.
    pub(super) fn settled_at(&self) -> Mono {
        self.accepted_at.unwrap_or(self.started_at)
    }
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
    /// The last instances that are gone, the latest last: a report from there was late on its way.
    pub(super) ended: VecDeque<InstanceId>,
    pub(super) boots: BootTimes,
    pub(super) service: ServiceTime,
    pub(super) slots_learnt: Option<u32>,
    pub(super) launches: Vec<Launch>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// What the fleet was asked and has not answered. At most one wake is in flight.
    pub(super) operations: BTreeMap<OperationId, Step>,
    /// An answer was lost then: nothing is repeated before the fleet was observed.
    pub(super) uncertain_since: Option<Mono>,
    /// When the last look began.
    pub(super) looked_at: Option<Mono>,
    /// A look is worth its while from then on, whatever the interval.
    pub(super) look_by: Option<Mono>,
    /// No look before.
    pub(super) look_after: Mono,
    pub(super) look_failures: u32,
    pub(super) is_observed: bool,
    /// When the latest look began that showed the fleet.
    pub(super) seen_at: Option<Mono>,
    pub(super) trouble: Trouble,
    pub(super) journal: Journal,
    /// Since when the others could have carried the load of the least loaded instance.
    pub(super) surplus_since: Option<Mono>,
    /// Since when requests wait for what nobody has asked for.
    pub(super) unasked_since: Option<Mono>,
    /// When the last call that should have led to an instance failed, though AWS may have one. None since one worked, and
    /// since something serves, boots or is wished for.
    pub(super) asking_failed_at: Option<Mono>,
    pub(super) ledger: Ledger,
    /// Today has cost as much as it may.
    pub(super) is_spent: bool,
}

impl Pool {
    pub(super) fn new(config: PoolConfig) -> Self {
        let groups = config.groups.max(1);
        Self {
            config,
            queue: FairQueue::default(),
            open: OpenAgents::default(),
            live: BTreeSet::new(),
            kept: None,
            instances: BTreeMap::new(),
            ended: VecDeque::new(),
            boots: BootTimes::default(),
            service: ServiceTime::default(),
            slots_learnt: None,
            launches: Vec::new(),
            groups: (0..groups).map(|at| (GroupId(at), Group::default())).collect(),
            operations: BTreeMap::new(),
            uncertain_since: None,
            looked_at: None,
            look_by: None,
            look_after: Mono::default(),
            look_failures: 0,
            is_observed: false,
            seen_at: None,
            trouble: Trouble::default(),
            journal: Journal::default(),
            surplus_since: None,
            unasked_since: None,
            asking_failed_at: None,
            ledger: Ledger::default(),
            is_spent: false,
        }
    }

    /// Whether a report comes from an instance that is gone.
    pub(super) fn has_ended(&self, report: &AgentReport) -> bool {
        report.instance.as_ref().is_some_and(|instance| self.ended.contains(instance))
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

    /// Those that count towards the greatest number. A process takes its memory until it is gone; a machine that its
    /// group ends is not part of the group's number any more.
    fn instances_held(&self) -> usize {
        if self.config.looks.is_none() {
            return self.instances_all();
        }
        // Nothing is expected of one that is overdue, and it is not ours.
        let held = self.instances.values().filter(|instance| instance.is_counted() && !instance.is_overdue);
        self.launches.len() + held.count()
    }

    /// Launches that may yet register.
    pub(super) fn pending(&self) -> usize {
        self.launches.len() + self.instances.values().filter(|instance| instance.is_booting()).count()
    }

    /// How long until the boot that ends first has slots, and the place of the phase that it is in.
    pub(super) fn boot_next(&self, now: Mono) -> Option<(Duration, usize)> {
        let booting = self.instances.values().filter(|instance| instance.is_booting());
        let booting = booting.map(|instance| instance.boot.step());
        let launches = self.launches.iter().map(|launch| (0, launch.started_at));
        booting.chain(launches).map(|step| (self.boots.left(step, now), step.0)).min()
    }

    /// Whether there are fewer instances than are always kept.
    pub(super) fn is_below_min(&self) -> bool {
        self.instances_staying() < self.config.instances_min as usize
    }

    /// Instances that serve or will, unless something happens to them.
    fn instances_staying(&self) -> usize {
        let staying =
            self.instances.values().filter(|i| i.drain.is_none() && i.state != InstanceState::Aside);
        self.launches.len() + staying.count()
    }

    pub(super) fn is_waking(&self) -> bool {
        self.operations.values().any(|step| matches!(step, Step::Wake { .. }))
    }

    /// Since when, if it is.
    pub(super) fn waking_since(&self) -> Option<Mono> {
        self.operations.values().find_map(|step| match step {
            Step::Wake { began, .. } => Some(*began),
            Step::Withdraw(_)
            | Step::Terminate { .. }
            | Step::CompleteLifecycle(_)
            | Step::ExtendLifecycle(_)
            | Step::Describe { .. } => None,
        })
    }

    /// Whether the group's wish is being put by us, as a number.
    pub(super) fn is_writing(&self, group: GroupId) -> bool {
        let writes =
            |step: &Step| matches!(step, Step::Wake { group: of, .. } | Step::Withdraw(of) if *of == group);
        self.operations.values().any(writes)
    }

    /// Whether the group's wish is being lowered by the end of an instance.
    fn is_decrementing(&self, group: GroupId) -> bool {
        self.operations.values().any(|step| {
            let Step::Terminate { instance, replace: false } = step else { return false };
            self.instances.get(instance).is_some_and(|instance| instance.group == group)
        })
    }

    /// Whether what the group wishes for is being changed by us, in either way.
    pub(super) fn is_changing(&self, group: GroupId) -> bool {
        self.is_writing(group) || self.is_decrementing(group)
    }

    pub(super) fn is_looking(&self) -> bool {
        self.operations.values().any(|step| matches!(step, Step::Describe { .. }))
    }

    /// Whether a wish is taken back, or about to be.
    fn is_withdrawing(&self) -> bool {
        self.groups.values().any(|group| group.withdraw != Withdraw::Not)
    }

    /// Whether something boots, drains, ends or is not heard: then the fleet is looked at more often.
    fn is_moving(&self) -> bool {
        let is_moving = |i: &Instance| {
            let may_be_gone = i.agent_lost_at.is_some();
            i.state != InstanceState::Aside && (i.is_booting() || i.is_ending() || may_be_gone)
        };
        !self.launches.is_empty() || self.is_withdrawing() || self.instances.values().any(is_moving)
    }

    /// A look is worth its while by then.
    pub(super) fn look_by(&mut self, at: Mono) {
        if self.config.looks.is_some() {
            self.look_by = Some(self.look_by.map_or(at, |by| by.min(at)));
        }
    }
}

/// What the fleet does next.
impl Core {
    /// The steps that load and fleet ask for, for each pool:
    ///
    /// 1. Without a fleet: none. Shutting down: ends that the fleet holds are held for longer, for answers that run.
    /// 2. The fleet is looked at when that is due: at the start, after a lost answer, while something moves, and now and
    ///    then.
    /// 3. An answer was lost: nothing is repeated before the fleet was observed.
    /// 4. Drained instances end, and ends that the fleet holds go on once they are drained.
    /// 5. Wishes that were given up are taken back, before another group is asked.
    /// 6. One wake at a time: for the least number of instances, for a queue that nobody serves, or for a backlog that
    ///    takes longer than a boot. None that today's budget has no room for.
    #[must_use]
    pub fn plan(&self, now: Now) -> Plan {
        let time = Now { mono: self.now.max(now.mono), wall: now.wall };
        let now = time.mono;
        let mut plan = Plan::default();
        for (&id, pool) in self.pools.iter().filter(|(_, pool)| pool.config.has_fleet) {
            if self.shutting_down {
                self.plan_extensions(id, pool, now, &mut plan);
                continue;
            }
            self.plan_look(id, pool, now, &mut plan);
            if pool.uncertain_since.is_some() {
                continue;
            }
            if pool.is_observed {
                self.plan_ends(id, pool, now, &mut plan);
            }
            if pool.is_withdrawing() {
                plan_withdrawals(id, pool, now, &mut plan);
            } else {
                self.plan_wake(id, pool, time, &mut plan);
            }
        }
        plan
    }

    fn plan_look(&self, id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
        if pool.is_looking() {
            return;
        }
        let settle = if pool.config.looks.is_some() { SETTLE } else { Duration::ZERO };
        let after_loss = pool.uncertain_since.map(|since| since + settle);
        let routine = pool.config.looks.map(|looks| {
            let interval = if pool.is_moving() { looks.hurry } else { looks.rest };
            let due = pool.looked_at.map_or(now, |at| at + interval);
            let early = pool.looked_at.map_or(now, |at| at + LOOKS_APART_MIN);
            pool.look_by.map_or(due, |by| by.max(early).min(due))
        });
        let Some(due) = after_loss.or(routine) else { return };
        let due = due.max(pool.look_after);
        if due <= now {
            plan.actions.push(Action::Describe { pool: id });
        } else {
            plan.wait_until(due, Wait::Look);
        }
    }

    /// Ends that the fleet holds are held for as long as something is served there.
    fn plan_extensions(&self, id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
        let held = pool.instances.iter().filter(|(_, i)| i.state == InstanceState::TerminatingWait);
        for (instance_id, instance) in held.filter(|(_, instance)| self.is_busy(instance)) {
            if instance.extend_at > now {
                plan.wait_until(instance.extend_at, Wait::LifecycleBeat);
                continue;
            }
            let (group, instance) = (instance.group, instance_id.clone());
            plan.actions.push(Action::ExtendLifecycle { pool: id, group, instance });
        }
    }

    fn plan_ends(&self, id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
        self.plan_extensions(id, pool, now, plan);
        let in_sight = pool.instances_staying() - pool.launches.len();
        for (instance_id, instance) in &pool.instances {
            let (group, instance_id) = (instance.group, instance_id.clone());
            let is_busy = self.is_busy(instance);
            if instance.state == InstanceState::TerminatingWait {
                match instance.complete {
                    _ if is_busy => {}
                    Progress::Failed { retry_at } if retry_at > now => {
                        plan.wait_until(retry_at, Wait::TerminateBackoff);
                    }
                    Progress::NotAsked | Progress::Failed { .. } => {
                        plan.actions.push(Action::CompleteLifecycle {
                            pool: id,
                            group,
                            instance: instance_id,
                        });
                    }
                    Progress::Started | Progress::Asked { .. } => {}
                }
                continue;
            }
            let Some(drain) = instance.drain.filter(|_| instance.is_there() && !is_busy) else { continue };
            // Its fleet is ending it already: a second order might lower the wish twice.
            if instance.notice == Some(NoticeReason::LifecycleTermination) {
                continue;
            }
            let is_at_min = pool.groups.get(&group).is_some_and(Group::is_at_min);
            // What is to take its place may yet fail.
            let is_last = instance.registered_at.is_some() && in_sight < pool.config.instances_min as usize;
            if (is_at_min || is_last) && drain == Drain::Idle || is_at_min && drain == Drain::Budget {
                continue;
            }
            // A number that is on its way was reckoned with this instance.
            if !is_at_min
                && pool.groups.get(&group).is_some_and(|g| g.desired.is_some())
                && pool.is_writing(group)
            {
                continue;
            }
            match instance.terminate {
                Progress::Failed { retry_at } if retry_at > now => {
                    plan.wait_until(retry_at, Wait::TerminateBackoff);
                }
                Progress::NotAsked | Progress::Failed { .. } => plan.actions.push(Action::Terminate {
                    pool: id,
                    group,
                    instance: instance_id,
                    replace: is_at_min,
                }),
                Progress::Started | Progress::Asked { .. } => {}
            }
        }
    }

    fn plan_wake(&self, id: PoolId, pool: &Pool, time: Now, plan: &mut Plan) {
        let now = time.mono;
        let most = pool.config.instances_max as usize;
        let held = pool.instances_held();
        if pool.is_waking() || held >= most {
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
        // What a group wishes for is not known before it was seen.
        if pool.config.looks.is_some() && !pool.is_observed {
            return;
        }
        let paused = pool.trouble.pause_until.max(pool.trouble.refuse_until.unwrap_or_default());
        let affords = |group: GroupId| self.affords(pool, group, 1, time);
        if !pool.groups.keys().any(|&group| affords(group)) {
            plan.wait_until(now + BUDGET_INTERVAL, Wait::Budget);
            return;
        }
        let blocked = pool.all_blocked_until(now, affords).map(|(until, _)| until).unwrap_or_default();
        let not_before = paused.max(blocked);
        if now < not_before {
            plan.wait_until(not_before, Wait::LaunchBackoff);
            return;
        }
        let Some((gid, group)) = pool.group_for_wake(now, affords) else { return };
        // A group that is full is asked all the same if nothing is there: its refusal tells those who wait.
        let says_why = unserved && held == 0;
        if !group.has_room() && !says_why {
            return;
        }
        // The number is absolute, and what is counted in it is about to change: the answer of that comes first.
        if group.desired.is_some() && (pool.is_changing(gid) || plan.decrements(id, gid)) {
            return;
        }
        let wanted = if below_min { (pool.config.instances_min as usize).max(staying) } else { staying + 1 };
        let more = u32::try_from((wanted - staying).min(most - held)).unwrap_or(u32::MAX);
        let more = (1..=more).rev().find(|&more| self.affords(pool, gid, more, time)).unwrap_or(1);
        let instances = match (group.desired, group.expected()) {
            // **Invariant:** a wish is never lowered by a wake.
            (Some(desired), Some(expected)) => {
                (expected + more).min(group.max.max(expected + 1)).max(desired)
            }
            // Those that leave still count for the fleet.
            _ => u32::try_from(pool.instances_all()).unwrap_or(u32::MAX).saturating_add(more),
        };
        plan.actions.push(Action::Wake { pool: id, group: gid, instances });
    }

    /// Whether the backlog takes longer on what runs and boots than another boot takes. Never before both were
    /// measured: a boot that is under way has first to show what it brings.
    fn growth_pays(&self, id: PoolId, pool: &Pool, now: Mono) -> bool {
        // After a restart nothing was measured, and yet something serves.
        let has_booted = pool.instances.values().any(|instance| instance.registered_at.is_some());
        let assumed = has_booted.then_some(BOOT_ASSUMED);
        let Some(boot) = pool.boots.quantile(500).or(assumed) else { return false };
        let oldest =
            self.leases.values().find(|lease| lease.pool == id).map(|lease| now.since(lease.granted_at));
        let Some(service) = pool.service.estimate().max(oldest) else { return false };
        let pending = u32::try_from(pool.pending()).unwrap_or(u32::MAX);
        let slots = self.slots_serving(id) + pending.saturating_mul(self.slots_per_instance(pool));
        service.mul_f64(pool.queue.slots() as f64 / f64::from(slots.max(1))) > boot
    }

    pub(super) fn slots_per_instance(&self, pool: &Pool) -> u32 {
        pool.slots_learnt.unwrap_or(pool.config.slots_hint).max(1)
    }

    /// Slots of the agents that are up and stay.
    pub(super) fn slots_serving(&self, pool: PoolId) -> u32 {
        let agents = self.agents.values().filter(|agent| agent.pool == pool && agent.is_serving());
        let staying = agents.filter(|agent| {
            let is_leaving = |instance: &Instance| instance.drain.is_some() || !instance.is_there();
            agent.report.notice.is_none() && !self.instance_of(agent).is_some_and(is_leaving)
        });
        staying.map(|agent| agent.report.slots_total).sum()
    }

    /// Servers that are up, quarantined or not, and instances whose agent was lost a moment ago. Those that leave do
    /// not count.
    pub(super) fn serving(&self, id: PoolId, pool: &Pool) -> usize {
        let instances = pool.instances.values().filter(|instance| instance.is_serving(self.now)).count();
        let unbound = self
            .agents
            .values()
            .filter(|agent| agent.pool == id && agent.is_serving() && agent.report.notice.is_none())
            .filter(|agent| self.instance_of(agent).is_none() && !pool.has_ended(&agent.report));
        instances + unbound.count()
    }

    pub(super) fn instance_of<'a>(&'a self, agent: &Agent) -> Option<&'a Instance> {
        self.pools.get(&agent.pool)?.instances.get(agent.instance.as_ref()?)
    }

    /// Whether nothing serves, boots or is on its way to an end that makes room for a launch.
    pub(super) fn is_unserved(&self, id: PoolId) -> bool {
        let Some(pool) = self.pools.get(&id) else { return false };
        let is_under_way = !pool.operations.is_empty() || pool.instances_all() > 0;
        !is_under_way && self.serving(id, pool) == 0
    }

    /// Whether anything computes there. **Invariant:** no busy instance is ever terminated.
    pub(super) fn is_busy(&self, instance: &Instance) -> bool {
        instance.agents.iter().filter_map(|key| self.agents.get(key)).any(Agent::is_busy)
    }

    /// How long until an instance that boots, or would boot now, has slots.
    pub(super) fn boot_eta(&self, id: PoolId) -> Duration {
        let Some(pool) = self.pools.get(&id) else { return Duration::ZERO };
        pool.boot_next(self.now).map_or_else(|| pool.boots.left((0, self.now), self.now), |(left, _)| left)
    }
}

/// Wishes that were given up, taken back one group after the other.
fn plan_withdrawals(id: PoolId, pool: &Pool, now: Mono, plan: &mut Plan) {
    for (&group, state) in &pool.groups {
        match state.withdraw {
            Withdraw::Needed { not_before } if not_before > now => {
                plan.wait_until(not_before, Wait::WithdrawBackoff);
            }
            // A wish that is being raised is not lowered in the same breath.
            Withdraw::Needed { .. } if !pool.is_changing(group) && !plan.decrements(id, group) => {
                plan.actions.push(Action::Withdraw { pool: id, group });
            }
            Withdraw::Needed { .. } | Withdraw::Started | Withdraw::Not => {}
        }
    }
}

impl Plan {
    /// Whether it lowers the group's wish by the end of an instance.
    fn decrements(&self, pool: PoolId, group: GroupId) -> bool {
        self.actions.iter().any(|action| {
            matches!(action, Action::Terminate { pool: of, group: in_group, replace: false, .. }
                if (*of, *in_group) == (pool, group))
        })
    }

    fn wait_until(&mut self, at: Mono, why: Wait) {
        let wait = (at, why);
        self.wait = Some(self.wait.map_or(wait, |earlier| earlier.min(wait)));
    }
}
