//! From an agent's first good report to the request that waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::Mono;
use paddock::dashboard::Clients;
use paddock::management::{self, ManagementConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::support::gateway::{Gateway, GatewayConfig, POOL};
use crate::support::wait::eventually;

const WARM_UP: usize = 50;
const SOON: Duration = Duration::from_secs(10);
/// Long enough for the gateway to be idle again.
const QUIET: Duration = Duration::from_millis(2);
const REQUEST: &[u8] =
    b"POST /completion HTTP/1.1\r\nHost: bench\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"a\"}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A request that came to the server.
struct Arrived {
    at: Mono,
    connection: usize,
}

/// How long each took, in nanoseconds. Each round is a new life of an instance, whose server nobody was connected to.
pub async fn rounds(count: usize) -> Vec<u64> {
    let clock = Clock::start();
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server_addr = server.local_addr().unwrap();
    let (sender, mut arrivals) = unbounded_channel();
    std::thread::spawn(move || serve(&server, clock, &sender));
    let gateway = Gateway::start(GatewayConfig::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let management = listener.local_addr().unwrap();
    let config = ManagementConfig {
        token: None,
        agent_addr_allow: Vec::new(),
        own: Vec::new(),
        clients: Clients { address: management, is_tls: false },
        pool: POOL,
        groups: Vec::new(),
        has_page: false,
        cloudwatch: None,
    };
    let stop = CancellationToken::new();
    let managing =
        tokio::spawn(management::serve(listener, config, gateway.gate.clone(), gateway.clock, stop.clone()));
    let mut took = Vec::with_capacity(count);
    for round in 0..WARM_UP + count {
        let nanos = wait_and_be_served(&gateway, management, server_addr, round, clock, &mut arrivals).await;
        if round >= WARM_UP {
            took.push(nanos);
        }
    }
    stop.cancel();
    managing.await.unwrap();
    took
}

async fn wait_and_be_served(
    gateway: &Gateway,
    management: SocketAddr,
    server: SocketAddr,
    round: usize,
    clock: Clock,
    arrivals: &mut UnboundedReceiver<Arrived>,
) -> u64 {
    let is_anyone_there = || gateway.gate.snapshot().0.agents.iter().any(|agent| agent.is_connected);
    let mut agent = connect(management).await;
    let head = format!("POST /status_update/agent-{round} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let booting = report(server, "loading", 0);
    agent.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n{booting}").as_bytes()).await.unwrap();
    eventually("the agent registers", SOON, async || is_anyone_there().then_some(())).await;
    let mut client = connect(gateway.addr()).await;
    client.write_all(REQUEST).await.unwrap();
    eventually("the request waits", SOON, async || (gateway.gate.in_flight() == (0, 1)).then_some(())).await;
    sleep(QUIET).await;

    let ready = report(server, "ready", 4);
    let began = clock.mono();
    agent.write_all(ready.as_bytes()).await.unwrap();
    let arrived = arrivals.recv().await.unwrap();
    assert_eq!(arrived.connection, round, "each life's connection is a new one");

    let mut answer = vec![0; 4096];
    let count = client.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..count]));
    drop((client, agent));
    eventually("the agent is gone", SOON, async || (!is_anyone_there()).then_some(())).await;
    u64::try_from(arrived.at.since(began).as_nanos()).unwrap()
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A chunk of an agent's stream.
fn report(server: SocketAddr, phase: &str, idle: u32) -> String {
    let report = json!({
        "external_llamacpp_addr": server.to_string(),
        "idle_slots_count": idle,
        "is_authorized": true,
        "is_slots_endpoint_enabled": true,
        "phase": phase,
        "heartbeat_ms": 1000,
        "sample_age_ms": 1,
    });
    let report = format!("{report}\n");
    format!("{:x}\r\n{report}\r\n", report.len())
}

/// One thread for each connection: it notes when a request's first byte came, and answers.
fn serve(listener: &TcpListener, clock: Clock, arrivals: &UnboundedSender<Arrived>) {
    for (connection, stream) in listener.incoming().enumerate() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let arrivals = arrivals.clone();
        std::thread::spawn(move || {
            let mut request = Vec::new();
            let mut part = [0; 4096];
            let mut first = None;
            while let Ok(count) = stream.read(&mut part)
                && count > 0
            {
                let at = *first.get_or_insert_with(|| clock.mono());
                request.extend_from_slice(&part[..count]);
                if request.ends_with(b"{\"prompt\":\"a\"}") {
                    request.clear();
                    first = None;
                    if stream.write_all(ANSWER).is_err() || arrivals.send(Arrived { at, connection }).is_err()
                    {
                        return;
                    }
                }
            }
        });
    }
}
