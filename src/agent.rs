//! The agent: watches one llama.cpp server and tells balancers how it is.
//!
//! [`watch`] probes and publishes; [`run`] adds one registration for each balancer. The process fleet uses [`watch`]
//! alone, inside the gateway.

use std::error::Error;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Response;
use tokio::sync::watch::channel;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

mod imds;
mod llamacpp;
mod register;
mod report;

pub use imds::{Imds, ImdsError, LocateError, Presence};
pub use llamacpp::{Probe, Server};
pub use report::{Observation, WatchConfig, watch};

/// What `paddock agent` runs on.
#[derive(Clone)]
pub struct AgentConfig {
    /// Which server is watched, and what is said about it.
    pub watch: WatchConfig,
    /// The management address of each balancer, as `host:port`.
    pub management: Vec<String>,
    /// What the balancers ask for as Bearer token.
    pub management_token: Option<String>,
}

/// Watches the server and keeps every balancer informed, until cancelled.
pub async fn run(config: AgentConfig, clock: Clock, cancel: CancellationToken) {
    let agent = random_uuid();
    let (latest, observations) = channel(None);
    let probing = watch(config.watch, clock, latest, cancel.clone());
    let registering = join_all(config.management.into_iter().map(|management| {
        let balancer = register::Balancer { management, token: config.management_token.clone() };
        register::register(balancer, agent.clone(), observations.clone(), clock, cancel.clone())
    }));
    tokio::join!(probing, registering);
}

/// A random UUID: version 4, variant 1 (RFC 9562 section 5.4).
fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Why an answer could not be read.
enum ReadError {
    TooLong,
    Broken(reqwest::Error),
}

/// The body of an answer, if it is no longer than `bytes_max`.
async fn read_body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Broken)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(ReadError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What lies at the bottom of an HTTP client's error: "connection refused" rather than "error sending request".
fn cause(error: &reqwest::Error) -> String {
    let mut bottom: &dyn Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

/// For messages: `3s`, `500ms`.
fn words(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(span)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn uuids_have_the_form_of_version_4_and_differ() {
        let uuids: BTreeSet<_> = (0..100).map(|_| random_uuid()).collect();
        assert_eq!(uuids.len(), 100);
        for uuid in uuids {
            let lengths: Vec<_> = uuid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{uuid}");
            assert!(uuid.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{uuid}");
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }
}
