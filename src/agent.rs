//! The agent: watches one llama.cpp server and tells balancers how it is.
//!
//! [`watch`] probes and publishes; [`run`] adds one registration for each balancer, and what an EC2 instance says about
//! itself. The process fleet uses [`watch`] alone, inside the gateway.

use std::error::Error;
use std::time::Duration;

use futures_util::future::{OptionFuture, join_all};
use reqwest::Response;
use thiserror::Error;
use tokio::sync::watch::channel;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::HostPort;
use crate::notify;

mod group;
mod imds;
mod launch;
mod llamacpp;
mod machine;
mod orphan;
mod register;
mod report;
mod summary;

pub use imds::{Imds, ImdsError, LocateError, Presence};
pub use llamacpp::{Probe, Server};
pub(crate) use machine::GROUP_TAG;
pub use machine::{Ending, Facts, Machine, Target};
pub use report::{Host, Observation, Times, WatchConfig, watch};
pub use summary::summary;

/// The longest pause between two questions for an address, while the metadata does not answer.
const LOCATE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The first pause: the network of a fresh instance may be late by moments.
const LOCATE_PAUSE_MIN: Duration = Duration::from_millis(250);

/// Beyond `--monitoring-interval`, for a look at a server that hangs: each of its questions takes seconds.
const LOOK_AGE_MAX: Duration = Duration::from_secs(30);

/// What `paddock agent` runs on.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where this agent reaches llama.cpp.
    pub server: HostPort,
    /// Where the balancer reaches it.
    pub external: HostPort,
    /// The key that llama-server was started with.
    pub api_key: Option<String>,
    /// Between two probes of a ready server.
    pub interval: Duration,
    /// What people call the agent.
    pub name: Option<String>,
    /// What the fleet calls the machine; none to take what its metadata says.
    pub instance_id: Option<String>,
    /// The management address of each balancer.
    pub management: Vec<HostPort>,
    /// What the balancers ask for as Bearer token.
    pub management_token: Option<String>,
    /// Where this machine is asked about itself; none beyond EC2. Needed if an address says so.
    pub imds: Option<Imds>,
    /// The machine ends itself after so long without a balancer and without work; none to stay for ever.
    pub orphan_timeout: Option<Duration>,
    /// The lifecycle hook that holds the machine while its group launches it; none to leave hooks alone.
    pub launching_hook: Option<String>,
}

/// Why the agent cannot go on.
#[derive(Debug, Error)]
#[error("{flag}: {error}")]
pub struct AgentError {
    flag: &'static str,
    error: LocateError,
}

/// Watches the server and keeps every balancer informed, until cancelled.
///
/// Reports begin at once; what the metadata tells follows when it is known. Only if an address stands in the metadata is
/// it waited for.
///
/// # Errors
/// If the metadata knows no such address.
pub async fn run(config: AgentConfig, clock: Clock, cancel: CancellationToken) -> Result<(), AgentError> {
    let (machine, told) = channel(Machine::default());
    let started = clock.mono();
    let kernel = Clock::kernel_age().map(|age| age.saturating_sub(started.0));
    let host = Host { started, kernel, machine: told };
    let addresses = async {
        let imds = config.imds.as_ref();
        let server = located(imds, "--local-llamacpp-addr", &config.server).await?;
        let external = located(imds, "--external-llamacpp-addr", &config.external).await?;
        let mut management = Vec::new();
        for address in &config.management {
            management.push(located(imds, "--management-addr", address).await?);
        }
        Ok((server, external, management))
    };
    let Some(addresses) = cancel.run_until_cancelled(addresses).await else { return Ok(()) };
    let (server, external, management) = addresses?;

    let instance_id = config.instance_id;
    let watch_config = WatchConfig {
        server,
        external,
        api_key: config.api_key,
        interval: config.interval,
        name: config.name,
        instance_id: instance_id.clone(),
        host: Some(host),
    };
    let agent = random_uuid();
    let (latest, observations) = channel(None);
    let (counted, registered) = channel(0);
    let probing = watch(watch_config, clock, latest, cancel.clone());
    let registering = join_all(management.into_iter().map(|management| {
        let balancer = register::Balancer { management, token: config.management_token.clone() };
        let (observations, counted) = (observations.clone(), counted.clone());
        register::register(balancer, agent.clone(), observations, counted, clock, cancel.clone())
    }));
    let vigil = config.orphan_timeout.map(|timeout| {
        let (observations, machine) = (observations.clone(), machine.clone());
        let instance_id = instance_id.clone();
        orphan::keep(timeout, orphan::Watched { registered, observations, machine, instance_id }, clock)
    });
    let launching = config.launching_hook.map(|hook| {
        let (observations, machine) = (observations.clone(), machine.subscribe());
        launch::complete(hook, launch::Watched { observations, machine, instance_id })
    });
    let seen = observations.clone();
    let look_age_max = LOOK_AGE_MAX + config.interval;
    let signs = notify::keep(move || match seen.borrow().as_deref() {
        Some(latest) if clock.mono().since(latest.sampled) <= look_age_max => Ok(()),
        Some(_) | None => Err("llama.cpp was not looked at lately"),
    });
    let following = config.imds.map(|imds| machine::follow(imds, machine.clone()));
    let machine_side = async {
        let (vigil, launching) = (OptionFuture::from(vigil), OptionFuture::from(launching));
        tokio::join!(vigil, launching, OptionFuture::from(following), signs)
    };
    tokio::join!(probing, registering, cancel.run_until_cancelled(machine_side));
    Ok(())
}

/// The address as `host:port`. While the metadata that it stands in does not answer, it is asked again.
async fn located(imds: Option<&Imds>, flag: &'static str, address: &HostPort) -> Result<String, AgentError> {
    let (Some(imds), Some(_)) = (imds, address.entry()) else { return Ok(address.to_string()) };
    let mut imds = imds.clone();
    let mut pause = LOCATE_PAUSE_MIN;
    let mut is_waiting = false;
    loop {
        match imds.locate(address).await {
            Ok(located) => {
                info!("{flag}: {address} is {located}");
                return Ok(located.into_string());
            }
            Err(LocateError::Imds(error)) => {
                if !is_waiting {
                    warn!("{flag}: {address} is not known yet: {error}; asking on");
                    is_waiting = true;
                }
            }
            Err(error) => return Err(AgentError { flag, error }),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOCATE_PAUSE_MAX);
    }
}
/// A random UUID: version 4, variant 1 (RFC 9562 section 5.4).
fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Why an answer could not be read.
pub(crate) enum ReadError {
    /// It is longer than was asked for.
    TooLong,
    /// It did not come whole.
    Broken(reqwest::Error),
}

/// The body of an answer, if it is no longer than `bytes_max`.
pub(crate) async fn read_body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
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
pub(crate) fn cause(error: &reqwest::Error) -> String {
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
