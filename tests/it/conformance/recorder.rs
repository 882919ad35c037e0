//! A server that keeps every byte that it is sent, and answers what it can read in one way only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::reading::{self, Reading};

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// Dropping it ends it.
pub struct Recorder {
    addr: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let seen = bytes.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, seen.clone()));
            }
        });
        Self { addr, bytes, task }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What came since the last time.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = Vec::new();
    loop {
        let before = buffer.len();
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        seen.lock().unwrap().extend_from_slice(&buffer[before..]);
        loop {
            match reading::read(&buffer) {
                Reading::Whole(_, length) => {
                    buffer.drain(..length);
                    // The gateway may have gone.
                    let _ = stream.write_all(FINE).await;
                }
                Reading::Partial => break,
                Reading::Ambiguous(_) => return,
            }
        }
    }
}
