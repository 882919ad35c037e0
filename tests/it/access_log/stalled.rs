//! Whoever does not read the log stops nobody.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use crate::support::http::{self, RawClient};
use crate::support::wait::{eventually, free_addr};

/// More lines than a pipe and the queue of the log hold.
const REQUESTS: usize = 12_000;
/// For all of them; one at a time they take about a second.
const ALL_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_pipe_stops_no_request_and_what_was_dropped_is_told() {
    let (proxy, management) = (free_addr(), free_addr());
    let mut child = Command::new(env!("CARGO_BIN_EXE_paddock"))
        .args([
            "balancer",
            "--reverseproxy-addr",
            &proxy.to_string(),
            "--management-addr",
            &management.to_string(),
        ])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    eventually("it answers", ALL_MAX, async || http::try_get(proxy, "/health").await.map(drop)).await;
    let asking = async {
        let mut client = RawClient::connect(proxy).await;
        for _ in 0..REQUESTS {
            client.send("GET /health HTTP/1.1\r\nHost: g\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 200);
        }
    };
    timeout(ALL_MAX, asking).await.expect("nobody reads the log, and all are served");
    // Now somebody does.
    let read = tokio::task::spawn_blocking(move || {
        let (mut lines, mut dropped) = (0, None);
        while dropped.is_none() {
            let mut line = String::new();
            assert_ne!(pipe.read_line(&mut line).unwrap(), 0, "it ended after {lines} lines");
            lines += usize::from(line.contains("paddock::access"));
            dropped = line
                .split_once(" log lines were dropped")
                .map(|(before, _)| before.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        }
        (lines, dropped.unwrap(), pipe)
    });
    let (lines, dropped, mut pipe) = timeout(ALL_MAX, read).await.expect("what was dropped is told").unwrap();
    assert!(dropped > 0 && lines + dropped > REQUESTS, "{lines} lines, {dropped} dropped");
    assert!(lines + dropped <= REQUESTS + 10, "{lines} lines, {dropped} dropped");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    let ended = tokio::task::spawn_blocking(move || {
        pipe.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap(), rest)
    });
    let (status, rest) = timeout(ALL_MAX, ended).await.unwrap().unwrap();
    assert!(status.success() && rest.trim_end().ends_with("drained"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_pipe_stops_no_end() {
    let (proxy, management) = (free_addr(), free_addr());
    let mut child = Command::new(env!("CARGO_BIN_EXE_paddock"))
        .args([
            "balancer",
            "--reverseproxy-addr",
            &proxy.to_string(),
            "--management-addr",
            &management.to_string(),
        ])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    eventually("it answers", ALL_MAX, async || http::try_get(proxy, "/health").await.map(drop)).await;
    let mut client = RawClient::connect(proxy).await;
    for _ in 0..1000 {
        client.send("GET /health HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
    drop(client);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Its pipe stays open, and unread.
    let status = eventually("it ends", ALL_MAX, async || child.try_wait().unwrap()).await;
    assert!(status.success());
}
