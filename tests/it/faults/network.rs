//! Networks that fail at random on both sides of the gateway: every answer is right, visibly broken, or a documented
//! refusal.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{CHAT, SOON};
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::faulty_net::{Fault, FaultyNet, Plan};
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::http::RawClient;

const SEED: u64 = 11;
const CLIENTS: usize = 24;
const REQUESTS: usize = 15;
const SERVERS: usize = 6;
const SLOTS: u32 = 8;
/// A client whose answer does not come gives up.
const PATIENCE: Duration = Duration::from_secs(3);

/// One connection in so many has a fault, after some of the bytes of a few requests.
fn plans(seed: u64, one_in: u32) -> impl FnMut() -> Option<Plan> + Send + 'static {
    let mut random = fastrand::Rng::with_seed(seed);
    move || {
        let fault = match random.u32(..5) {
            0 => Fault::Delay(Duration::from_millis(random.u64(..20))),
            1 => Fault::Throttle(random.usize(20..200)),
            2 => Fault::Cut,
            3 => Fault::Reset,
            _ => Fault::Swallow,
        };
        (random.u32(..one_in) == 0).then_some(Plan { fault, after: random.usize(..3000) })
    }
}

/// How the requests ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    right: usize,
    /// By the gateway or the network: no answer, or a part of one.
    broken: usize,
    /// An error event ended the stream.
    told: usize,
    refused: usize,
}

/// What this request is answered when nothing fails.
fn is_right(body: &str, words: usize, is_stream: bool) -> bool {
    let text: String = (0..words).map(|index| format!("word{index} ")).collect();
    if !is_stream {
        let json: Value = serde_json::from_str(body).unwrap();
        return json["choices"][0]["message"]["content"] == text;
    }
    let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
    let deltas = events.map(|event| serde_json::from_str::<Value>(&format!("{{{event}")).unwrap());
    let told: String = deltas
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    told == text && body.ends_with("data: [DONE]\n\n")
}

/// One request over a connection that may be kept; whether it still may.
async fn ask(client: &mut RawClient, random: &mut fastrand::Rng, tally: &mut Tally) -> bool {
    let (words, is_stream) = (random.usize(1..20), random.bool());
    let fake = json!({"chunks": words, "chunk_delay_ms": random.u64(..2)});
    let body = json!({"stream": is_stream, "prompt": "x".repeat(random.usize(..2000)), "fake": fake});
    if !client.try_send(crate::support::http::post(CHAT, &body)).await {
        tally.broken += 1;
        return false;
    }
    let answer = timeout(PATIENCE, async {
        let head = client.try_head().await?;
        let (body, is_whole) = client.body().await;
        is_whole.then(|| (head, String::from_utf8_lossy(&body).into_owned()))
    });
    let Ok(Some((head, body))) = answer.await else {
        tally.broken += 1;
        return false;
    };
    match head.status {
        200 if is_stream && body.contains("upstream_failed") => tally.told += 1,
        200 => {
            assert!(is_right(&body, words, is_stream), "200 and not right: {body}");
            tally.right += 1;
        }
        502 | 504 => {
            assert!(body.contains("upstream_failed") || body.contains("queue_timeout"), "{body}");
            tally.refused += 1;
        }
        // The client's own request broke off on the way; it reads what it would be told.
        400 | 408 => tally.broken += 1,
        status => panic!("{status}: {body}"),
    }
    head.header("connection") != Some("close")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_on_both_sides() {
    let mut gateway = Gateway::start(GatewayConfig::default());
    let (mut fakes, mut nets) = (Vec::new(), Vec::new());
    for number in 0..SERVERS {
        let slots = usize::try_from(SLOTS).unwrap();
        let fake = Arc::new(FakeLlama::start(FakeConfig { slots, ..FakeConfig::default() }).await);
        let net = FaultyNet::start(fake.addr(), plans(SEED + number as u64, 8)).await;
        gateway.follow_at(&number.to_string(), fake.clone(), net.addr, SLOTS, Duration::from_millis(50));
        fakes.push(fake);
        nets.push(net);
    }
    let front = FaultyNet::start(gateway.addr(), plans(SEED * 100, 4)).await;
    let clients = (0..CLIENTS).map(|number| {
        let addr = front.addr;
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(SEED * 1000 + number as u64);
            let mut tally = Tally::default();
            let mut kept: Option<RawClient> = None;
            for _ in 0..REQUESTS {
                let mut client = match kept.take() {
                    Some(client) => client,
                    None => RawClient::connect(addr).await,
                };
                if ask(&mut client, &mut random, &mut tally).await {
                    kept = Some(client);
                }
            }
            tally
        })
    });
    let mut all = Tally::default();
    for client in clients.collect::<Vec<_>>() {
        let Tally { right, broken, told, refused } = timeout(SOON * 5, client).await.unwrap().unwrap();
        all.right += right;
        all.broken += broken;
        all.told += told;
        all.refused += refused;
    }
    assert_eq!(all.right + all.broken + all.told + all.refused, CLIENTS * REQUESTS);
    assert!(all.right > CLIENTS * REQUESTS / 2 && all.broken > 0, "{all:?}");
    let overcommit: u64 = fakes.iter().map(|fake| fake.stats().overcommit).sum();
    assert_eq!(overcommit, 0);
    drop(front);
    until_at_rest(&gateway).await;
}
