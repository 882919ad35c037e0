//! What one decision costs with 1,000 agents and 10,000 queued requests: the lock and the commands included.
//!
//! A steady mix at a full queue: a finish (which grants the head of the queue), an arrival, a client that leaves from
//! the middle of the queue, another arrival, and an agent's report. `cargo bench --bench decision`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures, and a broken one stops"
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::noop_waker;
use paddock::clock::Clock;
use paddock::core::{AgentReport, BootAges, Config, Phase, PoolConfig, PoolId, TenantId};
use paddock::gate::{Answer, Ask, Gate, Permit, Registration};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const POOL: PoolId = PoolId(0);
const AGENTS: u64 = 1_000;
const SLOTS: u32 = 4;
const QUEUED: u64 = 10_000;
const ROUNDS: usize = 100_000;

type Wait = Pin<Box<dyn Future<Output = Answer>>>;

struct Bench {
    clock: Clock,
    gate: Gate,
    agents: Vec<(Registration, Arc<str>, SocketAddr)>,
    permits: VecDeque<Permit>,
    /// By the order of their arrival, which is the order in which they are granted.
    waiting: BTreeMap<u64, Wait>,
    arrived: u64,
    random: fastrand::Rng,
    took: BTreeMap<&'static str, Vec<u64>>,
}

fn main() {
    let mut bench = Bench::new();
    bench.fill();
    for _ in 0..ROUNDS {
        bench.round();
    }
    println!("{AGENTS} agents with {SLOTS} slots, {QUEUED} requests queued, {ROUNDS} rounds of the mix");
    println!("{:<10} {:>10} {:>10}", "decision", "p50 (ns)", "p99 (ns)");
    let mut all: Vec<u64> = bench.took.values().flatten().copied().collect();
    for (what, took) in &mut bench.took {
        print(what, took);
    }
    print("all", &mut all);
}

fn print(what: &str, took: &mut [u64]) {
    took.sort_unstable();
    println!("{what:<10} {:>10} {:>10}", took[took.len() / 2], took[took.len() * 99 / 100]);
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::start();
        let queue_max = usize::try_from(QUEUED).unwrap();
        let config = Config {
            queue_max,
            wait_max: Duration::from_secs(3600),
            bypass_max: Duration::from_secs(2),
            seed: 1,
        };
        let pool = PoolConfig::default();
        Self {
            clock,
            gate: Gate::new(config, [(POOL, pool)].into(), clock),
            agents: Vec::new(),
            permits: VecDeque::new(),
            waiting: BTreeMap::new(),
            arrived: 0,
            random: fastrand::Rng::with_seed(1),
            took: BTreeMap::new(),
        }
    }

    fn fill(&mut self) {
        for number in 0..AGENTS {
            let id: Arc<str> = number.to_string().into();
            let host = [10, 0, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250).unwrap()];
            let address = SocketAddr::from((host, 8080));
            let registration = self.gate.register(&id, Some("1"));
            self.agents.push((registration, id, address));
            self.report(self.agents.len() - 1);
        }
        for _ in 0..AGENTS * u64::from(SLOTS) + QUEUED {
            self.arrive();
        }
        assert_eq!(self.permits.len() as u64, AGENTS * u64::from(SLOTS));
        assert_eq!(self.waiting.len() as u64, QUEUED);
        self.took.clear();
    }

    fn round(&mut self) {
        let at = self.random.usize(..self.permits.len());
        let permit = self.permits.swap_remove_back(at).unwrap();
        self.timed("finish", || permit.finish());
        let (_, mut granted) = self.waiting.pop_first().unwrap();
        let Poll::Ready(Ok(permit)) = poll(&mut granted) else { panic!("the head of the queue was granted") };
        self.permits.push_back(permit);
        self.arrive();

        let oldest = *self.waiting.first_key_value().unwrap().0;
        let from = self.random.u64(oldest..self.arrived);
        let leaver = *self.waiting.range(from..).next().unwrap().0;
        let wait = self.waiting.remove(&leaver).unwrap();
        self.timed("abandon", || drop(wait));
        self.arrive();

        let agent = self.random.usize(..self.agents.len());
        self.report(agent);
    }

    fn arrive(&mut self) {
        let gate = self.gate.clone();
        let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
        let mut wait: Wait = Box::pin(async move { gate.acquire(ask).await });
        match self.timed("arrive", || poll(&mut wait)) {
            Poll::Ready(permit) => self.permits.push_back(permit.unwrap()),
            Poll::Pending => {
                self.waiting.insert(self.arrived, wait);
            }
        }
        self.arrived += 1;
    }

    fn report(&mut self, agent: usize) {
        let (registration, id, address) = self.agents[agent].clone();
        let report = AgentReport {
            pool: POOL,
            name: None,
            address,
            instance: None,
            phase: Phase::Ready,
            slots_total: SLOTS,
            slots_busy: SLOTS,
            sample_age: Some(Duration::ZERO),
            heartbeat: Some(Duration::from_secs(60)),
            is_authorized: Some(true),
            is_slots_endpoint_enabled: Some(true),
            error: None,
            zone: None,
            group: None,
            notice: None,
            boot: BootAges::default(),
        };
        // The first reports find nothing leased: nothing else is busy then.
        let busy = if self.permits.is_empty() { 0 } else { SLOTS };
        let report = AgentReport { slots_busy: busy, ..report };
        let gate = self.gate.clone();
        self.timed("report", || gate.report(registration, &id, report));
    }

    fn timed<T>(&mut self, what: &'static str, decide: impl FnOnce() -> T) -> T {
        let began = self.clock.mono();
        let result = decide();
        let took = self.clock.mono().since(began);
        self.took.entry(what).or_default().push(u64::try_from(took.as_nanos()).unwrap());
        result
    }
}

fn poll(wait: &mut Wait) -> Poll<Answer> {
    wait.as_mut().poll(&mut Context::from_waker(&noop_waker()))
}
