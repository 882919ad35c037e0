//! Attempts that fail, answers that are cancelled, and what their slots do then.

use super::*;

#[test]
fn a_failed_attempt_goes_back_to_the_head_with_its_first_deadline() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    for _ in 0..3 {
        scene.arrive(1);
    }
    scene.pass_with(secs(30), &[(key(1, 1), ready(1, 1, 1))]);
    assert_eq!(scene.fail(0, AttemptFailure::CouldNotConnect), [""; 0], "exempt from the queue's limit");
    assert_eq!(scene.core.queued(), 4);
    assert_eq!(scene.pass(secs(2)), [grant(0, 1, 1)], "after the quarantine, before all others");
    scene.fail(1, AttemptFailure::NotReady);
    let said = scene.pass(secs(28));
    assert_eq!(said[0], "forget 1.1");
    assert_eq!(said[1], reject(0, "upstream failed"), "60 s after its arrival");
}

#[test]
fn an_old_attempt_does_not_end_a_new_one() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.connect(key(2, 1), ready(2, 1, 0));
    scene.arrive(1);
    assert_eq!(scene.fail(0, AttemptFailure::CouldNotConnect), [grant(0, 1, 2)]);
    scene.end(0, LeaseEnd::Done);
    assert_eq!(scene.core.leased(), 1);
    scene.end(1, LeaseEnd::Done);
    assert_eq!(scene.core.leased(), 0);
}

#[test]
fn the_fourth_failure_to_connect_is_the_last() {
    let mut scene = Scene::without_fleet();
    for agent in 1..=5 {
        scene.connect(key(agent, 1), ready(agent, 1, 0));
    }
    scene.arrive(1);
    for lease in 0..3 {
        assert_eq!(scene.fail(lease, AttemptFailure::CouldNotConnect), [grant(0, lease + 1, lease + 2)]);
    }
    assert_eq!(scene.fail(3, AttemptFailure::CouldNotConnect), [reject(0, "upstream failed")]);
}

#[test]
fn a_poisonous_request_kills_two_servers_at_most() {
    let mut scene = Scene::without_fleet();
    for agent in 1..=3 {
        scene.connect(key(agent, 1), ready(agent, 1, 0));
    }
    scene.arrive(1);
    assert_eq!(scene.fail(0, AttemptFailure::Died), [grant(0, 1, 2)]);
    assert_eq!(scene.fail(1, AttemptFailure::Died), [reject(0, "upstream failed")]);
}

#[test]
fn a_loading_server_gets_nothing_before_a_good_report() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    assert_eq!(scene.fail(0, AttemptFailure::NotReady), [""; 0]);
    assert_eq!(scene.pass(secs(2)), [""; 0]);
    assert_eq!(scene.report(key(1, 1), loading(1)), [""; 0]);
    assert_eq!(scene.pass(secs(1)), [""; 0]);
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 0)), [grant(0, 1, 1)]);
}

#[test]
fn a_cancelled_request_keeps_its_slot_until_two_seconds_have_passed() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    assert_eq!(scene.end(0, LeaseEnd::Cancelled), [""; 0]);
    assert_eq!(scene.pass(millis(1999)), [""; 0]);
    assert_eq!(scene.pass(millis(1)), [grant(1, 1, 1)]);
}

#[test]
fn a_report_that_shows_the_slot_free_ends_the_cooling() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(secs(1));
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 1)), [""; 0], "it still computes");
    scene.pass(millis(500));
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 0)), [grant(1, 1, 1)]);
}

#[test]
fn a_lease_that_never_reached_its_server_frees_its_slot_at_once() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    assert_eq!(scene.end(0, LeaseEnd::Unsent), [grant(1, 1, 1)]);
}

#[test]
fn an_answer_that_began_after_the_count_does_not_pass_for_the_cancelled_one() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    scene.arrive(1);
    scene.pass(secs(1));
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(millis(900));
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    scene.tell(Event::AnswerStarted { lease: LeaseId(1) });
    let report = AgentReport { sample_age: Some(millis(100)), ..ready(1, 2, 1) };
    scene.report(key(1, 1), report);
    assert_eq!(scene.arrive(1), [""; 0], "the one busy slot that was counted is the cancelled one");
}

#[test]
fn a_count_from_before_the_cancel_says_nothing_about_it() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.pass(millis(20));
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(millis(100));
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 0)), [""; 0], "it may have been long on its way");
}

#[test]
fn of_cancelled_slots_those_cancelled_last_go_on_cooling() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.arrive(1);
    scene.arrive(1);
    scene.end(1, LeaseEnd::Cancelled);
    scene.pass(secs(1));
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(millis(500));
    assert_eq!(scene.report(key(1, 1), ready(1, 2, 1)), [grant(2, 2, 1)]);
    scene.tell(Event::AnswerStarted { lease: LeaseId(2) });
    assert_eq!(scene.pass(millis(1499)), [""; 0]);
    assert_eq!(
        scene.report(key(1, 1), ready(1, 2, 1)),
        [grant(3, 3, 1)],
        "the one that is busy is the third"
    );
}

#[test]
fn a_cancelled_slot_that_is_still_counted_after_two_seconds_is_not_given_away() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(millis(1100));
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 1)), [""; 0]);
    assert_eq!(scene.pass(millis(1100)), [""; 0], "by its own count the server computes on");
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 1)), [""; 0], "and on");
    assert_eq!(scene.pass(millis(1100)), [""; 0]);
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 0)), [grant(1, 1, 1)]);
}

#[test]
fn a_server_that_does_not_answer_for_its_slots_has_not_freed_them() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    scene.end(0, LeaseEnd::Cancelled);
    scene.pass(millis(1100));
    let failing = AgentReport { phase: Phase::Failing, slots_total: 0, slots_busy: 0, ..ready(1, 0, 0) };
    scene.report(key(1, 1), failing);
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 1)), [""; 0], "the cancelled one is on it");
}

#[test]
fn a_cancelled_slot_cools_although_its_agent_is_gone() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.disconnect(key(1, 1), 1);
    scene.end(0, LeaseEnd::Cancelled);
    scene.connect(key(1, 2), ready(1, 1, 0));
    assert_eq!(scene.arrive(1), [""; 0], "the server goes on for a moment");
    assert_eq!(scene.pass(secs(2)), [grant(1, 1, 1)]);
}
