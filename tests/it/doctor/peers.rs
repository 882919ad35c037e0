//! The balancer, llama.cpp and StatsD, as doctor reaches them.

use std::net::{Ipv4Addr, UdpSocket};

use super::*;
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::http::RawClient;
use crate::support::scripted::{Peer, Scripted};
use crate::support::tls::Identity;
use crate::support::wait::{eventually, free_addr};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_balancer_with_an_agent_is_well() {
    let folder = Folder::new();
    let token = folder.write("token", "a-token-for-this-test\n");
    let token = token.to_str().unwrap();
    let llama = FakeLlama::start(FakeConfig::default()).await;
    let paddock = Paddock::start(&["--management-token-file", token]).await;
    let _agent = Paddock::agent(llama.addr(), paddock.management(), &["--management-token-file", token]);
    let (proxy, management) = (paddock.proxy().to_string(), paddock.management().to_string());
    let llama = llama.addr().to_string();
    let statsd = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let statsd = statsd.local_addr().unwrap().to_string();
    let given = [
        "--reverseproxy-addr",
        &proxy,
        "--management-addr",
        &management,
        "--local-llamacpp-addr",
        &llama,
        "--external-llamacpp-addr",
        "127.0.0.1:1",
        "--statsd-addr",
        &statsd,
        "--cloudwatch-namespace",
        "Paddock",
    ];
    let with_token = [&given[..], &["--management-token-file", token]].concat();
    let found = eventually("the agent is seen", SOON, async || {
        let found = examine(&with_token).await;
        (found.of("agents").1 == "1 is registered, with 4 slots").then_some(found)
    })
    .await;
    found.says("proxy", "ok", "answers /health");
    found.says("management", "ok", "answers /health");
    found.says("token", "ok", "the token is accepted");
    found.says("llamacpp", "ok", "its model is loaded");
    found.says("slots", "ok", "4, 0 busy");
    found.says("external-llamacpp", "fail", "start llama-server with --host 0.0.0.0");
    found.says("clock", "ok", &format!("within 5 s of that of {management}"));
    found.says("cloudwatch", "skip", "see \"cloudwatch\" in the balancer's /api/v1/state");

    // The same for people. The agent's own log is not among it.
    let (text, code) = lines(&[], &with_token).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("\nok    token              {management}: Paddock ")), "{text}");
    assert!(text.lines().last().unwrap().contains("ok, ") && !text.contains('\x1b'), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("FAIL  external-llamacpp  127.0.0.1:1: cannot connect")),
        "{text}"
    );

    examine(&given).await.says("token", "fail", "a token is wanted (401), and none is given");
    let wrong = [&given[..], &["--management-token", "wrong"]].concat();
    let found = examine(&wrong).await;
    found.says(
        "token",
        "fail",
        "the token is refused (401); give the one that the balancer was started with",
    );
    assert!(!found.checks.iter().any(|check| check["name"] == "agents"), "{found:?}");
    // What the agent's environment says, in its own form.
    let environment = [
        ("PADDOCK_MANAGEMENT_ADDR", format!("{management},{management}")),
        ("PADDOCK_MANAGEMENT_TOKEN_FILE", token.to_owned()),
        ("PADDOCK_MONITORING_INTERVAL", "500ms".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let found = examine_in(&environment, &[]).await;
    let tokens = found.verdicts().into_iter().filter(|(name, _)| *name == "token");
    assert_eq!(tokens.collect::<Vec<_>>(), [("token", "ok"); 2]);
}

#[tokio::test]
async fn an_open_balancer_and_one_that_speaks_tls() {
    let folder = Folder::new();
    Identity::new().install(&folder);
    let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let paddock = Paddock::start(&tls).await;
    let (proxy, management) = (paddock.proxy().to_string(), paddock.management().to_string());
    let given = ["--reverseproxy-addr", &proxy, "--management-addr", &management];
    let found = examine(&[&given[..], &tls].concat()).await;
    found.says("proxy", "ok", "speaks TLS");
    found.says("token", "ok", "no token is wanted");
    found.says("agents", "ok", "none is registered");
    found.says("tls", "ok", "the key belongs to it");
    let found = examine(&[&given[..], &["--management-token", "sesame"]].concat()).await;
    found.says("token", "warn", "everybody is served there, without the token too");
    let plain = Paddock::start(&[]).await;
    let proxy = plain.proxy().to_string();
    let found = examine(&[&["--reverseproxy-addr", &proxy][..], &tls].concat()).await;
    found.says("proxy", "warn", "in the clear");
}

/// Who is asked is no balancer, is not there, or hangs.
#[tokio::test]
async fn whoever_is_not_a_balancer_is_said_to_be_none() {
    let llama = FakeLlama::start(FakeConfig::default()).await.addr().to_string();
    let llama_server = FakeLlama::start(FakeConfig::default()).await;
    let other = llama_server.addr().to_string();
    let given = ["--reverseproxy-addr", &other, "--management-addr", &other];
    let found = examine(&given).await;
    found.says("proxy", "fail", "but not as Paddock does");
    found.says("management", "ok", "answers /health");
    found.says("token", "fail", "llama.cpp, Paddler 1.x or an older Paddock");

    let found = examine(&["--reverseproxy-addr", &llama, "--management-addr", &llama]).await;
    found.says("proxy", "fail", "start the balancer, or mend --reverseproxy-addr");
    found.says("management", "fail", "cannot connect");
    let label = "a-label-of-more-than-63-bytes-is-no-name-and-no-server-is-asked-for-it:80";
    let found = examine(&["--management-addr", label, "--statsd-addr", label]).await;
    found.says("management", "fail", "the name is not known");
    found.says("statsd", "fail", "mend --statsd-addr, or the name's entry in the DNS");
    let nobody = free_addr().to_string();
    examine(&["--statsd-addr", &nobody]).await.says("statsd", "warn", "start the StatsD server");
    let found = examine(&[]).await;
    assert_eq!(found.verdicts(), [("management", "skip"), ("metadata", "skip"), ("clock", "skip")]);
}

/// Whoever has all the connections that this address may have is no reason to end the balancer.
#[tokio::test]
async fn a_balancer_that_refuses_is_known_all_the_same() {
    let paddock = Paddock::start(&["--max-connections-per-client", "1"]).await;
    let proxy = paddock.proxy().to_string();
    let mut one = RawClient::connect(paddock.proxy()).await;
    one.send("GET /health HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(one.answer().await.status, 200);
    let found = examine(&["--reverseproxy-addr", &proxy]).await;
    found.says("proxy", "warn", "Paddock refuses: too many connections from here; end some of them");
}

#[tokio::test]
async fn whoever_is_silent_costs_one_line_and_some_seconds() {
    let began = now();
    let (_proxy, proxy) = silent().await;
    let (_management, management) = silent().await;
    let (_llama, llama) = silent().await;
    let (_aws, aws) = silent().await;
    let environment = [
        ("AWS_ENDPOINT_URL", format!("http://{aws}")),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "a".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "b".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let given = [
        "--reverseproxy-addr",
        &proxy,
        "--management-addr",
        &management,
        "--local-llamacpp-addr",
        &llama,
        "--asg-name",
        "gpu",
    ];
    let found = examine_in(&environment, &given).await;
    assert!(began.elapsed() < SILENT_MAX, "{:?}", began.elapsed());
    found.says("proxy", "fail", "did not answer within 5 s");
    found.says("management", "fail", "did not answer within 5 s");
    found.says("llamacpp", "fail", "did not answer /health within 3s");
    found.says("aws", "fail", "the answer of AWS was lost");
    found.says("group", "skip", "it cannot be looked at");
    let names = counted(found.verdicts().into_iter().map(|(name, _)| name));
    assert!(names.values().all(|&count| count == 1), "one line each: {names:?}");
}

#[tokio::test]
async fn another_version_an_agent_that_is_ill_and_a_clock_that_is_wrong() {
    let balancer = Scripted::start(|mut peer: Peer, _| async move {
        let state = r#"{"version":"0.0.1","agents":[{"agent_id":"a","agent_name":"left","error":null,
            "is_authorized":null,"is_slots_endpoint_enabled":false,"slots_total":0}],
            "cloudwatch":{"puts":2,"failures":1,"last_error":"AWS does not allow it; allow it"}}"#;
        while let Some(head) = peer.request().await {
            let body = if head.contains("/api/v1/state") { state } else { "{}" };
            let head = "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\ncontent-length: ";
            peer.send(format!("{head}{}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let management = balancer.addr.to_string();
    let given = ["--management-addr", &management, "--cloudwatch-namespace", "Paddock"];
    let found = examine(&given).await;
    found.says("token", "warn", "it is Paddock 0.0.1, and this is");
    found.says("agents", "warn", "left: llama.cpp's /slots is off; start llama-server with --slots");
    found.says("cloudwatch", "fail", "the balancer's latest put failed: AWS does not allow it; allow it");
    found.says("clock", "warn", &format!("the clocks of this machine and of {management} differ by "));
}

#[tokio::test]
async fn each_state_of_llama_cpp() {
    let config = FakeConfig { api_key: Some("sesame".to_owned()), slots: 1, ..FakeConfig::default() };
    let llama = FakeLlama::start(config).await;
    let address = llama.addr().to_string();
    let given = ["--local-llamacpp-addr", &address];
    let with_key = [&given[..], &["--llamacpp-api-key", "sesame"]].concat();
    let found = examine(&with_key).await;
    found.says("llamacpp", "ok", "its model is loaded");
    found.says("slots", "ok", "1, 0 busy");
    examine(&given).await.says(
        "slots",
        "fail",
        "it wants a key (401), and none is given; give --llamacpp-api-key",
    );
    let wrong = [&given[..], &["--llamacpp-api-key", "wrong"]].concat();
    examine(&wrong).await.says("slots", "fail", "it refuses the key (401)");
    llama.set_loading(true);
    let found = examine(&with_key).await;
    found.says("llamacpp", "warn", "it is loading its model (503); wait");
    assert_eq!(found.code, Some(0), "that is no failure");
    let off = FakeConfig { is_slots_endpoint_disabled: true, ..FakeConfig::default() };
    let off = FakeLlama::start(off).await;
    let found = examine(&["--local-llamacpp-addr", &off.addr().to_string()]).await;
    found.says(
        "slots",
        "fail",
        "its /slots is off (501); start llama-server with --slots, and without --no-slots",
    );
    let nobody = free_addr().to_string();
    let found = examine(&["--local-llamacpp-addr", &nobody]).await;
    found.says("llamacpp", "fail", "start llama-server, or mend --local-llamacpp-addr");
    // The same server by another of its names.
    let named = format!("localhost:{}", off.addr().port());
    let found = examine(&["--local-llamacpp-addr", &address, "--external-llamacpp-addr", &named]).await;
    found.says("external-llamacpp", "ok", "answers from here");
}
