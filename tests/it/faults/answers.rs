//! Servers that answer what is no answer, or more than one. After each, another client gets its own answer, over
//! whatever connection the gateway then uses.

use serde_json::json;
use tokio::time::timeout;

use super::{CHAT, SOON, one_worker};
use crate::support::gateway::until_at_rest;
use crate::support::http::{RawClient, post_json};
use crate::support::scripted::Scripted;

/// What the client is to see.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// This answer, whole.
    Whole(u16, &'static str),
    /// 200 and this much of a body at most, and then the end of the connection, but not of the body. The end may overtake
    /// the head.
    Cut(&'static str),
    /// 502: nothing of it can be passed on.
    Failed,
}

/// A server's answer, and what should come of it.
#[derive(Debug, Clone)]
struct Row {
    name: &'static str,
    answer: String,
    /// Whether the server closes the connection behind it.
    closes: bool,
    seen: Seen,
    /// Whether the connection is good for another request.
    is_kept: bool,
}

/// A 200 with these headers, after which the connection is not used again.
fn ok(name: &'static str, headers: &str, body: &str) -> Row {
    raw(name, &format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}")).seen(Seen::Whole(200, "fine"))
}

/// The same in chunks.
fn chunked(name: &'static str, chunks: &str) -> Row {
    ok(name, "Transfer-Encoding: chunked", chunks)
}

/// These bytes, which are no answer unless it is said.
fn raw(name: &'static str, answer: &str) -> Row {
    Row { name, answer: answer.to_owned(), closes: false, seen: Seen::Failed, is_kept: false }
}

impl Row {
    fn seen(mut self, seen: Seen) -> Self {
        self.seen = seen;
        self
    }

    fn cut(self, at_most: &'static str) -> Self {
        self.seen(Seen::Cut(at_most))
    }

    fn fails(self) -> Self {
        self.seen(Seen::Failed)
    }

    fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    fn kept(mut self) -> Self {
        self.is_kept = true;
        self
    }
}

/// What is not for the client that reads it.
const STOLEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
/// What another client gets on a connection that is made for it.
const OWN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown";
/// And on one that was kept.
const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept";

/// Answers requests for `/completion` with the row's answer, and any other with whose connection it came over.
async fn server(row: &Row) -> Scripted {
    let (answer, closes) = (row.answer.clone(), row.closes);
    Scripted::start(move |mut peer, _| {
        let answer = answer.clone();
        async move {
            let mut is_fresh = true;
            while let Some(head) = peer.request().await {
                if !head.starts_with("POST /completion ") {
                    peer.send(if is_fresh { OWN } else { KEPT }).await;
                } else {
                    peer.send(&answer).await;
                    if closes {
                        return;
                    }
                }
                is_fresh = false;
            }
        }
    })
    .await
}

async fn are_right(rows: impl IntoIterator<Item = Row>) {
    let gateway = one_worker();
    for row in rows {
        let name = row.name;
        // Two servers, so that a failure is tried again at once.
        let [server, other] = [server(&row).await, server(&row).await];
        let [first, second] =
            [&server, &other].map(|server| gateway.attach(&server.addr.to_string(), server.addr, 4));
        let mut client = RawClient::connect(gateway.addr()).await;
        client.post("/completion", &json!({})).await;
        let seen = async {
            let Some(head) = client.try_head().await else { return (None, Default::default()) };
            (Some(head.status), client.body().await)
        };
        let (status, (body, is_whole)) =
            timeout(SOON, seen).await.unwrap_or_else(|_| panic!("it hangs: {name}"));
        let body = String::from_utf8_lossy(&body).into_owned();
        gateway.gate.disconnected(second);
        match row.seen {
            Seen::Whole(expected, text) => {
                assert_eq!((status, body.as_str(), is_whole), (Some(expected), text, true), "{name}");
            }
            Seen::Cut(text) => {
                assert!(matches!(status, Some(200) | None) && !is_whole, "{name}: {status:?} {body}");
                assert!(text.starts_with(&body), "{name}: {body}");
            }
            Seen::Failed => {
                assert_eq!((status, is_whole), (Some(502), true), "{name}: {body}");
                assert!(body.contains("upstream_failed"), "{name}: {body}");
                // Who failed is left alone for a while.
                gateway.gate.disconnected(first);
            }
        }
        let third = match row.seen {
            Seen::Failed => gateway.attach(&format!("c: {name}"), server.addr, 4),
            Seen::Whole(..) | Seen::Cut(_) => first,
        };
        let next = timeout(SOON, post_json(gateway.addr(), CHAT, &json!({}))).await;
        let next = next.unwrap_or_else(|_| panic!("the next client hangs: {name}"));
        let expected = if row.is_kept { "kept" } else { "own" };
        assert_eq!((next.status, next.text().as_str()), (200, expected), "the next client: {name}");
        gateway.gate.disconnected(third);
    }
    until_at_rest(&gateway).await;
}

#[tokio::test]
async fn with_each_length() {
    let four = "Content-Length: 4";
    are_right([
        ok("a length", four, "fine").kept(),
        ok("nothing", "Content-Length: 0", "").seen(Seen::Whole(200, "")).kept(),
        ok("a length, and close", "Content-Length: 4\r\nConnection: close", "fine"),
        ok("up to the end", "X-A: b", "fine").closes(),
        raw("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nfine").closes().seen(Seen::Whole(200, "fine")),
        ok("the same twice", "Content-Length: 4\r\nContent-Length: 4", "fine").kept(),
        ok("two", "Content-Length: 4\r\nContent-Length: 5", "fine!").fails(),
        ok("two in a list", "Content-Length: 4, 5", "fine!").fails(),
        ok("a sign", "Content-Length: +4", "fine").fails(),
        ok("negative", "Content-Length: -4", "fine").fails(),
        ok("a word", "Content-Length: four", "fine").fails(),
        ok("beyond all numbers", "Content-Length: 99999999999999999999999", "fine").fails(),
        ok("less comes", "Content-Length: 9", "fine").closes().cut("fine"),
        ok("more comes", four, "fine and more"),
        ok("another answer comes", four, &format!("fine{STOLEN}")),
    ])
    .await;
}

#[tokio::test]
async fn with_each_kind_of_chunks() {
    are_right([
        chunked("chunks", "4\r\nfine\r\n0\r\n\r\n").kept(),
        chunked("an extension", "4;a=b\r\nfine\r\n0\r\n\r\n").kept(),
        chunked("a trailer", "4\r\nfine\r\n0\r\nX-A: b\r\n\r\n").kept(),
        chunked("another answer", &format!("4\r\nfine\r\n0\r\n\r\n{STOLEN}")),
        chunked("no number", "2\r\nfi\r\nzz\r\n").cut("fi"),
        chunked("a negative size", "2\r\nfi\r\n-2\r\nne\r\n").cut("fi"),
        chunked("beyond all numbers", "2\r\nfi\r\nfffffffffffffffff\r\nne").cut("fi"),
        chunked("longer than told", "2\r\nfine\r\n0\r\n\r\n").cut("fi"),
        chunked("no end", "4\r\nfine\r\n").closes().cut("fine"),
        raw("in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n")
            .closes(),
        ok("twice", "Transfer-Encoding: chunked, chunked", "4\r\nfine\r\n0\r\n\r\n").closes().fails(),
        ok("over gzip", "Transfer-Encoding: gzip, chunked", "4\r\nfine\r\n0\r\n\r\n").fails(),
        ok("under gzip", "Transfer-Encoding: chunked, gzip", "4\r\nfine\r\n0\r\n\r\n").closes().fails(),
        ok("gzip only", "Transfer-Encoding: gzip", "fine").closes().fails(),
    ])
    .await;
}

#[tokio::test]
async fn without_a_body() {
    let none = |name, more: &str| {
        raw(name, &format!("HTTP/1.1 204 No Content\r\n\r\n{more}")).seen(Seen::Whole(204, ""))
    };
    are_right([none("204", "").kept(), none("a body", "fine"), none("another answer", STOLEN)]).await;
}

#[tokio::test]
async fn after_interim_ones() {
    let fine = "Content-Length: 4\r\n\r\nfine";
    let whole = |status| Seen::Whole(status, "fine");
    are_right([
        raw("continue", &format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{fine}"))
            .seen(whole(200))
            .kept(),
        raw(
            "early hints",
            &format!("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\n{fine}"),
        )
        .seen(whole(201))
        .kept(),
        raw("nothing follows", "HTTP/1.1 100 Continue\r\n\r\n").closes(),
        raw("another protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx"),
    ])
    .await;
}

#[tokio::test]
async fn that_are_none() {
    let fine = "Content-Length: 4\r\n\r\nfine";
    let many: String = (0..200).map(|number| format!("X-{number}: b\r\n")).collect();
    are_right([
        raw("nothing", "").closes(),
        raw("another language", "SSH-2.0-OpenSSH_9.2\r\n"),
        raw("zeros", "\0\0\0\0\0\0\0\0"),
        raw("HTTP/2", "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"),
        raw("HTTP/3", &format!("HTTP/3.0 200 OK\r\n{fine}")),
        raw("two digits", &format!("HTTP/1.1 20 OK\r\n{fine}")),
        raw("four digits", &format!("HTTP/1.1 2000 OK\r\n{fine}")),
        ok("no colon", "Content-Length 4", "fine").fails(),
        ok("a folded line", "X-A: b\r\n c\r\nContent-Length: 4", "fine").fails(),
        ok("a space before the colon", "Content-Length : 4", "fine").fails(),
        ok("a zero in a value", "X-A: b\0c\r\nContent-Length: 4", "fine").fails(),
        ok("a bare return in a value", "X-A: b\rc\r\nContent-Length: 4", "fine").fails(),
        ok("too many headers", &format!("{many}Content-Length: 4"), "fine").fails(),
        ok("too long a header", &format!("X-A: {}\r\nContent-Length: 4", "b".repeat(1 << 20)), "fine")
            .fails(),
        ok("a head without end", &format!("X-A: {}", "b\r\nX-A: ".repeat(100_000)), "fine").fails(),
    ])
    .await;
}
