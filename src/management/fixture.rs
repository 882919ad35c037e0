//! What tests of reports and gauges begin with.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::{Ends, ManagementConfig, Shared, Token, exchange, keep_informed, router, serve};
use crate::clock::Clock;
use crate::core::{AgentReport, BootAges, Config, Phase, PoolConfig, PoolId};
use crate::dashboard::Clients;
use crate::gate::Gate;

pub(crate) const POOL: PoolId = PoolId(0);

/// A gate over one pool without a fleet.
pub(crate) fn gate(clock: Clock) -> Gate {
    let config = Config { queue_max: 10, wait_max: Duration::from_secs(300), ..Config::default() };
    let pool = PoolConfig::default();
    Gate::new(config, BTreeMap::from([(POOL, pool)]), clock)
}

/// A ready server's report.
pub(crate) fn report(port: u16, slots: u32) -> AgentReport {
    AgentReport {
        pool: POOL,
        name: None,
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        instance: None,
        phase: Phase::Ready,
        slots_total: slots,
        slots_busy: 0,
        sample_age: Some(Duration::ZERO),
        heartbeat: Some(Duration::from_secs(60)),
        is_authorized: Some(true),
        is_slots_endpoint_enabled: Some(true),
        error: None,
        zone: None,
        group: None,
        notice: None,
        boot: BootAges::default(),
    }
}

pub(crate) fn config(token: Option<&str>, has_page: bool, own: SocketAddr) -> ManagementConfig {
    ManagementConfig {
        token: token.map(|token| Token::new(token.to_owned())),
        agent_addr_allow: Vec::new(),
        own: vec![own],
        clients: Clients { address: ([127, 0, 0, 1], 8080).into(), is_tls: false },
        pool: POOL,
        groups: Vec::new(),
        has_page,
        cloudwatch: Some(Arc::default()),
    }
}

/// Far above what anything here takes.
pub(crate) async fn soon<T>(waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap()
}

/// Waits until `is_so`.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// What lies in a connection that is no socket, each way, in bytes.
const PIPE_BYTES: usize = 4096;

/// A management address that is served.
pub(crate) struct Served {
    pub address: SocketAddr,
    pub gate: Gate,
    pub clock: Clock,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
    /// What connections lead to that are no sockets; none where they are.
    piped: Option<Router>,
}

impl Served {
    pub async fn start(token: Option<&str>) -> Self {
        Self::serving(token, false).await
    }

    /// With the page for people.
    pub async fn with_page(token: Option<&str>) -> Self {
        Self::serving(token, true).await
    }

    async fn serving(token: Option<&str>, has_page: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::start();
        let gate = gate(clock);
        let cancel = CancellationToken::new();
        let config = config(token, has_page, address);
        let task = tokio::spawn(serve(listener, config, gate.clone(), clock, cancel.clone()));
        Self { address, gate, clock, cancel, task, piped: None }
    }

    /// The same without sockets, for tests whose clock is paused: it would run on while the kernel has what was sent.
    pub fn piped(token: Option<&str>, has_page: bool) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let clock = Clock::start();
        let gate = gate(clock);
        let cancel = CancellationToken::new();
        let config = config(token, has_page, address);
        let shared = Arc::new(Shared::new(config, gate.clone(), clock, cancel.clone()));
        let task = tokio::spawn(keep_informed(shared.clone()));
        Self { address, gate, clock, cancel, task, piped: Some(router(shared)) }
    }

    /// A connection.
    pub async fn connect(&self) -> Stream {
        let Some(router) = &self.piped else {
            return Stream(Either::Left(soon(TcpStream::connect(self.address)).await.unwrap()));
        };
        let (stream, served) = duplex(PIPE_BYTES);
        let local = self.address.ip();
        let ends = Ends { peer: local, local };
        tokio::spawn(exchange(served, ends, router.clone(), self.cancel.clone()));
        Stream(Either::Right(stream))
    }

    /// Agents that are heard, and their slots.
    pub fn agents(&self) -> (usize, u32) {
        let connected = self.gate.snapshot().0.agents.into_iter().filter(|agent| agent.is_connected);
        connected.fold((0, 0), |(count, slots), agent| (count + 1, slots + agent.slots_total))
    }

    /// Begins an agent's stream.
    pub async fn stream(&self, id: &str) -> Stream {
        self.stream_with(id, "").await
    }

    /// Begins a body of another kind.
    pub async fn stream_to(&self, path: &str) -> Stream {
        self.stream_at(path, "").await
    }

    pub async fn stream_with(&self, id: &str, headers: &str) -> Stream {
        self.stream_at(&format!("/status_update/{id}"), headers).await
    }

    async fn stream_at(&self, path: &str, headers: &str) -> Stream {
        let mut stream = self.connect().await;
        if let Either::Left(socket) = &stream.0 {
            // What is sent must be read by the server, rather than lie in the kernel.
            SockRef::from(socket).set_send_buffer_size(PIPE_BYTES).unwrap();
        }
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n{headers}\r\n",
            self.address
        );
        stream.write(&head).await;
        stream
    }

    /// Asks on a connection of its own, for what may not end by itself.
    pub async fn begin(&self, path: &str, headers: &str) -> Stream {
        let mut stream = self.connect().await;
        let host = self.address;
        stream.write(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await;
        stream
    }

    /// Sends a form as a page of this address does.
    pub async fn form(&self, path: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect().await;
        let host = self.address;
        stream
            .write(&format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n{headers}\r\n{body}",
                body.len()
            ))
            .await;
        stream.answer().await
    }

    /// One request on a connection of its own; the whole answer.
    pub async fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = self.connect().await;
        let host = self.address;
        stream
            .write(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"))
            .await;
        stream.answer().await
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.ask("GET", path, "").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(head.contains("content-type: application/json\r\n"), "{answer}");
        serde_json::from_str(body).unwrap()
    }
}

/// A connection, byte by byte.
pub(crate) struct Stream(pub Either<TcpStream, DuplexStream>);

impl Stream {
    pub async fn write(&mut self, text: &str) {
        soon(self.0.write_all(text.as_bytes())).await.unwrap();
    }

    /// Sends `text` as one chunk.
    pub async fn chunk(&mut self, text: &str) {
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// What comes until the connection ends without an error.
    pub async fn answer(&mut self) -> String {
        let mut answer = String::new();
        soon(self.0.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}
