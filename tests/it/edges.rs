//! The data path in front of servers that do what llama.cpp seldom does: each is a script of raw bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::gateway::{Gateway, GatewayConfig};
use crate::support::http::{RawClient, get, post_json};
use crate::support::scripted::{Peer, Scripted};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(10);
const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// One worker, so that it is known which connections are kept.
fn one_worker() -> Gateway {
    let mut config = GatewayConfig::default();
    config.proxy.worker_threads = 1;
    Gateway::start(config)
}

async fn until_at_rest(gateway: &Gateway) {
    eventually("every slot is free", SOON, async || (gateway.gate.in_flight() == (0, 0)).then_some(())).await;
    assert_eq!(gateway.gate.broken(), 0);
}

#[tokio::test]
async fn a_poisonous_request_does_not_travel_over_kept_connections() {
    let poisoned = Arc::new(AtomicUsize::new(0));
    let gateway = one_worker();
    // Each answers one request, keeps the connection, and dies of the second one: nobody listens any more.
    for number in 0..6 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let poisoned = poisoned.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut peer = Peer::new(stream);
            peer.request().await.unwrap();
            peer.send(FINE).await;
            if peer.request().await.is_some() {
                poisoned.fetch_add(1, Ordering::SeqCst);
            }
        });
        let agent = gateway.attach(&number.to_string(), addr, 1);
        assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.status, 200);
        // Aside, until all have a connection that is kept: somebody else uses it, as the second report without a lease
        // shows.
        gateway.report(agent, &number.to_string(), addr, 1, 1);
        gateway.report(agent, &number.to_string(), addr, 1, 1);
    }
    for number in 0..6 {
        let agent = gateway.gate.register(&number.to_string(), Some("1"));
        let (snapshot, _) = gateway.gate.snapshot();
        let addr = snapshot.agents.iter().find(|known| known.key == agent.agent).unwrap().address;
        gateway.report(agent, &number.to_string(), addr, 1, 0);
    }
    let answer = post_json(gateway.addr(), CHAT, &json!({})).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_failed")));
    assert_eq!(poisoned.load(Ordering::SeqCst), 2, "{}", answer.text());
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_connection_that_died_within_its_head_is_not_stale() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    let server = Scripted::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            peer.request().await;
            peer.send(FINE).await;
            if peer.request().await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
                peer.send("HTTP/1.1 200 OK\r\nConte").await;
            }
        }
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.status, 200);
    // The kept connection breaks within the head: a death, after which the request waits for another attempt.
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &json!({})).await;
    eventually("the request failed once", SOON, async || {
        (gateway.gate.in_flight().1 == 1 || requests.load(Ordering::SeqCst) == 1).then_some(())
    })
    .await;
    eventually("it waits", SOON, async || (gateway.gate.in_flight().1 == 1).then_some(())).await;
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_does_not_block_the_next_request() {
    let server = Scripted::start(|mut peer, number| async move {
        if number == 0 {
            // Answers from the head alone, and never reads on.
            peer.head().await;
            peer.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
            std::future::pending::<()>().await;
        }
        while peer.request().await.is_some() {
            peer.send(FINE).await;
        }
    })
    .await;
    let mut config = GatewayConfig::default();
    config.proxy.worker_threads = 1;
    config.proxy.limits.body_bytes_max = 32 << 20;
    config.proxy.limits.buffered_bytes_max = 64 << 20;
    let gateway = Gateway::start(config);
    gateway.attach("a", server.addr, 1);
    let large = json!({ "prompt": "x".repeat(24 << 20) });
    assert_eq!(post_json(gateway.addr(), CHAT, &large).await.status, 401);
    let next = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await;
    assert_eq!(next.expect("the next request hangs").status, 200);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_read_on_also_after_100_continue() {
    let gateway = one_worker();
    let mut client = RawClient::connect(gateway.addr()).await;
    let head = "Host: g\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("POST {CHAT} HTTP/1.1\r\n{head}")).await;
    assert_eq!(client.head().await.status, 100);
    client.send("200000\r\n").await;
    client.send(vec![b'x'; 0x120000]).await;
    assert_eq!(client.head().await.status, 413);
    // Whoever is still sending is not cut off at once: a write that fails would hide the answer.
    for _ in 0..8 {
        client.send(vec![b'x'; 100_000]).await;
    }
    client.half_close().await;
}

#[tokio::test]
async fn answers_without_a_body_pass_as_they_are() {
    let server = Scripted::start(|mut peer, _| async move {
        while let Some(head) = peer.request().await {
            let answer = match head.split(' ').nth(1).unwrap() {
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
                "/interim" => {
                    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            };
            peer.send(answer).await;
        }
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    for (request, status) in [
        ("HEAD /v1/models", 200),
        ("GET /204", 204),
        ("GET /304", 304),
        ("GET /interim", 200),
        ("HEAD /other", 200),
        ("HEAD /204", 204),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        let answer = timeout(SOON, client.head()).await.unwrap_or_else(|_| panic!("{request} hangs"));
        assert_eq!(answer.status, status, "{request}");
        let length = if request == "HEAD /v1/models" || request == "HEAD /other" { Some("99") } else { None };
        if length.is_some() {
            assert_eq!(answer.header("content-length"), length, "{request}");
        }
    }
}

#[tokio::test]
async fn an_answer_with_two_framings_has_one() {
    let server = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nnine byte\r\n0\r\n\r\n",
            )
            .await;
        }
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    for _ in 0..2 {
        client.post(CHAT, &json!({})).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "nine byte"));
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_server_that_switches_protocols_has_failed() {
    let server = Scripted::start(|mut peer, _| async move {
        peer.request().await;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_failed")));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_long_503_is_the_servers_answer() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    let server = Scripted::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            while peer.request().await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
                let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100000\r\n\r\n";
                peer.send([head.as_bytes(), &[b'x'; 100_000]].concat()).await;
            }
        }
    })
    .await;
    let gateway = one_worker();
    gateway.attach("a", server.addr, 1);
    let answer = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await.expect("it hangs");
    assert_eq!((answer.status, answer.body.len()), (503, 100_000));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn an_encoded_answer_is_not_remembered_as_plain() {
    let server = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x0b\x08\x01",
            )
            .await;
        }
    })
    .await;
    let gateway = one_worker();
    let agent = gateway.attach("a", server.addr, 1);
    assert_eq!(get(gateway.addr(), "/v1/models").await.body.len(), 4);
    gateway.gate.disconnected(agent);
    assert_eq!(get(gateway.addr(), "/v1/models").await.json()["object"], "list");
}

#[tokio::test]
async fn an_agents_old_connection_does_not_move_its_server() {
    let old = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
        }
    })
    .await;
    let new = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew").await;
        }
    })
    .await;
    let gateway = one_worker();
    let first = gateway.attach("a", old.addr, 1);
    let second = gateway.attach("a", new.addr, 1);
    assert_eq!(first.agent, second.agent, "the same life");
    gateway.report(first, "a", old.addr, 1, 0);
    assert_eq!(post_json(gateway.addr(), CHAT, &json!({})).await.text(), "new");
    until_at_rest(&gateway).await;
}

/// RFC 9112 section 7.1.2: they are passed on to a client that wants them, and to no other.
#[tokio::test]
async fn trailers_of_an_answer_reach_who_asks_for_them() {
    let server = Scripted::start(|mut peer, _| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            peer.send("4\r\nfine\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", server.addr, 1);
    for (asks, is_told) in
        [("TE: trailers\r\nConnection: TE, close\r\n", true), ("Connection: close\r\n", false)]
    {
        let mut stream = tokio::net::TcpStream::connect(gateway.addr()).await.unwrap();
        let request = format!("POST /completion HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n{asks}\r\n{{}}");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.contains("fine"), "{answer}");
        assert_eq!(answer.to_ascii_lowercase().contains("x-sum: 7"), is_told, "{answer}");
    }
    until_at_rest(&gateway).await;
}

/// Between a browser and llama.cpp the gateway adds and takes away nothing.
#[tokio::test]
async fn a_preflight_is_answered_by_a_live_server_over_ipv6_too() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = Scripted::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            while let Some(head) = peer.request().await {
                seen.send(head).unwrap();
                let cors = "Access-Control-Allow-Origin: https://page.example\r\nAccess-Control-Allow-Headers: *\r\n";
                peer.send(format!("HTTP/1.1 200 OK\r\n{cors}Content-Length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start_on(std::net::Ipv6Addr::LOCALHOST.into(), GatewayConfig::default());
    gateway.attach("a", server.addr, 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    let asked = "Origin: https://page.example\r\nAccess-Control-Request-Method: POST\r\n";
    client.send(format!("OPTIONS {CHAT} HTTP/1.1\r\nHost: [::1]:8080\r\n{asked}\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://page.example"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("*"));
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    for line in [
        "origin: https://page.example",
        "access-control-request-method: post",
        "host: [::1]:8080",
        "x-forwarded-for: ::1",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
    }
}
