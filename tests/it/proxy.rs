//! The data path in front of fake servers: what passes, what is refused, what is tried again, what is freed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, one_server, until_at_rest, until_busy, until_waiting};
use crate::support::http::{RawClient, get, post_json};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(10);

fn chat(fake: Value) -> Value {
    json!({"model": "any", "messages": [{"role": "user", "content": "hello"}], "fake": fake})
}

fn streaming(fake: Value) -> Value {
    json!({"model": "any", "stream": true, "messages": [], "fake": fake})
}

#[tokio::test]
async fn a_request_passes_byte_for_byte() {
    let (gateway, fake) = one_server(2).await;
    let body = chat(json!({}));
    let mut client = RawClient::connect(gateway.addr()).await;
    let head = "POST /v1/chat/completions?x=1%20 HTTP/1.1\r\nHost: gateway\r\nX-Mine: kept\r\nConnection: x-hop\r\n\
                X-Hop: stripped\r\nX-Conversation-Id: 7\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n";
    let text = body.to_string();
    client.send(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len())).await;
    let interim = client.head().await;
    assert_eq!(interim.status, 100);
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-paddock-agent"), Some("a"));
    assert_eq!(answer.header("x-paddock-cold-start"), Some("false"));
    assert!(answer.header("x-paddock-queue-ms").unwrap().parse::<u64>().unwrap() < 10_000);
    assert!(answer.header("x-request-id").unwrap().starts_with("req-"));
    let seen = fake.seen().pop().unwrap();
    assert_eq!(seen.target, "/v1/chat/completions?x=1%20");
    assert_eq!(seen.body_sha256, hex(&Sha256::digest(text.as_bytes())));
    assert_eq!(seen.headers["host"], "gateway");
    assert_eq!(seen.headers["x-mine"], "kept");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    for stripped in ["x-hop", "x-conversation-id", "expect", "connection"] {
        assert!(!seen.headers.contains_key(stripped), "{stripped}");
    }
    until_at_rest(&gateway).await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_chunked_body_is_sent_on_with_its_length() {
    let (gateway, fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client
        .send("POST /completion HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"promp\r\n9\r\nt\":\"abc\"}\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 200);
    let seen = fake.seen().pop().unwrap();
    assert_eq!((seen.body_length, seen.headers["content-length"].to_str().unwrap()), (16, "16"));
    assert!(!seen.headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn a_stream_passes_as_it_comes() {
    let (gateway, fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &streaming(json!({"hold_stream": "rest"}))).await;
    assert_eq!(client.head().await.status, 200);
    let first = client.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: "), "the first event came while the rest is held");
    fake.release("rest");
    let (rest, is_whole) = client.body().await;
    assert!(is_whole && rest.ends_with(b"data: [DONE]\n\n"));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_request_for_several_slots_takes_as_many() {
    let (gateway, fake) = one_server(4).await;
    let mut wide = RawClient::connect(gateway.addr()).await;
    wide.post(CHAT, &json!({"n": 3, "fake": {"hold": "wide"}})).await;
    until_busy(&fake, 3).await;
    let mut second = RawClient::connect(gateway.addr()).await;
    second.post(CHAT, &json!({"n": 2, "fake": {}})).await;
    until_waiting(&gateway, 1).await;
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200, "one slot is free");
    fake.release("wide");
    assert_eq!(wide.answer().await.status, 200);
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(fake.stats().overcommit, 0);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_large_body_is_looked_through_as_well() {
    let (gateway, fake) = one_server(4).await;
    let mut wide = RawClient::connect(gateway.addr()).await;
    let filler = "x".repeat(500_000);
    wide.post(
        CHAT,
        &json!({"messages": [{"role": "user", "content": filler}], "n": 3, "fake": {"hold": "on"}}),
    )
    .await;
    until_busy(&fake, 3).await;
    assert_eq!(gateway.gate.snapshot().0.pools[0].slots_idle, 1);
    fake.release("on");
    assert_eq!(wide.answer().await.status, 200);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_stale_connection_is_replaced_unseen() {
    let (gateway, fake) = one_server(1).await;
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200);
    fake.set_stale(true);
    // Each worker has its own connections: enough requests meet the one that is kept.
    for _ in 0..8 {
        assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200);
    }
    let stats = fake.stats();
    assert!(stats.refused_stale > 0, "a request met a stale connection");
    assert_eq!(stats.completed, 9, "and each was answered once");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn llama_cpps_idle_close_is_not_an_error() {
    let fake =
        FakeLlama::start(FakeConfig { idle_close: Duration::from_millis(50), ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 4);
    for _ in 0..5 {
        assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200);
        eventually("the server closed", SOON, async || (fake.stats().connections_open == 0).then_some(()))
            .await;
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_passed_over() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("nobody", crate::support::wait::free_addr(), 8);
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    gateway.attach("somebody", fake.addr(), 1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-paddock-agent")), (200, Some("somebody")));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_request_that_never_reaches_a_server_is_told_so() {
    let gateway = Gateway::start(GatewayConfig::default());
    let nobody = crate::support::wait::free_addr();
    gateway.attach("nobody", nobody, 1);
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({}))).await;
    let shown = gateway.gate.snapshot().0.agents[0].error.clone().unwrap();
    assert!(shown.contains("cannot be reached"), "the agent's list shows it: {shown}");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_failed")));
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&nobody.to_string()) && message.contains("refused"), "{message}");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_poisonous_request_is_tried_twice_only() {
    let servers = [one_more().await, one_more().await, one_more().await];
    let gateway = Gateway::start(GatewayConfig::default());
    for (number, server) in servers.iter().enumerate() {
        gateway.attach(&number.to_string(), server.addr(), 4);
    }
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({"die": "before_head"}))).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_failed")));
    let died: u64 = servers.iter().map(|server| server.stats().died).sum();
    assert_eq!(died, 2);
    until_at_rest(&gateway).await;
}

async fn one_more() -> FakeLlama {
    FakeLlama::start(FakeConfig::default()).await
}

#[tokio::test]
async fn a_loading_server_gets_nothing_until_a_good_report() {
    let fake = Arc::new(FakeLlama::start(FakeConfig::default()).await);
    fake.set_loading(true);
    let mut gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 4);
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &chat(json!({}))).await;
    eventually("the server refused", SOON, async || (fake.stats().refused_loading == 1).then_some(())).await;
    until_waiting(&gateway, 1).await;
    fake.set_loading(false);
    gateway.follow("a", fake.clone(), 4, Duration::from_millis(50));
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(fake.stats().refused_loading, 1);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn another_503_is_the_servers_answer() {
    let (gateway, _fake) = one_server(1).await;
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({"status": 503}))).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-paddock-agent"), Some("a"));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event() {
    let (gateway, _fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &streaming(json!({"die": "mid_stream"}))).await;
    assert_eq!(client.head().await.status, 200);
    let (body, is_whole) = client.body().await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap().to_owned();
    let event: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["error"]["code"], "upstream_failed");
    assert!(is_whole, "the stream ends as it should after that");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_cut_answer_cuts_the_clients_connection() {
    let (gateway, _fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &chat(json!({"die": "mid_stream", "chunks": 9}))).await;
    assert_eq!(client.head().await.status, 200);
    let (_, is_whole) = client.body().await;
    assert!(!is_whole, "a truncated answer must not look whole");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_what_it_held() {
    let (gateway, fake) = one_server(1).await;
    let fake = Arc::new(fake);
    let mut gateway = gateway;
    gateway.follow("a", fake.clone(), 1, Duration::from_millis(20));
    let mut before_the_head = RawClient::connect(gateway.addr()).await;
    before_the_head.post(CHAT, &chat(json!({"hold": "for ever"}))).await;
    until_busy(&fake, 1).await;
    let mut queued = RawClient::connect(gateway.addr()).await;
    queued.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    drop(queued);
    until_waiting(&gateway, 0).await;
    drop(before_the_head);
    eventually("the server saw it leave", SOON, async || (fake.stats().cancelled == 1).then_some(())).await;
    until_at_rest(&gateway).await;

    let mut in_the_stream = RawClient::connect(gateway.addr()).await;
    in_the_stream.post(CHAT, &streaming(json!({"hold_stream": "for ever"}))).await;
    in_the_stream.chunk().await.ok();
    until_busy(&fake, 1).await;
    in_the_stream.reset();
    eventually("the server saw it leave", SOON, async || (fake.stats().cancelled == 2).then_some(())).await;
    until_at_rest(&gateway).await;

    let mut half_closed = RawClient::connect(gateway.addr()).await;
    half_closed.post(CHAT, &streaming(json!({"hold_stream": "for ever"}))).await;
    until_busy(&fake, 1).await;
    half_closed.half_close().await;
    eventually("a FIN is a leave", SOON, async || (fake.stats().cancelled == 3).then_some(())).await;
    until_at_rest(&gateway).await;
    assert_eq!(fake.stats().received, 3, "the queued one never got there");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_answer_is_seen() {
    // Less than what is read on of a body that is refused: all of it is sent before the answer is read.
    const SENT_BYTES: usize = 500_000;
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let mut config = GatewayConfig::default();
    config.proxy.limits.body_bytes_max = SENT_BYTES / 2;
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 1);
    let head = |framing: &str| format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\n{framing}\r\n");
    let declared = head(&format!("Content-Length: {SENT_BYTES}\r\n"));
    let chunked = head("Transfer-Encoding: chunked\r\n") + &format!("{SENT_BYTES:x}\r\n");
    for head in [declared, chunked] {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.send(head).await;
        client.send(vec![b'x'; SENT_BYTES]).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (413, Some("request_too_large"))
        );
        assert_eq!(answer.header("connection"), Some("close"));
        // It was not reset: then this would fail, and elsewhere the answer might be lost.
        client.until_closed().await;
        client.half_close().await;
    }
    assert_eq!(fake.stats().received, 0);
}

#[tokio::test]
async fn a_refused_client_that_waits_to_be_asked_is_not_asked() {
    let (gateway, _fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_queue_over_its_limits_is_refused() {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let mut config = GatewayConfig::default();
    config.core.queue_max = 1;
    config.proxy.limits.buffered_bytes_max = 2000;
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 1);
    let mut running = RawClient::connect(gateway.addr()).await;
    running.post(CHAT, &chat(json!({"hold": "on"}))).await;
    until_busy(&fake, 1).await;
    let too_many_bytes = json!({"prompt": "x".repeat(3000)});
    let answer = post_json(gateway.addr(), "/completion", &too_many_bytes).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("queue_full")));
    let mut queued = RawClient::connect(gateway.addr()).await;
    queued.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({}))).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("queue_full")));
    assert!(answer.header("retry-after").is_some());
    fake.release("on");
    assert_eq!(running.answer().await.status, 200);
    assert_eq!(queued.answer().await.status, 200);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_told() {
    let mut config = GatewayConfig::default();
    config.core.wait_max = Duration::from_millis(100);
    let gateway = Gateway::start(config);
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({}))).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("queue_timeout")));
    let anthropic = post_json(gateway.addr(), "/v1/messages", &json!({"messages": []})).await;
    assert_eq!((anthropic.status, anthropic.json()["type"].as_str()), (504, Some("error")));
}

#[tokio::test]
async fn without_buffering_and_agents_the_refusal_says_so() {
    let mut config = GatewayConfig::default();
    config.core.queue_max = 0;
    let gateway = Gateway::start(config);
    let answer = post_json(gateway.addr(), CHAT, &chat(json!({}))).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("no_agents")));
}

#[tokio::test]
async fn invalid_json_is_the_servers_to_answer() {
    let (gateway, fake) = one_server(1).await;
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{{\"broken\"")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-paddock-agent"), Some("a"));
    assert_eq!(fake.seen().len(), 1);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn what_may_not_wait_is_answered_at_once_when_nothing_runs() {
    let gateway = Gateway::start(GatewayConfig::default());
    for (path, status) in [
        ("/health", 200),
        ("/v1/health", 200),
        ("/v1/models", 200),
        ("/props", 503),
        ("/favicon.ico", 404),
        ("/", 404),
    ] {
        assert_eq!(get(gateway.addr(), path).await.status, status, "{path}");
    }
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send(format!("OPTIONS {CHAT} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(gateway.gate.in_flight(), (0, 0));
}

#[tokio::test]
async fn what_was_known_of_the_model_is_told_when_nothing_runs() {
    let (gateway, fake) = one_server(1).await;
    let live = get(gateway.addr(), "/v1/models").await;
    assert!(live.text().contains("fake"), "{}", live.text());
    let agent = gateway.gate.register("a", Some("1"));
    gateway.report(agent, "a", fake.addr(), 1, 0);
    gateway.gate.disconnected(agent);
    let known = get(gateway.addr(), "/v1/models").await;
    assert_eq!((known.status, known.json()), (200, live.json()));
}

#[tokio::test]
async fn blocked_paths_are_forbidden_in_every_spelling() {
    let (gateway, fake) = one_server(1).await;
    for path in
        ["/slots", "/slots/0?action=erase", "/tools", "/cors-proxy", "/%74ools", "//tools", "/a/../tools"]
    {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.send(format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (403, Some("forbidden")),
            "{path}"
        );
    }
    assert_eq!(fake.seen().len(), 0);
}

#[tokio::test]
async fn slots_are_shown_when_enabled() {
    let fake = FakeLlama::start(FakeConfig { slots: 2, ..FakeConfig::default() }).await;
    let mut config = GatewayConfig::default();
    config.proxy.serves_slots_endpoint = true;
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 2);
    assert_eq!(get(gateway.addr(), "/slots").await.json().as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_servers_key_replaces_the_clients() {
    let fake =
        FakeLlama::start(FakeConfig { api_key: Some("server".to_owned()), ..FakeConfig::default() }).await;
    let mut config = GatewayConfig::default();
    config.proxy.llamacpp_api_key = Some("server".to_owned());
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 1);
    let mut client = RawClient::connect(gateway.addr()).await;
    client
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer client\r\nX-Api-Key: client\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;
    assert_eq!(client.answer().await.status, 200);
    let seen = fake.seen().pop().unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer server");
    assert!(!seen.headers.contains_key("x-api-key"));
}

#[tokio::test]
async fn a_request_with_two_hosts_or_none_is_refused() {
    let (gateway, fake) = one_server(1).await;
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.send(format!("POST {CHAT} HTTP/1.1\r\n{hosts}Content-Length: 2\r\n\r\n{{}}")).await;
        assert_eq!(client.answer().await.status, 400);
    }
    assert_eq!(fake.seen().len(), 0);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_refuses_what_waits() {
    let (mut gateway, fake) = one_server(1).await;
    let mut running = RawClient::connect(gateway.addr()).await;
    running.post(CHAT, &streaming(json!({"hold_stream": "rest"}))).await;
    assert_eq!(running.head().await.status, 200);
    let mut queued = RawClient::connect(gateway.addr()).await;
    queued.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    let addr = gateway.addr();
    let drain = async {
        gateway.drain().await;
    };
    let clients = async {
        let refused = queued.answer().await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("shutting_down")));
        assert!(refused.header("retry-after").is_some());
        eventually("nobody listens", SOON, async || {
            tokio::net::TcpStream::connect(addr).await.is_err().then_some(())
        })
        .await;
        fake.release("rest");
        let (body, is_whole) = running.body().await;
        assert!(is_whole && body.ends_with(b"data: [DONE]\n\n"));
    };
    tokio::join!(drain, clients);
    until_at_rest(&gateway).await;
}
