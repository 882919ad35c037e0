//! The same over HTTP/2: what its own framing forbids, and what would be ambiguous once it is HTTP/1.1.

use super::case::case;
use super::frames::{self, Frames, Outcome};
use super::{Transport, WRONG_MAX, World};
use crate::support::gateway::until_at_rest;

/// Errors of RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A malformed request ends its stream (RFC 9113 section 8.1.1). What cannot be a header at all ends the connection, which
/// is allowed as well.
const MALFORMED: Outcome = Outcome::Reset(PROTOCOL_ERROR);
const GARBLED: Outcome = Outcome::Gone(PROTOCOL_ERROR);

type Fields<'a> = &'a [(&'a str, &'a str)];

/// One row: what is sent on a stream, what becomes of it, and what reaches the server.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    outcome: Outcome,
    passed: Option<(&'static str, &'static [&'static str], &'static str)>,
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", "/x")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "g"), (":path", "/infill")];

fn row(name: &'static str, bytes: Vec<u8>, outcome: Outcome) -> Row {
    Row { name, bytes, outcome, passed: None }
}

fn get(name: &'static str, more: Fields<'_>, outcome: Outcome) -> Row {
    row(name, frames::request(1, &[&GET, more].concat(), None, None), outcome)
}

fn bare(name: &'static str, fields: Fields<'_>, outcome: Outcome) -> Row {
    row(name, frames::request(1, fields, None, None), outcome)
}

fn path(name: &'static str, path: &str, outcome: Outcome) -> Row {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", path)];
    bare(name, &fields, outcome)
}

fn post(name: &'static str, more: Fields<'_>, data: &str, outcome: Outcome) -> Row {
    row(name, frames::request(1, &[&POST, more].concat(), Some(data.as_bytes()), None), outcome)
}

impl Row {
    fn passes(self, line: &'static str, fields: &'static [&'static str], body: &'static str) -> Self {
        Self { passed: Some((line, fields, body)), ..self }
    }
}

const FINE: Outcome = Outcome::Answered(200);
const BAD: Outcome = Outcome::Answered(400);

fn rows() -> Vec<Row> {
    let long = "a".repeat(70_000);
    vec![
        get("a request", &[("x-a", "b")], FINE).passes("GET /x", &["x-a: b"], ""),
        post("a body", &[("content-length", "2")], "hi", FINE).passes("POST /infill", &[], "hi"),
        post("a body without a length", &[], "hi", FINE).passes("POST /infill", &[], "hi"),
        post("a body that looks like a request", &[], "0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n", FINE).passes(
            "POST /infill",
            &[],
            "0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
        ),
        get("te: trailers", &[("te", "trailers")], FINE).passes("GET /x", &[], ""),
        get("host as well", &[("host", "g")], FINE).passes("GET /x", &[], ""),
        bare(
            "host instead",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/x"), ("host", "g")],
            FINE,
        )
        .passes("GET /x", &[], ""),
        get("cookies in pieces", &[("cookie", "a=b"), ("cookie", "c=d")], FINE).passes(
            "GET /x",
            &["cookie: a=b", "cookie: c=d"],
            "",
        ),
        get("a name in capitals", &[("X-A", "b")], GARBLED),
        get("connection", &[("connection", "close")], MALFORMED),
        get("keep-alive", &[("keep-alive", "timeout=5")], MALFORMED),
        get("proxy-connection", &[("proxy-connection", "close")], MALFORMED),
        get("upgrade", &[("upgrade", "websocket")], MALFORMED),
        get("te", &[("te", "gzip")], MALFORMED),
        post("transfer-encoding", &[("transfer-encoding", "chunked")], "0\r\n\r\n", MALFORMED),
        post("a length that is too short", &[("content-length", "1")], "hi", MALFORMED),
        post("a length that is too long", &[("content-length", "3")], "hi", MALFORMED),
        post("two lengths", &[("content-length", "2"), ("content-length", "1")], "hi", MALFORMED),
        post("joined lengths", &[("content-length", "2, 2")], "hi", MALFORMED),
        post("a signed length", &[("content-length", "+2")], "hi", MALFORMED),
        get("a name with a blank", &[("x a", "b")], GARBLED),
        get("a name with a colon", &[("x:a", "b")], GARBLED),
        get("a name with a newline", &[("x\r\na", "b")], GARBLED),
        get("an empty name", &[("", "b")], GARBLED),
        get("a value with a newline", &[("x-a", "b\r\nhost: other")], GARBLED),
        get("a value with CR", &[("x-a", "b\rc")], GARBLED),
        get("a value with LF", &[("x-a", "b\nc")], GARBLED),
        get("a value with a NUL", &[("x-a", "b\0")], GARBLED),
        get("a value with a control byte", &[("x-a", "\x01")], GARBLED),
        get("a pseudo-header twice", &[(":path", "/y")], MALFORMED),
        get("a pseudo-header behind others", &[("x-a", "b"), (":authority", "g")], MALFORMED),
        get("an unknown pseudo-header", &[(":x", "y")], GARBLED),
        get("a pseudo-header of answers", &[(":status", "200")], MALFORMED),
        bare("no method", &GET[1..], MALFORMED),
        bare("no scheme", &[GET[0], GET[2], GET[3]], MALFORMED),
        bare("no path", &GET[..3], MALFORMED),
        bare("no host", &[GET[0], GET[1], GET[3]], BAD),
        bare("a method with a blank", &[(":method", "GET /y"), GET[1], GET[2], GET[3]], GARBLED),
        bare("an empty method", &[(":method", ""), GET[1], GET[2], GET[3]], GARBLED),
        bare("an odd scheme", &[GET[0], (":scheme", "ftp"), GET[2], GET[3]], BAD),
        bare("a host with a user", &[GET[0], GET[1], (":authority", "u@g"), GET[3]], BAD),
        bare("a host with a blank", &[GET[0], GET[1], (":authority", "g x"), GET[3]], MALFORMED),
        bare("a host with a newline", &[GET[0], GET[1], (":authority", "g\r\nx: y"), GET[3]], MALFORMED),
        bare("an empty host", &[GET[0], GET[1], (":authority", ""), GET[3]], MALFORMED),
        get("another host beside", &[("host", "other")], BAD),
        get("two hosts beside", &[("host", "g"), ("host", "g")], BAD),
        get("two keys", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], BAD),
        path("an empty path", "", MALFORMED),
        path("a path without a slash", "x", MALFORMED),
        path("an asterisk", "*", BAD),
        path("an absolute path", "http://other/tools", MALFORMED),
        path("a path with a newline", "/x HTTP/1.1\r\nhost: other\r\n\r\n", MALFORMED),
        path("a path with a blank", "/x y", MALFORMED),
        path("a path with a NUL", "/x\0", MALFORMED),
        path("a path beyond ASCII", "/\u{e9}", GARBLED),
        path("a path with a fragment", "/x#/y", FINE).passes("GET /x", &[], ""),
        bare("CONNECT", &[(":method", "CONNECT"), (":authority", "g:80")], BAD),
        bare("CONNECT with a path", &[(":method", "CONNECT"), GET[1], GET[2], GET[3]], MALFORMED),
        bare(
            "CONNECT of WebSocket",
            &[(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]],
            MALFORMED,
        ),
        path("blocked", "/slots", Outcome::Answered(403)),
        path("blocked and encoded", "/%2573lots", Outcome::Answered(403)),
        path("blocked with dots", "/x/..//tools", Outcome::Answered(403)),
        path("blocked with an escape of a newline", "/tools%0d%0a", Outcome::Answered(403)),
        get("a head that is too long", &[("x-a", &long)], Outcome::Answered(431)),
        row(
            "a body that is said to be too long",
            frames::headers(1, &[&POST[..], &[("content-length", "65537")]].concat(), false),
            Outcome::Answered(413),
        ),
        row(
            "trailers",
            frames::request(1, &POST, Some(b"hi"), Some(&[("x-sum", "1"), ("content-length", "9")])),
            FINE,
        )
        .passes("POST /infill", &[], "hi"),
        // h2 leaves it out; nothing of trailers is passed on.
        row(
            "trailers with a pseudo-header",
            frames::request(1, &POST, Some(b"hi"), Some(&[(":path", "/y")])),
            FINE,
        )
        .passes("POST /infill", &[], "hi"),
        row(
            "trailers with a newline",
            frames::request(1, &POST, Some(b"hi"), Some(&[("x", "a\r\nb")])),
            GARBLED,
        ),
    ]
}

impl World {
    async fn h2_row(&self, row: &Row) -> Result<(), String> {
        let mut frames = Frames::open(self.connect().await).await;
        frames.send(&row.bytes).await;
        let outcome = frames.outcome(1).await;
        let mut found = Vec::new();
        if outcome != row.outcome {
            found.push(format!("{outcome:?} instead of {:?}", row.outcome));
        }
        let expected = match row.passed {
            Some((line, fields, body)) => case("", "").passes(line, fields, body).passed,
            None => Vec::new(),
        };
        if let Err(why) = self.reached(&self.recorder.take(), &expected) {
            found.push(why);
        }
        if !matches!(outcome, Outcome::Gone(_) | Outcome::Ended(_)) {
            frames
                .send(&frames::request(3, &[&GET[..3], &[(":path", "/canary")]].concat(), None, None))
                .await;
            let outcome = frames.outcome(3).await;
            let canary = case("", "").passes("GET /canary", &[], "").passed;
            if outcome != FINE {
                found.push(format!("a canary on the same connection: {outcome:?}"));
            } else if let Err(why) = self.reached(&self.recorder.take(), &canary) {
                found.push(format!("a canary on the same connection: {why}"));
            }
        }
        if found.is_empty() { Ok(()) } else { Err(format!("{}: {}", row.name, found.join("; "))) }
    }
}

async fn play(transport: Transport) {
    let world = World::start(transport).await;
    let mut wrong = Vec::new();
    for row in rows() {
        wrong.extend(world.h2_row(&row).await.err());
        if wrong.len() == WRONG_MAX {
            break;
        }
    }
    until_at_rest(&world.gateway).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn nothing_ambiguous_passes_over_h2() {
    play(Transport::Tcp).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_over_h2_and_tls() {
    play(Transport::Tls("h2")).await;
}

/// Streams beyond those that were announced are refused one by one; the others go on.
#[tokio::test]
async fn streams_beyond_the_most_are_refused() {
    const OPENED: u32 = 300;
    let world = World::start(Transport::Tcp).await;
    let mut frames = Frames::open(world.connect().await).await;
    let streams = (0..OPENED).map(|number| 2 * number + 1);
    frames.send(&streams.flat_map(|stream| frames::headers(stream, &POST, false)).collect::<Vec<_>>()).await;
    let mut refused = 0;
    while refused < OPENED - 200 {
        assert_eq!(frames.next().await.unwrap().1, Outcome::Reset(REFUSED_STREAM));
        refused += 1;
    }
    assert!(world.recorder.take().is_empty());
    drop(frames);
    until_at_rest(&world.gateway).await;
}

/// CVE-2023-44487: streams that are opened and reset at once do not get for ever what they cost.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let world = World::start(Transport::Tcp).await;
    let mut frames = Frames::open(world.connect().await).await;
    let streams = (0..20_000).map(|number| 2 * number + 1);
    let flood =
        streams.flat_map(|stream| [frames::headers(stream, &POST, false), frames::reset(stream)].concat());
    frames.send(&flood.collect::<Vec<_>>()).await;
    let outcome = frames.outcome(0).await;
    assert!(matches!(outcome, Outcome::Gone(ENHANCE_YOUR_CALM)), "{outcome:?}");
    until_at_rest(&world.gateway).await;
    assert!(world.recorder.take().is_empty());
    let mut client = world.connect().await;
    assert_eq!(world.canary(&mut client).await, Ok(()));
}
