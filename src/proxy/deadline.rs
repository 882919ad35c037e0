//! How long a client says that it waits.

use std::time::Duration;

use http::HeaderMap;

use super::error::Refusal;
use super::headers::{PREFER, X_DEADLINE_MS};

/// The shortest wait that the headers name; none if they name none.
///
/// # Errors
/// `x-paddock-deadline-ms` is no number. A `Prefer` that is not understood is ignored instead (RFC 7240 section 2).
pub(super) fn wait_max(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let deadline = deadline(headers)?;
    let preferred = headers.get_all(PREFER).iter().find_map(|value| value.to_str().ok().and_then(wait));
    let preferred = preferred.and_then(number).map(Duration::from_secs);
    Ok(match (deadline, preferred) {
        (Some(deadline), Some(preferred)) => Some(deadline.min(preferred)),
        (deadline, preferred) => deadline.or(preferred),
    })
}

fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let mut values = headers.get_all(X_DEADLINE_MS).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let number = first.to_str().ok().and_then(number).filter(|_| values.next().is_none());
    let wrong = Refusal::BadRequest(
        "x-paddock-deadline-ms: it is not one whole number of milliseconds; write one, such as 30000",
    );
    number.map(|ms| Some(Duration::from_millis(ms))).ok_or(wrong)
}

/// The value of the first `wait` in a list of preferences (RFC 7240 sections 2 and 4.3).
fn wait(preferences: &str) -> Option<&str> {
    outside_quotes(preferences, ',').find_map(|preference| {
        // What follows a semicolon are the preference's own parameters.
        let (name, value) = outside_quotes(preference, ';').next()?.split_once('=')?;
        let value = value.trim();
        let plain = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        name.trim().eq_ignore_ascii_case("wait").then_some(plain)
    })
}

/// The parts between separators that no quoted string holds.
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match c {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => return c == separator && !is_quoted,
        }
        false
    })
}

/// Digits alone; what is beyond the range is as good as its end.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX / 1000))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Result<Option<Duration>, Refusal> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        wait_max(&headers.collect())
    }

    #[test]
    fn a_preference_to_wait_is_found_among_others() {
        for prefer in [
            "wait=10",
            "WAIT = 10",
            "respond-async, wait=10",
            "wait=\"10\"",
            "return=minimal; foo=\"a, wait=3; \\\" wait=4\", wait=10; x=1",
            "handling=lenient,wait=10,wait=99",
        ] {
            assert_eq!(of(&[("prefer", prefer)]), Ok(Some(Duration::from_secs(10))), "{prefer}");
        }
        let two = of(&[("prefer", "respond-async"), ("prefer", "wait=0")]);
        assert_eq!(two, Ok(Some(Duration::ZERO)));
    }

    #[test]
    fn a_preference_that_is_not_understood_is_ignored() {
        for prefer in
            ["", "wait", "wait=", "wait=abc", "wait=-1", "wait=1.5", "await=1", "x=\"wait=1", "wait=1 2"]
        {
            assert_eq!(of(&[("prefer", prefer)]), Ok(None), "{prefer}");
        }
    }

    #[test]
    fn a_deadline_is_a_number_of_milliseconds_or_wrong() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("x-paddock-deadline-ms", "1500")]), Ok(Some(Duration::from_millis(1500))));
        let both = of(&[("x-paddock-deadline-ms", "1500"), ("prefer", "wait=1")]);
        assert_eq!(both, Ok(Some(Duration::from_secs(1))), "the shorter one");
        let longest = of(&[("x-paddock-deadline-ms", "99999999999999999999999999")]);
        assert!(longest.unwrap().unwrap() > Duration::from_secs(1 << 40));
        for wrong in ["", "abc", "-1", "1.5", "1e3", "+1", "1 ", "0x10"] {
            assert!(of(&[("x-paddock-deadline-ms", wrong)]).is_err(), "{wrong:?}");
        }
        assert!(of(&[("x-paddock-deadline-ms", "1"), ("x-paddock-deadline-ms", "1")]).is_err());
    }
}
