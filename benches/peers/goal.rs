//! Targets, and when they count as met.

use super::stats::Estimate;

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// A target counts as met when the interval reaches it.
    pub fn verdict(self, estimate: &Estimate) -> &'static str {
        let reaches = |value: f64| match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        };
        let best = match self {
            Self::AtLeast(_) => *estimate.interval.end(),
            Self::AtMost(_) => *estimate.interval.start(),
        };
        match (reaches(estimate.median), reaches(best)) {
            (true, _) => "met",
            (false, true) => "met by the interval",
            (false, false) => "**missed**",
        }
    }

    /// As a table shows it.
    pub fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal}{unit}"),
            Self::AtMost(goal) => format!("≤ {goal}{unit}"),
        }
    }
}
