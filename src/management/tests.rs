//! Over real connections, on loopback.

mod answers;
mod connections;
mod events;
mod page;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio_util::either::Either;

use super::fixture::{POOL, Served, soon, until};
use crate::core::TenantId;
use crate::gate::Ask;

/// What an unmodified Paddler 1.x agent sends.
fn paddler(idle: u32) -> String {
    format!(
        r#"{{"agent_name":null,"error":null,"external_llamacpp_addr":"127.0.0.1:8088","idle_slots_count":{idle},"is_authorized":true,"is_slots_endpoint_enabled":true,"processing_slots_count":1,"slots":[{{"id":0,"is_processing":false}},{{"id":1,"is_processing":true}}]}}"#
    )
}

fn at(address: &str) -> String {
    paddler(1).replace("127.0.0.1:8088", address)
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

fn message(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json\r\n"), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap();
    let message = body["error"]["message"].as_str().unwrap().to_owned();
    assert!(!message.contains('\n') && body["error"]["code"].is_string(), "{body}");
    message
}

#[tokio::test]
async fn reports_joined_or_split_anywhere_are_read() {
    let served = Served::start(None).await;
    let mut stream = served.stream("a").await;
    let first = paddler(1);
    for byte in first.chars() {
        stream.chunk(&byte.to_string()).await;
    }
    until(|| served.agents() == (1, 2)).await;

    let (left, right) = first.split_at(40);
    stream.chunk(&format!("{}{}{left}", paddler(2), paddler(3))).await;
    until(|| served.agents() == (1, 4)).await;
    stream.chunk(&format!("{right}{}", paddler(6))).await;
    until(|| served.agents() == (1, 7)).await;

    stream.write("0\r\n\r\n").await;
    let mut answer = [0; 12];
    soon(stream.0.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    assert_eq!(served.agents(), (0, 0), "gone before it is answered");
}

#[tokio::test]
async fn two_reports_in_one_chunk_do_not_deregister_the_agent() {
    let served = Served::start(None).await;
    let mut stream = served.stream("a").await;
    stream.chunk(&paddler(1).repeat(2)).await;
    until(|| served.agents() == (1, 2)).await;
    let permit = soon(served.gate.acquire(Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None }))
        .await
        .unwrap();
    assert_eq!(permit.upstream().address.to_string(), "127.0.0.1:8088");
    permit.finish();
    stream.chunk(&format!("{}\n{}\n", paddler(2), paddler(3))).await;
    until(|| served.agents() == (1, 4)).await;
}

#[tokio::test]
async fn a_report_that_is_not_json_is_answered_and_its_agent_is_gone() {
    let served = Served::start(None).await;
    let mut stream = served.stream("the-agent").await;
    stream.chunk(&paddler(1)).await;
    until(|| served.agents() == (1, 2)).await;
    stream.chunk("hello").await;
    // Who still sends sees the answer all the same.
    stream.chunk(&"x".repeat(900_000)).await;
    stream.write("0\r\n\r\n").await;
    let answer = stream.answer().await;
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(message(&answer).contains("the-agent") && message(&answer).contains("JSON"), "{answer}");
    assert_eq!(served.agents(), (0, 0));
}

#[tokio::test]
async fn a_refused_agent_that_says_nothing_more_is_answered_at_once() {
    let served = Served::start(None).await;
    for (text, code) in [("hello", "400"), (&at("127.0.0.9:1")[..], "202"), (&at("10.9.8.7:1")[..], "403")] {
        let mut stream = served.stream("a").await;
        stream.chunk(text).await;
        if code == "202" {
            // Every loopback address is this machine's.
            stream.write("0\r\n\r\n").await;
        }
        let mut answer = [0; 12];
        soon(stream.0.read_exact(&mut answer)).await.unwrap();
        assert_eq!(std::str::from_utf8(&answer[9..]).unwrap(), code, "{text}");
    }
}

#[tokio::test]
async fn addresses_that_lead_astray_are_refused_with_the_mend() {
    let served = Served::start(None).await;
    let own = served.address.to_string();
    for (address, code, mend) in [
        ("10.9.8.7:8080", "403", "--agent-addr-allow"),
        ("169.254.169.254:80", "403", "link-local"),
        ("[::ffff:169.254.169.254]:80", "403", "link-local"),
        (own.as_str(), "403", "this gateway"),
        ("nonsense", "400", "--external-llamacpp-addr"),
        ("no-such-host.invalid:80", "400", "--external-llamacpp-addr"),
    ] {
        let mut stream = served.stream("a").await;
        stream.chunk(&at(address)).await;
        stream.write("0\r\n\r\n").await;
        let answer = stream.answer().await;
        assert_eq!(status(&answer), code, "{address}: {answer}");
        let message = message(&answer);
        assert!(message.starts_with("agent a: ") && message.contains(mend), "{address}: {message}");
        assert_eq!(served.agents(), (0, 0), "{address}");
    }
    // A registered agent may not move to such an address either.
    let mut stream = served.stream("a").await;
    stream.chunk(&paddler(1)).await;
    until(|| served.agents() == (1, 2)).await;
    stream.chunk(&at("10.9.8.7:8080")).await;
    stream.write("0\r\n\r\n").await;
    assert_eq!(status(&stream.answer().await), "403");
    assert_eq!(served.agents(), (0, 0));
}

#[tokio::test]
async fn an_agent_is_gone_with_its_connection() {
    let served = Served::start(None).await;
    let mut ended = served.stream("a").await;
    ended.chunk(&paddler(1)).await;
    let mut reset = served.stream("b").await;
    reset.chunk(&at("127.0.0.1:2")).await;
    until(|| served.agents().0 == 2).await;
    drop(ended);
    until(|| served.agents().0 == 1).await;
    let Either::Left(socket) = reset.0 else { panic!("it is a socket") };
    socket.set_zero_linger().unwrap();
    drop(socket);
    until(|| served.agents().0 == 0).await;
}

#[tokio::test]
async fn a_stream_without_a_whole_report_is_no_agent() {
    let served = Served::start(None).await;
    for text in ["", "{", r#"{"external_llamacpp_addr":"127.0.0.1:1""#] {
        let mut stream = served.stream("a").await;
        if !text.is_empty() {
            stream.chunk(text).await;
        }
        stream.write("0\r\n\r\n").await;
        let mut answer = [0; 12];
        soon(stream.0.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400", "{text}");
    }
    let long = served.ask("POST", &format!("/status_update/{}", "x".repeat(129)), "").await;
    assert!(status(&long) == "400" && message(&long).contains("128"), "{long}");
    assert_eq!(status(&served.ask("POST", "/status_update/%ff", "").await), "400");
}

#[tokio::test]
async fn another_boot_nonce_is_another_life() {
    let served = Served::start(None).await;
    let mut stream = served.stream("a").await;
    let with = |nonce: &str| {
        let report = paddler(1);
        format!(r#"{},"boot_nonce":"{nonce}"}}"#, &report[..report.len() - 1])
    };
    let incarnations = || -> Vec<_> {
        let agents = served.gate.snapshot().0.agents;
        agents.iter().filter(|agent| agent.is_connected).map(|agent| agent.key.incarnation).collect()
    };
    stream.chunk(&with("1")).await;
    until(|| incarnations().len() == 1).await;
    let first = incarnations();
    stream.chunk(&with("2")).await;
    until(|| incarnations().len() == 1 && incarnations() != first).await;
}
