//! Minutes of mixed load on the `paddock` program, while its agents and its servers restart: nothing grows, and every answer is
//! right or a documented refusal. `make soak`, or `PADDOCK_SOAK_SECONDS=60 cargo bench --bench soak`
//!
//! It fails when a figure of the last quarter is above the second one's by more than a named slack, when the gateway does
//! not come back to what it held before the load, and on each answer that is wrong. The figures go into `BENCHMARKS.md`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures, and a broken one stops"
)]

#[path = "../tests/support/support.rs"]
#[allow(dead_code, reason = "shared with the tests: each includes all of it and uses a part")]
mod support;

mod soak {
    pub mod answers;
    pub mod figures;
    pub mod load;
    pub mod restarts;
}

use std::sync::Arc;
use std::time::Duration;

use paddock::clock::Clock;
use soak::answers::Book;
use soak::figures::{DESCRIPTORS_SLACK, Figures, Sample, write};
use soak::load;
use soak::restarts::Servers;
use support::http::get;
use support::program::Paddock;
use support::wait::eventually;

/// Of a whole run; `PADDOCK_SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 600;
/// Between two looks at the process.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// From the end of the load until nothing is held any more: kept connections, cooling slots, freed memory included.
const REST_MAX: Duration = Duration::from_secs(60);

/// Small enough for the load to run into each.
const FLAGS: [&str; 12] = [
    "--worker-threads",
    "2",
    "--max-buffered-requests",
    "60",
    "--buffered-request-timeout",
    "5s",
    "--max-request-body",
    "1MiB",
    "--request-head-timeout",
    "2s",
    "--client-idle-timeout",
    "10s",
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::var("PADDOCK_SOAK_SECONDS")
        .map_or(SECONDS, |given| given.parse().expect("PADDOCK_SOAK_SECONDS is a number"));
    let clock = Clock::start();
    let mut paddock = Paddock::start(&FLAGS).await;
    let pid = paddock.program().pid();
    let mut servers = Servers::start(paddock.management()).await;
    servers.until_registered(&paddock).await;
    let book = Arc::new(Book::default());
    let before = Sample::of(pid);
    let load = load::start(paddock.proxy(), &book);

    let mut figures = Figures::new(seconds);
    let mut samples = tokio::time::interval(SAMPLE_EVERY);
    let end = Duration::from_secs(seconds);
    let restarting = async {
        loop {
            servers.restart_one(&book).await;
        }
    };
    let sampling = async {
        while clock.mono().0 < end {
            samples.tick().await;
            figures.add(Sample::of(pid));
        }
    };
    tokio::select! {
        () = restarting => {}
        () = sampling => {}
    }
    for task in load {
        task.abort();
    }
    servers.until_registered(&paddock).await;
    eventually("nothing is served or waits", REST_MAX, async || {
        let health = get(paddock.proxy(), "/health").await.json();
        let is_free = ["requests_buffered", "requests_processing"].iter().all(|count| health[count] == 0);
        is_free.then_some(())
    })
    .await;
    let after = eventually("as few descriptors as before the load", REST_MAX, async || {
        let after = Sample::of(pid);
        (after.descriptors <= before.descriptors + DESCRIPTORS_SLACK).then_some(after)
    })
    .await;
    let table = figures.table(before, after, &book, servers.restarts());
    println!("{table}");
    write(&table);
    book.assert_all_right();
    figures.assert_no_growth();
    paddock.sigterm();
    assert!(paddock.wait().await.success(), "it ends in order:\n{}", paddock.output());
}
