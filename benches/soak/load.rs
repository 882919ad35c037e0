//! The clients. Each kind repeats the same for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::answers::Book;
use crate::support::http::{RawClient, post};

const CHAT: &str = "/v1/chat/completions";
/// Ordinary clients, half of which read streams.
const ORDINARY: usize = 16;
const H2_CONNECTIONS: usize = 2;
/// Streams at once of each.
const H2_STREAMS: usize = 6;
const LEAVERS: usize = 6;
const SLOW_READERS: usize = 3;
const SLOW_SENDERS: usize = 3;
/// Requests that come at once now and then: more than slots and queue have room for.
const BURST: usize = 150;
const BURST_EVERY: Duration = Duration::from_secs(5);
/// The longest that a client thinks between two requests.
const THINK_MS_MAX: u64 = 40;
/// An answer takes no longer, a wait in the queue included.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Starts all of them.
pub fn start(gateway: SocketAddr, book: &Arc<Book>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..ORDINARY {
        tasks.push(tokio::spawn(ordinary(gateway, book.clone())));
    }
    for _ in 0..H2_CONNECTIONS {
        tasks.push(tokio::spawn(h2(gateway, book.clone())));
    }
    for _ in 0..LEAVERS {
        tasks.push(tokio::spawn(leaver(gateway, book.clone())));
    }
    for _ in 0..SLOW_READERS {
        tasks.push(tokio::spawn(slow_reader(gateway, book.clone())));
    }
    for _ in 0..SLOW_SENDERS {
        tasks.push(tokio::spawn(slow_sender(gateway, book.clone())));
    }
    tasks.push(tokio::spawn(refused(gateway, book.clone())));
    tasks.push(tokio::spawn(bursts(gateway, book.clone())));
    tasks
}

async fn think() {
    sleep(Duration::from_millis(fastrand::u64(..THINK_MS_MAX))).await;
}

fn chat(words: usize, is_stream: bool) -> Value {
    let fake =
        json!({"chunks": words, "delay_ms": fastrand::u64(..10), "chunk_delay_ms": fastrand::u64(..3)});
    json!({"stream": is_stream, "prompt": "x".repeat(fastrand::usize(..4000)), "fake": fake})
}

/// The answer, if it comes whole, and whether the connection is good for another request.
async fn whole(client: &mut RawClient, request: &Value) -> (Option<(u16, String)>, bool) {
    if !client.try_send(post(CHAT, request)).await {
        return (None, false);
    }
    let answer = async {
        let Some(head) = client.try_head().await else { return (None, false) };
        let (body, is_whole) = client.body().await;
        let answer = is_whole.then(|| (head.status, String::from_utf8_lossy(&body).into_owned()));
        (answer, is_whole && head.header("connection") != Some("close"))
    };
    timeout(ANSWER_MAX, answer).await.expect("an answer hangs")
}

async fn ordinary(gateway: SocketAddr, book: Arc<Book>) {
    let mut kept = None;
    loop {
        let mut client = match kept.take() {
            Some(client) => client,
            None => RawClient::connect(gateway).await,
        };
        let (words, is_stream) = (fastrand::usize(1..30), fastrand::bool());
        let since = book.now();
        let (answer, is_good) = whole(&mut client, &chat(words, is_stream)).await;
        if is_good && fastrand::u8(..20) > 0 {
            kept = Some(client);
        }
        book.note(since, words, is_stream, answer);
        think().await;
    }
}

async fn h2(gateway: SocketAddr, book: Arc<Book>) {
    loop {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let (sender, connection) =
            http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        // A connection ends now and then.
        for _ in 0..50 {
            let requests = (0..H2_STREAMS).map(|_| h2_request(sender.clone(), gateway, &book));
            futures_util::future::join_all(requests).await;
            think().await;
        }
        connection.abort();
    }
}

async fn h2_request(mut sender: http2::SendRequest<Full<Bytes>>, gateway: SocketAddr, book: &Book) {
    let (words, is_stream) = (fastrand::usize(1..30), fastrand::bool());
    let request = Request::post(format!("http://{gateway}{CHAT}"))
        .header("content-type", "application/json")
        .body(Full::from(chat(words, is_stream).to_string()))
        .unwrap();
    let since = book.now();
    let answer = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answer = timeout(ANSWER_MAX, answer).await.expect("an answer hangs");
    book.note(since, words, is_stream, answer);
}

/// Leaves at any moment, in any way.
async fn leaver(gateway: SocketAddr, book: Arc<Book>) {
    loop {
        let mut client = RawClient::connect(gateway).await;
        let request = post(CHAT, &chat(20, fastrand::bool()));
        let sent = if fastrand::u8(..4) == 0 { fastrand::usize(..request.len()) } else { request.len() };
        client.try_send(&request[..sent]).await;
        let _ = timeout(Duration::from_millis(fastrand::u64(..60)), client.until_closed()).await;
        if fastrand::bool() {
            client.reset();
        }
        book.count("left before the end");
        think().await;
    }
}

/// Reads a long stream by and by.
async fn slow_reader(gateway: SocketAddr, book: Arc<Book>) {
    const WORDS: usize = 4000;
    loop {
        let mut client = RawClient::connect(gateway).await;
        let request = json!({"stream": true, "fake": {"chunks": WORDS}});
        let since = book.now();
        let answer = async {
            client.post(CHAT, &request).await;
            let status = client.try_head().await?.status;
            let mut body = Vec::new();
            loop {
                match client.chunk().await {
                    Ok(Some(part)) => body.extend_from_slice(&part),
                    Ok(None) => return Some((status, String::from_utf8_lossy(&body).into_owned())),
                    Err(_) => return None,
                }
                if fastrand::u8(..20) == 0 {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        };
        let answer = timeout(ANSWER_MAX, answer).await.expect("a slow answer hangs");
        book.note(since, WORDS, true, answer);
    }
}

/// Never comes to the end of its head.
async fn slow_sender(gateway: SocketAddr, book: Arc<Book>) {
    loop {
        let mut client = RawClient::connect(gateway).await;
        client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nX-A: ")).await;
        let sending = async {
            while client.try_send("x").await {
                tokio::select! {
                    biased;
                    () = client.until_readable() => return,
                    () = sleep(Duration::from_millis(50)) => {}
                }
            }
        };
        timeout(ANSWER_MAX, sending).await.expect("a slow sender is never refused");
        book.note_refusal((408, "head_timeout"), Some(client.answer().await));
    }
}

/// What is refused, whatever the servers do.
async fn refused(gateway: SocketAddr, book: Arc<Book>) {
    loop {
        for (request, expected) in [
            ("GET /slots HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), (403, "forbidden")),
            ("GET /%2e/tools HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), (403, "forbidden")),
            (
                format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 2000000\r\n\r\n"),
                (413, "request_too_large"),
            ),
            (format!("POST {CHAT} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}"), (400, "bad_request")),
        ] {
            let mut client = RawClient::connect(gateway).await;
            client.send(request).await;
            book.note_refusal(expected, Some(client.answer().await));
        }
        think().await;
    }
}

/// More requests at once than there is room for.
async fn bursts(gateway: SocketAddr, book: Arc<Book>) {
    loop {
        sleep(BURST_EVERY).await;
        let requests = (0..BURST).map(|_| async {
            let mut client = RawClient::connect(gateway).await;
            let since = book.now();
            let (answer, _) = whole(&mut client, &chat(10, false)).await;
            book.note(since, 10, false, answer);
        });
        futures_util::future::join_all(requests).await;
    }
}
