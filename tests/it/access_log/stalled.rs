//! Whoever does not read the log stops nobody.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::cli::paddock;
use crate::support::http::{self, RawClient};
use crate::support::wait::{eventually, free_addr};

/// More lines than a pipe and the queue of the log hold.
const REQUESTS: usize = 12_000;
/// For all of them; one at a time they take about a second.
const ALL_MAX: Duration = Duration::from_secs(60);

/// A balancer that answers, whose standard error is a pipe that nobody reads yet; and where its clients go.
async fn start() -> (Child, SocketAddr) {
    let (proxy, management) = (free_addr().to_string(), free_addr().to_string());
    let mut command = paddock();
    command.args(["balancer", "--reverseproxy-addr", &proxy, "--management-addr", &management]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (child, proxy) = (command.spawn().unwrap(), proxy.parse().unwrap());
    eventually("it answers", ALL_MAX, async || http::try_get(proxy, "/health").await.map(drop)).await;
    (child, proxy)
}

/// One client's requests, one after the other.
async fn ask(proxy: SocketAddr, requests: usize) {
    let mut client = RawClient::connect(proxy).await;
    for _ in 0..requests {
        client.send("GET /health HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

fn sigterm(child: &Child) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_pipe_stops_no_request_and_what_was_dropped_is_told() {
    let (mut child, proxy) = start().await;
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    timeout(ALL_MAX, ask(proxy, REQUESTS)).await.expect("nobody reads the log, and all are served");
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
    sigterm(&child);
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
    let (mut child, proxy) = start().await;
    ask(proxy, 1000).await;
    sigterm(&child);
    // Its pipe stays open, and unread.
    let status = eventually("it ends", ALL_MAX, async || child.try_wait().unwrap()).await;
    assert!(status.success());
}
