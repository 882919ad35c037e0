//! The only caller of `now()`. Everything else takes [`Now`] as an argument.

use std::time::{Duration, SystemTime};

use crate::core::{Mono, Now};

/// A clock whose monotonic time counts from its own start.
///
/// It reads tokio's clock, so that tests can pause it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// Starts counting now.
    #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
    #[must_use]
    pub fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// Both times, read once.
    #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: Mono(self.origin.elapsed()), wall }
    }

    /// The monotonic time alone: cheaper than [`Clock::now`], for spans that never leave this process.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(self.origin.elapsed())
    }

    /// How long ago the machine's kernel started, times of sleep included; none where the system does not tell.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn kernel_age() -> Option<Duration> {
        use rustix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::Boottime).try_into().ok()
    }

    /// How long ago the machine's kernel started, times of sleep included; none where the system does not tell.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn kernel_age() -> Option<Duration> {
        None
    }

    /// The instant at which `at` is reached, for a timer to sleep until.
    #[must_use]
    pub fn instant(&self, at: Mono) -> tokio::time::Instant {
        self.origin + at.0
    }
}
