//! A reader that takes one spelling of HTTP/1.1 only: what passes here can be read in one way.

/// A request as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub line: String,
    /// Whole lines, without their ends.
    pub fields: Vec<String>,
    pub body: Vec<u8>,
}

/// What the bytes are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    Partial,
    /// A request, and how many bytes it took.
    Whole(Request, usize),
    /// Why it can be misread.
    Ambiguous(String),
}

/// Concern one connection, or an encoding that only one connection has.
const NEVER: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "x-conversation-id",
];
/// Two of these contradict each other.
const ONCE: [&str; 4] = ["host", "content-length", "content-type", "authorization"];

/// Reads one request.
pub fn read(bytes: &[u8]) -> Reading {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Reading::Partial };
    match head(&bytes[..end]) {
        Err(why) => Reading::Ambiguous(why),
        Ok((line, fields, length)) => match bytes.get(end + 4..end + 4 + length) {
            None => Reading::Partial,
            Some(body) => Reading::Whole(Request { line, fields, body: body.to_vec() }, end + 4 + length),
        },
    }
}

/// Reads all requests; everything must belong to one.
pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        match read(bytes) {
            Reading::Whole(request, length) => {
                // Nothing of it was read over: written again, it is the same.
                assert_eq!(written(&request), bytes[..length]);
                requests.push(request);
                bytes = &bytes[length..];
            }
            Reading::Partial => return Err(format!("half a request: {:?}", String::from_utf8_lossy(bytes))),
            Reading::Ambiguous(why) => {
                return Err(format!("{why}: {:?}", String::from_utf8_lossy(bytes)));
            }
        }
    }
    Ok(requests)
}

fn written(request: &Request) -> Vec<u8> {
    let mut head = format!("{}\r\n", request.line);
    for field in &request.fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    [head.as_bytes(), b"\r\n", &request.body].concat()
}

type Head = (String, Vec<String>, usize);

fn head(bytes: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words.as_slice() else { return Err(format!("request line {line:?}")) };
    if !is_token(method) {
        return Err(format!("method {method:?}"));
    }
    let is_path = target.starts_with('/') || *target == "*";
    if !is_path || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(format!("target {target:?}"));
    }
    let fields: Vec<String> = lines.map(str::to_owned).collect();
    let mut seen = Vec::new();
    let mut length = 0;
    for field in &fields {
        let Some((name, value)) = field.split_once(": ") else { return Err(format!("field {field:?}")) };
        if !is_token(name) || name.contains(char::is_uppercase) {
            return Err(format!("name {name:?}"));
        }
        if value.trim() != value || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("value {value:?}"));
        }
        if NEVER.contains(&name) || (ONCE.contains(&name) && seen.contains(&name)) {
            return Err(format!("{field:?} must not be there"));
        }
        if name == "content-length" {
            length = value.parse().map_err(|_| format!("length {value:?}"))?;
            if length.to_string() != value {
                return Err(format!("length {value:?}"));
            }
        }
        if name == "host" && (value.is_empty() || value.contains([' ', '@', ',', '/'])) {
            return Err(format!("host {value:?}"));
        }
        seen.push(name);
    }
    if !seen.contains(&"host") {
        return Err("no host".to_owned());
    }
    if *method == "POST" && !seen.contains(&"content-length") {
        return Err("no length".to_owned());
    }
    Ok((line.to_owned(), fields, length))
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[test]
fn one_spelling_is_read_and_no_other() {
    let good = b"POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\nhi";
    let request = Request {
        line: "POST /x HTTP/1.1".to_owned(),
        fields: vec!["host: g".to_owned(), "content-length: 2".to_owned()],
        body: b"hi".to_vec(),
    };
    assert_eq!(read_all(good), Ok(vec![request]));
    for bad in [
        "POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\nhi!",
        "POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\nh",
        "POST /x HTTP/1.1\r\nhost: g\r\n\r\n",
        "POST /x HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        "POST /x HTTP/1.0\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        "POST  /x HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        "POST /x#y HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        "POST x HTTP/1.1\r\nhost: g\r\ncontent-length: 0\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nhost: g\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: \r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: u@g\r\n\r\n",
        "GET /x HTTP/1.1\nhost: g\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nx: a\rb\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nx: a\n y\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nx : y\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nx:y\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nX: y\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nx: y\0\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\ncontent-length: 00\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\ncontent-length: +0\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: g\r\n folded\r\n\r\n",
    ] {
        assert!(read_all(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
