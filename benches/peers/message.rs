//! As much of HTTP/1.1 as both ends of the bench need: messages with a `Content-Length`, over kept connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer will not come.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where the first message in the bytes ends, if it is whole.
pub fn end(bytes: &[u8]) -> Option<usize> {
    let head = head_end(bytes)?;
    let end =
        head + field(&bytes[..head], "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
    (bytes.len() >= end).then_some(end)
}

/// Where the first message's head ends, if that is there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4)
}

/// A header's value.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    lines
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// A chat whose body is so many bytes long.
pub fn chat(body_bytes: usize) -> Vec<u8> {
    let (before, after) =
        (r#"{"model":"tiny","max_tokens":16,"messages":[{"role":"user","content":""#, r#""}]}"#);
    let word = "word ".chars().cycle().take(body_bytes - before.len() - after.len());
    let body = format!("{before}{}{after}", word.collect::<String>());
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {body_bytes}\r\n\r\n"
    );
    [head, body].concat().into_bytes()
}

/// The body of a message.
pub fn body(message: &[u8]) -> &[u8] {
    &message[head_end(message).unwrap()..]
}

/// A client's connection. It blocks.
pub struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).unwrap())
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        Self { stream, bytes: Vec::new() }
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// The next answer, whole; its status must be 200.
    pub fn answer(&mut self) -> Vec<u8> {
        let mut part = [0; 4096];
        loop {
            if let Some(end) = end(&self.bytes) {
                let rest = self.bytes.split_off(end);
                let answer = std::mem::replace(&mut self.bytes, rest);
                assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
                return answer;
            }
            let read = self.stream.read(&mut part).unwrap();
            assert!(read > 0, "the connection ended before its answer");
            self.bytes.extend_from_slice(&part[..read]);
        }
    }

    pub fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        self.answer()
    }
}

/// One `GET` over a connection of its own.
pub fn get(addr: SocketAddr, path: &str) -> Vec<u8> {
    Client::connect(addr).ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
}
