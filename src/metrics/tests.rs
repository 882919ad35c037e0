use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::aws_calls::AwsCall;
use super::prometheus::scrape;
use super::*;
use crate::clock::Clock;
use crate::core::snapshot::{Drain, Snapshot};
use crate::core::{GroupId, Phase, TenantId};
use crate::gate::Ask;
use crate::management::fixture::{POOL, gate, report};

/// What is scraped from a gateway that has called AWS once.
fn scraped(gate: &Gate) -> String {
    let call = AwsCall { action: "SetDesiredCapacity".to_owned(), result: CallResult::Ok };
    gate.instruments().aws_calls.get_or_create(&call).inc();
    scrape(gate)
}

/// Name, type and labels of each instrument, as people query them; the labels that all have left out.
fn instruments(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let end = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['_', '{']));
        let labels = text.lines().filter(is_of).filter_map(|line| line.split_once('{'));
        let labels =
            labels.flat_map(|(_, labels)| labels.split(',')).filter_map(|label| label.split_once('='));
        let labels =
            labels.map(|(label, _)| label.to_owned()).filter(|label| label != "pool" && label != "le");
        found.insert(format!("{name}{end}"), (kind.to_owned(), labels.collect()));
    }
    found
}

fn observe() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observe.md")).unwrap()
}

#[tokio::test]
async fn the_table_of_the_docs_is_what_is_scraped() {
    let mut documented = BTreeMap::new();
    for row in observe().lines().filter(|line| line.starts_with("| `paddock_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { panic!("{row}") };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        documented.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
    }
    assert_eq!(documented, instruments(&scraped(&gate(Clock::start()))));
}

#[test]
fn every_value_of_a_label_is_in_the_docs() {
    fn look<L: Label>(docs: &str) {
        let rows: Vec<&str> =
            docs.lines().filter(|line| line.starts_with(&format!("| `{}`", L::NAME))).collect();
        assert!(!rows.is_empty(), "{}", L::NAME);
        for label in L::ALL {
            let value = format!("`{}`", label.value());
            assert!(rows.iter().any(|row| row.contains(&value)), "{}: {value}", L::NAME);
        }
    }
    let docs = observe();
    look::<Outcome>(&docs);
    look::<UpstreamError>(&docs);
    look::<WakeResult>(&docs);
    look::<CallResult>(&docs);
    look::<State>(&docs);
    look::<BootPart>(&docs);
}

#[tokio::test]
async fn every_series_is_of_the_pool_and_has_its_help() {
    let text = scraped(&gate(Clock::start()));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("{pool=\"default\"") || line.starts_with("paddock_build_info{"), "{line}");
    }
    for name in instruments(&text).keys() {
        let name = name.trim_end_matches("_total").trim_end_matches("_info");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert!(text.contains("# UNIT paddock_queue_wait_seconds seconds\n"), "{text}");
    assert!(text.contains("# UNIT paddock_buffered_bytes bytes\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test(start_paused = true)]
async fn gauges_are_those_of_the_moment() {
    let gate = gate(Clock::start());
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let mut waiting = std::pin::pin!(gate.acquire(ask));
    let waits = async || tokio::time::timeout(Duration::from_millis(1), gate.acquire(ask)).await.is_err();
    assert!(waits().await);
    assert!(tokio::time::timeout(Duration::from_millis(1), waiting.as_mut()).await.is_err());
    let has = |line: &str| {
        let text = scrape(&gate);
        assert!(text.contains(&format!("\npaddock_{line}\n")), "{line}: {text}");
    };
    has("requests_buffered{pool=\"default\"} 1");
    has("wake_wanted{pool=\"default\"} 1");
    let agent = gate.register("a", None);
    gate.report(agent, &"a".into(), report(1, 3));
    let _permit = waiting.await.unwrap();
    has("requests_buffered{pool=\"default\"} 0");
    has("wake_wanted{pool=\"default\"} 0");
    has("slots{pool=\"default\"} 3");
    has("slots_idle{pool=\"default\"} 2");
    has("slots_processing{pool=\"default\"} 1");
    has("agents{pool=\"default\"} 1");
}

#[test]
fn a_boot_is_counted_by_the_phases_that_are_known() {
    let instruments = Instruments::default();
    let seconds = |span: u64| Some(Duration::from_secs(span));
    instruments.booted(&[seconds(1), seconds(20), None, None, seconds(30), seconds(0)]);
    let counts: Vec<u64> = BootPart::ALL.iter().map(|&part| instruments.boot.of(part).count()).collect();
    assert_eq!(counts, [1, 1, 0, 0, 1, 1, 1]);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &instruments.registry()).unwrap();
    let total = "paddock_boot_seconds_sum{pool=\"default\",phase=\"total\"} 51.0\n";
    assert!(text.contains(total), "{text}");
    // The bucket of 45 s does not hold it, that of 60 s does.
    for (bound, count) in [("45.0", 0), ("60.0", 1), ("+Inf", 1)] {
        let bucket = format!("_bucket{{pool=\"default\",le=\"{bound}\",phase=\"total\"}} {count}\n");
        assert!(text.contains(&bucket), "{bucket}: {text}");
    }
}

#[test]
fn a_bound_belongs_to_its_bucket() {
    let instruments = Instruments::default();
    for milliseconds in [1, 2, 600_000, 600_001] {
        instruments.queue_wait.observe(Duration::from_millis(milliseconds));
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &instruments.registry()).unwrap();
    for (bound, count) in [("0.001", 1), ("0.0025", 2), ("300.0", 2), ("600.0", 3), ("+Inf", 4)] {
        let bucket =
            format!("paddock_queue_wait_seconds_bucket{{pool=\"default\",le=\"{bound}\"}} {count}\n");
        assert!(text.contains(&bucket), "{bucket}: {text}");
    }
}

#[test]
fn an_instance_is_what_it_is_good_for() {
    let of = |fleet: InstanceState, drain: Option<Drain>, registered: bool| {
        state(&InstanceSnapshot {
            id: "i".into(),
            group: GroupId(0),
            state: fleet,
            phase: Phase::Starting,
            address: None,
            age_seconds: 0.0,
            registered,
            drain,
            boot_phase: None,
            phase_seconds: BTreeMap::new(),
        })
    };
    for fleet in [InstanceState::Pending, InstanceState::Running] {
        assert_eq!(of(fleet.clone(), None, false), State::Booting);
        assert_eq!(of(fleet.clone(), None, true), State::Serving);
        assert_eq!(of(fleet.clone(), Some(Drain::Idle), true), State::Draining);
        assert_eq!(of(fleet, Some(Drain::Fault), false), State::Draining);
    }
    assert_eq!(of(InstanceState::TerminatingWait, Some(Drain::Notice), true), State::Ending);
    assert_eq!(of(InstanceState::Terminating, None, true), State::Ending);
    assert_eq!(of(InstanceState::Aside, None, true), State::Aside);
}

#[tokio::test]
async fn what_is_asked_for_and_not_shown_yet_is_launching() {
    let gate = gate(Clock::start());
    let mut snapshot: Snapshot = gate.snapshot().0;
    snapshot.pools[0].pending = 2;
    assert_eq!(Gauges::of(&snapshot).instances[State::Launching.place()], 2);
}
