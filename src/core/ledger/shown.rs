//! The ledger as it is shown: with prices, and beside what an instance that never ends would have cost.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Usage;
use crate::core::Core;
use crate::core::calendar::Day;
use crate::core::ids::{GroupId, Now};
use crate::core::money::{Money, Price};
use crate::core::scaling::Pool;
use crate::core::snapshot::{LedgerGroupSnapshot, LedgerSnapshot, UsageSnapshot};

impl Core {
    pub(in crate::core) fn ledger_snapshot(&self, pool: &Pool) -> LedgerSnapshot {
        let now = self.time();
        let today = Day::of(now.wall);
        let (today, month) = (today..=today, today.month());
        let (of_today, of_month) = (pool.ledger.used(&today, now), pool.ledger.used(&month, now));
        let always_on = |days: &RangeInclusive<Day>| {
            let from = days.start().start().max(pool.ledger.began.unwrap_or(now.wall));
            let price = pool.price(GroupId(0))?;
            Some(price.of(now.wall.saturating_sub(from)).usd())
        };
        let whole = |used: &BTreeMap<GroupId, Usage>, days: &RangeInclusive<Day>| UsageSnapshot {
            always_on_usd: always_on(days),
            ..sum(used, pool)
        };
        let groups = pool.groups.keys().map(|&group| {
            let part = |used: &BTreeMap<GroupId, Usage>| {
                usage(used.get(&group).copied().unwrap_or_default(), pool.price(group))
            };
            LedgerGroupSnapshot {
                group,
                price_per_hour: pool.price(group).map(Price::usd),
                today: part(&of_today),
                month: part(&of_month),
            }
        });
        LedgerSnapshot {
            today: whole(&of_today, &today),
            month: whole(&of_month, &month),
            since_start: sum(&pool.ledger.run(now), pool),
            groups: groups.collect(),
            budget: self.budget_snapshot(pool),
        }
    }
}

impl Pool {
    pub(in crate::core) fn price(&self, group: GroupId) -> Option<Price> {
        self.config.prices.get(group.0 as usize).copied()
    }

    /// What was used on a day, in money. Nothing without a price.
    pub(in crate::core) fn cost(&self, day: Day, now: Now) -> Money {
        let used = self.ledger.used(&(day..=day), now);
        used.into_iter().filter_map(|(group, usage)| Some(self.price(group)?.of(usage.instance))).sum()
    }
}

/// Of all groups; without a cost, if one that was used has no price.
fn sum(used: &BTreeMap<GroupId, Usage>, pool: &Pool) -> UsageSnapshot {
    let mut all = Usage::default();
    let mut cost = (!pool.config.prices.is_empty()).then(Money::default);
    for (&group, &used) in used {
        all += used;
        cost = cost.zip(pool.price(group)).map(|(cost, price)| cost + price.of(used.instance));
    }
    UsageSnapshot { cost_usd: cost.map(Money::usd), ..usage(all, None) }
}

fn usage(used: Usage, price: Option<Price>) -> UsageSnapshot {
    let idle: Duration = used.instance.saturating_sub(used.busy);
    UsageSnapshot {
        instance_seconds: used.instance.as_secs_f64(),
        busy_seconds: used.busy.as_secs_f64(),
        idle_seconds: idle.as_secs_f64(),
        cost_usd: price.map(|price| price.of(used.instance).usd()),
        always_on_usd: None,
    }
}
