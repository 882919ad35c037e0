//! The most that a day may cost: what is not started, and what drains.

use super::*;

const DAY: u64 = 24 * 3600;
/// A price at which a second costs a thousandth of a USD.
const PRICE: f64 = 3.6;

/// A pool whose days may cost as much as so many seconds of one instance.
fn pool(seconds: u64) -> PoolConfig {
    PoolConfig {
        idle_timeout: secs(60),
        prices: [Price::from_usd(PRICE).unwrap()].into(),
        budget_per_day: Money::from_usd(seconds as f64 / 1000.0),
        ..config()
    }
}

impl Scene {
    fn at_second(mut self, second: u64) -> Self {
        self.wall_ahead = Some(secs(20_781 * DAY + second) - self.now.0);
        self
    }

    /// What is told to somebody who comes now: nothing if it waits.
    fn told(&mut self) -> Vec<String> {
        let request = self.requests;
        let said = self.arrive(1);
        if said.is_empty() {
            self.tell(Event::RequestAbandoned { request: RequestId(request) });
        }
        said
    }

    fn drain_of(&self, instance: &str) -> Option<snapshot::Drain> {
        let snapshot = self.core.snapshot();
        snapshot.pools[0]
            .instances
            .iter()
            .find(|found| found.id == instance.into())
            .and_then(|found| found.drain)
    }

    fn budget(&mut self) -> snapshot::BudgetSnapshot {
        self.core.advance(self.clock());
        self.core.snapshot().pools[0].ledger.budget.unwrap()
    }
}

#[test]
fn a_wake_that_would_break_the_budget_is_refused_with_its_end() {
    // A boot is taken to last 60 s, and the rest is 60 s: 120 are the least.
    let mut scene = Scene::new(pool(119)).at_second(3600);
    let request = RequestId(0);
    scene.core.handle(
        Event::RequestArrived(Arrival { request, pool: POOL, tenant: TenantId(1), slots: 1, wait_max: None }),
        scene.clock(),
    );
    let ends = (secs(DAY - 3600), secs(20_782 * DAY));
    let because = Rejection::BudgetExhausted { ends_in: ends.0, ends_at: ends.1 };
    assert_eq!(scene.core.next_command(), Some(Command::Reject { request, because }));
    assert_eq!(scene.plan(), []);
    let budget = scene.budget();
    assert_eq!((budget.usd_per_day, budget.is_exhausted), (0.119, true));
    assert_eq!(budget.ends_in_seconds, (DAY - 3600) as f64);
    let mut scene = Scene::new(pool(120)).at_second(3600);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [wake(1)]);
    assert!(!scene.budget().is_exhausted);
}

#[test]
fn an_instance_costs_no_more_than_the_rest_of_the_day() {
    let mut scene = Scene::new(pool(30)).at_second(DAY - 31);
    assert_eq!(scene.told(), [reject(0, "budget")]);
    scene.pass(secs(1));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [wake(1)]);
}

#[test]
fn what_an_instance_must_live_is_part_of_its_least() {
    let mut scene = Scene::new(PoolConfig { life_min: secs(500), ..pool(499) }).at_second(3600);
    assert_eq!(scene.told(), [reject(0, "budget")]);
}

#[test]
fn what_boots_or_was_asked_for_counts_with_its_least() {
    let mut scene =
        Scene::new(PoolConfig { instances_min: 2, instances_max: 2, ..pool(239) }).at_second(3600);
    // Two of them would break it: one is started.
    assert_eq!(scene.plan(), [wake(1)]);
    scene.start(1, wake(1));
    assert_eq!(scene.plan(), []);
    scene.succeed(1, &["a"]);
    assert_eq!(scene.plan(), []);
    let wait = scene.core.plan(scene.clock()).wait.unwrap();
    assert_eq!(wait.1, Wait::Budget);
    let scene = Scene::new(PoolConfig { instances_min: 2, instances_max: 2, ..pool(240) }).at_second(3600);
    assert_eq!(scene.plan(), [wake(2)]);
}

#[test]
fn a_day_that_has_cost_what_it_may_drains_and_the_next_one_serves_again() {
    let mut scene = Scene::new(pool(200)).at_second(3600);
    scene.served_by("a");
    let busy = [(key(1, 1), on("a", ready(1, 2, 1)))];
    scene.pass_with(secs(190), &busy);
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    assert_eq!(scene.drain_of("a"), None);
    // Somebody waits for the next slot when the money runs out.
    assert_eq!(scene.arrive(1), [""; 0]);
    let said = scene.pass_with(secs(11), &busy);
    assert_eq!((said, scene.drain_of("a")), (vec![reject(2, "budget")], Some(snapshot::Drain::Budget)));
    assert_eq!(scene.told(), [reject(3, "budget")]);
    assert_eq!(scene.plan(), [], "answers that run may finish");
    assert_eq!(scene.end(0, LeaseEnd::Done), [""; 0]);
    assert_eq!(scene.told(), [reject(4, "budget")], "a slot is free there, and nothing is granted");
    scene.end(1, LeaseEnd::Done);
    assert_eq!(scene.plan(), [terminate("a")]);
    scene.start(2, terminate("a"));
    scene.succeed(2, &[]);
    scene.observe(&[]);
    scene.disconnect(key(1, 1), 1);
    assert_eq!((scene.told(), scene.plan()), (vec![reject(5, "budget")], vec![]));
    // Midnight comes.
    scene.core.take_plan_changed();
    scene.pass(secs(DAY));
    assert!(scene.core.take_plan_changed());
    assert!(!scene.budget().is_exhausted);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [wake(1)]);
}

#[test]
fn an_answer_that_runs_into_the_next_day_keeps_its_instance() {
    let mut scene = Scene::new(pool(200)).at_second(DAY - 300);
    scene.served_by("a");
    let busy = [(key(1, 1), on("a", ready(1, 2, 1)))];
    scene.pass_with(secs(299), &busy);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Budget));
    scene.pass_with(secs(2), &busy);
    assert_eq!(scene.drain_of("a"), None);
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
}

#[test]
fn an_idle_instance_that_leaves_does_not_come_back_on_a_spent_day() {
    let mut scene = Scene::new(PoolConfig { idle_timeout: secs(100), ..pool(200) }).at_second(3600);
    scene.served_by("a");
    let idle = [(key(1, 1), on("a", ready(1, 1, 0)))];
    scene.pass_with(secs(95), &[(key(1, 1), on("a", ready(1, 1, 1)))]);
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(102), &idle);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Idle));
    scene.pass_with(secs(4), &idle);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Budget));
    assert_eq!(scene.told(), [reject(1, "budget")]);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Budget));
}

#[test]
fn an_idle_instance_whose_end_failed_serves_on_an_almost_spent_day() {
    let mut scene = Scene::new(PoolConfig { idle_timeout: secs(100), ..pool(180) }).at_second(3600);
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(102), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Idle));
    scene.start(2, terminate("a"));
    assert!(scene.budget().is_exhausted, "there is no money for another");
    assert_eq!(scene.told(), [reject(1, "budget")], "its end was asked for");
    scene.fail_operation(2, OperationFailure::Throttled);
    assert_eq!(scene.arrive(1), [grant(2, 1, 1)]);
    assert_eq!(scene.drain_of("a"), None);
}

#[test]
fn before_the_first_look_nobody_is_refused_for_the_budget() {
    let looks = Some(Looks { hurry: secs(5), rest: secs(60) });
    let begun = || Scene::new(PoolConfig { looks, ..pool(119) }).at_second(3600);
    let mut scene = begun();
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.observe(&[("a", InstanceState::Running)]), [""; 0], "it may serve soon");
    assert_eq!(scene.connect(key(1, 1), on("a", ready(1, 1, 0))), [grant(0, 0, 1)]);
    let mut scene = begun();
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.observe(&[]), [reject(0, "budget")]);
}

#[test]
fn servers_that_cost_nothing_serve_on() {
    let limits = PoolConfig {
        prices: [PRICE, 0.0].into_iter().filter_map(Price::from_usd).collect(),
        groups: 2,
        ..pool(60)
    };
    let mut scene = Scene::new(limits).at_second(3600);
    assert_eq!(scene.arrive(1), [""; 0]);
    // The first group would break it, and the second costs nothing.
    assert_eq!(scene.plan(), [Action::Wake { pool: POOL, group: GroupId(1), instances: 1 }]);
}

#[test]
fn a_group_at_its_least_is_drained_and_not_ended() {
    let looks = Some(Looks { hurry: secs(5), rest: secs(60) });
    let mut scene = Scene::new(PoolConfig { looks, ..pool(100) }).at_second(3600);
    let seen = |scene: &mut Scene| {
        let group = GroupObserved { desired: 1, min: 1, max: 2, is_protected: true, has_rival: false };
        let running = InstanceObserved { group: GROUP, state: InstanceState::Running, address: None };
        scene.tell(Event::FleetObserved {
            pool: POOL,
            began: scene.now,
            groups: [(GROUP, group)].into(),
            instances: [("a".into(), running)].into(),
        })
    };
    seen(&mut scene);
    scene.connect(key(1, 1), on("a", ready(1, 1, 0)));
    scene.pass_with(secs(101), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    seen(&mut scene);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Budget));
    assert_eq!(scene.told(), [reject(0, "budget")]);
    let ends = scene.plan().into_iter().filter(|action| matches!(action, Action::Terminate { .. }));
    assert_eq!(ends.count(), 0, "its group would launch another in its place");
}

#[test]
fn a_clock_that_jumps_to_another_day_opens_its_budget_at_once() {
    let mut scene = Scene::new(pool(119)).at_second(3600);
    assert_eq!(scene.told(), [reject(0, "budget")]);
    let mut scene = Scene::new(pool(200)).at_second(3600);
    scene.served_by("a");
    let busy = [(key(1, 1), on("a", ready(1, 2, 1)))];
    scene.pass_with(secs(202), &busy);
    assert_eq!(scene.drain_of("a"), Some(snapshot::Drain::Budget));
    scene.wall_ahead = scene.wall_ahead.map(|ahead| ahead + secs(DAY));
    scene.pass_with(secs(1), &busy);
    assert_eq!(scene.drain_of("a"), None);
}
