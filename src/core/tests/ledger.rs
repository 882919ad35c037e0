//! What is counted: from when to when, as what, and on which day.

use proptest::prelude::*;

use super::*;
use crate::core::snapshot::{LedgerSnapshot, UsageSnapshot};

const DAY: u64 = 24 * 3600;
/// 2026-11-24, the day on which the scenes begin.
const TODAY: Day = Day(20_781);

impl Scene {
    /// Lets the scene begin so long after midnight.
    fn after_midnight(mut self, span: Duration) -> Self {
        self.wall_ahead = Some(TODAY.start() + span - self.now.0);
        self
    }

    fn ledger(&mut self) -> LedgerSnapshot {
        self.core.advance(self.clock());
        self.core.snapshot().pools.remove(0).ledger
    }

    fn today(&mut self) -> (f64, f64) {
        seconds(self.ledger().today)
    }

    fn month(&mut self) -> (f64, f64) {
        seconds(self.ledger().month)
    }

    fn record(&self) -> LedgerRecord {
        self.core.ledger(POOL, self.clock()).unwrap()
    }

    fn restore(&mut self, record: Option<LedgerRecord>, history: Option<History>) {
        self.tell(Event::LedgerRestored { pool: POOL, record: record.map(Box::new) });
        self.tell(Event::HistoryTold { pool: POOL, history });
    }
}

fn seconds(used: UsageSnapshot) -> (f64, f64) {
    assert_eq!(used.idle_seconds, used.instance_seconds - used.busy_seconds);
    (used.instance_seconds, used.busy_seconds)
}

fn priced(pool: PoolConfig, usd: &[f64]) -> PoolConfig {
    PoolConfig { prices: usd.iter().filter_map(|&usd| Price::from_usd(usd)).collect(), ..pool }
}

#[test]
fn an_instance_counts_from_its_wake_until_it_is_gone_and_is_busy_under_a_lease() {
    let mut scene = Scene::new(priced(config(), &[3.6])).after_midnight(secs(3600));
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.pass(secs(10));
    assert_eq!(scene.today(), (0.0, 0.0), "a launch without an instance costs nothing");
    scene.succeed(1, &["a"]);
    assert_eq!(scene.today(), (10.0, 0.0), "and it is counted from its call");
    scene.pass(secs(20));
    scene.connect(key(1, 1), on("a", ready(1, 2, 0)));
    assert_eq!(scene.today(), (30.0, 0.0), "a boot is idle");
    scene.pass_with(secs(5), &[(key(1, 1), on("a", ready(1, 2, 1)))]);
    scene.arrive(1);
    scene.pass_with(secs(5), &[(key(1, 1), on("a", ready(1, 2, 2)))]);
    assert_eq!(scene.today(), (40.0, 10.0), "two answers at once are one busy instance");
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(5), &[(key(1, 1), on("a", ready(1, 2, 1)))]);
    scene.end(1, LeaseEnd::Done);
    scene.pass_with(secs(5), &[(key(1, 1), on("a", ready(1, 2, 0)))]);
    assert_eq!(scene.today(), (50.0, 15.0));
    scene.observe(&[("a", InstanceState::Terminating)]);
    scene.pass(secs(5));
    scene.observe(&[]);
    scene.pass(secs(100));
    let ledger = scene.ledger();
    assert_eq!(seconds(ledger.today), (55.0, 15.0), "it costs until it is gone");
    assert_eq!((ledger.today, ledger.month.cost_usd), (ledger.groups[0].today_with(&ledger), Some(0.055)));
    // 3.6 USD an hour are 0.001 a second, and the ledger began with the first look at the fleet.
    assert_eq!(ledger.today.cost_usd, Some(0.055));
    assert_eq!(ledger.today.always_on_usd, Some(0.155));
    assert_eq!(seconds(ledger.since_start), (55.0, 15.0));
}

impl snapshot::LedgerGroupSnapshot {
    /// The only group is the whole, but for what has no group.
    fn today_with(&self, whole: &LedgerSnapshot) -> UsageSnapshot {
        UsageSnapshot { always_on_usd: whole.today.always_on_usd, ..self.today }
    }
}

#[test]
fn without_a_price_time_is_counted_and_no_cost() {
    let mut scene = Scene::with_fleet().after_midnight(secs(60));
    scene.served_by("a");
    scene.pass(secs(7));
    let ledger = scene.ledger();
    assert_eq!((ledger.today.cost_usd, ledger.today.always_on_usd), (None, None));
    assert_eq!((seconds(ledger.today), ledger.groups[0].price_per_hour), ((7.0, 7.0), None));
}

#[test]
fn a_span_is_split_at_midnight_without_any_event_there() {
    let mut scene = Scene::with_fleet().after_midnight(secs(DAY - 10));
    scene.served_by("a");
    scene.now = scene.now + secs(25);
    assert_eq!((scene.today(), scene.month()), ((15.0, 15.0), (25.0, 25.0)));
    scene.end(0, LeaseEnd::Done);
    scene.now = scene.now + secs(5);
    assert_eq!((scene.today(), scene.month()), ((20.0, 15.0), (30.0, 25.0)));
    let days = scene.record().days;
    let of = |day: Day| days[&day][&GROUP].instance;
    assert_eq!((of(TODAY), of(Day(TODAY.0 + 1))), (secs(10), secs(20)));
}

#[test]
fn a_launch_before_midnight_that_is_known_after_it_is_split_as_well() {
    let mut scene = Scene::with_fleet().after_midnight(secs(DAY - 2));
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.pass(secs(5));
    scene.succeed(1, &["a"]);
    assert_eq!((scene.today(), scene.month()), ((3.0, 0.0), (5.0, 0.0)));
}

#[test]
fn a_month_ends_with_its_last_day() {
    let mut scene = Scene::with_fleet();
    scene.wall_ahead = Some(Day(20_787).end() - secs(10) - scene.now.0);
    assert_eq!(Day(20_787).to_string(), "2026-11-30");
    scene.served_by("a");
    scene.pass(secs(30));
    assert_eq!((scene.today(), scene.month()), ((20.0, 20.0), (20.0, 20.0)));
}

#[test]
fn a_clock_that_jumps_moves_time_to_another_day_and_loses_none() {
    let mut scene = Scene::with_fleet().after_midnight(secs(3600));
    scene.served_by("a");
    scene.now = scene.now + secs(10);
    scene.core.advance(scene.clock());
    // Two days back, while nothing happens, and five forth again.
    scene.wall_ahead = scene.wall_ahead.map(|ahead| ahead - secs(2 * DAY));
    scene.now = scene.now + secs(10);
    assert_eq!(
        scene.today(),
        (10.0, 10.0),
        "what ran since the last event is of the day that the clock shows"
    );
    scene.arrive(1);
    scene.end(0, LeaseEnd::Done);
    scene.wall_ahead = scene.wall_ahead.map(|ahead| ahead + secs(5 * DAY));
    scene.now = scene.now + secs(10);
    assert_eq!(scene.today(), (10.0, 10.0));
    let all: Duration = scene.record().days.values().map(|groups| groups[&GROUP].instance).sum();
    assert_eq!(all, secs(30));
    assert_eq!(seconds(scene.ledger().since_start), (30.0, 30.0));
}

#[test]
fn an_instance_on_standby_costs_as_any_other() {
    let mut scene = Scene::with_fleet().after_midnight(secs(3600));
    scene.observe(&[("a", InstanceState::Running)]);
    scene.pass(secs(10));
    scene.observe(&[("a", InstanceState::Aside), ("b", InstanceState::Aside)]);
    scene.pass(secs(10));
    assert_eq!(scene.today(), (30.0, 0.0));
    scene.observe(&[("a", InstanceState::Running)]);
    scene.pass(secs(10));
    assert_eq!(scene.today(), (40.0, 0.0));
}

#[test]
fn a_clock_that_was_ahead_at_the_start_leaves_no_ledger_that_began_after_it_was_kept() {
    let mut scene = Scene::with_fleet().after_midnight(secs(3600));
    scene.observe(&[]);
    scene.wall_ahead = scene.wall_ahead.map(|ahead| ahead - secs(600));
    let record = scene.record();
    assert_eq!(record.began, record.at);
}

#[test]
fn a_far_day_goes_before_a_near_one() {
    let mut scene = Scene::with_fleet().after_midnight(secs(3600));
    scene.served_by("a");
    for _ in 0..100 {
        scene.now = scene.now + secs(1);
        scene.wall_ahead = scene.wall_ahead.map(|ahead| ahead + secs(DAY));
        scene.end(99, LeaseEnd::Done);
        scene.core.advance(scene.clock());
        scene.observe(&[("a", InstanceState::Running)]);
    }
    let days = scene.record().days;
    assert_eq!(
        (days.len(), days.last_key_value().map(|(day, _)| *day)),
        (DAYS_KEPT, Some(Day(TODAY.0 + 100)))
    );
}

// What ran before.

fn record(at: Duration, instances: &[&str]) -> LedgerRecord {
    let kept = Usage { instance: secs(100), busy: secs(40) };
    LedgerRecord {
        at,
        began: TODAY.start(),
        days: [(TODAY, [(GROUP, kept)].into())].into(),
        instances: instances.iter().map(|&id| (id.into(), GROUP)).collect(),
    }
}

fn life(id: &str, began: u64, ended: Option<u64>) -> Life {
    let at = |second: u64| TODAY.start() + secs(second);
    Life { instance: id.into(), group: GROUP, began: at(began), ended: ended.map(at) }
}

/// A balancer that begins at 10:00:00, after one that kept its ledger at 09:50:00.
fn successor() -> (Scene, Duration) {
    let pool = PoolConfig { looks: Some(Looks { hurry: secs(5), rest: secs(60) }), ..config() };
    (Scene::new(pool).after_midnight(secs(36_000)), TODAY.start() + secs(35_400))
}

#[test]
fn what_was_kept_goes_on() {
    let (mut scene, at) = successor();
    scene.restore(Some(record(at, &[])), None);
    assert_eq!((scene.today(), scene.month()), ((100.0, 40.0), (100.0, 40.0)));
    assert_eq!(seconds(scene.ledger().since_start), (0.0, 0.0), "a counter begins at zero");
    scene.observe(&[]);
    assert_eq!(scene.record(), LedgerRecord { at: scene.clock().wall, ..record(at, &[]) });
}

#[test]
fn what_ran_while_no_balancer_did_is_taken_from_its_fleet() {
    let (mut scene, at) = successor();
    let lives = vec![
        life("counted", 1000, Some(35_399)),
        life("ended", 1000, Some(35_460)),
        life("came and went", 35_500, Some(35_530)),
        life("runs", 1000, None),
        life("new", 35_940, None),
    ];
    let history = History { since: at - secs(120), lives };
    scene.restore(Some(record(at, &["ended", "runs", "still there"])), Some(history));
    assert_eq!(scene.core.ledger(POOL, scene.clock()), None, "nothing is kept before the first look");
    assert_eq!(scene.today(), (100.0, 40.0));
    scene.pass(secs(3));
    let running = InstanceState::Running;
    scene.observe(&[("runs", running.clone()), ("new", running.clone()), ("still there", running.clone())]);
    let now = 100.0 + (60.0 + 30.0) + (603.0 + 63.0 + 603.0);
    assert_eq!(scene.today(), (now, 40.0), "up to the look, once");
    scene.pass(secs(10));
    scene.observe(&[("runs", running.clone()), ("new", running.clone()), ("still there", running)]);
    assert_eq!(scene.today(), (now + 30.0, 40.0));
    assert_eq!(seconds(scene.ledger().since_start), (now - 100.0 + 30.0, 0.0));
}

#[test]
fn what_may_have_run_counts_only_if_it_is_still_there() {
    let (mut scene, at) = successor();
    scene.restore(Some(record(at, &["a", "b"])), None);
    scene.observe(&[("a", InstanceState::Running), ("c", InstanceState::Running)]);
    assert_eq!(scene.today(), (700.0, 40.0), "b may have ended at any time; c is new as far as is known");
}

#[test]
fn what_surely_ran_counts_even_if_it_is_gone_by_the_first_look() {
    let (mut scene, at) = successor();
    let history = History { since: at, lives: vec![life("a", 1000, None)] };
    scene.restore(Some(record(at, &["a"])), Some(history));
    scene.pass(secs(5));
    scene.observe(&[]);
    assert_eq!(scene.today(), (700.0, 40.0));
}

#[test]
fn a_lost_ledger_is_rebuilt_for_today() {
    let (mut scene, _) = successor();
    let lives = vec![life("a", 0, Some(600)), life("b", 35_000, None)];
    scene.restore(None, Some(History { since: TODAY.start(), lives }));
    // What the fleet does not remember began before the day did.
    scene.observe(&[("b", InstanceState::Running), ("old", InstanceState::Running)]);
    assert_eq!(scene.today(), (600.0 + 1000.0 + 36_000.0, 0.0));
    assert_eq!(scene.record().began, TODAY.start());
}

#[test]
fn a_clock_that_was_set_back_between_two_balancers_counts_nothing_twice() {
    let (mut scene, at) = successor();
    scene.restore(Some(record(at + secs(3600), &["a"])), None);
    scene.observe(&[("a", InstanceState::Running)]);
    assert_eq!(scene.today(), (100.0, 40.0));
}

#[test]
fn what_the_group_launched_since_it_was_asked_owes_nothing_before() {
    // At zero since 01:00; what is new at 10:00 has not run for nine hours.
    let (mut scene, _) = successor();
    let at = TODAY.start() + secs(3600);
    scene.restore(Some(record(at, &[])), Some(History { since: at - secs(120), lives: Vec::new() }));
    scene.pass(secs(3));
    scene.observe(&[("new", InstanceState::Running)]);
    assert_eq!(scene.today(), (103.0, 40.0));
}

#[test]
fn without_a_record_what_is_pending_at_the_first_look_is_new() {
    let (mut scene, _) = successor();
    scene.restore(None, Some(History { since: TODAY.start(), lives: Vec::new() }));
    scene.pass(secs(3));
    scene.observe(&[("new", InstanceState::Pending), ("old", InstanceState::Running)]);
    assert_eq!(scene.today(), (3.0 + 36_003.0, 0.0));
}

#[test]
fn an_end_that_never_comes_to_one_is_no_life() {
    let (mut scene, at) = successor();
    let since = at - secs(120);
    let lives = vec![life("stuck", 35_280, None), life("held", 35_280, Some(35_460))];
    assert_eq!(lives[0].began, since);
    scene.restore(Some(record(at, &["held"])), Some(History { since, lives }));
    scene.observe(&[]);
    assert_eq!(scene.today(), (160.0, 40.0));
}

#[test]
fn what_the_fleet_tells_late_is_counted_then_and_nothing_twice() {
    let lives = || {
        vec![
            life("ended", 1000, Some(35_460)),
            life("came and went", 35_500, Some(35_530)),
            life("runs", 1000, None),
            life("new", 35_940, None),
        ]
    };
    let (mut scene, at) = successor();
    let told = |scene: &mut Scene| {
        let history = Some(History { since: at - secs(120), lives: lives() });
        scene.tell(Event::HistoryTold { pool: POOL, history })
    };
    let record = Some(Box::new(record(at, &["ended", "runs", "still there"])));
    scene.tell(Event::LedgerRestored { pool: POOL, record });
    scene.pass(secs(3));
    let shown = ["runs", "new", "still there"].map(|id| (id, InstanceState::Running));
    scene.observe(&shown);
    assert_eq!(scene.today(), (100.0 + 603.0 * 2.0, 40.0), "what was kept as running, and is there");
    scene.pass(secs(20));
    assert_eq!(scene.core.ledger(POOL, scene.clock()), None, "a successor has to ask for the same time");
    told(&mut scene);
    let now = 100.0 + (60.0 + 30.0) + (603.0 + 63.0 + 603.0) + 3.0 * 20.0;
    assert_eq!(scene.today(), (now, 40.0));
    assert!(scene.core.ledger(POOL, scene.clock()).is_some());
    told(&mut scene);
    assert_eq!(scene.today(), (now, 40.0), "it is told once");
}

#[test]
fn a_lost_ledger_is_rebuilt_when_the_fleet_tells_late() {
    let (mut scene, _) = successor();
    scene.tell(Event::LedgerRestored { pool: POOL, record: None });
    scene.observe(&[("b", InstanceState::Running), ("old", InstanceState::Running)]);
    scene.pass(secs(10));
    assert_eq!(scene.today(), (20.0, 0.0));
    let lives = vec![life("a", 0, Some(600)), life("b", 35_000, None)];
    scene.tell(Event::HistoryTold { pool: POOL, history: Some(History { since: TODAY.start(), lives }) });
    assert_eq!(scene.today(), (20.0 + 600.0 + 1000.0 + 36_000.0, 0.0));
    assert_eq!(scene.record().began, TODAY.start());
}

#[test]
fn a_fleet_that_cannot_be_asked_leaves_what_was_kept_and_what_is_there() {
    let (mut scene, at) = successor();
    let record = Some(Box::new(record(at, &["a", "gone"])));
    scene.tell(Event::LedgerRestored { pool: POOL, record });
    scene.observe(&[("a", InstanceState::Running)]);
    scene.tell(Event::HistoryTold { pool: POOL, history: None });
    assert_eq!(scene.today(), (700.0, 40.0));
    assert!(scene.core.ledger(POOL, scene.clock()).is_some());
}

/// Their names begin anew with each balancer.
#[test]
fn children_of_an_earlier_balancer_are_not_there_any_more() {
    let mut scene = Scene::with_fleet().after_midnight(secs(36_000));
    scene.restore(Some(record(TODAY.start() + secs(35_400), &["process-1"])), None);
    assert_eq!(scene.record().instances, BTreeMap::new());
    scene.served_by("process-1");
    scene.pass(secs(60));
    assert_eq!(scene.today(), (160.0, 100.0));
}

/// A step of the naive account: so much time passes, the clock jumps, and one instance appears, vanishes, gets busy or idle.
fn steps() -> impl Strategy<Value = Vec<(u64, i64, u8, u8)>> {
    let jump = prop_oneof![8 => Just(0), 1 => -200_000i64..200_000];
    prop::collection::vec((0u64..40_000_000, jump, 0u8..4, 0u8..4), 1..60)
}

proptest! {
    /// Each millisecond of each instance is in one day: that which the clock shows when the step is over, or an earlier
    /// one that the span reaches back to.
    #[test]
    fn the_days_are_those_of_a_naive_account(steps in steps()) {
        let pool = PoolConfig { instances_max: 4, idle_timeout: secs(100_000_000), ..config() };
        let mut scene = Scene::new(pool).after_midnight(secs(40 * DAY));
        let ids = ["a", "b", "c", "d"];
        let mut there = [false; 4];
        let mut naive: BTreeMap<Day, Duration> = BTreeMap::new();
        for (span, jump, which, what) in steps {
            let span = millis(span);
            scene.now = scene.now + span;
            let ahead = scene.wall_ahead.unwrap_or_default();
            let ahead = Duration::from_secs(ahead.as_secs().saturating_add_signed(jump));
            scene.wall_ahead = Some(ahead);
            let wall = scene.clock().wall;
            for _ in there.iter().filter(|there| **there) {
                // The hard way: midnight by midnight.
                let mut from = wall - span;
                while from < wall {
                    let until = Day::of(from).end().min(wall);
                    *naive.entry(Day::of(from)).or_default() += until - from;
                    from = until;
                }
            }
            let which = usize::from(which);
            there[which] = what % 2 == 0;
            let seen: Vec<_> =
                ids.iter().zip(there).filter(|(_, is)| *is).map(|(id, _)| (*id, InstanceState::Running)).collect();
            scene.observe(&seen);
            scene.core.advance(scene.clock());
        }
        let days = scene.record().days;
        let days: BTreeMap<Day, Duration> = days.iter().map(|(day, groups)| (*day, groups[&GROUP].instance)).collect();
        prop_assert_eq!(days, naive);
    }
}
