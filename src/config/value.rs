//! Durations, sizes and counts, as people write them.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::metrics::statsd::{POOL_TAG, StatsdTag};

/// The longest duration. Timers never overflow below it, and a `5M`, which would mean months, is caught.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The greatest count of anything: more is a mistake.
const COUNT_MAX: u32 = 1_000_000;

/// The longest namespace that CloudWatch takes, in characters.
const NAMESPACE_CHARS_MAX: usize = 255;

/// What hyper reads at once, in bytes: it takes no smaller limit.
const HEAD_BYTES_MIN: usize = 8 << 10;

/// The longest tag, in characters, its name and value together: what Datadog keeps.
const TAG_CHARS_MAX: usize = 200;

/// The most threads that serve clients.
const THREADS_MAX: u32 = 1024;

/// Why a value cannot be used, and what to write in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It has no unit that is known, or no number.
    #[error("'{0}' is not a duration; write 10s, 500ms, 5m or a number of seconds")]
    NotADuration(String),
    /// It is neither a duration nor `off`.
    #[error("'{0}' is not a duration; write 15s, 500ms, a number of seconds, or off")]
    NotADurationOrOff(String),
    /// It is beyond what a timer takes.
    #[error("'{0}' is too long; write 30d or less")]
    TooLong(String),
    /// It is zero where something is done again and again.
    #[error("'{0}' is too short; write a time above zero, such as 10s")]
    NoTime(String),
    /// It has no unit that is known, or no number.
    #[error("'{0}' is not a size; write 64MiB, 10MB, 512KiB or a number of bytes")]
    NotASize(String),
    /// Nothing would fit in.
    #[error("'{0}' leaves room for nothing; write a size above zero, such as 64MiB")]
    NoRoom(String),
    /// No request would fit in.
    #[error("'{0}' is too short for the head of a request; write 8KiB or more")]
    NoHead(String),
    /// It is no number, or out of its range.
    #[error("'{text}' is not a whole number from {min} to {max}; write one, such as {min}")]
    NotACount {
        /// As it was written.
        text: String,
        /// The least.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// It is no answer to a question of yes or no.
    #[error("'{0}' is neither true nor false; write one of these")]
    NotASwitch(String),
    /// It is neither `on` nor `off`.
    #[error("'{0}' is neither on nor off; write one of these")]
    NotOnOff(String),
    /// It is not of the form `host:port`.
    #[error("'{0}' is not an address; write host:port, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080")]
    NotAnAddress(String),
    /// It begins as an entry of the instance metadata, and is none that is an address.
    #[error(
        "'{0}' is not an address in the EC2 metadata; write aws:metadata:local-ipv4:8080 or aws:metadata:ipv6:8080, \
         with the port"
    )]
    NotInMetadata(String),
    /// Nobody can be reached at port 0.
    #[error("'{0}' has port 0, where nothing listens; write the real port")]
    NoPort(String),
    /// It is neither a network nor an address.
    #[error("'{0}' is not a network; write an address or a CIDR, such as 10.0.0.7 or 10.0.0.0/16")]
    NotANetwork(String),
    /// A secret of no characters protects nothing.
    #[error("it is empty; write the secret, or leave this out")]
    EmptySecret,
    /// It could not be sent in a header. The value is a secret: it is not repeated here.
    #[error("it holds a space or a character beyond ASCII; write letters, digits and punctuation only")]
    UnsendableSecret,
    /// It would break the names of metrics.
    #[error("'{0}' is not a prefix for metrics; write a name without blanks, ':', '|', '@' and '#'")]
    NotAPrefix(String),
    /// It would break the datagrams, or be refused where they are read.
    #[error(
        "'{0}' is no tag; write NAME:VALUE, up to 200 characters without blanks, '|', ',' and '#', the first a letter, such as \
         env:prod"
    )]
    NotATag(String),
    /// The gateway has its own tag of this name.
    #[error("'{0}' has the name of the gateway's own tag; write another name")]
    TagOfOurs(String),
    /// CloudWatch would refuse it.
    #[error(
        "'{0}' is not a CloudWatch namespace; write up to 255 letters, digits, blanks and characters of . - _ / # : that \
         do not begin with ':' or AWS/, such as Paddock"
    )]
    NotANamespace(String),
    /// It is no number of USD, or none that a price can be.
    #[error(
        "'{0}' is not a price; write USD per hour, such as 0.526, or an instance type, such as g4dn.xlarge"
    )]
    NotAPrice(String),
    /// Nobody has written down what it costs.
    #[error("'{text}' has no price here; write USD per hour, such as 0.526, or one of {known}")]
    NotAType {
        /// As it was written.
        text: String,
        /// The types that have one.
        known: String,
    },
    /// It is no number of USD, or none that a limit can be.
    #[error("'{0}' is not a sum of money; write USD above zero, such as 5 or 2.50")]
    NotABudget(String),
    /// No group can have this name.
    #[error("'{0}' is no name of an Auto Scaling group; write its name, not its ARN")]
    NotAGroup(String),
    /// No lifecycle hook can have this name.
    #[error("'{0}' is no name of a lifecycle hook; write letters, digits and characters of - _ /")]
    NotAHook(String),
}

/// A duration: `10s`, `500ms`, `1h30m`, or a number of seconds, which may have a fraction.
///
/// # Errors
/// If it is none, or longer than 30 days.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let duration = if is_bare {
        let seconds = text.parse::<f64>().map_err(|_| ValueError::NotADuration(text.to_owned()))?;
        Duration::try_from_secs_f64(seconds).map_err(|_| ValueError::TooLong(text.to_owned()))?
    } else {
        humantime::parse_duration(text).map_err(|error| {
            let wrong = match matches!(error, humantime::DurationError::NumberOverflow) {
                true => ValueError::TooLong,
                false => ValueError::NotADuration,
            };
            wrong(text.to_owned())
        })?
    };
    if duration > DURATION_MAX { Err(ValueError::TooLong(text.to_owned())) } else { Ok(duration) }
}

/// A duration above zero: the pause of something that is done again and again.
///
/// # Errors
/// As [`duration`], and if it is zero.
pub fn interval(text: &str) -> Result<Duration, ValueError> {
    let duration = duration(text)?;
    if duration.is_zero() { Err(ValueError::NoTime(text.to_owned())) } else { Ok(duration) }
}

/// A value, or none for `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrOff<T>(pub Option<T>);

/// A duration, or `off`.
///
/// # Errors
/// As [`duration`].
pub fn duration_or_off(text: &str) -> Result<OrOff<Duration>, ValueError> {
    or_off(text, duration)
}

/// A duration above zero, or `off`.
///
/// # Errors
/// As [`interval`].
pub fn interval_or_off(text: &str) -> Result<OrOff<Duration>, ValueError> {
    or_off(text, interval)
}

fn or_off(
    text: &str,
    read: impl Fn(&str) -> Result<Duration, ValueError>,
) -> Result<OrOff<Duration>, ValueError> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(OrOff(None));
    }
    match read(text) {
        Ok(duration) => Ok(OrOff(Some(duration))),
        Err(ValueError::NotADuration(text)) => Err(ValueError::NotADurationOrOff(text)),
        Err(error) => Err(error),
    }
}

/// A size above zero, in bytes: `64MiB` (powers of 1024), `10MB` (powers of 1000), or a number of bytes.
///
/// # Errors
/// If it is none, zero, or more than this machine can address.
pub fn size(text: &str) -> Result<usize, ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: usize = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(ValueError::NotASize(text.to_owned())),
    };
    let size = number.parse().ok().and_then(|number: usize| number.checked_mul(unit));
    match size {
        Some(0) => Err(ValueError::NoRoom(text.to_owned())),
        Some(size) => Ok(size),
        None => Err(ValueError::NotASize(text.to_owned())),
    }
}

/// A count that may be zero.
///
/// # Errors
/// If it is no whole number, or more than a million.
pub fn count(text: &str) -> Result<u32, ValueError> {
    number(text, 0..=COUNT_MAX)
}

/// A count of at least one.
///
/// # Errors
/// As [`count`], and if it is zero.
pub fn count_above_zero(text: &str) -> Result<u32, ValueError> {
    number(text, 1..=COUNT_MAX)
}

/// The size of a head, in bytes: at least what HTTP parsers read at once.
///
/// # Errors
/// As [`size`], and if it is below 8 KiB.
pub fn head_size(text: &str) -> Result<usize, ValueError> {
    let size = size(text)?;
    if size < HEAD_BYTES_MIN { Err(ValueError::NoHead(text.to_owned())) } else { Ok(size) }
}

/// A count of at least one, or `off`.
///
/// # Errors
/// As [`count_above_zero`].
pub fn count_or_off(text: &str) -> Result<OrOff<u32>, ValueError> {
    if text.eq_ignore_ascii_case("off") {
        Ok(OrOff(None))
    } else {
        count_above_zero(text).map(Some).map(OrOff)
    }
}

/// A number of threads.
///
/// # Errors
/// If it is no whole number, zero, or more than any machine has use for.
pub fn threads(text: &str) -> Result<u32, ValueError> {
    number(text, 1..=THREADS_MAX)
}

/// Whether something is on: `true` or `false`; `1`, `yes`, `on` and their opposites, as variables often have them.
///
/// # Errors
/// If it is none of these.
pub fn switch(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(ValueError::NotASwitch(text.to_owned())),
    }
}

/// `on` or `off`, or what else a [`switch`] takes.
///
/// # Errors
/// If it is none of these.
pub fn on_off(text: &str) -> Result<bool, ValueError> {
    switch(text).map_err(|_| ValueError::NotOnOff(text.to_owned()))
}

/// A tag of all gauges, as `NAME:VALUE` (Datadog's documentation, "Define tags": it begins with a letter, and has up to
/// 200 characters). What has a meaning of its own in StatsD's lines cannot be sent.
///
/// # Errors
/// If it could not be sent, or its name is `pool`.
pub fn statsd_tag(text: &str) -> Result<StatsdTag, ValueError> {
    let wrong = || ValueError::NotATag(text.escape_debug().to_string());
    let has_meaning = |c: char| "|,#".contains(c) || c.is_whitespace() || c.is_control();
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let is_named = name.starts_with(|c: char| c.is_alphabetic());
    if !is_named || value.is_empty() || text.chars().count() > TAG_CHARS_MAX || text.contains(has_meaning) {
        return Err(wrong());
    }
    match name == POOL_TAG {
        true => Err(ValueError::TagOfOurs(text.to_owned())),
        false => Ok(StatsdTag { name: name.to_owned(), value: value.to_owned() }),
    }
}

/// What the names of metrics begin with.
///
/// # Errors
/// If it is empty, or holds a character that has a meaning of its own in StatsD's lines.
pub fn metrics_prefix(text: &str) -> Result<String, ValueError> {
    let has_meaning = |c: char| ":|@#".contains(c) || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(has_meaning) {
        Err(ValueError::NotAPrefix(text.escape_debug().to_string()))
    } else {
        Ok(text.to_owned())
    }
}

/// A CloudWatch namespace (Amazon CloudWatch API, PutMetricData).
///
/// # Errors
/// If CloudWatch does not accept it, or keeps it for AWS's own services.
pub fn cloudwatch_namespace(text: &str) -> Result<String, ValueError> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || ".-_/#: ".contains(c);
    let is_own = text.starts_with(':') || text.starts_with("AWS/");
    let is_valid =
        text.len() <= NAMESPACE_CHARS_MAX && !text.trim().is_empty() && !is_own && text.chars().all(is_known);
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err(ValueError::NotANamespace(text.escape_debug().to_string()))
    }
}

/// The name of an Auto Scaling group (EC2 Auto Scaling API, CreateAutoScalingGroup: 1 to 255 characters, without colons).
///
/// # Errors
/// If no group can have it.
pub fn asg_name(text: &str) -> Result<String, ValueError> {
    let is_valid = !text.trim().is_empty() && text.chars().count() <= 255;
    if is_valid && !text.contains(|c: char| c == ':' || c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(ValueError::NotAGroup(text.escape_debug().to_string()))
    }
}

/// The name of a lifecycle hook (EC2 Auto Scaling API, PutLifecycleHook: 1 to 255 of these characters).
///
/// # Errors
/// If no hook can have it.
pub fn hook_name(text: &str) -> Result<String, ValueError> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    if (1..=255).contains(&text.len()) && text.bytes().all(is_known) {
        Ok(text.to_owned())
    } else {
        Err(ValueError::NotAHook(text.escape_debug().to_string()))
    }
}

fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| ValueError::NotACount {
        text: text.to_owned(),
        min: *range.start(),
        max: *range.end(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_or_are_seconds() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("10", 10_000),
            ("0", 0),
            ("0.25", 250),
            ("1.5", 1500),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5x", "-1", "-1s", "x", "1.2.3", ".", "1e3", "inf", "NaN", "10 s x", "5s5", "ten"] {
            assert_eq!(duration(text), Err(ValueError::NotADuration(text.to_owned())), "{text}");
        }
        for text in ["31d", "2592001", "5M", "99999999999999999999999", "99999999999999999999s"] {
            assert_eq!(duration(text), Err(ValueError::TooLong(text.to_owned())), "{text}");
        }
        assert_eq!(interval("0s"), Err(ValueError::NoTime("0s".to_owned())));
        assert_eq!(interval("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn what_can_be_off_is_a_duration_otherwise() {
        assert_eq!(duration_or_off("off"), Ok(OrOff(None)));
        assert_eq!(duration_or_off("OFF"), Ok(OrOff(None)));
        assert_eq!(duration_or_off("0"), Ok(OrOff(Some(Duration::ZERO))));
        assert_eq!(duration_or_off("1.5"), Ok(OrOff(Some(Duration::from_millis(1500)))));
        assert_eq!(duration_or_off("no"), Err(ValueError::NotADurationOrOff("no".to_owned())));
        assert_eq!(duration_or_off("31d"), Err(ValueError::TooLong("31d".to_owned())));
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("512KiB", 512 << 10),
            ("1GiB", 1 << 30),
            ("2gb", 2_000_000_000),
            ("3 kB", 3000),
            ("7B", 7),
            ("1", 1),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "1.5MiB",
            "-1",
            "64M",
            "1TiB",
            "1MiBx",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(size(text), Err(ValueError::NotASize(text.to_owned())), "{text}");
        }
        assert_eq!(size("0MiB"), Err(ValueError::NoRoom("0MiB".to_owned())));
    }

    #[test]
    fn counts_are_whole_and_within_their_range() {
        assert_eq!((count("0"), count_above_zero("1"), threads("1024")), (Ok(0), Ok(1), Ok(1024)));
        for text in ["", "-1", "1.5", "x", "1000001", "99999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
        let error = count_above_zero("0").unwrap_err().to_string();
        assert_eq!(error, "'0' is not a whole number from 1 to 1000000; write one, such as 1");
        assert!(threads("1025").is_err());
    }

    #[test]
    fn switches_are_on_or_off() {
        assert_eq!(["true", "1", "Yes", "ON"].map(switch), [const { Ok(true) }; 4]);
        assert_eq!(["false", "0", "no", "off"].map(switch), [const { Ok(false) }; 4]);
        for text in ["", "perhaps", "2", "y"] {
            assert_eq!(switch(text), Err(ValueError::NotASwitch(text.to_owned())));
        }
    }

    #[test]
    fn groups_have_names_and_no_arns() {
        assert_eq!(asg_name("llama spot/1").as_deref(), Ok("llama spot/1"));
        let too_long = "x".repeat(256);
        let arn = "arn:aws:autoscaling:eu-central-1:1:autoScalingGroup:x:autoScalingGroupName/llama";
        for text in ["", " ", "a\nb", arn, &too_long] {
            assert_eq!(asg_name(text), Err(ValueError::NotAGroup(text.escape_debug().to_string())));
        }
    }

    #[test]
    fn hooks_have_the_names_that_auto_scaling_takes() {
        let longest = "x".repeat(255);
        for text in ["launch", "a-B_9/x", &longest] {
            assert_eq!(hook_name(text).as_deref(), Ok(text));
        }
        for text in ["", " ", "a b", "a:b", "a.b", "é", &"x".repeat(256)] {
            assert_eq!(hook_name(text), Err(ValueError::NotAHook(text.to_owned())));
        }
    }

    #[test]
    fn prefixes_are_plain() {
        assert_eq!(metrics_prefix("my.paddock-1").as_deref(), Ok("my.paddock-1"));
        for text in ["", "a b", "a:b", "a|b", "a\nb"] {
            assert!(metrics_prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tags_can_be_sent() {
        let longest = format!("a:{}", "x".repeat(198));
        for (text, name, value) in [
            ("env:prod", "env", "prod"),
            ("url:http://host:80/x@y", "url", "http://host:80/x@y"),
            ("é_1.2-3/4:ü", "é_1.2-3/4", "ü"),
            (&longest, "a", &longest[2..]),
        ] {
            assert_eq!(statsd_tag(text), Ok(StatsdTag { name: name.to_owned(), value: value.to_owned() }));
        }
        let too_long = longest.clone() + "x";
        for text in [
            "",
            "env",
            "env:",
            ":prod",
            "1a:b",
            "_a:b",
            "a:b|c",
            "a:b,c:d",
            "a:#b",
            "a:b c",
            "a:b\nc",
            "a\u{7f}:b",
            &too_long,
        ] {
            assert_eq!(statsd_tag(text), Err(ValueError::NotATag(text.escape_debug().to_string())));
        }
        assert_eq!(statsd_tag("pool:x"), Err(ValueError::TagOfOurs("pool:x".to_owned())));
        assert_eq!(on_off("perhaps"), Err(ValueError::NotOnOff("perhaps".to_owned())));
    }

    #[test]
    fn namespaces_are_those_that_cloudwatch_takes() {
        let longest = "x".repeat(255);
        for text in ["Paddock", "My Team/llama.cpp_1-a#b:c", "aws/x", &longest] {
            assert_eq!(cloudwatch_namespace(text).as_deref(), Ok(text));
        }
        let too_long = "x".repeat(256);
        for text in ["", " ", ":x", "AWS/EC2", "AWS/", "a\nb", "a,b", "é", &too_long] {
            assert!(cloudwatch_namespace(text).is_err(), "{text}");
        }
    }
}
