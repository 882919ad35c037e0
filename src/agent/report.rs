//! Probes one server for ever, and publishes what it finds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::llamacpp::{Probe, Server};
use crate::clock::Clock;
use crate::core::Mono;
use crate::protocol::{Phase, StatusUpdate};

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
    /// What the fleet calls the machine or process.
    pub instance_id: Option<String>,
}

/// What a probe found, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The report, but for the age of its sample.
    pub status: StatusUpdate,
    /// When the probe began: the counts are at most this old.
    pub sampled: Mono,
}

impl Observation {
    /// The report as it is to be sent now.
    #[must_use]
    pub fn to_status(&self, now: Mono) -> StatusUpdate {
        let age = now.since(self.sampled).as_millis();
        StatusUpdate { sample_age_ms: Some(u64::try_from(age).unwrap_or(u64::MAX)), ..self.status.clone() }
    }
}

/// The least pause after an answer of a busy server. llama.cpp looks for a client that left only when nothing was
/// delivered to anybody for a second, an answer to `/slots` included (measured): with this pause between two of them, a
/// look comes at most two seconds after the leaving. Asked every second, an abandoned answer may run to its end.
const BUSY_PAUSE_MIN: Duration = Duration::from_secs(2);

/// Probes the server until cancelled. Publishes each change at once, and the same again at each interval.
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
    let mut reporter = Reporter::new(config, interval);
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
            if let Some(observation) = reporter.observe(probe, began) {
                latest.send_replace(Some(Arc::new(observation)));
            }
            tokio::time::sleep(pause).await;
        }
    };
    let _: Option<()> = cancel.run_until_cancelled(probing).await;
}

/// Decides what is worth a report, and writes it.
struct Reporter {
    config: WatchConfig,
    interval: Duration,
    boot_nonce: String,
    sequence: u64,
    last: Option<(Probe, Mono)>,
}

impl Reporter {
    fn new(config: WatchConfig, interval: Duration) -> Self {
        let boot_nonce = format!("{:016x}", fastrand::u64(..));
        Self { config, interval, boot_nonce, sequence: 0, last: None }
    }

    /// A report, if the probe says something new or the last report is an interval old.
    fn observe(&mut self, probe: Probe, sampled: Mono) -> Option<Observation> {
        if let Some((last, at)) = &self.last
            && *last == probe
            && sampled.since(*at) < self.interval
        {
            return None;
        }
        self.sequence += 1;
        let status = self.status(&probe);
        self.last = Some((probe, sampled));
        Some(Observation { status, sampled })
    }

    fn status(&self, probe: &Probe) -> StatusUpdate {
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
            instance_id: self.config.instance_id.clone(),
            phase: Some(probe.phase),
            availability_zone: None,
            group: None,
            drain_reason: None,
            drain_left_ms: None,
            boot: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::sync::watch::{Receiver, channel};
    use tokio::time::timeout;

    use super::*;
    use crate::protocol::SlotStatus;

    fn config(server: &str, interval: Duration) -> WatchConfig {
        WatchConfig {
            server: server.to_owned(),
            external: "10.0.0.7:9931".to_owned(),
            api_key: None,
            interval,
            name: Some("left".to_owned()),
            instance_id: Some("i-1".to_owned()),
        }
    }

    fn probe(busy: bool) -> Probe {
        Probe {
            phase: Phase::Ready,
            slots: vec![
                SlotStatus { id: 0, is_processing: busy },
                SlotStatus { id: 1, is_processing: false },
            ],
            is_authorized: Some(true),
            is_slots_endpoint_enabled: Some(true),
            error: None,
        }
    }

    fn at(milliseconds: u64) -> Mono {
        Mono(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_change_is_reported_at_once_and_the_same_at_each_interval() {
        let interval = Duration::from_secs(1);
        let mut reporter = Reporter::new(config("a:1", interval), interval);
        let first = reporter.observe(probe(false), at(0)).unwrap();
        assert_eq!(reporter.observe(probe(false), at(999)), None);
        let changed = reporter.observe(probe(true), at(999)).unwrap();
        assert_eq!(reporter.observe(probe(true), at(1998)), None);
        let again = reporter.observe(probe(true), at(1999)).unwrap();

        let sequences = [&first, &changed, &again].map(|observation| observation.status.sequence);
        assert_eq!(sequences, [Some(1), Some(2), Some(3)]);
        let counts = (changed.status.idle_slots_count, changed.status.processing_slots_count);
        assert_eq!(counts, (1, 1));
        assert_eq!(first.status.boot_nonce, again.status.boot_nonce);
        let other = Reporter::new(config("a:1", interval), interval);
        assert_ne!(first.status.boot_nonce, Some(other.boot_nonce));
    }

    #[test]
    fn a_report_says_who_sends_it_and_how_old_its_sample_is() {
        let interval = Duration::from_secs(1);
        let observation =
            Reporter::new(config("a:1", interval), interval).observe(probe(true), at(500)).unwrap();
        let status = observation.to_status(at(620));
        assert_eq!(status.sample_age_ms, Some(120));
        assert_eq!(status.heartbeat_ms, Some(2000));
        assert_eq!(status.external_llamacpp_addr, "10.0.0.7:9931");
        assert_eq!(status.agent_name.as_deref(), Some("left"));
        assert_eq!(status.instance_id.as_deref(), Some("i-1"));
        assert_eq!(status.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(StatusUpdate { sample_age_ms: None, ..status }, observation.status);
    }

    async fn seen(observations: &mut Receiver<Option<Arc<Observation>>>, phase: Phase) -> Arc<Observation> {
        let matching = observations
            .wait_for(|latest| latest.as_ref().is_some_and(|latest| latest.status.phase == Some(phase)));
        timeout(Duration::from_secs(20), matching).await.unwrap().unwrap().clone().unwrap()
    }

    /// The interval is an hour here: only the quick pace of a start can see these changes.
    #[tokio::test]
    async fn a_start_is_followed_to_the_first_good_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (latest, mut observations) = channel(None);
        let cancel = CancellationToken::new();
        let config = config(&address.to_string(), Duration::from_secs(3600));
        let watching = tokio::spawn(watch(config, Clock::start(), latest, cancel.clone()));
        assert!(seen(&mut observations, Phase::Starting).await.status.error.is_some());

        let health = Arc::new(AtomicU16::new(503));
        let answered = health.clone();
        let router = Router::new()
            .route(
                "/health",
                get(async move || StatusCode::from_u16(answered.load(Ordering::SeqCst)).unwrap()),
            )
            .route("/slots", get(async || r#"[{"id":0,"is_processing":false}]"#));
        let listener = TcpListener::bind(address).await.unwrap();
        let serving = tokio::spawn(async { axum::serve(listener, router).await });
        seen(&mut observations, Phase::Loading).await;
        health.store(200, Ordering::SeqCst);
        assert_eq!(seen(&mut observations, Phase::Ready).await.status.idle_slots_count, 1);

        cancel.cancel();
        timeout(Duration::from_secs(20), watching).await.unwrap().unwrap();
        serving.abort();
    }
}
