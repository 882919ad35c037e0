//! What people who watch cost those who ask: a thousand event streams of `/api/v1/events` beside a full load.
//! `cargo bench --bench watchers` writes the figures into `BENCHMARKS.md`.
//!
//! One gateway, the same for all turns. Turns with and without watchers alternate; a run's figure is the median of the
//! ratios of its pairs. The watchers read on the same two cores, so what they take themselves is in the figures.
//!
//! Needs wrk (Debian: `apt-get install wrk`). `PADDOCK_BENCH_QUICK=1` runs through every step and writes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench prints its figures, and a broken one stops"
)]

#[allow(dead_code, reason = "shared with the bench beside HAProxy and nginx: a part of it is used here")]
#[path = "peers"]
mod peers {
    pub mod document;
    pub mod goal;
    pub mod message;
    pub mod paced;
    pub mod plan;
    pub mod process;
    pub mod proxies;
    pub mod server;
    pub mod stats;
    pub mod table;
    pub mod wrk;
}

mod watchers {
    pub mod crowd;
}

use std::time::Duration;

use peers::goal::Goal;
use peers::proxies::{Behind, Kind, Running};
use peers::server::Servers;
use peers::stats::{Estimate, estimate, ratios};
use peers::wrk::Wrk;
use peers::{document, message, paced, process};
use watchers::crowd::Crowd;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md");
const WATCHERS: usize = 1_000;
const BODY_BYTES: usize = 200;
/// Of each server: one alone could take the whole load.
const SLOTS: usize = 64;
/// The watchers may take so much of the requests a second, and add so much to the 99th percentile.
const COST_MAX: f64 = 0.03;

/// How much is measured.
struct Plan {
    runs: usize,
    /// Each of two turns: with watchers and without.
    pairs: usize,
    turn: Duration,
}

fn main() {
    process::raise_open_files();
    let is_quick = std::env::var_os("PADDOCK_BENCH_QUICK").is_some();
    let plan = if is_quick {
        Plan { runs: 1, pairs: 1, turn: Duration::from_secs(1) }
    } else {
        Plan { runs: 5, pairs: 3, turn: Duration::from_secs(3) }
    };
    let Some(wrk) = Wrk::installed(BODY_BYTES) else { return };
    let servers = Servers::start(SLOTS, Duration::ZERO);
    let behind = Behind { servers: servers.addrs(), slots: SLOTS, queues: false };
    let proxy = Running::start(Kind::Paddock, behind).expect("the program is built with the bench");
    proxy.attach_servers();

    let closed = measure(&plan, &proxy, |addr| {
        let load = wrk.run(addr, plan.turn, &servers);
        [load.per_second, load.p99_ms]
    });
    let chat = message::chat(BODY_BYTES);
    let paced = measure(&plan, &proxy, |addr| {
        let load = paced::run(addr, &chat, plan.turn);
        [load.per_second, load.p99_ms]
    });
    let rows = [
        row("closed loop: requests/s", 0, &closed[0], Goal::AtLeast(1.0 - COST_MAX)),
        row("closed loop: p99, ms", 2, &closed[1], Goal::AtMost(1.0 + COST_MAX)),
        row("20,000/s asked for: requests/s", 0, &paced[0], Goal::AtLeast(1.0 - COST_MAX)),
        row("20,000/s: p99, ms", 2, &paced[1], Goal::AtMost(1.0 + COST_MAX)),
    ];
    let table = format!(
        "| | nobody watches | 1,000 watch | ratio [five runs] | target | |\n|---|---|---|---|---|---|\n{}",
        rows.concat()
    );
    println!("{table}");
    if !is_quick {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let text = document::with_block(&text, "watchers", &table).expect("BENCHMARKS.md has the block");
        std::fs::write(DOCUMENT, text).unwrap();
    }
}

/// One measure over all runs.
#[derive(Default)]
struct Measure {
    alone: Vec<f64>,
    watched: Vec<f64>,
    /// Of each run: the median of its pairs' ratios.
    ratios: Vec<f64>,
}

fn measure(plan: &Plan, proxy: &Running, turn: impl Fn(std::net::SocketAddr) -> [f64; 2]) -> [Measure; 2] {
    let mut measures = [Measure::default(), Measure::default()];
    for run in 0..plan.runs {
        let mut of_run = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        for pair in 0..plan.pairs {
            // Each pair begins with the other one, so that a drift of the machine hits both alike.
            let is_first_watched = (run + pair) % 2 == 0;
            for is_watched in [is_first_watched, !is_first_watched] {
                proxy.rest();
                let crowd = is_watched.then(|| Crowd::gather(proxy.management(), WATCHERS));
                let figures = turn(proxy.addr());
                if let Some(crowd) = crowd {
                    crowd.assert_all_were_told(plan.turn);
                }
                for (of_measure, figure) in of_run.iter_mut().zip(figures) {
                    of_measure[usize::from(is_watched)].push(figure);
                }
            }
        }
        for (measure, [alone, watched]) in measures.iter_mut().zip(of_run) {
            measure.ratios.push(estimate(&ratios(&watched, &alone)).median);
            measure.alone.extend(alone);
            measure.watched.extend(watched);
        }
    }
    measures
}

fn row(name: &str, digits: usize, measure: &Measure, goal: Goal) -> String {
    let [alone, watched] = [&measure.alone, &measure.watched].map(|figures| estimate(figures).median);
    let of_runs = estimate(&measure.ratios);
    let (low, high) = (of_runs.interval.start(), of_runs.interval.end());
    // The median alone decides: the range of five runs is too wide to excuse one.
    let verdict =
        goal.verdict(&Estimate { median: of_runs.median, interval: of_runs.median..=of_runs.median });
    let goal = goal.text(" ×");
    format!(
        "| {name} | {alone:.digits$} | {watched:.digits$} | {:.3} [{low:.3}, {high:.3}] | {goal} | {verdict} |\n",
        of_runs.median
    )
}
