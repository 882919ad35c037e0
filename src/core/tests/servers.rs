//! Agents: what they say, when they are believed, and what of others shows in it.

use super::*;

#[test]
fn slots_that_others_use_are_not_given_away() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    scene.pass(secs(1));
    scene.report(key(1, 1), ready(1, 2, 1));
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
    assert_eq!(scene.arrive(1), [""; 0], "the other slot is somebody else's");
    scene.pass(secs(1));
    assert_eq!(scene.report(key(1, 1), ready(1, 2, 1)), [grant(1, 1, 1)], "only ours is left");
}

#[test]
fn a_silent_agent_gets_nothing_new_and_is_gone_in_the_end() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    assert_eq!(scene.pass(secs(3)), [""; 0]);
    assert_eq!(scene.arrive(1), [""; 0], "three heartbeats are missing");
    assert_eq!(scene.pass(secs(7)), ["forget 1.1"]);
    assert_eq!(scene.report(key(1, 1), ready(1, 1, 0)), [grant(0, 0, 1)], "back");
}

#[test]
fn a_new_life_does_not_inherit_free_slots_that_the_old_one_still_holds() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    assert_eq!(scene.connect(key(1, 2), ready(1, 1, 0)), [""; 0]);
    assert_eq!(scene.disconnect(key(1, 1), 1), ["forget 1.1"]);
    assert_eq!(scene.arrive(1), [""; 0], "the answer of before goes on");
    assert_eq!(scene.end(0, LeaseEnd::Done), [grant(1, 1, 1)]);
}

#[test]
fn an_older_connection_that_ends_is_of_no_account() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.connect(key(1, 1), ready(1, 1, 0));
    assert_eq!(scene.disconnect(key(1, 1), 1), [""; 0]);
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
}

#[test]
fn an_older_agent_speaks_for_its_address_again_when_the_later_one_is_gone() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 2, 0));
    scene.connect(key(2, 1), AgentReport { address: address(1), ..ready(2, 2, 0) });
    assert_eq!(scene.arrive(1), [grant(0, 0, 2)]);
    scene.arrive(1);
    assert_eq!(scene.arrive(1), [""; 0], "full");
    assert_eq!(scene.disconnect(key(2, 1), 2), ["forget 2.1"]);
    assert_eq!(scene.end(0, LeaseEnd::Done), [grant(2, 2, 1)], "the answers of the other count");
}

/// A report of Paddler 1.x.
fn old(agent: u64) -> AgentReport {
    AgentReport { sample_age: None, heartbeat: None, ..ready(agent, 1, 0) }
}

#[test]
fn two_reports_that_come_together_do_not_make_an_agent_silent() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), old(1));
    for _ in 0..3 {
        scene.pass(secs(10));
        scene.report(key(1, 1), old(1));
    }
    scene.pass(millis(5));
    scene.report(key(1, 1), old(1));
    assert_eq!(scene.pass(secs(20)), [""; 0]);
    assert_eq!(scene.arrive(1), [grant(0, 0, 1)]);
}

#[test]
fn a_heartbeat_that_is_not_announced_is_learnt() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), old(1));
    for _ in 0..3 {
        scene.pass(secs(1));
        scene.report(key(1, 1), old(1));
    }
    scene.pass(secs(3));
    assert_eq!(scene.arrive(1), [""; 0], "three of its heartbeats are missing");
}

/// Slots of the pool, and of its first agent: in all, free, in use, and of those cooling.
fn slots(scene: &Scene) -> [u32; 7] {
    let state = scene.core.snapshot();
    let (pool, agent) = (&state.pools[0], &state.agents[0]);
    [
        pool.slots_total,
        pool.slots_idle,
        pool.slots_processing,
        agent.slots_total,
        agent.slots_idle,
        agent.slots_processing,
        agent.slots_cooling,
    ]
}

#[test]
fn a_slot_that_nobody_is_given_is_not_free_and_not_in_use() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 4, 1));
    scene.arrive(1);
    assert_eq!(slots(&scene), [4, 2, 2, 4, 2, 2, 0]);
    let notice = Notice { reason: NoticeReason::SpotInterruption, left: None };
    scene.report(key(1, 1), AgentReport { notice: Some(notice), ..ready(1, 4, 2) });
    assert_eq!(slots(&scene), [4, 0, 2, 4, 0, 2, 0], "it gets nothing new");
    assert_eq!(scene.core.load().slots_processing, 2);
    scene.report(key(1, 1), ready(1, 4, 2));
    assert_eq!(slots(&scene), [4, 2, 2, 4, 2, 2, 0]);
    scene.pass(secs(3));
    assert_eq!(slots(&scene), [4, 0, 2, 4, 0, 2, 0], "it is silent");
    scene.report(key(1, 1), ready(1, 4, 2));
    scene.end(0, LeaseEnd::Cancelled);
    assert_eq!(slots(&scene), [4, 2, 2, 4, 2, 2, 1], "llama.cpp may still compute");
}
