//! A client that sends any bytes, over any transport.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// For what should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Why nothing more came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    /// Neither a byte nor the end came.
    Silence,
}

/// What carries bytes.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection. Dropping it closes it.
pub struct Client {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), buffer: Vec::new() }
    }

    /// Sends; whoever is refused early may find the connection closed.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        let _ = timeout(SOON, sent).await.expect("nobody reads");
    }

    /// Ends the sending side.
    pub async fn finish(&mut self) {
        let _ = timeout(SOON, self.io.shutdown()).await;
    }

    /// Exactly so many bytes.
    pub async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// The status of the next answer, which is read whole.
    pub async fn status(&mut self) -> Result<u16, End> {
        let end = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.fill().await?,
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.lines().next());
        let has_body = !matches!(status, 100..200 | 204 | 304);
        assert!(!has_body || length.is_some(), "every answer of these tests has a length: {head}");
        let length = length.filter(|_| has_body).map_or(0, |length| length.parse().unwrap());
        self.bytes(length).await.map(|_| status)
    }

    /// Whether the connection ends without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await == Err(End::Closed)
    }

    /// Reads once. A reset is an end as well.
    async fn fill(&mut self) -> Result<(), End> {
        match timeout(SOON, self.io.read_buf(&mut self.buffer)).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(Ok(0) | Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Silence),
        }
    }
}
