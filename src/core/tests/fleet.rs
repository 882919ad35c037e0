//! Wakes, boots, rests and ends.

use super::*;

#[test]
fn from_zero_to_an_answer_and_back() {
    let mut scene = Scene::with_fleet();
    scene.observe(&[]);
    scene.served_by("a");
    assert_eq!(scene.plan(), []);
    scene.end(0, LeaseEnd::Done);
    let reports = [(key(1, 1), on("a", ready(1, 1, 0)))];
    scene.pass_with(secs(299), &reports);
    assert_eq!(scene.plan(), []);
    scene.pass_with(secs(2), &reports);
    assert_eq!(scene.plan(), [terminate("a")]);
    scene.start(2, terminate("a"));
    scene.succeed(2, &[]);
    assert_eq!(scene.plan(), [], "once");
    assert_eq!(scene.observe(&[]), ["forget 1.1"]);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [wake(1)]);
}

#[test]
fn one_wake_is_in_flight_at_most() {
    let mut scene = Scene::new(PoolConfig { instances_max: 3, ..config() });
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.arrive(1);
    assert_eq!(scene.plan(), []);
}

#[test]
fn an_arrival_cancels_an_idle_drain() {
    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(301), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    assert_eq!(scene.plan(), [terminate("a")]);
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    assert_eq!(scene.plan(), []);
}

#[test]
fn three_failed_launches_in_a_row_are_told() {
    let mut scene = Scene::with_fleet();
    assert_eq!(scene.arrive(1), [""; 0]);
    for operation in 1..=2 {
        assert_eq!(scene.plan(), [wake(1)]);
        scene.start(operation, wake(1));
        assert_eq!(scene.fail_operation(operation, OperationFailure::Transient), [""; 0]);
        assert_eq!(scene.plan(), [], "after a pause");
        scene.pass(secs(2));
    }
    scene.start(3, wake(1));
    assert_eq!(scene.fail_operation(3, OperationFailure::Transient), [reject(0, "no capacity")]);
    assert_eq!(scene.arrive(1), [reject(1, "no capacity")]);
    scene.pass(secs(6));
    assert_eq!(scene.arrive(1), [""; 0], "half open");
    assert_eq!(scene.plan(), [wake(1)]);
}

#[test]
fn a_permanent_failure_is_told_at_once() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    assert_eq!(scene.fail_operation(1, OperationFailure::Permanent), [reject(0, "no capacity")]);
}

#[test]
fn a_lost_answer_is_looked_up_before_anything_is_repeated() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.tell(Event::OperationUnknown { operation: OperationId(1) });
    assert_eq!(scene.plan(), [Action::Describe { pool: POOL }]);
    scene.start(2, Action::Describe { pool: POOL });
    assert_eq!(scene.plan(), []);
    scene.observe(&[]);
    assert_eq!(scene.plan(), [wake(1)], "it was not done");
}

#[test]
fn an_instance_that_vanishes_ends_the_answers_on_it() {
    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    assert_eq!(scene.observe(&[]), ["abort 0", "forget 1.1"]);
}

#[test]
fn an_instance_that_misses_its_boot_deadline_is_ended() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", InstanceState::Running)]);
    scene.pass(secs(119));
    assert_eq!(scene.plan(), []);
    scene.pass(secs(1));
    assert_eq!(scene.plan(), [terminate("a")]);
}

#[test]
fn a_server_that_is_heard_serves_although_its_fleet_still_calls_it_pending() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", InstanceState::Pending)]);
    assert_eq!(scene.connect(key(1, 1), on("a", ready(1, 1, 0))), [grant(0, 0, 1)]);
}

#[test]
fn the_loss_of_the_last_server_is_told_while_launches_are_known_to_fail() {
    let mut scene = Scene::new(PoolConfig { instances_max: 2, instances_min: 2, ..config() });
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.connect(key(1, 1), on("a", ready(1, 1, 1)));
    scene.start(2, wake(2));
    scene.observe(&[("a", InstanceState::Running)]);
    assert_eq!(scene.fail_operation(2, OperationFailure::Permanent), [""; 0]);
    assert_eq!(scene.arrive(1), [""; 0], "one serves");
    assert_eq!(scene.observe(&[]), ["forget 1.1".to_owned(), reject(0, "no capacity")]);
}

/// An idle instance whose end is under way, and a request that came too late to cancel that.
fn wanted_while_it_ends() -> Scene {
    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(301), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    scene.start(2, terminate("a"));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [], "there is no room for another");
    scene
}

#[test]
fn an_instance_whose_end_failed_serves_those_who_wait() {
    let mut scene = wanted_while_it_ends();
    assert_eq!(scene.fail_operation(2, OperationFailure::Transient), [grant(1, 1, 1)]);
    scene.pass_with(secs(3), &[(key(1, 1), on("a", ready(1, 1, 1)))]);
    assert_eq!(scene.plan(), []);
}

#[test]
fn an_instance_whose_end_was_lost_serves_those_who_wait() {
    let mut scene = wanted_while_it_ends();
    scene.tell(Event::OperationUnknown { operation: OperationId(2) });
    assert_eq!(scene.observe(&[("a", InstanceState::Running)]), [grant(1, 1, 1)]);
}

#[test]
fn an_instance_that_its_fleet_ends_does_not_come_back() {
    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(301), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    scene.observe(&[("a", InstanceState::Terminating)]);
    assert_eq!(scene.arrive(1), [""; 0]);
}

#[test]
fn a_launch_that_its_fleet_shows_late_is_not_lost() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    assert_eq!(scene.observe(&[]), [""; 0]);
    assert_eq!(scene.plan(), [], "it is still expected");
    scene.observe(&[("a", InstanceState::Running)]);
    scene.observe(&[]);
    scene.pass(secs(2));
    assert_eq!(scene.plan(), [wake(1)], "it was there, and is gone");
}

#[test]
fn an_instance_whose_server_does_not_come_back_is_replaced() {
    let mut scene = Scene::with_fleet();
    scene.served_by("a");
    scene.end(0, LeaseEnd::Done);
    let down = AgentReport { phase: Phase::Starting, ..on("a", loading(1)) };
    scene.report(key(1, 1), down.clone());
    scene.pass_with(secs(70), &[(key(1, 1), down.clone())]);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [], "it may restart by itself");
    scene.pass_with(secs(51), &[(key(1, 1), down)]);
    assert_eq!(scene.plan(), [terminate("a")], "as long as a boot may take");
    scene.start(2, terminate("a"));
    scene.succeed(2, &[]);
    scene.observe(&[]);
    assert_eq!(scene.plan(), [wake(1)]);
}

/// An agent of Paddler 1.x, which knows no instances.
fn nameless(agent: u64, slots: u32, busy: u32) -> AgentReport {
    AgentReport { heartbeat: None, ..ready(agent, slots, busy) }
}

/// An agent without a name that came while instance "a" booted, and took a request.
fn guessed() -> Scene {
    let mut scene = Scene::new(PoolConfig { idle_timeout: secs(1), ..config() });
    scene.arrive(1);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.observe(&[("a", InstanceState::Running)]);
    assert_eq!(scene.connect(key(2, 1), nameless(2, 1, 0)), [grant(0, 0, 2)]);
    scene
}

#[test]
fn a_guess_whose_instance_is_elsewhere_is_given_up() {
    let mut scene = guessed();
    scene.observe_at("a", 1);
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(10), &[(key(2, 1), nameless(2, 1, 0))]);
    assert_eq!(scene.plan(), [], "instance a still boots");
    scene.connect(key(1, 1), ready(1, 1, 1));
    scene.pass_with(secs(120), &[(key(1, 1), ready(1, 1, 1))]);
    assert_eq!(scene.plan(), [], "it serves somebody");
}

#[test]
fn a_guess_is_given_up_when_another_agent_names_the_instance() {
    let mut scene = guessed();
    scene.end(0, LeaseEnd::Done);
    scene.connect(key(1, 1), on("a", loading(1)));
    scene.pass_with(secs(10), &[(key(1, 1), on("a", loading(1)))]);
    assert_eq!(scene.plan(), [], "it still boots");
}

#[test]
fn an_agent_that_was_there_before_the_launch_is_not_taken_for_it() {
    let mut scene = Scene::new(PoolConfig { instances_min: 1, idle_timeout: secs(1), ..config() });
    scene.connect(key(2, 1), nameless(2, 1, 0));
    scene.pass_with(secs(1), &[(key(2, 1), nameless(2, 1, 0))]);
    scene.start(1, wake(1));
    scene.succeed(1, &["a"]);
    scene.report(key(2, 1), nameless(2, 1, 0));
    let pools = scene.core.snapshot().pools;
    assert!(!pools[0].instances[0].registered);
}

#[test]
fn the_next_life_of_an_agent_without_a_name_finds_its_instance_again() {
    let mut scene = guessed();
    scene.disconnect(key(2, 1), 1);
    scene.end(0, LeaseEnd::Done);
    scene.pass(secs(5));
    scene.connect(key(2, 2), nameless(2, 1, 1));
    scene.pass_with(secs(60), &[(key(2, 2), nameless(2, 1, 1))]);
    assert_eq!(scene.plan(), [], "it is heard, and busy");
}

#[test]
fn the_least_loaded_instance_drains_while_busy_once_the_others_can_carry_its_load() {
    let mut scene = Scene::new(PoolConfig { instances_max: 2, instances_min: 1, ..config() });
    scene.observe(&[("a", InstanceState::Running), ("b", InstanceState::Running)]);
    scene.connect(key(1, 1), on("a", ready(1, 2, 0)));
    scene.connect(key(2, 1), on("b", ready(2, 2, 0)));
    scene.connections = 3;
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [grant(1, 1, 2)]);
    let drained = |scene: &Scene| {
        let pools = scene.core.snapshot().pools;
        pools[0].instances.iter().filter(|instance| instance.drain.is_some()).count()
    };
    let reports = [(key(1, 1), on("a", ready(1, 2, 1))), (key(2, 1), on("b", ready(2, 2, 1)))];
    scene.pass_with(secs(299), &reports);
    assert_eq!(drained(&scene), 0);
    scene.pass_with(secs(5), &reports);
    assert_eq!(drained(&scene), 1);
    assert_eq!(scene.plan(), [], "not while it serves");
    scene.end(0, LeaseEnd::Done);
    assert_eq!(scene.plan(), [terminate("a")]);
}

#[test]
fn an_instance_that_the_others_can_spare_stays_when_they_are_lost() {
    let limits = PoolConfig { instances_min: 1, instances_max: 2, idle_timeout: secs(10), ..config() };
    let mut scene = Scene::new(limits);
    scene.start(1, wake(2));
    scene.succeed(1, &["a", "b"]);
    let patient = |agent| AgentReport { heartbeat: Some(secs(60)), ..ready(agent, 2, 0) };
    scene.connect(key(1, 1), on("a", patient(1)));
    scene.connect(key(2, 1), on("b", patient(2)));
    scene.observe(&[("a", InstanceState::Running), ("b", InstanceState::Running)]);
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [grant(1, 1, 2)]);
    scene.pass(secs(15));
    assert_eq!(
        scene.core.snapshot().pools[0].instances[0].drain,
        Some(snapshot::Drain::Idle),
        "b can carry both"
    );
    scene.observe(&[("a", InstanceState::Running)]);
    scene.end(0, LeaseEnd::Done);
    assert_eq!(scene.plan(), [], "it is the last one");
}
