//! From zero to an answer and back, with the program and the real llama.cpp.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::http::{self, RawClient, get, post_json};
use crate::support::openai_clients::{OpenAiLoad, openai_clients};
use crate::support::program::Paddock;
use crate::support::real_llama::{RealLlama, RealOptions, busy_for, busy_slots, chat_for, long_prompt};
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(20);
/// A balancer that starts the real server by itself.
async fn fleet(flags: &[&str], options: &RealOptions) -> Paddock {
    let command = options.command("{port}");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    Paddock::start(&[flags, &["--"], &command].concat()).await
}

fn instances(state: &Value) -> Vec<Value> {
    state["pools"][0]["instances"].as_array().cloned().unwrap_or_default()
}

fn leases(state: &Value) -> u64 {
    state["leases"].as_u64().unwrap()
}

fn waiting(state: &Value) -> u64 {
    state["requests_buffered"].as_u64().unwrap()
}

async fn until_instances(paddock: &Paddock, count: usize) {
    let what = format!("{count} instances run");
    eventually(&what, SOON, async || (instances(&paddock.state().await).len() == count).then_some(())).await;
}

async fn until_ready(paddock: &Paddock, slots: u64) {
    let what = format!("{slots} slots are offered");
    let slots_idle = async || paddock.state().await["pools"][0]["slots_idle"].as_u64();
    eventually(&what, SOON, async || (slots_idle().await == Some(slots)).then_some(())).await;
}

async fn until_at_rest(paddock: &Paddock) {
    eventually("nothing is leased, nothing waits", SOON, async || {
        let state = paddock.state().await;
        (leases(&state) == 0 && waiting(&state) == 0).then_some(())
    })
    .await;
}

/// The addresses of the servers that the balancer has started.
fn addresses(state: &Value) -> Vec<SocketAddr> {
    instances(state).iter().filter_map(|instance| instance["address"].as_str()?.parse().ok()).collect()
}

/// The processes that listen there, found by their command lines.
fn pid_of(server: SocketAddr) -> Option<u32> {
    let port = server.port().to_string();
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        let is_server = words.iter().any(|word| word.ends_with(b"llama_server.py"));
        (is_server && words.contains(&port.as_bytes())).then_some(pid)
    })
}

/// What llama.cpp itself says of requests that found no slot: more than were allowed to be sent.
async fn deferred(server: SocketAddr) -> Option<f64> {
    let metrics = http::try_get(server, "/metrics").await?.text();
    let line = metrics.lines().find(|line| line.starts_with("llamacpp:requests_deferred "))?.to_owned();
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_from_zero_and_back_twice() {
    let paddock = fleet(&["--idle-timeout", "3s"], &RealOptions::default()).await;
    let mut started = BTreeSet::new();
    for wake in 1..=2 {
        assert_eq!(instances(&paddock.state().await), [] as [Value; 0], "nothing runs before wake {wake}");
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = async {
            let (mut seen, mut looks) = (BTreeSet::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let state = paddock.state().await;
                for instance in instances(&state) {
                    seen.insert(instance["id"].as_str().unwrap().to_owned());
                }
                assert!(leases(&state) <= 4, "the ledger never holds more than the server's slots");
                for server in addresses(&state) {
                    if let Some(deferred) = deferred(server).await {
                        looks += 1;
                        assert_eq!(deferred, 0.0, "the server never got more than its slots");
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
            assert!(looks > 0, "the server was looked at under load");
            seen
        };
        let load = async {
            let results =
                openai_clients(paddock.proxy(), OpenAiLoad { count: 20, streaming: 10, max_tokens: 200 })
                    .await;
            is_over.store(true, Ordering::Relaxed);
            results
        };
        let (results, seen) = tokio::join!(load, watch);
        assert_eq!(results.len(), 20);
        for result in results {
            assert!(result.ok && result.finish_reason.as_deref() == Some("length"), "{result:?}");
        }
        assert_eq!(seen.len(), 1, "one process was started for wake {wake}: {seen:?}");
        started.extend(seen);
        until_at_rest(&paddock).await;
        until_instances(&paddock, 0).await;
    }
    assert_eq!(started.len(), 2, "each wake started a process of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_tells_of_its_cold_start() {
    let options = RealOptions { load_delay: Duration::from_secs(1), ..RealOptions::default() };
    let paddock = fleet(&[], &options).await;
    let chat = chat_for(Duration::from_millis(20), false);
    let cold = post_json(paddock.proxy(), CHAT, &chat).await;
    assert_eq!((cold.status, cold.header("x-paddock-cold-start")), (200, Some("true")));
    assert!(
        cold.header("x-paddock-queue-ms").unwrap().parse::<u64>().unwrap() >= 1000,
        "it waited for the load"
    );
    let warm = post_json(paddock.proxy(), CHAT, &chat).await;
    assert_eq!((warm.status, warm.header("x-paddock-cold-start")), (200, Some("false")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_is_killed_under_load() {
    let paddock = fleet(&["--min-instances", "2", "--max-instances", "2"], &RealOptions::default()).await;
    until_ready(&paddock, 8).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut client = RawClient::connect(paddock.proxy()).await;
        client.post(CHAT, &chat_for(Duration::from_secs(1), true)).await;
        assert_eq!(client.head().await.status, 200);
        streams.push(client);
    }
    let mut queued = Vec::new();
    for _ in 0..30 {
        let mut client = RawClient::connect(paddock.proxy()).await;
        client.post(CHAT, &chat_for(Duration::from_millis(10), false)).await;
        queued.push(client);
    }
    eventually("thirty wait", SOON, async || (waiting(&paddock.state().await) == 30).then_some(())).await;
    let victim = addresses(&paddock.state().await)[0];
    let pid = rustix::process::Pid::from_raw(pid_of(victim).unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();

    let (mut whole, mut cut) = (0, 0);
    for mut client in streams {
        let (body, is_ended) = client.body().await;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(is_ended, "a stream ends as a stream");
        if text.ends_with("data: [DONE]\n\n") {
            whole += 1;
        } else {
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            let event: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(event["error"]["code"], "upstream_failed");
            cut += 1;
        }
    }
    assert_eq!((whole, cut), (4, 4), "four ran on each server");
    for mut client in queued {
        let answer = client.answer().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until_at_rest(&paddock).await;
    until_ready(&paddock, 8).await;
}

/// How many tokens each request had that llama.cpp stopped because its client left, in its own words. It writes two lines
/// of each: `cancel task, id_task = 7`, and `task 7 | stop processing: n_tokens = 99, truncated = 0`.
fn stopped(output: &str) -> Vec<u64> {
    let number = |text: &str| text.split(|end: char| !end.is_ascii_digit()).next()?.parse::<u64>().ok();
    let cancelled = output.split("cancel task, id_task = ").skip(1).filter_map(number);
    let tokens = cancelled.filter_map(|task| {
        number(output.split_once(&format!("task {task} | stop processing: n_tokens = "))?.1)
    });
    tokens.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_frees_the_servers_slot() {
    // Of its prompt as much as is computed already is computed in vain: little at a time.
    let options = RealOptions { slots: 1, context: 32_768, batch: 256, ..RealOptions::default() };
    let paddock = fleet(&[], &options).await;
    post_json(paddock.proxy(), CHAT, &chat_for(Duration::from_millis(10), false)).await;
    let server = addresses(&paddock.state().await)[0];
    let answer_tokens = u64::from(busy_for(Duration::from_secs(60)));
    let prompt_tokens: u16 = 32_000;
    let cases = [
        ("while it decodes a stream", CHAT, chat_for(Duration::from_secs(60), true), answer_tokens),
        ("while it decodes", CHAT, chat_for(Duration::from_secs(60), false), answer_tokens),
        ("during prefill", "/completion", long_prompt(prompt_tokens.into()), prompt_tokens.into()),
    ];
    for (at, (when, path, body, tokens)) in cases.into_iter().enumerate() {
        let mut running = RawClient::connect(paddock.proxy()).await;
        running.post(path, &body).await;
        eventually("a slot computes", SOON, async || {
            busy_slots(server, None).await.is_some_and(|slots| slots.contains(&true)).then_some(())
        })
        .await;
        // One that waits behind it leaves first: nobody notices but the queue.
        let mut queued = RawClient::connect(paddock.proxy()).await;
        queued.post(CHAT, &json!({"messages": [], "max_tokens": 1})).await;
        eventually("it waits", SOON, async || (waiting(&paddock.state().await) == 1).then_some(())).await;
        drop(queued);
        eventually("it left", SOON, async || (waiting(&paddock.state().await) == 0).then_some(())).await;
        let mut next = RawClient::connect(paddock.proxy()).await;
        next.post(CHAT, &json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1})).await;
        eventually("the next one waits", SOON, async || (waiting(&paddock.state().await) == 1).then_some(()))
            .await;

        drop(running);
        // Nobody looks meanwhile: any result keeps llama.cpp from noticing.
        let answer = next.answer().await;
        assert_eq!(answer.status, 200, "{when}: the queue moves on");
        let stopped = eventually("llama.cpp tells that it stopped", SOON, async || {
            stopped(&paddock.output()).get(at).copied()
        })
        .await;
        assert!(stopped < tokens, "{when}: it was computed to its end");
    }
    until_at_rest(&paddock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_key() {
    let options = RealOptions { api_key: Some("secret".to_owned()), ..RealOptions::default() };
    let paddock = fleet(&["--llamacpp-api-key", "secret"], &options).await;
    let chat = chat_for(Duration::from_millis(10), false);
    assert_eq!(post_json(paddock.proxy(), CHAT, &chat).await.status, 200);
    assert!(!paddock.output().contains("secret"), "the key is not logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_server_refuses_is_told() {
    let options = RealOptions { api_key: Some("secret".to_owned()), ..RealOptions::default() };
    let paddock = fleet(&[], &options).await;
    let refused = post_json(paddock.proxy(), CHAT, &chat_for(Duration::from_millis(10), false)).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("no_capacity")));
    assert!(refused.text().contains("--llamacpp-api-key"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_slots_is_a_visible_agent_error() {
    let llama =
        RealLlama::start(RealOptions { is_slots_endpoint_disabled: true, ..RealOptions::default() }).await;
    let paddock = Paddock::start(&["--buffered-request-timeout", "500ms"]).await;
    let _agent = Paddock::agent(llama.addr(), paddock.management(), &[]);
    let agents = eventually("the agent is there", SOON, async || {
        let agents = get(paddock.management(), "/api/v1/agents").await.json()["agents"].clone();
        (agents[0]["is_slots_endpoint_enabled"] == json!(false)).then_some(agents)
    })
    .await;
    assert!(agents[0]["error"].as_str().unwrap().contains("--no-slots"), "{agents}");
    assert_eq!((&agents[0]["slots_idle"], &agents[0]["slots_processing"]), (&json!(0), &json!(0)));
    let waited = post_json(paddock.proxy(), CHAT, &chat_for(Duration::from_millis(10), false)).await;
    assert_eq!(waited.status, 504, "nothing is sent where nothing is known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_and_one_that_is_not_there() {
    let addr = free_addr();
    let paddock = Paddock::start(&[]).await;
    let _agent = Paddock::agent(addr, paddock.management(), &[]);
    let phase =
        async || get(paddock.management(), "/api/v1/agents").await.json()["agents"][0]["phase"].clone();
    eventually("nobody is there", SOON, async || (phase().await == "starting").then_some(())).await;
    let mut held = RawClient::connect(paddock.proxy()).await;
    held.post(CHAT, &chat_for(Duration::from_millis(10), false)).await;
    let options = RealOptions { load_delay: Duration::from_secs(1), ..RealOptions::default() };
    let _llama = RealLlama::start_on(addr, options).await;
    eventually("it loads", SOON, async || (phase().await == "loading").then_some(())).await;
    assert_eq!(waiting(&paddock.state().await), 1, "held while it loads");
    assert_eq!(held.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_finishes_what_runs() {
    let mut paddock = fleet(&[], &RealOptions { slots: 2, ..RealOptions::default() }).await;
    let mut running = Vec::new();
    for is_streaming in [true, false] {
        let mut client = RawClient::connect(paddock.proxy()).await;
        client.post(CHAT, &chat_for(Duration::from_secs(1), is_streaming)).await;
        running.push(client);
    }
    eventually("two run", SOON, async || (leases(&paddock.state().await) == 2).then_some(())).await;
    let mut queued = RawClient::connect(paddock.proxy()).await;
    queued.post(CHAT, &chat_for(Duration::from_secs(1), false)).await;
    eventually("one waits", SOON, async || (waiting(&paddock.state().await) == 1).then_some(())).await;
    let server = addresses(&paddock.state().await)[0];
    paddock.sigterm();
    let refused = queued.answer().await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("shutting_down")));
    for client in &mut running {
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("length"), "whole: {}", answer.text());
    }
    assert_eq!(paddock.wait().await.code(), Some(0));
    assert_eq!(pid_of(server), None, "no child survives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_leaves_no_child_behind() {
    let mut paddock = fleet(&["--min-instances", "1"], &RealOptions::default()).await;
    until_ready(&paddock, 4).await;
    let server = addresses(&paddock.state().await)[0];
    assert!(pid_of(server).is_some());
    paddock.sigkill();
    paddock.wait().await;
    eventually("the child is gone", SOON, async || pid_of(server).is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_back_after_the_balancers_restart() {
    let llama = RealLlama::start(RealOptions::default()).await;
    let mut paddock = Paddock::start(&[]).await;
    let (proxy, management) = (paddock.proxy(), paddock.management());
    let _agents: Vec<_> = (0..3).map(|_| Paddock::agent(llama.addr(), management, &[])).collect();
    let registered = async || {
        let agents = http::try_get(management, "/api/v1/agents").await?.json()["agents"].as_array()?.len();
        (agents == 3).then_some(())
    };
    eventually("three agents are registered", SOON, registered).await;
    paddock.sigkill();
    paddock.wait().await;
    let paddock = Paddock::start_on(proxy, management, &[]).await;
    eventually("they are back", SOON, registered).await;
    let answer = post_json(paddock.proxy(), CHAT, &chat_for(Duration::from_millis(10), false)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_is_told_with_its_last_words() {
    let mut options = RealOptions::default().command("{port}");
    let model = options.iter().position(|word| word == "--model").unwrap() + 1;
    options[model] = "/nonexistent/model.gguf".to_owned();
    let command: Vec<&str> = options.iter().map(String::as_str).collect();
    let paddock = Paddock::start(&[&["--"], command.as_slice()].concat()).await;
    let refused = post_json(paddock.proxy(), CHAT, &chat_for(Duration::from_millis(10), false)).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("no_capacity")));
    assert!(refused.text().contains("/nonexistent/model.gguf"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
}
