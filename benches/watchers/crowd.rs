//! People who watch: each has an event stream, and reads what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Connections that are made at once: the listener's backlog is finite.
const AT_ONCE: usize = 100;
/// The longest until all have their first event.
const GATHER_MAX: Duration = Duration::from_secs(30);
const EVENT: &[u8] = b"event: state";

/// Watchers on a thread of their own. Dropping it lets them go.
pub struct Crowd {
    runtime: Option<Runtime>,
    events: Vec<Arc<AtomicUsize>>,
}

impl Crowd {
    /// Returns once each has had its first event.
    pub fn gather(management: SocketAddr, count: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let events: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        runtime.block_on(async {
            let mut first = tokio::task::JoinSet::new();
            for counter in &events {
                let (room, counter) = (room.clone(), counter.clone());
                first.spawn(async move {
                    let _place = room.acquire().await.unwrap();
                    let mut stream = TcpStream::connect(management).await.unwrap();
                    let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: {management}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let (told, was_told) = tokio::sync::oneshot::channel();
                    tokio::spawn(watch(stream, counter, told));
                    was_told.await.expect("a watcher gets its first event");
                });
            }
            let all = async {
                while let Some(done) = first.join_next().await {
                    done.unwrap()
                }
            };
            tokio::time::timeout(GATHER_MAX, all).await.expect("all watchers are told");
        });
        Self { runtime: Some(runtime), events }
    }

    /// Panics unless each was told about once a second: a stream that stands still costs nothing.
    pub fn assert_all_were_told(&self, turn: Duration) {
        let least = usize::try_from(turn.as_secs()).unwrap().div_ceil(2);
        let told = self.events.iter().map(|events| events.load(Ordering::Relaxed));
        let fewest = told.min().unwrap_or_default();
        assert!(fewest >= least, "a watcher had {fewest} events in {turn:?}");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn watch(mut stream: TcpStream, events: Arc<AtomicUsize>, told: tokio::sync::oneshot::Sender<()>) {
    let mut told = Some(told);
    let mut part = vec![0; 64 * 1024];
    while let Ok(read) = stream.read(&mut part).await {
        if read == 0 {
            return;
        }
        if part[..read].windows(EVENT.len()).any(|bytes| bytes == EVENT) {
            events.fetch_add(1, Ordering::Relaxed);
            if let Some(told) = told.take() {
                let _ = told.send(());
            }
        }
    }
}
