//! Where a body ends: lengths, chunks, and both.

use super::case::{Case, INFILL, case, post};

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// A second request, hidden in what follows.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: g\r\n\r\n";

pub fn cases() -> Vec<Case> {
    [both(), encodings(), lengths(), chunks(), bodies(), trailers()].into_iter().flatten().collect()
}

/// A length beside chunks: the chunks win, and the connection ends (RFC 9112 section 6.3).
fn both() -> Vec<Case> {
    let hidden = |fields: &str| post(fields, format!("0\r\n\r\n{HIDDEN}"));
    vec![
        case("CL.TE", hidden("Content-Length: 40\r\nTransfer-Encoding: chunked\r\n"))
            .passes(INFILL, &[], "")
            .closing(),
        case("TE.CL", hidden("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"))
            .passes(INFILL, &[], "")
            .closing(),
        case("CL.TE with a length that is too short", {
            post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")
        })
        .passes(INFILL, &[], "hi")
        .closing(),
        case("CL.TE with two lengths that differ", {
            hidden("Content-Length: 4\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n")
        }),
        case("CL.TE.CL", hidden("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"))
            .passes(INFILL, &[], "")
            .closing(),
        case(
            "TE.CL with a length that is no number",
            hidden("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"),
        )
        .passes(INFILL, &[], "")
        .closing(),
        case("CL.TE with an unknown encoding", hidden("Content-Length: 4\r\nTransfer-Encoding: x\r\n")),
        case("CL.TE with TE taken away by Connection", {
            hidden("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n")
        }),
        case("CL.TE in HTTP/1.0", {
            format!("{INFILL} HTTP/1.0\r\nContent-Length: 40\r\n{CHUNKED}\r\n0\r\n\r\n{HIDDEN}")
        }),
    ]
}

/// One encoding in many spellings. Only `chunked`, once, is taken.
fn encodings() -> Vec<Case> {
    let with = |fields: &str| post(fields, format!("0\r\n\r\n{HIDDEN}"));
    let one = |value: &str| with(&format!("Transfer-Encoding: {value}\r\n"));
    vec![
        case("TE in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", "2\r\nhi\r\n0\r\n\r\n")).passes(
            INFILL,
            &[],
            "hi",
        ),
        case("TE padded", post("Transfer-Encoding:\t chunked \t\r\n", "2\r\nhi\r\n0\r\n\r\n")).passes(
            INFILL,
            &[],
            "hi",
        ),
        case("TE twice", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        case(
            "TE chunked, then identity",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        case(
            "TE identity, then chunked",
            with("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ),
        case("TE chunked, chunked", one("chunked, chunked")),
        case("TE gzip, chunked", one("gzip, chunked")),
        case("TE chunked, gzip", one("chunked, gzip")),
        case("TE identity, chunked", one("identity, chunked")),
        case("TE with an empty member before", one(",chunked")),
        case("TE with an empty member behind", one("chunked,")),
        case("TE identity", one("identity")),
        case("TE gzip", one("gzip")),
        case("TE without a value", one("")),
        case("TE with a parameter", one("chunked;q=1")),
        case("TE quoted", one("\"chunked\"")),
        case("TE with a prefix", one("xchunked")),
        case("TE with a suffix", one("chunkedx")),
        case("TE with a vertical tab", one("\x0bchunked")),
        case("TE with a NUL", one("chunked\0")),
        case("TE with a bare CR", one("chunked\rx")),
        case("TE of other letters", one("chun\u{212a}ed")),
        case("TE with a blank before the colon", with("Transfer-Encoding : chunked\r\n")),
        case("TE with a blank before the name", with("X: y\r\n Transfer-Encoding: chunked\r\n")),
        case("TE folded", with("Transfer-Encoding:\r\n chunked\r\n")),
        case(
            "TE with a bad name is another header",
            post("Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", "hi"),
        )
        .passes(INFILL, &["transfer_encoding: chunked"], "hi"),
        case("TE in HTTP/1.0", format!("{INFILL} HTTP/1.0\r\n{CHUNKED}\r\n0\r\n\r\n")),
        case("TE of a GET", format!("GET /x HTTP/1.1\r\nHost: g\r\n{CHUNKED}\r\n2\r\nhi\r\n0\r\n\r\n"))
            .passes("GET /x", &[], "hi"),
    ]
}

fn lengths() -> Vec<Case> {
    let one = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hi");
    let two = |a: &str, b: &str| post(&format!("Content-Length: {a}\r\nContent-Length: {b}\r\n"), "hi");
    vec![
        case("a length", one("2")).passes(INFILL, &[], "hi"),
        case("a length with zeros is a decimal number", post("Content-Length: 010\r\n", "0123456789"))
            .passes(INFILL, &[], "0123456789"),
        case("a padded length", one(" \t2\t ")).passes(INFILL, &[], "hi"),
        case("a length twice is one", two("2", "2")).passes(INFILL, &[], "hi"),
        case("a length twice, spelled differently, is one", two("2", "02")).passes(INFILL, &[], "hi"),
        case("two lengths", two("2", "1")),
        case("two lengths, the first 0", two("0", "2")),
        case("a length and none", two("2", "")),
        case("joined lengths", one("2, 2")),
        case("joined lengths that differ", one("2, 1")),
        case("a positive length", one("+2")),
        case("a negative length", one("-2")),
        case("a negative zero", one("-0")),
        case("a hexadecimal length", one("0x2")),
        case("a length with a unit", one("2b")),
        case("a length with a fraction", one("2.0")),
        case("a length with an exponent", one("2e0")),
        case("a length in groups", one("1 2")),
        case("a length with an underscore", one("1_0")),
        case("a length quoted", one("\"2\"")),
        case("a length of other digits", one("\u{0662}")),
        case("no length", one("")),
        case("a length with a NUL", one("2\0")),
        case("a length with a vertical tab", one("\x0b2")),
        case("a length with a bare CR", one("2\r")),
        case("a length beyond 64 bits", one("18446744073709551618")),
        case("a length far beyond", one(&"9".repeat(300))),
        case("the last length of 64 bits", one("18446744073709551615")).refused(431),
        case("a length beyond what fits", one("9223372036854775807")).refused(413),
        case("a length with a blank before the colon", post("Content-Length : 2\r\n", "hi")),
        case("a length folded", post("Content-Length:\r\n 2\r\n", "hi")),
        case("a length in HTTP/1.0", format!("{INFILL} HTTP/1.0\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi"))
            .passes(INFILL, &[], "hi")
            .closing(),
        case("no length in HTTP/1.0 is no body", format!("{INFILL} HTTP/1.0\r\nHost: g\r\n\r\nhi"))
            .passes(INFILL, &[], "")
            .closing(),
    ]
}

fn chunks() -> Vec<Case> {
    let of = |body: &str| post(CHUNKED, body);
    vec![
        case("chunks", of("2\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n")).passes(INFILL, &[], "hi yo"),
        case("chunk size in hexadecimal", of("A\r\n0123456789\r\n0\r\n\r\n")).passes(
            INFILL,
            &[],
            "0123456789",
        ),
        case("chunk size with zeros", of("0002\r\nhi\r\n000\r\n\r\n")).passes(INFILL, &[], "hi"),
        case("chunk size with blanks behind", of("2 \t\r\nhi\r\n0\r\n\r\n")).passes(INFILL, &[], "hi"),
        case("chunk size with blanks before", of(" 2\r\nhi\r\n0\r\n\r\n")),
        case("chunk size with 0x", of("0x2\r\nhi\r\n0\r\n\r\n")),
        case("chunk size negative", of("-2\r\nhi\r\n0\r\n\r\n")),
        case("chunk size positive", of("+2\r\nhi\r\n0\r\n\r\n")),
        case("chunk size of letters", of("hi\r\nhi\r\n0\r\n\r\n")),
        case("chunk size missing", of("\r\nhi\r\n0\r\n\r\n")),
        case("chunk size in two words", of("2 2\r\nhi\r\n0\r\n\r\n")),
        case("chunk size beyond 64 bits", of("10000000000000002\r\nhi\r\n0\r\n\r\n")),
        case("chunk size far beyond", of(&format!("{}\r\nhi\r\n0\r\n\r\n", "f".repeat(100)))),
        case("chunk size beyond the longest body", of("fffffffffffffff0\r\nhi")).finished(),
        case("chunk size ends with LF", of("2\nhi\r\n0\r\n\r\n")),
        case("chunk size ends with CR", of("2\rhi\r\n0\r\n\r\n")),
        case("chunk size with a NUL", of("2\0\r\nhi\r\n0\r\n\r\n")),
        case("chunk without its end", of("2\r\nhi0\r\n\r\n")),
        case("chunk longer than said", of("2\r\nhi!\r\n0\r\n\r\n")),
        case("chunk ends with LF", of("2\r\nhi\n0\r\n\r\n")),
        case("chunk ends with CR", of("2\r\nhi\r0\r\n\r\n")),
        case("last chunk ends with LF", of("2\r\nhi\r\n0\n\n")),
        case("body ends with LF", of("2\r\nhi\r\n0\r\n\n")).finished(),
        // hyper takes what follows for trailers. The request behind it is thrown away with them.
        case("body ends with LF, and a request", of(&format!("2\r\nhi\r\n0\r\n\n{HIDDEN}"))).passes(
            INFILL,
            &[],
            "hi",
        ),
        case("chunk extension", of("2;a=b\r\nhi\r\n0;c\r\n\r\n")).passes(INFILL, &[], "hi"),
        case("chunk extension quoted", of("2;a=\"0\\\"\"\r\nhi\r\n0\r\n\r\n")).passes(INFILL, &[], "hi"),
        case("chunk extension without a name", of("2;\r\nhi\r\n0\r\n\r\n")).passes(INFILL, &[], "hi"),
        case("chunk extension with LF", of("2;a\nhi\r\n0\r\n\r\n")),
        case("chunk extension with CR", of("2;a\rb\r\nhi\r\n0\r\n\r\n")),
        case("chunk extension hides a request", of(&format!("2;\n{HIDDEN}\r\nhi\r\n0\r\n\r\n"))),
        case("chunk extensions without end", of(&format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(20_000)))),
        case(
            "many chunks with extensions",
            of(&format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(100)).repeat(300))),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        case("a body that looks like a request", {
            post(&format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN)
        })
        .passes(INFILL, &[], HIDDEN),
        case("chunks that look like a request", {
            post(CHUNKED, format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()))
        })
        .passes(INFILL, &[], HIDDEN),
        case("what follows a body is a request of its own", {
            post("Content-Length: 2\r\n", format!("hi{HIDDEN}"))
        })
        .passes(INFILL, &[], "hi")
        .passes("GET /hidden", &[], ""),
        case("what follows the last chunk is a request of its own", {
            post(CHUNKED, format!("2\r\nhi\r\n0\r\n\r\n{HIDDEN}"))
        })
        .passes(INFILL, &[], "hi")
        .passes("GET /hidden", &[], ""),
        case("a blocked path behind another request", {
            post("Content-Length: 2\r\n", "hiGET /tools HTTP/1.1\r\nHost: g\r\n\r\n")
        })
        .passes(INFILL, &[], "hi")
        .then(403),
        case("a body that is shorter than its length", post("Content-Length: 9\r\n", "hi")).finished(),
        case("chunks without the last", post(CHUNKED, "2\r\nhi\r\n")).finished(),
        case("half a chunk", post(CHUNKED, "9\r\nhi")).finished(),
        case("a body of a GET", "GET /x HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi").passes(
            "GET /x",
            &[],
            "hi",
        ),
        case("a GET of length 0", "GET /x HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n").passes(
            "GET /x",
            &[],
            "",
        ),
        case("what a GET hides is a request of its own", {
            format!("GET /x HTTP/1.1\r\nHost: g\r\n\r\n{HIDDEN}")
        })
        .passes("GET /x", &[], "")
        .passes("GET /hidden", &[], ""),
        case("a POST without a body", post("", "")).passes(INFILL, &[], ""),
        case("a refused body is not read as a request", {
            format!("POST /tools HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len())
        })
        .refused(403),
    ]
}

/// Trailers are read and thrown away.
fn trailers() -> Vec<Case> {
    let with = |trailers: &str| post(CHUNKED, format!("2\r\nhi\r\n0\r\n{trailers}\r\n"));
    vec![
        case("a trailer", with("X-Sum: 1\r\n")).passes(INFILL, &[], "hi"),
        case("a trailer that frames", with("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n")).passes(
            INFILL,
            &[],
            "hi",
        ),
        case("a trailer that names a host", with("Host: other\r\nAuthorization: Bearer x\r\n")).passes(
            INFILL,
            &[],
            "hi",
        ),
        case("a trailer with a blank before the colon", with("X : y\r\n")),
        case("a trailer with a NUL", with("X: y\0\r\n")),
        case("a trailer that is no header", with("x\r\n")),
        case("a trailer folded", with("X: y\r\n z\r\n")),
        case("a trailer that ends with CR", with("X: y\rZ: a\r\n")),
        case("trailers without end", with(&format!("X: {}\r\n", "a".repeat(100_000)))),
        case("too many trailers", with(&"X: y\r\n".repeat(2000))),
    ]
}
