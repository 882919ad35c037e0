//! Too long, too many.

use super::BODY_BYTES_MAX;
use super::case::{Case, INFILL, case, get, post};

pub fn cases() -> Vec<Case> {
    let fields = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let longest = "x".repeat(BODY_BYTES_MAX);
    vec![
        case("a long target", get(&format!("/{}", "x".repeat(8000)), "")).passes(
            &format!("GET /{}", "x".repeat(8000)),
            &[],
            "",
        ),
        case("a target that is too long", get(&format!("/{}", "x".repeat(100_000)), "")).refused(431),
        case("a query that is too long", get(&format!("/x?{}", "x".repeat(100_000)), "")).refused(431),
        case("a target without end", format!("GET /{}", "x".repeat(100_000))).refused(431),
        case("a method without end", "G".repeat(100_000)).refused(431),
        case("a name that is too long", get("/x", &format!("X-{}: y\r\n", "a".repeat(70_000)))).refused(431),
        case("a value that is too long", get("/x", &format!("X-A: {}\r\n", "a".repeat(100_000))))
            .refused(431),
        case("a value without end", format!("GET /x HTTP/1.1\r\nX-A: {}", "a".repeat(100_000))).refused(431),
        case(
            "headers that are too long together",
            get("/x", &format!("X-A: {}\r\n", "a".repeat(2000)).repeat(50)),
        )
        .refused(431),
        case("too many headers", get("/x", &fields(200))).refused(431),
        case("headers without end", format!("GET /x HTTP/1.1\r\n{}", fields(20_000))).refused(431),
        case("the longest body", post(&format!("Content-Length: {BODY_BYTES_MAX}\r\n"), &longest)).passes(
            INFILL,
            &[],
            longest.as_str(),
        ),
        case("a body that is said to be too long", post("Content-Length: 65537\r\n", "")).refused(413),
        case("a body that is too long", post("Content-Length: 65537\r\n", "x".repeat(65537))).refused(413),
        case("chunks that are too long together", {
            post("Transfer-Encoding: chunked\r\n", format!("{}0\r\n\r\n", chunk.repeat(17)))
        })
        .refused(413),
        case("one chunk that is too long", {
            post("Transfer-Encoding: chunked\r\n", format!("10001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x10001)))
        })
        .refused(413),
        case("a body of a GET that is too long", {
            [get("/x", "Content-Length: 65537\r\n"), vec![b'x'; 65537]].concat()
        })
        .refused(413),
        case("empty lines without end", "\r\n".repeat(50_000)).refused(431),
    ]
}
