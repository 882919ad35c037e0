//! Requests per second and CPU per request in front of two fast servers, beside HAProxy and nginx, in one run: the
//! proxies take turns, so that the machine's drift hits all alike. `cargo bench --bench peers`
//!
//! Needs wrk, haproxy and nginx (Debian: `apt-get install wrk haproxy nginx-light`); a proxy that is missing is left
//! out, and said.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures, and a broken one stops"
)]

mod peers {
    pub mod backend;
    pub mod proxies;
    pub mod wrk;
}

use std::collections::BTreeMap;

use peers::backend::Backend;
use peers::proxies::{Kind, Running};
use peers::wrk;

/// Turns that each proxy takes. The median is told.
const ROUNDS: usize = 5;

fn main() {
    if !wrk::is_installed() {
        println!("wrk is not installed: nothing is measured (Debian: apt-get install wrk)");
        return;
    }
    let backends = [Backend::start(), Backend::start()];
    let addresses = backends.each_ref().map(Backend::addr);
    let folder = std::env::temp_dir().join(format!("paddock-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = wrk::write_script(&folder);

    let mut figures: BTreeMap<&'static str, Vec<(f64, f64)>> = BTreeMap::new();
    let mut running: Vec<Running> = [Kind::Paddock, Kind::Haproxy, Kind::Nginx]
        .into_iter()
        .filter_map(|kind| Running::start(kind, addresses, &folder))
        .collect();
    for _ in 0..ROUNDS {
        for proxy in &mut running {
            let before = proxy.cpu_seconds();
            let load = wrk::run(proxy.addr(), &script);
            let micros = (proxy.cpu_seconds() - before) * 1e6 / load.requests;
            assert!(load.requests > 0.0 && load.failed == 0.0, "{} failed requests", proxy.name());
            figures.entry(proxy.name()).or_default().push((load.per_second, micros));
        }
    }
    drop(running);
    std::fs::remove_dir_all(&folder).unwrap();

    println!("{} connections, {} s a turn, {ROUNDS} turns, medians", wrk::CONNECTIONS, wrk::SECONDS);
    println!("{:<10} {:>12} {:>16} {:>14}", "", "requests/s", "CPU µs/request", "× HAProxy");
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let haproxy = figures.get("haproxy").map(|turns| median(&mut turns.iter().map(|turn| turn.0).collect()));
    for (name, turns) in &figures {
        let per_second = median(&mut turns.iter().map(|turn| turn.0).collect());
        let micros = median(&mut turns.iter().map(|turn| turn.1).collect());
        let ratio = haproxy.map_or(f64::NAN, |haproxy| per_second / haproxy);
        println!("{name:<10} {per_second:>12.0} {micros:>16.1} {ratio:>14.2}");
    }
}
