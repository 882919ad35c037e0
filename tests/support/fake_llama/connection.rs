//! One connection to a fake server: its service, its idle time, its end.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Shared, service};

/// How many answers of a connection are still under way.
pub(super) type InFlight = watch::Sender<usize>;

/// Keeps a connection from being idle while it lives.
#[derive(Debug)]
pub(super) struct Busy(InFlight);

impl Busy {
    pub(super) fn new(in_flight: &InFlight) -> Self {
        in_flight.send_modify(|count| *count += 1);
        Self(in_flight.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ledger.count(|stats| stats.connections_open -= 1);
    }
}

/// Serves until either side ends it.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut number = 0;
    shared.ledger.count(|stats| {
        stats.connections += 1;
        stats.connections_open += 1;
        number = stats.connections;
    });
    let _open = Open(Arc::clone(&shared));
    stream.set_nodelay(true).unwrap();
    let tap = Tap {
        stream,
        index: shared.config.keeps_raw.then(|| new_record(&shared)),
        shared: Arc::clone(&shared),
    };

    let in_flight = InFlight::new(0);
    let mut in_flight_seen = in_flight.subscribe();
    let mut closings = shared.idle_closings.subscribe();
    let (idle_close, served) = (shared.config.idle_close, AtomicU64::new(0));
    let service = service_fn(|request| {
        let is_stale = served.fetch_add(1, Ordering::Relaxed) > 0 && shared.is_stale.load(Ordering::SeqCst);
        service::answer(request, Arc::clone(&shared), Busy::new(&in_flight), number, is_stale)
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(tap), service));
    loop {
        let is_idle = *in_flight_seen.borrow_and_update() == 0;
        // What has come is taken before it is too late for it; and who has just connected is not idle yet.
        let has_answered = served.load(Ordering::Relaxed) > 0;
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            _ = in_flight_seen.changed() => {}
            () = sleep(idle_close), if is_idle && has_answered => connection.as_mut().graceful_shutdown(),
            _ = closings.changed() => if is_idle { connection.as_mut().graceful_shutdown() },
        }
    }
}

fn new_record(shared: &Shared) -> usize {
    let mut raw = shared.raw.lock().unwrap();
    raw.push(Vec::new());
    raw.len() - 1
}

/// A stream whose incoming bytes are kept where that was asked for.
struct Tap {
    stream: TcpStream,
    index: Option<usize>,
    shared: Arc<Shared>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(index) = self.index {
            self.shared.raw.lock().unwrap()[index].extend_from_slice(&buffer.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
