//! One client connection: HTTP/1.1, or HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::service::Service;

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may take for the head of a request: slow senders must not hold connections.
const HEAD_READ_MAX: Duration = Duration::from_secs(30);
/// The pause between two looks at a preface that comes in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// HTTP/1 heads, in bytes and in fields.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 200;
/// After this long without a byte a client is asked whether it is there; it is gone after three questions, or when
/// what was sent is not acknowledged for so long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// Serves the connection to its end. Once `cancel` is cancelled, the answers that run are the last.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    service: Rc<Service>,
    cancel: CancellationToken,
) {
    notice_vanished(&stream);
    let is_h2 = tokio::select! {
        is_h2 = tokio::time::timeout(HEAD_READ_MAX, speaks_h2(&stream)) => is_h2,
        () = cancel.cancelled() => return,
    };
    let Ok(Ok(is_h2)) = is_h2 else { return };
    let respond = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(request, peer).await) }
    });
    let io = TokioIo::new(stream);
    let result = if is_h2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_INTERVAL);
        until_drained(builder.serve_connection(io, respond), &cancel).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_READ_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        until_drained(builder.serve_connection(io, respond), &cancel).await
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a client's connection ended early");
    }
}

/// Runs the connection to its end; once `cancel` is cancelled, no further than the answers that run.
async fn until_drained<C: GracefulConnection>(
    connection: C,
    cancel: &CancellationToken,
) -> Result<(), C::Error> {
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Whether the first bytes are HTTP/2's preface. They stay where they are.
async fn speaks_h2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if first[..seen] != PREFACE[..seen] || seen == 0 {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // The socket stays readable while its bytes are only looked at.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Lets a peer that vanished without a word be noticed, and small writes leave at once.
pub(super) fn notice_vanished(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection's options cannot be set");
    }
}

/// Runs HTTP/2's streams on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
