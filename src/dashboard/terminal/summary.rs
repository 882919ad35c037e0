//! What matters most, in a few lines. Pure.

use super::text::clean;
use crate::core::snapshot::{InstanceSnapshot, PoolSnapshot};
use crate::dashboard::{Snapshot, words};
use crate::metrics::{Label, State, instances};

/// Where what is named begins, behind its name.
pub(super) const LABEL_COLUMNS: usize = 11;

/// Slots that are in use.
pub(super) fn slots(state: &Snapshot) -> String {
    let sum = |of: fn(&PoolSnapshot) -> u32| state.pools.iter().map(|pool| u64::from(of(pool))).sum::<u64>();
    format!("{} of {} used", sum(|pool| pool.slots_processing), sum(|pool| pool.slots_total))
}

/// Instances by what they are good for, without those that there are none of.
pub(super) fn instance_counts(state: &Snapshot) -> String {
    let counts = State::ALL.iter().zip(instances(&state.pools)).filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(state, count)| format!("{count} {}", state.value())).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

/// Whether nothing is there that could serve, nor asked for.
pub(super) fn is_at_zero(state: &Snapshot) -> bool {
    let is_empty = |pool: &PoolSnapshot| pool.instances.is_empty() && pool.pending == 0;
    state.pools.iter().all(is_empty) && !state.agents.iter().any(|agent| agent.is_connected)
}

/// Today's cost against that of an instance that never ends; none without a price.
pub(super) fn cost(state: &Snapshot) -> Option<String> {
    let sum = |of: fn(&PoolSnapshot) -> Option<f64>| state.pools.iter().filter_map(of).reduce(|a, b| a + b);
    let cost = sum(|pool| pool.ledger.today.cost_usd)?;
    let against = match sum(|pool| pool.ledger.today.always_on_usd) {
        Some(always_on) => {
            let differs = match always_on >= cost {
                true => format!("saved {}", words::usd(always_on - cost)),
                false => format!("{} more", words::usd(cost - always_on)),
            };
            format!(", always on {}, {differs}", words::usd(always_on))
        }
        None => String::new(),
    };
    Some(format!("today {}{against} (estimates)", words::usd(cost)))
}

/// What a day may cost, where that is limited.
pub(super) fn budget(state: &Snapshot) -> Option<String> {
    let budget = state.pools.iter().find_map(|pool| pool.ledger.budget)?;
    let until = words::span(budget.ends_in_seconds);
    Some(match budget.is_exhausted {
        true => {
            format!("{} a day: exhausted, nothing is started for {until}", words::usd(budget.usd_per_day))
        }
        false => format!("{} a day, the next in {until}", words::usd(budget.usd_per_day)),
    })
}

/// What somebody should know, the worst first.
pub(super) fn notes(state: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    if state.shutting_down {
        notes.push("the balancer is ending: it takes no more requests".to_owned());
    }
    for pool in &state.pools {
        if let Some(trouble) = &pool.trouble {
            notes.push(format!("the last launch failed: {}", clean(trouble)));
        }
        if pool.wake_wanted {
            notes.push("requests wait, and somebody else should start an instance (wake_wanted)".to_owned());
        }
        for group in &pool.groups {
            let name = group.name.as_deref().map_or_else(|| group.group.to_string(), clean);
            if let Some(left) = group.left_alone_seconds {
                let cause =
                    group.cause.as_deref().map_or_else(String::new, |cause| format!(": {}", clean(cause)));
                notes.push(format!("group {name} is left alone for {}{cause}", words::span(left)));
            }
            if group.has_rival {
                notes.push(format!("another balancer works on group {name} too"));
            }
        }
    }
    notes
}

/// A start that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Boot {
    /// The instance, and what its boot is at.
    pub what: String,
    /// Since its launch, in seconds; none while its group shows no instance.
    pub passed_seconds: Option<f64>,
    /// Until it is expected to serve, in seconds.
    pub left_seconds: f64,
}

impl Boot {
    /// How much of it is over, from 0 to 1.
    pub(super) fn done(&self) -> f64 {
        let passed = self.passed_seconds.unwrap_or_default();
        let done = passed / (passed + self.left_seconds);
        if done.is_finite() { done.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Times, in words.
    pub(super) fn times(&self) -> String {
        let left = words::span(self.left_seconds);
        match self.passed_seconds {
            Some(passed) if self.left_seconds <= 0.0 => format!("{}, longer than usual", words::span(passed)),
            Some(passed) => format!("{}, about {left} left", words::span(passed)),
            None => format!("about {left} left"),
        }
    }
}

/// The starts that are under way, the one that is expected first in front.
///
/// 1. The snapshot tells when the next of them ends: that is the oldest.
/// 2. The others take as long as that one in all.
/// 3. Launches that show no instance yet have just begun, and stand together.
pub(super) fn boots(state: &Snapshot) -> Vec<Boot> {
    let mut boots = Vec::new();
    for pool in &state.pools {
        let mut booting: Vec<&InstanceSnapshot> =
            pool.instances.iter().filter(|instance| instance.boot_phase.is_some()).collect();
        booting.sort_by(|a, b| b.age_seconds.total_cmp(&a.age_seconds));
        let total = booting.first().map_or(0.0, |oldest| oldest.age_seconds) + pool.boot_eta_seconds;
        let unseen = pool.pending.saturating_sub(booting.len());
        boots.extend(booting.into_iter().map(|instance| Boot {
            what: format!("{}: {}", clean(&instance.id.0), instance.boot_phase.map_or("", words::boot_phase)),
            passed_seconds: Some(instance.age_seconds),
            left_seconds: (total - instance.age_seconds).max(0.0),
        }));
        if unseen > 0 {
            boots.push(Boot {
                what: format!("launching {unseen}"),
                passed_seconds: None,
                left_seconds: total,
            });
        }
    }
    boots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::BudgetSnapshot;
    use crate::dashboard::sample;

    #[test]
    fn zero_is_zero() {
        let state = sample::at_zero();
        assert!(is_at_zero(&state));
        assert_eq!(instance_counts(&state), "none");
        assert_eq!(slots(&state), "0 of 0 used");
        assert_eq!((cost(&state), budget(&state), notes(&state).len()), (None, None, 0));
        assert!(!is_at_zero(&sample::serving()) && !is_at_zero(&sample::booting()));
    }

    #[test]
    fn instances_are_counted_as_the_metrics_do() {
        assert_eq!(instance_counts(&sample::busy()), "3 serving");
        let mut state = sample::booting();
        state.pools[0].pending = 2;
        assert_eq!(instance_counts(&state), "1 launching, 1 booting");
    }

    #[test]
    fn money_is_an_estimate() {
        let mut state = sample::busy();
        assert_eq!(cost(&state).unwrap(), "today $1.23, always on $12.40, saved $11.17 (estimates)");
        assert_eq!(budget(&state).unwrap(), "$5.00 a day, the next in 2 h");
        state.pools[0].ledger.today.always_on_usd = Some(1.0);
        assert_eq!(cost(&state).unwrap(), "today $1.23, always on $1.00, $0.23 more (estimates)");
        state.pools[0].ledger.today.always_on_usd = None;
        assert_eq!(cost(&state).unwrap(), "today $1.23 (estimates)");
        let budgeted = BudgetSnapshot { usd_per_day: 5.0, is_exhausted: true, ends_in_seconds: 60.0 };
        state.pools[0].ledger.budget = Some(budgeted);
        assert_eq!(budget(&state).unwrap(), "$5.00 a day: exhausted, nothing is started for 1 min");
    }

    #[test]
    fn starts_have_their_phase_and_the_rest() {
        let mut state = sample::booting();
        state.pools[0].pending = 2;
        let boots = boots(&state);
        assert_eq!(boots[0].what, "i-booting: load");
        assert_eq!(boots[0].times(), "42 s, about 18 s left");
        assert!((boots[0].done() - 0.7).abs() < 1e-9);
        assert_eq!((boots[1].what.as_str(), boots[1].times().as_str()), ("launching 1", "about 1 min left"));
        assert_eq!(boots.len(), 2);
        let late = Boot { left_seconds: 0.0, ..boots[0].clone() };
        assert_eq!((late.times().as_str(), late.done()), ("42 s, longer than usual", 1.0));
        let odd = Boot { passed_seconds: Some(f64::NAN), ..late };
        assert_eq!(odd.done(), 0.0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut state = sample::busy();
        state.shutting_down = true;
        let pool = &mut state.pools[0];
        pool.trouble = Some("VcpuLimitExceeded".into());
        pool.wake_wanted = true;
        pool.groups[0].left_alone_seconds = Some(170.0);
        pool.groups[0].cause = Some("no \x1b[31mcapacity".into());
        pool.groups[0].has_rival = true;
        assert_eq!(
            notes(&state),
            [
                "the balancer is ending: it takes no more requests",
                "the last launch failed: VcpuLimitExceeded",
                "requests wait, and somebody else should start an instance (wake_wanted)",
                "group llama-spot is left alone for 2 min 50 s: no \u{fffd}[31mcapacity",
                "another balancer works on group llama-spot too",
            ]
        );
    }
}
