//! Fake llama.cpp servers that do as little as a server can: the same answer to every request, over kept connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::message;

/// As long as a short answer of llama.cpp.
const BODY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"tiny","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"a short answer"}}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

/// The two servers that are behind every proxy of one part.
pub struct Servers([Server; 2]);

struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    slots: usize,
    takes: Duration,
    gate: watch::Sender<bool>,
    busy: AtomicUsize,
    over_commits: AtomicU64,
    answers: AtomicU64,
    question: Mutex<Vec<u8>>,
}

impl Servers {
    /// Servers with so many slots, whose answers take so long.
    pub fn start(slots: usize, takes: Duration) -> Self {
        Self([(); 2].map(|()| Server::start(slots, takes)))
    }

    pub fn addrs(&self) -> [SocketAddr; 2] {
        self.0.each_ref().map(|server| server.addr)
    }

    /// While they are held, nothing but a `GET` is answered.
    pub fn hold(&self, is_held: bool) {
        for server in &self.0 {
            server.shared.gate.send_replace(!is_held);
        }
    }

    /// All that was answered but for `GET`s.
    pub fn answers(&self) -> u64 {
        self.sum(|shared| &shared.answers)
    }

    /// How often a request came to a server whose slots were all taken.
    pub fn over_commits(&self) -> u64 {
        self.sum(|shared| &shared.over_commits)
    }

    fn sum(&self, of: impl Fn(&Shared) -> &AtomicU64) -> u64 {
        self.0.iter().map(|server| of(&server.shared).load(Ordering::Relaxed)).sum()
    }

    /// The head of the last `GET`, as it came.
    pub fn take_question(&self) -> Vec<u8> {
        let taken = self.0.iter().map(|server| std::mem::take(&mut *server.shared.question.lock().unwrap()));
        taken.fold(Vec::new(), |one, other| if one.is_empty() { other } else { one })
    }
}

impl Server {
    /// Serves from a thread of its own, to the end of the process.
    fn start(slots: usize, takes: Duration) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            slots,
            takes,
            gate: watch::Sender::new(true),
            busy: AtomicUsize::new(0),
            over_commits: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            question: Mutex::default(),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, served.clone()));
                }
            });
        });
        Self { addr, shared }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut gate = shared.gate.subscribe();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut bytes = Vec::with_capacity(8192);
    loop {
        while let Some(end) = message::end(&bytes) {
            if bytes.starts_with(b"GET") {
                shared.question.lock().unwrap().clone_from(&bytes);
            } else {
                compute(&shared, &mut gate).await;
            }
            bytes.drain(..end);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

/// Like llama.cpp, it goes on when the client has left.
async fn compute(shared: &Shared, gate: &mut watch::Receiver<bool>) {
    if shared.busy.fetch_add(1, Ordering::Relaxed) >= shared.slots {
        shared.over_commits.fetch_add(1, Ordering::Relaxed);
    }
    if !shared.takes.is_zero() {
        tokio::time::sleep(shared.takes).await;
    }
    // The sender lives as long as the process.
    let _ = gate.wait_for(|is_open| *is_open).await;
    shared.busy.fetch_sub(1, Ordering::Relaxed);
    shared.answers.fetch_add(1, Ordering::Relaxed);
}
