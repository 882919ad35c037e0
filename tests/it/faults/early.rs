//! Servers that speak at the wrong time: before the request has come, or when nobody asked.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{CHAT, SOON, one_worker};
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::http::{RawClient, post_json};
use crate::support::scripted::{Ending, Scripted};

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
const STOLEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
/// More than the sockets between the two hold.
const LARGE: usize = 40 << 20;

fn large_bodies() -> Gateway {
    let mut config = GatewayConfig::default();
    config.proxy.worker_threads = 1;
    config.proxy.limits.body_bytes_max = 64 << 20;
    config.proxy.limits.buffered_bytes_max = 256 << 20;
    Gateway::start(config)
}

fn large() -> Value {
    json!({ "prompt": "x".repeat(LARGE) })
}

/// It tells why, reads on for a moment as it should, and closes: the client sees why.
#[tokio::test]
async fn before_the_body_and_it_reads_on() {
    let server = Scripted::start(|mut peer, number| async move {
        peer.head().await;
        if number == 0 {
            peer.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nwhy").await;
            peer.stream.shutdown().await.unwrap();
            return peer.until_closed().await;
        }
        peer.send(FINE).await;
        peer.until_closed().await;
    })
    .await;
    let gateway = large_bodies();
    gateway.attach("a", server.addr, 1);
    let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &large())).await.expect("it hangs");
    assert_eq!((answer.status, answer.text().as_str()), (400, "why"));
    let next = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
    assert_eq!(next.text(), "fine");
    until_at_rest(&gateway).await;
}

/// It tells why and closes with the body unread, which resets the connection: the answer may be lost on the way, and then
/// the server counts as dead.
#[tokio::test]
async fn before_the_body_and_it_closes() {
    for ending in [Ending::Fin, Ending::Reset] {
        let server = Scripted::start(move |mut peer, _| async move {
            peer.head().await;
            peer.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nwhy").await;
            peer.end(ending);
        })
        .await;
        let gateway = large_bodies();
        gateway.attach("a", server.addr, 1);
        gateway.attach("b", server.addr, 1);
        let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &large())).await.expect("it hangs");
        let is_told = match answer.status {
            400 => answer.text() == "why",
            502 => answer.text().contains("upstream_failed"),
            _ => false,
        };
        assert!(is_told, "{} {}", answer.status, answer.text());
        until_at_rest(&gateway).await;
    }
}

/// Bytes that come while the connection is kept for the next request are nobody's answer.
#[tokio::test]
async fn while_nobody_asks() {
    for late in [STOLEN, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", "\0", "\r\n"] {
        let (go, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = Scripted::start({
            let (go, gone) = (go.clone(), gone.clone());
            move |mut peer, _| {
                let (go, gone) = (go.clone(), gone.clone());
                async move {
                    peer.request().await;
                    peer.send(FINE).await;
                    go.notified().await;
                    peer.send(late).await;
                    gone.notify_one();
                    if peer.request().await.is_some() {
                        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
                        peer.until_closed().await;
                    }
                }
            }
        })
        .await;
        let gateway = one_worker();
        gateway.attach("a", server.addr, 1);
        assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.text(), "fine");
        go.notify_one();
        gone.notified().await;
        let next = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
        assert_eq!((next.status, next.text().as_str()), (200, "fine"), "after {late:?}");
        until_at_rest(&gateway).await;
    }
}

/// A connection that ends while it is kept is replaced, whatever its end; the client sees nothing of it.
#[tokio::test]
async fn by_ending_while_nobody_asks() {
    for ending in [Ending::Fin, Ending::Reset] {
        let (go, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = Scripted::start({
            let (go, gone) = (go.clone(), gone.clone());
            move |mut peer, _| {
                let (go, gone) = (go.clone(), gone.clone());
                async move {
                    peer.request().await;
                    peer.send(FINE).await;
                    // The gateway has read it once the client has.
                    go.notified().await;
                    peer.end(ending);
                    gone.notify_one();
                }
            }
        })
        .await;
        let gateway = one_worker();
        gateway.attach("a", server.addr, 1);
        for _ in 0..5 {
            let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
            assert_eq!(answer.text(), "fine", "after a {ending:?}");
            go.notify_one();
            gone.notified().await;
        }
        until_at_rest(&gateway).await;
    }
}

/// A client's connection that is kept may be reset as well.
#[tokio::test]
async fn clients_reset_what_was_kept() {
    let server = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send(FINE).await;
        }
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    for _ in 0..20 {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.post(CHAT, &json!({})).await;
        assert_eq!(client.answer().await.text(), "fine");
        client.reset();
    }
    until_at_rest(&gateway).await;
}
