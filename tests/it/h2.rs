//! HTTP/2 with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(10);

async fn client(gateway: &Gateway) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn chat(gateway: &Gateway, fake: serde_json::Value) -> Request<Full<Bytes>> {
    let body = json!({"stream": true, "fake": fake}).to_string();
    Request::post(format!("http://{}/v1/chat/completions", gateway.addr()))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap()
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let fake = FakeLlama::start(FakeConfig { slots: 3, ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 3);
    let mut sender = client(&gateway).await;
    let answers =
        (0..20).map(|_| sender.send_request(chat(&gateway, json!({"delay_ms": 5})))).collect::<Vec<_>>();
    for answer in futures_util::future::join_all(answers).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        assert!(answer.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    }
    assert_eq!((fake.stats().completed, fake.stats().overcommit), (20, 0));
    let host = fake.seen().pop().unwrap().headers["host"].clone();
    assert_eq!(host, gateway.addr().to_string());
}

#[tokio::test]
async fn a_stream_that_is_reset_frees_its_slot() {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 1);
    let mut sender = client(&gateway).await;
    let answer = sender.send_request(chat(&gateway, json!({"hold_stream": "for ever"}))).await.unwrap();
    assert_eq!(fake.stats().busy, 1);
    let queued = tokio::spawn(sender.send_request(chat(&gateway, json!({}))));
    eventually("one waits", SOON, async || (gateway.gate.in_flight().1 == 1).then_some(())).await;
    queued.abort();
    eventually("it left the queue", SOON, async || (gateway.gate.in_flight().1 == 0).then_some(())).await;
    drop(answer);
    eventually("the server saw it leave", SOON, async || (fake.stats().cancelled == 1).then_some(())).await;
    eventually("the slot is free", SOON, async || (gateway.gate.in_flight() == (0, 0)).then_some(())).await;
}

#[tokio::test]
async fn a_drain_ends_the_connection_after_its_streams() {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let mut gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 1);
    let mut sender = client(&gateway).await;
    let answer = sender.send_request(chat(&gateway, json!({"hold_stream": "rest"}))).await.unwrap();
    let drain = gateway.drain();
    let client = async {
        fake.release("rest");
        assert!(answer.into_body().collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
    };
    tokio::join!(drain, client);
}
