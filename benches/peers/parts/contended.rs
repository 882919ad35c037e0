//! More requests than slots: 64 connections on two servers with 8 slots each. What counts is how soon a slot that comes
//! free is used again, and that none is used twice. nginx has no queue, so it is not here.

use std::time::Duration;

use crate::peers::goal::Goal;
use crate::peers::message;
use crate::peers::plan::Plan;
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::server::Servers;
use crate::peers::table::Row;
use crate::peers::wrk::Wrk;

const BODY_BYTES: usize = 200;
const SLOTS: usize = 8;
/// A very short answer. The servers' timers count in milliseconds, so it takes up to one more.
const ANSWER_TAKES: Duration = Duration::from_millis(1);

pub fn run(plan: &Plan) -> Vec<Row> {
    let Some(wrk) = Wrk::installed(BODY_BYTES) else { return Vec::new() };
    let servers = Servers::start(SLOTS, ANSWER_TAKES);
    let behind = Behind { servers: servers.addrs(), slots: SLOTS, queues: true };
    let proxies = Running::all(&[Kind::Haproxy, Kind::Paddock], behind);
    for proxy in &proxies {
        message::Client::connect(proxy.addr()).ask(&message::chat(BODY_BYTES));
    }
    let [per_second, p99, over_commits] = plan.interleave(&proxies, |proxy| {
        let before = servers.over_commits();
        let load = wrk.run(proxy.addr(), plan.turn, &servers);
        [load.per_second, load.p99_ms, (servers.over_commits() - before) as f64]
    });
    // Not one in any turn: the median would forgive some.
    let worst = over_commits.iter().map(|(kind, turns)| (*kind, vec![turns.iter().sum()])).collect();
    vec![
        Row::beside("requests/s", 0, &per_second, &[Kind::Haproxy], Goal::AtLeast(1.0)),
        Row::beside("p99, ms", 2, &p99, &[Kind::Haproxy], Goal::AtMost(1.0)),
        Row::alone("over-commits, all turns", 0, &worst, Goal::AtMost(0.0)),
    ]
}
