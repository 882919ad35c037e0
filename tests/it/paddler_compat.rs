//! What Paddler 1.x got wrong, one test each. Each would have caught it there.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use paddock::proxy::classify::{Route, demand, route};
use serde_json::{Value, json};

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, one_server, until_at_rest, until_busy, until_waiting};
use crate::support::http::{RawClient, get, post_json};
use crate::support::program::Paddock;
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(10);

fn chat(fake: Value) -> Value {
    json!({"model": "any", "messages": [], "fake": fake})
}

/// A report that counted before the request came, or after it left, must not move the slots that are held.
#[tokio::test]
async fn a_report_in_the_middle_of_a_request_breaks_no_counter() {
    let (gateway, fake) = one_server(2).await;
    let agent = gateway.gate.register("a", Some("1"));
    let mut running = RawClient::connect(gateway.addr()).await;
    running.post(CHAT, &chat(json!({"hold": "on"}))).await;
    until_busy(&fake, 1).await;
    for busy in [0, 1, 2, 0, 1] {
        gateway.report(agent, "a", fake.addr(), 2, busy);
    }
    fake.release("on");
    assert_eq!(running.answer().await.status, 200);
    until_at_rest(&gateway).await;
    let pool = gateway.gate.snapshot().0.pools.remove(0);
    assert_eq!((pool.slots_total, pool.slots_idle, pool.slots_processing), (2, 2, 0));
}

/// Selecting an agent and taking its slot are one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_requests_never_get_one_slot() {
    let (gateway, fake) = one_server(1).await;
    let gateway = Arc::new(gateway);
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let addr = gateway.addr();
            tokio::spawn(async move { post_json(addr, CHAT, &chat(json!({"delay_ms": 1}))).await.status })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    let stats = fake.stats();
    assert_eq!((stats.completed, stats.concurrent_max, stats.overcommit), (50, 1, 0));
}

/// A `Content-Length: 0` answer once kept its slot for ever.
#[tokio::test]
async fn an_answer_without_a_body_frees_its_slot() {
    let (gateway, _fake) = one_server(1).await;
    for _ in 0..3 {
        let answer = post_json(gateway.addr(), CHAT, &chat(json!({"empty": true}))).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn every_path_that_takes_a_slot_is_counted() {
    let (gateway, fake) = one_server(1).await;
    let paths = [
        "/completion",
        "/completions",
        "/v1/completions",
        "/chat/completions",
        CHAT,
        "/v1/messages",
        "/embedding",
        "/v1/embeddings",
        "/infill",
        "/v1/rerank",
    ];
    let mut clients = Vec::new();
    for path in paths {
        let mut client = RawClient::connect(gateway.addr()).await;
        client
            .post(path, &json!({"prompt": "a", "input": "a", "content": "a", "fake": {"delay_ms": 20}}))
            .await;
        clients.push(client);
    }
    for mut client in clients {
        // A path that the fake does not serve is answered 404, under a lease like the others.
        let status = client.answer().await.status;
        assert!(status == 200 || status == 404, "{status}");
    }
    let stats = fake.stats();
    assert_eq!((stats.overcommit, stats.concurrent_max), (0, 1));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn what_needs_no_slot_passes_when_all_are_taken() {
    let (gateway, fake) = one_server(1).await;
    let mut busy = RawClient::connect(gateway.addr()).await;
    busy.post(CHAT, &chat(json!({"hold": "on"}))).await;
    until_busy(&fake, 1).await;
    assert_eq!(get(gateway.addr(), "/health").await.json()["status"], "ok");
    assert_eq!(get(gateway.addr(), "/v1/models").await.status, 200);
    assert_eq!(post_json(gateway.addr(), "/tokenize", &json!({"content": "a"})).await.status, 200);
    assert_eq!(gateway.gate.in_flight(), (1, 0));
    fake.release("on");
    assert_eq!(busy.answer().await.status, 200);
}

/// An agent that stops reporting, with its connection up, gets nothing new.
#[tokio::test]
async fn a_frozen_agent_is_not_routed_to_for_ever() {
    let (gateway, fake) = one_server(1).await;
    let agent = gateway.gate.register("a", Some("1"));
    gateway.report_every(Duration::from_millis(100), agent, "a", fake.addr(), 1);
    assert_eq!(post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status, 200);
    eventually("it counts as silent", SOON, async || {
        (!gateway.gate.snapshot().0.agents[0].is_eligible).then_some(())
    })
    .await;
    let mut held = RawClient::connect(gateway.addr()).await;
    held.post(CHAT, &chat(json!({}))).await;
    until_waiting(&gateway, 1).await;
    gateway.report(agent, "a", fake.addr(), 1, 0);
    assert_eq!(held.answer().await.status, 200, "it thawed");
}

/// A server that could not be reached is tried again without anybody's help.
#[tokio::test]
async fn a_quarantine_ends_by_itself() {
    let mut fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 1);
    fake.stop().await;
    let mut held = RawClient::connect(gateway.addr()).await;
    held.post(CHAT, &chat(json!({}))).await;
    let is_quarantined = || gateway.gate.snapshot().0.agents[0].quarantined_for.is_some();
    eventually("it is in quarantine", SOON, async || is_quarantined().then_some(())).await;
    fake.restart_same_port().await;
    assert_eq!(held.answer().await.status, 200, "without a report in between");
}

/// TCP joins what was written apart.
#[tokio::test]
async fn two_reports_in_one_chunk_keep_the_agent() {
    let paddock = Paddock::start(&[]).await;
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let report = format!(
        r#"{{"agent_name":null,"error":null,"external_llamacpp_addr":"{}","idle_slots_count":4,"is_authorized":true,"is_slots_endpoint_enabled":true,"processing_slots_count":0,"slots":[]}}"#,
        fake.addr()
    );
    let mut agent = RawClient::connect(paddock.management()).await;
    let host = paddock.management();
    agent
        .send(format!(
            "POST /status_update/one HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    let two = format!("{report}{report}");
    agent.send(format!("{:x}\r\n{two}\r\n", two.len())).await;
    let (first, second) = report.split_at(100);
    agent.send(format!("{:x}\r\n{first}\r\n", first.len())).await;
    agent.send(format!("{:x}\r\n{second}\r\n", second.len())).await;
    eventually("it is registered", SOON, async || {
        let agents = get(paddock.management(), "/api/v1/agents").await.json();
        (agents["agents"][0]["slots_idle"] == json!(4)).then_some(())
    })
    .await;
    assert_eq!(post_json(paddock.proxy(), CHAT, &chat(json!({}))).await.status, 200);
}

#[tokio::test]
async fn waiters_are_served_in_their_order() {
    let (gateway, fake) = one_server(1).await;
    let mut first = RawClient::connect(gateway.addr()).await;
    first.post("/completion", &json!({"prompt": "first", "fake": {"hold": "first"}})).await;
    until_busy(&fake, 1).await;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let mut client = RawClient::connect(gateway.addr()).await;
        client.post(&format!("/completion?number={number}"), &json!({"prompt": "x"})).await;
        until_waiting(&gateway, number + 1).await;
        waiting.push(client);
    }
    fake.release("first");
    first.answer().await;
    for client in &mut waiting {
        assert_eq!(client.answer().await.status, 200);
    }
    let order: Vec<String> = fake.seen().iter().skip(1).map(|seen| seen.target.clone()).collect();
    let expected: Vec<String> = (0..5).map(|number| format!("/completion?number={number}")).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn idle_connections_do_not_pile_up() {
    let (gateway, fake) = one_server(8).await;
    let answers = (0..32).map(|_| async { post_json(gateway.addr(), CHAT, &chat(json!({}))).await.status });
    assert!(futures_util::future::join_all(answers).await.iter().all(|&status| status == 200));
    assert!(fake.stats().connections_open > 0, "some are kept for a moment");
    eventually("none is left", SOON, async || (fake.stats().connections_open == 0).then_some(())).await;
}

/// The model that a request names is read. There is one pool yet, so all names lead to it.
#[test]
fn the_model_is_not_ignored() {
    let Route::Slot(endpoint) = route(&Method::POST, CHAT) else { panic!("a chat takes a slot") };
    let asked = demand(endpoint, Some("application/json"), br#"{"messages":[],"model":"small"}"#);
    assert_eq!(asked.model.as_deref(), Some("small"));
}
