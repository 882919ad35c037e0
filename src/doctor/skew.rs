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
fn judge(seen: &[Skew]) -> Check {
    const NAME: &str = "clock";
    let Some(skew) = seen.iter().max_by_key(|skew| skew.seconds.unsigned_abs()) else {
        return Check::skip(NAME, "", "nobody answered whose clock it could be compared with");
    };
    let off = skew.seconds.unsigned_abs();
    let way = if skew.seconds < 0 { "behind" } else { "ahead of" };
    let found = format!("this machine's clock is {off} s {way} that of {}", skew.source);
    let mend = "let chrony or systemd-timesyncd set it";
    if off > FAIL_SECONDS {
        Check::fail(NAME, "", format!("{found}: AWS refuses signatures that are 5 minutes old"), mend)
    } else if off > WARN_SECONDS {
        Check::warn(NAME, "", found, mend)
    } else {
        Check::ok(NAME, "", format!("within {WARN_SECONDS} s of that of {}", skew.source))
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
        self.0.note("AWS", context.response().and_then(|answer| answer.headers().get("date")));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn judged(seconds: &[i64]) -> Check {
        let skews: Vec<Skew> =
            seconds.iter().map(|&seconds| Skew { source: "AWS".to_owned(), seconds }).collect();
        judge(&skews)
    }

    #[test]
    fn some_seconds_are_nothing_and_minutes_are_the_end_of_signatures() {
        for (seconds, verdict, says) in [
            (&[][..], Verdict::Skip, "nobody answered"),
            (&[0], Verdict::Ok, "within 5 s of that of AWS"),
            (&[5, -5], Verdict::Ok, "within 5 s"),
            (&[0, 6, 1], Verdict::Warn, "6 s ahead of that of AWS"),
            (&[-240], Verdict::Warn, "240 s behind that of AWS"),
            (&[-241, 7], Verdict::Fail, "241 s behind that of AWS: AWS refuses signatures"),
        ] {
            let check = judged(seconds);
            assert_eq!(check.verdict, verdict, "{seconds:?}");
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
        assert!(skews.check().found.contains("ahead of that of x"), "{:?}", skews.check());
    }
}
