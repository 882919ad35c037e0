//! How long starts and answers take: measured, and asked for when something must be foretold.

use std::collections::VecDeque;
use std::time::Duration;

/// Boots that are remembered: enough for a median, few enough to follow a change of image or model.
const BOOTS_KEPT: usize = 32;
/// What a boot is taken to last before one was seen.
const BOOT_ASSUMED: Duration = Duration::from_secs(60);
/// The least that is left of a boot that takes longer than most.
const BOOT_LEFT_MIN: Duration = Duration::from_secs(1);
/// The weight of the latest answer in the mean, as a divisor.
const SERVICE_SMOOTHING: u32 = 5;

/// The last boots of a pool, from the wake to the first slot.
#[derive(Debug, Default)]
pub(super) struct BootTimes {
    last: VecDeque<Duration>,
}

impl BootTimes {
    pub(super) fn add(&mut self, took: Duration) {
        if self.last.len() == BOOTS_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// The time that a share of the last boots (in thousandths) was done in; none before one was seen.
    pub(super) fn quantile(&self, permille: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * permille).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied()
    }

    /// How much longer a boot takes that has lasted `elapsed`: by the median, and for a slow one by the 9th decile.
    pub(super) fn left(&self, elapsed: Duration) -> Duration {
        let median = self.quantile(500).unwrap_or(BOOT_ASSUMED);
        let slow = self.quantile(900).unwrap_or(BOOT_ASSUMED);
        let whole = if elapsed < median { median } else { slow };
        whole.saturating_sub(elapsed).max(BOOT_LEFT_MIN)
    }
}

/// How long a slot is taken by one answer: a moving mean.
#[derive(Debug, Default)]
pub(super) struct ServiceTime {
    mean: Option<Duration>,
}

impl ServiceTime {
    pub(super) fn add(&mut self, took: Duration) {
        self.mean = Some(match self.mean {
            None => took,
            Some(mean) => (mean * (SERVICE_SMOOTHING - 1) + took) / SERVICE_SMOOTHING,
        });
    }

    pub(super) fn estimate(&self) -> Option<Duration> {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[u64]) -> BootTimes {
        let mut times = BootTimes::default();
        for &s in seconds {
            times.add(Duration::from_secs(s));
        }
        times
    }

    #[test]
    fn quantiles_are_of_boots_that_were_seen() {
        assert_eq!(times(&[]).quantile(500), None);
        assert_eq!(times(&[7]).quantile(500), Some(Duration::from_secs(7)));
        assert_eq!(times(&[9, 1, 5]).quantile(500), Some(Duration::from_secs(5)));
        assert_eq!(times(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).quantile(900), Some(Duration::from_secs(9)));
    }

    #[test]
    fn old_boots_are_forgotten() {
        let mut times = times(&[100; BOOTS_KEPT]);
        for _ in 0..BOOTS_KEPT {
            times.add(Duration::from_secs(1));
        }
        assert_eq!(times.quantile(900), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_left_shrinks_and_never_ends_before_the_boot() {
        let times = times(&[10, 10, 10, 30, 30]);
        assert_eq!(times.left(Duration::ZERO), Duration::from_secs(10));
        assert_eq!(times.left(Duration::from_secs(4)), Duration::from_secs(6));
        assert_eq!(times.left(Duration::from_secs(15)), Duration::from_secs(15), "a slow one");
        assert_eq!(times.left(Duration::from_secs(99)), BOOT_LEFT_MIN);
        assert_eq!(BootTimes::default().left(Duration::ZERO), BOOT_ASSUMED);
    }

    #[test]
    fn the_mean_follows_the_latest_answers() {
        let mut service = ServiceTime::default();
        assert_eq!(service.estimate(), None);
        service.add(Duration::from_secs(10));
        assert_eq!(service.estimate(), Some(Duration::from_secs(10)));
        service.add(Duration::ZERO);
        assert_eq!(service.estimate(), Some(Duration::from_secs(8)));
    }
}
