//! Days and months of UTC, as wall time names them. Nothing is ordered or expires by them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

const DAY_SECONDS: u64 = 24 * 60 * 60;

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
        let (year, month, day) = self.civil();
        let first = Self(self.0 - (day - 1));
        let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        first..=Self(Self::from_civil(year, month, 1).0 - 1)
    }

    /// Year, month and day of the Gregorian calendar: "chrono-Compatible Low-Level Date Algorithms" (H. Hinnant),
    /// `civil_from_days`, for days from 1970 on.
    fn civil(self) -> (u32, u32, u32) {
        let days = u64::from(self.0) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year as u32, month as u32, day as u32)
    }

    /// The reverse of [`Day::civil`]: `days_from_civil` of the same source.
    fn from_civil(year: u32, month: u32, day: u32) -> Self {
        let year = u64::from(year) - u64::from(month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted = u64::from(if month > 2 { month - 3 } else { month + 9 });
        let of_year = (153 * shifted + 2) / 5 + u64::from(day) - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = (era * 146_097 + of_era).saturating_sub(719_468);
        Self(u32::try_from(days).unwrap_or(u32::MAX))
    }
}

/// As ISO 8601 writes it.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// It is no day of the calendar from 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no day such as 2026-11-24")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let mut parts = text.splitn(3, '-').map(|part| part.parse::<u32>().map_err(|_| NotADay));
        let mut next = || parts.next().unwrap_or(Err(NotADay));
        let (year, month, day) = (next()?, next()?, next()?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(NotADay);
        }
        let found = Self::from_civil(year, month, day);
        if found.civil() == (year, month, day) { Ok(found) } else { Err(NotADay) }
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
