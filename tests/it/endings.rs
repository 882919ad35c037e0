//! Slow readers, and what a drain does to each kind of connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig};
use crate::support::http::{RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
/// More than all buffers between a server and a client take.
const LONG: usize = 64 << 20;
const SOON: Duration = Duration::from_secs(10);

async fn one_server(slots: usize) -> (Gateway, FakeLlama) {
    let fake = FakeLlama::start(FakeConfig { slots, ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), u32::try_from(slots).unwrap());
    (gateway, fake)
}

/// A server with one long answer, of which each byte tells its place.
async fn long_answer() -> (SocketAddr, Vec<u8>) {
    let body: Vec<u8> = (0..LONG).map(|at: usize| (at % 251) as u8).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = body.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        while !request.ends_with(b"{}") {
            let count = stream.read(&mut request).await.unwrap();
            request.copy_within(..count, 4096 - count);
        }
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        stream.write_all(&sent).await.unwrap();
        std::future::pending::<()>().await;
    });
    (addr, body)
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte_also_during_a_drain() {
    let (addr, expected) = long_answer().await;
    let mut gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", addr, 1);
    let mut slow = RawClient::connect(gateway.addr()).await;
    slow.post(CHAT, &json!({})).await;
    assert_eq!(slow.head().await.status, 200);
    let gate = gateway.gate.clone();
    let drain = gateway.drain();
    let reader = async {
        // Long enough for all that memory and sockets take: the rest waits in the server.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(gate.in_flight().0, 1, "the answer was swallowed whole");
        let (body, is_whole) = slow.body().await;
        assert!(is_whole && body == expected, "{} of {LONG} bytes", body.len());
        assert!(slow.is_closed_silently().await);
    };
    timeout(SOON * 3, async { tokio::join!(drain, reader) }).await.unwrap();
}

#[tokio::test]
async fn a_drain_closes_idle_connections_at_once() {
    let (mut gateway, _fake) = one_server(1).await;
    let mut fresh = RawClient::connect(gateway.addr()).await;
    let mut kept = RawClient::connect(gateway.addr()).await;
    kept.post(CHAT, &json!({})).await;
    assert_eq!(kept.answer().await.status, 200);
    let mut beginning = RawClient::connect(gateway.addr()).await;
    beginning.send("P").await;
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let (mut h2, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let h2_end = tokio::spawn(connection);
    let request = Request::get(format!("http://{}/health", gateway.addr())).body(Empty::new()).unwrap();
    let answer = h2.send_request(request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    answer.into_body().collect().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    timeout(SOON, gateway.drain()).await.expect("idle connections hold the drain");
    assert!(fresh.is_closed_silently().await);
    assert!(kept.is_closed_silently().await);
    assert!(beginning.is_closed_silently().await);
    timeout(SOON, h2_end).await.unwrap().unwrap().ok();
}

#[tokio::test]
async fn a_body_that_is_still_sent_when_the_drain_begins_is_answered() {
    let (mut gateway, fake) = one_server(1).await;
    let mut sending = RawClient::connect(gateway.addr()).await;
    sending.send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{{")).await;
    let mut running = RawClient::connect(gateway.addr()).await;
    running.post(CHAT, &json!({"stream": true, "fake": {"hold_stream": "rest"}})).await;
    assert_eq!(running.head().await.status, 200);
    let drain = gateway.drain();
    let clients = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sending.send("}").await;
        let answer = sending.answer().await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("shutting_down")));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(sending.is_closed_silently().await);
        fake.release("rest");
        assert!(running.body().await.1);
    };
    timeout(SOON, async { tokio::join!(drain, clients) }).await.unwrap();
}

#[tokio::test]
async fn a_drain_gives_the_agents_to_the_successor_at_once_and_finishes_its_answers() {
    let fake = FakeLlama::start(FakeConfig { slots: 2, ..FakeConfig::default() }).await;
    let mut old = Paddock::start(&["--shutdown-grace", "60s"]).await;
    let (proxy, management) = (old.proxy(), old.management());
    let _agent = Paddock::agent(fake.addr(), management, &[]);
    let mut stream = RawClient::connect(proxy).await;
    stream.post(CHAT, &json!({"stream": true, "fake": {"hold_stream": "rest"}})).await;
    assert_eq!(stream.head().await.status, 200);
    let mut plain = RawClient::connect(proxy).await;
    plain.post(CHAT, &json!({"fake": {"hold": "rest"}})).await;
    eventually("both run", SOON, async || (fake.stats().busy == 2).then_some(())).await;
    let mut queued = RawClient::connect(proxy).await;
    queued.post(CHAT, &json!({})).await;
    eventually("one waits", SOON, async || {
        (old.state().await["requests_buffered"] == json!(1)).then_some(())
    })
    .await;

    old.sigterm();
    let refused = queued.answer().await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("shutting_down")));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(refused.header("retry-after").is_some());
    assert!(queued.is_closed_silently().await);
    for addr in [proxy, management] {
        eventually("nobody listens", SOON, async || TcpStream::connect(addr).await.is_err().then_some(()))
            .await;
    }
    let successor = Paddock::start_on(proxy, management, &[]).await;
    eventually("the agent is the successor's, and what runs is seen", SOON, async || {
        let state = successor.state().await;
        (state["pools"][0]["slots_processing"] == json!(2)).then_some(())
    })
    .await;
    assert_eq!(old.program().ended(), None, "its answers still run");

    fake.release("rest");
    let (body, is_whole) = stream.body().await;
    assert!(is_whole && body.ends_with(b"data: [DONE]\n\n"));
    assert!(stream.is_closed_silently().await);
    let answer = plain.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(old.wait().await.success());
    assert_eq!(post_json(proxy, CHAT, &json!({})).await.status, 200);
}

#[tokio::test]
async fn a_request_that_comes_just_after_the_drain_began_is_answered() {
    let (mut gateway, _fake) = one_server(1).await;
    let mut late = RawClient::connect(gateway.addr()).await;
    let mut known = RawClient::connect(gateway.addr()).await;
    known.post(CHAT, &json!({})).await;
    assert_eq!(known.answer().await.status, 200);
    let drain = gateway.drain();
    let client = async {
        assert!(known.is_closed_silently().await, "the drain has begun");
        late.post(CHAT, &json!({})).await;
        let answer = late.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(late.is_closed_silently().await);
    };
    timeout(SOON, async { tokio::join!(drain, client) }).await.unwrap();
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (gateway, fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    let post = |number: usize| {
        let body = json!({"prompt": "x", "fake": {"chunks": number}}).to_string();
        format!(
            "POST /completion?n={number} HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    client.send((1..=5).map(post).collect::<String>()).await;
    for _ in 1..=5 {
        assert_eq!(timeout(SOON, client.answer()).await.unwrap().status, 200);
    }
    let order: Vec<String> = fake.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(order, (1..=5).map(|n| format!("/completion?n={n}")).collect::<Vec<_>>());
    eventually("rest", SOON, async || (gateway.gate.in_flight() == (0, 0)).then_some(())).await;
}

#[tokio::test]
async fn a_health_check_with_a_body_leaves_the_connection_in_order() {
    let (gateway, _fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    for _ in 0..2 {
        client.send("GET /health HTTP/1.1\r\nHost: g\r\nContent-Length: 300000\r\n\r\n").await;
        client.send(vec![b'x'; 300_000]).await;
        assert_eq!(client.answer().await.status, 200);
    }
}
