//! Clients that wait: the bytes they are sent meanwhile, how errors reach them then, and those that would not wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest, until_busy, until_waiting};
use crate::support::http::{Answer, RawClient, post_json};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
const STREAMS: [(&str, &str); 5] = [
    (CHAT, ":\n"),
    ("/v1/completions", ":\n"),
    ("/completion", ":\n"),
    ("/infill", ":\n"),
    ("/v1/messages", PING),
];
const SOON: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_millis(30);
/// So much longer that nothing here can take it for the same.
const LONG: Duration = Duration::from_secs(5);

fn config() -> GatewayConfig {
    let mut config = GatewayConfig::default();
    config.proxy.keepalive.after = Some(AFTER);
    config.proxy.keepalive.interval = AFTER;
    config
}

async fn one_server(config: GatewayConfig) -> (Gateway, FakeLlama) {
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let gateway = Gateway::start(config);
    gateway.attach("a", fake.addr(), 1);
    (gateway, fake)
}

fn streaming(fake: Value) -> Value {
    json!({"stream": true, "messages": [], "fake": fake})
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> RawClient {
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(path, body).await;
    client
}

/// A `POST` with further header lines.
async fn post_with(gateway: &Gateway, version: &str, lines: &str, body: &Value) -> RawClient {
    let body = body.to_string();
    let mut client = RawClient::connect(gateway.addr()).await;
    let length = body.len();
    client
        .send(format!("POST {CHAT} {version}\r\nHost: g\r\n{lines}Content-Length: {length}\r\n\r\n{body}"))
        .await;
    client
}

async fn text(client: &mut RawClient) -> String {
    let (body, is_whole) = client.body().await;
    assert!(is_whole, "a stream ends as a stream");
    String::from_utf8(body.to_vec()).unwrap()
}

/// The JSON of the only event after what was sent to keep the client waiting.
fn only_event(text: &str, keepalive: &str) -> Value {
    let rest = text.trim_start_matches(keepalive);
    let data = rest.strip_prefix("event: error\n").unwrap_or(rest).strip_prefix("data: ");
    let json = data.and_then(|data| data.strip_suffix("\n\n")).unwrap_or_else(|| panic!("{text:?}"));
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[tokio::test]
async fn a_stream_is_kept_alive_until_the_servers_first_byte() {
    for (path, keepalive) in STREAMS {
        let (gateway, fake) = one_server(config()).await;
        let direct = post_json(fake.addr(), path, &streaming(json!({}))).await;
        let mut client = post(&gateway, path, &streaming(json!({"hold": "on", "hold_stream": "rest"}))).await;
        until_busy(&fake, 1).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{path}");
        assert_eq!(head.header("cache-control"), Some("no-cache"));
        assert!(head.header("x-request-id").is_some());
        for _ in 0..3 {
            assert_eq!(client.chunk().await, Ok(Some(keepalive.into())), "{path}: while the server computes");
        }
        fake.release("on");
        let mut seen = String::new();
        while !seen.contains("word0") {
            seen += std::str::from_utf8(&client.chunk().await.unwrap().unwrap()).unwrap();
        }
        // The server has begun: from here on it is as slow as it likes.
        tokio::time::sleep(AFTER * 4).await;
        fake.release("rest");
        seen += &text(&mut client).await;
        let answer = seen.trim_start_matches(keepalive);
        let (facts, events) = answer.split_once('\n').unwrap();
        assert!(facts.starts_with(": x-paddock-queue-ms="), "{path}: {facts}");
        assert!(facts.ends_with(" x-paddock-cold-start=false x-paddock-agent=a"), "{path}: {facts}");
        assert_eq!(events, direct.text(), "{path}: byte for byte, and nothing in between");
        until_at_rest(&gateway).await;
    }
}

#[tokio::test]
async fn a_head_that_came_in_time_is_followed_by_bytes_while_the_prompt_is_computed() {
    // Long enough that a head which is there comes in time, however much else is to be done.
    let mut config = config();
    config.proxy.keepalive.after = Some(LONG);
    let each = STREAMS.map(async |(path, keepalive)| {
        let (gateway, fake) = one_server(config.clone()).await;
        let direct = post_json(fake.addr(), path, &streaming(json!({}))).await;
        let mut client = post(&gateway, path, &streaming(json!({"hold_body": "prompt"}))).await;
        let head = client.head().await;
        assert_eq!(head.header("x-paddock-agent"), Some("a"), "{path}: it came in time");
        for _ in 0..3 {
            assert_eq!(client.chunk().await, Ok(Some(keepalive.into())), "{path}");
        }
        fake.release("prompt");
        let text = text(&mut client).await;
        assert_eq!(text.trim_start_matches(keepalive), direct.text(), "{path}");
        until_at_rest(&gateway).await;
    });
    join_all(each).await;
}

#[tokio::test]
async fn an_answer_in_time_has_its_own_head() {
    let mut config = config();
    config.proxy.keepalive.after = Some(Duration::from_secs(60));
    let (gateway, _fake) = one_server(config).await;
    let answer = post_json(gateway.addr(), CHAT, &streaming(json!({}))).await;
    assert_eq!(answer.header("x-paddock-agent"), Some("a"));
    assert!(answer.text().starts_with("data: "), "{}", answer.text());
    let refused = post_json(gateway.addr(), CHAT, &streaming(json!({"status": 400}))).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_late_rejection_is_an_event_of_the_callers_dialect() {
    // The first bytes are due long before: what comes at the same time may come in either order.
    let mut config = config();
    config.core.wait_max = LONG;
    let gateway = Gateway::start(config);
    let each = STREAMS.into_iter().chain([("/v1/responses", ":\n")]).map(async |(path, keepalive)| {
        let mut client = post(&gateway, path, &streaming(json!({}))).await;
        assert_eq!(client.head().await.status, 200);
        let text = text(&mut client).await;
        assert!(text.starts_with(keepalive), "{path}: {text:?}");
        let event = only_event(&text, keepalive);
        let error = &event["error"];
        assert_eq!((&error["code"], &error["status"]), (&json!("queue_timeout"), &json!(504)), "{path}");
        assert!(error["retry_after"].as_u64().is_some_and(|after| after > 0), "{path}: {event}");
        match path {
            "/v1/messages" => {
                assert_eq!((&event["type"], &error["type"]), (&json!("error"), &json!("timeout_error")))
            }
            "/v1/responses" => {
                assert_eq!((&event["type"], &event["code"]), (&json!("error"), &json!("queue_timeout")))
            }
            _ => assert_eq!((&event["type"], &error["type"]), (&Value::Null, &json!("server_error"))),
        }
    });
    join_all(each).await;
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_late_error_of_the_server_is_an_event_with_its_status() {
    let (gateway, fake) = one_server(config()).await;
    for (status, kind) in [(400, "server_error"), (500, "server_error")] {
        let name = format!("on {status}");
        let mut client = post(&gateway, CHAT, &streaming(json!({"hold": name, "status": status}))).await;
        assert_eq!(client.head().await.status, 200);
        fake.release(&name);
        let event = only_event(&text(&mut client).await, ":\n");
        let expected = json!({"error": {
            "message": "as the request asked", "type": kind, "code": status.to_string(), "status": status,
        }});
        assert_eq!(event, expected);
    }
    let mut client = post(&gateway, CHAT, &streaming(json!({"hold": "empty", "empty": true}))).await;
    assert_eq!(client.head().await.status, 200);
    fake.release("empty");
    assert_eq!(only_event(&text(&mut client).await, ":\n")["error"]["code"], "200", "no event stream");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_wait_ends_with_an_event() {
    let (gateway, fake) = one_server(config()).await;
    let mut client = post(&gateway, CHAT, &streaming(json!({"hold": "on", "die": "mid_stream"}))).await;
    assert_eq!(client.head().await.status, 200);
    fake.release("on");
    let text = text(&mut client).await;
    assert!(text.contains("word0"), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().unwrap().strip_prefix("data: ").unwrap();
    let event: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&event["error"]["code"], &event["error"]["status"]),
        (&json!("upstream_failed"), &json!(502))
    );
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_waiting_client_that_leaves_is_noticed() {
    let (gateway, fake) = one_server(config()).await;
    let mut computing = post(&gateway, CHAT, &streaming(json!({"hold": "for ever"}))).await;
    assert_eq!(computing.head().await.status, 200);
    until_busy(&fake, 1).await;
    let mut queued = post(&gateway, CHAT, &streaming(json!({}))).await;
    assert_eq!(queued.head().await.status, 200);
    until_waiting(&gateway, 1).await;
    drop(queued);
    until_waiting(&gateway, 0).await;
    drop(computing);
    eventually("the server saw it leave", SOON, async || (fake.stats().cancelled == 1).then_some(())).await;
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_retry_goes_on_behind_the_bytes() {
    let fake = Arc::new(FakeLlama::start(FakeConfig::default()).await);
    let gateway = Gateway::start(config());
    gateway.attach("nobody", crate::support::wait::free_addr(), 8);
    let mut client = post(&gateway, CHAT, &streaming(json!({}))).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.chunk().await, Ok(Some(":\n".into())));
    gateway.attach("somebody", fake.addr(), 1);
    let text = text(&mut client).await;
    assert!(text.contains("x-paddock-agent=somebody\n") && text.ends_with("data: [DONE]\n\n"), "{text}");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_status_tells_place_and_stage() {
    let mut config = config();
    config.proxy.keepalive.tells_status = true;
    let (gateway, fake) = one_server(config).await;
    let mut first = post(&gateway, CHAT, &streaming(json!({"hold": "on"}))).await;
    assert_eq!(first.head().await.status, 200);
    assert_eq!(first.chunk().await, Ok(Some(": sent to a server, which has not answered yet\n".into())));
    let mut waiting = Vec::new();
    for (place, path) in [(1, CHAT), (2, "/v1/messages")] {
        let mut client = post(&gateway, path, &streaming(json!({}))).await;
        assert_eq!(client.head().await.status, 200);
        let expected = format!(": waiting, position {place}\n{}", if path == CHAT { "" } else { PING });
        assert_eq!(client.chunk().await, Ok(Some(expected.into())));
        waiting.push(client);
    }
    fake.release("on");
    for mut client in waiting {
        assert!(text(&mut client).await.contains("word2"));
    }
    drop(first);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn http_1_0_and_plain_json_are_left_alone() {
    let mut config = config();
    config.core.wait_max = AFTER * 5;
    let gateway = Gateway::start(config);
    for (version, body) in [("HTTP/1.0", streaming(json!({}))), ("HTTP/1.1", json!({"messages": []}))] {
        let answer = post_with(&gateway, version, "", &body).await.answer().await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("queue_timeout")));
        assert!(answer.body.starts_with(b"{"), "{version}");
    }
}

#[tokio::test]
async fn json_has_blanks_before_it_where_they_are_wanted() {
    let mut config = config();
    config.proxy.keepalive.is_for_json = true;
    config.core.wait_max = Duration::from_secs(2);
    let (gateway, fake) = one_server(config).await;
    let mut client = post(&gateway, CHAT, &json!({"messages": [], "fake": {"hold": "on"}})).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    assert_eq!(client.chunk().await, Ok(Some(" ".into())));
    // One that waits behind it until its time is over: the status is given away, so the error is the body.
    let mut late = post(&gateway, "/v1/messages", &json!({"messages": []})).await;
    assert_eq!(late.head().await.status, 200);
    let error: Value = serde_json::from_str(&text(&mut late).await).unwrap();
    assert_eq!((&error["type"], &error["error"]["code"]), (&json!("error"), &json!("queue_timeout")));
    fake.release("on");
    let text = text(&mut client).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with("word0"), "{text}");
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn streams_are_not_packed() {
    let (gateway, fake) = one_server(config()).await;
    for (body, is_kept) in [(streaming(json!({})), false), (json!({"messages": []}), true)] {
        let lines = "Accept-Encoding: gzip\r\n";
        assert_eq!(post_with(&gateway, "HTTP/1.1", lines, &body).await.answer().await.status, 200);
        let seen = fake.seen().pop().unwrap();
        assert_eq!(seen.headers.contains_key("accept-encoding"), is_kept, "{body}");
    }
}

#[tokio::test]
async fn a_drain_tells_streams_that_wait() {
    let (mut gateway, fake) = one_server(config()).await;
    let mut running = post(&gateway, CHAT, &streaming(json!({"hold": "on"}))).await;
    until_busy(&fake, 1).await;
    let mut queued = post(&gateway, CHAT, &streaming(json!({}))).await;
    assert_eq!((running.head().await.status, queued.head().await.status), (200, 200));
    let clients = async {
        let event = only_event(&text(&mut queued).await, ":\n");
        assert_eq!(
            (&event["error"]["code"], &event["error"]["status"]),
            (&json!("shutting_down"), &json!(503))
        );
        fake.release("on");
        assert!(text(&mut running).await.ends_with("data: [DONE]\n\n"));
    };
    tokio::join!(gateway.drain(), clients);
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn http_2_is_kept_alive_too() {
    let (gateway, fake) = one_server(config()).await;
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}{CHAT}", gateway.addr()))
        .body(Full::<Bytes>::from(streaming(json!({"hold": "on"})).to_string()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    for _ in 0..3 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ":\n");
    }
    fake.release("on");
    assert!(body.collect().await.unwrap().to_bytes().ends_with(b"data: [DONE]\n\n"));
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_client_that_would_not_wait_so_long_is_told_at_once() {
    let gateway = Gateway::start(config());
    let body = json!({"messages": []});
    for lines in ["Prefer: respond-async, wait=10\r\n", "X-Paddock-Deadline-Ms: 10000\r\n"] {
        let answer = post_with(&gateway, "HTTP/1.1", lines, &body).await.answer().await;
        assert_eq!(code(&answer), (504, "queue_timeout".to_owned()), "{lines}");
        assert_eq!(answer.header("retry-after"), Some("60"), "what a boot is taken to last");
        assert!(answer.text().contains("about 60 s"), "{}", answer.text());
    }
    let wrong =
        post_with(&gateway, "HTTP/1.1", "X-Paddock-Deadline-Ms: soon\r\n", &body).await.answer().await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("x-paddock-deadline-ms"), "{}", wrong.text());
    let mut ignored = post_with(&gateway, "HTTP/1.1", "Prefer: wait=soon\r\n", &body).await;
    until_waiting(&gateway, 1).await;
    let fake = FakeLlama::start(FakeConfig::default()).await;
    gateway.attach("a", fake.addr(), 4);
    assert_eq!(ignored.answer().await.status, 200);
    // Now somebody serves: the same clients are served at once, and llama.cpp is not told of their hurry.
    let lines = "Prefer: wait=0\r\nX-Paddock-Deadline-Ms: 0\r\n";
    assert_eq!(post_with(&gateway, "HTTP/1.1", lines, &body).await.answer().await.status, 200);
    let seen = fake.seen().pop().unwrap();
    assert!(!seen.headers.contains_key("prefer") && !seen.headers.contains_key("x-paddock-deadline-ms"));
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn a_deadline_ends_a_wait_whose_length_nobody_knew() {
    let (gateway, fake) = one_server(GatewayConfig::default()).await;
    let mut running = post(&gateway, CHAT, &json!({"messages": [], "fake": {"hold": "on"}})).await;
    until_busy(&fake, 1).await;
    let lines = "X-Paddock-Deadline-Ms: 200\r\n";
    let answer = post_with(&gateway, "HTTP/1.1", lines, &json!({"messages": []})).await.answer().await;
    assert_eq!(code(&answer), (504, "queue_timeout".to_owned()));
    assert!(answer.header("retry-after").is_some());
    fake.release("on");
    assert_eq!(running.answer().await.status, 200);
    assert_eq!(fake.stats().received, 1);
    until_at_rest(&gateway).await;
}
