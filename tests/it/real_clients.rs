//! Other people's clients, in front of the real llama.cpp: the official SDKs through a long start, curl, h2load, wrk.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::http::RawClient;
use crate::support::program::Paddock;
use crate::support::real_llama::{RealLlama, RealOptions, long_prompt};
use crate::support::sdk_clients::{SdkResult, sdk_clients};
use crate::support::wait::eventually;

const STREAMS: [&str; 5] =
    ["chat-stream", "completion-stream", "responses-stream", "messages-stream", "messages-helper"];
const PLAIN: [&str; 3] = ["chat", "responses", "messages"];
/// Several intervals longer than the clients wait for a byte.
const BOOT: Duration = Duration::from_secs(5);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);
const RUN_MAX: Duration = Duration::from_secs(60);
const KEEPALIVE: [&str; 4] = ["--keepalive-after", "500ms", "--keepalive-interval", "500ms"];

async fn fleet(flags: &[&str], options: &RealOptions) -> Paddock {
    let command = options.command("{port}");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Paddock::start(&[flags, &["--"], &command].concat()).await
}

async fn ask(paddock: &Paddock, cases: &[&str], patience: Duration) -> Vec<SdkResult> {
    sdk_clients(&format!("http://{}", paddock.proxy()), cases, patience, "none").await
}

fn sdk_of(case: &str) -> &'static str {
    if case.starts_with("messages") { "anthropic" } else { "openai" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_wait_for_a_boot_longer_than_they_wait_for_a_byte() {
    let options = RealOptions { load_delay: BOOT, slots: 8, ..RealOptions::default() };
    let flags = [&KEEPALIVE[..], &["--keepalive-json", "--keepalive-status"]].concat();
    let paddock = fleet(&flags, &options).await;
    for result in ask(&paddock, &[&STREAMS[..], &PLAIN].concat(), PATIENCE).await {
        assert!(result.ok && result.error.is_none(), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_those_bytes_the_same_clients_give_up() {
    let options = RealOptions { load_delay: NEVER, ..RealOptions::default() };
    let paddock = fleet(&["--keepalive-after", "off"], &options).await;
    for result in ask(&paddock, &[&STREAMS[..], &PLAIN].concat(), PATIENCE).await {
        assert_eq!(result.error.as_deref(), Some("APITimeoutError"), "{result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_prompt_is_no_silence() {
    let paddock =
        fleet(&KEEPALIVE, &RealOptions { context: 32_768, slots: 1, ..RealOptions::default() }).await;
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.post("/completion", &json!({"prompt": "a", "n_predict": 1})).await;
    assert_eq!(client.answer().await.status, 200, "the boot is over");
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.post("/completion", &long_prompt(16_000)).await;
    assert_eq!(client.head().await.status, 200);
    for _ in 0..3 {
        assert_eq!(client.chunk().await, Ok(Some(":\n".into())));
    }
    let (body, is_whole) = client.body().await;
    let text = String::from_utf8_lossy(&body).into_owned();
    // Where llama.cpp's head came late, a comment tells what it says.
    let events = text.lines().find(|line| !line.starts_with(':'));
    assert!(is_whole && events.is_some_and(|event| event.starts_with("data: {")), "{text}");
}

/// The exception's own class, what it is caught as, and what the body told.
fn raised(result: &SdkResult, own: &str, caught_as: &str, status: Option<u16>, code: &str) {
    assert_eq!((result.error.as_deref(), result.status), (Some(own), status), "{result:?}");
    let base = format!("{}.{caught_as}", sdk_of(&result.case));
    assert!(result.bases.contains(&base), "{result:?} is caught as {base}");
    assert_eq!(result.code, Some(json!(code)), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_raise_their_own_exceptions() {
    let cases = ["chat", "chat-stream", "messages", "messages-stream"];
    // Before the first byte, by status.
    let nothing_waits = fleet(&["--max-buffered-requests", "0"], &RealOptions::default()).await;
    for result in ask(&nothing_waits, &cases, SOON).await {
        raised(&result, "RateLimitError", "APIStatusError", Some(429), "queue_full");
    }
    let options = RealOptions::default().command("{port}");
    let broken =
        [&options[..2], &["--model".into(), "/nonexistent/model.gguf".into()], &options[4..]].concat();
    let broken: Vec<&str> = broken.iter().map(String::as_str).collect();
    let nothing_starts =
        Paddock::start(&[&["--keepalive-after", "off", "--"], broken.as_slice()].concat()).await;
    for result in ask(&nothing_starts, &cases, SOON).await {
        let own =
            if sdk_of(&result.case) == "openai" { "InternalServerError" } else { "ServiceUnavailableError" };
        raised(&result, own, "APIStatusError", Some(503), "no_capacity");
    }
    let llama =
        RealLlama::start(RealOptions { api_key: Some("secret".to_owned()), ..RealOptions::default() }).await;
    let wants_key = Paddock::start(&[]).await;
    let _agent = Paddock::agent(llama.addr(), wants_key.management(), &["--llamacpp-api-key", "secret"]);
    for result in ask(&wants_key, &cases, SOON).await {
        assert_eq!(
            (result.error.as_deref(), result.status),
            (Some("AuthenticationError"), Some(401)),
            "{result:?}"
        );
    }
    // After it, by event: the status is 200 by then.
    let late = [&KEEPALIVE[..], &["--buffered-request-timeout", "1200ms"]].concat();
    let nobody_comes = Paddock::start(&late).await;
    for result in ask(&nobody_comes, &STREAMS, PATIENCE).await {
        match sdk_of(&result.case) {
            "openai" => raised(&result, "APIError", "OpenAIError", None, "queue_timeout"),
            _ => raised(&result, "APIStatusError", "APIError", Some(200), "queue_timeout"),
        }
    }
}

/// Runs a tool of another package, which `.ci/run` installs, to its end.
async fn tool(name: &str, package: &str, args: &[&str]) -> String {
    let run = Command::new(name).args(args).env("NO_PROXY", "*").kill_on_drop(true).output();
    let output = timeout(RUN_MAX, run).await.unwrap_or_else(|_| panic!("{name} did not end"));
    let output =
        output.unwrap_or_else(|error| panic!("{name} cannot be run ({error}): install Debian's {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_debian_from_zero() {
    let options = RealOptions { load_delay: Duration::from_secs(2), ..RealOptions::default() };
    let paddock = fleet(&KEEPALIVE, &options).await;
    let url = format!("http://{}/completion", paddock.proxy());
    let json = "content-type: application/json";
    let streaming = r#"{"prompt":"a","n_predict":3,"stream":true}"#;
    let text = tool(
        "curl",
        "curl",
        &[
            "--silent",
            "--http2-prior-knowledge",
            "--no-buffer",
            "--include",
            "-H",
            json,
            "-d",
            streaming,
            &url,
        ],
    )
    .await;
    assert!(text.starts_with("HTTP/2 200") && text.contains("\n:\n:\n"), "it waited: {text}");
    assert!(text.contains("x-paddock-cold-start=true") && text.contains("\"stop\":true"), "{text}");

    let short = r#"{"prompt":"a","n_predict":1}"#;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (body, script) = (folder.join("real-clients-body.json"), folder.join("real-clients-post.lua"));
    std::fs::write(&body, short).unwrap();
    std::fs::write(
        &script,
        format!(
            "wrk.method = 'POST'\nwrk.body = '{short}'\nwrk.headers['Content-Type'] = 'application/json'\n"
        ),
    )
    .unwrap();
    let (body, script) = (body.to_str().unwrap(), script.to_str().unwrap());
    let report =
        tool("h2load", "nghttp2-client", &["-n", "200", "-c", "4", "-m", "10", "-d", body, "-H", json, &url])
            .await;
    assert!(report.contains("200 succeeded, 0 failed, 0 errored"), "{report}");
    assert!(report.contains("status codes: 200 2xx"), "{report}");
    let report = tool("wrk", "wrk", &["-t", "1", "-c", "16", "-d", "2s", "-s", script, &url]).await;
    assert!(report.contains("requests in") && !report.contains(" 0 requests in"), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    eventually("nothing is leased", SOON, async || {
        (paddock.state().await["leases"] == json!(0)).then_some(())
    })
    .await;
}
