//! Clients that stop reading: the server's connection fills up, the gateway's memory does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::{CHAT, SOON};
use crate::support::http::RawClient;
use crate::support::program::Paddock;
use crate::support::scripted::{Peer, Scripted};
use crate::support::wait::eventually;

/// An answer: far more than the sockets on its way hold.
const LONG: u64 = 96 << 20;
const PART: usize = 64 << 10;
/// Answers that nobody reads, at once.
const READERS: usize = 8;
/// What the gateway may hold of each answer in its own memory, hyper's and the allocator's shares included.
const HELD_MAX: u64 = 2 << 20;
/// Without a byte for so long, an answer stands still.
const STILL: Duration = Duration::from_millis(500);

/// The byte at each place of an answer.
fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}

fn part_at(place: u64) -> Vec<u8> {
    (place..LONG.min(place + PART as u64)).map(byte_at).collect()
}

/// Answers an agent's questions as llama.cpp does, and everything else with a long answer, by length or as a stream; it counts
/// what it could write.
async fn serve(mut peer: Peer, written: Arc<AtomicU64>) {
    let slots: Vec<_> = (0..READERS).map(|id| json!({"id": id, "is_processing": false})).collect();
    while let Some(head) = peer.request().await {
        let told = match head.split(' ').nth(1).unwrap() {
            "/health" => json!({"status": "ok"}),
            "/slots" => json!(slots),
            "/props" => json!({"total_slots": READERS, "is_sleeping": false}),
            path => return answer(peer, path.contains("stream"), &written).await,
        }
        .to_string();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len())).await;
    }
}

async fn answer(mut peer: Peer, is_stream: bool, written: &AtomicU64) {
    let framing = match is_stream {
        true => "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {LONG}"),
    };
    peer.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
    let mut place = 0;
    while place < LONG {
        let part = part_at(place);
        if is_stream {
            peer.send(format!("{:x}\r\n", part.len())).await;
        }
        if peer.stream.write_all(&part).await.is_err() {
            return;
        }
        if is_stream {
            peer.send("\r\n").await;
        }
        place += part.len() as u64;
        written.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    if is_stream {
        peer.send("0\r\n\r\n").await;
    }
    peer.until_closed().await;
}

/// Returns once nothing was written for a while: so much.
async fn until_still(written: &AtomicU64) -> u64 {
    eventually("the servers stand still", SOON * 3, async || {
        let before = written.load(Ordering::Relaxed);
        sleep(STILL).await;
        (before > 0 && before == written.load(Ordering::Relaxed)).then_some(before)
    })
    .await
}

/// The most that the kernel gives the two sockets of each connection on the way, by its own settings.
fn kernel_max() -> u64 {
    let most = |file: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap();
        text.split_whitespace().next_back().unwrap().parse().unwrap()
    };
    2 * (most("/proc/sys/net/ipv4/tcp_rmem") + most("/proc/sys/net/ipv4/tcp_wmem"))
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Reads to the end, and compares each byte.
async fn reads_all(client: &mut RawClient) -> u64 {
    let mut place = 0;
    while let Some(part) = client.chunk().await.unwrap_or_else(|_| panic!("cut after {place} bytes")) {
        assert!((place..).zip(&part).all(|(at, &byte)| byte == byte_at(at)), "wrong after {place} bytes");
        place += part.len() as u64;
    }
    place
}

async fn ready(proxy: SocketAddr) {
    eventually("the agent has registered", SOON, async || {
        let live = crate::support::http::try_get(proxy, "/props").await?;
        live.text().contains("total_slots").then_some(())
    })
    .await;
}

async fn reading_stops(path: &str, ends_by_sigterm: bool) {
    let written = Arc::new(AtomicU64::new(0));
    let counter = written.clone();
    let server = Scripted::start(move |peer, _| serve(peer, counter.clone())).await;
    let mut paddock = Paddock::start(&[]).await;
    let _agent = Paddock::agent(server.addr, paddock.management(), &[]);
    ready(paddock.proxy()).await;
    let pid = paddock.program().pid();
    let before = resident(pid);
    let mut clients = Vec::new();
    for _ in 0..READERS {
        let mut client = RawClient::connect(paddock.proxy()).await;
        client.post(path, &json!({})).await;
        assert_eq!(client.head().await.status, 200);
        clients.push(client);
    }
    let still = until_still(&written).await;
    let readers = READERS as u64;
    assert!(still < readers * (kernel_max() + HELD_MAX).min(LONG), "{still} bytes were taken");
    let grown = resident(pid).saturating_sub(before);
    assert!(grown < readers * HELD_MAX, "{grown} bytes for {READERS} answers that nobody reads");
    if ends_by_sigterm {
        paddock.sigterm();
    }
    for client in &mut clients {
        let read = timeout(SOON * 3, reads_all(client)).await.expect("it hangs");
        assert_eq!(read, LONG);
    }
    if ends_by_sigterm {
        drop(clients);
        assert!(paddock.wait().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_with_a_length() {
    reading_stops(CHAT, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_stream_while_the_gateway_shuts_down() {
    reading_stops("/v1/chat/completions?stream", true).await;
}
