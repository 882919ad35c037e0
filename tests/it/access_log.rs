//! The access log: a line for each request, whatever became of it, and nothing of what it said.

mod forged;
mod stalled;
mod tokens;
mod traces;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use paddock::metrics::{Label, Outcome};
use paddock::proxy::NewKey;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::http::{self, Answer, RawClient};
use crate::support::program::{Paddock, Program};
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(20);
/// For what the gateway waits for in vain: of requests alone that do not come, or are not answered.
const BRIEF: &str = "500ms";

/// The program with a fake server behind it.
struct Scene {
    paddock: Paddock,
    fake: FakeLlama,
    _agent: Program,
}

async fn scene(flags: &[&str], config: FakeConfig) -> Scene {
    let slots = config.slots;
    let fake = FakeLlama::start(config).await;
    let paddock = balancer(flags).await;
    let agent = Paddock::agent(fake.addr(), paddock.management(), &["--monitoring-interval", "100ms"]);
    eventually("its slots are there", SOON, async || {
        (paddock.state().await["pools"][0]["slots_idle"] == json!(slots)).then_some(())
    })
    .await;
    Scene { paddock, fake, _agent: agent }
}

/// One that logs JSON, and all that it has to say of itself.
async fn balancer(flags: &[&str]) -> Paddock {
    let environment = [("RUST_LOG".to_owned(), "info,paddock=debug".to_owned())];
    Paddock::start_in(&environment, &[&["--log-format", "json"], flags].concat()).await
}

/// The access log's lines so far.
fn lines(output: &str) -> Vec<Value> {
    lines_with(output, "paddock::access")
}

/// Those that hold this text; the others are not even read.
fn lines_with(output: &str, text: &str) -> Vec<Value> {
    let all = output.lines().filter(|line| line.contains(text));
    let all = all.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["target"] == "paddock::access").map(|mut line| line["fields"].take()).collect()
}

/// The one line of a request.
async fn line(paddock: &Paddock, id: &str) -> Value {
    let what = format!("the line of {id}");
    eventually(&what, SOON, async || {
        lines_with(&paddock.output(), id).into_iter().find(|line| line["request_id"] == id)
    })
    .await
}

fn request(id: &str, method: &str, target: &str, headers: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: g\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

async fn send(paddock: &Paddock, request: impl AsRef<[u8]>) -> RawClient {
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.send(request).await;
    client
}

async fn ask(paddock: &Paddock, request: impl AsRef<[u8]>) -> Answer {
    let mut client = send(paddock, request).await;
    let head = client.head().await;
    let (body, _) = client.body().await;
    Answer { body, ..head }
}

fn chat(fake: Value) -> Value {
    json!({"messages": [], "fake": fake})
}

async fn until_waiting(paddock: &Paddock, requests: usize) {
    eventually("it waits", SOON, async || {
        (paddock.state().await["requests_buffered"] == json!(requests)).then_some(())
    })
    .await;
}

/// Requests by their outcome, as they were counted.
async fn counted(paddock: &Paddock) -> BTreeMap<String, usize> {
    let text = http::get(paddock.management(), "/metrics").await.text();
    let counts = text.lines().filter_map(|line| {
        let (labels, count) = line.strip_prefix("paddock_requests_total{")?.split_once("} ")?;
        let outcome = labels.split("outcome=\"").nth(1)?.split('"').next()?;
        Some((outcome.to_owned(), count.parse().ok()?))
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn logged(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut logged = BTreeMap::new();
    for line in lines {
        *logged.entry(line["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    logged
}

/// As many lines as requests, by outcome; then no more come.
async fn until_all_are_logged(paddock: &Paddock) -> Vec<Value> {
    eventually("a line for each request", SOON, async || {
        let counted = counted(paddock).await;
        let lines = lines(&paddock.output());
        (logged(&lines) == counted).then_some(lines)
    })
    .await
}

fn status(line: &Value) -> Option<u64> {
    line["status"].as_u64()
}

/// Fields of a line that are there.
fn names(line: &Value) -> BTreeSet<String> {
    line.as_object().unwrap().keys().cloned().collect()
}

async fn refused_without_a_server() -> Vec<Value> {
    let mut paddock = balancer(&["--fleet", "none", "--max-buffered-requests", "1"]).await;
    for (id, method, path, expected) in [
        ("own", "GET", "/health", 200),
        ("own-head", "HEAD", "/health", 200),
        ("forbidden", "GET", "/tools", 403),
        ("not_found", "GET", "/favicon.ico", 404),
        ("no_server", "GET", "/props", 503),
    ] {
        let mut client = send(&paddock, request(id, method, path, "", &Value::Null)).await;
        let answer = client.head().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (expected, Some(id)));
        let line = line(&paddock, id).await;
        let (outcome, length) = (id.split('-').next().unwrap(), answer.header("content-length").unwrap());
        let length: u64 = if method == "HEAD" { 0 } else { length.parse().unwrap() };
        assert_eq!((&line["outcome"], status(&line)), (&json!(outcome), Some(expected.into())), "{line}");
        assert_eq!((&line["method"], &line["path"]), (&json!(method), &json!(path)));
        assert_eq!((&line["client"], &line["pool"]), (&json!("127.0.0.1"), &json!("default")));
        assert_eq!((&line["request_bytes"], &line["response_bytes"]), (&json!(0), &json!(length)), "{line}");
        for absent in
            ["queue_ms", "first_byte_ms", "agent", "attempts", "cold_start", "tenant", "prompt_tokens"]
        {
            assert!(line[absent].is_null(), "{absent}: {line}");
        }
        assert!(line["duration_ms"].is_u64());
    }
    // What never became a request has no more than this.
    let bare = bare();
    for (bytes, outcome, expected) in [
        ("NONSENSE\r\n\r\n".to_owned(), "bad_request", 400),
        (format!("GET / HTTP/1.1\r\nHost: g\r\nX: {}\r\n\r\n", "x".repeat(70_000)), "bad_request", 431),
    ] {
        let before = lines(&paddock.output()).len();
        assert_eq!(send(&paddock, bytes).await.head().await.status, expected);
        let line = eventually("its line", SOON, async || lines(&paddock.output()).get(before).cloned()).await;
        assert_eq!((&line["outcome"], status(&line)), (&json!(outcome), Some(expected.into())), "{line}");
        assert_eq!(names(&line), bare, "{line}");
    }
    let none = Value::Null;
    let large =
        "POST /v1/completions HTTP/1.1\r\nHost: g\r\nX-Request-Id: large\r\nContent-Length: 99999999\r\n\r\n";
    for (id, bytes, outcome, expected) in [
        ("doubtful", request("doubtful", "GET", "/", "Host: h\r\n", &none), "bad_request", 400),
        (
            "upgrading",
            request("upgrading", "GET", "/", "Connection: upgrade\r\nUpgrade: websocket\r\n", &none),
            "upgrade_refused",
            501,
        ),
        ("large", large.to_owned(), "request_too_large", 413),
        (
            "impatient",
            request("impatient", "POST", CHAT, "X-Paddock-Deadline-Ms: 0\r\n", &chat(json!({}))),
            "queue_timeout",
            504,
        ),
    ] {
        assert_eq!(send(&paddock, bytes).await.head().await.status, expected, "{id}");
        let line = line(&paddock, id).await;
        assert_eq!((&line["outcome"], status(&line)), (&json!(outcome), Some(expected.into())), "{line}");
        assert!(line["queue_ms"].is_null() && line["attempts"].is_null(), "{line}");
    }
    let leaving = send(&paddock, request("leaving", "POST", CHAT, "", &chat(json!({})))).await;
    until_waiting(&paddock, 1).await;
    assert_eq!(ask(&paddock, request("full", "POST", CHAT, "", &chat(json!({})))).await.status, 429);
    assert_eq!(line(&paddock, "full").await["outcome"], "queue_full");
    drop(leaving);
    let left = line(&paddock, "leaving").await;
    assert_eq!(
        (&left["outcome"], status(&left)),
        (&json!("cancelled"), None),
        "it was never answered: {left}"
    );
    assert_eq!(left["request_bytes"], chat(json!({})).to_string().len());
    until_all_are_logged(&paddock).await;
    let mut last = send(&paddock, request("last", "POST", CHAT, "", &chat(json!({})))).await;
    until_waiting(&paddock, 1).await;
    paddock.sigterm();
    assert_eq!(last.head().await.status, 503);
    assert!(paddock.wait().await.success());
    let output = paddock.output();
    assert!(output.lines().last().unwrap().contains("\"drained\""), "nothing of a drain is lost: {output}");
    let lines = lines(&output);
    assert_eq!(lines.last().unwrap()["outcome"], "shutting_down");
    lines
}

/// What a line has of what never became a request.
fn bare() -> BTreeSet<String> {
    ["client", "outcome", "pool", "status"].map(str::to_owned).into()
}

/// Clients that do not send what they began.
async fn sent_too_slowly() -> Vec<Value> {
    let flags = ["--request-head-timeout", BRIEF, "--request-body-timeout", BRIEF];
    let paddock = balancer(&[&["--fleet", "none"], &flags[..]].concat()).await;
    assert_eq!(send(&paddock, "GET / HTTP/1.1\r\nHos").await.head().await.status, 408);
    let head = eventually("its line", SOON, async || lines(&paddock.output()).pop()).await;
    assert_eq!((&head["outcome"], status(&head)), (&json!("head_timeout"), Some(408)), "{head}");
    assert_eq!(names(&head), bare(), "{head}");
    let slow = "POST /v1/completions HTTP/1.1\r\nHost: g\r\nX-Request-Id: slow\r\nContent-Length: 9\r\n\r\n{";
    assert_eq!(send(&paddock, slow).await.head().await.status, 408);
    let body = line(&paddock, "slow").await;
    assert_eq!((&body["outcome"], status(&body)), (&json!("body_timeout"), Some(408)), "{body}");
    assert!(body["queue_ms"].is_null() && body["attempts"].is_null(), "{body}");
    lines(&paddock.output())
}

/// A server that does not answer in time.
async fn answered_too_slowly() -> Vec<Value> {
    let flags = ["--upstream-response-timeout", BRIEF, "--keepalive-after", "100ms"];
    let scene = scene(&flags, FakeConfig::default()).await;
    let overdue = request("overdue", "POST", CHAT, "", &chat(json!({"hold": "never"})));
    assert_eq!(ask(&scene.paddock, overdue).await.status, 504);
    let late = line(&scene.paddock, "overdue").await;
    assert_eq!((&late["outcome"], status(&late)), (&json!("upstream_timeout"), Some(504)), "{late}");
    assert!(late["attempts"] == 1 && late["agent"].is_string(), "{late}");
    // The head of the answer was out before the refusal.
    let held = json!({"stream": true, "messages": [], "fake": {"hold": "never"}});
    let told = ask(&scene.paddock, request("kept-waiting", "POST", CHAT, "", &held)).await;
    assert!(told.status == 200 && told.text().contains("upstream_timeout"), "{}", told.text());
    let kept = line(&scene.paddock, "kept-waiting").await;
    assert_eq!((&kept["outcome"], status(&kept)), (&json!("upstream_timeout"), Some(200)), "{kept}");
    assert!(kept["response_bytes"].is_null(), "{kept}");
    until_all_are_logged(&scene.paddock).await
}

async fn through_a_server() -> Vec<Value> {
    let scene = scene(&[], FakeConfig { slots: 8, ..FakeConfig::default() }).await;
    let Scene { paddock, fake, .. } = &scene;
    let body = chat(json!({}));
    let answer = ask(paddock, request("served", "POST", CHAT, "", &body)).await;
    let served = line(paddock, "served").await;
    assert_eq!((&served["outcome"], status(&served)), (&json!("served"), Some(200)));
    assert_eq!(served["agent"], answer.header("x-paddock-agent").unwrap());
    assert_eq!(served["queue_ms"].to_string(), answer.header("x-paddock-queue-ms").unwrap());
    assert_eq!((&served["cold_start"], &served["attempts"]), (&json!(false), &json!(1)));
    assert_eq!(
        (&served["request_bytes"], &served["response_bytes"]),
        (&json!(body.to_string().len()), &json!(answer.body.len()))
    );
    assert!(served["first_byte_ms"].as_u64() <= served["duration_ms"].as_u64(), "{served}");
    // Neither a slot nor its times.
    ask(paddock, request("models", "GET", "/v1/models", "", &Value::Null)).await;
    let models = line(paddock, "models").await;
    assert_eq!((&models["outcome"], &models["agent"]), (&json!("served"), &served["agent"]));
    assert!(
        models["queue_ms"].is_null() && models["first_byte_ms"].is_null() && models["cold_start"].is_null()
    );

    for (id, fake, outcome, expected) in [
        ("its own error", json!({"status": 400}), "served", Some(400)),
        ("empty", json!({"empty": true}), "served", Some(200)),
        ("dying", json!({"die": "before_head"}), "upstream_failed", Some(502)),
        ("breaking", json!({"die": "mid_stream"}), "broken", Some(200)),
    ] {
        let id = id.replace(' ', "-");
        let mut client = send(paddock, request(&id, "POST", CHAT, "", &chat(fake))).await;
        assert_eq!(client.head().await.status, u16::try_from(expected.unwrap()).unwrap(), "{id}");
        client.body().await;
        let line = line(paddock, &id).await;
        assert_eq!((&line["outcome"], status(&line)), (&json!(outcome), expected), "{line}");
        let attempts = if id == "dying" { 2 } else { 1 };
        assert_eq!((&line["attempts"], &line["agent"]), (&json!(attempts), &served["agent"]), "{line}");
    }
    // Its client leaves while it reads.
    let mut reading = send(
        paddock,
        request(
            "reading",
            "POST",
            CHAT,
            "",
            &json!({"stream": true, "messages": [], "fake": {"hold_stream": "never"}}),
        ),
    )
    .await;
    assert_eq!(reading.head().await.status, 200);
    // What keeps it waiting is not the server's.
    let mut first = reading.chunk().await.unwrap().unwrap();
    while first.starts_with(b":") {
        first = reading.chunk().await.unwrap().unwrap();
    }
    drop(reading);
    let left = line(paddock, "reading").await;
    assert_eq!((&left["outcome"], status(&left)), (&json!("cancelled"), Some(200)), "{left}");
    assert_eq!(left["response_bytes"], first.len(), "{left}");
    assert!(left["first_byte_ms"].is_u64() && left["queue_ms"].is_u64());
    assert!(fake.seen().len() > 6, "{}", fake.seen().len());
    until_all_are_logged(paddock).await
}

async fn behind_keys_and_proxies() -> Vec<Value> {
    let folder = Folder::new();
    let alice = NewKey::new("alice").unwrap();
    let keys = folder.write("keys", &format!("{}\n", alice.line()));
    let flags = ["--api-keys-file", keys.to_str().unwrap(), "--trusted-proxy", "127.0.0.1"];
    let paddock = balancer(&[&flags[..], &["--max-buffered-requests", "0"]].concat()).await;
    let headers =
        format!("Authorization: Bearer {}\r\nX-Forwarded-For: 10.9.9.9, 203.0.113.7\r\n", alice.key());
    let answer = ask(&paddock, request("no-agents", "POST", CHAT, &headers, &chat(json!({})))).await;
    assert_eq!(answer.status, 503);
    let refused = line(&paddock, "no-agents").await;
    assert_eq!(
        (&refused["outcome"], &refused["tenant"]),
        (&json!("no_agents"), &json!("alice")),
        "{refused}"
    );
    assert_eq!(refused["client"], "203.0.113.7", "the proxy is believed, and what it was told is not");
    assert_eq!(ask(&paddock, request("nobody", "POST", CHAT, "", &chat(json!({})))).await.status, 401);
    let nobody = line(&paddock, "nobody").await;
    assert_eq!((&nobody["outcome"], &nobody["tenant"]), (&json!("invalid_api_key"), &Value::Null));
    until_all_are_logged(&paddock).await
}

async fn with_too_many_connections_and_no_capacity() -> Vec<Value> {
    let flags = ["--max-connections-per-client", "1", "--", "no-such-llama-server", "--port", "{port}"];
    let paddock = balancer(&flags).await;
    let mut one = send(&paddock, request("no-capacity", "POST", CHAT, "", &chat(json!({})))).await;
    assert_eq!(ask(&paddock, request("many", "GET", "/health", "", &Value::Null)).await.status, 429);
    assert_eq!(line(&paddock, "many").await["outcome"], "too_many_connections");
    assert_eq!(one.head().await.status, 503);
    assert_eq!(line(&paddock, "no-capacity").await["outcome"], "no_capacity");
    until_all_are_logged(&paddock).await
}

async fn on_a_day_that_may_cost_nothing() -> Vec<Value> {
    let limit = ["--price-per-hour", "1", "--max-cost-per-day", "0.000001"];
    let paddock = balancer(&[&limit[..], &["--", "no-such-llama-server", "--port", "{port}"]].concat()).await;
    assert_eq!(ask(&paddock, request("spent", "POST", CHAT, "", &chat(json!({})))).await.status, 503);
    assert_eq!(line(&paddock, "spent").await["outcome"], "budget_exhausted");
    until_all_are_logged(&paddock).await
}

/// The fields in the table of the document.
fn documented() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observe.md");
    let text = fs::read_to_string(file).unwrap();
    let section = text.split("\n## Access log\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    rows.flat_map(|(names, _)| names.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

/// Plays a scene on a thread of its own: it waits for nothing that another one reads.
fn beside<F: Future<Output = Vec<Value>> + 'static>(scene: fn() -> F) -> JoinHandle<Vec<Value>> {
    let runtime = Handle::current();
    spawn_blocking(move || runtime.block_on(scene()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_leaves_one_line_whatever_becomes_of_it() {
    let scenes = [
        beside(refused_without_a_server),
        beside(sent_too_slowly),
        beside(through_a_server),
        beside(answered_too_slowly),
        beside(behind_keys_and_proxies),
        beside(with_too_many_connections_and_no_capacity),
        beside(on_a_day_that_may_cost_nothing),
    ];
    let mut all = Vec::new();
    for scene in scenes {
        all.extend(scene.await.unwrap());
    }
    let outcomes: BTreeSet<String> = logged(&all).into_keys().collect();
    let known = Outcome::ALL.iter().map(|outcome| Outcome::value(*outcome).to_owned()).collect();
    assert_eq!(outcomes, known, "each outcome was seen, and no other");
    let ids: Vec<&str> = all.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "no request has two lines");
    let fields: BTreeSet<String> = all.iter().flat_map(names).collect();
    assert_eq!(documented(), fields, "the document's table, and what is logged");
}

#[tokio::test]
async fn nothing_is_logged_of_a_request_where_nobody_wants_it() {
    let off = balancer(&["--access-log", "off"]).await;
    let silenced = [("RUST_LOG".to_owned(), "info,paddock::access=off".to_owned())];
    let silenced = Paddock::start_in(&silenced, &["--log-format", "json"]).await;
    for paddock in [off, silenced] {
        assert_eq!(http::get(paddock.proxy(), "/health").await.status, 200);
        send(&paddock, "NONSENSE\r\n\r\n").await.head().await;
        let mut paddock = paddock;
        paddock.sigterm();
        assert!(paddock.wait().await.success());
        assert!(paddock.output().contains("drained") && !paddock.output().contains("paddock::access"));
    }
}

#[tokio::test]
async fn what_is_logged_comes_before_the_last_words() {
    let taken = free_addr();
    let _first = Paddock::start_on(taken, free_addr(), &[]).await;
    let (taken, management) = (taken.to_string(), free_addr().to_string());
    let words = ["balancer", "--reverseproxy-addr", &taken, "--management-addr", &management];
    let output = Paddock::run(&words).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.lines().last().unwrap().starts_with("error: "), "{text}");
}
