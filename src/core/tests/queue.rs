//! Who waits, who is next, and who is sent away.

use super::*;

#[test]
fn a_free_slot_is_granted_in_the_same_call() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    assert_eq!(scene.arrive(1), [""; 0], "both slots are taken");
    assert_eq!(scene.end(0, LeaseEnd::Done), [grant(2, 2, 1)]);
}

#[test]
fn a_request_is_told_at_its_deadline() {
    let mut scene = Scene::without_fleet();
    scene.arrive(1);
    assert_eq!(scene.pass(secs(60) - millis(1)), [""; 0]);
    assert_eq!(scene.pass(millis(1)), [reject(0, "timeout")]);
}

#[test]
fn a_full_queue_refuses_the_next() {
    let mut scene = Scene::without_fleet();
    for _ in 0..3 {
        assert_eq!(scene.arrive(1), [""; 0]);
    }
    assert_eq!(scene.arrive(1), [reject(3, "full")]);
    assert_eq!(scene.tell(Event::RequestAbandoned { request: RequestId(1) }), [""; 0]);
    assert_eq!(scene.arrive(1), [""; 0], "there is room again");
    let said = scene.connect(key(1, 1), ready(1, 3, 0));
    assert_eq!(said, [grant(0, 0, 1), grant(2, 1, 1), grant(4, 2, 1)], "in order of arrival");
}

#[test]
fn tenants_take_turns() {
    let mut scene = Scene::without_fleet();
    scene.arrive_of(1, 1);
    scene.arrive_of(1, 1);
    scene.arrive_of(2, 1);
    let said = scene.connect(key(1, 1), ready(1, 3, 0));
    assert_eq!(said, [grant(0, 0, 1), grant(2, 1, 1), grant(1, 2, 1)]);
}

#[test]
fn a_request_that_needs_no_slot_waits_only_for_a_server() {
    let mut scene = Scene::without_fleet();
    assert_eq!(scene.arrive(0), [""; 0]);
    assert_eq!(scene.connect(key(1, 1), ready(1, 1, 1)), [grant(0, 0, 1)], "although its slot is busy");
}

#[test]
fn slots_are_kept_for_a_request_for_several_that_was_passed_over_for_long() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    scene.arrive(1);
    assert_eq!(scene.arrive(2), [""; 0], "request 1 needs both slots");
    assert_eq!(scene.arrive(1), [grant(2, 1, 1)], "request 2 passes it");
    assert_eq!(scene.end(1, LeaseEnd::Done), [""; 0]);
    let report = ready(1, 2, 1);
    assert_eq!(scene.pass_with(secs(6), &[(key(1, 1), report)]), [""; 0]);
    assert_eq!(scene.arrive(1), [""; 0], "nobody passes any more");
    assert_eq!(scene.end(0, LeaseEnd::Done), [grant(1, 2, 1)]);
    assert_eq!(scene.end(2, LeaseEnd::Done), [grant(3, 3, 1)]);
}

#[test]
fn a_request_for_more_slots_than_there_are_takes_all_of_a_server() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    assert_eq!(scene.arrive(9), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [""; 0]);
}

#[test]
fn a_shutdown_answers_the_queue_and_lets_answers_finish() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    assert_eq!(scene.tell(Event::ShutdownBegan), [reject(1, "shutting down")]);
    assert_eq!(scene.arrive(1), [reject(2, "shutting down")]);
    assert_eq!(scene.end(0, LeaseEnd::Done), [""; 0]);
    assert_eq!(scene.core.leased(), 0);
}

#[test]
fn a_request_of_an_old_connection_may_use_a_free_slot_during_a_shutdown() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    assert_eq!(scene.tell(Event::ShutdownBegan), [""; 0]);
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [reject(1, "shutting down")], "nothing waits");
    assert_eq!(scene.end(0, LeaseEnd::Done), [""; 0]);
}
