//! The instruments as Prometheus reads them.

use prometheus_client::encoding::text;

use super::Gauges;
use crate::gate::Gate;

/// OpenMetrics (openmetrics.io, "Text format"): Prometheus takes it, and so does everything that reads its own older form
/// line by line.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All instruments as of now.
#[must_use]
pub fn scrape(gate: &Gate) -> String {
    let instruments = gate.instruments();
    let snapshot = gate.snapshot().0;
    instruments.set(&Gauges::of(&snapshot));
    instruments.set_ledger(&snapshot);
    let mut told = String::new();
    // A string takes everything.
    let _ = text::encode(&mut told, &instruments.registry());
    told
}
