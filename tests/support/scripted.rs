//! A server that treats each connection by a script of raw bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How one side ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order: what was sent arrives.
    Fin,
    /// With a reset, as a crashed process does.
    Reset,
}

/// A connection as the scripted server sees it. Dropping it closes it.
#[derive(Debug)]
pub struct Peer {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        // The pieces of an answer arrive as they were sent.
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    /// The head of the next request; none at the end of the connection.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Some(String::from_utf8_lossy(&self.buffer.split_to(at + 4)).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next request whole: its head.
    pub async fn request(&mut self) -> Option<String> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        self.buffer.advance(length);
        Some(head)
    }

    /// Sends what the gateway takes: it may have gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Returns once the other side has ended the connection, however it did.
    pub async fn until_closed(&mut self) {
        while self.fill().await {
            self.buffer.clear();
        }
    }

    /// Ends the connection.
    pub fn end(self, ending: Ending) {
        if ending == Ending::Reset {
            socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }
}

/// A running scripted server. Dropping it ends it.
#[derive(Debug)]
pub struct Scripted {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Scripted {
    /// `script` gets the connection and its number, from 0.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Peer, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(script(Peer::new(stream), number));
            }
        });
        Self { addr, task }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}
