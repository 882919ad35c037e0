//! From when until when a certificate is valid: the one thing that must be known of it and that rustls, which serves it,
//! does not tell.

use std::time::Duration;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// Both since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

impl Validity {
    /// None for what is no certificate (RFC 5280 section 4.1).
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        // What began before the epoch has begun.
        let since_epoch = |time: ASN1Time| Duration::from_secs(time.timestamp().try_into().unwrap_or(0));
        let validity = certificate.validity();
        Some(Self { from: since_epoch(validity.not_before), until: since_epoch(validity.not_after) })
    }
}
