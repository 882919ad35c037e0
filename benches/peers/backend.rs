//! A server that does as little as a server can: the same answer to every request, over kept connections.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As long as a short answer of llama.cpp.
const BODY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"a short answer"}}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

pub struct Backend {
    addr: SocketAddr,
}

impl Backend {
    /// Serves from a thread of its own, to the end of the process.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream));
                }
            });
        });
        Self { addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut request = Vec::with_capacity(8192);
    loop {
        while let Some(end) = end_of_request(&request) {
            request.drain(..end);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
}

/// Where the first request in the bytes ends, if it is whole.
fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    let length = text
        .split("content-length:")
        .nth(1)
        .map_or(0, |rest| rest.lines().next().unwrap_or_default().trim().parse::<usize>().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}
