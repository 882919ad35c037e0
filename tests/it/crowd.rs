//! A crowd: far more requests than slots, from clients that may leave at any moment. Nothing is over-committed, lost
//! or leaked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig};
use crate::support::http::RawClient;
use crate::support::wait::eventually;

const REQUESTS: u64 = 10_000;
const CONNECTIONS: u64 = 200;
const SERVERS: usize = 4;
const SLOTS: u32 = 8;
/// One in so many clients leaves before its answer is whole.
const LEAVERS: u64 = 10;
const REPORT_INTERVAL: Duration = Duration::from_millis(20);
const SEED: u64 = 7;

#[derive(Debug, Default)]
struct Outcomes {
    answered: AtomicU64,
    left: AtomicU64,
}

fn chat(random: &mut fastrand::Rng) -> Value {
    json!({"stream": random.bool(), "messages": [{"role": "user", "content": "x".repeat(random.usize(..2000))}],
        "fake": {"delay_ms": random.u64(..4), "chunks": random.usize(1..6), "chunk_delay_ms": random.u64(..2)}})
}

/// One connection's worth of clients, one after the other.
async fn clients(gateway: Arc<Gateway>, outcomes: Arc<Outcomes>, mut random: fastrand::Rng) {
    let mut kept: Option<RawClient> = None;
    for _ in 0..REQUESTS / CONNECTIONS {
        let mut client = match kept.take() {
            Some(client) => client,
            None => RawClient::connect(gateway.addr()).await,
        };
        client.post("/v1/chat/completions", &chat(&mut random)).await;
        if random.u64(..LEAVERS) == 0 {
            // Queued, before the first byte or in the stream: wherever it is by then.
            let _ = timeout(Duration::from_millis(random.u64(..30)), client.answer()).await;
            outcomes.left.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.body.is_empty());
        outcomes.answered.fetch_add(1, Ordering::Relaxed);
        kept = Some(client);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_over_thirty_two_slots() {
    let mut gateway = Gateway::start(GatewayConfig::default());
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let slots = usize::try_from(SLOTS).unwrap();
        let fake = Arc::new(FakeLlama::start(FakeConfig { slots, ..FakeConfig::default() }).await);
        gateway.follow(&number.to_string(), fake.clone(), SLOTS, REPORT_INTERVAL);
        servers.push(fake);
    }
    let gateway = Arc::new(gateway);
    let outcomes = Arc::new(Outcomes::default());
    let crowd: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let random = fastrand::Rng::with_seed(SEED + number);
            tokio::spawn(clients(gateway.clone(), outcomes.clone(), random))
        })
        .collect();
    for client in crowd {
        client.await.unwrap();
    }
    let (answered, left) = (outcomes.answered.load(Ordering::Relaxed), outcomes.left.load(Ordering::Relaxed));
    assert_eq!(answered + left, REQUESTS, "none is lost");
    assert!(left > REQUESTS / LEAVERS / 2, "some left: {left}");
    eventually("no slot is leaked", Duration::from_secs(10), async || {
        (gateway.gate.in_flight() == (0, 0)).then_some(())
    })
    .await;
    let overcommit: u64 = servers.iter().map(|server| server.stats().overcommit).sum();
    assert_eq!((overcommit, gateway.gate.broken()), (0, 0));
    // The fakes count what has reached them, which is a little less than what is leased.
    let least_used = servers.iter().map(|server| server.stats().concurrent_max).min().unwrap();
    assert!(least_used > usize::try_from(SLOTS).unwrap() / 2, "every server was used: {least_used}");
}
