//! Header lines: their form, and what they ask for.

use super::case::{Case, INFILL, case, get, post};

pub fn cases() -> Vec<Case> {
    [forms(), connection(), upgrades(), expectations(), twice()].into_iter().flatten().collect()
}

fn forms() -> Vec<Case> {
    let of = |fields: &str| get("/x", fields);
    let passes = |name, fields: &str, passed: &str| case(name, of(fields)).passes("GET /x", &[passed], "");
    vec![
        passes("a header", "X-A: b\r\n", "x-a: b"),
        passes("a padded value", "X-A:\t b \t\r\n", "x-a: b"),
        passes("a value without a blank before", "X-A:b\r\n", "x-a: b"),
        passes("an empty value", "X-A:\r\n", "x-a: "),
        passes("a value with a tab", "X-A: b\tc\r\n", "x-a: b\tc"),
        passes("a value with colons", "X-A: :b:\r\n", "x-a: :b:"),
        passes("a value beyond ASCII", "X-A: \u{e9}\r\n", "x-a: \u{e9}"),
        passes("a name of odd letters", "!#$%&'*+-.^_`|~: b\r\n", "!#$%&'*+-.^_`|~: b"),
        passes("a line that ends with LF", "X-A: b\n", "x-a: b"),
        case("a head that ends with LF", "GET /x HTTP/1.1\nHost: g\n\n").passes("GET /x", &[], ""),
        case("LF and CR the wrong way round", of("X-A: b\n\rX-B: c\r\n")),
        case("an empty name", of(": b\r\n")),
        case("a name of blanks", of(" : b\r\n")),
        case("a blank before the colon", of("X-A : b\r\n")),
        case("a tab before the colon", of("X-A\t: b\r\n")),
        case("a blank in a name", of("X A: b\r\n")),
        case("a line without a colon", of("X-A\r\n")),
        case("a folded value", of("X-A: b\r\n c\r\n")),
        case("a value folded with a tab", of("X-A: b\r\n\tc\r\n")),
        case("a value folded with LF", of("X-A: b\n c\r\n")),
        case("a first line that is folded", "GET /x HTTP/1.1\r\n X-A: b\r\nHost: g\r\n\r\n"),
        case("a bare CR in a value", of("X-A: b\rc\r\n")),
        case("a bare CR hides a header", of("X-A: b\rTransfer-Encoding: chunked\r\n")),
        case("a bare CR in a name", of("X\r-A: b\r\n")),
        case("two CR", of("X-A: b\r\r\n")),
        case("a head that ends with CR", "GET /x HTTP/1.1\r\nHost: g\r\n\r\r"),
        case("a NUL in a value", of("X-A: b\0c\r\n")),
        case("a NUL in a name", of("X\0A: b\r\n")),
        case("a control byte in a value", of("X-A: b\x01\r\n")),
        case("a bell in a value", of("X-A: \x07\r\n")),
        case("an escape in a value", of("X-A: \x1b[0m\r\n")),
        case("DEL in a value", of("X-A: \x7f\r\n")),
        case("a vertical tab in a value", of("X-A: b\x0bc\r\n")),
        case("a form feed in a name", of("X\x0cA: b\r\n")),
        case("a control byte in a name", of("X\x01A: b\r\n")),
        case("a name beyond ASCII", of("X-\u{e9}: b\r\n")),
        case("a name with a bracket", of("X(A): b\r\n")),
        case("a name in quotes", of("\"X\": b\r\n")),
        case("a name with a slash", of("X/A: b\r\n")),
        case("a request line among the headers", of("GET /y HTTP/1.1\r\n")),
    ]
}

fn connection() -> Vec<Case> {
    let of = |fields: &str| get("/x", fields);
    let passes = |name, fields: &str| case(name, of(fields)).passes("GET /x", &[], "");
    vec![
        passes("Connection names a header", "Connection: X-A\r\nX-A: b\r\n"),
        passes(
            "Connection names headers in two lines",
            "Connection: X-A\r\nConnection: ,X-B ,\r\nX-A: b\r\nX-B: c\r\n",
        ),
        passes("Connection names a header that comes twice", "X-A: b\r\nConnection: x-a\r\nX-A: c\r\n"),
        passes("Connection names a key", "Connection: Authorization\r\nAuthorization: Bearer k\r\n"),
        passes(
            "Connection names who is asked for",
            "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n",
        ),
        passes("Connection names itself", "Connection: Connection\r\n"),
        passes("Connection names nothing", "Connection: ,, ,\r\n"),
        passes("Connection names what is no name", "Connection: a b, \"x\"\r\n"),
        passes("Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"),
        passes("Proxy-Connection", "Proxy-Connection: keep-alive\r\n"),
        passes("Proxy-Authorization", "Proxy-Authorization: Basic eA==\r\n"),
        passes("TE", "TE: trailers\r\nConnection: TE\r\n"),
        passes("Trailer", "Trailer: Content-Length\r\n"),
        passes("X-Conversation-Id", "X-Conversation-Id: 7\r\n"),
        passes("a forged peer", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
        passes("Connection: close", "Connection: close\r\n").closing(),
        passes("Connection: close beside keep-alive", "Connection: close\r\nConnection: keep-alive\r\n")
            .closing(),
        case("Connection names Host", of("Connection: Host\r\n")),
        case(
            "Connection names the length",
            post("Connection: close, content-length\r\nContent-Length: 2\r\n", "hi"),
        ),
        case("Connection names the kind of the body", {
            post("Connection: Content-Type\r\nContent-Type: a/b\r\nContent-Length: 2\r\n", "hi")
        }),
    ]
}

/// Nothing is tunnelled. WebSocket is refused; other protocols are an offer that is not taken.
fn upgrades() -> Vec<Case> {
    let of = |fields: &str| get("/x", fields);
    let passes = |name, fields: &str| case(name, of(fields)).passes("GET /x", &[], "");
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n";
    vec![
        case("WebSocket", of(websocket)).refused(501),
        case("WebSocket in capitals", of("Connection: upgrade\r\nUpgrade: WebSocket\r\n")).refused(501),
        case("WebSocket among others", of("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n")).refused(501),
        case("WebSocket of a POST", post(&format!("{websocket}Content-Length: 2\r\n"), "hi")).refused(501),
        case("what follows WebSocket is no request", [of(websocket), get("/hidden", "")].concat())
            .refused(501),
        passes("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        passes("h2c without Connection", "Upgrade: h2c\r\n"),
        passes("another protocol is offered", "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n"),
        case("h2c with a body", post("Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", "hi"))
            .passes(INFILL, &[], "hi"),
        case("h2c in HTTP/1.0", "GET /x HTTP/1.0\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
            .passes("GET /x", &[], "")
            .closing(),
    ]
}

fn expectations() -> Vec<Case> {
    let with = |expect: &str| post(&format!("{expect}Content-Length: 2\r\n"), "hi");
    let passes = |name, expect: &str| case(name, with(expect)).passes(INFILL, &[], "hi");
    vec![
        passes("Expect", "Expect: 100-continue\r\n").continues(),
        passes("Expect in capitals", "EXPECT: 100-CONTINUE\r\n").continues(),
        passes("Expect of something else", "Expect: payment\r\n"),
        passes("Expect without a value", "Expect:\r\n"),
        passes("Expect of two things", "Expect: 100-continue, x\r\n"),
        case("Expect without a body", get("/x", "Expect: 100-continue\r\n")).passes("GET /x", &[], ""),
        case("Expect in HTTP/1.0", {
            format!("{INFILL} HTTP/1.0\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
        })
        .passes(INFILL, &[], "hi")
        .closing(),
        case("Expect of a blocked path", {
            "POST /tools HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        })
        .refused(403),
        case("Expect of too long a body", post("Expect: 100-continue\r\nContent-Length: 99999999\r\n", ""))
            .refused(413),
        case("Expect of chunks", {
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")
        })
        .passes(INFILL, &[], "hi")
        .continues(),
    ]
}

/// Two of these would be one for one reader, and the other for another.
fn twice() -> Vec<Case> {
    let of = |fields: &str| get("/x", fields);
    vec![
        case("two keys", of("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n")),
        case("the same key twice", of("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n")),
        case(
            "two kinds of body",
            post("Content-Type: a/b\r\nContent-Type: a/c\r\nContent-Length: 2\r\n", "hi"),
        ),
        case("two of another header stay in order", of("X-A: 2\r\nX-B: 0\r\nX-A: 1\r\n")).passes(
            "GET /x",
            &["x-a: 2", "x-a: 1", "x-b: 0"],
            "",
        ),
    ]
}
