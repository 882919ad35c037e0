//! What is asked, and of whom: request lines, targets, hosts.

use super::case::{Case, case, get};

pub fn cases() -> Vec<Case> {
    [lines(), targets(), hosts()].into_iter().flatten().collect()
}

const HOST: &str = "Host: g\r\n\r\n";

fn lines() -> Vec<Case> {
    let of = |line: &str| format!("{line}\r\n{HOST}");
    vec![
        case("HTTP/1.1", of("GET /x HTTP/1.1")).passes("GET /x", &[], ""),
        case("HTTP/1.0", of("GET /x HTTP/1.0")).passes("GET /x", &[], "").closing(),
        case("HTTP/1.0 that goes on", "GET /x HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\n\r\n").passes(
            "GET /x",
            &[],
            "",
        ),
        case("HTTP/0.9", "GET /x\r\n"),
        case("HTTP/1.2", of("GET /x HTTP/1.2")),
        case("HTTP/1", of("GET /x HTTP/1")),
        case("HTTP/1.10", of("GET /x HTTP/1.10")),
        case("HTTP/01.1", of("GET /x HTTP/01.1")),
        case("HTTP/2.0 as text", of("GET /x HTTP/2.0")),
        case("HTTP/3.0 as text", of("GET /x HTTP/3.0")),
        case("the version in small letters", of("GET /x http/1.1")),
        case("another protocol", of("GET /x RTSP/1.0")),
        case("no version", of("GET /x ")),
        case("a word behind the version", of("GET /x HTTP/1.1 x")),
        case("a blank behind the version", of("GET /x HTTP/1.1 ")),
        case("two blanks before the target", of("GET  /x HTTP/1.1")),
        case("two blanks before the version", of("GET /x  HTTP/1.1")),
        case("a tab before the target", of("GET\t/x HTTP/1.1")),
        case("a tab before the version", of("GET /x\tHTTP/1.1")),
        case("a blank before the method", of(" GET /x HTTP/1.1")),
        case("no method", of("/x HTTP/1.1")),
        case("a method with a NUL", of("GE\0T /x HTTP/1.1")),
        case("a method with a colon", of("GET: /x HTTP/1.1")),
        case("a method with brackets", of("G[E]T /x HTTP/1.1")),
        case("a method in small letters is another method", of("get /x HTTP/1.1")).passes("get /x", &[], ""),
        case("an unknown method", of("BREW /x HTTP/1.1")).passes("BREW /x", &[], ""),
        case("the method of HTTP/2's preface", "PRI * HTTP/1.1\r\nHost: g\r\n\r\n"),
        case("HTTP/2's preface, broken off", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
        case("an empty line before", of("\r\nGET /x HTTP/1.1")).passes("GET /x", &[], ""),
        case("LF before", of("\nGET /x HTTP/1.1")).passes("GET /x", &[], ""),
        case("CR before", of("\rGET /x HTTP/1.1")),
        case("the line ends with LF", format!("GET /x HTTP/1.1\n{HOST}")).passes("GET /x", &[], ""),
        case("the line ends with CR", format!("GET /x HTTP/1.1\r{HOST}")),
        case("a byte order mark", of("\u{feff}GET /x HTTP/1.1")),
        case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        case("half a head", "GET /x HTTP/1.1\r\nHost: g\r\n").finished().silent(),
        case("nothing", "").finished().silent(),
    ]
}

fn targets() -> Vec<Case> {
    let passes =
        |name, sent: &str, passed: &str| case(name, get(sent, "")).passes(&format!("GET {passed}"), &[], "");
    vec![
        passes("a query", "/x?a=b&c=%20", "/x?a=b&c=%20"),
        passes("an escape stays an escape", "/a%2fb%00%0d%0a", "/a%2fb%00%0d%0a"),
        passes("a fragment is left out", "/x#/../tools", "/x"),
        passes("absolute", "http://g/x?y", "/x?y"),
        passes("absolute, https", "https://g/x", "/x"),
        passes("absolute without a path", "http://g", "/"),
        case("absolute with another host: the target's wins", get("http://other:8/x", "")).passes(
            "GET /x",
            &["host: other:8"],
            "",
        ),
        case("absolute without a Host", "GET http://g/x HTTP/1.1\r\n\r\n"),
        case("absolute with a user", get("http://u:p@g/x", "")),
        case("absolute without a host", get("http:///x", "")),
        case("absolute with a bad port", get("http://g:8x/x", "")),
        case("absolute of another scheme", get("ftp://g/x", "")),
        case("absolute of a file", get("file:///etc/passwd", "")),
        case("absolute without slashes", get("http:x", "")),
        case("absolute and blocked", get("http://g/tools", "")).answered(403),
        case("absolute and blocked, encoded", get("http://g/%74ools", "")).answered(403),
        case("authority", get("g:80", "")),
        case("a name alone", get("tools", "")),
        case("a relative path", get("x/y", "")),
        case("a relative path with dots", get("../tools", "")),
        case("an address alone", get("[::1]:80", "")),
        case("asterisk", get("*", "")),
        case("asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n").passes("OPTIONS *", &[], ""),
        case("asterisk with more", "OPTIONS *x HTTP/1.1\r\nHost: g\r\n\r\n"),
        case("a query alone", get("?x", "")),
        case("CONNECT", "CONNECT g:80 HTTP/1.1\r\nHost: g\r\n\r\n"),
        case("CONNECT of a path", "CONNECT /x HTTP/1.1\r\nHost: g\r\n\r\n"),
        case("CONNECT with a body", "CONNECT g:80 HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi"),
        case("a target with a NUL", get("/x\0", "")),
        case("a target with a control byte", get("/x\x01", "")),
        case("a target with a vertical tab", get("/x\x0by", "")),
        case("a target with DEL", get("/x\x7f", "")),
        case("a target with a bare CR", get("/x\ry", "")),
        case("a target with LF", get("/x\ny", "")),
        case("a target with a blank", get("/x y", "")),
        case("a target with letters beyond ASCII", get("/caf\u{e9}", "")),
        case("a query with letters beyond ASCII", get("/x?\u{e9}", "")),
        case("a target that is no UTF-8", b"GET /\xff HTTP/1.1\r\nHost: g\r\n\r\n".to_vec()),
        case("a target with a bracket", get("/x<y>", "")),
    ]
}

fn hosts() -> Vec<Case> {
    let of = |host: &str| format!("GET /x HTTP/1.1\r\nHost:{host}\r\n\r\n");
    vec![
        case("no Host", "GET /x HTTP/1.1\r\n\r\n"),
        case("no Host in HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n")
            .passes("GET /x", &["host: SERVER"], "")
            .closing(),
        case("two Hosts", "GET /x HTTP/1.1\r\nHost: g\r\nHost: other\r\n\r\n"),
        case("the same Host twice", "GET /x HTTP/1.1\r\nHost: g\r\nHost: g\r\n\r\n"),
        case("two Hosts in HTTP/1.0", "GET /x HTTP/1.0\r\nHost: g\r\nHost: g\r\n\r\n"),
        case("an empty Host", of("")),
        case("a Host of blanks", of(" \t ")),
        case("a Host with a port", of(" g:8080")).passes("GET /x", &["host: g:8080"], ""),
        case("a Host with an empty port", of(" g:")).passes("GET /x", &["host: g:"], ""),
        case("a Host of IPv6", of(" [::1]:8080")).passes("GET /x", &["host: [::1]:8080"], ""),
        case("a Host that is only a port", of(" :80")),
        case("a Host with a bad port", of(" g:80x")),
        case("a Host with two ports", of(" g:80:81")),
        case("a Host with a user", of(" user@g")),
        case("a Host with a user and a port", of(" user:80@g")),
        case("a Host with a blank", of(" g other")),
        case("a Host with a tab", of(" g\tother")),
        case("a Host with a comma", of(" g, other")),
        case("a Host with a path", of(" g/x")),
        case("a Host with a query", of(" g?x")),
        case("a Host with a fragment", of(" g#x")),
        case("a Host with a scheme", of(" http://g")),
        case("a Host with an escape", of(" g%00")),
        case("a Host with a backslash", of(" g\\x")),
        case("a Host with letters beyond ASCII", of(" g\u{e9}")),
        case("a Host with a NUL", of(" g\0")),
        case("a Host with an open bracket", of(" [::1")),
        case("a Host folded", of("\r\n g")),
        case("a blank before Host's colon", "GET /x HTTP/1.1\r\nHost : g\r\n\r\n"),
        case("a blank before Host", "GET /x HTTP/1.1\r\n Host: g\r\n\r\n"),
    ]
}
