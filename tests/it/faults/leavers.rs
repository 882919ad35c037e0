//! Clients that leave in each phase of their request, in each way.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{CHAT, SOON};
use crate::support::fake_llama::FakeLlama;
use crate::support::gateway::{Gateway, one_server, until_at_rest, until_busy, until_waiting};
use crate::support::http::{RawClient, post_json};
use crate::support::wait::eventually;

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It sends nothing more, and reads on: to a gateway that is the same.
    HalfClose,
    Close,
    Reset,
}

/// What the client was at when it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected,
    Head,
    Body,
    Queue,
    Prefill,
    Stream,
    Kept,
}

const LEAVES: [Leave; 3] = [Leave::HalfClose, Leave::Close, Leave::Reset];

/// As many as slots may cool at once here: a slot that was left cools for a while.
const SLOTS: usize = 16;

fn request(fake: &Value) -> Value {
    json!({ "stream": true, "fake": fake })
}

impl Phase {
    /// Brings the client there.
    async fn reach(self, client: &mut RawClient, gateway: &Gateway, fake: &FakeLlama) {
        match self {
            Self::Connected => {}
            Self::Head => client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nConte")).await,
            Self::Body => {
                let head = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 9000\r\n\r\n{{\"a\":");
                client.send(head).await;
            }
            Self::Queue => {
                client.post(CHAT, &request(&json!({}))).await;
                until_waiting(gateway, 1).await;
            }
            Self::Prefill => {
                client.post(CHAT, &request(&json!({"hold": "for ever"}))).await;
                until_busy(fake, 1).await;
            }
            Self::Stream => {
                client.post(CHAT, &request(&json!({"hold_stream": "for ever"}))).await;
                assert_eq!(client.head().await.status, 200);
                assert!(client.chunk().await.unwrap().is_some());
            }
            Self::Kept => {
                client.post(CHAT, &request(&json!({}))).await;
                assert_eq!(client.answer().await.status, 200);
            }
        }
    }
}

/// Lets a client leave, and sees that the gateway closes its side too.
async fn leave(mut client: RawClient, how: Leave) {
    match how {
        Leave::HalfClose => {
            client.half_close().await;
            // An answer that began has broken off, a body that did not come whole is told; nothing else follows.
            timeout(SOON, client.until_closed()).await.expect("the connection stays open");
        }
        Leave::Close => drop(client),
        Leave::Reset => client.reset(),
    }
}

async fn leaves_at(phase: Phase, cancels: bool) {
    let (gateway, fake) = one_server(SLOTS).await;
    for (number, how) in (1..).zip(LEAVES) {
        let before = fake.stats();
        let mut client = RawClient::connect(gateway.addr()).await;
        phase.reach(&mut client, &gateway, &fake).await;
        leave(client, how).await;
        if cancels {
            let what = format!("the server sees {how:?} at {phase:?}");
            eventually(&what, SOON, async || (fake.stats().cancelled == number).then_some(())).await;
            assert_eq!(fake.stats().busy, 0);
        } else {
            assert_eq!(fake.stats().cancelled, 0, "{how:?} at {phase:?}");
        }
        let received = fake.stats().received - before.received;
        assert_eq!(received, u64::from(cancels || phase == Phase::Kept), "{how:?} at {phase:?}");
        // Whoever comes next is served.
        assert_eq!(timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.unwrap().status, 200);
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn before_a_byte() {
    leaves_at(Phase::Connected, false).await;
}

#[tokio::test]
async fn within_the_head() {
    leaves_at(Phase::Head, false).await;
}

#[tokio::test]
async fn within_the_body() {
    leaves_at(Phase::Body, false).await;
}

#[tokio::test]
async fn before_the_first_byte_of_the_answer() {
    leaves_at(Phase::Prefill, true).await;
}

#[tokio::test]
async fn within_the_answer() {
    leaves_at(Phase::Stream, true).await;
}

#[tokio::test]
async fn after_the_answer() {
    leaves_at(Phase::Kept, false).await;
}

#[tokio::test]
async fn in_the_queue() {
    let (gateway, fake) = one_server(1).await;
    let mut served = RawClient::connect(gateway.addr()).await;
    served.post(CHAT, &json!({"fake": {"hold": "the slot"}})).await;
    until_busy(&fake, 1).await;
    for how in LEAVES {
        let mut client = RawClient::connect(gateway.addr()).await;
        Phase::Queue.reach(&mut client, &gateway, &fake).await;
        leave(client, how).await;
        until_waiting(&gateway, 0).await;
    }
    fake.release("the slot");
    assert_eq!(served.answer().await.status, 200);
    assert_eq!(fake.stats().received, 1, "who left the queue was never sent on");
    until_at_rest(&gateway).await;
}

/// The connection to the server is dropped, so that it stops computing; those that are kept are few and do not grow.
#[tokio::test]
async fn the_servers_connections_go_too() {
    let (gateway, fake) = one_server(SLOTS).await;
    let fake = Arc::new(fake);
    let mut clients = Vec::new();
    for _ in 0..SLOTS {
        let mut client = RawClient::connect(gateway.addr()).await;
        Phase::Stream.reach(&mut client, &gateway, &fake).await;
        clients.push(client);
    }
    assert_eq!(fake.stats().connections_open, SLOTS);
    for (number, client) in clients.into_iter().enumerate() {
        leave(client, LEAVES[number % LEAVES.len()]).await;
    }
    eventually("every connection is closed", SOON, async || {
        (fake.stats().connections_open == 0).then_some(())
    })
    .await;
    until_at_rest(&gateway).await;
}
