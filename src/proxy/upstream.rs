//! Connections to the servers: one worker's own, kept alive for a moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::connection::notice_vanished;
use crate::clock::Clock;
use crate::core::{AgentKey, Mono};
use crate::gate::{Gate, Upstream};

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long an idle connection is kept. llama.cpp closes its own after 5 s, and a request must not meet that moment.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// Idle connections to one server, for each worker.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long a kept connection may take to be good for another request. Its task needs one turn; one that still sends the
/// request before, because its server answered without reading it, may never be done.
const READY_MAX: Duration = Duration::from_millis(50);
/// How often idle connections are looked through.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A connection to a server, good for one request at a time. Dropping it closes it, which is how llama.cpp learns that
/// nobody waits for its answer.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Returns whether it ended within the head of an answer.
    task: JoinHandle<bool>,
    /// Whether a request went over it before.
    pub(super) is_reused: bool,
    idle_since: Mono,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Makes a connection.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn open(upstream: &Upstream) -> Result<Self, Arc<str>> {
        let address = upstream.address;
        let failed = |why: String| Arc::from(format!("{address} cannot be reached: {why}"));
        let stream = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address))
            .await
            .map_err(|_| failed(format!("no answer within {} s", CONNECT_MAX.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        notice_vanished(&stream);
        let (sender, mut connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        let task = tokio::task::spawn_local(async move {
            // Its error is the error of the request on it.
            let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
            !connection.into_parts().read_buf.is_empty()
        });
        Ok(Self { sender, task, is_reused: false, idle_since: Mono::default() })
    }

    pub(super) async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        self.sender.send_request(request).await
    }

    /// After an error: whether the server had not said a word since the answer before. llama.cpp closes idle connections.
    pub(super) async fn was_stale(mut self) -> bool {
        let ended = tokio::time::timeout(READY_MAX, &mut self.task).await;
        self.is_reused && matches!(ended, Ok(Ok(false)))
    }
}

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Connections {
    clock: Clock,
    idle: RefCell<BTreeMap<AgentKey, Vec<Connection>>>,
}

impl Connections {
    pub(super) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self { clock, idle: RefCell::default() })
    }

    /// The connection that was used last, if one is still good.
    pub(super) async fn take(&self, agent: AgentKey) -> Option<Connection> {
        let now = self.clock.mono();
        loop {
            let mut connection = self.idle.borrow_mut().get_mut(&agent)?.pop()?;
            if now.since(connection.idle_since) >= IDLE_MAX {
                continue;
            }
            if let Ok(Ok(())) = tokio::time::timeout(READY_MAX, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, agent: AgentKey, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.is_reused = true;
        connection.idle_since = self.clock.mono();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(agent).or_default();
        if kept.len() < IDLE_CONNECTIONS_MAX {
            kept.push(connection);
        }
    }

    fn forget(&self, agent: AgentKey) {
        self.idle.borrow_mut().remove(&agent);
    }

    fn drop_old(&self) {
        let now = self.clock.mono();
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|connection| {
                now.since(connection.idle_since) < IDLE_MAX && !connection.sender.is_closed()
            });
            !kept.is_empty()
        });
    }
}

/// Drops connections that are idle for long, and at once those to an agent that is gone. Runs for ever.
pub(super) async fn keep_up(connections: Rc<Connections>, gate: Gate) {
    let mut forgotten = gate.forgotten_agents();
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => connections.drop_old(),
            agent = forgotten.recv() => match agent {
                Some(agent) => connections.forget(agent),
                None => return,
            },
        }
    }
}
