//! In virtual time: when which bytes come, and what follows them.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{advance, timeout};

use super::*;
use crate::clock::Clock;
use crate::core::Rejection;

const EVENTS: [(Endpoint, &str); 6] = [
    (Endpoint::Chat, ":\n"),
    (Endpoint::OpenAiCompletion, ":\n"),
    (Endpoint::Completion, ":\n"),
    (Endpoint::Infill, ":\n"),
    (Endpoint::Responses, ":\n"),
    (Endpoint::Messages, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
];

fn config() -> KeepaliveConfig {
    KeepaliveConfig {
        after: Some(Duration::from_secs(15)),
        interval: Duration::from_secs(10),
        ..KeepaliveConfig::default()
    }
}

fn streaming(endpoint: Endpoint) -> Keepalive {
    config().plan(Route::Slot(endpoint), Version::HTTP_11, true).unwrap()
}

fn json() -> Keepalive {
    let config = KeepaliveConfig { is_for_json: true, ..config() };
    config.plan(Route::Slot(Endpoint::Chat), Version::HTTP_11, false).unwrap()
}

/// An answer that the test gives, and an account of its being dropped.
struct Work {
    answers: oneshot::Sender<Answer>,
    is_dropped: Rc<Cell<bool>>,
}

fn work() -> (Work, impl Future<Output = Answer>) {
    struct Account(Rc<Cell<bool>>);
    impl Drop for Account {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (answers, answered) = oneshot::channel();
    let is_dropped = Rc::new(Cell::new(false));
    let account = Account(is_dropped.clone());
    let work = async move {
        let _account = account;
        answered.await.unwrap()
    };
    (Work { answers, is_dropped }, work)
}

fn stream(text: &'static str) -> Answer {
    let mut response = Response::new(Body::whole(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(headers::X_QUEUE_MS, HeaderValue::from_static("7"));
    Ok(response)
}

async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

/// Whatever comes within the time.
async fn next_within(body: &mut Body, span: Duration) -> Option<String> {
    timeout(span, next(body)).await.ok().flatten()
}

#[test]
fn whoever_may_be_sent_bytes() {
    let plan = |route, version, is_stream| config().plan(route, version, is_stream).is_some();
    for (endpoint, _) in EVENTS {
        assert!(plan(Route::Slot(endpoint), Version::HTTP_11, true), "{endpoint:?}");
        assert!(plan(Route::Slot(endpoint), Version::HTTP_2, true), "{endpoint:?}");
        assert!(!plan(Route::Slot(endpoint), Version::HTTP_10, true), "{endpoint:?}: no chunks");
        assert!(!plan(Route::Slot(endpoint), Version::HTTP_11, false), "{endpoint:?}: not asked for");
    }
    for endpoint in
        [Endpoint::Embedding, Endpoint::OpenAiEmbedding, Endpoint::Rerank, Endpoint::Transcription]
    {
        assert!(!plan(Route::Slot(endpoint), Version::HTTP_11, true), "{endpoint:?} never streams");
    }
    let json = KeepaliveConfig { is_for_json: true, ..config() };
    let blanks = |route, version| json.plan(route, version, false).is_some();
    assert!(blanks(Route::Slot(Endpoint::Rerank), Version::HTTP_11));
    assert!(blanks(Route::Server(Dialect::LlamaCpp), Version::HTTP_11));
    assert!(!blanks(Route::Slot(Endpoint::Transcription), Version::HTTP_11), "it may be text");
    assert!(!blanks(Route::Slot(Endpoint::Rerank), Version::HTTP_10));
    let off = KeepaliveConfig { after: None, ..json };
    assert!(off.plan(Route::Slot(Endpoint::Chat), Version::HTTP_11, true).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_passed_as_it_is() {
    let (work, future) = work();
    let answering = answer(Box::pin(future), streaming(Endpoint::Chat), None, None);
    let give = async {
        sleep(Duration::from_millis(14_999)).await;
        drop(work.answers.send(Err(Refusal::BytesFull)));
    };
    let (answer, ()) = tokio::join!(answering, give);
    assert!(matches!(answer, Err(Refusal::BytesFull)), "with its own status");
}

#[tokio::test(start_paused = true)]
async fn bytes_come_from_then_on_until_the_answer_and_never_again() {
    for (endpoint, expected) in EVENTS {
        let clock = Clock::start();
        let (work, future) = work();
        let response = answer(Box::pin(future), streaming(endpoint), None, None).await.unwrap();
        assert_eq!(clock.mono().0.as_secs(), 15, "{endpoint:?}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        let mut body = response.into_body();
        assert!(body.size_hint().exact().is_none() && !body.is_end_stream());
        for seconds in [15, 25, 35] {
            assert_eq!(next(&mut body).await.as_deref(), Some(expected), "{endpoint:?}");
            assert_eq!(clock.mono().0.as_secs(), seconds, "{endpoint:?}");
        }
        assert_eq!(next_within(&mut body, Duration::from_secs(9)).await, None);
        drop(work.answers.send(stream("data: 1\n\n")));
        assert_eq!(next(&mut body).await.as_deref(), Some(": x-paddock-queue-ms=7\n"));
        advance(Duration::from_secs(60)).await;
        assert_eq!(next(&mut body).await.as_deref(), Some("data: 1\n\n"));
        assert_eq!(next(&mut body).await, None);
    }
}

/// A stream that the test begins.
fn slow_stream() -> (oneshot::Sender<Answer>, Answer) {
    let (begins, begun) = oneshot::channel::<Answer>();
    let rest = Box::pin(async move {
        let response = begun.await.unwrap().unwrap();
        Rest { first: None, then: response.into_body() }
    });
    let silent = Keepalive { interval: Duration::from_secs(1 << 20), ..streaming(Endpoint::Chat) };
    let mut held = Held::beginning(Body::whole(""), silent, None, Box::pin(sleep(silent.interval)));
    held.wait_for(rest);
    let mut response = stream("").unwrap();
    *response.body_mut() = Body::Held(Box::new(held));
    (begins, Ok(response))
}

#[tokio::test(start_paused = true)]
async fn a_head_alone_is_not_the_first_byte() {
    for is_late in [false, true] {
        let clock = Clock::start();
        let (work, future) = work();
        let (begins, given) = slow_stream();
        let give = async {
            sleep(Duration::from_secs(if is_late { 16 } else { 1 })).await;
            drop(work.answers.send(given));
        };
        let (response, ()) =
            tokio::join!(answer(Box::pin(future), streaming(Endpoint::Messages), None, None), give);
        let mut body = response.unwrap().into_body();
        let mut seen = Vec::new();
        while clock.mono().0.as_secs() < 35 {
            seen.push(next(&mut body).await.unwrap());
        }
        let pings = seen.iter().filter(|piece| piece.as_str() == words::PING).count();
        let facts = seen.len() - pings;
        assert_eq!((pings, facts), (3, usize::from(is_late)), "at 15, 25 and 35 s: {seen:?}");
        drop(begins.send(stream("data: 1\n\n")));
        assert_eq!(next(&mut body).await.as_deref(), Some("data: 1\n\n"));
        assert!(!matches!(body, Body::Held(_)), "nothing is left to do here");
        assert_eq!(next(&mut body).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_a_length_is_not_added_to() {
    let (work, future) = work();
    drop(work.answers.send(stream("data: 1\n\n")));
    let response = answer(Box::pin(future), streaming(Endpoint::Chat), None, None).await.unwrap();
    assert!(matches!(response.body(), Body::Whole(_)));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_did_not_read_is_not_made_up_for() {
    let (_work, future) = work();
    let mut body = answer(Box::pin(future), streaming(Endpoint::Chat), None, None).await.unwrap().into_body();
    assert_eq!(next(&mut body).await.as_deref(), Some(":\n"));
    advance(Duration::from_secs(100)).await;
    assert_eq!(next(&mut body).await.as_deref(), Some(":\n"));
    assert_eq!(next_within(&mut body, Duration::from_secs(9)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_is_an_event() {
    for (endpoint, _) in EVENTS {
        let (work, future) = work();
        let mut body = answer(Box::pin(future), streaming(endpoint), None, None).await.unwrap().into_body();
        next(&mut body).await;
        drop(work.answers.send(Err(Refusal::Rejected(Rejection::ShuttingDown))));
        let event = next(&mut body).await.unwrap();
        assert!(event.contains("\"code\":\"shutting_down\"") && event.contains("\"status\":503"), "{event}");
        assert!(event.ends_with("\n\n"));
        assert_eq!(next(&mut body).await, None, "{endpoint:?}");
        assert!(body.is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_joined_on_is_an_event() {
    let error = r#"{"error":{"code":400,"message":"no such thing","type":"invalid_request_error"}}"#;
    let mut refused = Response::new(Body::whole(error));
    *refused.status_mut() = StatusCode::BAD_REQUEST;
    let mut packed = stream("\u{1f}packed").unwrap();
    packed.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let long = Response::new(Body::whole("x".repeat(2 * ANSWER_BYTES_MAX)));
    for (response, says) in [
        (
            refused,
            "\"message\":\"no such thing\",\"type\":\"invalid_request_error\",\"code\":\"400\",\"status\":400",
        ),
        (packed, "\"code\":\"200\""),
        (long, "no event stream"),
    ] {
        let (work, future) = work();
        let mut body =
            answer(Box::pin(future), streaming(Endpoint::Chat), None, None).await.unwrap().into_body();
        next(&mut body).await;
        drop(work.answers.send(Ok(response)));
        let event = next(&mut body).await.unwrap();
        assert!(event.starts_with("data: {\"error\":{") && event.contains(says), "{event}");
        assert_eq!(next(&mut body).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_the_work_along() {
    let (early, future) = work();
    let answering = answer(Box::pin(future), streaming(Endpoint::Chat), None, None);
    assert!(timeout(Duration::from_secs(1), answering).await.is_err());
    assert!(early.is_dropped.get(), "before the first byte");

    let (late, future) = work();
    let mut response = answer(Box::pin(future), streaming(Endpoint::Chat), None, None).await.unwrap();
    next(response.body_mut()).await;
    assert!(!late.is_dropped.get());
    drop(response);
    assert!(late.is_dropped.get(), "after it");
}

#[tokio::test(start_paused = true)]
async fn blanks_before_json_are_json() {
    for (given, expected) in [
        (Ok(Response::new(Body::whole(r#"{"a":1}"#))), r#"  {"a":1}"#),
        (Err(Refusal::NoServer), r#"  {"error":{"message":"#),
    ] {
        let (work, future) = work();
        let response = answer(Box::pin(future), json(), None, None).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let mut body = response.into_body();
        let mut text = next(&mut body).await.unwrap() + &next(&mut body).await.unwrap();
        drop(work.answers.send(given));
        while let Some(more) = next(&mut body).await {
            text += &more;
        }
        assert!(text.starts_with(expected), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_read_no_further_than_its_limit() {
    let body = Body::whole(Bytes::from(vec![b'x'; 3 * ANSWER_BYTES_MAX]));
    assert_eq!(start_of(body).await.len(), ANSWER_BYTES_MAX);
}
