//! Two clients: one that sends and reads raw bytes and may leave at any moment, one for the ordinary case.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No read in a test waits longer than this.
const READ_MAX: Duration = Duration::from_secs(60);

/// An answer that was read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the body when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// How the body of the answer that is being read ends.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
    Ended,
}

/// A connection over which a test decides about every byte. Dropping it closes it.
#[derive(Debug)]
pub struct RawClient<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
    framing: Framing,
}

impl RawClient {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Closes with a reset instead of a FIN, as a crashed peer does.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// A client over a connection that there is already, one of TLS for example.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), framing: Framing::Ended }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends what the peer takes; false when it has gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Returns once something can be read, the connection's end included.
    pub async fn until_readable(&mut self) {
        if self.buffer.is_empty() {
            self.fill().await;
        }
    }

    /// Sends a `POST` with a body of known length.
    pub async fn post(&mut self, path: &str, body: &Value) {
        self.send(post(path, body)).await;
    }

    /// Ends the sending side only.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads up to the end of the head. `None` when the peer closed before the head's end.
    pub async fn try_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        self.buffer.advance(4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let answer = Answer { status, headers, body: Bytes::new() };
        self.framing = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().unwrap()),
            (None, None) if matches!(status, 100..200 | 204 | 304) => Framing::Ended,
            (None, None) => Framing::Close,
        };
        Some(answer)
    }

    /// The head of the answer, its body still to be read.
    pub async fn head(&mut self) -> Answer {
        self.try_head().await.expect("the connection was closed before an answer")
    }

    /// The next piece of the body: a chunk, or what one read gave. `Ok(None)` at its proper end, `Err` with what
    /// is there when it was cut.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Bytes> {
        match self.framing {
            Framing::Ended | Framing::Length(0) => {
                self.framing = Framing::Ended;
                Ok(None)
            }
            Framing::Length(rest) => {
                if self.buffer.is_empty() && !self.fill().await {
                    return Err(Bytes::new());
                }
                let piece = self.buffer.split_to(rest.min(self.buffer.len())).freeze();
                self.framing = Framing::Length(rest - piece.len());
                Ok(Some(piece))
            }
            Framing::Close => {
                if self.buffer.is_empty() && !self.fill().await {
                    self.framing = Framing::Ended;
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Framing::Chunked => self.chunk_of_chunked().await,
        }
    }

    async fn chunk_of_chunked(&mut self) -> Result<Option<Bytes>, Bytes> {
        let line_end = loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                break at;
            }
            if !self.fill().await {
                return Err(self.buffer.split().freeze());
            }
        };
        let size = String::from_utf8_lossy(&self.buffer[..line_end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        while self.buffer.len() < line_end + 2 + size + 2 {
            if !self.fill().await {
                return Err(self.buffer.split().freeze());
            }
        }
        self.buffer.advance(line_end + 2);
        let piece = self.buffer.split_to(size).freeze();
        self.buffer.advance(2);
        if size == 0 {
            self.framing = Framing::Ended;
            return Ok(None);
        }
        Ok(Some(piece))
    }

    /// The rest of the body, and whether it came to its proper end.
    pub async fn body(&mut self) -> (Bytes, bool) {
        let mut body = BytesMut::new();
        loop {
            match self.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return (body.freeze(), true),
                Err(_) => return (body.freeze(), false),
            }
        }
    }

    /// A whole answer; panics when it is cut.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let (body, is_whole) = self.body().await;
        assert!(is_whole, "the answer was cut after {body:?}");
        answer.body = body;
        answer
    }

    /// Whether the peer closes the connection without another byte.
    pub async fn is_closed_silently(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await && self.buffer.is_empty()
    }

    /// Returns once the peer has closed the connection, whatever it sends before.
    pub async fn until_closed(&mut self) {
        while self.fill().await {
            self.buffer.clear();
        }
    }

    /// Reads once; false at the end of the connection, however it came.
    async fn fill(&mut self) -> bool {
        let read = timeout(READ_MAX, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("no byte came for a minute").is_ok_and(|count| count > 0)
    }
}

/// The bytes of a `POST` with a JSON body.
pub fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A client that keeps no connection and asks no proxy.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(READ_MAX).build().unwrap()
}

/// `GET`; none when nobody answers.
pub async fn try_get(addr: SocketAddr, path: &str) -> Option<Answer> {
    read(client().get(format!("http://{addr}{path}")).send().await.ok()?).await
}

/// `GET`.
pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    try_get(addr, path).await.unwrap_or_else(|| panic!("no answer to GET {path} at {addr}"))
}

/// `POST` with JSON; none when the connection or the answer broke.
pub async fn try_post_json(addr: SocketAddr, path: &str, body: &Value) -> Option<Answer> {
    read(client().post(format!("http://{addr}{path}")).json(body).send().await.ok()?).await
}

/// `POST` with JSON.
pub async fn post_json(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    try_post_json(addr, path, body).await.unwrap_or_else(|| panic!("no answer to POST {path} at {addr}"))
}

async fn read(response: reqwest::Response) -> Option<Answer> {
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Some(Answer { status, headers, body: response.bytes().await.ok()? })
}
