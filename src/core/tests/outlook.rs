//! What waiting requests are told, and those that would not wait so long.

use super::*;

impl Scene {
    fn outlook(&self, request: u64) -> Option<Outlook> {
        self.core.outlook(RequestId(request), self.clock())
    }

    /// A server that is up, with one slot that each answer takes for ten seconds. The agent is 1.
    fn measured() -> Self {
        let mut scene = Self::without_fleet();
        scene.connect(key(1, 1), ready(1, 1, 0));
        scene.arrive(1);
        scene.pass_with(secs(10), &[(key(1, 1), ready(1, 1, 1))]);
        scene.end(0, LeaseEnd::Done);
        scene
    }
}

#[test]
fn a_place_in_the_queue_and_the_time_that_answers_take() {
    let mut scene = Scene::measured();
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    scene.arrive(1);
    scene.arrive(1);
    assert_eq!(scene.outlook(1), None, "it is served");
    assert_eq!(scene.outlook(9), None, "nobody knows it");
    assert_eq!(scene.outlook(2), Some(Outlook { position: 1, eta: Some(secs(10)), phase: None }));
    assert_eq!(scene.outlook(3), Some(Outlook { position: 2, eta: Some(secs(20)), phase: None }));
    assert_eq!(scene.end(1, LeaseEnd::Done), [grant(2, 2, 1)]);
    assert_eq!(scene.outlook(3).map(|outlook| outlook.position), Some(1));
}

#[test]
fn before_an_answer_was_measured_nobody_knows() {
    let mut scene = Scene::without_fleet();
    scene.connect(key(1, 1), ready(1, 1, 0));
    scene.arrive(1);
    scene.arrive(1);
    assert_eq!(scene.outlook(1), Some(Outlook { position: 1, eta: None, phase: None }));
    assert_eq!(scene.arrive_for(millis(1)), [""; 0], "so it may wait, as long as it does");
    assert_eq!(scene.pass(millis(1)), [reject(2, "timeout")]);
}

#[test]
fn the_boot_that_ends_first_is_foretold_phase_by_phase() {
    let mut scene = Scene::with_fleet();
    scene.arrive(1);
    scene.start(1, wake(1));
    let phase = |scene: &Scene| scene.outlook(0).and_then(|outlook| outlook.phase);
    assert_eq!(phase(&scene), Some(snapshot::BootPhase::Call));
    scene.succeed(1, &["i"]);
    scene.observe(&[("i", InstanceState::Running)]);
    scene.connect(
        key(1, 1),
        AgentReport {
            boot: BootAges { answered: Some(secs(0)), agent: Some(secs(0)), ..BootAges::default() },
            ..on("i", loading(1))
        },
    );
    assert_eq!(phase(&scene), Some(snapshot::BootPhase::Load));
    let eta = |scene: &Scene| scene.outlook(0).and_then(|outlook| outlook.eta);
    assert_eq!(eta(&scene), Some(secs(60)), "assumed, before a boot was seen");
    scene.now = scene.now + secs(20);
    assert_eq!(eta(&scene), Some(secs(40)), "although nothing happened meanwhile");
}

#[test]
fn what_loads_by_itself_is_told_too() {
    let mut scene = Scene::without_fleet();
    scene.arrive(1);
    assert_eq!(scene.outlook(0).and_then(|outlook| outlook.phase), None);
    scene.connect(key(1, 1), loading(1));
    assert_eq!(scene.outlook(0).and_then(|outlook| outlook.phase), Some(snapshot::BootPhase::Load));
}

#[test]
fn a_client_that_would_not_wait_for_the_boot_wakes_nothing() {
    let mut scene = Scene::with_fleet();
    for wait_max in [Duration::ZERO, secs(1), secs(59)] {
        let request = scene.requests;
        assert_eq!(scene.arrive_for(wait_max), [reject(request, "too late")]);
    }
    assert!(!scene.core.take_plan_changed());
    assert_eq!((scene.plan(), scene.core.take_queued_peak()), (vec![], 0));
    assert_eq!(scene.arrive_for(secs(60)), [""; 0], "this one waits as long as a boot is taken to last");
    assert_eq!(scene.plan(), [wake(1)]);
}

#[test]
fn a_client_with_a_deadline_is_served_at_once_or_told_at_its_deadline() {
    let mut scene = Scene::measured();
    assert_eq!(scene.arrive_for(Duration::ZERO), [grant(1, 1, 1)]);
    assert_eq!(scene.arrive_for(secs(9)), [reject(2, "too late")], "an answer takes ten seconds");
    assert_eq!(scene.arrive_for(Duration::ZERO), [reject(3, "too late")]);
    assert_eq!(scene.arrive_for(secs(10)), [""; 0]);
    assert_eq!(scene.arrive_for(secs(15)), [reject(5, "too late")], "there is one before it");
    let report = [(key(1, 1), ready(1, 1, 1))];
    assert_eq!(scene.pass_with(secs(9), &report), [""; 0]);
    assert_eq!(scene.pass_with(secs(1), &report), [reject(4, "timeout")]);
}

#[test]
fn a_deadline_never_extends_the_gateways_own() {
    let mut scene = Scene::without_fleet();
    scene.arrive_for(Duration::MAX);
    assert_eq!(scene.pass(secs(60)), [reject(0, "timeout")]);
}

#[test]
fn an_instance_on_its_way_out_comes_back_for_a_client_in_a_hurry() {
    let mut scene = Scene::new(PoolConfig { instances_max: 2, ..config() });
    scene.served_by("i");
    scene.end(0, LeaseEnd::Done);
    let report = [(key(1, 1), on("i", ready(1, 1, 0)))];
    scene.pass_with(secs(301), &report);
    assert_eq!(scene.plan(), [terminate("i")]);
    assert_eq!(scene.arrive_for(millis(1)), [grant(1, 1, 1)], "no boot is that short");
    assert_eq!(scene.plan(), []);
}
