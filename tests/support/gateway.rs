//! The gate and the data path in this process, without agents: tests say themselves what an agent would report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::{AgentReport, Config, Phase, PoolConfig, PoolId};
use paddock::gate::{Gate, Registration};
use paddock::proxy::{self, Proxy, ProxyConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake_llama::FakeLlama;

const POOL: PoolId = PoolId(0);
/// So long that an agent which reported once counts as heard to the end of the test.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The limits of a gateway under test.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub core: Config,
    pub proxy: ProxyConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            core: Config {
                queue_max: 1000,
                wait_max: Duration::from_secs(60),
                bypass_max: Duration::from_secs(2),
                seed: 1,
            },
            proxy: ProxyConfig {
                worker_threads: 2,
                pool: POOL,
                request_body_max: 1 << 20,
                buffered_bytes_max: 8 << 20,
                rewrites_host: false,
                serves_slots_endpoint: false,
                llamacpp_api_key: None,
                shutdown_grace: Duration::from_secs(20),
            },
        }
    }
}

/// A running gateway. Dropping it ends it.
#[derive(Debug)]
pub struct Gateway {
    pub gate: Gate,
    addr: SocketAddr,
    cancel: CancellationToken,
    proxy: Option<Proxy>,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    pub fn start(config: GatewayConfig) -> Self {
        let clock = Clock::start();
        let pool = PoolConfig {
            has_fleet: false,
            instances_min: 0,
            instances_max: 0,
            slots_hint: 1,
            idle_timeout: Duration::from_secs(300),
            boot_timeout: Duration::from_secs(600),
            life_min: Duration::ZERO,
        };
        let gate = Gate::new(config.core, [(POOL, pool)].into(), clock);
        let listeners = proxy::bind(([127, 0, 0, 1], 0).into(), config.proxy.worker_threads).unwrap();
        let addr = listeners[0].local_addr().unwrap();
        let cancel = CancellationToken::new();
        let proxy = Proxy::start(config.proxy, listeners, gate.clone(), clock, cancel.clone()).unwrap();
        let timer = tokio::spawn({
            let gate = gate.clone();
            async move { gate.run_timer().await }
        });
        Self { gate, addr, cancel, proxy: Some(proxy), tasks: vec![timer] }
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
        let by = self.gate.register(name, Some("1"));
        let (gate, name): (_, Arc<str>) = (self.gate.clone(), name.into());
        self.tasks.push(tokio::spawn(async move {
            loop {
                let busy = u32::try_from(fake.stats().busy).unwrap().min(slots);
                report(&gate, by, &name, fake.addr(), (slots, busy), HEARTBEAT);
                tokio::time::sleep(interval).await;
            }
        }));
    }

    /// Begins the drain, and waits for its end.
    pub async fn drain(&mut self) {
        self.gate.handle(paddock::core::Event::ShutdownBegan);
        self.cancel.cancel();
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
    };
    gate.report(by, name, report);
}
