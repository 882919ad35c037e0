//! This machine's clock against those of its peers, by the `Date` of their answers (RFC 9110 section 6.6.1).

use std::sync::{Mutex, PoisonError};

use aws_sdk_autoscaling::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_autoscaling::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_autoscaling::error::BoxError;
use aws_sdk_autoscaling::primitives::{DateTime, DateTimeFormat};
use std::sync::Arc;

use super::report::Check;
use crate::clock::Clock;

/// A difference that shows in logs and in the age of claims, in seconds. A `Date` has whole seconds, and its way takes time.
const WARN_SECONDS: u64 = 5;

/// AWS refuses signatures that are 5 minutes old (AWS General Reference, "Signature Version 4"): a minute before that.
const FAIL_SECONDS: u64 = 240;

/// Whose clock is right: it is the one that matters, and the only one that many look after.
const AWS: &str = "AWS";

/// What was seen of other clocks, in the order of their answers.
#[derive(Debug, Clone)]
pub(super) struct Skews {
    clock: Clock,
    seen: Arc<Mutex<Vec<Skew>>>,
}

/// This clock minus another, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Skew {
    source: String,
    seconds: i64,
}

impl Skews {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, seen: Arc::default() }
    }

    /// Compares the clock with a `Date` that came this moment. One that cannot be read is passed over.
    pub(super) fn note(&self, source: &str, date: Option<&str>) {
        let there = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let here = i64::try_from(self.clock.now().wall.as_secs()).unwrap_or(i64::MAX);
        if let Some(there) = there {
            let skew = Skew { source: source.to_owned(), seconds: here.saturating_sub(there.secs()) };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(skew);
        }
    }

    pub(super) fn check(&self) -> Check {
        judge(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By the clock that is farthest away.
///
/// 1. AWS's is right: this machine's is wrong where the two differ.
/// 2. Of two others, nobody knows which is right.
fn judge(seen: &[Skew]) -> Check {
    const NAME: &str = "clock";
    let farthest =
        |of: &dyn Fn(&&Skew) -> bool| seen.iter().filter(of).max_by_key(|skew| skew.seconds.unsigned_abs());
    let is_off = |skew: &&Skew| skew.seconds.unsigned_abs() > WARN_SECONDS;
    if let Some(skew) = farthest(&|skew| skew.source == AWS).filter(is_off) {
        let off = skew.seconds.unsigned_abs();
        let way = if skew.seconds < 0 { "behind" } else { "ahead of" };
        let found = format!("this machine's clock is {off} s {way} that of {AWS}");
        let mend = "let chrony or systemd-timesyncd set it";
        return match off > FAIL_SECONDS {
            true => {
                Check::fail(NAME, "", format!("{found}, which refuses signatures of 5 minutes ago"), mend)
            }
            false => Check::warn(NAME, "", found, mend),
        };
    }
    match farthest(&|_| true) {
        None => Check::skip(NAME, "", "nobody answered whose clock it could be compared with"),
        Some(skew) if is_off(&skew) => Check::warn(
            NAME,
            "",
            format!(
                "the clocks of this machine and of {} differ by {} s",
                skew.source,
                skew.seconds.unsigned_abs()
            ),
            "let chrony or systemd-timesyncd set both",
        ),
        Some(skew) => Check::ok(NAME, "", format!("within {WARN_SECONDS} s of that of {}", skew.source)),
    }
}

/// Notes the `Date` of each answer of AWS.
#[derive(Debug)]
pub(super) struct NoteDates(pub(super) Skews);

impl Intercept for NoteDates {
    fn name(&self) -> &'static str {
        "NoteDates"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.note(AWS, context.response().and_then(|answer| answer.headers().get("date")));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn judged(skews: &[(&str, i64)]) -> Check {
        let skew = |&(source, seconds): &(&str, i64)| Skew { source: source.to_owned(), seconds };
        judge(&skews.iter().map(skew).collect::<Vec<_>>())
    }

    #[test]
    fn only_awss_clock_is_surely_right() {
        for (skews, verdict, says) in [
            (&[][..], Verdict::Skip, "nobody answered"),
            (&[(AWS, 0)], Verdict::Ok, "within 5 s of that of AWS"),
            (&[(AWS, 5), ("x", -5)], Verdict::Ok, "within 5 s"),
            (&[(AWS, 0), (AWS, 6), (AWS, 1)], Verdict::Warn, "clock is 6 s ahead of that of AWS"),
            (&[(AWS, -240)], Verdict::Warn, "clock is 240 s behind that of AWS"),
            (
                &[(AWS, -241), ("x", 999)],
                Verdict::Fail,
                "is 241 s behind that of AWS, which refuses signatures",
            ),
            (&[("x", 7)], Verdict::Warn, "the clocks of this machine and of x differ by 7 s"),
            (&[("x", -7), (AWS, 2)], Verdict::Warn, "the clocks of this machine and of x differ by 7 s"),
            (&[("x", 9999)], Verdict::Warn, "the clocks of this machine and of x differ by 9999 s"),
        ] {
            let check = judged(skews);
            assert_eq!(check.verdict, verdict, "{skews:?}");
            assert!(check.found.contains(says), "{}", check.found);
        }
    }

    #[test]
    fn dates_are_read_as_http_has_them() {
        let skews = Skews::new(Clock::start());
        for date in [None, Some("yesterday")] {
            skews.note("x", date);
        }
        assert_eq!(skews.check().verdict, Verdict::Skip);
        skews.note("x", Some("Tue, 15 Nov 1994 08:12:31 GMT"));
        assert!(skews.check().found.contains("this machine and of x differ"), "{:?}", skews.check());
    }
}
