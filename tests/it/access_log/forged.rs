//! No line can be forged by what a client sends, and none holds what it, or its server, said.

use paddock::proxy::NewKey;
use serde_json::{Value, json};

use super::{CHAT, ask, line, request, scene, send};
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::http;
use crate::support::program::Paddock;
use crate::support::wait::eventually;

#[tokio::test]
async fn nothing_that_is_said_is_logged() {
    let folder = Folder::new();
    let alice = NewKey::new("alice").unwrap();
    let keys = folder.write("keys", &format!("{}\n", alice.line()));
    let flags = ["--api-keys-file", keys.to_str().unwrap(), "--llamacpp-api-key", "SECRET-upstream"];
    // What it answers with has its model's name in it.
    let config = FakeConfig {
        model: "SECRET-answer".to_owned(),
        api_key: Some("SECRET-upstream".to_owned()),
        ..FakeConfig::default()
    };
    let fake = FakeLlama::start(config).await;
    let mut paddock = super::balancer(&flags).await;
    let watching = ["--monitoring-interval", "100ms", "--llamacpp-api-key", "SECRET-upstream"];
    let _agent = Paddock::agent(fake.addr(), paddock.management(), &watching);
    eventually("it is there", super::SOON, async || {
        (paddock.state().await["pools"][0]["slots_idle"] == json!(4)).then_some(())
    })
    .await;
    let key = alice.key();
    let headers = format!(
        "Authorization: Bearer {key}\r\nCookie: SECRET-cookie\r\nUser-Agent: SECRET-agent\r\nReferer: SECRET-referer\r\n\
         X-Forwarded-For: SECRET-hop\r\ntraceparent: SECRET-trace\r\ntracestate: SECRET-state\r\nBaggage: SECRET-bag\r\n"
    );
    let wrong = headers.replace(key, "SECRET-key");
    let body = |id: &str, fake: Value| {
        let messages = json!([{"role": "user", "content": "SECRET-prompt"}]);
        json!({"messages": messages, "stream": id == "streamed", "fake": fake})
    };
    let target = format!("{CHAT}?api_key={key}&q=SECRET-query");
    for (id, headers, target, fake) in [
        ("served", &headers, target.as_str(), json!({})),
        ("streamed", &headers, target.as_str(), json!({"chunks": 9})),
        ("error", &headers, target.as_str(), json!({"status": 500})),
        ("dies", &headers, target.as_str(), json!({"die": "before_head"})),
        ("breaks", &headers, target.as_str(), json!({"die": "mid_stream"})),
        ("wrong", &wrong, target.as_str(), json!({})),
        ("blocked", &headers, "/tools?SECRET-query", json!({})),
        (
            "absolute",
            &headers,
            "http://SECRET-user:SECRET-pass@SECRET-host/v1/models?SECRET-query#SECRET",
            json!({}),
        ),
    ] {
        let mut client = send(&paddock, request(id, "POST", target, headers, &body(id, fake))).await;
        client.head().await;
        client.body().await;
        let is_line = async || {
            super::lines(&paddock.output()).iter().any(|line| line["request_id"] == id).then_some(())
        };
        if id != "absolute" {
            eventually(id, super::SOON, is_line).await;
        }
    }
    send(&paddock, format!("GET /SECRET-nonsense?{key} HTTP/9.9\r\n{headers}\r\n")).await.head().await;
    paddock.sigterm();
    assert!(paddock.wait().await.success());
    let output = paddock.output();
    assert!(super::lines(&output).len() >= 8, "{output}");
    assert!(!output.contains("SECRET") && !output.contains(key), "{output}");
}

#[tokio::test]
async fn what_a_client_chooses_is_escaped_and_cut() {
    let scene = scene(&[], FakeConfig::default()).await;
    let long = format!("/{}", "x".repeat(5000));
    let last = line_of_path(&scene.paddock, "long", &long).await;
    let path = last["path"].as_str().unwrap();
    assert!(path.starts_with("/xxx") && path.ends_with("x…") && path.len() < 520, "{path}");
    let odd = line_of_path(&scene.paddock, "odd", "/a%0A%1b[31m\"\\").await;
    assert_eq!(odd["path"], "/a%0A%1b[31m\"\\", "as it came: it is printable");
    let id = format!("GET /health HTTP/1.1\r\nHost: g\r\nX-Request-Id: {}\r\n\r\n", "y".repeat(500));
    let answer = ask(&scene.paddock, id).await;
    assert!(answer.header("x-request-id").unwrap().starts_with("req-"));
    line(&scene.paddock, answer.header("x-request-id").unwrap()).await;
    let method = "M".repeat(200);
    ask(&scene.paddock, request("method", &method, "/x", "", &Value::Null)).await;
    assert_eq!(line(&scene.paddock, "method").await["method"], format!("{}…", "M".repeat(32)));
}

async fn line_of_path(paddock: &Paddock, id: &str, path: &str) -> Value {
    ask(paddock, request(id, "GET", path, "", &Value::Null)).await;
    line(paddock, id).await
}

/// Whatever is sent, each line of text begins with a time, and is printable.
#[tokio::test]
async fn no_line_of_text_is_a_clients_own() {
    let mut paddock = Paddock::start(&[]).await;
    for bytes in [
        "GET /\u{9b}31m HTTP/1.1\r\nHost: g\r\n\r\n".as_bytes(),
        "GET /\u{2028}2026-11-24T15:00:00Z\u{85} HTTP/1.1\r\nHost: g\r\nX-Request-Id: a\u{9b}b\r\n\r\n"
            .as_bytes(),
        b"GET /a\x1b[31m HTTP/1.1\r\nHost: g\r\n\r\n",
        b"GET /\"\\n%0a%0d HTTP/1.1\r\nHost: g\r\nX-Request-Id: \"a=b\\\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: g\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: g\r\nX-Request-Id: a\x1bb\r\n\r\n",
    ] {
        send(&paddock, bytes).await.head().await;
    }
    assert_eq!(http::get(paddock.proxy(), "/health").await.status, 200);
    paddock.sigterm();
    assert!(paddock.wait().await.success());
    let output = paddock.output();
    let lines: Vec<&str> = output.lines().filter(|line| line.contains("paddock::access: ")).collect();
    assert_eq!(lines.len(), 7, "{output}");
    for line in output.lines() {
        assert!(line.chars().all(|c| !c.is_control() && (c.is_ascii() || c == '…')), "{line:?}");
        assert!(line.starts_with("20"), "{line:?}");
    }
    assert!(output.contains(r#"path="/\"\\n%0a%0d""#), "{output}");
}
