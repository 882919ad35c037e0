//! Paddock.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use ::paddock::clock::Clock;
use serde_json::Value;

use super::{Behind, message};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_paddock");

/// As often as an agent reports by default.
const REPORT_EVERY: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Room for 100,000 requests that wait, and for all clients at one address; otherwise as it comes.
const LIMITS: [(&str, &str); 4] = [
    ("PADDOCK_MAX_BUFFERED_REQUESTS", "200000"),
    ("PADDOCK_MAX_BUFFERED_BYTES", "1GiB"),
    ("PADDOCK_MAX_CONNECTIONS", "20000"),
    ("PADDOCK_MAX_CONNECTIONS_PER_CLIENT", "20000"),
];

/// With two workers.
pub fn command(addr: SocketAddr, management: SocketAddr) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["balancer", "--worker-threads", "2", "--shutdown-grace", "1s"]);
    command.args(["--reverseproxy-addr", &addr.to_string(), "--management-addr", &management.to_string()]);
    command.envs(LIMITS).env("PADDOCK_ACCESS_LOG", "off");
    command
}

/// An agent for each server. Returns once the gateway knows both.
pub fn attach(management: SocketAddr, behind: Behind) {
    for server in behind.servers {
        std::thread::spawn(move || report_until_it_ends(management, server, behind.slots));
    }
    rest(management, behind);
}

/// Waits until every slot of both servers is free.
pub fn rest(management: SocketAddr, behind: Behind) {
    let slots = behind.slots * behind.servers.len();
    let clock = Clock::start();
    while free_slots(management) != slots {
        assert!(clock.mono().0 < REST_MAX, "{} of {slots} slots are free", free_slots(management));
        std::thread::sleep(LOOK_EVERY);
    }
}

fn free_slots(management: SocketAddr) -> usize {
    let state = json(&message::get(management, "/api/v1/agents"));
    let free = state["agents"].as_array().unwrap().iter().map(|agent| agent["slots_idle"].as_u64().unwrap());
    usize::try_from(free.sum::<u64>()).unwrap()
}

fn json(answer: &[u8]) -> Value {
    serde_json::from_slice(message::body(answer)).unwrap()
}

/// What a Paddler agent would report: free slots, again and again.
fn report_until_it_ends(management: SocketAddr, server: SocketAddr, slots: usize) {
    let report = format!(
        r#"{{"agent_name":null,"error":null,"external_llamacpp_addr":"{server}","idle_slots_count":{slots},"is_authorized":true,"is_slots_endpoint_enabled":true,"processing_slots_count":0,"slots":[]}}"#
    );
    let mut stream = TcpStream::connect(management).unwrap();
    let head = format!(
        "POST /status_update/{server} HTTP/1.1\r\nHost: {management}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    while stream.write_all(format!("{:x}\r\n{report}\r\n", report.len()).as_bytes()).is_ok() {
        std::thread::sleep(REPORT_EVERY);
    }
}

/// As its own health tells.
pub fn held(addr: SocketAddr) -> usize {
    let health = json(&message::get(addr, "/health"));
    let count = |name| usize::try_from(health[name].as_u64().unwrap()).unwrap();
    count("requests_buffered") + count("requests_processing")
}
