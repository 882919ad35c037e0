//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): a request's trace goes on through the gateway.
//!
//! The gateway is one span of it. What the client said of the span above is answered by a new `traceparent` toward the
//! servers, the same at each attempt; the log has both ids.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` 32 digits `-` 16 digits `-` 2 digits (section 3.2.2): what later versions begin with, too.
const LENGTH: usize = 55;
/// The caller may have recorded something; and, of level 2, the trace id is random. No other flag may be passed on.
const FLAGS_KNOWN: u8 = 0b11;
/// Of a later version only this one is known to mean the same (section 3.2.4).
const FLAG_SAMPLED: u8 = 0b01;

/// A request's trace, and the gateway's span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) id: TraceId,
    pub(super) span: SpanId,
    flags: u8,
}

/// Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceId(u128);

/// Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanId(u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Trace {
    /// Makes the client's headers those of the gateway's own span.
    ///
    /// 1. One valid `traceparent`: its trace goes on, with its flags, and `tracestate` stays.
    /// 2. None, an invalid one, or several: a new trace begins, and `tracestate`, which is about another, goes. It is not
    ///    flagged as recorded, for nobody did.
    pub(super) fn enter(headers: &mut HeaderMap) -> Self {
        let span = SpanId(fastrand::u64(1..));
        let mut given = headers.get_all(TRACEPARENT).iter();
        let parent = match (given.next(), given.next()) {
            (Some(only), None) => parse(only.as_bytes()),
            (_, _) => None,
        };
        let trace = match parent {
            Some((id, flags)) => Self { id, span, flags },
            None => {
                headers.remove(TRACESTATE);
                Self { id: TraceId(fastrand::u128(1..)), span, flags: 0 }
            }
        };
        if let Ok(value) = HeaderValue::try_from(format!("00-{}-{span}-{:02x}", trace.id, trace.flags)) {
            headers.insert(TRACEPARENT, value);
        }
        trace
    }
}

/// The trace and its flags, of a valid `traceparent`.
fn parse(text: &[u8]) -> Option<(TraceId, u8)> {
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let part = |from: usize, to: usize| hex(known.get(from..to)?);
    let are_dashes = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
    let flags_passed = match (part(0, 2)?, rest) {
        (0xff, _) => return None,
        (0, []) => FLAGS_KNOWN,
        (0, _) => return None,
        // What a later version adds is behind a dash of its own.
        (_, [] | [b'-', ..]) => FLAG_SAMPLED,
        (_, _) => return None,
    };
    let (trace, parent, flags) = (part(3, 35)?, part(36, 52)?, part(53, LENGTH)?);
    let is_valid = are_dashes && trace != 0 && parent != 0;
    is_valid.then_some((TraceId(trace), u8::try_from(flags).ok()? & flags_passed))
}

/// Lower-case digits alone (section 3.2.2.1).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn headers(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        }
        headers.append(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("other=2"));
        headers
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_span_of_our_own() {
        for (given, flags) in [
            (format!("00-{ID}-{PARENT}-00"), "00"),
            (format!("00-{ID}-{PARENT}-01"), "01"),
            (format!("00-{ID}-{PARENT}-03"), "03"),
            (format!("00-{ID}-{PARENT}-ff"), "03"),
            (format!("01-{ID}-{PARENT}-01"), "01"),
            (format!("cc-{ID}-{PARENT}-03"), "01"),
            (format!("fe-{ID}-{PARENT}-01-what-the-future-will-be-like"), "01"),
        ] {
            let mut headers = headers(&[&given]);
            let trace = Trace::enter(&mut headers);
            assert_eq!(trace.id.to_string(), ID, "{given}");
            assert_ne!(trace.span.to_string(), PARENT, "{given}");
            let told: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
            assert_eq!(told, [&format!("00-{ID}-{}-{flags}", trace.span)], "{given}");
            assert_eq!(headers.get_all(TRACESTATE).iter().count(), 2, "{given}");
        }
    }

    #[test]
    fn whatever_else_begins_a_new_trace() {
        let zero = "0".repeat(32);
        let valid = format!("00-{ID}-{PARENT}-01");
        for given in [
            &[][..],
            &[""],
            &[&valid, &valid],
            &[&format!("{valid}-")],
            &[&format!("{valid}-more")],
            &[&format!("{valid}0")],
            &[&valid[..54]],
            &[&format!("01-{ID}-{PARENT}-01.more")],
            &[&format!("01-{ID}-{PARENT}-011")],
            &[&format!("ff-{ID}-{PARENT}-01")],
            &[&format!("0-{ID}-{PARENT}-011")],
            &[&format!("FE-{ID}-{PARENT}-01")],
            &[&format!("00-{zero}-{PARENT}-01")],
            &[&format!("00-{ID}-{}-01", &zero[..16])],
            &[&format!("00-{}-{PARENT}-01", ID.to_uppercase())],
            &[&format!("00-{ID}-{}-01", PARENT.to_uppercase())],
            &[&format!("00-{ID}-{PARENT}-0A")],
            &[&format!("00-{}+-{PARENT}-01", &ID[..31])],
            &[&format!("00_{ID}-{PARENT}-01")],
            &[&format!("00-{ID}_{PARENT}-01")],
            &[&format!("00-{ID}-{PARENT}_01")],
            &[&format!(" {valid}")],
        ] {
            let mut headers = headers(given);
            let trace = Trace::enter(&mut headers);
            assert_ne!(trace.id.to_string(), ID, "{given:?}");
            assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1, "{given:?}");
            assert_eq!(headers[TRACEPARENT], format!("00-{}-{}-00", trace.id, trace.span), "{given:?}");
            assert!(!headers.contains_key(TRACESTATE), "{given:?}");
        }
        let [one, two] = [(); 2].map(|()| Trace::enter(&mut HeaderMap::new()));
        assert!(one.id != two.id && one.span != two.span);
    }

    proptest! {
        #[test]
        fn what_is_told_on_is_valid_whatever_came(given in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&given) {
                headers.insert(TRACEPARENT, value);
            }
            let trace = Trace::enter(&mut headers);
            let told = headers[TRACEPARENT].as_bytes();
            prop_assert_eq!(parse(told), Some((trace.id, trace.flags)));
        }
    }
}
