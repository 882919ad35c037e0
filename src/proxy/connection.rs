//! One client connection: HTTP/1.1, or HTTP/2 with prior knowledge.

mod activity;
mod watched;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) use self::activity::{Enrolled, LOOK_INTERVAL, Roll};

use self::activity::{Activity, Answering, Order};
use self::watched::Watched;
use super::answer::{Body, Cut};
use super::error::Refusal;
use super::gather::Gather;
use super::hold::{DRAIN_BYTES_MAX, DRAIN_MAX};
use super::service::{Caller, Service};
use super::tls::{self, Accepted};
use crate::metrics::Outcome;

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a client that speaks HTTP to TLS is told.
const PLAIN: &str = "this port speaks TLS: use https";
/// The pause between two looks at a preface that comes in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// What hyper takes of fields in a head by default. Only then it keeps them on the stack.
const HEAD_FIELDS_CHEAP: usize = 100;
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 200;
/// After this long without a byte a client is asked whether it is there; it is gone after three questions, or when
/// what was sent is not acknowledged for so long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

/// Serves the connection to its end.
pub(super) async fn serve(stream: TcpStream, caller: Caller, service: Rc<Service>, enrolled: Enrolled) {
    notice_vanished(&stream);
    let activity = &enrolled.activity;
    match service.tls() {
        // Boxed, because a connection without TLS must not carry the room for it.
        Some(tls) => match Box::pin(unless_ordered(activity, tls.accept(stream))).await {
            Some(Accepted::Secure(stream)) => {
                let is_h2 = tls::chose_h2(&stream);
                Box::pin(converse(stream, is_h2, caller, service, activity)).await;
            }
            Some(Accepted::Plain(mut stream)) => {
                let refusal = Refusal::BadRequest(PLAIN);
                service.meter().refused(caller.peer.ip(), refusal.status(), refusal.outcome());
                say(&mut stream, refusal).await;
            }
            None => {}
        },
        None => {
            if let Some(is_h2) = unless_ordered(activity, speaks_h2(&stream)).await {
                converse(Gather(stream), is_h2, caller, service, activity).await;
            }
        }
    }
}

/// Speaks HTTP over a stream that is ready for it.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    is_h2: bool,
    caller: Caller,
    service: Rc<Service>,
    activity: &Rc<Activity>,
) {
    let (peer, limits) = (caller.peer, *service.limits());
    let caller = Rc::new(caller);
    let io = TokioIo::new(Watched::new(stream, activity.clone(), is_h2));
    let respond = service_fn(|request| {
        let (answering, service, caller) = (activity.answering(), service.clone(), caller.clone());
        async move {
            let response = service.respond(request, caller).await;
            Ok::<_, Infallible>(response.map(|body| Counted { body, _answering: answering }))
        }
    });
    let ended = if is_h2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_INTERVAL);
        let mut connection = Box::new(builder.serve_connection(io, respond));
        until_ordered(&mut *connection, activity).await
    } else {
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None);
        // The first bounds heads that are not whole yet, the second those that came in one piece.
        builder.max_buf_size(limits.head_bytes_max).max_header_size(limits.head_bytes_max);
        if limits.head_fields_max != HEAD_FIELDS_CHEAP {
            builder.max_headers(limits.head_fields_max);
        }
        let mut connection = builder.serve_connection(io, respond);
        let ended = until_ordered(&mut connection, activity).await;
        let mut stream = connection.into_parts().io.into_inner().stream;
        match &ended {
            Ended::Overdue(Order::EndSlowHead) => {
                let refusal = Refusal::HeadTimeout { after: limits.head_read_max };
                service.meter().refused(peer.ip(), refusal.status(), refusal.outcome());
                Box::pin(say(&mut stream, refusal)).await;
            }
            // hyper has answered what it could not read.
            Ended::Broken(error) if error.is_parse() => {
                let status = match error.is_parse_too_large() {
                    true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    false => StatusCode::BAD_REQUEST,
                };
                service.meter().refused(peer.ip(), status, Outcome::BadRequest);
                Box::pin(linger(&mut stream)).await;
            }
            Ended::Broken(_) | Ended::Overdue(_) | Ended::Well => {}
        }
        ended
    };
    match ended {
        Ended::Well => {}
        Ended::Overdue(order) => tracing::debug!(%peer, ?order, "a client's connection is overdue"),
        Ended::Broken(error) => tracing::debug!(%peer, %error, "a client's connection ended early"),
    }
}

/// How a connection ended.
enum Ended<E> {
    Well,
    Broken(E),
    Overdue(Order),
}

/// Runs the connection to its end, or to that which its worker orders.
async fn until_ordered<C: GracefulConnection + Unpin>(
    connection: &mut C,
    activity: &Activity,
) -> Ended<C::Error> {
    let mut connection = Pin::new(connection);
    let mut was_told = false;
    poll_fn(|context| {
        match activity.poll_order(context) {
            Poll::Ready(Order::Drain) => connection.as_mut().graceful_shutdown(),
            // HTTP/2's clients are told before (RFC 9113 section 6.8). Who does not listen is asked once only.
            Poll::Ready(Order::EndIdle) if !was_told => {
                was_told = true;
                connection.as_mut().graceful_shutdown();
            }
            Poll::Ready(order @ (Order::EndSlowHead | Order::EndIdle)) => {
                return Poll::Ready(Ended::Overdue(order));
            }
            Poll::Pending => {}
        }
        connection.as_mut().poll(context).map(|result| result.map_or_else(Ended::Broken, |()| Ended::Well))
    })
    .await
}

/// What comes before the first request: any order, and any failure, ends it.
async fn unless_ordered<T, E>(activity: &Activity, future: impl Future<Output = Result<T, E>>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| match activity.poll_order(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Result::ok),
    })
    .await
}

/// Refuses what hyper never saw, and ends the connection.
async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), refusal: Refusal) {
    let _ = tokio::time::timeout(DRAIN_MAX, stream.write_all(&bare(refusal))).await;
    linger(stream).await;
}

/// A refusal as the bytes of an HTTP/1.1 answer, for a request that hyper never saw whole.
fn bare(refusal: Refusal) -> Vec<u8> {
    let mut response = refusal.into_response(super::classify::Dialect::OpenAi);
    let length = response.body().len();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(response.body());
    bytes
}

/// Reads on behind the last answer, within bounds: closing with unread bytes would reset the connection, and the client
/// might never see the answer.
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let reading = async {
        let _ = stream.shutdown().await;
        let (mut part, mut seen) = ([0; 4096], 0);
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            seen += count;
            if seen > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_MAX, reading).await;
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

/// An answer's body; its connection counts as busy until it is dropped.
struct Counted {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs HTTP/2's streams on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
