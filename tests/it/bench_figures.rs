//! How `cargo bench --bench peers` judges its figures and writes them down.

#[path = "../../benches/peers/document.rs"]
mod document;
#[path = "../../benches/peers/goal.rs"]
mod goal;
#[path = "../../benches/peers/stats.rs"]
mod stats;

use goal::Goal;
use stats::{Estimate, estimate, quantile, ratios};

/// Between the values of the same rank from both ends that cover the median with 95 %, by the tables of the binomial
/// distribution with one half: 7 values give 98.4 %, 9 give 96.1 %, 12 give 96.1 %, 21 give 97.3 %.
#[test]
fn the_interval_is_the_binomials() {
    for (values, low, high) in [(1, 1, 1), (5, 1, 5), (7, 1, 7), (9, 2, 8), (12, 3, 10), (21, 6, 16)] {
        let shuffled: Vec<f64> = (0..values).map(|at| f64::from((at * 5 + 3) % values + 1)).collect();
        let shuffled = if values % 5 == 0 { (1..=values).rev().map(f64::from).collect() } else { shuffled };
        let estimate = estimate(&shuffled);
        assert_eq!(estimate.interval, f64::from(low)..=f64::from(high), "{values} values");
        assert_eq!(estimate.median, f64::from(values + 1) / 2.0, "{values} values");
    }
}

#[test]
fn ratios_are_those_of_one_round() {
    assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
    let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
    assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99)), (50.0, 99.0));
}

#[test]
fn a_target_is_met_when_the_interval_reaches_it() {
    let around_one =
        |low: f64, high: f64| Estimate { median: f64::midpoint(low, high), interval: low..=high };
    for (goal, low, high, verdict) in [
        (Goal::AtLeast(1.0), 1.01, 1.05, "met"),
        (Goal::AtLeast(1.0), 0.90, 1.00, "met by the interval"),
        (Goal::AtLeast(1.0), 0.90, 0.99, "**missed**"),
        (Goal::AtMost(1.0), 0.90, 0.99, "met"),
        (Goal::AtMost(1.0), 1.00, 1.10, "met by the interval"),
        (Goal::AtMost(1.0), 1.01, 1.10, "**missed**"),
        (Goal::AtMost(0.0), 0.0, 0.0, "met"),
        (Goal::AtMost(0.0), 1.0, 1.0, "**missed**"),
    ] {
        assert_eq!(goal.verdict(&around_one(low, high)), verdict, "{goal:?} with [{low}, {high}]");
    }
    assert_eq!((Goal::AtLeast(1.0).text(" ×"), Goal::AtMost(8.0).text("")), ("≥ 1 ×".into(), "≤ 8".into()));
}

#[test]
fn a_block_is_replaced_and_the_rest_stays() {
    let before =
        "prose\n<!-- bench:a -->\nold\n<!-- /bench:a -->\n<!-- bench:b -->\n<!-- /bench:b -->\nmore\n";
    let after = document::with_block(before, "a", "new\n\n").unwrap();
    assert_eq!(after, before.replace("old", "new"));
    let both = document::with_block(&after, "b", "x").unwrap();
    assert_eq!(both, after.replace("<!-- bench:b -->\n", "<!-- bench:b -->\nx\n"));
    assert_eq!(document::with_block(before, "c", "x"), None);
}

/// Each part has its place in the document.
#[test]
fn the_document_has_a_block_for_each_part() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md")).unwrap();
    for part in ["machine", "base", "contended", "sse", "held", "h2c", "start"] {
        assert!(document::with_block(&text, part, "").is_some(), "{part}");
    }
}
