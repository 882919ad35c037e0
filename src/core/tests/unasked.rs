//! When somebody else should start an instance.

use super::*;

const FIRST: GroupId = GroupId(0);

fn pool(groups: u32) -> PoolConfig {
    PoolConfig { groups, looks: Some(Looks { hurry: secs(5), rest: secs(60) }), ..config() }
}

fn seen(desired: u32) -> GroupObserved {
    GroupObserved { desired, min: 0, max: 5, is_protected: true, has_rival: false }
}

fn wake(group: GroupId) -> Action {
    Action::Wake { pool: POOL, group, instances: 1 }
}

impl Scene {
    /// Groups that were seen, with these wishes and nothing in them.
    fn with_wishes(wishes: &[u32]) -> Self {
        let mut scene = Self::new(pool(wishes.len() as u32));
        scene.see(wishes);
        scene
    }

    fn see(&mut self, wishes: &[u32]) {
        let groups = (0..).map(GroupId).zip(wishes.iter().map(|&wish| seen(wish))).collect();
        let instances = BTreeMap::new();
        self.tell(Event::FleetObserved { pool: POOL, began: self.now, groups, instances });
    }

    /// The next request waits, the call that it leads to fails, and its client leaves.
    fn fail_to_wake(&mut self, operation: u64) {
        let request = RequestId(self.requests);
        self.arrive(1);
        self.start(operation, wake(FIRST));
        self.fail_operation(operation, OperationFailure::Transient);
        assert!(self.wants_wake());
        self.tell(Event::RequestAbandoned { request });
        assert!(!self.wants_wake(), "nobody waits");
    }

    /// As of the last event.
    fn wants_wake(&self) -> bool {
        let wanted = self.core.snapshot().pools[0].wake_wanted;
        assert_eq!(wanted, self.core.is_wake_wanted());
        wanted
    }

    fn lose(&mut self, operation: u64) {
        self.tell(Event::OperationUnknown { operation: OperationId(operation) });
    }
}

#[test]
fn a_wake_that_works_is_wanted_of_nobody_else() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.arrive(1);
    assert!(!scene.wants_wake(), "its call has not even begun");
    scene.start(1, wake(FIRST));
    scene.pass(secs(4));
    scene.succeed(1, &[]);
    assert!(!scene.wants_wake());
    scene.pass(secs(60));
    assert!(!scene.wants_wake(), "it boots");
    assert!(!scene.core.take_wake_wanted(), "nor was it ever");
}

#[test]
fn a_wake_whose_call_fails_is_wanted_until_another_works() {
    for kind in [OperationFailure::Transient, OperationFailure::Throttled] {
        let mut scene = Scene::with_wishes(&[0]);
        scene.arrive(1);
        scene.start(1, wake(FIRST));
        scene.fail_operation(1, kind);
        assert!(scene.wants_wake(), "{kind:?}");
        assert!(scene.core.take_wake_wanted());
        scene.pass(secs(1));
        scene.start(2, wake(FIRST));
        assert!(scene.wants_wake(), "the next call is not answered yet");
        scene.succeed(2, &[]);
        assert!(!scene.wants_wake());
        assert!(scene.core.take_wake_wanted(), "it was, since last asked");
        assert!(!scene.core.take_wake_wanted());
    }
}

/// Those who wait are told at once, and wait no more.
#[test]
fn a_wake_that_is_denied_is_noted_though_nobody_waits_any_more() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.arrive(1);
    scene.start(1, wake(FIRST));
    let told = scene.fail_operation(1, OperationFailure::Permanent);
    assert!(matches!(&told[..], [told] if told.starts_with("reject 0: ")), "{told:?}");
    assert!(!scene.wants_wake(), "nobody waits");
    assert!(scene.core.take_wake_wanted(), "but somebody did");
    assert!(!scene.core.take_wake_wanted());
}

#[test]
fn an_alarm_does_not_help_against_a_lack_of_capacity() {
    let mut scene = Scene::with_wishes(&[0, 0]);
    scene.arrive(1);
    scene.start(1, wake(FIRST));
    scene.fail_operation(1, OperationFailure::Unavailable);
    assert!(!scene.core.take_wake_wanted(), "the next group is asked");
    scene.start(2, wake(GroupId(1)));
    scene.succeed(2, &[]);
    assert!(!scene.core.take_wake_wanted());
}

#[test]
fn a_wake_whose_call_is_late_is_wanted_from_then_on() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.arrive(1);
    scene.start(1, wake(FIRST));
    scene.pass(millis(4_999));
    assert!(!scene.wants_wake());
    scene.pass(millis(1));
    assert!(scene.wants_wake(), "a timer, not another event, told so");
    scene.lose(1);
    assert!(scene.wants_wake(), "its answer was lost: nobody knows");
}

#[test]
fn the_time_of_a_call_begins_anew_with_each_time_that_nothing_is_wished_for() {
    let mut scene = Scene::with_wishes(&[1]);
    scene.arrive(1);
    scene.pass(secs(30));
    assert!(!scene.wants_wake(), "the group tries to launch");
    scene.tell(Event::LaunchFailed {
        pool: POOL,
        group: FIRST,
        kind: OperationFailure::Transient,
        cause: "no".into(),
    });
    scene.start(1, Action::Withdraw { pool: POOL, group: FIRST });
    scene.tell(Event::OperationSucceeded { operation: OperationId(1), launched: Vec::new(), wish: Some(0) });
    assert!(!scene.wants_wake(), "the wish was taken back, and another is about to be put");
    scene.pass(secs(5));
    assert!(scene.wants_wake());
}

/// A balancer that was started anew cannot look while three instances boot: an alarm would set the wish to 1.
#[test]
fn what_was_never_seen_may_be_wished_for() {
    let mut scene = Scene::new(pool(1));
    scene.arrive(1);
    scene.start(1, Action::Describe { pool: POOL });
    scene.pass(secs(10));
    scene.fail_operation(1, OperationFailure::Transient);
    scene.pass(secs(10));
    assert!(!scene.wants_wake());
    assert!(!scene.core.take_wake_wanted());
    scene.see(&[0]);
    assert!(!scene.wants_wake());
    scene.pass(secs(5));
    assert!(scene.wants_wake(), "it is known, and the call is late");
}

#[test]
fn of_several_groups_each_has_to_be_known() {
    let mut scene = Scene::new(pool(2));
    scene.see(&[0]);
    scene.arrive(1);
    scene.pass(secs(10));
    assert!(!scene.core.take_wake_wanted());
}

#[test]
fn what_was_seen_long_ago_may_have_changed() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.pass(secs(170));
    scene.arrive(1);
    scene.pass(secs(9));
    assert!(scene.wants_wake());
    scene.pass(secs(1));
    scene.start(1, Action::Describe { pool: POOL });
    scene.fail_operation(1, OperationFailure::Transient);
    assert!(!scene.wants_wake());
    scene.see(&[0]);
    scene.pass(secs(5));
    assert!(scene.wants_wake());
}

#[test]
fn a_failure_says_nothing_once_somebody_else_could() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.fail_to_wake(1);
    scene.pass(secs(10));
    scene.arrive(1);
    assert!(scene.wants_wake(), "it was only a moment ago");

    let mut scene = Scene::with_wishes(&[0]);
    scene.fail_to_wake(1);
    scene.pass(secs(10));
    scene.see(&[1]);
    scene.pass(secs(10));
    scene.see(&[0]);
    scene.arrive(1);
    assert!(!scene.wants_wake());
}

#[test]
fn a_failure_of_long_ago_says_nothing() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.fail_to_wake(1);
    scene.pass(secs(119));
    scene.see(&[0]);
    scene.arrive(1);
    assert!(scene.wants_wake());

    let mut scene = Scene::with_wishes(&[0]);
    scene.fail_to_wake(1);
    scene.pass(secs(120));
    scene.see(&[0]);
    scene.arrive(1);
    assert!(!scene.wants_wake());
    scene.pass(secs(5));
    assert!(scene.wants_wake(), "but a late call does");
}

#[test]
fn without_a_fleet_it_is_wanted_at_once_until_an_agent_is_heard() {
    let mut scene = Scene::without_fleet();
    assert!(!scene.wants_wake(), "nobody waits");
    scene.arrive(1);
    assert!(scene.wants_wake());
    scene.connect(key(1, 1), loading(1));
    assert!(!scene.wants_wake(), "a machine boots");
    scene.core.take_wake_wanted();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    assert!(!scene.core.take_wake_wanted(), "it is busy");
}

#[test]
fn a_process_that_starts_is_asked_for() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(FIRST));
    scene.pass(secs(30));
    assert!(!scene.wants_wake());
    scene.fail_operation(1, OperationFailure::Transient);
    assert!(scene.wants_wake());
}

#[test]
fn who_waits_for_a_busy_server_of_somebody_else_wants_no_wake() {
    let mut scene = Scene::with_wishes(&[0]);
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.pass_with(secs(30), &[(key(1, 1), ready(1, 1, 1))]);
    assert!(!scene.wants_wake());
}
