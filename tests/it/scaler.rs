//! The plan, carried out with processes.

use std::sync::Arc;
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::{Config, PoolConfig, PoolId, Rejection, TenantId};
use paddock::fleet::{Fleet, ProcessConfig, ProcessFleet};
use paddock::gate::{Ask, Gate};
use paddock::scaler;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fleet::stand_in::{SERVER, config, mark, running, soon, until};

const POOL: PoolId = PoolId(0);
const ASK: Ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };

/// The gateway without its listeners. It stops when it is dropped, and so do its servers.
struct Gateway {
    gate: Gate,
    cancel: CancellationToken,
}

impl Gateway {
    fn start(process: ProcessConfig) -> Self {
        let clock = Clock::start();
        let core = Config { queue_max: 10, wait_max: Duration::from_secs(60), ..Config::default() };
        let pool = PoolConfig {
            has_fleet: true,
            idle_timeout: Duration::from_millis(200),
            boot_timeout: Duration::from_secs(30),
            ..PoolConfig::default()
        };
        let gate = Gate::new(core, [(POOL, pool)].into(), clock);
        let (sender, news) = mpsc::unbounded_channel();
        let fleet = Arc::new(Fleet::Process(ProcessFleet::start(process, clock, sender)));
        let cancel = CancellationToken::new();
        let timer = gate.clone();
        tokio::spawn(cancel.clone().run_until_cancelled_owned(async move { timer.run_timer().await }));
        tokio::spawn(scaler::forward_news(news, POOL, gate.clone()));
        tokio::spawn(scaler::run(gate.clone(), fleet, clock, cancel.clone()));
        Self { gate, cancel }
    }

    fn has_instances(&self) -> bool {
        self.gate.snapshot().0.pools.iter().any(|pool| !pool.instances.is_empty())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[tokio::test]
async fn a_request_wakes_a_server_which_ends_when_it_is_idle_and_wakes_again() {
    let mark = mark("woken");
    // Nothing computes there that this gateway did not ask for.
    let idle = SERVER.replace("n == 0", "False");
    let gateway = Gateway::start(config(&["python3", "-c", &idle, "{port}", &mark]));
    for _ in 0..2 {
        let permit = soon(gateway.gate.acquire(ASK)).await.unwrap();
        assert!(permit.upstream().address.ip().is_loopback());
        assert_eq!(running(&mark).len(), 1);
        assert!(gateway.has_instances());
        drop(permit);
        until("no server", || running(&mark).is_empty()).await;
        until("no instance", || !gateway.has_instances()).await;
    }
    assert_eq!(gateway.gate.broken(), 0);
}

#[tokio::test]
async fn why_a_server_cannot_start_is_told_to_who_waits() {
    let gateway = Gateway::start(config(&["no-such-llama-server", "{port}"]));
    match soon(gateway.gate.acquire(ASK)).await {
        Err(Rejection::NoCapacity { cause, .. }) => {
            assert!(cause.contains("cannot run `no-such-llama"), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gateway.gate.broken(), 0);
}
