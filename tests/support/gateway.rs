//! The gate and the data path in this process, without agents: tests say themselves what an agent would report.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::{AgentReport, BootAges, Config, Phase, PoolConfig, PoolId};
use paddock::gate::{Gate, Registration};
use paddock::proxy::{self, KeepaliveConfig, Limits, Proxy, ProxyConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake_llama::{FakeConfig, FakeLlama};
use super::wait::eventually;

pub const POOL: PoolId = PoolId(0);
/// So long that an agent which reported once counts as heard to the end of the test.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// For what should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A gateway in front of one fake server.
pub async fn one_server(slots: usize) -> (Gateway, FakeLlama) {
    let fake = FakeLlama::start(FakeConfig { slots, ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), u32::try_from(slots).unwrap());
    (gateway, fake)
}

/// Waits until nothing is leased and nothing waits; no invariant broke.
pub async fn until_at_rest(gateway: &Gateway) {
    eventually("every slot is free", SOON, async || (gateway.gate.in_flight() == (0, 0)).then_some(())).await;
    assert_eq!(gateway.gate.broken(), 0);
}

/// Waits until so many requests wait.
pub async fn until_waiting(gateway: &Gateway, requests: usize) {
    let what = format!("{requests} requests wait");
    eventually(&what, SOON, async || (gateway.gate.in_flight().1 == requests).then_some(())).await;
}

/// Waits until so many slots of a fake server compute.
pub async fn until_busy(fake: &FakeLlama, slots: usize) {
    let what = format!("{slots} slots are busy");
    eventually(&what, SOON, async || (fake.stats().busy == slots).then_some(())).await;
}

/// The limits of a gateway under test.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub core: Config,
    pub pool: PoolConfig,
    pub proxy: ProxyConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            core: Config {
                wait_max: Duration::from_secs(60),
                bypass_max: Duration::from_secs(2),
                ..Config::default()
            },
            pool: PoolConfig::default(),
            proxy: ProxyConfig {
                worker_threads: 2,
                pool: POOL,
                limits: Limits {
                    body_bytes_max: 1 << 20,
                    buffered_bytes_max: 8 << 20,
                    connections_per_client_max: None,
                    shutdown_grace: Duration::from_secs(20),
                    ..Limits::default()
                },
                trusted_proxies: Vec::new(),
                rewrites_host: false,
                serves_slots_endpoint: false,
                llamacpp_api_key: None,
                tls: None,
                keys: None,
                keepalive: KeepaliveConfig::default(),
                logs_access: true,
                is_listener_shared: false,
            },
        }
    }
}

/// A running gateway. Dropping it ends it.
#[derive(Debug)]
pub struct Gateway {
    pub gate: Gate,
    pub clock: Clock,
    addr: SocketAddr,
    cancel: CancellationToken,
    proxy: Option<Proxy>,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    pub fn start(config: GatewayConfig) -> Self {
        Self::start_on([127, 0, 0, 1].into(), config)
    }

    pub fn start_on(ip: IpAddr, config: GatewayConfig) -> Self {
        let clock = Clock::start();
        let gate = Gate::new(config.core, [(POOL, config.pool)].into(), clock);
        let listeners = proxy::bind((ip, 0).into(), config.proxy.worker_threads).unwrap();
        let addr = listeners[0].local_addr().unwrap();
        let cancel = CancellationToken::new();
        let proxy = Proxy::start(config.proxy, listeners, gate.clone(), clock, cancel.clone()).unwrap();
        let timer = tokio::spawn({
            let gate = gate.clone();
            async move { gate.run_timer().await }
        });
        Self { gate, clock, addr, cancel, proxy: Some(proxy), tasks: vec![timer] }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Registers a server under a name, with so many slots.
    pub fn attach(&self, name: &str, server: SocketAddr, slots: u32) -> Registration {
        let registration = self.gate.register(name, Some("1"));
        self.report(registration, name, server, slots, 0);
        registration
    }

    pub fn report(&self, by: Registration, name: &str, server: SocketAddr, slots: u32, busy: u32) {
        report(&self.gate, by, &Arc::from(name), server, (slots, busy), HEARTBEAT);
    }

    /// One report of an idle server that promises the next one within `heartbeat`.
    pub fn report_every(
        &self,
        heartbeat: Duration,
        by: Registration,
        name: &str,
        server: SocketAddr,
        slots: u32,
    ) {
        report(&self.gate, by, &Arc::from(name), server, (slots, 0), heartbeat);
    }

    /// Registers a fake server, and reports its true state again and again.
    pub fn follow(&mut self, name: &str, fake: Arc<FakeLlama>, slots: u32, interval: Duration) {
        let addr = fake.addr();
        self.follow_at(name, fake, addr, slots, interval);
    }

    /// The same of one that is reached at another address.
    pub fn follow_at(
        &mut self,
        name: &str,
        fake: Arc<FakeLlama>,
        addr: SocketAddr,
        slots: u32,
        interval: Duration,
    ) {
        let by = self.gate.register(name, Some("1"));
        let (gate, name): (_, Arc<str>) = (self.gate.clone(), name.into());
        self.tasks.push(tokio::spawn(async move {
            loop {
                let busy = u32::try_from(fake.stats().busy).unwrap().min(slots);
                report(&gate, by, &name, addr, (slots, busy), HEARTBEAT);
                tokio::time::sleep(interval).await;
            }
        }));
    }

    /// Begins the drain, and waits for its end.
    pub async fn drain(&mut self) {
        self.cancel.cancel();
        self.gate.handle(paddock::core::Event::ShutdownBegan);
        if let Some(proxy) = self.proxy.take() {
            proxy.drained().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.cancel.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn report(
    gate: &Gate,
    by: Registration,
    name: &Arc<str>,
    server: SocketAddr,
    (slots, busy): (u32, u32),
    heartbeat: Duration,
) {
    let report = AgentReport {
        pool: POOL,
        name: None,
        address: server,
        instance: None,
        phase: Phase::Ready,
        slots_total: slots,
        slots_busy: busy,
        sample_age: Some(Duration::ZERO),
        heartbeat: Some(heartbeat),
        is_authorized: Some(true),
        is_slots_endpoint_enabled: Some(true),
        error: None,
        zone: None,
        group: None,
        notice: None,
        boot: BootAges::default(),
    };
    gate.report(by, name, report);
}
