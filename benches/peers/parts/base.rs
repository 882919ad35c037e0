//! What a request costs when nothing waits: 64 connections, bodies of 200 bytes, servers that answer at once.

use std::time::Duration;

use crate::peers::goal::Goal;
use crate::peers::plan::Plan;
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::server::Servers;
use crate::peers::table::Row;
use crate::peers::wrk::Wrk;
use crate::peers::{fair, message, paced};

const BODY_BYTES: usize = 200;
/// Of each server: one alone could take the whole load.
const SLOTS: usize = 64;
const PEERS: [Kind; 2] = [Kind::Haproxy, Kind::Nginx];

pub fn run(plan: &Plan) -> Vec<Row> {
    let servers = Servers::start(SLOTS, Duration::ZERO);
    let behind = Behind { servers: servers.addrs(), slots: SLOTS, queues: false };
    let proxies = Running::all(&[Kind::Haproxy, Kind::Nginx, Kind::Paddock], behind);
    let chat = message::chat(BODY_BYTES);
    fair::assert_alike(&proxies, &servers, &chat);
    let mut rows = Vec::new();
    if let Some(wrk) = Wrk::installed(BODY_BYTES) {
        let [per_second, micros, p50, p99] = plan.interleave(&proxies, |proxy| {
            let before = proxy.cpu_seconds();
            let load = wrk.run(proxy.addr(), plan.turn, &servers);
            let micros = (proxy.cpu_seconds() - before) * 1e6 / load.requests;
            [load.per_second, micros, load.p50_ms, load.p99_ms]
        });
        rows.extend([
            Row::beside("closed loop: requests/s", 0, &per_second, &PEERS, Goal::AtLeast(1.0)),
            Row::beside("closed loop: CPU a request, µs", 1, &micros, &PEERS, Goal::AtMost(1.0)),
            Row::plain("closed loop: p50, ms", 2, &p50),
            Row::plain("closed loop: p99, ms", 2, &p99),
        ]);
    }
    let [per_second, micros, p50, p99] = plan.interleave(&proxies, |proxy| {
        let before = (proxy.cpu_seconds(), servers.answers());
        let load = paced::run(proxy.addr(), &chat, plan.turn);
        let micros = (proxy.cpu_seconds() - before.0) * 1e6 / load.requests;
        let answers = servers.answers() - before.1;
        assert!(answers as f64 == load.requests, "{answers} answers for {} requests", load.requests);
        [load.per_second, micros, load.p50_ms, load.p99_ms]
    });
    rows.extend([
        Row::plain("20,000/s asked for: requests/s", 0, &per_second),
        Row::beside("20,000/s: CPU a request, µs", 1, &micros, &PEERS, Goal::AtMost(1.0)),
        Row::plain("20,000/s: p50, ms", 2, &p50),
        Row::plain("20,000/s: p99, ms", 2, &p99),
    ]);
    rows
}
