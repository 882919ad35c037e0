//! Those who watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, JoinSet};

use super::super::auth::Admitted;
use super::super::events::{AT_ONCE, EVENT_INTERVAL, TURNS, WATCHERS_MAX, events, produce};
use super::super::fixture::{POOL, Served, Stream, config, gate, report, soon, until};
use super::super::{END_GRACE, Shared};
use super::{message, status};
use crate::clock::Clock;
use crate::core::{AgentReport, TenantId};
use crate::dashboard::Snapshot;
use crate::gate::Ask;

/// The feed alone, without connections.
struct Fed {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Fed {
    fn start() -> Self {
        let clock = Clock::start();
        let config = config(None, false, ([127, 0, 0, 1], 9).into());
        let cancel = tokio_util::sync::CancellationToken::new();
        let shared = Arc::new(Shared::new(config, gate(clock), clock, cancel));
        let task = tokio::spawn(produce(shared.clone()));
        Self { shared, task }
    }

    async fn watch(&self, admitted: Admitted) -> Response {
        events(State(self.shared.clone()), Extension(admitted)).await
    }
}

/// The next event's bytes; none at the end of the stream.
async fn next(watcher: &mut Response) -> Option<bytes::Bytes> {
    let frame = soon(watcher.body_mut().frame()).await?;
    Some(frame.unwrap().into_data().unwrap())
}

fn state(event: &[u8]) -> Snapshot {
    let text = std::str::from_utf8(event).unwrap();
    let data = text.strip_prefix("event: state\nretry: 1000\ndata: ").unwrap();
    let data = data.strip_suffix("\n\n").unwrap();
    assert!(!data.contains('\n'));
    serde_json::from_str(data).unwrap()
}

impl Stream {
    /// Until this was received, which is given as well.
    async fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            text.push(soon(self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// The data of the next event.
    async fn event(&mut self) -> Value {
        self.until("data: ").await;
        serde_json::from_str(&self.until("\n\n").await).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_event_comes_at_once_and_the_next_within_the_interval() {
    let served = Served::piped(None, false);
    let clock = Clock::start();
    let mut stream = served.begin("/api/v1/events", "").await;
    let head = stream.until("\r\n\r\n").await;
    assert_eq!(status(&head), "200", "{head}");
    for header in
        ["content-type: text/event-stream", "cache-control: no-cache, no-store", "x-accel-buffering: no"]
    {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
    }
    let event = stream.event().await;
    assert_eq!((&event["version"], &event["agents"][0]), (&env!("CARGO_PKG_VERSION").into(), &Value::Null));
    assert!(clock.mono().0 < EVENT_INTERVAL, "{:?}", clock.mono());

    tokio::time::sleep(EVENT_INTERVAL / 2).await;
    let mut second = served.begin("/api/v1/events", "").await;
    second.event().await;
    assert!(clock.mono().0 < EVENT_INTERVAL, "so does another's: {:?}", clock.mono());

    let agent = served.gate.register("a", None);
    served.gate.report(agent, &"a".into(), report(9, 3));
    let event = stream.event().await;
    assert_eq!(event["pools"][0]["slots_total"], 3);
    assert!(clock.mono().0 < 2 * EVENT_INTERVAL, "{:?}", clock.mono());
    let keys: Vec<_> = event.as_object().unwrap().keys().cloned().collect();
    let state = served.json("/api/v1/state").await;
    assert_eq!(keys, state.as_object().unwrap().keys().cloned().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_state_is_read_once_for_all_and_not_at_all_for_nobody() {
    let fed = Fed::start();
    let mut watchers = Vec::new();
    for _ in 0..10 {
        watchers.push(fed.watch(Admitted::Entirely).await);
    }
    for _ in 0..3 {
        let mut written = Vec::new();
        for watcher in &mut watchers {
            written.push(next(watcher).await.unwrap());
        }
        assert!(written.iter().all(|event| event.as_ptr() == written[0].as_ptr()), "it is one and the same");
    }
    drop(watchers);
    tokio::time::sleep(2 * EVENT_INTERVAL).await;
    assert!(fed.shared.feed.is_at_rest());
    tokio::time::sleep(Duration::from_secs(100)).await;
    let late = fed.shared.clock.now().wall.as_secs_f64();
    let mut watcher = fed.watch(Admitted::Entirely).await;
    assert!(state(&next(&mut watcher).await.unwrap()).at_seconds >= late, "not what was told long ago");
}

/// So many watch at once: when each was told for the second time, which is the first of its turns.
async fn turns(fed: &Fed, watchers: usize) -> BTreeMap<Duration, usize> {
    let clock = fed.shared.clock;
    let mut watching = JoinSet::new();
    let began = clock.mono().0;
    for _ in 0..watchers {
        let mut watcher = fed.watch(Admitted::Entirely).await;
        next(&mut watcher).await.unwrap();
        assert_eq!(clock.mono().0, began, "the first comes at once");
        watching.spawn(async move {
            next(&mut watcher).await.unwrap();
            let second = clock.mono().0;
            for _ in 0..20 {
                next(&mut watcher).await.unwrap();
            }
            (second, clock.mono().0 - second)
        });
    }
    let mut told = BTreeMap::new();
    while let Some(seen) = watching.join_next().await {
        let (second, rest) = seen.unwrap();
        assert!(rest.abs_diff(20 * EVENT_INTERVAL) <= TICK, "each second: {rest:?}");
        *told.entry(second - began).or_default() += 1;
    }
    told
}

/// Timers know no less.
const TICK: Duration = Duration::from_millis(1);

/// A thousand writes at once would hold up everything else for as long as they take.
#[tokio::test(start_paused = true)]
async fn many_are_told_one_after_the_other_and_each_once_in_an_interval() {
    let told = turns(&Fed::start(), 1000).await;
    let (first, last) = (*told.keys().next().unwrap(), *told.keys().last().unwrap());
    assert!(first.abs_diff(EVENT_INTERVAL) <= TICK && last <= 2 * EVENT_INTERVAL, "{first:?} {last:?}");
    let at_once = 1000_usize.div_ceil(TURNS as usize);
    assert!(told.values().skip(1).all(|&count| count <= at_once), "{told:?}");
    // In each tenth of the second about a tenth.
    let mut tenths = [0; 11];
    for (at, count) in &told {
        tenths[((*at - EVENT_INTERVAL).as_millis() / 100) as usize] += count;
    }
    assert!(tenths[..10].iter().all(|count| (85..=125).contains(count)), "{tenths:?}");

    let told = turns(&Fed::start(), AT_ONCE + 4).await;
    let after: Vec<u128> =
        told.keys().map(|at| at.saturating_sub(EVENT_INTERVAL).as_millis() / 50 * 50).collect();
    assert_eq!(after, [0, 250, 500, 750], "any number is spread evenly: {told:?}");
    let told = turns(&Fed::start(), AT_ONCE).await;
    assert_eq!(told.len(), 1, "a few are told at once: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn as_many_may_watch_as_there_is_room_for() {
    let fed = Fed::start();
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        let mut watcher = fed.watch(Admitted::Entirely).await;
        assert_eq!(watcher.status(), StatusCode::OK);
        next(&mut watcher).await.unwrap();
        watchers.push(watcher);
    }
    let refused = fed.watch(Admitted::Entirely).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let words = std::str::from_utf8(&body).unwrap();
    assert!(words.contains(&format!("{WATCHERS_MAX} watch already")), "{words}");
    const { assert!(super::super::CONNECTIONS_MAX >= 2 * WATCHERS_MAX, "agents need the rest") };
    watchers.pop();
    assert_eq!(fed.watch(Admitted::Entirely).await.status(), StatusCode::OK);
}

/// The clock is paused, so hundreds of events are told in a moment. What the kernel keeps besides is a setting of sockets.
#[tokio::test(start_paused = true)]
async fn nothing_queues_up_for_one_who_does_not_read() {
    const REPORTS: u32 = 300;
    let served = Served::piped(None, false);
    let mut stream = served.begin("/api/v1/events", "").await;
    let agent = served.gate.register("a", None);
    for number in 1..=REPORTS {
        // As long as a state with some dozens of agents.
        let error = Some("x".repeat(16 * 1024).into());
        served.gate.report(agent, &"a".into(), AgentReport { error, ..report(9, number) });
        tokio::time::sleep(EVENT_INTERVAL).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&u64::from(REPORTS)) {
        seen.push(stream.event().await["pools"][0]["slots_total"].as_u64().unwrap_or(0));
    }
    assert!(seen.len() <= 6, "{} events were kept: {seen:?}", seen.len());
}

#[tokio::test]
async fn the_end_of_the_balancer_is_the_end_of_the_stream() {
    let served = Served::start(None).await;
    let mut stream = served.begin("/api/v1/events", "").await;
    stream.event().await;
    let clock = Clock::start();
    served.cancel.cancel();
    let rest = stream.answer().await;
    assert!(rest.ends_with("0\r\n\r\n"), "it is whole: {rest}");
    soon(served.task).await.unwrap();
    assert!(clock.mono().0 < END_GRACE / 2, "at once, and not by force: {:?}", clock.mono());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_is_the_end_of_the_stream() {
    let fed = Fed::start();
    let mut watcher = fed.watch(Admitted::Session(Duration::from_secs(5))).await;
    let mut events = 0;
    while next(&mut watcher).await.is_some() {
        events += 1;
        assert!(events < 10, "it goes on");
    }
    assert!((5..=6).contains(&events), "{events}");
    assert_eq!(fed.shared.clock.mono().0.as_secs(), 5);
    let mut watcher = fed.watch(Admitted::Entirely).await;
    for _ in 0..100 {
        next(&mut watcher).await.unwrap();
    }
    fed.shared.cancel.cancel();
    soon(fed.task).await.unwrap();
    assert!(next(&mut watcher).await.is_none());
}

#[tokio::test]
async fn watching_needs_the_token() {
    let served = Served::start(Some("sesame")).await;
    for path in ["/api/v1/events", "/api/v1/timeline"] {
        let answer = served.ask("GET", path, "").await;
        assert_eq!(status(&answer), "401", "{answer}");
        assert!(message(&answer).contains("management token"));
    }
    let mut stream = served.begin("/api/v1/events", "Authorization: Bearer sesame\r\n").await;
    assert_eq!(stream.event().await["leases"], 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_hour_is_told_in_steps() {
    let served = Served::piped(None, false);
    let others = served.gate.watch_queue();
    let empty = served.json("/api/v1/timeline").await;
    assert_eq!(empty, serde_json::json!({ "step_seconds": 10.0, "points": [] }));
    let gate = served.gate.clone();
    let waiting = tokio::spawn(async move {
        let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
        gate.acquire(ask).await.map(drop)
    });
    until(|| served.gate.in_flight().1 == 1).await;
    waiting.abort();
    until(|| served.gate.in_flight().1 == 0).await;
    let agent = served.gate.register("a", None);
    served.gate.report(agent, &"a".into(), report(9, 4));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let points = served.json("/api/v1/timeline").await["points"].take();
    let point = |at: usize| {
        ["requests_buffered", "slots_total", "slots_processing", "instances"]
            .map(|name| points[at][name].clone())
    };
    assert_eq!(
        (point(0), point(1)),
        ([1, 4, 0, 0].map(Value::from), [0, 4, 0, 0].map(Value::from)),
        "{points}"
    );
    assert_eq!(others.take_peak().queued, 1, "nobody else's maximum was taken");
    until(|| served.agents() == (1, 4)).await;
}
