//! A naive account of what instances ran: spans, noted as they happen in the world, and added up day by day when asked.
//!
//! It knows nothing of the core's ledger but its rules. A fleet that tells by itself shows each end at once, so there it is
//! what truly ran. Of groups it is what the looks showed: an instance counts from the call that asked for it to the first
//! look without it, and what ran while no balancer did is what truly ran.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::hosts::Host;
use super::world::World;
use crate::core::{Day, Event, GroupId, History, InstanceId, LedgerRecord, Life, Mono, PoolId};

/// Before what was kept: the same as the shell asks for.
const UNSEEN_MAX: Duration = Duration::from_secs(120);

/// The account of the first pool.
#[derive(Debug, Default)]
pub(super) struct Books {
    open: BTreeMap<InstanceId, Open>,
    spans: Vec<Span>,
    /// What a file would hold: the core's word, and how far this account was then.
    kept: Option<Kept>,
    restarted_at: Mono,
    /// Days on which instances ran while nobody could have ended them.
    excused: BTreeSet<Day>,
}

/// What truly ran: of which group, from its launch, and to its end if that was.
type Ran = (InstanceId, GroupId, Mono, Option<Mono>);

#[derive(Debug, Clone, Copy)]
struct Open {
    group: GroupId,
    since: Mono,
    busy_since: Option<Mono>,
    /// Not seen since the restart.
    is_presumed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    group: GroupId,
    from: Mono,
    until: Mono,
    is_busy: bool,
}

#[derive(Debug)]
struct Kept {
    record: LedgerRecord,
    at: Mono,
    spans: usize,
    open: BTreeMap<InstanceId, Open>,
}

impl Books {
    fn close(&mut self, open: Open, until: Mono) {
        let Open { group, since, busy_since, .. } = open;
        self.spans.push(Span { group, from: since, until, is_busy: false });
        self.spans.extend(busy_since.map(|from| Span { group, from, until, is_busy: true }));
    }

    /// The fleet showed these.
    fn shown(&mut self, seen: &BTreeMap<InstanceId, (GroupId, Mono)>, now: Mono) {
        let gone: Vec<InstanceId> = self.open.keys().filter(|id| !seen.contains_key(*id)).cloned().collect();
        for id in gone {
            if let Some(open) = self.open.remove(&id) {
                self.close(open, if open.is_presumed { self.restarted_at } else { now });
            }
        }
        for (id, &(group, launched_at)) in seen {
            let since = if launched_at >= self.restarted_at { launched_at } else { now };
            let open = Open { group, since, busy_since: None, is_presumed: false };
            self.open.entry(id.clone()).or_insert(open).is_presumed = false;
        }
    }

    /// These have an attempt.
    fn busy(&mut self, busy: &BTreeSet<InstanceId>, now: Mono) {
        let mut over = Vec::new();
        for (id, open) in self.open.iter_mut().filter(|(_, open)| !open.is_presumed) {
            match (open.busy_since, busy.contains(id)) {
                (None, true) => open.busy_since = Some(now),
                (Some(from), false) => {
                    open.busy_since = None;
                    over.push(Span { group: open.group, from, until: now, is_busy: true });
                }
                (None, false) | (Some(_), true) => {}
            }
        }
        self.spans.extend(over);
    }

    /// A new balancer begins with what was kept. `lives` are what truly ran, from and to when, if its fleet remembers.
    fn restarted(&mut self, lives: Option<&[Ran]>, now: Mono) {
        self.restarted_at = now;
        let Some(Kept { at, spans, open, .. }) = &self.kept else { return };
        let (at, before) = (*at, open.clone());
        self.spans.truncate(*spans);
        self.open.clear();
        for open in before.values() {
            self.close(*open, at);
        }
        for (id, group, launched_at, gone_at) in lives.unwrap_or_default() {
            if gone_at.is_some_and(|gone| gone <= at) {
                continue;
            }
            let from = if before.contains_key(id) { at } else { (*launched_at).max(at - UNSEEN_MAX) };
            let open = Open { group: *group, since: from, busy_since: None, is_presumed: true };
            match gone_at {
                Some(gone) => self.close(open, *gone),
                None => drop(self.open.insert(id.clone(), open)),
            }
        }
    }

    /// Each day by the hard way: every span, every day that it touches. Of all time, and of the busy part.
    fn days(&self, wall_start: Duration, now: Mono) -> BTreeMap<(Day, GroupId), (Duration, Duration)> {
        let mut days: BTreeMap<(Day, GroupId), (Duration, Duration)> = BTreeMap::new();
        let mut all = Self { spans: self.spans.clone(), ..Self::default() };
        for open in self.open.values() {
            all.close(*open, now);
        }
        for span in &all.spans {
            let (mut from, until) = (wall_start + span.from.0, wall_start + span.until.0);
            while from < until {
                let day = Day::of(from);
                let part = day.end().min(until) - from;
                let (instance, busy) = days.entry((day, span.group)).or_default();
                *if span.is_busy { busy } else { instance } += part;
                from += part;
            }
        }
        days
    }
}

impl World {
    /// What the fleet of the first pool showed, before the core is told.
    pub(super) fn book_instances<'a>(&mut self, pool: PoolId, seen: impl Iterator<Item = &'a InstanceId>) {
        if pool != PoolId(0) || self.options.month.is_none() {
            return;
        }
        let of = |id: &InstanceId| {
            let host = &self.hosts[*self.host_of_instance.get(id)?];
            Some((id.clone(), (host.group, host.launched_at)))
        };
        let seen: BTreeMap<InstanceId, (GroupId, Mono)> = seen.filter_map(of).collect();
        self.books.shown(&seen, self.now);
    }

    /// After each step of the core.
    pub(super) fn book_busy(&mut self) {
        if self.options.month.is_some() {
            let busy = self.clients.attempts.values().filter_map(|a| self.hosts[a.host].instance.clone());
            let busy = busy.collect();
            self.books.busy(&busy, self.now);
        }
    }

    /// Instances ran on, and no balancer did.
    pub(super) fn excuse_day(&mut self) {
        self.books.excused.insert(Day::of(self.options.wall_start + self.now.0));
    }

    /// What the shell does each minute.
    pub(super) fn keep_ledger(&mut self) {
        if let Some(record) = self.core.ledger(PoolId(0), self.clock()) {
            let (spans, open) = (self.books.spans.len(), self.books.open.clone());
            self.books.kept = Some(Kept { record, at: self.now, spans, open });
        }
    }

    /// What a new balancer begins with: what was kept, and since when its fleet is asked what ran, if it is one of groups.
    pub(super) fn recall_ledger(&mut self) -> (Option<Box<LedgerRecord>>, Option<Duration>) {
        let today = Day::of(self.options.wall_start + self.now.0);
        let is_of_groups = self.pool(PoolId(0)).config.looks.is_some();
        let record = self.books.kept.as_ref().map(|kept| kept.record.clone());
        let since = record.as_ref().map_or(today.start(), |record| record.at - UNSEEN_MAX);
        let lives = is_of_groups.then(|| self.lives());
        self.books.restarted(lives.as_deref(), self.now);
        (record.map(Box::new), is_of_groups.then_some(since))
    }

    /// What a group remembers by now.
    pub(super) fn tell_history(&mut self, since: Option<Duration>) {
        let wall = |at: Mono| self.options.wall_start + at.0;
        let history = since.map(|since| {
            // A group's activities: those that began since then.
            let told = self.lives().into_iter().filter(|(_, _, began, gone)| {
                wall(*began) >= since || gone.is_some_and(|gone| wall(gone) >= since)
            });
            let told = told.map(|(instance, group, began, gone)| Life {
                instance,
                group,
                began: wall(began).max(since),
                ended: gone.map(wall),
            });
            History { since, lives: told.collect() }
        });
        self.tell(Event::HistoryTold { pool: PoolId(0), history });
    }

    /// What truly ran so far.
    fn lives(&self) -> Vec<Ran> {
        let truth = |host: &Host| {
            let gone_at = host.gone_at.filter(|gone| *gone <= self.now);
            Some((host.instance.clone()?, host.group, host.visible_at, gone_at))
        };
        self.hosts.iter().filter_map(truth).collect()
    }

    /// What today has cost, in USD, by this account.
    pub(super) fn booked_cost(&self, day: Day) -> f64 {
        let days = self.books.days(self.options.wall_start, self.now);
        let prices = &self.pool(PoolId(0)).config.prices;
        let of_day = days.iter().filter(|((of, _), _)| *of == day);
        let cost = of_day.map(|((_, group), (ran, _))| prices[group.0 as usize].of(*ran).usd());
        cost.sum()
    }

    /// The core's ledger says the same, for each day and group, to the nanosecond.
    pub(super) fn check_ledger(&mut self) {
        let Some(record) = self.core.ledger(PoolId(0), self.clock()) else { return };
        let core: BTreeMap<(Day, GroupId), (Duration, Duration)> = record
            .days
            .iter()
            .flat_map(|(&day, used)| {
                used.iter().map(move |(&of, used)| ((day, of), (used.instance, used.busy)))
            })
            .collect();
        let books = self.books.days(self.options.wall_start, self.now);
        if core != books {
            let differs = books.iter().find(|(at, booked)| core.get(at) != Some(booked));
            let ledger = differs.and_then(|(at, _)| core.get(at));
            self.fail(&format!("the ledger says {ledger:?}, and the books say {differs:?}"));
        }
    }

    /// No wake breaks the budget, by this account and by what the new instances cost at the least.
    pub(super) fn check_budget(&mut self, pool: PoolId, group: GroupId, more: u32) {
        let config = &self.pool(pool).config;
        let Some(budget) = config.budget_per_day.filter(|_| self.options.month.is_some()) else { return };
        let wall = self.options.wall_start + self.now.0;
        let day = Day::of(wall);
        let least = config.life_min.max(config.idle_timeout + self.pool(pool).boot_min).min(day.end() - wall);
        let new = config.prices[group.0 as usize].of(least).usd() * f64::from(more);
        let cost = self.booked_cost(day);
        self.count("a wake within the budget");
        if cost + new > budget.usd() + 1e-9 {
            self.fail(&format!("a wake to {cost} + {new} USD breaks the budget of {} USD", budget.usd()));
        }
    }

    /// At the end: what a day may cost is exceeded by no more than answers that ran, and ends, took.
    pub(super) fn check_days(&mut self, slack: Duration) {
        self.check_ledger();
        let config = self.pool(PoolId(0)).config.clone();
        let Some(budget) = config.budget_per_day else { return };
        let dearest = config.prices.iter().max().copied();
        let slack = dearest.map_or(0.0, |price| price.of(slack * config.instances_max).usd());
        let days: BTreeSet<Day> =
            self.books.days(self.options.wall_start, self.now).into_keys().map(|(day, _)| day).collect();
        for day in days {
            if self.books.excused.contains(&day) {
                continue;
            }
            self.count("a day whose cost was checked");
            let cost = self.booked_cost(day);
            if cost > budget.usd() + slack {
                self.fail(&format!("{day} cost {cost} USD"));
            }
            if cost > budget.usd() * 0.9 {
                self.count("a day spent its budget");
            }
        }
    }
}
