//! Starts that come to nothing are told to the clients that wait, with the cause.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{Answer, RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";

fn refused(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("no_capacity")));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

async fn ask(paddock: &Paddock) -> Answer {
    post_json(paddock.proxy(), CHAT, &json!({"messages": []})).await
}

#[tokio::test]
async fn a_program_that_does_not_exist() {
    let paddock = Paddock::start(&["--", "no-such-llama-server", "--port", "{port}"]).await;
    let message = refused(&ask(&paddock).await);
    assert!(message.contains("no-such-llama-server"), "{message}");
}

#[tokio::test]
async fn a_program_that_exits() {
    let paddock = Paddock::start(&["--", "sh", "-c", "echo no model on {port} >&2; exit 3"]).await;
    let message = refused(&ask(&paddock).await);
    assert!(message.contains("code 3") && message.contains("no model on"), "{message}");
    // Whoever comes now is told at once, instead of after three more starts.
    let state = paddock.state().await;
    assert_eq!(state["pools"][0]["pending"], json!(0), "{state}");
    refused(&ask(&paddock).await);
}

#[tokio::test]
async fn a_program_that_never_gets_healthy() {
    let flags = ["--boot-timeout", "300ms", "--buffered-request-timeout", "60s"];
    let paddock =
        Paddock::start(&[&flags[..], &["--", "sh", "-c", "exec sleep 1000 # {port}"]].concat()).await;
    let message = refused(&ask(&paddock).await);
    assert!(message.contains("no server within"), "{message}");
    eventually("what did not boot is ended", Duration::from_secs(20), async || {
        let instances: Value = paddock.state().await["pools"][0]["instances"].clone();
        (instances == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_time_ends_before_the_boot_is_told_what_failed() {
    let flags = ["--boot-timeout", "2s", "--buffered-request-timeout", "2500ms"];
    let paddock =
        Paddock::start(&[&flags[..], &["--", "sh", "-c", "exec sleep 1000 # {port}"]].concat()).await;
    let message = refused(&ask(&paddock).await);
    assert!(message.contains("no server within 2s"), "{message}");
}

#[tokio::test]
async fn a_client_that_leaves_while_nothing_runs_leaves_nothing_behind() {
    let paddock =
        Paddock::start(&["--idle-timeout", "1s", "--", "sh", "-c", "exec sleep 1000 # {port}"]).await;
    let mut client = RawClient::connect(paddock.proxy()).await;
    client.post(CHAT, &json!({"messages": []})).await;
    eventually("it waits", Duration::from_secs(10), async || {
        (paddock.state().await["requests_buffered"] == json!(1)).then_some(())
    })
    .await;
    drop(client);
    eventually("it left", Duration::from_secs(10), async || {
        (paddock.state().await["requests_buffered"] == json!(0)).then_some(())
    })
    .await;
}
