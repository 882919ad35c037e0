use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch::channel;
use tokio::time::timeout;

use super::*;
use crate::agent::machine::{Ending, Facts};
use crate::protocol::{DrainReason, SlotStatus};

fn config(server: &str, interval: Duration) -> WatchConfig {
    WatchConfig {
        server: server.to_owned(),
        external: "10.0.0.7:9931".to_owned(),
        api_key: None,
        interval,
        name: Some("left".to_owned()),
        instance_id: Some("i-1".to_owned()),
        host: None,
    }
}

fn probe(busy: bool) -> Probe {
    Probe {
        phase: Phase::Ready,
        has_answered: true,
        slots: vec![SlotStatus { id: 0, is_processing: busy }, SlotStatus { id: 1, is_processing: false }],
        is_authorized: Some(true),
        is_slots_endpoint_enabled: Some(true),
        error: None,
    }
}

fn at(milliseconds: u64) -> Mono {
    Mono(Duration::from_millis(milliseconds))
}

fn sample(busy: bool, milliseconds: u64) -> Sample {
    Sample { probe: probe(busy), began: at(milliseconds), ended: at(milliseconds + 5) }
}

fn reporter(config: WatchConfig) -> Reporter {
    let interval = config.interval;
    Reporter::new(config, interval, at(0))
}

fn now(milliseconds: u64) -> Now {
    Now { mono: at(milliseconds), wall: Duration::from_secs(1000) }
}

#[test]
fn a_change_is_reported_at_once_and_the_same_at_each_interval() {
    let mut reporter = reporter(config("a:1", Duration::from_secs(1)));
    let machine = Machine::default;
    let first = reporter.observe(sample(false, 0), machine()).unwrap();
    assert_eq!(reporter.observe(sample(false, 999), machine()), None);
    let changed = reporter.observe(sample(true, 999), machine()).unwrap();
    assert_eq!(reporter.observe(sample(true, 1998), machine()), None);
    let again = reporter.observe(sample(true, 1999), machine()).unwrap();

    let sequences = [&first, &changed, &again].map(|observation| observation.status.sequence);
    assert_eq!(sequences, [Some(1), Some(2), Some(3)]);
    let counts = (changed.status.idle_slots_count, changed.status.processing_slots_count);
    assert_eq!(counts, (1, 1));
    assert_eq!(first.status.boot_nonce, again.status.boot_nonce);
    let other = self::reporter(config("a:1", Duration::from_secs(1)));
    assert_ne!(first.status.boot_nonce, Some(other.boot_nonce));
}

#[test]
fn a_report_says_who_sends_it_and_how_old_its_sample_is() {
    let mut reporter = reporter(config("a:1", Duration::from_secs(1)));
    let observation = reporter.observe(sample(true, 500), Machine::default()).unwrap();
    let status = observation.to_status(now(620));
    assert_eq!(status.sample_age_ms, Some(120));
    assert_eq!(status.heartbeat_ms, Some(2000));
    assert_eq!(status.external_llamacpp_addr, "10.0.0.7:9931");
    assert_eq!(status.agent_name.as_deref(), Some("left"));
    assert_eq!(status.instance_id.as_deref(), Some("i-1"));
    assert_eq!(status.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(StatusUpdate { sample_age_ms: None, boot: None, ..status }, observation.status);
}

#[test]
fn the_steps_of_a_start_are_told_as_ages() {
    let (_machine, machine) = channel(Machine::default());
    let host = Host { started: at(50), kernel: Some(Duration::from_secs(9)), machine };
    let config = WatchConfig { host: Some(host), ..config("a:1", Duration::from_secs(1)) };
    let mut reporter = reporter(config);
    let mut ages = |phase, has_answered, began| {
        let probe = Probe { phase, has_answered, ..probe(false) };
        let sample = Sample { probe, began: at(began), ended: at(began + 5) };
        let facts = Facts { launched: Some(Duration::from_secs(980)), ..Facts::default() };
        let machine = Machine { facts, ..Machine::default() };
        reporter.observe(sample, machine).unwrap().to_status(now(10_000)).boot.unwrap()
    };
    let started = BootAges {
        launched_ms: Some(20_000),
        kernel_ms: Some(19_000),
        agent_ms: Some(9950),
        ..BootAges::default()
    };
    assert_eq!(ages(Phase::Starting, false, 100), started);
    let answered = BootAges { answered_ms: Some(9795), ..started };
    assert_eq!(ages(Phase::Loading, true, 200), answered);
    let loaded = BootAges { loaded_ms: Some(9595), ..answered };
    assert_eq!(ages(Phase::Ready, true, 400), loaded);
    // A later start of the server is not the machine's.
    assert_eq!(ages(Phase::Starting, false, 3000), loaded);
    assert_eq!(ages(Phase::Ready, true, 5000), loaded);
}

#[test]
fn a_process_of_the_fleet_tells_its_own_steps_alone() {
    let config = config("a:1", Duration::from_secs(1));
    let mut reporter = Reporter::new(config, Duration::from_secs(1), at(100));
    let observation = reporter.observe(sample(false, 500), Machine::default()).unwrap();
    let ages = observation.to_status(now(1000)).boot.unwrap();
    let (agent_ms, answered_ms, loaded_ms) = (Some(900), Some(495), Some(495));
    assert_eq!(ages, BootAges { agent_ms, answered_ms, loaded_ms, ..BootAges::default() });
}

#[test]
fn what_the_machine_says_is_reported_at_once() {
    let config = config("a:1", Duration::from_secs(3600));
    let mut reporter = reporter(WatchConfig { instance_id: None, ..config });
    let unknown = reporter.observe(sample(false, 0), Machine::default()).unwrap();
    assert_eq!(unknown.status.instance_id, None);

    let facts = Facts {
        instance_id: Some("i-2".to_owned()),
        zone: Some("eu-central-1a".to_owned()),
        group: Some("gpus".to_owned()),
        launched: None,
    };
    let machine = Machine { facts, ..Machine::default() };
    let known = reporter.observe(sample(false, 0), machine.clone()).unwrap().to_status(now(700));
    assert_eq!(known.instance_id.as_deref(), Some("i-2"));
    assert_eq!(known.availability_zone.as_deref(), Some("eu-central-1a"));
    assert_eq!(known.group.as_deref(), Some("gpus"));
    assert_eq!((known.sequence, known.sample_age_ms, known.drain_reason), (Some(2), Some(700), None));
    assert_eq!(reporter.observe(sample(false, 0), machine.clone()), None);

    let end = Some(Duration::from_secs(1120));
    let spot = Ending { reason: DrainReason::SpotInterruption, at: end };
    let ending = Machine { ending: Some(spot), ..machine.clone() };
    let told = reporter.observe(sample(false, 0), ending).unwrap();
    let status = told.to_status(now(0));
    assert_eq!(status.drain_reason, Some(DrainReason::SpotInterruption));
    assert_eq!(status.drain_left_ms, Some(120_000));
    let late = Now { wall: Duration::from_secs(2000), ..now(0) };
    assert_eq!(told.to_status(late).drain_left_ms, Some(0));

    let lifecycle = Ending { reason: DrainReason::LifecycleTermination, at: None };
    let ending = Machine { ending: Some(lifecycle), ..machine.clone() };
    let status = reporter.observe(sample(false, 0), ending).unwrap().to_status(now(0));
    assert_eq!(status.drain_reason, Some(DrainReason::LifecycleTermination));
    assert_eq!(status.drain_left_ms, None);
    let status = reporter.observe(sample(false, 0), machine).unwrap().to_status(now(0));
    assert_eq!(status.drain_reason, None);
}

/// The listener takes the connection but nobody answers: the probe hangs for seconds.
#[tokio::test]
async fn a_probe_that_hangs_does_not_hold_up_a_notice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (machine, receiver) = channel(Machine::default());
    let host = Host { started: at(0), kernel: None, machine: receiver };
    let config = WatchConfig {
        host: Some(host),
        ..config(&listener.local_addr().unwrap().to_string(), Duration::from_secs(3600))
    };
    let (latest, mut observations) = channel(None);
    let cancel = CancellationToken::new();
    let watching = tokio::spawn(watch(config, Clock::start(), latest, cancel.clone()));
    let first = seen(&mut observations, Phase::Failing).await;
    // The next probe hangs as the first did.
    let (_first, _) = timeout(Duration::from_secs(20), listener.accept()).await.unwrap().unwrap();
    let (_second, _) = timeout(Duration::from_secs(20), listener.accept()).await.unwrap().unwrap();
    observations.mark_unchanged();
    machine.send_modify(|machine| {
        machine.ending = Some(Ending { reason: DrainReason::RebalanceRecommendation, at: None });
    });
    timeout(Duration::from_secs(20), observations.changed()).await.unwrap().unwrap();
    let latest = observations.borrow().clone().unwrap();
    assert_eq!(latest.status.drain_reason, Some(DrainReason::RebalanceRecommendation));
    assert_eq!(latest.sampled, first.sampled, "it waited for the next probe");
    cancel.cancel();
    timeout(Duration::from_secs(20), watching).await.unwrap().unwrap();
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
        .route("/health", get(async move || StatusCode::from_u16(answered.load(Ordering::SeqCst)).unwrap()))
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
