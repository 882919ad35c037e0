//! What people and programs are answered.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::fixture::{POOL, Served, report, soon, until};
use super::{message, paddler, status};
use crate::core::{AttemptFailure, TenantId};
use crate::gate::Ask;

#[tokio::test]
async fn agents_have_paddlers_fields_and_more() {
    let served = Served::start(None).await;
    let before = served.clock.now().wall.as_secs();
    let mut stream = served.stream("the-agent").await;
    stream.chunk(&paddler(1)).await;
    until(|| served.agents() == (1, 2)).await;

    let answer = served.json("/api/v1/agents").await;
    let mut agent = answer["agents"][0].clone();
    let updated = agent["last_update"].take();
    let seconds = updated["secs_since_epoch"].as_u64().unwrap();
    assert!((before..=served.clock.now().wall.as_secs()).contains(&seconds), "{updated}");
    assert!(updated["nanos_since_epoch"].as_u64().unwrap() < 1_000_000_000);
    assert_eq!(updated.as_object().unwrap().len(), 2);
    let incarnation = agent["incarnation"].take();
    assert!(incarnation.is_u64());
    assert_eq!(
        agent,
        json!({
            "agent_id": "the-agent", "agent_name": null, "error": null, "external_llamacpp_addr": "127.0.0.1:8088",
            "is_authorized": true, "is_slots_endpoint_enabled": true, "last_update": null, "quarantined_until": null,
            "slots_idle": 1, "slots_processing": 1, "slots_total": 2, "slots_foreign": 1, "slots_cooling": 0, "leases": 0,
            "phase": "ready", "instance": null, "zone": null, "group": null, "notice": null, "pool": 0, "incarnation": null, "is_connected": true,
            "is_eligible": true,
        })
    );
    assert_eq!(answer.as_object().unwrap().len(), 1);

    let state = served.json("/api/v1/state").await;
    let keys: Vec<_> = state.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "agents",
            "at_seconds",
            "clients",
            "cloudwatch",
            "leases",
            "pools",
            "requests_buffered",
            "shutting_down",
            "version"
        ]
    );
    assert_eq!(state["agents"][0]["agent_id"], "the-agent");
    assert_eq!((&state["pools"][0]["slots_total"], &state["pools"][0]["instances"]), (&json!(2), &json!([])));
    assert_eq!(state["clients"], json!({ "address": "127.0.0.1:8080", "is_tls": false }));
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(state["cloudwatch"], json!({ "puts": 0, "failures": 0, "last_error": null }));
}

#[tokio::test]
async fn an_agent_whose_server_cannot_be_reached_says_so() {
    let served = Served::start(None).await;
    let agent = served.gate.register("a", None);
    served.gate.report(agent, &"a".into(), report(9, 1));
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let permit = soon(served.gate.acquire(ask)).await.unwrap();
    let again = tokio::spawn(permit.retry(AttemptFailure::CouldNotConnect, "connection refused".into()));
    let mut agents = Value::Null;
    for _ in 0..1000 {
        agents = served.json("/api/v1/agents").await["agents"].take();
        if !agents[0]["quarantined_until"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let until = agents[0]["quarantined_until"]["secs_since_epoch"].as_u64().unwrap();
    assert!(until >= served.clock.now().wall.as_secs(), "{agents}");
    assert_eq!(agents[0]["error"], "connection refused");
    again.abort();

    served.gate.disconnected(agent);
    assert_eq!(served.json("/api/v1/agents").await["agents"], json!([]));
}

#[tokio::test]
async fn an_agent_that_is_gone_offers_nothing_while_its_answers_finish() {
    let served = Served::start(None).await;
    let agent = served.gate.register("a", None);
    served.gate.report(agent, &"a".into(), report(9, 2));
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let permit = soon(served.gate.acquire(ask)).await.unwrap();
    served.gate.disconnected(agent);
    let reborn = served.gate.register("a", Some("again"));
    served.gate.report(reborn, &"a".into(), report(10, 2));
    let agents = served.json("/api/v1/agents").await["agents"].take();
    let shown = |index: usize| {
        ["agent_id", "is_connected", "slots_idle", "leases"].map(|name| agents[index][name].to_string())
    };
    assert_eq!(shown(0), ["\"a\"", "false", "0", "1"]);
    assert_eq!(shown(1), ["\"a\"", "true", "2", "0"]);
    permit.finish();
}

#[tokio::test]
async fn other_paths_and_methods_get_json_errors() {
    let served = Served::start(None).await;
    assert_eq!(served.json("/health").await, json!({"status": "ok"}));
    assert_eq!(status(&served.ask("HEAD", "/health", "").await), "200");
    for (method, path, code) in [
        ("GET", "/", "404"),
        ("GET", "/v1/chat/completions", "404"),
        ("POST", "/status_update/", "404"),
        ("GET", "/status_update/a", "405"),
        ("POST", "/api/v1/agents", "405"),
        ("DELETE", "/health", "405"),
    ] {
        let answer = served.ask(method, path, "").await;
        assert_eq!(status(&answer), code, "{method} {path}");
        message(&answer);
        assert_eq!(answer.contains("\r\nallow: "), code == "405", "{answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
}

#[tokio::test]
async fn with_a_token_agents_and_people_must_present_it() {
    let served = Served::start(Some("sesame")).await;
    let mut stream = served.stream("a").await;
    // More than the kernel's buffers hold, were it not read.
    stream.chunk(&paddler(1).repeat(3000)).await;
    stream.write("0\r\n\r\n").await;
    let answer = stream.answer().await;
    assert_eq!(status(&answer), "401", "{answer}");
    assert!(answer.contains("www-authenticate: Bearer\r\n"), "{answer}");
    assert!(message(&answer).contains("--management-token"), "{answer}");
    assert_eq!(served.agents(), (0, 0));

    let mut stream = served.stream_with("a", "Authorization: Bearer sesame\r\n").await;
    stream.chunk(&paddler(1)).await;
    until(|| served.agents() == (1, 2)).await;
    assert_eq!(served.json("/health").await, json!({"status": "ok"}));
    for path in ["/api/v1/agents", "/api/v1/state", "/nothing"] {
        assert_eq!(status(&served.ask("GET", path, "").await), "401", "{path}");
    }
    let answer = served.ask("GET", "/api/v1/state", "Authorization: Bearer sesame\r\n").await;
    assert_eq!(status(&answer), "200", "{answer}");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_register_an_agent() {
    let served = Served::start(None).await;
    let mut stream = served.stream_with("a", "Origin: http://evil.example\r\n").await;
    stream.chunk(&paddler(1)).await;
    stream.write("0\r\n\r\n").await;
    let answer = stream.answer().await;
    assert_eq!(status(&answer), "403", "{answer}");
    assert_eq!(served.agents(), (0, 0));
}
