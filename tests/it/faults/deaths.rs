//! A server that dies at each byte of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{CHAT, SOON, one_worker};
use crate::support::gateway::{Gateway, until_at_rest};
use crate::support::http::RawClient;
use crate::support::scripted::{Ending, Scripted};

const LENGTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"content\":\"hi\"}";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
    9\r\n{\"content\r\n7\r\n\":\"hi\"}\r\n0\r\n\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
    b\r\ndata: {}\n\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"content\":\"hi\"}";

const JSON: &str = r#"{"content":"hi"}"#;
const DONE: &str = "data: {}\n\n\ndata: [DONE]\n\n";

/// What a client saw.
#[derive(Debug)]
struct Outcome {
    /// None when the connection ended without an answer.
    status: Option<u16>,
    body: String,
    is_whole: bool,
    /// Requests that the servers got.
    requests: usize,
}

/// A server that answers with the first `offset` bytes only, so often as it and its like are asked.
async fn dying(
    answer: &'static str,
    offset: usize,
    ending: Ending,
    deaths: usize,
    requests: &Arc<AtomicUsize>,
) -> Scripted {
    let requests = requests.clone();
    Scripted::start(move |mut peer, _| {
        let requests = requests.clone();
        async move {
            if peer.request().await.is_none() {
                return;
            }
            if requests.fetch_add(1, Ordering::SeqCst) < deaths {
                peer.send(&answer[..offset]).await;
                return peer.end(ending);
            }
            peer.send(answer).await;
            peer.until_closed().await;
        }
    })
    .await
}

/// One request to two such servers: the second one gets what the first one failed at.
async fn ask(
    gateway: &Gateway,
    answer: &'static str,
    offset: usize,
    ending: Ending,
    deaths: usize,
) -> Outcome {
    let requests = Arc::default();
    let servers = [
        dying(answer, offset, ending, deaths, &requests).await,
        dying(answer, offset, ending, deaths, &requests).await,
    ];
    let agents = servers.each_ref().map(|server| gateway.attach(&server.addr.to_string(), server.addr, 1));
    let mut client = RawClient::connect(gateway.addr()).await;
    client.post(CHAT, &json!({})).await;
    let seen = async {
        let Some(head) = client.try_head().await else { return (None, String::new(), false) };
        let (body, is_whole) = client.body().await;
        (Some(head.status), String::from_utf8_lossy(&body).into_owned(), is_whole)
    };
    let (status, body, is_whole) =
        timeout(SOON, seen).await.unwrap_or_else(|_| panic!("it hangs at {offset}, {ending:?}: {answer}"));
    for agent in agents {
        gateway.gate.disconnected(agent);
    }
    Outcome { status, body, is_whole, requests: requests.load(Ordering::SeqCst) }
}

fn head_of(answer: &str) -> usize {
    answer.find("\r\n\r\n").unwrap() + 4
}

/// Dies once at each offset. Within the head, the request is tried again; after it, never, and what the client sees is
/// `is_right` for the offset.
async fn dies_at_each_byte(
    answer: &'static str,
    whole: &'static str,
    ending: Ending,
    is_right: impl Fn(&Outcome) -> bool,
) {
    let gateway = one_worker();
    for offset in 0..answer.len() {
        let outcome = ask(&gateway, answer, offset, ending, 1).await;
        let what = || format!("after {offset} bytes, {ending:?}: {outcome:?}");
        // A reset may overtake the last bytes before it: then the head was not seen either.
        let was_retried =
            outcome.status == Some(200) && outcome.requests == 2 && outcome.is_whole && outcome.body == whole;
        if offset < head_of(answer) {
            assert!(was_retried, "{}", what());
        } else {
            assert!(is_right(&outcome) || (ending == Ending::Reset && was_retried), "{}", what());
            assert!(was_retried || outcome.requests == 1, "{}", what());
        }
    }
    let outcome = ask(&gateway, answer, answer.len(), ending, 0).await;
    assert!(outcome.is_whole && outcome.body == whole, "{outcome:?}");
    until_at_rest(&gateway).await;
}

/// Cut, after a part of the whole. The end of the connection may overtake the head.
fn breaks_off(outcome: &Outcome, whole: &str) -> bool {
    matches!(outcome.status, Some(200) | None) && !outcome.is_whole && whole.starts_with(&outcome.body)
}

#[tokio::test]
async fn at_each_byte_of_an_answer_with_a_length() {
    for ending in [Ending::Fin, Ending::Reset] {
        dies_at_each_byte(LENGTH, JSON, ending, |outcome| breaks_off(outcome, JSON)).await;
    }
}

#[tokio::test]
async fn at_each_byte_of_a_chunked_answer() {
    for ending in [Ending::Fin, Ending::Reset] {
        dies_at_each_byte(CHUNKED, JSON, ending, |outcome| breaks_off(outcome, JSON)).await;
    }
}

/// A part of the events, whole ones or not, and then one that tells of the failure, on lines of its own.
#[tokio::test]
async fn at_each_byte_of_an_event_stream() {
    let ends_with_an_error = |outcome: &Outcome| {
        let Some(at) = outcome.body.find("data: {\"error\"") else { return false };
        let (events, error) = outcome.body.split_at(at);
        let events_end = events.is_empty() || events.ends_with("\n\n");
        let part = events.trim_end_matches('\n');
        outcome.status == Some(200)
            && outcome.is_whole
            && events_end
            && DONE.starts_with(part)
            && error.contains("upstream_failed")
            && error.ends_with("}\n\n")
    };
    for ending in [Ending::Fin, Ending::Reset] {
        dies_at_each_byte(EVENTS, DONE, ending, ends_with_an_error).await;
    }
}

/// Such an answer ends with its connection, so a FIN is its proper end; a reset is not.
#[tokio::test]
async fn by_a_reset_at_each_byte_of_an_answer_that_ends_with_its_connection() {
    let gateway = one_worker();
    for offset in head_of(UNTIL_CLOSE)..=UNTIL_CLOSE.len() {
        let outcome = ask(&gateway, UNTIL_CLOSE, offset, Ending::Reset, 2).await;
        let is_told = outcome.status == Some(502) || breaks_off(&outcome, JSON);
        assert!(is_told, "after {offset} bytes: {outcome:?}");
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn twice_within_the_head_is_told() {
    let gateway = one_worker();
    for offset in (0..head_of(LENGTH)).step_by(7) {
        for ending in [Ending::Fin, Ending::Reset] {
            let outcome = ask(&gateway, LENGTH, offset, ending, usize::MAX).await;
            assert_eq!(
                (outcome.status, outcome.requests),
                (Some(502), 2),
                "after {offset} bytes: {outcome:?}"
            );
            assert!(outcome.is_whole && outcome.body.contains("upstream_failed"), "{outcome:?}");
        }
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn within_the_body_resets_the_stream_of_an_http2_client() {
    let gateway = one_worker();
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (answer, ending) in
        [(LENGTH, Ending::Fin), (LENGTH, Ending::Reset), (CHUNKED, Ending::Fin), (CHUNKED, Ending::Reset)]
    {
        let server = dying(answer, answer.len() - 9, ending, usize::MAX, &Arc::default()).await;
        let agent = gateway.attach(&server.addr.to_string(), server.addr, 1);
        let request = Request::post(format!("http://{}{CHAT}", gateway.addr()));
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        // The reset may overtake the head.
        if let Ok(answer) = timeout(SOON, sender.send_request(request)).await.expect("it hangs") {
            assert_eq!(answer.status().as_u16(), 200);
            let body = timeout(SOON, answer.into_body().collect()).await.expect("it hangs");
            assert!(body.is_err(), "a truncated answer looks whole: {body:?}");
        }
        assert!(!sender.is_closed(), "the connection goes on");
        gateway.gate.disconnected(agent);
    }
    until_at_rest(&gateway).await;
}
