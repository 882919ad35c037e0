//! The data path: one current-thread runtime for each core, each with its own listener and its own upstream
//! connections. They meet in the gate.
//!
//! The way of a request, by file: `connection` (the head arrives) → `service` (the order of the steps) → `strict` (is it
//! clear) → `classify` → `hold` (the body, within its budgets) → the gate → `forward` (attempts) → `answer` (the body back, and the end of
//! the lease). `account` counts and logs what becomes of it, in the `trace` that it is a part of. `error` is the one mapping to status and body.

mod account;
mod answer;
pub mod classify;
mod connection;
mod deadline;
mod error;
mod forward;
mod gather;
mod headers;
mod hold;
mod keepalive;
mod keys;
mod known;
mod limits;
mod room;
mod service;
pub mod sse;
mod strict;
mod tls;
mod trace;
mod turns;
mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::core::PoolId;
use crate::gate::Gate;

pub use self::keys::{KeyNameError, Keys, KeysFileError, NewKey, key_name};
pub use self::limits::Limits;
pub use self::tls::{Tls, TlsError};
pub use self::turns::Turns;

use self::connection::{LOOK_INTERVAL, Roll};
pub use self::keepalive::KeepaliveConfig;
use self::room::Place;
use self::service::{Service, Shared};

/// Connections that wait to be accepted, for each listener: what Linux allows by default.
const BACKLOG: i32 = 4096;
/// The pause after a failed accept, and without room: connections end, and give back descriptors and places.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the data path runs on.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Threads that serve clients.
    pub worker_threads: usize,
    /// The pool that everything goes to.
    pub pool: PoolId,
    /// What clients and servers may take of it.
    pub limits: Limits,
    /// Networks of proxies before this one, whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the `Host` header names the server that is asked, instead of what the client asked for.
    pub rewrites_host: bool,
    /// Whether llama.cpp's `/slots` is open to clients.
    pub serves_slots_endpoint: bool,
    /// Replaces the client's key.
    pub llamacpp_api_key: Option<String>,
    /// The certificate that clients are shown; without it they speak plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Clients' keys; without them everybody may call, and a client's own key is passed on.
    pub keys: Option<Arc<Keys>>,
    /// What clients that wait are sent.
    pub keepalive: KeepaliveConfig,
    /// Whether each request is logged once it has ended.
    pub logs_access: bool,
    /// Whether the listeners are a socket that outlives this process: then what waits to be accepted when a drain
    /// begins is its successor's.
    pub is_listener_shared: bool,
}

/// One listener for each worker, all on the same address and port.
///
/// # Errors
/// The address cannot be had. Another process on it is found too, which `SO_REUSEPORT` alone would hide.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let probe = listener(address, false)?;
    let address = SocketAddr::new(address.ip(), probe.local_addr()?.port());
    drop(probe);
    join(address, workers)
}

/// The same beside another process of this user that listens there by [`bind`]: from now on each has its part of the
/// new connections.
///
/// # Errors
/// The address cannot be had.
pub fn join(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let first = listener(address, true)?;
    let address = first.local_addr()?;
    let others = (1..workers).map(|_| listener(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// One listener for each worker, all of them the same socket: who accepts first has the connection.
///
/// # Errors
/// File descriptors have run out.
pub fn share(socket: &TcpListener, workers: usize) -> io::Result<Vec<TcpListener>> {
    socket.set_nonblocking(true)?;
    (0..workers.max(1)).map(|_| socket.try_clone()).collect()
}

fn listener(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the last process to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The running data path.
#[derive(Debug)]
pub struct Proxy {
    ends: Vec<oneshot::Receiver<()>>,
    turns: Arc<Turns>,
}

impl Proxy {
    /// Starts a worker thread for each listener. Once `cancel` is cancelled they accept nothing more, and end when
    /// their connections have.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(
        config: ProxyConfig,
        listeners: Vec<TcpListener>,
        gate: Gate,
        clock: Clock,
        cancel: CancellationToken,
    ) -> io::Result<Self> {
        let is_shared = config.is_listener_shared;
        let shared = Arc::new(Shared::new(config, &gate));
        let turns = Arc::new(Turns::new(clock, listeners.len()));
        let mut ends = Vec::with_capacity(listeners.len());
        for (number, listener) in listeners.into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            let (shared, gate, cancel) = (shared.clone(), gate.clone(), cancel.clone());
            let turns = turns.clone();
            std::thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
                // Made on its thread, which it never leaves.
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return tracing::error!(%error, "a proxy thread has no runtime"),
                };
                runtime.block_on(async {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => {
                            let service = Service::new(shared, gate, clock);
                            work(listener, is_shared, service, (turns.clone(), number), cancel).await;
                            turns.ended(number);
                        }
                        Err(error) => tracing::error!(%error, "a proxy thread cannot use its listener"),
                    }
                });
                // Nobody waits for it when the process is killed rather than drained.
                let _ = ended.send(());
            })?;
            ends.push(end);
        }
        Ok(Self { ends, turns })
    }

    /// When its workers last came round.
    #[must_use]
    pub fn turns(&self) -> Arc<Turns> {
        self.turns.clone()
    }

    /// Returns once every worker has ended.
    pub async fn drained(self) {
        for end in self.ends {
            // A worker that panicked has ended as well.
            let _ = end.await;
        }
    }
}

async fn work(
    listener: tokio::net::TcpListener,
    is_listener_shared: bool,
    service: Rc<Service>,
    (turns, number): (Arc<Turns>, usize),
    cancel: CancellationToken,
) {
    let roll = Roll::new(service.clock());
    let mut connections = JoinSet::new();
    let upkeep = tokio::task::spawn_local(service.keep_up());
    let (looked_at, limits) = (roll.clone(), *service.limits());
    let looking = tokio::task::spawn_local(async move { look(looked_at, limits, &turns, number).await });
    let serve = |connections: &mut JoinSet<()>, (stream, peer, place): Accepted| {
        let (service, enrolled) = (service.clone(), roll.enrol());
        connections.spawn_local(async move {
            let caller = service.caller(peer, place.is_over);
            connection::serve(stream, caller, service, enrolled).await;
            drop(place);
        });
    };
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &service) => accepted,
            // What has ended is let go of at once, with its memory.
            Some(_) = connections.join_next() => continue,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => serve(&mut connections, accepted),
            Err(error) => {
                tracing::warn!(%error, "a client's connection cannot be accepted; raise the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let rest = if is_listener_shared { leave(listener) } else { accept_rest(listener, &service) };
    roll.drain();
    rest.into_iter().for_each(|accepted| serve(&mut connections, accepted));
    let grace = service.limits().shutdown_grace;
    let drain = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, drain).await.is_err() {
        tracing::warn!(grace_seconds = grace.as_secs(), "answers are cut: the shutdown grace is over");
    }
    upkeep.abort();
    looking.abort();
}

/// Keeps connections to their time limits, for ever.
async fn look(roll: Rc<Roll>, limits: Limits, turns: &Turns, worker: usize) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        interval.tick().await;
        roll.look(&limits);
        turns.made(worker);
    }
}

type Accepted = (tokio::net::TcpStream, SocketAddr, Place);

async fn accept(listener: &tokio::net::TcpListener, service: &Service) -> io::Result<Accepted> {
    // Without room clients wait in the backlog.
    while service.room().is_full() {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, service.room().enter(peer.ip())))
}

/// Nothing is accepted any more: what waits is the successor's.
fn leave(listener: tokio::net::TcpListener) -> Vec<Accepted> {
    drop(listener);
    Vec::new()
}

/// What is established already, and would be reset with the listener's end. The listener is closed as soon as nothing
/// more is there.
fn accept_rest(listener: tokio::net::TcpListener, service: &Service) -> Vec<Accepted> {
    // tokio would wait until it is told that there is something.
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut rest = Vec::new();
    while !service.room().is_full()
        && let Ok((stream, peer)) = listener.accept()
    {
        let stream = stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
        rest.extend(stream.map(|stream| (stream, peer, service.room().enter(peer.ip()))));
    }
    rest
}
