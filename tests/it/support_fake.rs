//! The fake llama.cpp itself: what it counts must be right, or the tests that rely on it prove nothing.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::fake_llama::{FakeConfig, FakeLlama, Stats};
use crate::support::http::{self, RawClient};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(10);
const CHAT: &str = "/v1/chat/completions";

async fn until(fake: &FakeLlama, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    eventually(what, SOON, async || Some(fake.stats()).filter(|stats| is_so(stats))).await
}

async fn asked(fake: &FakeLlama, body: Value) -> RawClient {
    let mut client = RawClient::connect(fake.addr()).await;
    client.post(CHAT, &body).await;
    client
}

#[tokio::test]
async fn counts_what_runs_at_once_and_what_came_too_much() {
    let fake = FakeLlama::start(FakeConfig { slots: 2, ..FakeConfig::default() }).await;
    let body = json!({ "fake": { "hold": "all" } });
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(asked(&fake, body.clone()).await);
    }
    let full = until(&fake, "both slots are taken", |stats| stats.busy == 2).await;
    assert_eq!((full.overcommit, full.concurrent_max), (0, 2));

    clients.push(asked(&fake, body).await);
    until(&fake, "the third is seen", |stats| stats.busy == 3).await;
    let slots = http::get(fake.addr(), "/slots").await.json();
    assert!(slots.as_array().unwrap().iter().all(|slot| slot["is_processing"] == true), "{slots}");

    fake.release("all");
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let end = fake.stats();
    assert_eq!((end.received, end.completed, end.cancelled), (3, 3, 0));
    assert_eq!((end.overcommit, end.concurrent_max, end.busy), (1, 3, 0));
}

#[tokio::test]
async fn requests_of_several_tasks_take_several_slots() {
    let fake = FakeLlama::start(FakeConfig { slots: 4, ..FakeConfig::default() }).await;
    let _held = asked(&fake, json!({ "n": 3, "fake": { "hold": "it" } })).await;
    until(&fake, "three slots are taken", |stats| stats.busy == 3).await;
    let inputs = json!({ "input": ["a", "b"], "fake": { "hold": "it" } });
    let mut embeddings = RawClient::connect(fake.addr()).await;
    embeddings.post("/v1/embeddings", &inputs).await;
    assert_eq!(until(&fake, "two more are asked for", |stats| stats.busy == 5).await.overcommit, 1);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot_wherever_it_was() {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let delayed = asked(&fake, json!({ "fake": { "delay_ms": 600_000 } })).await;
    until(&fake, "the slot is taken", |stats| stats.busy == 1).await;
    let deferred = asked(&fake, json!({})).await;
    until(&fake, "another waits", |stats| stats.busy == 2).await;
    drop(deferred);
    until(&fake, "the one that waited is gone", |stats| stats.busy == 1 && stats.cancelled == 1).await;
    drop(delayed);
    until(&fake, "the one in the slot is gone", |stats| stats.busy == 0 && stats.cancelled == 2).await;

    let mut streaming = asked(&fake, json!({ "stream": true, "fake": { "hold_stream": "never" } })).await;
    streaming.head().await;
    streaming.chunk().await.unwrap().unwrap();
    assert_eq!(fake.stats().busy, 1);
    drop(streaming);
    let end = until(&fake, "the stream is gone", |stats| stats.busy == 0).await;
    assert_eq!((end.received, end.completed, end.cancelled), (3, 0, 3));
    assert_eq!(http::post_json(fake.addr(), CHAT, &json!({})).await.status, 200);
}

#[tokio::test]
async fn streams_event_by_event_to_the_end() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let asked_for = json!({ "chunks": 4, "hold_stream": "rest" });
    let mut client = asked(&fake, json!({ "stream": true, "fake": asked_for })).await;
    assert_eq!(client.head().await.header("content-type"), Some("text/event-stream"));
    let first = client.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: ") && first.ends_with(b"\n\n"), "{first:?}");
    fake.release("rest");
    let (rest, is_whole) = client.body().await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(is_whole && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    assert_eq!(rest.matches("data: ").count(), 5);
    assert_eq!(fake.stats().completed, 1);
}

#[tokio::test]
async fn each_dialect_has_its_own_shape() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let whole = async |path: &str| http::post_json(fake.addr(), path, &json!({})).await.json();
    assert_eq!(whole(CHAT).await["choices"][0]["message"]["content"], "word0 word1 word2 ");
    assert_eq!(whole("/v1/messages").await["content"][0]["text"], "word0 word1 word2 ");
    assert_eq!(whole("/completion").await["content"], "word0 word1 word2 ");
    assert_eq!(whole("/v1/embeddings").await["data"][0]["embedding"], json!([0.5, 0.25]));
    let messages = http::post_json(fake.addr(), "/v1/messages", &json!({ "stream": true })).await.text();
    assert!(messages.contains("event: content_block_delta\ndata: "), "{messages}");
    assert!(messages.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{messages}");
}

#[tokio::test]
async fn dies_where_it_is_told_to() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let mut before = asked(&fake, json!({ "fake": { "die": "before_head" } })).await;
    assert!(before.is_closed_silently().await);

    let mut during = asked(&fake, json!({ "stream": true, "fake": { "die": "mid_stream" } })).await;
    assert_eq!(during.head().await.status, 200);
    let (piece, is_whole) = during.body().await;
    assert!(!is_whole && piece.starts_with(b"data: "), "{piece:?}");

    let mut plain = asked(&fake, json!({ "fake": { "die": "mid_stream" } })).await;
    plain.head().await;
    assert!(!plain.body().await.1);
    assert_eq!(until(&fake, "all three died", |stats| stats.died == 3).await.busy, 0);
}

#[tokio::test]
async fn answers_with_the_status_or_the_emptiness_asked_for() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let failed = http::post_json(fake.addr(), CHAT, &json!({ "fake": { "status": 500 } })).await;
    assert_eq!((failed.status, failed.json()["error"]["code"].clone()), (500, json!(500)));
    let empty = http::post_json(fake.addr(), CHAT, &json!({ "fake": { "empty": true } })).await;
    assert_eq!((empty.status, empty.header("content-length"), empty.body.len()), (200, Some("0"), 0));
    let misspelt = http::post_json(fake.addr(), CHAT, &json!({ "fake": { "chunk": 2 } })).await;
    assert_eq!(misspelt.status, 400, "a typo in a test must not pass for a default");
}

#[tokio::test]
async fn shows_and_keeps_what_came_byte_by_byte() {
    let fake = FakeLlama::start(FakeConfig { keeps_raw: true, ..FakeConfig::default() }).await;
    let body = "{\"messages\": [], \"odd\" :\t\"\\u00e9 \u{e9}\"}\n";
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nX-Odd:  b \r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = RawClient::connect(fake.addr()).await;
    client.send(&request).await;
    let answer = client.answer().await;
    let sha256: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("x-fake-body-sha256"), Some(sha256.as_str()));
    assert_eq!(answer.header("x-fake-body-length"), Some(body.len().to_string().as_str()));
    assert_eq!(fake.seen()[0].headers["x-odd"], "b");
    assert_eq!(fake.raw(), [request.into_bytes()]);
}

#[tokio::test]
async fn closes_connections_that_idle() {
    let fake =
        FakeLlama::start(FakeConfig { idle_close: Duration::from_millis(50), ..FakeConfig::default() }).await;
    let mut client = asked(&fake, json!({ "fake": { "delay_ms": 200 } })).await;
    assert_eq!(client.answer().await.status, 200, "a long answer is not idleness");
    assert!(client.is_closed_silently().await);

    let fake = FakeLlama::start(FakeConfig::default()).await;
    let mut idle = asked(&fake, json!({})).await;
    idle.answer().await;
    let mut working = asked(&fake, json!({ "fake": { "hold": "on" } })).await;
    until(&fake, "one works", |stats| stats.busy == 1).await;
    fake.close_idle_now();
    assert!(idle.is_closed_silently().await);
    fake.release("on");
    assert_eq!(working.answer().await.status, 200);
}

#[tokio::test]
async fn a_stale_connection_dies_at_its_second_request_only() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    fake.set_stale(true);
    let mut client = asked(&fake, json!({})).await;
    assert_eq!(client.answer().await.status, 200);
    client.post(CHAT, &json!({})).await;
    assert!(client.is_closed_silently().await);
    let stats = fake.stats();
    assert_eq!((stats.received, stats.refused_stale, stats.connections), (1, 1, 1));
}

#[tokio::test]
async fn stops_like_a_killed_process_and_comes_back() {
    let mut fake = FakeLlama::start(FakeConfig::default()).await;
    let mut client = asked(&fake, json!({ "stream": true, "fake": { "hold_stream": "never" } })).await;
    client.head().await;
    client.chunk().await.unwrap().unwrap();
    fake.stop().await;
    assert!(!client.body().await.1, "the stream is cut");
    assert!(http::try_get(fake.addr(), "/health").await.is_none(), "nobody listens");
    assert_eq!((fake.stats().busy, fake.stats().connections_open), (0, 0));
    fake.restart_same_port().await;
    assert_eq!(http::post_json(fake.addr(), CHAT, &json!({})).await.status, 200);
    assert_eq!(fake.stats().received, 2);
}

#[tokio::test]
async fn loading_keys_and_missing_slots_answer_as_llama_cpp_does() {
    let config = FakeConfig { api_key: Some("secret".to_owned()), ..FakeConfig::default() };
    let fake = FakeLlama::start(config).await;
    fake.set_loading(true);
    let loading = http::get(fake.addr(), "/health").await;
    assert_eq!((loading.status, loading.json()["error"]["message"].clone()), (503, json!("Loading model")));
    assert_eq!(http::post_json(fake.addr(), CHAT, &json!({})).await.status, 503);
    fake.set_loading(false);
    assert_eq!(http::get(fake.addr(), "/health").await.status, 200);
    assert_eq!(http::get(fake.addr(), "/slots").await.status, 401);
    let with_key = http::client().get(format!("http://{}/slots", fake.addr())).bearer_auth("secret");
    assert_eq!(with_key.send().await.unwrap().status(), 200);
    assert_eq!((fake.stats().received, fake.stats().refused_loading), (0, 2));

    let config = FakeConfig { is_slots_endpoint_disabled: true, ..FakeConfig::default() };
    let fake = FakeLlama::start(config).await;
    let missing = http::get(fake.addr(), "/slots").await;
    assert_eq!(
        (missing.status, missing.json()["error"]["type"].clone()),
        (501, json!("not_supported_error"))
    );
}

#[tokio::test]
async fn what_needs_no_slot_takes_none() {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let _held = asked(&fake, json!({ "fake": { "hold": "it" } })).await;
    until(&fake, "the slot is taken", |stats| stats.busy == 1).await;
    fake.set_foreign(1);
    assert_eq!(http::get(fake.addr(), "/props").await.json()["total_slots"], 1);
    assert_eq!(http::get(fake.addr(), "/v1/models").await.json()["data"][0]["id"], "fake");
    assert_eq!(http::post_json(fake.addr(), "/tokenize", &json!({ "content": "a" })).await.status, 200);
    assert_eq!(http::get(fake.addr(), "/nowhere").await.status, 404);
    let stats = fake.stats();
    assert_eq!((stats.slotless, stats.received, stats.overcommit), (4, 1, 0));
}

#[tokio::test]
#[should_panic(expected = "not within 30ms: it never comes")]
async fn waiting_has_a_bound() {
    eventually("it never comes", Duration::from_millis(30), async || None::<()>).await;
}
