//! Paddock beside HAProxy and nginx, in one run: the proxies take turns in front of the same two servers, and each
//! target is a median of ratios within one round. `cargo bench --bench peers` writes the figures into `BENCHMARKS.md`.
//!
//! Needs haproxy, nginx and wrk (Debian: `apt-get install haproxy nginx-light wrk`); what is missing is left out, and
//! said. A turn with any answer but 200 ends the run. `PADDOCK_BENCH_PARTS=base,sse` runs and writes these parts alone;
//! `PADDOCK_BENCH_QUICK=1` runs through every step and writes nothing: its figures mean nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench prints its figures, and a broken one stops"
)]

mod peers {
    pub mod document;
    pub mod fair;
    pub mod goal;
    pub mod machine;
    pub mod message;
    pub mod paced;
    pub mod plan;
    pub mod process;
    pub mod proxies;
    pub mod server;
    pub mod stats;
    pub mod streams;
    pub mod table;
    pub mod wrk;
    pub mod parts {
        pub mod base;
        pub mod contended;
        pub mod h2c;
        pub mod held;
        pub mod sse;
        pub mod start;
    }
}

use peers::plan::{PARTS, Plan};
use peers::table::{Row, markdown};
use peers::{document, machine, parts, process};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md");

fn main() {
    process::raise_open_files();
    let wanted = std::env::var("PADDOCK_BENCH_PARTS").unwrap_or_else(|_| PARTS.join(","));
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
    if let Some(unknown) = wanted.iter().find(|part| !PARTS.contains(part)) {
        panic!("PADDOCK_BENCH_PARTS: '{unknown}' is no part; there are {}", PARTS.join(", "));
    }
    let is_quick = std::env::var_os("PADDOCK_BENCH_QUICK").is_some();
    let plan = if is_quick { Plan::QUICK } else { Plan::FULL };
    let machine = machine::described();
    println!("{machine}");
    let mut blocks = vec![("machine", machine)];
    for part in PARTS.into_iter().filter(|part| wanted.contains(part)) {
        let rows = run(part, &plan);
        let table = markdown(&rows);
        println!("\n{part}\n{table}");
        if !rows.is_empty() {
            blocks.push((part, table));
        }
    }
    if !is_quick {
        write(&blocks);
    }
}

fn run(part: &str, plan: &Plan) -> Vec<Row> {
    match part {
        "base" => parts::base::run(plan),
        "contended" => parts::contended::run(plan),
        "sse" => parts::sse::run(plan),
        "held" => parts::held::run(plan),
        "h2c" => parts::h2c::run(plan),
        "start" => parts::start::run(plan),
        _ => unreachable!("only known parts are run"),
    }
}

/// Each block in its place.
fn write(blocks: &[(&str, String)]) {
    let mut text = std::fs::read_to_string(DOCUMENT).unwrap();
    for (name, block) in blocks {
        text = document::with_block(&text, name, block)
            .unwrap_or_else(|| panic!("BENCHMARKS.md has no block <!-- bench:{name} -->"));
    }
    std::fs::write(DOCUMENT, text).unwrap();
}
