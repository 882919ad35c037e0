//! Event streams: from a server's write of a chunk to the client's read.

use crate::peers::goal::Goal;
use crate::peers::message;
use crate::peers::plan::Plan;
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::stats::quantile;
use crate::peers::streams::{STREAMS, Streams};
use crate::peers::table::Row;

const BODY_BYTES: usize = 200;

pub fn run(plan: &Plan) -> Vec<Row> {
    let streams = Streams::start();
    let behind = Behind { servers: streams.addrs(), slots: STREAMS as usize, queues: false };
    let proxies = Running::all(&[Kind::Haproxy, Kind::Nginx, Kind::Paddock], behind);
    let chat = message::chat(BODY_BYTES);
    let [p50, p99] = plan.interleave(&proxies, |proxy| {
        let seconds = streams.turn(proxy.addr(), &chat, plan.turn);
        [0.5, 0.99].map(|share| quantile(&seconds, share) * 1e6)
    });
    vec![
        Row::beside("median, µs", 0, &p50, &[Kind::Haproxy], Goal::AtMost(1.0)),
        Row::beside("p99, µs", 0, &p99, &[Kind::Haproxy], Goal::AtMost(1.0)),
    ]
}
