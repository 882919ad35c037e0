//! `paddock balancer`: wires its parts, and owns the order in which they start and end.
//!
//! Start: listeners (a port in use stops all before anything ran), gate, timer, fleet, scaler, management, metrics,
//! and clients last.
//!
//! End, on SIGTERM or SIGINT:
//! 1. The clients' listeners are closed, after what waits to be accepted there was accepted, unless they are inherited.
//! 2. The core plans nothing more (but that ends which a fleet holds are held on, while something is served there), and
//!    requests that wait are answered.
//! 3. Management ends: its listener is closed, and so are the agents' streams, so that they register with the successor.
//! 4. Answers that have begun may finish. The ledger is kept meanwhile.
//! 5. All other tasks end, then the children.
//!
//! A second signal ends at once, and kills the children.

mod listen;
mod summary;

use std::future::pending;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{BalancerConfig, FleetConfig, POOL, Secret};
use crate::core::Event;
use crate::dashboard::Clients;
use crate::fleet::{AsgError, AsgFleet, Fleet, ProcessConfig, ProcessFleet, TERMINATE_GRACE};
use crate::gate::Gate;
use crate::ledger::{self, Keeper, LedgerError};
use crate::management::{self, ManagementConfig, Token};
use crate::metrics::cloudwatch::{self, Puts};
use crate::metrics::statsd::{self, StatsdConfig, StatsdError};
use crate::notify;
use crate::proxy::Proxy;
use crate::scaler;
use crate::signals::{EndSignal, EndSignals};
use crate::supervise::{Ended, Supervisor};

pub use listen::ListenError;

/// How often each child is looked at: as often as an agent does by default.
const CHILD_INTERVAL: Duration = Duration::from_secs(1);

/// Beyond `--shutdown-grace`, by which the data path ends by itself: then it hangs, and is left.
const DRAIN_SLACK: Duration = Duration::from_secs(5);

/// For tasks that only have to notice that they are over.
const TASKS_GRACE: Duration = Duration::from_secs(5);

/// For all children together: after the grace of each they are killed, which the kernel may delay.
const FLEET_GRACE: Duration = TERMINATE_GRACE.saturating_mul(2);

/// Becomes the own program again, even if its file was replaced since (`proc(5)`).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// How the balancer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a signal, and all that it held was answered or given its time.
    Drained,
    /// By a second signal while it drained.
    Forced(EndSignal),
}

/// Why the balancer did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// StatsD cannot be sent to.
    #[error(transparent)]
    Statsd(#[from] StatsdError),
    /// The ledger cannot be kept.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The Auto Scaling groups are not what they should be.
    #[error(transparent)]
    Asg(#[from] AsgError),
    /// The threads that serve clients did not start.
    #[error("cannot start the threads that serve clients: {0}; look at the limits of threads and memory")]
    Threads(std::io::Error),
    /// A part of it ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Runs the balancer until a signal ends it.
///
/// # Errors
/// If it cannot start; or if one of its parts ended that should not have, after what could be drained was drained.
pub async fn run(
    mut config: BalancerConfig,
    clock: Clock,
    signals: &mut EndSignals,
) -> Result<End, BalancerError> {
    raise_open_files();
    let listeners = listen::bind(&mut config)?;
    let (proxy_addr, management_addr) = (listeners.proxy_addr, listeners.management_addr);
    let summary = summary::of(&config, proxy_addr, management_addr);
    let statsd =
        config.statsd.map(|config| statsd::connect(&config).map(|first| (config, first))).transpose()?;

    let (store, kept) = match &config.state_dir {
        Some(dir) => {
            let (store, kept) = ledger::open(dir, kept_groups(&config.fleet), clock)?;
            (Some(store), kept)
        }
        None => (None, None),
    };
    let has_ledger = store.is_some() || !config.pool.prices.is_empty();

    let gate = Gate::new(config.core, [(POOL, config.pool)].into(), clock);
    let mut tasks = Supervisor::new(clock);
    let token = tasks.token();
    let timer = gate.clone();
    tasks.essential("timer", until(token.clone(), async move { timer.run_timer().await }));
    let fleet = Arc::new(start_fleet(config.fleet, clock, &gate, &mut tasks).await?);
    if has_ledger && let Some(telling) = ledger::restore(&gate, fleet.clone(), POOL, kept, clock).await {
        let telling = async { (telling.await, pending::<()>().await).1 };
        tasks.essential("history", until(token.clone(), telling));
    }
    let keeper = store.map(|store| Keeper::new(store, gate.clone(), POOL, clock));
    let stop_keeping = token.child_token();
    if let Some(keeper) = keeper.clone() {
        tasks.essential("ledger", until(stop_keeping.clone(), keeper.run()));
    }
    tasks.essential("scaler", scaler::run(gate.clone(), fleet.clone(), clock, token.clone()));
    let puts = config.cloudwatch_namespace.is_some().then(Arc::<Puts>::default);
    let management = ManagementConfig {
        token: config.management_token.map(|token| Token::new(token.into_exposed())),
        agent_addr_allow: config.agent_addr_allow,
        own: vec![proxy_addr, management_addr],
        clients: Clients { address: proxy_addr, is_tls: config.proxy.tls.is_some() },
        pool: POOL,
        groups: fleet.group_names(),
        has_page: config.has_page,
        cloudwatch: puts.clone(),
    };
    let stop_management = token.child_token();
    tasks.essential(
        "management",
        management::serve(listeners.management, management, gate.clone(), clock, stop_management.clone()),
    );
    if let Some((config, first)) = statsd {
        start_statsd(config, first, &gate, &mut tasks);
    }
    if let (Some(namespace), Some(puts)) = (config.cloudwatch_namespace, puts) {
        start_cloudwatch(namespace, puts, &gate, clock, &mut tasks);
    }
    if let Some(keys) = config.proxy.keys.clone() {
        tasks.essential("keys", until(token.clone(), async move { keys.follow().await }));
    }
    if let Some(tls) = config.proxy.tls.clone() {
        tasks.essential("tls", until(token.clone(), async move { tls.follow(clock).await }));
    }
    let grace = config.proxy.limits.shutdown_grace;
    let stop_clients = CancellationToken::new();
    let proxy = Proxy::start(config.proxy, listeners.proxy, gate.clone(), clock, stop_clients.clone());
    let proxy = proxy.map_err(BalancerError::Threads)?;
    let (lock, turns) = (gate.clone(), proxy.turns());
    // Aborted at the end of all, not at that of the tasks: a drain that hangs is to be seen as well.
    let mut signs = JoinSet::new();
    signs.spawn(notify::keep(move || match (lock.is_free(), turns.are_recent()) {
        (false, _) => Err("the gate's lock is held"),
        (true, false) => Err("a thread that serves clients hangs"),
        (true, true) => Ok(()),
    }));
    for line in summary {
        tracing::info!("{line}");
    }

    let mut drained = pin!(proxy.drained());
    let failure = tokio::select! {
        signal = signals.next() => {
            tracing::info!(%signal, "draining; a second signal ends at once");
            None
        }
        ended = tasks.failed() => Some(ended),
        () = &mut drained => Some(Ended { name: "proxy", how: "ended".to_owned() }),
    };
    if let Some(ended) = &failure {
        tracing::error!("{ended}; draining");
    }
    notify::stopping();
    // Before the answers that the shutdown brings, which say that they are the last of their connection.
    stop_clients.cancel();
    gate.handle(Event::ShutdownBegan);
    stop_keeping.cancel();
    stop_management.cancel();
    let has_clients = failure.as_ref().is_none_or(|ended| ended.name != "proxy");
    let drained = has_clients.then_some(drained);
    tokio::select! {
        _ = async { tokio::join!(keep(keeper.as_ref()), drain(drained, grace, tasks, &fleet)) } => {}
        signal = signals.next() => {
            tracing::warn!(%signal, "ending at once");
            return Ok(End::Forced(signal));
        }
    }
    if matches!(*fleet, Fleet::Process(_)) {
        keep(keeper.as_ref()).await;
    }
    match failure {
        None => Ok(End::Drained),
        Some(ended) => Err(ended.into()),
    }
}

/// What the groups are called in the ledger's file. A command has no name, and need not: there is one.
fn kept_groups(fleet: &FleetConfig) -> Vec<Arc<str>> {
    match fleet {
        FleetConfig::None => Vec::new(),
        FleetConfig::Process { .. } => vec!["process".into()],
        FleetConfig::Asg(asg) => asg.groups.iter().map(|name| name.as_str().into()).collect(),
    }
}

async fn keep(keeper: Option<&Keeper>) {
    if let Some(keeper) = keeper {
        keeper.keep().await;
    }
}

/// Ends what is left, in order.
async fn drain(
    clients: Option<Pin<&mut impl Future<Output = ()>>>,
    grace: Duration,
    tasks: Supervisor,
    fleet: &Fleet,
) {
    if let Some(clients) = clients
        && timeout(grace + DRAIN_SLACK, clients).await.is_err()
    {
        tracing::warn!(?grace, "answers did not end within the grace: they are cut");
    }
    tasks.stop(TASKS_GRACE).await;
    if timeout(FLEET_GRACE, fleet.shutdown()).await.is_err() {
        tracing::warn!(grace = ?FLEET_GRACE, "servers did not end within their grace: they are left to the kernel");
    }
    tracing::info!("drained");
}

async fn start_fleet(
    config: FleetConfig,
    clock: Clock,
    gate: &Gate,
    tasks: &mut Supervisor,
) -> Result<Fleet, AsgError> {
    Ok(match config {
        FleetConfig::None => Fleet::None,
        FleetConfig::Asg(config) => {
            let (sender, news) = mpsc::unbounded_channel();
            let fleet = AsgFleet::start(config, clock, sender, gate.instruments().aws_calls.clone()).await?;
            let forwarding = scaler::forward_news(news, POOL, gate.clone());
            tasks.essential("news", until(tasks.token(), forwarding));
            Fleet::Asg(fleet)
        }
        FleetConfig::Process { command, api_key } => {
            let (sender, news) = mpsc::unbounded_channel();
            let config = ProcessConfig {
                command,
                interval: CHILD_INTERVAL,
                api_key: api_key.map(Secret::into_exposed),
                name: None,
                guard: PathBuf::from(OWN_PROGRAM),
                grace: TERMINATE_GRACE,
            };
            let fleet = ProcessFleet::start(config, clock, sender);
            let forwarding = scaler::forward_news(news, POOL, gate.clone());
            tasks.essential("news", until(tasks.token(), forwarding));
            Fleet::Process(fleet)
        }
    })
}

/// Metrics are no reason to end: if they fail, they begin again.
fn start_statsd(config: StatsdConfig, first: statsd::Statsd, gate: &Gate, tasks: &mut Supervisor) {
    let (gate, token) = (gate.clone(), tasks.token());
    let mut first = Some(first);
    tasks.restarting("statsd", move || {
        let statsd = first.take().map_or_else(|| statsd::connect(&config), Ok);
        let (gate, token) = (gate.clone(), token.clone());
        async move {
            match statsd {
                Ok(statsd) => statsd::run(statsd, gate, token).await,
                Err(error) => tracing::warn!(%error, "no metrics are sent"),
            }
        }
    });
}

/// As for StatsD.
fn start_cloudwatch(namespace: String, puts: Arc<Puts>, gate: &Gate, clock: Clock, tasks: &mut Supervisor) {
    let (gate, token) = (gate.clone(), tasks.token());
    tasks.restarting("cloudwatch", move || {
        let publishing = cloudwatch::run(namespace.clone(), gate.clone(), clock, puts.clone());
        until(token.clone(), publishing)
    });
}

async fn until(token: CancellationToken, task: impl Future<Output = ()>) {
    let _: Option<()> = token.run_until_cancelled(task).await;
}

/// Each client and each server takes a descriptor; the soft limit of 1024 is for programs that use `select(2)`.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "raised the limit of open files"),
        Err(error) => tracing::debug!(?current, ?maximum, %error, "cannot raise the limit of open files"),
    }
}
