//! Clients that send slowly, and servers that answer slowly or never: what runs into a time limit is told, the rest is
//! served, and nobody else waits for it.

use std::time::Duration;

use paddock::proxy::Limits;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{CHAT, SOON};
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::http::{Answer, RawClient, post_json};
use crate::support::scripted::Scripted;

/// For who is to run into it.
const SHORT: Duration = Duration::from_millis(400);
/// For who is not, while others are to: whatever is there at once comes within it.
const LONG: Duration = Duration::from_secs(3);
/// Between two bytes of a client that dribbles: far less than it may take for a part.
const DRIBBLE: Duration = Duration::from_millis(20);
/// Slow clients at once: more than there are slots.
const CROWD: usize = 50;

async fn limited(limit: impl FnOnce(&mut Limits)) -> (Gateway, FakeLlama) {
    let fake = FakeLlama::start(FakeConfig { slots: 4, ..FakeConfig::default() }).await;
    let mut config = GatewayConfig::default();
    limit(&mut config.proxy.limits);
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 4);
    (gateway, fake)
}

/// Sends byte by byte, until the gateway has enough of it; then what it answers.
async fn dribble(gateway: &Gateway, at_once: &str, slowly: &str) -> Answer {
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send(at_once).await;
    for byte in slowly.bytes() {
        tokio::select! {
            biased;
            () = client.until_readable() => break,
            () = sleep(DRIBBLE) => {}
        }
        if !client.try_send([byte]).await {
            break;
        }
    }
    timeout(SOON, client.answer()).await.expect("it hangs")
}

fn is_told(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_head_that_dribbles_for_too_long() {
    let (gateway, fake) = limited(|limits| limits.head_read_max = LONG).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\n");
    let endless = format!("X-A: {}", "b".repeat(1000));
    // From the first byte, and with most of it there at once.
    let crowd = (0..CROWD).map(|number| {
        let (gateway, head, endless) = (&gateway, &head, &endless);
        async move {
            let (at_once, slowly) = if number % 2 == 0 { (head.as_str(), endless) } else { ("", head) };
            dribble(gateway, at_once, &format!("{slowly}{endless}")).await
        }
    });
    let others = async {
        for _ in 0..20 {
            assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.status, 200);
            sleep(DRIBBLE).await;
        }
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(crowd), others);
    for answer in answers {
        is_told(&answer, 408, "head_timeout");
    }
    assert_eq!(fake.stats().received, 20);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_body_that_stops_or_dribbles_for_too_long() {
    let (gateway, fake) = limited(|limits| limits.body_read_max = LONG).await;
    let long = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 9000\r\n\r\n{{");
    let chunked = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
    let one = "1\r\nx\r\n".repeat(1000);
    let rest = "x".repeat(1000);
    let stops =
        futures_util::future::join(dribble(&gateway, &long, ""), dribble(&gateway, &chunked, "1\r\nx"));
    let dribbles = futures_util::future::join_all(
        [(&long, &rest), (&chunked, &one)]
            .into_iter()
            .cycle()
            .take(CROWD)
            .map(|(at_once, slowly)| dribble(&gateway, at_once, slowly)),
    );
    let (stopped, dribbled) = tokio::join!(stops, dribbles);
    for answer in [stopped.0, stopped.1].iter().chain(&dribbled) {
        is_told(answer, 408, "body_timeout");
    }
    assert_eq!(fake.stats().received, 0);
    assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.status, 200);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_request_that_dribbles_within_the_limits_is_served() {
    let (gateway, _fake) = limited(|_| {}).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n");
    let answer = dribble(&gateway, &head, "\r\n{}").await;
    assert_eq!(answer.status, 200);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let (gateway, _fake) = limited(|limits| limits.head_read_max = SHORT).await;
    let mut silent = RawClient::connect(gateway.addr()).await;
    assert!(timeout(SOON, silent.is_closed_silently()).await.expect("it stays"));
    let mut preface = RawClient::connect(gateway.addr()).await;
    preface.send("PRI * HTT").await;
    assert!(timeout(SOON, preface.is_closed_silently()).await.expect("it stays"));
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let left = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let gone = left.clone();
    let server = Scripted::start(move |mut peer, _| {
        let gone = gone.clone();
        async move {
            peer.request().await;
            peer.until_closed().await;
            gone.add_permits(1);
        }
    })
    .await;
    let mut config = GatewayConfig::default();
    config.proxy.limits.first_byte_max = Some(SHORT);
    let gateway = Gateway::start(config);
    gateway.attach("a", server.addr, 8);
    for path in [CHAT, "/tokenize"] {
        let answer = timeout(SOON, post_json(gateway.addr(), path, &json!({}))).await.expect("it hangs");
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (504, Some("upstream_timeout")),
            "{path}"
        );
        // The server learns that nobody waits for it any more.
        timeout(SOON, left.acquire()).await.expect("the server's connection stays").unwrap().forget();
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_server_that_begins_in_time_may_take_long() {
    const PARTS: u32 = 20;
    let server = Scripted::start(|mut peer, _| async move {
        peer.request().await;
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {PARTS}\r\n\r\n")).await;
        for _ in 0..PARTS {
            sleep(LONG * 2 / PARTS).await;
            peer.send("x").await;
        }
    })
    .await;
    let mut config = GatewayConfig::default();
    config.proxy.limits.first_byte_max = Some(LONG);
    let gateway = Gateway::start(config);
    gateway.attach("a", server.addr, 1);
    let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
    assert_eq!((answer.status, answer.body.len()), (200, 20));
    until_at_rest(&gateway).await;
}
