//! Connections to the servers: one worker's own, kept alive for a moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Limits;
use super::account::Meter;
use super::connection::notice_vanished;
use super::gather::Gather;
use crate::core::{AgentKey, Mono};
use crate::gate::{Gate, Upstream};

/// How long an idle connection is kept. llama.cpp closes its own after 5 s, and a request must not meet that moment.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// Idle connections to one server, for each worker.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How often idle connections are looked through.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A connection to a server, good for one request at a time. Dropping it closes it, which is how llama.cpp learns that
/// nobody waits for its answer.
///
/// It has no task: whoever waits for its answer drives it. What it hands over is looked at after each step of it, so the
/// ends that receive need no waker of their own.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    /// Whether a request went over it before.
    is_reused: bool,
    idle_since: Mono,
}

impl Connection {
    /// Makes a connection.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn open(upstream: &Upstream, connect_max: Duration) -> Result<Self, Arc<str>> {
        let address = upstream.address;
        let failed = |why: String| Arc::from(format!("{address} cannot be reached: {why}"));
        let stream = tokio::time::timeout(connect_max, TcpStream::connect(address))
            .await
            .map_err(|_| failed(format!("no answer within {} s", connect_max.as_secs_f32())))?
            .map_err(|error| failed(error.to_string()))?;
        notice_vanished(&stream);
        let (sender, driver) = http1::handshake(TokioIo::new(Gather(stream)))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let driver = Driver::Running(Box::new(driver));
        Ok(Self { sender, driver, is_reused: false, idle_since: Mono::default() })
    }

    /// Hands a request over. [`poll_head`](Self::poll_head) sends it.
    pub(super) fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<http::Response<Incoming>>> + use<> {
        self.sender.send_request(request)
    }

    /// One step towards the head of the answer to what was handed over.
    pub(super) fn poll_head<F: Future>(
        &mut self,
        answer: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.driver.step(context);
        answer.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The next part of the answer.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut unheard = Context::from_waker(Waker::noop());
        // Asking makes room for the next part.
        if let ready @ Poll::Ready(_) = Pin::new(&mut *incoming).poll_frame(&mut unheard) {
            return ready;
        }
        self.driver.step(context);
        Pin::new(incoming).poll_frame(&mut unheard)
    }

    /// After an error: whether the server had not said a word since the answer before. llama.cpp closes idle connections.
    pub(super) fn was_stale(self) -> bool {
        self.is_reused && matches!(self.driver, Driver::Ended { is_within_answer: false })
    }

    /// Whether it is good for another request.
    fn is_ready(&mut self) -> bool {
        self.driver.step(&mut Context::from_waker(Waker::noop()));
        matches!(self.driver, Driver::Running(_)) && self.sender.is_ready()
    }

    /// The whole answer, if it is not longer than `bytes_max`.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn read(&mut self, mut incoming: Incoming, bytes_max: usize) -> Result<Bytes, String> {
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|context| self.poll_frame(&mut incoming, context)).await {
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            if whole.len() + data.len() > bytes_max {
                return Err(format!("its answer is longer than {bytes_max} bytes"));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }
}

/// What reads and writes.
#[derive(Debug)]
enum Driver {
    /// Boxed, because requests that wait for a slot must not carry the room for it.
    Running(Box<http1::Connection<TokioIo<Gather<TcpStream>>, Full<Bytes>>>),
    Ended {
        /// Bytes had come that were not the whole head of an answer.
        is_within_answer: bool,
    },
}

impl Driver {
    /// One step. What it ends with is the error of the request on it, which learns of it when the driver is dropped.
    fn step(&mut self, context: &mut Context<'_>) {
        let Self::Running(running) = self else { return };
        if running.poll_without_shutdown(context).is_pending() {
            return;
        }
        if let Self::Running(ended) = std::mem::replace(self, Self::Ended { is_within_answer: false }) {
            *self = Self::Ended { is_within_answer: !ended.into_parts().read_buf.is_empty() };
        }
    }
}

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) meter: Rc<Meter>,
    pub(super) limits: Limits,
    idle: RefCell<BTreeMap<AgentKey, Vec<Connection>>>,
}

impl Connections {
    pub(super) fn new(meter: Rc<Meter>, limits: Limits) -> Rc<Self> {
        Rc::new(Self { meter, limits, idle: RefCell::default() })
    }

    /// The connection that was used last, if one is still good.
    pub(super) fn take(&self, agent: AgentKey) -> Option<Connection> {
        let now = self.meter.clock.mono();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&agent)?;
        while let Some(mut connection) = kept.pop() {
            if now.since(connection.idle_since) < IDLE_MAX && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end. One that still sends its request, because its server
    /// answered without reading it, or that its server closes, is not kept.
    pub(super) fn put(&self, agent: AgentKey, mut connection: Connection) {
        if !connection.is_ready() {
            return;
        }
        connection.is_reused = true;
        connection.idle_since = self.meter.clock.mono();
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
        let now = self.meter.clock.mono();
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain_mut(|connection| {
                now.since(connection.idle_since) < IDLE_MAX && connection.is_ready()
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
