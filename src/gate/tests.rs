use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::core::{BootAges, Phase};

const POOL: PoolId = PoolId(0);

fn gate() -> Gate {
    let config = Config { queue_max: 10, wait_max: Duration::from_secs(300), ..Config::default() };
    let pool = PoolConfig::default();
    Gate::new(config, [(POOL, pool)].into(), Clock::start())
}

fn ask(slots: u32) -> Ask {
    Ask { pool: POOL, tenant: TenantId(0), slots, wait_max: None }
}

fn report(slots: u32) -> AgentReport {
    AgentReport {
        pool: POOL,
        name: None,
        address: SocketAddr::from(([127, 0, 0, 1], 9)),
        instance: None,
        phase: Phase::Ready,
        slots_total: slots,
        slots_busy: 0,
        sample_age: Some(Duration::ZERO),
        heartbeat: Some(Duration::from_secs(60)),
        is_authorized: Some(true),
        is_slots_endpoint_enabled: Some(true),
        error: None,
        zone: None,
        group: None,
        notice: None,
        boot: BootAges::default(),
    }
}

fn up(gate: &Gate, slots: u32) -> Registration {
    let agent = gate.register("a", Some("1"));
    gate.report(agent, &"a".into(), report(slots));
    agent
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    let waker = futures_util::task::noop_waker();
    future.poll(&mut std::task::Context::from_waker(&waker))
}

#[tokio::test(start_paused = true)]
async fn a_free_slot_is_granted_at_the_first_poll() {
    let gate = gate();
    up(&gate, 1);
    let acquire = std::pin::pin!(gate.acquire(ask(1)));
    assert!(matches!(poll_once(acquire), std::task::Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_an_agent() {
    let gate = gate();
    let waiter = tokio::spawn({
        let gate = gate.clone();
        async move { gate.acquire(ask(1)).await }
    });
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(gate.in_flight(), (0, 1));
    up(&gate, 1);
    let permit = waiter.await.unwrap().unwrap();
    assert!(permit.is_cold_start());
    permit.finish();
    assert_eq!(gate.in_flight(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline() {
    let gate = gate();
    let timer = tokio::spawn({
        let gate = gate.clone();
        async move { gate.run_timer().await }
    });
    let clock = Clock::start();
    let answer = gate.acquire(ask(1)).await;
    assert!(matches!(answer, Err(Rejection::QueueTimeout { .. })), "{answer:?}");
    assert_eq!(clock.mono().0.as_secs(), 300);
    timer.abort();
}

#[tokio::test(start_paused = true)]
async fn whatever_is_dropped_gives_its_slot_back() {
    let gate = gate();
    up(&gate, 1);
    let permit = gate.acquire(ask(1)).await.unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(gate.acquire(ask(1)))).collect();
    for wait in &mut waiting {
        assert!(poll_once(wait.as_mut()).is_pending());
    }
    assert_eq!(gate.in_flight(), (1, 3));
    drop(waiting.remove(0));
    assert_eq!(gate.in_flight(), (1, 2), "dropped while it waited");
    drop(permit);
    assert_eq!(gate.in_flight(), (1, 1), "the next one holds the slot");
    drop(waiting.remove(0));
    assert_eq!(gate.in_flight(), (1, 0), "dropped with a grant that it never saw");
    drop(waiting.remove(0));
    assert_eq!(gate.in_flight(), (0, 0));
    assert_eq!(gate.broken(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_answer_cools() {
    let gate = gate();
    up(&gate, 1);
    let mut permit = gate.acquire(ask(1)).await.unwrap();
    permit.mark_sent();
    drop(permit);
    let mut next = std::pin::pin!(gate.acquire(ask(1)));
    assert!(poll_once(next.as_mut()).is_pending(), "llama.cpp may still compute");
    tokio::spawn({
        let gate = gate.clone();
        async move { gate.run_timer().await }
    });
    let clock = Clock::start();
    next.await.unwrap();
    assert_eq!(clock.mono().0.as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_waits_at_the_head_of_the_queue() {
    let gate = gate();
    up(&gate, 1);
    tokio::spawn({
        let gate = gate.clone();
        async move { gate.run_timer().await }
    });
    let first = gate.acquire(ask(1)).await.unwrap();
    let mut second = std::pin::pin!(gate.acquire(ask(1)));
    assert!(poll_once(second.as_mut()).is_pending());
    let again = first.retry(AttemptFailure::CouldNotConnect, "refused".into()).await.unwrap();
    assert!(poll_once(second.as_mut()).is_pending());
    again.finish();
    second.await.unwrap().finish();
    assert_eq!((gate.in_flight(), gate.broken()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_nonce_is_the_same_life() {
    let gate = gate();
    let first = gate.register("a", Some("1"));
    let again = gate.register("a", Some("1"));
    assert_eq!(first.agent, again.agent);
    assert!(again.connection > first.connection);
    let reborn = gate.register("a", Some("2"));
    assert_eq!(reborn.agent.agent, first.agent.agent);
    assert_ne!(reborn.agent.incarnation, first.agent.incarnation);
    assert_ne!(gate.register("b", Some("1")).agent.agent, first.agent.agent);
}

#[tokio::test(start_paused = true)]
async fn an_old_connections_end_does_not_end_its_successor() {
    let gate = gate();
    let old = up(&gate, 1);
    let new = up(&gate, 1);
    gate.disconnected(old);
    assert!(gate.acquire(ask(1)).await.is_ok());
    gate.disconnected(new);
    let mut next = std::pin::pin!(gate.acquire(ask(1)));
    assert!(poll_once(next.as_mut()).is_pending());
}

/// So many waited, and since no fleet is known, somebody else should have started a server.
fn peak(queued: usize) -> Peak {
    Peak { queued, wake_wanted: queued > 0 }
}

#[tokio::test(start_paused = true)]
async fn each_reader_of_the_queue_has_its_own_maximum() {
    let gate = gate();
    let (one, other) = (gate.watch_queue(), gate.watch_queue());
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(gate.acquire(ask(1)))).collect();
    assert!(waiting.iter_mut().all(|request| poll_once(request.as_mut()).is_pending()));
    waiting.truncate(1);
    assert_eq!(
        (one.take_peak(), one.take_peak()),
        (peak(3), peak(1)),
        "the maximum, and then what still waits"
    );
    drop(waiting);
    assert_eq!((one.take_peak(), one.take_peak()), (peak(1), peak(0)));
    assert_eq!((other.take_peak(), other.take_peak()), (peak(3), peak(0)), "nobody took it from the other");
    drop(other);
    up(&gate, 1);
    drop(gate.acquire(ask(1)).await.unwrap());
    assert_eq!(one.take_peak(), peak(0), "a request that found a slot did not wait");
    let late = gate.watch_queue();
    assert_eq!(late.take_peak(), peak(0), "what was before its view is not seen");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_the_queue_is_told_of_a_rise_that_it_has_not_taken() {
    let gate = gate();
    let queue = gate.watch_queue();
    let rises = || tokio::time::timeout(Duration::from_secs(1), queue.until_above(Peak::default()));
    assert!(rises().await.is_err());
    {
        let mut request = std::pin::pin!(gate.acquire(ask(1)));
        let mut rise = std::pin::pin!(queue.until_above(Peak::default()));
        assert!(poll_once(rise.as_mut()).is_pending());
        assert!(poll_once(request.as_mut()).is_pending());
        assert!(poll_once(rise.as_mut()).is_ready(), "at once");
        assert!(rises().await.is_ok(), "while it waits");
        assert_eq!(queue.take_peak(), peak(1));
        assert!(rises().await.is_ok(), "it still waits");
    }
    assert!(rises().await.is_ok(), "a wait that is over was not taken yet");
    assert_eq!(queue.take_peak(), peak(1));
    assert!(rises().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_is_wanted_later_than_the_queue_rose_is_a_rise_of_its_own() {
    let gate = gate();
    let agent = up(&gate, 1);
    let _permit = gate.acquire(ask(1)).await.unwrap();
    let queue = gate.watch_queue();
    let mut request = std::pin::pin!(gate.acquire(ask(1)));
    assert!(poll_once(request.as_mut()).is_pending());
    let told = queue.take_peak();
    assert_eq!(told, Peak { queued: 1, wake_wanted: false }, "a server is there");
    let mut rise = std::pin::pin!(queue.until_above(told));
    assert!(poll_once(rise.as_mut()).is_pending());
    gate.disconnected(agent);
    assert!(poll_once(rise.as_mut()).is_ready(), "at once");
    assert_eq!(queue.take_peak(), peak(1));
}

#[test]
fn a_lock_that_is_held_is_seen_to_be() {
    let gate = gate();
    assert!(gate.is_free());
    let held = gate.lock();
    assert!(!gate.is_free());
    drop(held);
    assert!(gate.is_free());
}
