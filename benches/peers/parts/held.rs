//! What a request takes while it waits, over HTTP/1, each on its own connection, its body included. For Paddock no
//! server is there yet; HAProxy's servers are, and do not answer. nginx holds nothing.

use std::time::Duration;

use crate::peers::goal::Goal;
use crate::peers::message::{self, Client};
use crate::peers::plan::{Plan, settled_resident_bytes, socket_bytes_since};
use crate::peers::process::socket_bytes;
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::server::Servers;
use crate::peers::table::{Figures, Row};

const BODY_BYTES: usize = 2_000;
const SLOTS: usize = 8;
const KINDS: [Kind; 2] = [Kind::Haproxy, Kind::Paddock];
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 1_000;

/// Each round has processes of its own: memory that was given back would not grow again.
pub fn run(plan: &Plan) -> Vec<Row> {
    let servers = Servers::start(SLOTS, Duration::ZERO);
    let behind = Behind { servers: servers.addrs(), slots: SLOTS, queues: true };
    let mut resident = Figures::new();
    let mut sockets = Figures::new();
    let mut rest = Figures::new();
    for round in 0..plan.rounds {
        for at in 0..KINDS.len() {
            let kind = KINDS[(round + at) % KINDS.len()];
            let Some(proxy) = Running::start(kind, behind) else { continue };
            let idle = settled_resident_bytes(&proxy);
            let [resident_each, sockets_each] = hold(&proxy, plan.held, idle, &servers);
            resident.entry(kind).or_default().push(resident_each);
            sockets.entry(kind).or_default().push(sockets_each);
            if round + 1 == plan.rounds {
                std::thread::sleep(plan.rest);
                rest.insert(kind, vec![(proxy.resident_bytes() - idle) / 1e6]);
            }
        }
    }
    vec![
        Row::alone("resident memory a held request, KB", 1, &resident, Goal::AtMost(8.0)),
        Row::plain("the kernel's socket buffers a held request, KB", 1, &sockets),
        Row::alone("resident memory 15 s after the last answer, MB above idle", 1, &rest, Goal::AtMost(10.0)),
    ]
}

/// Holds requests and lets them be answered: the resident and the sockets' kilobytes of each.
fn hold(proxy: &Running, requests: usize, idle: f64, servers: &Servers) -> [f64; 2] {
    servers.hold(true);
    let sockets = socket_bytes();
    let chat = message::chat(BODY_BYTES);
    let mut clients: Vec<Client> = (0..requests)
        .map(|_| {
            let mut client = Client::connect(proxy.addr());
            client.send(&chat);
            client
        })
        .collect();
    let mut looks = 0;
    while proxy.held() < requests {
        assert!(looks < LOOKS_MAX, "{} holds {} of {requests}", proxy.kind().name(), proxy.held());
        looks += 1;
        std::thread::sleep(LOOK_EVERY);
    }
    let each = |bytes: f64| bytes / requests as f64 / 1e3;
    let figures = [each(settled_resident_bytes(proxy) - idle), each(socket_bytes_since(sockets))];
    servers.hold(false);
    proxy.attach_servers();
    for client in &mut clients {
        client.answer();
    }
    figures
}
