//! Whether the balancer answers. Pure.

use std::time::Duration;

use crate::core::Mono;

/// How long a new connection is pointed out.
const BACK_SHOWN: Duration = Duration::from_secs(10);

/// How the balancer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dashboard::terminal) enum Link {
    /// It has not answered yet.
    Connecting {
        /// Since when.
        since: Mono,
    },
    /// It answers.
    Up {
        /// When it came back, and after how long.
        back: Option<(Mono, Duration)>,
    },
    /// It does not.
    Down {
        /// Since when.
        since: Mono,
        /// Whether it has ever answered.
        was_up: bool,
        /// Why, in a few words.
        brief: String,
        /// Why, in a line with the mend.
        line: String,
    },
}

impl Link {
    /// It answered.
    pub(super) fn heard(&mut self, now: Mono) {
        *self = match self {
            Self::Down { since, was_up: true, .. } => Self::Up { back: Some((now, now.since(*since))) },
            Self::Connecting { .. } | Self::Down { .. } => Self::Up { back: None },
            Self::Up { back } => Self::Up { back: back.filter(|(at, _)| now.since(*at) < BACK_SHOWN) },
        };
    }

    /// It did not.
    pub(super) fn failed(&mut self, brief: String, line: String, now: Mono) {
        let (since, was_up) = match self {
            Self::Connecting { since } => (*since, false),
            Self::Up { .. } => (now, true),
            Self::Down { since, was_up, .. } => (*since, *was_up),
        };
        *self = Self::Down { since, was_up, brief, line };
    }
}
