//! From when until when a certificate is valid: the one thing that must be known of it and that rustls, which serves it,
//! does not tell.

use std::time::{Duration, UNIX_EPOCH};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which the first version leaves out.
const VERSION: u8 = 0xa0;

/// Both since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

impl Validity {
    /// Reads the beginning of a certificate (RFC 5280 section 4.1), up to its validity.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (whole, _) = element(certificate, SEQUENCE)?;
        let (signed, _) = element(whole, SEQUENCE)?;
        let after_version = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
        let (_serial, rest) = element(after_version, INTEGER)?;
        let (_algorithm, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, _) = element(rest, SEQUENCE)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }
}

/// The content of the first element, if it has this tag, and what comes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, short], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        // A certificate is no longer than four bytes can say.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short - 0x80))?;
            (bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ`, or with the whole year (RFC 5280 section 4.1.2.5).
fn time(der: &[u8]) -> Option<(Duration, &[u8])> {
    let (text, century, rest) = if let Some((text, rest)) = element(der, UTC_TIME) {
        // Two digits from 50 on are of the last century.
        (text, if text.first()? < &b'5' { "20" } else { "19" }, rest)
    } else {
        let (text, rest) = element(der, GENERALIZED_TIME)?;
        (text, "", rest)
    };
    let digits = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let [year, month, day, hour, minute, second, zone] =
        [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..digits.len()].map(|part| digits.get(part));
    let (year, month, day) = (year?, month?, day?);
    let written = format!("{year}-{month}-{day}T{}:{}:{}{}", hour?, minute?, second?, zone?);
    let time = humantime::parse_rfc3339(&written).ok()?;
    // What began before the epoch has begun.
    Some((time.duration_since(UNIX_EPOCH).unwrap_or_default(), rest))
}
