//! Traces go on through the gateway, the same at each attempt, and are logged.

use serde_json::{Value, json};

use super::{CHAT, Scene, ask, chat, line, request, scene};
use crate::support::fake_llama::FakeConfig;

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(line: &Value, flags: &str) -> String {
    format!("00-{}-{}-{flags}", line["trace_id"].as_str().unwrap(), line["span_id"].as_str().unwrap())
}

#[tokio::test]
async fn a_trace_goes_on_at_each_attempt() {
    let scene = scene(&[], FakeConfig::default()).await;
    let Scene { paddock, fake, .. } = &scene;
    let headers = format!("traceparent: 00-{ID}-{PARENT}-01\r\ntracestate: a=1\r\ntracestate: b=2\r\n");
    let dying = chat(json!({"die": "before_head"}));
    let answer = ask(paddock, request("valid", "POST", CHAT, &headers, &dying)).await;
    assert_eq!(answer.status, 502);
    let valid = line(paddock, "valid").await;
    assert_eq!((&valid["trace_id"], &valid["attempts"]), (&json!(ID), &json!(2)), "{valid}");
    assert_ne!(valid["span_id"], PARENT);
    let seen: Vec<_> = fake.seen().into_iter().filter(|seen| seen.target == CHAT).collect();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        let told: Vec<_> = seen.headers.get_all("traceparent").iter().collect();
        assert_eq!(told, [&traceparent(&valid, "01")]);
        let state: Vec<_> = seen.headers.get_all("tracestate").iter().collect();
        assert_eq!(state, ["a=1", "b=2"]);
    }
}

#[tokio::test]
async fn whatever_else_is_replaced_by_a_new_trace() {
    let scene = scene(&[], FakeConfig::default()).await;
    let Scene { paddock, fake, .. } = &scene;
    let valid = format!("traceparent: 00-{ID}-{PARENT}-01\r\n");
    for (id, headers) in [
        ("none", "tracestate: a=1\r\n".to_owned()),
        ("invalid", format!("traceparent: ff-{ID}-{PARENT}-01\r\ntracestate: a=1\r\n")),
        ("doubled", format!("{valid}{valid}tracestate: a=1\r\n")),
    ] {
        assert_eq!(ask(paddock, request(id, "POST", CHAT, &headers, &chat(json!({})))).await.status, 200);
        let line = line(paddock, id).await;
        assert!(line["trace_id"] != ID && line["trace_id"].as_str().unwrap().len() == 32, "{line}");
        let seen = fake.seen().into_iter().rfind(|seen| seen.target == CHAT).unwrap();
        let told: Vec<_> = seen.headers.get_all("traceparent").iter().collect();
        assert_eq!(told, [&traceparent(&line, "00")], "{id}");
        assert!(!seen.headers.contains_key("tracestate"), "{id}");
    }
}
