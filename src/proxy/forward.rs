//! The attempts of one request, until an answer begins.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;

use super::account::Account;
use super::answer::{Body, Passing, in_words};
use super::classify::Dialect;
use super::error::Refusal;
use super::headers::{self, Forwarded};
use super::upstream::{Connection, Connections};
use crate::core::AttemptFailure;
use crate::gate::{Interruption, Permit, Upstream};
use crate::metrics::UpstreamError;

/// The longest body of a 503 that is read to see whether the model still loads.
const LOADING_BYTES_MAX: usize = 16 * 1024;

/// What is changed in every request.
#[derive(Debug)]
pub(super) struct TowardServers {
    /// Replaces the client's key.
    pub(super) authorization: Option<HeaderValue>,
    /// Whether `Host` names the server.
    pub(super) rewrites_host: bool,
}

/// A request as the servers get it: good for any number of attempts.
#[derive(Debug)]
pub(super) struct Outgoing {
    parts: Box<Parts>,
    body: Bytes,
    rewrites_host: bool,
}

impl Outgoing {
    pub(super) fn new(
        mut parts: Box<Parts>,
        body: Bytes,
        forwarded: &Forwarded,
        toward: &TowardServers,
    ) -> Self {
        // A host in the target (HTTP/2's, or a proxy's own form) wins over the header (RFC 9112 section 3.2.2); the target
        // itself is shortened to the server's form.
        let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if parts.uri.authority().is_some() || parts.uri.path_and_query().is_none() {
            let path = parts.uri.path_and_query().cloned();
            parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        let has_body =
            !body.is_empty() || !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let key = toward.authorization.as_ref();
        headers::toward_server(&mut parts.headers, forwarded, host, key, has_body.then_some(body.len()));
        Self { parts, body, rewrites_host: toward.rewrites_host }
    }

    pub(super) fn is_get(&self) -> bool {
        self.parts.method == Method::GET
    }

    fn attempt(&self, upstream: &Upstream) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = self.parts.headers.clone();
        if (self.rewrites_host || !self.parts.headers.contains_key(header::HOST))
            && let Ok(host) = HeaderValue::from_str(&upstream.address.to_string())
        {
            request.headers_mut().insert(header::HOST, host);
        }
        request
    }
}

/// How one attempt went.
enum Attempt {
    Answered(Response<Incoming>, Connection),
    /// A 503 of the server's own, read whole, that is not about loading.
    Refused(Response<Bytes>, Connection),
    Failed(AttemptFailure, Arc<str>),
    /// The answer did not begin in time. The server may compute still, so the request is not sent to another.
    Overdue(Duration),
}

/// What ends an attempt from outside.
enum Stop {
    Interrupted(Interruption),
    Overdue(Duration),
}

/// Sends the request until an answer begins.
///
/// 1. No connection: the request waits again, and the agent is left alone.
/// 2. `503 Loading model`: the same.
/// 3. A reused connection that died without a byte: once more on a fresh one, under the same lease. llama.cpp closes
///    idle connections after 5 s, so this is routine.
/// 4. A fresh connection that died after it got the request, or an instance that is lost: the request waits again, once.
/// 5. An instance that is about to end: the request waits again.
/// 6. An answer that does not begin in time ends the request.
/// 7. Anything else is the answer.
///
/// # Errors
/// Why there is none.
pub(super) async fn forward(
    connections: &Rc<Connections>,
    outgoing: &Outgoing,
    mut permit: Permit,
    dialect: Dialect,
    account: &mut Option<Account>,
) -> Result<(Response<Body>, Sent), Refusal> {
    let clock = connections.meter.clock;
    let mut waited_again = Duration::ZERO;
    loop {
        let upstream = permit.upstream().clone();
        if let Some(account) = account {
            account.attempt(&upstream, Some(permit.is_cold_start()));
        }
        let sent = Sent { by: upstream.clone(), is_cold_start: permit.is_cold_start(), waited_again };
        match attempt(connections, outgoing, &upstream, Some(&mut permit)).await {
            Attempt::Answered(response, connection) => {
                permit.mark_answering();
                return Ok((
                    passing(connections, response, connection, Some(permit), &upstream, dialect),
                    sent,
                ));
            }
            Attempt::Refused(response, connection) => {
                permit.finish();
                connections.put(upstream.agent, connection);
                return Ok((whole(response), sent));
            }
            Attempt::Failed(kind, cause) => {
                tracing::debug!(agent = %upstream.name, ?kind, %cause, "an attempt failed");
                connections.meter.attempt_failed(kind);
                let failed = clock.mono();
                let answer = Box::pin(permit.retry(kind, cause)).await;
                let waited = clock.mono().since(failed);
                waited_again += waited;
                account.iter_mut().for_each(|account| account.waited(waited));
                permit = answer.map_err(Refusal::Rejected)?;
            }
            Attempt::Overdue(after) => {
                connections.meter.failed(UpstreamError::Timeout);
                return Err(Refusal::UpstreamTimeout { after });
            }
        }
    }
}

/// What is told about an attempt that was answered.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) by: Arc<Upstream>,
    pub(super) is_cold_start: bool,
    /// For the next slot, after attempts that failed.
    pub(super) waited_again: Duration,
}

/// Sends a request that takes no lease to a server that is up. It is tried once.
///
/// # Errors
/// The server failed.
pub(super) async fn forward_live(
    connections: &Rc<Connections>,
    outgoing: &Outgoing,
    upstream: &Arc<Upstream>,
    dialect: Dialect,
    account: &mut Option<Account>,
) -> Result<(Response<Body>, Sent), Refusal> {
    if let Some(account) = account {
        account.attempt(upstream, None);
    }
    let sent = Sent { by: upstream.clone(), is_cold_start: false, waited_again: Duration::ZERO };
    match attempt(connections, outgoing, upstream, None).await {
        Attempt::Answered(response, connection) => {
            Ok((passing(connections, response, connection, None, upstream, dialect), sent))
        }
        Attempt::Refused(response, connection) => {
            connections.put(upstream.agent, connection);
            Ok((whole(response), sent))
        }
        Attempt::Failed(kind, cause) => {
            connections.meter.attempt_failed(kind);
            Err(Refusal::Upstream(cause))
        }
        Attempt::Overdue(after) => {
            connections.meter.failed(UpstreamError::Timeout);
            Err(Refusal::UpstreamTimeout { after })
        }
    }
}

async fn attempt(
    connections: &Rc<Connections>,
    outgoing: &Outgoing,
    upstream: &Upstream,
    mut permit: Option<&mut Permit>,
) -> Attempt {
    let mut reusable = connections.take(upstream.agent);
    // Whether a stale connection took the request along. It may not have been stale: then the server died of the request,
    // and is not there any more, or starts again.
    let mut may_have_killed = false;
    let failed = |kind, cause, may_have_killed| {
        Attempt::Failed(if may_have_killed { AttemptFailure::Died } else { kind }, cause)
    };
    let died = |why: &str| {
        let cause = format!("{} died with the request: {why}", upstream.address);
        Attempt::Failed(AttemptFailure::Died, cause.into())
    };
    let interrupted = |why: Interruption| match why {
        Interruption::Lost => died("its instance is gone"),
        Interruption::Recalled => {
            Attempt::Failed(AttemptFailure::Recalled, format!("{} is about to end", upstream.address).into())
        }
    };
    loop {
        let mut connection = match reusable.take() {
            Some(connection) => connection,
            None => match Box::pin(Connection::open(upstream, connections.limits.connect_max)).await {
                Ok(connection) => connection,
                Err(cause) => return failed(AttemptFailure::CouldNotConnect, cause, may_have_killed),
            },
        };
        if let Some(permit) = &mut permit {
            permit.mark_sent();
        }
        // Pinned where it is made: a future that is handed on takes its room once more.
        let mut answer = pin!(connection.send(outgoing.attempt(upstream)));
        let first_byte_max = connections.limits.first_byte_max;
        let mut late = first_byte_max.map(|most| (most, Box::pin(tokio::time::sleep(most))));
        let result = poll_fn(|context| {
            if let Poll::Ready(result) = connection.poll_head(answer.as_mut(), context) {
                return Poll::Ready(Ok(result));
            }
            if let Some(permit) = &permit
                && let Poll::Ready(why) = permit.poll_interrupted(context)
            {
                return Poll::Ready(Err(Stop::Interrupted(why)));
            }
            match &mut late {
                Some((most, late)) => late.as_mut().poll(context).map(|()| Err(Stop::Overdue(*most))),
                None => Poll::Pending,
            }
        })
        .await;
        match result {
            Err(Stop::Interrupted(why)) => return interrupted(why),
            Err(Stop::Overdue(after)) => return Attempt::Overdue(after),
            Ok(Ok(response)) if is_coded(&response) => {
                return died("it answers in a transfer coding that nobody asked for");
            }
            Ok(Ok(response)) if is_short_503(&response) => {
                return match unless_interrupted(
                    permit.as_deref(),
                    Box::pin(read_503(&mut connection, response)),
                )
                .await
                {
                    Err(why) => interrupted(why),
                    Ok(Err(why)) => died(&why),
                    Ok(Ok(None)) => {
                        failed(AttemptFailure::NotReady, "the model is loading".into(), may_have_killed)
                    }
                    Ok(Ok(Some(response))) => Attempt::Refused(response, connection),
                };
            }
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return died("it switches protocols, which nobody asked for");
            }
            Ok(Ok(response)) => return Attempt::Answered(response, connection),
            Ok(Err(error)) => {
                let was_sent = !error.is_canceled();
                if !connection.was_stale() {
                    return died(&in_words(&error));
                }
                may_have_killed = was_sent;
            }
        }
    }
}

/// Runs to the end, unless the instance under the attempt is about to end, or lost before.
async fn unless_interrupted<F: Future>(
    permit: Option<&Permit>,
    future: F,
) -> Result<F::Output, Interruption> {
    let future = std::pin::pin!(future);
    match permit {
        Some(permit) => permit.unless_interrupted(future).await,
        None => Ok(future.await),
    }
}

/// Whether the body has a transfer coding but chunks, which only HTTP/1.1 has: it cannot be passed on as what it is.
fn is_coded(response: &Response<Incoming>) -> bool {
    let mut codings = response.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => {
            response.version() != Version::HTTP_11 || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => true,
    }
}

/// Whether a 503 may be about loading, which is told in a few words.
fn is_short_503(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE
        && response.body().size_hint().lower() <= LOADING_BYTES_MAX as u64
}

/// Tells llama.cpp's `503 Loading model` (none) from other 503s.
async fn read_503(
    connection: &mut Connection,
    response: Response<Incoming>,
) -> Result<Option<Response<Bytes>>, String> {
    let (parts, body) = response.into_parts();
    let body = connection.read(body, LOADING_BYTES_MAX).await?;
    Ok((!is_loading(&body)).then(|| Response::from_parts(parts, body)))
}

fn is_loading(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Outer {
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        message: String,
    }
    serde_json::from_slice::<Outer>(body).is_ok_and(|outer| outer.error.message == "Loading model")
}

fn passing(
    connections: &Rc<Connections>,
    response: Response<Incoming>,
    connection: Connection,
    permit: Option<Permit>,
    upstream: &Upstream,
    dialect: Dialect,
) -> Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    // RFC 9112 section 6.3: a length beside chunks is not that of the body.
    if incoming.size_hint().exact().is_none() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let stream = headers::is_event_stream(&parts.headers).then_some(dialect);
    let body = Passing::new(incoming, connection, permit, connections.clone(), upstream.agent, stream);
    Response::from_parts(parts, Body::Passing(Box::new(body)))
}

fn whole(response: Response<Bytes>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    Response::from_parts(parts, Body::whole(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_llama_cpps_own_words_mean_loading() {
        let loading = br#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        assert!(is_loading(loading));
        assert!(!is_loading(br#"{"error":{"message":"no slot available"}}"#));
        assert!(!is_loading(b"Loading model"));
    }
}
