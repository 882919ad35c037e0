//! The gauges as CloudWatch metrics.
//!
//! When they are put (Amazon CloudWatch User Guide, "High-resolution metrics": alarms look every 10 s at most):
//!
//! 1. At once when a request begins to wait and the last put said that none does, and when a wake begins to be wanted and
//!    the last put said that none is; a put under way that says so gives way.
//! 2. 10 s after a put that said that requests wait. So a wait that ends is followed by a zero, and a queue that comes and
//!    goes costs no more calls than one that stays.
//! 3. 60 s after any other, so that whoever watches sees that the gateway lives.
//!
//! `requests_buffered` and `wake_wanted` are maxima since the last put that worked: a burst whose put failed is told by the
//! next one.
//! AWS sets the time of each value, so a clock that is wrong here, or a late put, does no harm.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{AwsCalls, CountCalls, Gauges};
use crate::aws::{self, CallError};
use crate::clock::Clock;
use crate::config::POOL_NAME;
use crate::gate::{Gate, Peak, QueueWatch};

/// After a put that said that requests wait: the shortest period of a CloudWatch alarm.
const BUSY_INTERVAL: Duration = Duration::from_secs(10);

/// After any other put: a sign of life, at six calls in place of sixty.
const QUIET_INTERVAL: Duration = Duration::from_secs(60);

/// Metrics in one call (Amazon CloudWatch API, PutMetricData). At some 200 bytes each they stay far below its 1 MB.
const METRICS_MAX: usize = 1000;

/// Kept by the second, in seconds. With 60 an alarm could not look every 10 s.
const STORAGE_RESOLUTION: i32 = 1;

/// The IAM action that this needs, and the only one.
const ACTION: &str = "cloudwatch:PutMetricData";

/// Publishes in `namespace`, for ever. A failing CloudWatch is told in the log and in `puts`, and tried again.
pub async fn run(namespace: String, gate: Gate, clock: Clock, puts: Arc<Puts>) {
    let calls = gate.instruments().aws_calls.clone();
    publish(&gate, clock, &puts, Way { namespace, calls, client: None }).await;
}

/// What one put says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    peak: Peak,
    gauges: Gauges,
}

impl Reading {
    /// `carried` is what an earlier put should have told.
    fn take(gate: &Gate, queue: &QueueWatch, carried: Peak) -> Self {
        Self { peak: carried.max(queue.take_peak()), gauges: Gauges::read(gate) }
    }

    /// Gauges are sums over the pools, and there is one pool.
    fn metrics(&self) -> Vec<MetricDatum> {
        let pool = Dimension::builder().name("pool").value(POOL_NAME).build();
        let datum = |(name, value): (&str, u64)| {
            MetricDatum::builder()
                .metric_name(name)
                .dimensions(pool.clone())
                // Counts are far below 2⁵³, from where on a double has gaps.
                .value(value as f64)
                .unit(StandardUnit::Count)
                .storage_resolution(STORAGE_RESOLUTION)
                .build()
        };
        self.gauges.named(self.peak).map(datum).into()
    }
}

/// When is what put: the rules are at the top of this file.
async fn publish(gate: &Gate, clock: Clock, puts: &Puts, mut way: impl Put) {
    let queue = gate.watch_queue();
    let mut carried = Peak::default();
    loop {
        let began = clock.mono();
        let reading = Reading::take(gate, &queue, carried);
        let told = reading.peak;
        carried = told;
        let put = tokio::select! {
            put = way.put(reading) => put,
            () = queue.until_above(told) => continue,
        };
        puts.note(&put);
        if put.is_ok() {
            carried = Peak::default();
        }
        let pause = if told.queued == 0 { QUIET_INTERVAL } else { BUSY_INTERVAL };
        tokio::select! {
            () = tokio::time::sleep_until(clock.instant(began + pause)) => {}
            () = queue.until_above(told) => {}
        }
    }
}

/// Where readings go. Dropped before its end, a put may have been made or not.
trait Put {
    async fn put(&mut self, reading: Reading) -> Result<(), CallError>;
}

/// To CloudWatch, by a client once there is one.
#[derive(Debug)]
struct Way {
    namespace: String,
    calls: AwsCalls,
    client: Option<Client>,
}

impl Put for Way {
    async fn put(&mut self, reading: Reading) -> Result<(), CallError> {
        let client = match &self.client {
            Some(client) => client,
            None => {
                let config = Builder::from(&aws::config().await).interceptor(CountCalls(self.calls.clone()));
                self.client.insert(Client::from_conf(config.build()))
            }
        };
        for metrics in reading.metrics().chunks(METRICS_MAX) {
            let put = client.put_metric_data().namespace(&self.namespace);
            if let Err(error) = put.set_metric_data(Some(metrics.to_vec())).send().await {
                let error = CallError::of(ACTION, &error);
                // Who mends a profile or a role need not restart the gateway: the next put reads them anew.
                if error.needs_mending() {
                    self.client = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How publishing goes.
#[derive(Debug, Default)]
pub struct Puts(Mutex<PutsSnapshot>);

/// The same at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutsSnapshot {
    /// Puts that worked.
    pub puts: u64,
    /// Puts that failed.
    pub failures: u64,
    /// Why the last one failed; none if it worked.
    pub last_error: Option<String>,
}

impl Puts {
    /// As of now.
    #[must_use]
    pub fn snapshot(&self) -> PutsSnapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts, and logs when putting begins to fail and when it works again.
    fn note(&self, put: &Result<(), CallError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failing = state.last_error.is_some();
        match put {
            Ok(()) => {
                state.puts += 1;
                state.last_error = None;
                if was_failing {
                    info!("CloudWatch gets metrics again");
                }
            }
            Err(error) => {
                state.failures += 1;
                state.last_error = Some(error.to_string());
                if !was_failing {
                    warn!(%error, "CloudWatch gets no metrics; trying on");
                }
            }
        }
    }
}
