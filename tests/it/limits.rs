//! What becomes of whoever runs into a limit of connections. Slow heads and bodies, and servers that never answer, are in
//! `faults`; heads that are too large in `conformance`; large bodies in `proxy`.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use paddock::proxy::Limits;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::h2;
use crate::support::http::{RawClient, post, post_json};

const SOON: Duration = Duration::from_secs(10);
/// Longer than it takes for a connection to be looked at.
const SHORT: Duration = Duration::from_millis(600);
const CHAT: &str = "/v1/chat/completions";

fn limited(change: impl FnOnce(&mut Limits)) -> Gateway {
    let mut config = GatewayConfig::default();
    config.proxy.worker_threads = 1;
    change(&mut config.proxy.limits);
    Gateway::start(config)
}

#[tokio::test]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = limited(|limits| {
        limits.head_read_max = Duration::from_millis(300);
        limits.client_idle_max = Duration::from_secs(2);
    });
    gateway.attach("a", fake.addr(), 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &json!({})).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(timeout(SHORT * 2, client.is_closed_silently()).await.is_err(), "still within its idle time");
    client.post(CHAT, &json!({})).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(timeout(SOON, client.is_closed_silently()).await.expect("it stays"));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_of_its_end() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = limited(|limits| limits.client_idle_max = SHORT);
    gateway.attach("a", fake.addr(), 1);
    let mut sender = h2::over(TcpStream::connect(gateway.addr()).await.unwrap()).await;
    let request = Request::post(format!("http://{}{CHAT}", gateway.addr())).body(Full::from("{}")).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    // After GOAWAY no further request is let through.
    timeout(SOON, async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it stays");
}

#[tokio::test]
async fn a_client_with_too_many_connections_is_told() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = limited(|limits| limits.connections_per_client_max = Some(2));
    gateway.attach("a", fake.addr(), 1);
    let mut two = [RawClient::connect(gateway.addr()).await, RawClient::connect(gateway.addr()).await];
    for client in &mut two {
        client.post(CHAT, &json!({})).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut third = RawClient::connect(gateway.addr()).await;
    third.send(post(CHAT, &json!({"prompt": "x".repeat(1000)}))).await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert_eq!(answer.json()["error"]["code"], "too_many_connections");
    assert!(answer.header("retry-after").is_some());
    drop((two, third));
    let again = async { while post_json(gateway.addr(), CHAT, &json!({})).await.status != 200 {} };
    timeout(SOON, again).await.expect("its places come back");
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn beyond_all_connections_clients_wait_to_be_accepted() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = limited(|limits| limits.connections_max = 1);
    gateway.attach("a", fake.addr(), 1);
    let mut first = RawClient::connect(gateway.addr()).await;
    first.post(CHAT, &json!({})).await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = RawClient::connect(gateway.addr()).await;
    second.post(CHAT, &json!({})).await;
    assert!(timeout(SHORT, second.until_readable()).await.is_err(), "there is no room for it");
    drop(first);
    assert_eq!(timeout(SOON, second.answer()).await.expect("there is room now").status, 200);
}

/// An address that accepts nothing: its backlog is full.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        held.push(stream.unwrap());
    }
    // Never accepted from, and kept to the end of the test.
    std::mem::forget(listener);
    (addr, held)
}

#[tokio::test]
async fn a_server_that_does_not_accept_is_given_up() {
    let (addr, _held) = black_hole().await;
    let gateway = limited(|limits| limits.connect_max = Duration::from_millis(100));
    gateway.attach("a", addr, 1);
    let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it waits");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("no answer within 0.1 s"), "{}", answer.text());
    until_at_rest(&gateway).await;
}
