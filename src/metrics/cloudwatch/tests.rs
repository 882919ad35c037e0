use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::time::{sleep, timeout};

use super::*;
use crate::core::TenantId;
use crate::gate::Ask;
use crate::management::fixture::{POOL, gate, report};

/// How one put goes: how many seconds it takes, and whether it works.
#[derive(Debug, Clone, Copy)]
struct Fate(u64, bool);

const WORKS: Fate = Fate(0, true);
const FAILS: Fate = Fate(0, false);

/// A published gateway in virtual time.
struct Story {
    gate: Gate,
    clock: Clock,
    puts: Puts,
    /// Of the puts to come; those after the last one work.
    fates: RefCell<VecDeque<Fate>>,
    /// When each put began, in milliseconds, and the queue's maximum that it told.
    told: RefCell<Vec<(u128, u64)>>,
    /// Whether each told that a wake is wanted.
    wanted: RefCell<Vec<bool>>,
}

impl Story {
    fn new(fates: &[Fate]) -> Self {
        let clock = Clock::start();
        Self {
            gate: gate(clock),
            clock,
            puts: Puts::default(),
            fates: RefCell::new(fates.iter().copied().collect()),
            told: RefCell::default(),
            wanted: RefCell::default(),
        }
    }

    /// Publishes beside `happening`, and returns what was told.
    async fn told_while(&self, happening: impl Future<Output = ()>) -> Vec<(u128, u64)> {
        tokio::select! {
            () = publish(&self.gate, self.clock, &self.puts, self) => unreachable!("it goes on for ever"),
            () = happening => self.told.take(),
        }
    }

    /// So many requests wait for so long.
    async fn wait(&self, requests: usize, milliseconds: u64) {
        let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
        let all = futures_util::future::join_all((0..requests).map(|_| self.gate.acquire(ask)));
        assert!(timeout(Duration::from_millis(milliseconds), all).await.is_err());
    }
}

impl Put for &Story {
    async fn put(&mut self, reading: Reading) -> Result<(), CallError> {
        self.told.borrow_mut().push((self.clock.mono().0.as_millis(), reading.peak.queued as u64));
        self.wanted.borrow_mut().push(reading.peak.wake_wanted);
        let Fate(seconds, works) = self.fates.borrow_mut().pop_front().unwrap_or(WORKS);
        sleep(Duration::from_secs(seconds)).await;
        if works { Ok(()) } else { Err(CallError::NoRegion) }
    }
}

async fn seconds(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_gateway_gives_a_sign_of_life_each_minute() {
    let story = Story::new(&[]);
    assert_eq!(story.told_while(seconds(150)).await, [(0, 0), (60_000, 0), (120_000, 0)]);
    assert_eq!(story.puts.snapshot(), PutsSnapshot { puts: 3, failures: 0, last_error: None });
}

#[tokio::test(start_paused = true)]
async fn a_rise_is_told_at_once_then_each_ten_seconds_and_its_end_too() {
    let story = Story::new(&[]);
    let told = story
        .told_while(async {
            seconds(5).await;
            story.wait(1, 100).await;
            story.wait(3, 21_900).await;
            seconds(100).await;
        })
        .await;
    // The three came after the first put of the one.
    assert_eq!(told, [(0, 0), (5_000, 1), (15_000, 3), (25_000, 3), (35_000, 3), (45_000, 0), (105_000, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_comes_and_goes_does_not_cost_a_call_each_time() {
    let story = Story::new(&[]);
    let told = story
        .told_while(async {
            seconds(1).await;
            for _ in 0..295 {
                story.wait(2, 50).await;
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    assert_eq!(told, [(0, 0), (1_000, 2), (11_000, 2), (21_000, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_whose_put_failed_is_told_by_the_next_one() {
    let story = Story::new(&[WORKS, FAILS, FAILS]);
    let told = story
        .told_while(async {
            seconds(1).await;
            story.wait(7, 10).await;
            seconds(40).await;
        })
        .await;
    let peaks: Vec<u64> = told.iter().map(|&(_, peak)| peak).collect();
    assert_eq!(peaks, [0, 7, 7, 7, 0], "{told:?}");
    let PutsSnapshot { puts, failures, last_error } = story.puts.snapshot();
    assert_eq!((puts, failures, last_error), (3, 2, None));
}

#[tokio::test(start_paused = true)]
async fn a_burst_during_a_put_that_takes_long_is_told_after_it() {
    let story = Story::new(&[WORKS, Fate(25, false)]);
    let told = story
        .told_while(async {
            seconds(1).await;
            story.wait(2, 10).await;
            seconds(5).await;
            story.wait(5, 10).await;
            seconds(60).await;
        })
        .await;
    assert_eq!(told, [(0, 0), (1_000, 2), (26_000, 5), (36_000, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_that_hangs_gives_way_to_a_rise() {
    let story = Story::new(&[Fate(25, false)]);
    let told = story
        .told_while(async {
            seconds(3).await;
            story.wait(1, 1_000).await;
        })
        .await;
    assert_eq!(told, [(0, 0), (3_000, 1)]);
    assert_eq!(story.puts.snapshot(), PutsSnapshot { puts: 1, failures: 0, last_error: None });
}

#[tokio::test(start_paused = true)]
async fn what_waited_before_it_began_is_told_first() {
    let story = Story::new(&[]);
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let mut waiting = std::pin::pin!(story.gate.acquire(ask));
    assert!(timeout(Duration::from_millis(1), waiting.as_mut()).await.is_err());
    let told = story.told_while(seconds(1)).await;
    assert_eq!(told.iter().map(|&(_, peak)| peak).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_shows_its_mend_until_a_put_works() {
    let story = Story::new(&[FAILS]);
    story.told_while(seconds(30)).await;
    let error = story.puts.snapshot().last_error.unwrap();
    assert!(error.contains("AWS_REGION"), "{error}");
    story.told_while(seconds(1)).await;
    assert_eq!(story.puts.snapshot(), PutsSnapshot { puts: 1, failures: 1, last_error: None });
}

/// A wish that nobody could put.
#[tokio::test(start_paused = true)]
async fn a_wake_that_is_wanted_is_told_at_once_and_until_a_put_worked() {
    let story = Story::new(&[WORKS, WORKS, FAILS, FAILS]);
    let wanted = RefCell::new(Vec::new());
    let told = story
        .told_while(async {
            let agent = story.gate.register("a", None);
            story.gate.report(agent, &"a".into(), report(1, 1));
            let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
            let permit = story.gate.acquire(ask).await.unwrap();
            seconds(1).await;
            let mut waiting = std::pin::pin!(story.gate.acquire(ask));
            assert!(timeout(Duration::from_secs(3), waiting.as_mut()).await.is_err());
            story.gate.disconnected(agent);
            assert!(timeout(Duration::from_secs(1), waiting.as_mut()).await.is_err());
            let again = story.gate.register("b", None);
            story.gate.report(again, &"b".into(), report(2, 2));
            assert!(timeout(Duration::from_secs(1), waiting.as_mut()).await.is_ok());
            seconds(30).await;
            wanted.replace(story.wanted.take());
            drop(permit);
        })
        .await;
    assert_eq!(told, [(0, 0), (1_000, 1), (4_000, 1), (14_000, 1), (24_000, 1), (34_000, 0)]);
    assert_eq!(wanted.take(), [false, false, true, true, true, false], "puts that failed are told again");
}

/// Terraform's alarms read the file: both have one source.
#[tokio::test]
async fn what_is_put_is_what_the_alarms_expect() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/terraform/metrics.json");
    let expected: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let gate = gate(Clock::start());
    let metrics = Reading::take(&gate, &gate.watch_queue(), Peak::default()).metrics();
    let names: Vec<&str> = metrics.iter().map(|metric| metric.metric_name().unwrap()).collect();
    assert_eq!(expected["metrics"], serde_json::json!(names));
    for metric in &metrics {
        let dimensions: serde_json::Map<String, serde_json::Value> = metric
            .dimensions()
            .iter()
            .map(|dimension| (dimension.name().unwrap().to_owned(), dimension.value().unwrap().into()))
            .collect();
        assert_eq!(expected["dimensions"], serde_json::Value::Object(dimensions));
    }
}

#[tokio::test]
async fn a_put_has_six_metrics_of_high_resolution_with_their_pool() {
    let gate = gate(Clock::start());
    let agent = gate.register("a", None);
    gate.report(agent, &"a".into(), report(1, 4));
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let _permit = gate.acquire(ask).await.unwrap();
    let reading = Reading::take(&gate, &gate.watch_queue(), Peak { queued: 9, wake_wanted: true });
    let metrics = reading.metrics();
    let told: Vec<_> = metrics.iter().map(|it| (it.metric_name().unwrap(), it.value().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("requests_buffered", 9.0),
            ("slots_idle", 3.0),
            ("slots_processing", 1.0),
            ("slots_total", 4.0),
            ("agents", 1.0),
            ("wake_wanted", 1.0),
        ]
    );
    for metric in &metrics {
        assert_eq!((metric.storage_resolution(), metric.unit()), (Some(1), Some(&StandardUnit::Count)));
        let [pool] = metric.dimensions() else { panic!("one dimension: {metric:?}") };
        assert_eq!((pool.name(), pool.value()), (Some("pool"), Some("default")));
        assert_eq!(metric.timestamp(), None);
    }
}
