//! Every instrument, with its name, unit and help.
//!
//! Counters and histograms are counted where the events happen, in atomics. Gauges are what the state was when they were
//! last asked for.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::aws_calls::AwsCalls;
use super::each::Each;
use super::histogram::Histogram;
use super::label::{BootPart, Outcome, State, UpstreamError, WakeResult};
use super::{BootPhases, Gauges};
use crate::config::POOL_NAME;
use crate::core::snapshot::Snapshot;

/// Of requests, in seconds: from a slot that was free to `--buffered-request-timeout`.
const REQUEST_BOUNDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];

/// Of boots, in seconds: from a process with a small model to a machine with a large one.
const BOOT_BOUNDS: [f64; 16] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0];

/// What is measured.
#[derive(Debug)]
#[allow(missing_docs, reason = "each has its help in `registry`")]
pub struct Instruments {
    pub requests_buffered: Gauge,
    pub buffered_bytes: Gauge,
    pub slots: Gauge,
    pub slots_idle: Gauge,
    pub slots_processing: Gauge,
    pub agents: Gauge,
    pub instances: Each<State, Gauge>,
    pub wake_wanted: Gauge,
    pub requests: Each<Outcome, Counter>,
    pub upstream_errors: Each<UpstreamError, Counter>,
    pub wakes: Each<WakeResult, Counter>,
    pub aws_calls: AwsCalls,
    pub queue_wait: Histogram,
    pub time_to_first_byte: Histogram,
    pub request_duration: Histogram,
    pub boot: Each<BootPart, Histogram>,
    pub instance_seconds: Gauge<f64, AtomicU64>,
    pub cost_usd: Gauge<f64, AtomicU64>,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            requests_buffered: Gauge::default(),
            buffered_bytes: Gauge::default(),
            slots: Gauge::default(),
            slots_idle: Gauge::default(),
            slots_processing: Gauge::default(),
            agents: Gauge::default(),
            instances: Each::default(),
            wake_wanted: Gauge::default(),
            requests: Each::default(),
            upstream_errors: Each::default(),
            wakes: Each::default(),
            aws_calls: AwsCalls::default(),
            queue_wait: Histogram::new(&REQUEST_BOUNDS),
            time_to_first_byte: Histogram::new(&REQUEST_BOUNDS),
            request_duration: Histogram::new(&REQUEST_BOUNDS),
            boot: Each::new(|| Histogram::new(&BOOT_BOUNDS)),
            instance_seconds: Gauge::default(),
            cost_usd: Gauge::default(),
        }
    }
}

impl Instruments {
    /// All of them under their names. The registry shares what they count.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("paddock");
        all.register("build", "What runs; always 1", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let pool = all.sub_registry_with_label(("pool".into(), POOL_NAME.into()));
        pool.register("requests_buffered", "Requests that wait", self.requests_buffered.clone());
        pool.register_with_unit(
            "buffered",
            "Bodies of requests that are kept until their answer begins",
            Unit::Bytes,
            self.buffered_bytes.clone(),
        );
        pool.register("slots", "Slots of servers that are up", self.slots.clone());
        pool.register("slots_idle", "Slots that may be given to the next request", self.slots_idle.clone());
        pool.register("slots_processing", "Slots in use", self.slots_processing.clone());
        pool.register("agents", "Agents that are heard", self.agents.clone());
        pool.register("instances", "Instances, by what they are good for", self.instances.clone());
        pool.register(
            "wake_wanted",
            "Whether requests wait, no instance is there or asked for, and somebody else should start one",
            self.wake_wanted.clone(),
        );
        pool.register("requests", "Requests of clients, by how they ended", self.requests.clone());
        pool.register("upstream_errors", "Failures of servers, by kind", self.upstream_errors.clone());
        pool.register("wakes", "Calls for an instance, by what came of them", self.wakes.clone());
        pool.register("aws_calls", "Calls to AWS, each attempt, by their end", self.aws_calls.clone());
        pool.register_with_unit(
            "queue_wait",
            "From a request's last byte to its slot, of requests that got one",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
        pool.register_with_unit(
            "time_to_first_byte",
            "From a request's head to the first byte of its answer's body, of requests that got a slot",
            Unit::Seconds,
            self.time_to_first_byte.clone(),
        );
        pool.register_with_unit(
            "request_duration",
            "From a request's head to the last byte of its answer, of requests that got a slot and were served",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        pool.register_with_unit(
            "boot",
            "Boots that this balancer asked for, by phase",
            Unit::Seconds,
            self.boot.clone(),
        );
        // The core counts them. They only rise, and are as they were last asked for.
        pool.register_with_unit(
            "instance",
            "Time of instances, of all together, from launch to end",
            Unit::Seconds,
            ConstCounter::new(self.instance_seconds.get()),
        );
        pool.register_with_unit(
            "cost",
            "An estimate of what instances cost, by --price-per-hour; 0 without a price",
            Unit::Other("usd".to_owned()),
            ConstCounter::new(self.cost_usd.get()),
        );
        all
    }

    /// Brings the gauges up to date.
    pub(super) fn set(&self, gauges: &Gauges) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.requests_buffered, gauges.requests_buffered);
        set(&self.slots, gauges.slots_total);
        set(&self.slots_idle, gauges.slots_idle);
        set(&self.slots_processing, gauges.slots_processing);
        set(&self.agents, gauges.agents);
        set(&self.wake_wanted, u64::from(gauges.wake_wanted));
        for (&state, &count) in State::ALL.iter().zip(&gauges.instances) {
            set(self.instances.of(state), count);
        }
    }

    /// Brings what the core counts up to date.
    pub(super) fn set_ledger(&self, snapshot: &Snapshot) {
        let used = || snapshot.pools.iter().map(|pool| &pool.ledger.since_start);
        self.instance_seconds.set(used().map(|used| used.instance_seconds).sum());
        self.cost_usd.set(used().filter_map(|used| used.cost_usd).sum());
    }

    /// A boot came to its end.
    pub fn booted(&self, phases: &BootPhases) {
        for (&part, took) in BootPart::ALL.iter().zip(phases) {
            if let Some(took) = took {
                self.boot.of(part).observe(*took);
            }
        }
        let total: Duration = phases.iter().flatten().sum();
        self.boot.of(BootPart::Total).observe(total);
    }
}
