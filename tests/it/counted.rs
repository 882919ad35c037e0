//! Each request is counted once, by how it ended; each failure of a server by its kind.

use std::sync::Arc;
use std::time::Duration;

use paddock::metrics::{Label, Outcome, UpstreamError};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, one_server, until_at_rest, until_waiting};
use crate::support::http::{self, RawClient, post, post_json, try_post_json};
use crate::support::scripted::Scripted;
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(10);

fn chat(fake: Value) -> Value {
    json!({"messages": [], "fake": fake})
}

fn ended(gateway: &Gateway) -> Vec<(&'static str, u64)> {
    let count = |&outcome| (Outcome::value(outcome), gateway.gate.instruments().requests.of(outcome).get());
    Outcome::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

fn failed(gateway: &Gateway) -> Vec<(&'static str, u64)> {
    let count =
        |&kind| (UpstreamError::value(kind), gateway.gate.instruments().upstream_errors.of(kind).get());
    UpstreamError::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// How many spans were measured: queue, first byte, whole.
fn timed(gateway: &Gateway) -> (u64, u64, u64) {
    let all = gateway.gate.instruments();
    (all.queue_wait.count(), all.time_to_first_byte.count(), all.request_duration.count())
}

async fn until_ended(gateway: &Gateway, expected: &[(&str, u64)]) {
    eventually(&format!("{expected:?}"), SOON, async || (ended(gateway) == expected).then_some(())).await;
}

#[tokio::test]
async fn what_is_served_is_timed() {
    let (gateway, _fake) = one_server(2).await;
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200);
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({"status": 400}))).await.status, 400);
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({"empty": true}))).await.status, 200);
    until_ended(&gateway, &[("served", 3)]).await;
    assert_eq!(timed(&gateway), (3, 3, 3));
    // What takes no slot is counted, and not timed.
    assert_eq!(http::get(gateway.addr(), "/v1/models").await.status, 200);
    until_ended(&gateway, &[("served", 4)]).await;
    assert_eq!(timed(&gateway), (3, 3, 3));
    assert_eq!(failed(&gateway), []);
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_wherever_it_was() {
    let (gateway, _fake) = one_server(1).await;
    let mut reading = RawClient::connect(gateway.addr()).await;
    reading.post(CHAT, &json!({"stream": true, "fake": {"hold_stream": "never"}})).await;
    assert_eq!(reading.head().await.status, 200);
    assert!(reading.chunk().await.unwrap().is_some());
    let mut waiting = RawClient::connect(gateway.addr()).await;
    waiting.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    assert_eq!(gateway.gate.instruments().buffered_bytes.get() as usize, chat(json!({})).to_string().len());
    drop(waiting);
    until_ended(&gateway, &[("cancelled", 1)]).await;
    drop(reading);
    until_ended(&gateway, &[("cancelled", 2)]).await;
    until_at_rest(&gateway).await;
    let mut sending = RawClient::connect(gateway.addr()).await;
    sending.send(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{")).await;
    drop(sending);
    until_ended(&gateway, &[("cancelled", 3)]).await;
    let mut sending = RawClient::connect(gateway.addr()).await;
    sending
        .send(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{{"))
        .await;
    drop(sending);
    until_ended(&gateway, &[("cancelled", 4)]).await;
    assert_eq!(timed(&gateway), (1, 1, 0), "the one that had a slot");
    assert_eq!(gateway.gate.instruments().buffered_bytes.get(), 0);
    assert_eq!(failed(&gateway), []);
}

#[tokio::test]
async fn failures_of_a_server_are_counted_by_kind() {
    let (gateway, fake) = one_server(4).await;
    assert!(try_post_json(gateway.addr(), CHAT, &chat(json!({"die": "mid_stream"}))).await.is_none());
    until_ended(&gateway, &[("broken", 1)]).await;
    assert_eq!(failed(&gateway), [("broken", 1)]);
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({"die": "before_head"}))).await.status, 502);
    until_ended(&gateway, &[("broken", 1), ("upstream_failed", 1)]).await;
    assert_eq!(failed(&gateway), [("died", 2), ("broken", 1)]);

    let mut config = GatewayConfig::default();
    config.proxy.limits.first_byte_max = Some(Duration::from_millis(300));
    let impatient = Gateway::start(config);
    impatient.attach("a", fake.addr(), 4);
    assert_eq!(post_json(impatient.addr(), CHAT, &chat(json!({"hold": "never"}))).await.status, 504);
    until_ended(&impatient, &[("upstream_timeout", 1)]).await;
    assert_eq!(failed(&impatient), [("timeout", 1)]);
}

/// It is read whole, to be remembered, before anything of it is passed on.
#[tokio::test]
async fn a_list_of_models_that_breaks_off_is_counted_by_what_the_client_is_told() {
    let server = Scripted::start(|mut peer, _| async move {
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{").await;
    })
    .await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", server.addr, 1);
    assert_eq!(http::get(gateway.addr(), "/v1/models").await.status, 502);
    until_ended(&gateway, &[("upstream_failed", 1)]).await;
    assert_eq!(failed(&gateway), [("broken", 1)], "the server did break it off");
}

/// A client that was kept waiting as by a stream is told of an error of whatever length in one event.
#[tokio::test]
async fn an_error_too_long_to_be_told_whole_is_served_all_the_same() {
    const LENGTH: usize = 256 * 1024;
    let is_told = Arc::new(Notify::new());
    let server = Scripted::start({
        let is_told = is_told.clone();
        move |mut peer, _| {
            let is_told = is_told.clone();
            async move {
                peer.request().await;
                is_told.notified().await;
                peer.send(format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
                peer.send("x".repeat(LENGTH)).await;
                peer.until_closed().await;
            }
        }
    })
    .await;
    let mut config = GatewayConfig::default();
    config.proxy.keepalive.after = Some(Duration::from_millis(30));
    let gateway = Gateway::start(config);
    gateway.attach("a", server.addr, 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &json!({"stream": true, "messages": []})).await;
    assert_eq!(client.head().await.status, 200);
    is_told.notify_one();
    let (told, is_whole) = client.body().await;
    assert!(is_whole && String::from_utf8_lossy(&told).contains("error"), "{told:?}");
    until_ended(&gateway, &[("served", 1)]).await;
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_code() {
    let config = GatewayConfig::default();
    let core = paddock::core::Config { queue_max: 1, ..config.core };
    let mut gateway = Gateway::start(GatewayConfig { core, ..config });
    let addr = gateway.addr();
    for (path, status) in [("/health", 200), ("/tools", 403), ("/favicon.ico", 404), ("/props", 503)] {
        assert_eq!(http::get(addr, path).await.status, status, "{path}");
    }
    // Only its head: a client that is still sending when the gateway has closed may find a reset instead of its answer.
    let mut large = RawClient::connect(addr).await;
    large.send(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 2 << 20)).await;
    assert_eq!(large.head().await.status, 413);
    let mut doubtful = RawClient::connect(addr).await;
    doubtful
        .send("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(doubtful.head().await.status, 400);
    let mut unreadable = RawClient::connect(addr).await;
    unreadable.send("NONSENSE\r\n\r\n").await;
    assert_eq!(unreadable.head().await.status, 400);
    let mut broken = RawClient::connect(addr).await;
    broken.send(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n")).await;
    assert_eq!(broken.head().await.status, 400);
    let mut upgrading = RawClient::connect(addr).await;
    upgrading.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(upgrading.head().await.status, 501);
    let mut impatient = RawClient::connect(addr).await;
    let text = String::from_utf8(post(CHAT, &chat(json!({})))).unwrap();
    impatient.send(text.replacen("Host: test\r\n", "Host: test\r\nX-Paddock-Deadline-Ms: 0\r\n", 1)).await;
    assert_eq!(impatient.head().await.status, 504);
    let mut waiting = RawClient::connect(addr).await;
    waiting.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    assert_eq!(post_json(addr, CHAT, &chat(json!({}))).await.status, 429);
    let expected = [
        ("own", 1),
        ("bad_request", 3),
        ("upgrade_refused", 1),
        ("forbidden", 1),
        ("no_server", 1),
        ("not_found", 1),
        ("request_too_large", 1),
        ("queue_full", 1),
        ("queue_timeout", 1),
    ];
    until_ended(&gateway, &expected).await;
    gateway.drain().await;
    assert_eq!(waiting.head().await.status, 503);
    let shutting_down = gateway.gate.instruments().requests.of(Outcome::ShuttingDown).get();
    assert_eq!(shutting_down, 1);
    assert_eq!(timed(&gateway), (0, 0, 0), "none had a slot");
}

async fn until_failed(gateway: &Gateway, kind: &str) {
    let has_failed = async || failed(gateway).iter().any(|(known, _)| *known == kind).then_some(());
    eventually(&format!("a failure: {kind}"), SOON, has_failed).await;
}

#[tokio::test]
async fn a_server_that_loads_or_is_gone_is_counted_at_each_attempt() {
    let mut gateway = Gateway::start(GatewayConfig::default());
    let fake = Arc::new(FakeLlama::start(FakeConfig::default()).await);
    fake.set_loading(true);
    let gone = gateway.attach("a", free_addr(), 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &chat(json!({}))).await;
    until_failed(&gateway, "could_not_connect").await;
    gateway.gate.disconnected(gone);
    // Its reports say that it is ready, which it is not.
    gateway.follow("b", Arc::clone(&fake), 1, Duration::from_millis(50));
    until_failed(&gateway, "not_ready").await;
    fake.set_loading(false);
    assert_eq!(client.head().await.status, 200);
    client.body().await;
    until_ended(&gateway, &[("served", 1)]).await;
    let kinds: Vec<&str> = failed(&gateway).iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["could_not_connect", "not_ready"]);
    assert_eq!(timed(&gateway).2, 1, "however often it was tried");
}
