//! The most that a UTC day may cost.
//!
//! 1. Nothing is started that would break it: what today has cost, what the instances that are there or on their way will
//!    cost at the least, and the least that the new one will cost must be within it.
//! 2. An instance costs at the least what it must live or be given to boot and to rest, or the rest of the day, if that is
//!    shorter.
//! 3. Once a day has cost as much as it may, what costs something drains: nothing new is granted there, answers that run
//!    finish, and it ends, unless its group may not have fewer. Those who wait and those who come are told when that ends.
//! 4. The next day all is as before.
//!
//! What a group launches by itself is not ours to refuse: it counts, and drains.

use std::time::Duration;

use super::boot::BOOT_ASSUMED;
use super::calendar::Day;
use super::event::Rejection;
use super::ids::{GroupId, InstanceId, Now, PoolId};
use super::instances::Drain;
use super::money::{Money, Price};
use super::scaling::Pool;
use super::snapshot::BudgetSnapshot;
use super::{Core, Timer};

impl Core {
    /// Whether the day has room for so many more instances of a group.
    pub(super) fn affords(&self, pool: &Pool, group: GroupId, more: u32, now: Now) -> bool {
        let Some(budget) = pool.config.budget_per_day else { return true };
        let Some(price) = pool.price(group) else { return true };
        let least = pool.life_least();
        let new = price.of(least.min(day_left(now))) * more;
        new.is_zero() || pool.committed(least, now) + new <= budget
    }

    /// Whether nothing more is started today, not even of the cheapest.
    fn is_exhausted(&self, pool: &Pool, now: Now) -> bool {
        let price = |&group: &GroupId| pool.price(group);
        let cheapest = pool.groups.keys().min_by_key(|group| price(group));
        cheapest.is_some_and(|&group| !self.affords(pool, group, 1, now))
    }

    /// Why a request that nobody serves, and no boot will, is refused today. Not before the fleet was seen: something may run.
    pub(super) fn out_of_budget(&self, pool: &Pool) -> Option<Rejection> {
        let now = self.time();
        let is_seen = pool.is_observed || pool.config.looks.is_none();
        (is_seen && self.is_exhausted(pool, now)).then(|| {
            let ends_in = day_left(now).max(Duration::from_secs(1));
            Rejection::BudgetExhausted { ends_in, ends_at: Day::of(now.wall).end() }
        })
    }

    pub(super) fn budget_snapshot(&self, pool: &Pool) -> Option<BudgetSnapshot> {
        let now = self.time();
        let budget = pool.config.budget_per_day?;
        Some(BudgetSnapshot {
            usd_per_day: budget.usd(),
            is_exhausted: self.is_exhausted(pool, now),
            ends_in_seconds: day_left(now).as_secs_f64(),
        })
    }

    /// Drains what costs something while the day has cost what it may, and lets it serve again on the next one. Looks again
    /// when the one or the other may be due.
    pub(super) fn keep_budget(&mut self, id: PoolId) {
        let now = self.time();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(budget) = pool.config.budget_per_day else { return };
        let was_spent = pool.is_spent;
        let left = budget.saturating_sub(pool.cost(Day::of(now.wall), now));
        pool.is_spent = left.is_zero();
        let mut changed: Vec<InstanceId> = Vec::new();
        let prices = pool.config.prices.clone();
        for (instance_id, instance) in &mut pool.instances {
            let costs = prices.get(instance.group.0 as usize).is_some_and(|price| price.usd() > 0.0);
            let drain = match instance.drain {
                // One that leaves for idleness could come back.
                None | Some(Drain::Idle) if pool.is_spent && costs && instance.is_there() => {
                    Some(Drain::Budget)
                }
                Some(Drain::Budget) if !pool.is_spent && !instance.is_end_asked() => {
                    instance.rest_since = now.mono;
                    None
                }
                drain => drain,
            };
            if drain != instance.drain {
                instance.drain = drain;
                changed.push(instance_id.clone());
            }
        }
        let rate: Price =
            pool.ledger.there().filter_map(|(group, there)| Some(pool.price(group)? * there)).sum();
        let lasts = if pool.is_spent { None } else { rate.lasts(left) };
        // A moment later, so that it is surely reached.
        let lasts =
            lasts.map_or(day_left(now), |lasts| (lasts + Duration::from_millis(1)).min(day_left(now)));
        self.plan_changed |= was_spent != self.pools.get(&id).is_some_and(|pool| pool.is_spent);
        self.arm(Timer::Budget(id), now.mono + lasts);
        if changed.is_empty() {
            return;
        }
        self.plan_changed = true;
        for instance in changed {
            let agents = self.pools.get(&id).and_then(|pool| pool.instances.get(&instance));
            let agents = agents.map(|instance| instance.agents.clone()).unwrap_or_default();
            for key in agents {
                self.reindex(key);
            }
        }
        self.settle(id);
    }

    /// The day is another than at the last event, by the clock or by a jump of it.
    pub(super) fn note_day(&mut self) {
        let limited = self.pools.iter().filter(|(_, pool)| pool.config.budget_per_day.is_some());
        let limited: Vec<PoolId> = limited.map(|(&id, _)| id).collect();
        for id in limited {
            self.plan_changed = true;
            self.keep_budget(id);
        }
    }
}

impl Pool {
    /// How long an instance lives at the least that is started now.
    fn life_least(&self) -> Duration {
        let boot = self.boots.quantile(500).unwrap_or(BOOT_ASSUMED);
        self.config.life_min.max(boot + self.config.idle_timeout)
    }

    /// What today has cost, and what is on its way or there will cost at the least.
    fn committed(&self, least: Duration, now: Now) -> Money {
        let left = day_left(now);
        let staying =
            self.instances.values().filter(|instance| instance.is_counted() && instance.drain.is_none());
        let staying = staying.filter_map(|instance| {
            let age = now.mono.since(instance.launched_at);
            Some(self.price(instance.group)?.of(least.saturating_sub(age).min(left)))
        });
        // Nothing of these is counted yet, not even the time since they were asked for.
        let launches = self.launches.iter().filter_map(|launch| {
            let age = now.mono.since(launch.started_at);
            Some(self.price(launch.group)?.of(least.min(age + left)))
        });
        self.cost(Day::of(now.wall), now) + staying.sum() + launches.sum()
    }
}

/// How much of the day is left.
fn day_left(now: Now) -> Duration {
    Day::of(now.wall).end().saturating_sub(now.wall)
}
