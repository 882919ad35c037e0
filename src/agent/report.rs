//! Probes one server for ever, and publishes what it finds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::llamacpp::{Probe, Server};
use super::machine::Machine;
use crate::clock::Clock;
use crate::core::{Mono, Now};
use crate::protocol::{BootAges, Phase, StatusUpdate};

/// Between two probes of a server that is not ready yet: the first good answer is worth a waiting request's time,
/// and `/health` costs next to nothing.
const START_INTERVAL: Duration = Duration::from_millis(100);

/// The longest time between two probes of a failing server: somebody may be mending it.
const FAILING_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Which server is watched, and what is said about it.
#[derive(Clone)]
pub struct WatchConfig {
    /// Where this agent reaches llama.cpp, as `host:port`.
    pub server: String,
    /// Where the balancer reaches it, as `host:port`.
    pub external: String,
    /// The key that llama-server was started with.
    pub api_key: Option<String>,
    /// Between two probes of a ready server.
    pub interval: Duration,
    /// What people call the agent.
    pub name: Option<String>,
    /// What the fleet calls the machine or process; none to take what the machine says.
    pub instance_id: Option<String>,
    /// The machine that is spoken for; none for a process of the fleet, which shares its machine with others.
    pub host: Option<Host>,
}

/// The machine that an agent speaks for.
#[derive(Clone)]
pub struct Host {
    /// When the agent started.
    pub started: Mono,
    /// How old its kernel was when the agent's clock began.
    pub kernel: Option<Duration>,
    /// What it says about itself.
    pub machine: Receiver<Machine>,
}

/// What a probe found, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The report, but for what depends on the moment at which it is sent.
    pub status: StatusUpdate,
    /// When the probe began: the counts are at most this old.
    pub sampled: Mono,
    /// What else is told as a span.
    pub times: Times,
}

/// Moments that a report tells as spans, because the clocks of two machines may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The machine was launched, since the Unix epoch: AWS's clock told it.
    pub launched: Option<Duration>,
    /// How old the kernel was when the clock began.
    pub kernel: Option<Duration>,
    /// The agent started.
    pub agent: Option<Mono>,
    /// llama.cpp answered for the first time.
    pub answered: Option<Mono>,
    /// llama.cpp was healthy for the first time.
    pub loaded: Option<Mono>,
    /// The machine ends, since the Unix epoch: AWS's clock told it.
    pub end: Option<Duration>,
}

impl Observation {
    /// The report as it is to be sent now.
    #[must_use]
    pub fn to_status(&self, now: Now) -> StatusUpdate {
        let times = &self.times;
        let age = |then: Mono| milliseconds(now.mono.since(then));
        StatusUpdate {
            sample_age_ms: Some(age(self.sampled)),
            drain_left_ms: times.end.map(|end| milliseconds(end.saturating_sub(now.wall))),
            boot: Some(BootAges {
                launched_ms: times.launched.map(|launched| milliseconds(now.wall.saturating_sub(launched))),
                kernel_ms: times.kernel.map(|kernel| milliseconds(kernel + now.mono.0)),
                agent_ms: times.agent.map(age),
                answered_ms: times.answered.map(age),
                loaded_ms: times.loaded.map(age),
            }),
            ..self.status.clone()
        }
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The least pause after an answer of a busy server. llama.cpp looks for a client that left only when nothing was
/// delivered to anybody for a second, an answer to `/slots` included (measured): with this pause between two of them, a
/// look comes at most two seconds after the leaving. Asked every second, an abandoned answer may run to its end.
const BUSY_PAUSE_MIN: Duration = Duration::from_secs(2);

/// Probes the server until cancelled. Publishes each change at once, the machine's too, and the same again at each
/// interval.
///
/// A server that starts is asked every 100 ms, an idle one at each interval, a busy one every two seconds at most.
pub async fn watch(
    config: WatchConfig,
    clock: Clock,
    latest: Sender<Option<Arc<Observation>>>,
    cancel: CancellationToken,
) {
    let mut server = match Server::new(config.server.clone(), config.api_key.clone()) {
        Ok(server) => server,
        Err(error) => {
            error!(server = config.server, %error, "cannot watch llama.cpp: no HTTP client");
            return;
        }
    };
    let interval = config.interval.max(START_INTERVAL);
    let mut host = config.host.clone();
    let mut reporter = Reporter::new(config, interval, clock.mono());
    let (probed, mut samples) = watch::channel(None);
    let probing = async {
        loop {
            let began = clock.mono();
            let probe = server.probe().await;
            let is_busy = probe.slots.iter().any(|slot| slot.is_processing);
            let pause = match probe.phase {
                Phase::Ready if is_busy => interval.max(BUSY_PAUSE_MIN),
                Phase::Ready => interval,
                Phase::Failing => interval.min(FAILING_INTERVAL_MAX),
                Phase::Starting | Phase::Loading => START_INTERVAL,
            };
            probed.send_replace(Some(Sample { probe, began, ended: clock.mono() }));
            tokio::time::sleep(pause).await;
        }
    };
    // Beside the probes: one that hangs must not hold up the news that the machine is about to end.
    let reporting = async {
        loop {
            tokio::select! {
                _ = samples.changed() => {}
                () = changed(&mut host) => {}
            }
            let Some(sample) = samples.borrow_and_update().clone() else { continue };
            let machine = host.as_mut().map(|host| host.machine.borrow_and_update().clone());
            if let Some(observation) = reporter.observe(sample, machine.unwrap_or_default()) {
                latest.send_replace(Some(Arc::new(observation)));
            }
        }
    };
    let both = async { tokio::join!(probing, reporting) };
    let _: Option<((), ())> = cancel.run_until_cancelled(both).await;
}

/// Waits for news of the machine; for ever where nobody tells any.
async fn changed(host: &mut Option<Host>) {
    if let Some(host) = host
        && host.machine.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A look at the server.
#[derive(Clone)]
struct Sample {
    probe: Probe,
    began: Mono,
    ended: Mono,
}

/// Decides what is worth a report, and writes it.
struct Reporter {
    config: WatchConfig,
    interval: Duration,
    boot_nonce: String,
    sequence: u64,
    times: Times,
    last: Option<(Probe, Machine, Mono)>,
}

impl Reporter {
    fn new(config: WatchConfig, interval: Duration, now: Mono) -> Self {
        let boot_nonce = format!("{:016x}", fastrand::u64(..));
        let host = config.host.as_ref();
        let times = Times {
            kernel: host.and_then(|host| host.kernel),
            agent: Some(host.map_or(now, |host| host.started)),
            ..Times::default()
        };
        Self { config, interval, boot_nonce, sequence: 0, times, last: None }
    }

    /// A report, if anything is new or the last report is an interval old.
    fn observe(&mut self, sample: Sample, machine: Machine) -> Option<Observation> {
        let Sample { probe, began, ended } = sample;
        if let Some((last_probe, last_machine, at)) = &self.last
            && (last_probe, last_machine) == (&probe, &machine)
            && began.since(*at) < self.interval
        {
            return None;
        }
        self.sequence += 1;
        if probe.has_answered {
            self.times.answered.get_or_insert(ended);
        }
        if probe.phase == Phase::Ready {
            self.times.loaded.get_or_insert(ended);
        }
        self.times.launched = machine.facts.launched;
        self.times.end = machine.drain().and_then(|ending| ending.at);
        let status = self.status(&probe, &machine);
        self.last = Some((probe, machine, began));
        Some(Observation { status, sampled: began, times: self.times })
    }

    fn status(&self, probe: &Probe, machine: &Machine) -> StatusUpdate {
        let busy = probe.slots.iter().filter(|slot| slot.is_processing).count();
        StatusUpdate {
            agent_name: self.config.name.clone(),
            error: probe.error.clone(),
            external_llamacpp_addr: self.config.external.clone(),
            idle_slots_count: (probe.slots.len() - busy) as u32,
            is_authorized: probe.is_authorized,
            is_slots_endpoint_enabled: probe.is_slots_endpoint_enabled,
            processing_slots_count: busy as u32,
            slots: probe.slots.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            boot_nonce: Some(self.boot_nonce.clone()),
            sequence: Some(self.sequence),
            sample_age_ms: None,
            heartbeat_ms: u64::try_from(self.interval.max(BUSY_PAUSE_MIN).as_millis()).ok(),
            instance_id: self.config.instance_id.clone().or_else(|| machine.facts.instance_id.clone()),
            phase: Some(probe.phase),
            availability_zone: machine.facts.zone.clone(),
            group: machine.facts.group.clone(),
            drain_reason: machine.drain().map(|ending| ending.reason),
            drain_left_ms: None,
            boot: None,
        }
    }
}

#[cfg(test)]
mod tests;
