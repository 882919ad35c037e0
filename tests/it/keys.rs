//! Clients' keys: who may call, in whose turn, and what becomes of the key.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use paddock::proxy::{Keys, NewKey};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest, until_busy, until_waiting};
use crate::support::h2;
use crate::support::http::{Answer, RawClient};
use crate::support::program::Paddock;
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
/// For a file that changed: two looks, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn key(name: &str) -> NewKey {
    NewKey::new(name).unwrap()
}

fn file(keys: &[&NewKey]) -> String {
    keys.iter().map(|key| format!("{}\n", key.line())).collect()
}

/// A gateway that these may call; the change is for what else is special.
fn gateway(keys: &[&NewKey], change: impl FnOnce(&mut GatewayConfig)) -> Gateway {
    let folder = Folder::new();
    let path = folder.write("keys", &file(keys));
    let mut config = GatewayConfig::default();
    config.proxy.keys = Some(Arc::new(Keys::open(&path).unwrap()));
    change(&mut config);
    Gateway::start(config)
}

fn head(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

async fn ask(gateway: &Gateway, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send(head(method, path, headers, body)).await;
    let answer = client.head().await;
    let (body, is_whole) = client.body().await;
    assert!(is_whole);
    Answer { body, ..answer }
}

#[tokio::test]
async fn without_a_key_nothing_waits_and_nothing_is_read() {
    let (alice, eve) = (key("alice"), key("eve"));
    let gateway = gateway(&[&alice], |_| {});
    let wrong = format!("Authorization: Bearer {}\r\n", eve.key());
    for (path, headers, error) in [
        (CHAT, "", "/error/code"),
        (CHAT, wrong.as_str(), "/error/code"),
        ("/v1/messages", "X-Api-Key: no\r\nanthropic-version: 2023-06-01\r\n", "/error/code"),
        ("/completion", "Authorization: Basic YTpi\r\n", "/error/code"),
        // What is blocked is not told to strangers.
        ("/tools", "", "/error/code"),
        ("/no/such", "", "/error/code"),
    ] {
        let answer = ask(&gateway, "POST", path, headers, "{}").await;
        let json = answer.json();
        assert_eq!(answer.status, 401, "{path}: {json}");
        assert_eq!(json.pointer(error).and_then(Value::as_str), Some("invalid_api_key"), "{json}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let is_anthropic = json["type"] == "error";
        assert_eq!(is_anthropic, path == "/v1/messages", "each in its dialect: {json}");
    }
    for path in ["/v1/models", "/props", "/metrics", "/"] {
        assert_eq!(ask(&gateway, "GET", path, "", "").await.status, 401, "{path}");
    }
    // A client that waits to be asked for its body is not.
    let mut client = RawClient::connect(gateway.addr()).await;
    client
        .send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"))
        .await;
    let answer = client.head().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    // What is malformed is told so first.
    let mut client = RawClient::connect(gateway.addr()).await;
    client.send("GET / HTTP/1.1\r\nHost: g\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.head().await.status, 400);
    assert_eq!(gateway.gate.in_flight(), (0, 0));
    let pools = gateway.gate.snapshot().0.pools;
    assert_eq!(pools[0].requests_buffered, 0);
}

#[tokio::test]
async fn health_and_a_browsers_first_question_need_no_key() {
    let alice = key("alice");
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let gateway = gateway(&[&alice], |_| {});
    for path in ["/health", "/v1/health"] {
        assert_eq!(ask(&gateway, "GET", path, "X-Api-Key: wrong\r\n", "").await.status, 200, "{path}");
    }
    let preflight = "Origin: https://page.example\r\nAccess-Control-Request-Method: POST\r\n";
    let status = async |path, headers, body| ask(&gateway, "OPTIONS", path, headers, body).await.status;
    assert_eq!(status(CHAT, preflight, "").await, 404, "nothing runs, and nothing is started");
    gateway.attach("a", fake.addr(), 1);
    let passed = fake.seen().len();
    status(CHAT, preflight, "").await;
    assert_eq!(fake.seen().len(), passed + 1, "llama.cpp answers it");
    for blocked in ["/tools", "/slots", "/%74ools", "//cors-proxy"] {
        assert_eq!(status(blocked, preflight, "").await, 403, "{blocked}");
    }
    for (headers, body) in [
        (preflight, "{}"),
        ("", ""),
        ("Origin: https://page.example\r\n", ""),
        ("Access-Control-Request-Method: POST\r\n", ""),
    ] {
        assert_eq!(status(CHAT, headers, body).await, 401, "{headers} {body}");
    }
    assert_eq!(fake.seen().len(), passed + 1);
}

#[tokio::test]
async fn a_key_that_was_checked_goes_no_further() {
    let alice = key("alice");
    let bearer = format!("Authorization: Bearer {}\r\n", alice.key());
    let both = format!("{bearer}X-Api-Key: {}\r\n", alice.key());
    for of_server in [None, Some("of-the-server")] {
        let fake =
            FakeLlama::start(FakeConfig { api_key: of_server.map(str::to_owned), ..FakeConfig::default() })
                .await;
        let gateway =
            gateway(&[&alice], |config| config.proxy.llamacpp_api_key = of_server.map(str::to_owned));
        gateway.attach("a", fake.addr(), 1);
        for (method, path) in [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/other")] {
            for headers in [&bearer, &both] {
                let body = if method == "POST" { "{}" } else { "" };
                assert_ne!(ask(&gateway, method, path, headers, body).await.status, 401, "{path}");
            }
        }
        for seen in fake.seen() {
            let authorization = seen.headers.get("authorization").map(|value| value.to_str().unwrap());
            assert_eq!(authorization, of_server.map(|_| "Bearer of-the-server"), "{}", seen.target);
            assert!(!seen.headers.contains_key("x-api-key"));
        }
        assert_eq!(fake.seen().len(), 6);
        // The answer was not for one client's key, so it is remembered for all.
        drop(fake);
        until_at_rest(&gateway).await;
    }
}

#[tokio::test]
async fn without_a_file_the_clients_own_key_is_passed_on() {
    let fake = FakeLlama::start(FakeConfig { api_key: Some("theirs".into()), ..FakeConfig::default() }).await;
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", fake.addr(), 1);
    assert_eq!(ask(&gateway, "POST", CHAT, "Authorization: Bearer theirs\r\n", "{}").await.status, 200);
    assert_eq!(ask(&gateway, "POST", CHAT, "", "{}").await.status, 401, "says llama.cpp");
}

#[tokio::test]
async fn keys_take_turns_however_much_one_asks() {
    let (alice, bob) = (key("alice"), key("bob"));
    let fake = FakeLlama::start(FakeConfig { slots: 1, ..FakeConfig::default() }).await;
    let gateway = gateway(&[&alice, &bob], |_| {});
    gateway.attach("a", fake.addr(), 1);
    let send = async |key: &NewKey, name: &str, fake: Value| {
        let mut client = RawClient::connect(gateway.addr()).await;
        let body = json!({ "fake": fake }).to_string();
        let headers = format!("X-Api-Key: {}\r\n", key.key());
        client.send(head("POST", &format!("{CHAT}?{name}"), &headers, &body)).await;
        client
    };
    let mut clients = vec![send(&alice, "a0", json!({"hold": "first"})).await];
    until_busy(&fake, 1).await;
    for number in 1..=4 {
        clients.push(send(&alice, &format!("a{number}"), json!({})).await);
        until_waiting(&gateway, number).await;
    }
    for number in 1..=2 {
        clients.push(send(&bob, &format!("b{number}"), json!({})).await);
        until_waiting(&gateway, 4 + number).await;
    }
    fake.release("first");
    for mut client in clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let order: Vec<String> =
        fake.seen().iter().map(|seen| seen.target.split('?').nth(1).unwrap().to_owned()).collect();
    let place = |name: &str| order.iter().position(|seen| seen == name).unwrap();
    // Who came last, behind four of another's, is among the first four.
    assert!(place("b2") <= 4 && place("b1") <= 2, "{order:?}");
    until_at_rest(&gateway).await;
}

/// `GET /v1/models`, which is answered while nothing runs.
async fn may_call(paddock: &Paddock, key: &NewKey) -> bool {
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.send(head("GET", "/v1/models", &format!("Authorization: Bearer {}\r\n", key.key()), "")).await;
    match client.answer().await.status {
        200 => true,
        401 => false,
        status => panic!("{status}"),
    }
}

async fn until_may(paddock: &Paddock, key: &NewKey, expected: bool) {
    let what = format!("{key:?} may call: {expected}\n{}", paddock.output());
    eventually(&what, SOON, async || (may_call(paddock, key).await == expected).then_some(())).await;
}

#[tokio::test]
async fn the_file_is_read_again_when_it_changes() {
    let (alice, bob, carol) = (key("alice"), key("bob"), key("carol"));
    let folder = Folder::new();
    let path = folder.write("keys", &file(&[&alice]));
    let mut paddock = Paddock::start(&["--api-keys-file", path.to_str().unwrap()]).await;
    assert!(may_call(&paddock, &alice).await && !may_call(&paddock, &bob).await);
    folder.write("keys", &file(&[&alice, &bob]));
    until_may(&paddock, &bob, true).await;
    folder.replace("keys", &file(&[&carol, &bob]));
    until_may(&paddock, &alice, false).await;
    assert!(may_call(&paddock, &carol).await);

    folder.write("keys", &format!("{}alice {}\n", file(&[&alice]), alice.key()));
    let told = format!("--api-keys-file: '{}' line 2: its second word is no hash", path.display());
    eventually("it is told", SOON, async || paddock.output().contains(&told).then_some(())).await;
    assert!(
        may_call(&paddock, &carol).await && !may_call(&paddock, &alice).await,
        "the last good one goes on"
    );
    folder.write("keys", "# nobody\n");
    until_may(&paddock, &carol, false).await;
    let output = paddock.until_says("has no keys, so nobody may call").await;
    assert_eq!(output.matches(&told).count(), 1, "once: {output}");
    paddock.sigterm();
    assert!(paddock.wait().await.success());
}

#[tokio::test]
async fn no_log_shows_a_key() {
    let (alice, eve) = (key("alice"), key("eve"));
    let folder = Folder::new();
    let path = folder.write("keys", &file(&[&alice]));
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let environment = [("RUST_LOG".to_owned(), "trace".to_owned())];
    let mut paddock = Paddock::start_in(&environment, &["--api-keys-file", path.to_str().unwrap()]).await;
    let _agent = Paddock::agent(fake.addr(), paddock.management(), &[]);
    for key in [&alice, &eve] {
        let expected = if key.line() == alice.line() { 200 } else { 401 };
        let mut client = RawClient::connect(paddock.proxy()).await;
        client.send(head("POST", CHAT, &format!("Authorization: Bearer {}\r\n", key.key()), "{}")).await;
        assert_eq!(client.answer().await.status, expected);
        let mut h2 = h2::over(TcpStream::connect(paddock.proxy()).await.unwrap()).await;
        let request =
            Request::post(format!("http://{}{CHAT}", paddock.proxy())).header("x-api-key", key.key());
        let answer = h2.send_request(request.body("{}".into()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected);
    }
    paddock.sigterm();
    assert!(paddock.wait().await.success());
    let output = paddock.output();
    assert!(output.contains("TRACE") && output.contains("a request is refused"), "everything is logged");
    for key in [&alice, &eve] {
        assert!(!output.contains(key.key()) && !output.contains(&key.key()[3..40]));
    }
}

#[tokio::test]
async fn a_new_key_is_printed_with_its_line() {
    let made = Paddock::run(&["key", "new", "alice"]).await;
    assert!(made.status.success());
    let (stdout, stderr) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let lines: Vec<&str> = stdout.lines().collect();
    let [key, line] = lines[..] else { panic!("{stdout}") };
    assert!(key.starts_with("pk-") && line.starts_with("alice sha256:"), "{stdout}");
    assert!(stderr.contains("--api-keys-file") && !stderr.contains(key), "{stderr}");
    let folder = Folder::new();
    let path = folder.write("keys", line);
    let paddock = Paddock::start(&["--api-keys-file", path.to_str().unwrap()]).await;
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.send(head("GET", "/v1/models", &format!("X-Api-Key: {key}\r\n"), "")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn wrong_input_gets_one_line() {
    let folder = Folder::new();
    let twice = format!("alice sha256:{0}\n\nbob sha256:{0}\n", "0".repeat(64));
    let wrong = folder.write("wrong", &twice);
    for (args, says) in [
        (
            &["balancer", "--api-keys-file", "/no/such"][..],
            &["--api-keys-file: '/no/such' cannot be read (No such file", "; give"][..],
        ),
        (
            &["balancer", "--api-keys-file", "/dev/zero"],
            &["--api-keys-file: '/dev/zero' cannot be read (", "; give"],
        ),
        (
            &["balancer", "--api-keys-file", wrong.to_str().unwrap()],
            &["wrong' line 3: line 1 has the same key; remove"],
        ),
        (&["key", "new", "two words"], &["the name is not made of", "; write"]),
        (&["key", "new"], &["NAME: it is missing; write NAME"]),
        (&["key"], &["paddock key new NAME"]),
    ] {
        let run = Paddock::run(args).await;
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!((run.status.code(), stderr.lines().count()), (Some(2), 1), "{args:?}: {stderr}");
        assert!(says.iter().all(|part| stderr.contains(part)), "{says:?}: {stderr}");
        assert!(run.stdout.is_empty());
    }
}
