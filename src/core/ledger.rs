//! What instances ran, and what of that they served: kept by group and UTC day.
//!
//! 1. An instance counts from when it is first known, one that we asked for from when we asked, until its fleet does not
//!    show it any more. On standby it runs and costs, so it counts.
//! 2. It is busy while it holds a lease; boots, rest and drains are idle.
//! 3. How many count and are busy changes seldom, so time is added up only then: for each group, the time since the last
//!    change, as often as there are instances.
//! 4. What ran before this balancer did is told once, at its start (`before.rs`).
//!
//! **Invariant:** spans are of monotonic time; wall time only names the days that they belong to. So a clock that jumps
//! moves what ran since the last event to another day, and neither loses nor doubles it.

mod before;
mod shown;

use std::collections::BTreeMap;
use std::ops::{AddAssign, RangeInclusive};
use std::time::Duration;

use super::Core;
use super::calendar::{Day, parts};
use super::event::InstanceState;
use super::groups::Origin;
use super::ids::{AgentKey, GroupId, InstanceId, Mono, Now, PoolId};
use super::instances::Instance;
use before::Before;

/// Days that are kept: the present month and the one before.
pub const DAYS_KEPT: usize = 64;

/// Time of instances, of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// All of it.
    pub instance: Duration,
    /// Of this, with something to serve.
    pub busy: Duration,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.instance += other.instance;
        self.busy += other.busy;
    }
}

/// What each group used, day by day.
pub type Days = BTreeMap<Day, BTreeMap<GroupId, Usage>>;

/// What is kept of a ledger while no balancer runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerRecord {
    /// When it was taken, since the Unix epoch.
    pub at: Duration,
    /// Since when it covers what ran.
    pub began: Duration,
    /// What ran until `at`.
    pub days: Days,
    /// What still ran then.
    pub instances: BTreeMap<InstanceId, GroupId>,
}

/// What a fleet itself remembers of what ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Nothing is missing that began since then.
    pub since: Duration,
    /// In the order in which they began.
    pub lives: Vec<Life>,
}

/// One life of an instance, as its fleet remembers it. Times are since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Which.
    pub instance: InstanceId,
    /// Of which group.
    pub group: GroupId,
    /// When it was launched; for one that began before the history, when that begins.
    pub began: Duration,
    /// When it was gone.
    pub ended: Option<Duration>,
}

/// The account of one pool.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    days: Days,
    /// What was counted by this process, whatever its day.
    run: BTreeMap<GroupId, Usage>,
    counted: BTreeMap<InstanceId, Counted>,
    crowds: BTreeMap<GroupId, Crowd>,
    settled_at: Mono,
    /// Since when it covers what ran, by wall time.
    began: Option<Duration>,
    /// What ran before this process, until it is told and seen.
    before: Option<Before>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    group: GroupId,
    is_busy: bool,
}

/// How many instances of a group count, and how many of these are busy.
#[derive(Debug, Clone, Copy, Default)]
struct Crowd {
    there: u32,
    busy: u32,
}

impl Ledger {
    /// What ran since the last change, as it is not noted yet.
    fn pending(&self, now: Now) -> impl Iterator<Item = (Day, GroupId, Usage)> {
        let span = now.mono.since(self.settled_at);
        let span = if self.counted.is_empty() { Duration::ZERO } else { span };
        parts(span, now.wall).flat_map(|(day, part)| {
            self.crowds.iter().map(move |(&group, crowd)| {
                (day, group, Usage { instance: part * crowd.there, busy: part * crowd.busy })
            })
        })
    }

    fn settle(&mut self, now: Now) {
        let pending: Vec<(Day, GroupId, Usage)> = self.pending(now).collect();
        for (day, group, usage) in pending {
            self.add(day, group, usage);
        }
        self.settled_at = self.settled_at.max(now.mono);
    }

    fn add(&mut self, day: Day, group: GroupId, usage: Usage) {
        if usage == Usage::default() {
            return;
        }
        *self.run.entry(group).or_default() += usage;
        *self.days.entry(day).or_default().entry(group).or_default() += usage;
        self.forget_days(day);
    }

    /// Adds what one instance ran, idle as far as is known, until this moment of wall time.
    fn add_until(&mut self, group: GroupId, span: Duration, until: Duration) {
        for (day, part) in parts(span, until) {
            self.add(day, group, Usage { instance: part, busy: Duration::ZERO });
        }
    }

    /// Those farthest from the present one go, so that a clock that was wrong for a while harms nothing near.
    fn forget_days(&mut self, present: Day) {
        while self.days.len() > DAYS_KEPT
            && let Some(&farthest) = self.days.keys().max_by_key(|day| day.0.abs_diff(present.0))
        {
            self.days.remove(&farthest);
        }
    }

    /// **Invariant:** what was settled before a change is not touched by it.
    fn begin(&mut self, id: InstanceId, group: GroupId, owed: Duration, now: Now) {
        self.add_until(group, owed, now.wall);
        self.crowds.entry(group).or_default().there += 1;
        self.counted.insert(id, Counted { group, is_busy: false });
    }

    fn end(&mut self, id: &InstanceId) {
        let Some(counted) = self.counted.remove(id) else { return };
        if let Some(crowd) = self.crowds.get_mut(&counted.group) {
            crowd.there -= 1;
            crowd.busy -= u32::from(counted.is_busy);
        }
    }

    fn set_busy(&mut self, id: &InstanceId, is_busy: bool, now: Now) {
        let Some(&Counted { group, is_busy: was_busy }) = self.counted.get(id) else { return };
        if was_busy == is_busy {
            return;
        }
        self.settle(now);
        if let Some(counted) = self.counted.get_mut(id) {
            counted.is_busy = is_busy;
        }
        if let Some(crowd) = self.crowds.get_mut(&group) {
            crowd.busy = if is_busy { crowd.busy + 1 } else { crowd.busy - 1 };
        }
    }

    /// What each group used on these days, up to now.
    pub(super) fn used(&self, days: &RangeInclusive<Day>, now: Now) -> BTreeMap<GroupId, Usage> {
        let mut used: BTreeMap<GroupId, Usage> = BTreeMap::new();
        for (&group, &usage) in self.days.range(days.clone()).flat_map(|(_, groups)| groups) {
            *used.entry(group).or_default() += usage;
        }
        for (_, group, usage) in self.pending(now).filter(|(day, _, _)| days.contains(day)) {
            *used.entry(group).or_default() += usage;
        }
        used
    }

    /// What each group used since this process began, and what of the time before was found at its start.
    fn run(&self, now: Now) -> BTreeMap<GroupId, Usage> {
        let mut run = self.run.clone();
        for (_, group, usage) in self.pending(now) {
            *run.entry(group).or_default() += usage;
        }
        run
    }

    /// How many instances of each group count.
    pub(super) fn there(&self) -> impl Iterator<Item = (GroupId, u32)> {
        self.crowds.iter().map(|(&group, crowd)| (group, crowd.there))
    }

    /// Whether it is in line with these instances.
    pub(super) fn agrees(
        &self,
        instances: &BTreeMap<InstanceId, Instance>,
        is_busy: impl Fn(&Instance) -> bool,
    ) -> bool {
        let there = instances.iter().filter(|(_, instance)| counts(instance));
        let there = there.map(|(id, instance)| (id, instance.group, is_busy(instance)));
        let counted = self.counted.iter().map(|(id, counted)| (id, counted.group, counted.is_busy));
        let crowds = self.crowds.iter().all(|(&group, crowd)| {
            let mut sum = Crowd::default();
            for counted in self.counted.values().filter(|counted| counted.group == group) {
                sum.there += 1;
                sum.busy += u32::from(counted.is_busy);
            }
            (sum.there, sum.busy) == (crowd.there, crowd.busy)
        });
        there.eq(counted) && crowds
    }

    fn record(&self, now: Now) -> LedgerRecord {
        let mut days = self.days.clone();
        for (day, group, usage) in self.pending(now) {
            if usage != Usage::default() {
                *days.entry(day).or_default().entry(group).or_default() += usage;
            }
        }
        let counted = self.counted.iter().map(|(id, counted)| (id.clone(), counted.group));
        LedgerRecord {
            at: now.wall,
            // The clock may have been ahead when it was read.
            began: self.began.unwrap_or(now.wall).min(now.wall),
            days,
            instances: counted.collect(),
        }
    }
}

/// Whether an instance costs something. It does until it is gone, whoever ends it: AWS bills one that stands by as any other
/// (EC2 Auto Scaling User Guide, "Temporarily remove instances from your Auto Scaling group").
fn counts(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Pending
        | InstanceState::Running
        | InstanceState::Aside
        | InstanceState::TerminatingWait
        | InstanceState::Terminating => true,
        InstanceState::Ended { .. } => false,
    }
}

impl Core {
    /// What is to be kept of a pool's ledger while no balancer runs. None before what ran earlier was told and seen: until
    /// then there is nothing to keep that was not kept already.
    #[must_use]
    pub fn ledger(&self, id: PoolId, now: Now) -> Option<LedgerRecord> {
        let pool = self.pools.get(&id)?;
        let now = Now { mono: self.now.max(now.mono), wall: now.wall };
        pool.ledger.before.is_none().then(|| pool.ledger.record(now))
    }

    /// Brings the ledger in line with the instances that there are.
    pub(super) fn count_instances(&mut self, id: PoolId) {
        let now = self.time();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let (instances, ledger) = (&pool.instances, &mut pool.ledger);
        ledger.settle(now);
        let is_gone = |(id, counted): &(&InstanceId, &Counted)| {
            instances.get(*id).is_none_or(|found| !counts(found) || found.group != counted.group)
        };
        let gone: Vec<InstanceId> = ledger.counted.iter().filter(is_gone).map(|(id, _)| id.clone()).collect();
        for instance in gone {
            ledger.end(&instance);
        }
        let mut new = Vec::new();
        for (instance_id, instance) in instances.iter().filter(|(_, instance)| counts(instance)) {
            if ledger.counted.contains_key(instance_id) {
                continue;
            }
            let owed = match instance.origin {
                Origin::Asked => now.mono.since(instance.launched_at),
                Origin::Spare | Origin::Stranger => Duration::ZERO,
            };
            ledger.begin(instance_id.clone(), instance.group, owed, now);
            new.push(instance_id.clone());
        }
        if pool.is_observed {
            ledger.saw(instances, now);
        }
        for instance in new {
            self.count_busy(id, &instance);
        }
    }

    /// Before the clock shows another day: what is known to have run under the present one stays there, if the clock jumps.
    pub(super) fn settle_ledgers(&mut self) {
        let now = self.time();
        for pool in self.pools.values_mut() {
            pool.ledger.settle(now);
        }
    }

    /// From the first event on what runs is covered.
    pub(super) fn begin_ledgers(&mut self) {
        for pool in self.pools.values_mut() {
            pool.ledger.began.get_or_insert(self.wall);
        }
    }

    /// The agent got its first lease, or its last one is over.
    pub(super) fn count_busy_agent(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else { return };
        if let Some(instance) = agent.instance.clone() {
            self.count_busy(agent.pool, &instance);
        }
    }

    /// What is leased on the instance began, ended, or turned out to be there or elsewhere.
    pub(super) fn count_busy(&mut self, id: PoolId, instance: &InstanceId) {
        let now = self.time();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(found) = pool.instances.get(instance) else { return };
        let mut agents = found.agents.iter().filter_map(|key| self.agents.get(key));
        let is_busy = agents.any(|agent| !agent.leases.is_empty());
        pool.ledger.set_busy(instance, is_busy, now);
    }
}
