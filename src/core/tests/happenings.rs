//! What is told of a pool afterwards.

use super::groups::{group, noticed};
use super::*;

impl Scene {
    /// Each happening: what, of which instance, and why.
    fn happened(&self) -> Vec<String> {
        let told = self.core.snapshot().pools.remove(0).happenings;
        let words = |happening: &snapshot::HappeningSnapshot| {
            assert_eq!(happening.group, Some(GROUP));
            let instance = happening.instance.as_ref().map_or("-", |id| &id.0);
            format!("{:?} {instance}: {}", happening.kind, happening.cause.as_deref().unwrap_or("-"))
        };
        told.iter().map(words).collect()
    }

    /// The latest.
    fn happened_last(&self) -> String {
        self.happened().pop().unwrap_or_default()
    }

    fn unknown(&mut self, operation: u64) {
        self.tell(Event::OperationUnknown { operation: OperationId(operation) });
    }
}

fn ended(cause: &str) -> InstanceState {
    InstanceState::Ended { cause: cause.into() }
}

#[test]
fn from_zero_and_back() {
    let mut scene = Scene::with_fleet();
    assert_eq!(scene.happened(), [""; 0]);
    scene.arrive(1);
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", InstanceState::Running)]);
    scene.pass(secs(30));
    scene.connect(key(1, 1), on("a", ready(1, 2, 0)));
    scene.end(0, LeaseEnd::Done);
    scene.end(1, LeaseEnd::Done);
    scene.pass_with(secs(301), &[(key(1, 1), on("a", ready(1, 2, 0)))]);
    scene.start(2, terminate("a"));
    scene.succeed(2, &[]);
    scene.observe(&[("a", InstanceState::Terminating)]);
    scene.observe(&[]);
    let story = [
        "WakeAsked -: 2 requests wait",
        "Registered a: after 30 s",
        "DrainBegan a: it is not needed any more",
        "Ended a: -",
    ];
    assert_eq!(scene.happened(), story);

    let age = |scene: &Scene| scene.core.snapshot().pools[0].happenings[3].ago_seconds;
    assert_eq!(age(&scene), 0.0);
    scene.now = scene.now + secs(7);
    scene.core.advance(scene.clock());
    assert_eq!(age(&scene), 7.0, "though nothing happened");
    assert_eq!(scene.happened(), story);
}

#[test]
fn wakes_that_come_to_nothing() {
    let mut scene = Scene::new(PoolConfig { instances_min: 1, ..config() });
    scene.start(1, wake(1));
    assert_eq!(scene.happened_last(), "WakeAsked -: there are fewer than --min-instances");
    scene.arrive(1);
    scene.fail_operation(1, OperationFailure::Transient);
    assert_eq!(scene.happened_last(), "WakeFailed -: no");
    scene.start(2, wake(1));
    assert_eq!(scene.happened_last(), "WakeAsked -: 1 request waits");
    scene.unknown(2);
    assert_eq!(scene.happened_last(), "WakeUnknown -: -");
    assert_eq!(scene.happened().len(), 4);
}

#[test]
fn boots_that_fail_and_servers_that_are_lost() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", ended("it exited with code 1"))]);
    assert_eq!(scene.happened()[1..], ["BootFailed a: it exited with code 1"]);

    let mut scene = Scene::with_fleet();
    scene.arrive_for(secs(60));
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", InstanceState::Running)]);
    scene.pass(secs(121));
    let late = "no server within 120s of its launch (a: its agent or its llama.cpp was not heard)";
    assert_eq!(scene.happened_last(), format!("BootFailed -: {late}"));
    scene.observe(&[]);
    assert_eq!(scene.happened()[2..], ["Ended a: -"], "that was meant");

    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    let error = Some("wrong key".into());
    let refused = AgentReport { is_authorized: Some(false), slots_total: 0, error, ..ready(1, 0, 0) };
    scene.connect(key(1, 1), on("a", refused));
    assert_eq!(scene.happened_last(), "BootFailed a: wrong key");

    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.observe(&[("a", ended("it was killed by signal 9"))]);
    assert_eq!(scene.happened_last(), "Lost a: it was killed by signal 9");

    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    scene.disconnect(key(1, 1), 1);
    scene.pass(secs(31));
    assert_eq!(scene.happened_last(), format!("DrainBegan a: {}", journal::NOT_HEARD));
}

#[test]
fn what_a_group_does_by_itself() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &[]);
    scene.launch_fails(GROUP, OperationFailure::Unavailable);
    assert_eq!(scene.happened_last(), "LaunchFailed -: no capacity");

    let ending = [("a", InstanceState::TerminatingWait)];
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.pass(secs(4));
    scene.look(&[group(1)], &ending);
    scene.pass(secs(5));
    scene.look(&[group(1)], &ending);
    assert_eq!(scene.happened()[2..], ["DrainBegan a: its fleet ends it"], "once");

    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    let report = noticed(NoticeReason::SpotInterruption, on("a", ready(1, 1, 1)));
    scene.report(key(1, 1), report.clone());
    scene.report(key(1, 1), report);
    scene.pass(secs(5));
    scene.look(&[group(1)], &ending);
    assert_eq!(scene.happened()[2..], ["DrainBegan a: the spot market takes it back"], "once");
}

/// It is read each second, without the rest.
#[test]
fn the_load_is_what_the_snapshot_says() {
    let mut scene = Scene::new(PoolConfig { instances_max: 3, ..config() });
    assert_eq!(scene.core.load(), snapshot::Load::default());
    scene.start(1, wake(2));
    scene.succeed(1, &["a", "b"]);
    scene.connect(key(1, 1), on("a", ready(1, 4, 1)));
    scene.connect(key(2, 1), on("b", ready(2, 2, 0)));
    assert_eq!(scene.arrive(1).len(), 1);
    scene.disconnect(key(2, 1), 2);
    let load = scene.core.load();
    let pool = scene.core.snapshot().pools.remove(0);
    assert_eq!(
        load,
        snapshot::Load { slots_total: 4, slots_processing: load.slots_processing, instances: 2 }
    );
    assert_eq!((load.slots_total, load.slots_processing), (pool.slots_total, pool.slots_processing));
    assert!(load.slots_processing >= 1);
}
