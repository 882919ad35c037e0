//! A llama.cpp that computes nothing, does what each request tells it to, and keeps account of it.
//!
//! It has slots as the real one has: a request that comes while all are taken waits for one. That it came is
//! what `overcommit` counts. What a request can ask for is in [`Behaviour`], as the field `fake` of its body.

mod answer;
mod behaviour;
mod connection;
mod ledger;
mod service;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use behaviour::Behaviour;
use ledger::Ledger;
pub use ledger::{Seen, Stats};

/// llama.cpp's HTTP library closes a connection on which nothing came for this long.
const IDLE_CLOSE: Duration = Duration::from_secs(5);

/// How a fake server is.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Requests served at once.
    pub slots: usize,
    /// What clients must present, except at `/health`.
    pub api_key: Option<String>,
    /// Whether `/slots` answers 501.
    pub is_slots_endpoint_disabled: bool,
    /// After which time without a request a connection is closed.
    pub idle_close: Duration,
    /// What a request without a `fake` field gets.
    pub behaviour: Behaviour,
    /// Whether every byte that comes is kept, for [`FakeLlama::raw`].
    pub keeps_raw: bool,
    /// The model that it says it serves.
    pub model: String,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            slots: 4,
            api_key: None,
            is_slots_endpoint_disabled: false,
            idle_close: IDLE_CLOSE,
            behaviour: Behaviour::default(),
            keeps_raw: false,
            model: "fake".to_owned(),
        }
    }
}

/// What connections and requests share, over restarts too.
#[derive(Debug)]
struct Shared {
    config: FakeConfig,
    ledger: Arc<Ledger>,
    is_loading: AtomicBool,
    is_stale: AtomicBool,
    foreign: AtomicU8,
    released: watch::Sender<BTreeSet<String>>,
    /// Counts the calls of [`FakeLlama::close_idle_now`].
    idle_closings: watch::Sender<u64>,
    raw: Mutex<Vec<Vec<u8>>>,
}

/// A running fake server. Dropping it stops it.
#[derive(Debug)]
pub struct FakeLlama {
    addr: SocketAddr,
    shared: Arc<Shared>,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl FakeLlama {
    /// Listens on a free port of loopback.
    pub async fn start(config: FakeConfig) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), config).await
    }

    /// The same on a given address.
    pub async fn start_on(addr: SocketAddr, config: FakeConfig) -> Self {
        let shared = Arc::new(Shared {
            ledger: Arc::new(Ledger::new(config.slots)),
            config,
            is_loading: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            foreign: AtomicU8::new(0),
            released: watch::Sender::new(BTreeSet::new()),
            idle_closings: watch::Sender::new(0),
            raw: Mutex::default(),
        });
        let listener = TcpListener::bind(addr).await.unwrap();
        let mut fake = Self { addr: listener.local_addr().unwrap(), shared, running: None };
        fake.run(listener);
        fake
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The account so far.
    pub fn stats(&self) -> Stats {
        self.shared.ledger.stats()
    }

    /// The requests that came, oldest first: all up to [`ledger::SEEN_MAX`].
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.ledger.seen()
    }

    /// The bytes that came over each connection, in the order of the connections.
    pub fn raw(&self) -> Vec<Vec<u8>> {
        assert!(self.shared.config.keeps_raw, "this fake was not told to keep what comes");
        self.shared.raw.lock().unwrap().clone()
    }

    /// While loading, everything is answered `503 Loading model`.
    pub fn set_loading(&self, is_loading: bool) {
        self.shared.is_loading.store(is_loading, Ordering::SeqCst);
    }

    /// While stale, a connection that served a request before is closed at the next one, without a byte: what
    /// a client meets that reuses a connection in the moment in which llama.cpp gives it up.
    pub fn set_stale(&self, is_stale: bool) {
        self.shared.is_stale.store(is_stale, Ordering::SeqCst);
    }

    /// Slots that others keep busy, as `/slots` shows them.
    pub fn set_foreign(&self, slots: u8) {
        self.shared.foreign.store(slots, Ordering::SeqCst);
    }

    /// Lets the requests go on that hold for `name`, those to come too.
    pub fn release(&self, name: &str) {
        self.shared.released.send_modify(|names| {
            names.insert(name.to_owned());
        });
    }

    /// Closes the connections that wait for a request.
    pub fn close_idle_now(&self) {
        self.shared.idle_closings.send_modify(|count| *count += 1);
    }

    /// Begins to end as [`FakeLlama::stop`] does, without waiting for it.
    pub fn kill(&self) {
        if let Some((stop, _)) = &self.running {
            stop.cancel();
        }
    }

    /// Ends as a killed process does: no listener, every connection cut. Returns when it is so.
    pub async fn stop(&mut self) {
        if let Some((stop, accepting)) = self.running.take() {
            stop.cancel();
            accepting.await.unwrap();
        }
    }

    /// Comes back on the same address, with the account and the settings that it had.
    pub async fn restart_same_port(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.run(listener);
    }

    fn run(&mut self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&self.shared), stop.clone()));
        self.running = Some((stop, accepting));
    }
}

impl Drop for FakeLlama {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(connection::serve(stream, Arc::clone(&shared)));
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}
