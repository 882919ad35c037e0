//! A start, and what a proxy takes that has nothing to do.

use std::time::Duration;

use crate::peers::goal::Goal;
use crate::peers::plan::{Plan, settled_resident_bytes};
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::server::Servers;
use crate::peers::table::{Figures, Row};

const KINDS: [Kind; 3] = [Kind::Haproxy, Kind::Nginx, Kind::Paddock];

pub fn run(plan: &Plan) -> Vec<Row> {
    let servers = Servers::start(1, Duration::ZERO);
    let behind = Behind { servers: servers.addrs(), slots: 1, queues: false };
    let (mut millis, mut resident) = (Figures::new(), Figures::new());
    for round in 0..plan.starts {
        for at in 0..KINDS.len() {
            let kind = KINDS[(round + at) % KINDS.len()];
            let Some(proxy) = Running::start(kind, behind) else { continue };
            millis.entry(kind).or_default().push(proxy.start_seconds() * 1e3);
            resident.entry(kind).or_default().push(settled_resident_bytes(&proxy) / 1e6);
        }
    }
    vec![
        Row::alone("idle resident memory, MB", 1, &resident, Goal::AtMost(12.0)),
        Row::alone("start to first answer, ms", 1, &millis, Goal::AtMost(30.0)),
    ]
}
