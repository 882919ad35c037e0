//! What ran before this balancer did: by what was kept, by what the fleet remembers, and by what the first look shows.
//!
//! 1. What was kept is taken over as it is, at once.
//! 2. What ran when it was kept counts from then on: until its end, if the fleet remembers one; else until the first look, if
//!    that shows it.
//! 3. Any other life that the fleet remembers counts from its begin to its end, or to the first look. One that was over when
//!    the record was taken is part of it.
//! 4. What the look shows and neither names was launched after the fleet was asked. Without a record it may as well have
//!    begun before all that is remembered, and is taken to have, unless it is pending.
//!
//! The fleet's memory may come after the look, if AWS was slow: until then 1 and 2 are counted as far as the look tells, and
//! nothing is kept, so that a successor asks for the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{History, Ledger, LedgerRecord, counts};
use crate::core::Core;
use crate::core::calendar::Day;
use crate::core::event::InstanceState;
use crate::core::ids::{GroupId, InstanceId, Mono, Now, PoolId};
use crate::core::instances::Instance;

/// What is told and seen so far.
#[derive(Debug)]
pub(super) struct Before {
    restored_at: Now,
    /// When the record was taken, if there was one.
    kept_at: Option<Duration>,
    /// What ran then, and is not counted since.
    running: BTreeMap<InstanceId, GroupId>,
    /// Of these what is counted up to the look.
    counted: BTreeSet<InstanceId>,
    memory: Memory,
    seen: Option<Seen>,
}

#[derive(Debug)]
enum Memory {
    Awaited,
    None,
    Told(History),
}

/// The first look.
#[derive(Debug)]
struct Seen {
    at: Mono,
    instances: BTreeMap<InstanceId, Sighting>,
}

#[derive(Debug)]
struct Sighting {
    group: GroupId,
    is_pending: bool,
}

/// What one instance ran, as the time since the Unix epoch.
#[derive(Debug)]
struct Span {
    group: GroupId,
    from: Duration,
    until: Duration,
}

impl Before {
    /// What ran up to the look and is not counted yet; nothing before there was one.
    fn spans(&mut self) -> Vec<Span> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let restored_at = self.restored_at.wall;
        let seen_at = restored_at + seen.at.since(self.restored_at.mono);
        let mut spans = Vec::new();
        let mut named = BTreeSet::new();
        if let Memory::Told(history) = &self.memory {
            for life in &history.lives {
                let was_kept = life.ended.is_some_and(|ended| self.kept_at.is_some_and(|at| ended <= at));
                named.insert(&life.instance);
                if was_kept || self.counted.contains(&life.instance) {
                    continue;
                }
                let ran_at = self.running.remove(&life.instance).and(self.kept_at);
                let until = match life.ended {
                    Some(ended) => ended.min(seen_at),
                    None if seen.instances.contains_key(&life.instance) => seen_at,
                    // It ran until a moment ago.
                    None if ran_at.is_some() || life.began > history.since => restored_at,
                    // An end that never comes to one.
                    None => continue,
                };
                let from = ran_at.unwrap_or(life.began.max(history.since));
                spans.push(Span { group: life.group, from, until });
            }
        }
        let is_kept = |id: &InstanceId| self.running.contains_key(id) || self.counted.contains(id);
        if let Memory::Told(history) = &self.memory {
            let unnamed = seen.instances.iter().filter(|(id, _)| !named.contains(id) && !is_kept(id));
            spans.extend(unnamed.map(|(_, sighting)| {
                let is_older = self.kept_at.is_none() && !sighting.is_pending;
                let from = if is_older { history.since } else { restored_at };
                Span { group: sighting.group, from, until: seen_at }
            }));
        }
        for (id, group) in std::mem::take(&mut self.running) {
            if let Some(from) = self.kept_at.filter(|_| seen.instances.contains_key(&id)) {
                spans.push(Span { group, from, until: seen_at });
                self.counted.insert(id);
            } else if matches!(self.memory, Memory::Awaited) {
                self.running.insert(id, group);
            }
        }
        spans
    }
}

impl Ledger {
    /// The fleet was looked at.
    pub(super) fn saw(&mut self, instances: &BTreeMap<InstanceId, Instance>, now: Now) {
        let Some(before) = self.before.as_mut().filter(|before| before.seen.is_none()) else { return };
        let seen = instances.iter().filter(|(_, instance)| counts(instance)).map(|(id, instance)| {
            let is_pending = instance.state == InstanceState::Pending;
            (id.clone(), Sighting { group: instance.group, is_pending })
        });
        before.seen = Some(Seen { at: now.mono, instances: seen.collect() });
        self.count_before();
    }

    fn count_before(&mut self) {
        let Some(before) = &mut self.before else { return };
        let spans = before.spans();
        let is_all = before.seen.is_some() && !matches!(before.memory, Memory::Awaited);
        for Span { group, from, until } in spans {
            self.add_until(group, until.saturating_sub(from), until);
        }
        if is_all {
            self.before = None;
        }
    }
}

impl Core {
    /// What was kept. What the fleet remembers is told then.
    pub(in crate::core) fn ledger_restored(&mut self, id: PoolId, record: Option<Box<LedgerRecord>>) {
        let now = self.time();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let ledger = &mut pool.ledger;
        ledger.settle(now);
        let kept_at = record.as_ref().map(|record| record.at);
        let mut running = BTreeMap::new();
        if let Some(record) = record {
            running = record.instances;
            ledger.began = Some(record.began);
            for (day, groups) in record.days {
                for (group, usage) in groups {
                    *ledger.days.entry(day).or_default().entry(group).or_default() += usage;
                }
            }
            ledger.forget_days(Day::of(now.wall));
        }
        // Children ended with their balancer, and others have their names now.
        if pool.config.looks.is_some() {
            ledger.before = Some(Before {
                restored_at: now,
                kept_at,
                running,
                counted: BTreeSet::new(),
                memory: Memory::Awaited,
                seen: None,
            });
        }
        self.keep_budget(id);
    }

    /// What the fleet remembers of the time since the record was taken; nothing if it could not be asked.
    pub(in crate::core) fn history_told(&mut self, id: PoolId, history: Option<History>) {
        let now = self.time();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let ledger = &mut pool.ledger;
        let Some(before) = &mut ledger.before else { return };
        if let Some(history) = &history
            && before.kept_at.is_none()
        {
            ledger.began = Some(history.since);
        }
        before.memory = history.map_or(Memory::None, Memory::Told);
        ledger.settle(now);
        ledger.count_before();
        self.keep_budget(id);
    }
}
