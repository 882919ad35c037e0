//! The management address: agents report here, and people and programs ask how it goes.
//!
//! It owns its accept loop, because axum's has no time limit for a request's head.

mod address;
mod api;
mod auth;
mod complaints;
mod events;
#[cfg(test)]
pub(crate) mod fixture;
mod ingest;
mod page;
mod refusal;
mod session;
#[cfg(test)]
mod tests;
mod token;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::core::PoolId;
use crate::dashboard::{Clients, LastHour};
use crate::gate::Gate;
use crate::metrics::cloudwatch::Puts;

use complaints::Complaints;
use events::Feed;
pub use token::Token;

/// Connections at once; more wait to be accepted. Each agent has one.
const CONNECTIONS_MAX: usize = 4096;

/// To send a request's head, and the longest that an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read ahead of a connection, its head included, in bytes.
const READ_BUFFER_MAX: usize = 64 * 1024;

/// After a failure to accept, for want of file descriptors for example, there is a pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A silent peer is asked for a sign of life after this time, and again at this pace.
const TCP_KEEPALIVE: Duration = Duration::from_secs(5);

/// So many unanswered signs mean that the peer is gone.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// Sent bytes that are not acknowledged for so long mean the same.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the kernel takes of an answer beyond what it can send now, in bytes: who does not read what is streamed to them
/// finds this much of it later, and not the kernel's megabytes.
#[cfg(target_os = "linux")]
const UNSENT_MAX: u32 = 16 * 1024;

/// At the end, to finish the answers that are under way.
const END_GRACE: Duration = Duration::from_secs(3);

/// What the management address runs on.
#[derive(Debug, Clone)]
pub struct ManagementConfig {
    /// What everybody must present; without it the address is open.
    pub token: Option<Token>,
    /// Networks that agents may name beside their own address.
    pub agent_addr_allow: Vec<IpNet>,
    /// Where the gateway itself listens, this address included: no agent may name it.
    pub own: Vec<SocketAddr>,
    /// Where clients call.
    pub clients: Clients,
    /// The pool that agents serve.
    pub pool: PoolId,
    /// What people call the groups of its fleet, in their order.
    pub groups: Vec<Arc<str>>,
    /// Whether people are served a page.
    pub has_page: bool,
    /// How publishing to CloudWatch goes, if it is on.
    pub cloudwatch: Option<Arc<Puts>>,
}

/// What the handlers share.
struct Shared {
    config: ManagementConfig,
    gate: Gate,
    clock: Clock,
    cancel: CancellationToken,
    complaints: Complaints,
    feed: Feed,
    last_hour: LastHour,
}

impl Shared {
    fn new(config: ManagementConfig, gate: Gate, clock: Clock, cancel: CancellationToken) -> Self {
        Self {
            config,
            gate,
            clock,
            cancel,
            complaints: Complaints::default(),
            feed: Feed::default(),
            last_hour: LastHour::default(),
        }
    }
}

/// The two ends of a connection, in their canonical form: `::ffff:10.0.0.1` is 10.0.0.1.
#[derive(Debug, Clone, Copy)]
struct Ends {
    peer: IpAddr,
    local: IpAddr,
}

/// Serves until cancelled. Then agents' streams are closed, other answers have a moment to finish, and it returns.
pub async fn serve(
    listener: TcpListener,
    config: ManagementConfig,
    gate: Gate,
    clock: Clock,
    cancel: CancellationToken,
) {
    let shared = Arc::new(Shared::new(config, gate, clock, cancel.clone()));
    let router = router(shared.clone());
    tokio::join!(accept(listener, router, cancel), keep_informed(shared));
}

/// What those who watch are told comes from here, until cancelled.
async fn keep_informed(shared: Arc<Shared>) {
    let watching = shared.last_hour.watch(&shared.gate, shared.clock);
    let watching = async {
        let _: Option<()> = shared.cancel.run_until_cancelled(watching).await;
    };
    tokio::join!(events::produce(shared.clone()), watching);
}

async fn accept(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, router.clone(), cancel.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a management connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(END_GRACE, finish).await.is_err() {
        debug!(connections = connections.len(), "management connections are cut");
    }
    connections.shutdown().await;
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(api::health))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/agents", get(api::agents))
        .route("/api/v1/state", get(api::state))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/timeline", get(api::timeline))
        .route("/", get(page::root))
        .route("/dashboard", get(page::page))
        .route("/dashboard/{file}", get(page::file))
        .route("/dashboard/login", post(page::log_in))
        .route("/dashboard/logout", post(page::log_out))
        .route("/status_update/{agent_id}", post(ingest::status_update))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(from_fn_with_state(shared.clone(), auth::admit))
        .with_state(shared)
}

/// One connection, to its end.
async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, cancel: CancellationToken) {
    let local = match set_up(&stream).and_then(|()| stream.local_addr()) {
        Ok(local) => local,
        Err(error) => return debug!(%peer, %error, "a management connection ended before it began"),
    };
    let ends = Ends { peer: peer.ip().to_canonical(), local: local.ip().to_canonical() };
    if let Err(error) = exchange(stream, ends, router, cancel).await {
        debug!(%peer, %error, "a management connection broke");
    }
}

/// What is asked and answered on it.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ends: Ends,
    router: Router,
    cancel: CancellationToken,
) -> hyper::Result<()> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ends);
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(READ_BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        end = &mut serving => end,
        () = cancel.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

/// A machine that vanishes sends nothing more, not even an end: without this its agent would look merely silent, and
/// its connection would stay for ever. And little is to wait in the kernel for one that does not read.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE)
        .with_retries(TCP_KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    }
    Ok(())
}
