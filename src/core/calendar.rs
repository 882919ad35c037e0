//! Days and months of UTC, as wall time names them. Nothing is ordered or expires by them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// 9999-12-31: ISO 8601 writes years with four digits. A day after it is written as it.
const LAST: Day = Day(2_932_896);

/// How a day is written.
const DATE: &str = "2026-11-24";

/// A UTC day, by its distance from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment, as the time since the Unix epoch. A day's last moment belongs to it, its end to the next.
    #[must_use]
    pub fn of(wall: Duration) -> Self {
        Self(u32::try_from(wall.as_secs() / DAY_SECONDS).unwrap_or(u32::MAX))
    }

    /// When it begins, since the Unix epoch.
    #[must_use]
    pub fn start(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * DAY_SECONDS)
    }

    /// When the next one begins, since the Unix epoch.
    #[must_use]
    pub fn end(self) -> Duration {
        self.start() + Duration::from_secs(DAY_SECONDS)
    }

    /// The days of its month.
    #[must_use]
    pub fn month(self) -> RangeInclusive<Self> {
        let first = |day: Self| Self(day.0 - (day.of_month() - 1));
        // In the month after it, whichever that is.
        let next = Self(first(self).0.saturating_add(31));
        first(self)..=if next > LAST { self.max(LAST) } else { Self(first(next).0 - 1) }
    }

    fn of_month(self) -> u32 {
        self.to_string().get(8..).and_then(|day| day.parse().ok()).unwrap_or(1)
    }
}

/// As ISO 8601 writes it.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + self.min(&LAST).start()).to_string();
        f.write_str(&text[..DATE.len()])
    }
}

/// It is no day of the calendar from 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no day such as {DATE}")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let start = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| NotADay)?;
        start.duration_since(UNIX_EPOCH).map(Self::of).map_err(|_| NotADay)
    }
}

/// The parts of a span that ends at `end`, day by day, the latest first. What would lie before 1970 is of its first day.
pub(super) fn parts(span: Duration, end: Duration) -> impl Iterator<Item = (Day, Duration)> {
    let mut rest = (span, end);
    std::iter::from_fn(move || {
        let (span, end) = rest;
        if span.is_zero() {
            return None;
        }
        // Just before its end: at midnight the span is still of the day before.
        let day = Day::of(end.saturating_sub(Duration::from_nanos(1)));
        let here = end.saturating_sub(day.start());
        let part = if here.is_zero() || day == Day(0) { span } else { span.min(here) };
        rest = (span - part, day.start());
        Some((day, part))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        for (day, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (20_781, "2026-11-24"),
            (20_818, "2026-12-31"),
        ] {
            assert_eq!(Day(day).to_string(), date);
            assert_eq!(date.parse(), Ok(Day(day)));
        }
        for text in
            ["", "2026", "2026-2-30", "2026-13-01", "2026-00-01", "1969-12-31", "2026-11-24T", "x-y-z"]
        {
            assert_eq!(text.parse::<Day>(), Err(NotADay), "{text}");
        }
    }

    #[test]
    fn a_month_is_from_its_first_day_to_its_last() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        for (of, first, last) in [
            ("2026-11-24", "2026-11-01", "2026-11-30"),
            ("2026-12-31", "2026-12-01", "2026-12-31"),
            ("2024-02-01", "2024-02-01", "2024-02-29"),
            ("2026-02-28", "2026-02-01", "2026-02-28"),
        ] {
            assert_eq!(day(of).month(), day(first)..=day(last));
        }
    }

    #[test]
    fn a_clock_that_is_far_ahead_harms_nothing() {
        for day in [LAST, Day(LAST.0 + 1), Day(LAST.0 + 400), Day(u32::MAX)] {
            assert_eq!(day.to_string(), "9999-12-31");
            assert!(day.month().contains(&day));
        }
        assert_eq!("9999-12-31".parse(), Ok(LAST));
    }

    proptest! {
        #[test]
        fn every_day_is_found_again(day in 0u32..2_900_000) {
            prop_assert_eq!(Day(day).to_string().parse(), Ok(Day(day)));
            prop_assert!(Day(day).month().contains(&Day(day)));
        }

        /// Nothing is lost, nothing counted twice, and each part lies within its day.
        #[test]
        fn a_span_is_the_sum_of_its_days(end in 0u64..4_000_000_000_000_000_000, span in 0u64..1_000_000_000_000_000) {
            let (end, span) = (Duration::from_nanos(end), Duration::from_nanos(span));
            let all: Vec<(Day, Duration)> = parts(span, end).collect();
            prop_assert_eq!(all.iter().map(|(_, part)| *part).sum::<Duration>(), span);
            let mut until = end;
            for (at, (day, part)) in all.iter().enumerate() {
                let from = until.saturating_sub(*part);
                prop_assert!(*day == Day(0) || (from >= day.start() && until <= day.end()));
                prop_assert!(at == 0 || until == day.end());
                until = from;
            }
        }
    }
}
