//! Groups that keep a wish: what is asked of which, what is taken back, and what comes by itself.

use super::*;

const FIRST: GroupId = GroupId(0);
const SECOND: GroupId = GroupId(1);

fn pool(groups: u32, instances_max: u32) -> PoolConfig {
    PoolConfig { groups, instances_max, looks: Some(Looks { hurry: secs(5), rest: secs(60) }), ..config() }
}

pub(super) fn group(desired: u32) -> GroupObserved {
    GroupObserved { desired, min: 0, max: 5, is_protected: true, has_rival: false }
}

fn wake_in(group: GroupId, instances: u32) -> Action {
    Action::Wake { pool: POOL, group, instances }
}

fn withdraw(group: GroupId) -> Action {
    Action::Withdraw { pool: POOL, group }
}

fn describe() -> Action {
    Action::Describe { pool: POOL }
}

impl Scene {
    /// Groups that were seen with these wishes and nothing in them.
    pub(super) fn with_groups(wishes: &[u32], instances_max: u32) -> Self {
        let mut scene = Self::new(pool(wishes.len() as u32, instances_max));
        let groups: Vec<GroupObserved> = wishes.iter().map(|&wish| group(wish)).collect();
        scene.look(&groups, &[]);
        scene
    }

    /// A look at the groups, and at these instances of the first.
    pub(super) fn look(
        &mut self,
        groups: &[GroupObserved],
        instances: &[(&str, InstanceState)],
    ) -> Vec<String> {
        let operation = OperationId(self.now.0.as_millis() as u64 + 1_000_000_000);
        self.start(operation.0, describe());
        let groups = (0..).map(GroupId).zip(groups.iter().copied()).collect();
        let seen = |(id, state): &(&str, InstanceState)| {
            (InstanceId::from(*id), InstanceObserved { group: FIRST, state: state.clone(), address: None })
        };
        let instances = instances.iter().map(seen).collect();
        let said = self.tell(Event::FleetObserved { pool: POOL, began: self.now, groups, instances });
        self.tell(Event::OperationSucceeded { operation, launched: Vec::new(), wish: None });
        said
    }

    /// What the plan does, looks aside.
    fn deeds(&self) -> Vec<Action> {
        self.plan().into_iter().filter(|action| *action != describe()).collect()
    }

    pub(super) fn launch_fails(&mut self, group: GroupId, kind: OperationFailure) -> Vec<String> {
        self.tell(Event::LaunchFailed { pool: POOL, group, kind, cause: "no capacity".into() })
    }

    /// One request is served by instance "a" of the first group, with the agent 1 and the lease 0.
    pub(super) fn serve_by_a(&mut self) {
        assert_eq!(self.arrive(1), [""; 0]);
        assert_eq!(self.deeds(), [wake_in(FIRST, 1)]);
        self.start(1, wake_in(FIRST, 1));
        self.succeed(1, &[]);
        self.pass(secs(4));
        self.look(&[group(1)], &[("a", InstanceState::Running)]);
        assert_eq!(self.connect(key(1, 1), on("a", ready(1, 1, 0))), [grant(0, 0, 1)]);
    }

    fn withdrawn(&mut self, operation: u64, wish: u32) {
        let operation = OperationId(operation);
        self.tell(Event::OperationSucceeded { operation, launched: Vec::new(), wish: Some(wish) });
    }
}

pub(super) fn noticed(reason: NoticeReason, report: AgentReport) -> AgentReport {
    AgentReport { notice: Some(Notice { reason, left: Some(secs(120)) }), ..report }
}

#[test]
fn nothing_is_asked_of_a_group_that_was_not_seen() {
    let mut scene = Scene::new(pool(1, 1));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.plan(), [describe()]);
    scene.look(&[group(0)], &[]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 1)]);
}

#[test]
fn a_wake_is_never_less_than_what_others_wish_for() {
    let mut scene = Scene::with_groups(&[0], 5);
    scene.pass(secs(4));
    scene.look(&[group(2)], &[]);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), [], "what others asked for is on its way");
    scene.pass(secs(10));
    scene.look(&[group(2)], &[("a", InstanceState::Running), ("b", InstanceState::Running)]);
    assert_eq!(scene.deeds(), []);
}

#[test]
fn a_failed_launch_is_taken_back_before_the_next_group_is_asked() {
    let mut scene = Scene::with_groups(&[0, 0], 1);
    scene.arrive(1);
    scene.start(1, wake_in(FIRST, 1));
    scene.succeed(1, &[]);
    scene.pass(secs(4));
    scene.look(&[group(1), group(0)], &[]);
    assert_eq!(scene.launch_fails(FIRST, OperationFailure::Unavailable), [""; 0]);
    assert_eq!(scene.deeds(), [withdraw(FIRST)]);
    scene.start(2, withdraw(FIRST));
    assert_eq!(scene.deeds(), []);
    scene.withdrawn(2, 0);
    assert_eq!(scene.deeds(), [wake_in(SECOND, 1)]);
    scene.start(3, wake_in(SECOND, 1));
    scene.succeed(3, &[]);
    scene.pass(secs(4));
    scene.look(&[group(0), group(1)], &[]);
    assert_eq!(scene.launch_fails(SECOND, OperationFailure::Unavailable), [reject(0, "no capacity")]);
    let Some(Rejection::NoCapacity { retry_after, .. }) = scene.core.out_of_capacity(POOL) else { panic!() };
    assert_eq!(retry_after, secs(176), "until the first is asked again");
}

#[test]
fn three_minutes_later_the_first_group_is_asked_again() {
    let mut scene = Scene::with_groups(&[0, 0], 1);
    scene.arrive(1);
    scene.start(1, wake_in(FIRST, 1));
    scene.fail_operation(1, OperationFailure::Unavailable);
    assert_eq!(scene.deeds(), [wake_in(SECOND, 1)], "refused at once, there is nothing to take back");
    scene.start(2, wake_in(SECOND, 1));
    assert_eq!(scene.fail_operation(2, OperationFailure::Unavailable), [reject(0, "no capacity")]);
    scene.pass(secs(179));
    assert_eq!(scene.arrive(1), [reject(1, "no capacity")]);
    scene.pass(secs(1));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 1)]);
}

#[test]
fn a_wish_that_cannot_be_taken_back_is_used_for_the_next_wake() {
    let mut scene = Scene::with_groups(&[0], 2);
    let open = GroupObserved { is_protected: false, ..group(1) };
    scene.arrive(1);
    scene.start(1, wake_in(FIRST, 1));
    scene.succeed(1, &[]);
    scene.pass(secs(4));
    scene.look(&[open], &[]);
    assert_eq!(scene.launch_fails(FIRST, OperationFailure::Unavailable), [reject(0, "no capacity")]);
    assert_eq!(scene.deeds(), [], "nothing protects what runs");
    scene.pass(secs(181));
    scene.look(&[open], &[]);
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 1)], "not two");
}

#[test]
fn a_failure_that_is_told_before_its_wakes_answer_is_not_forgotten() {
    let mut scene = Scene::with_groups(&[0], 2);
    scene.arrive(1);
    scene.start(1, wake_in(FIRST, 1));
    assert_eq!(scene.launch_fails(FIRST, OperationFailure::Unavailable), [reject(0, "no capacity")]);
    scene.succeed(1, &[]);
    assert_eq!(scene.deeds(), [withdraw(FIRST)]);
}

#[test]
fn throttling_is_waited_out_and_refuses_nobody() {
    let mut scene = Scene::with_groups(&[0], 1);
    let began = scene.now;
    scene.arrive(1);
    let mut operation = 0;
    // The request itself may wait for a minute here.
    while scene.now.since(began) < secs(45) {
        operation += 1;
        scene.start(operation, wake_in(FIRST, 1));
        assert_eq!(scene.fail_operation(operation, OperationFailure::Throttled), [""; 0]);
        assert_eq!(scene.deeds(), []);
        // 0.5 s, doubled up to 10 s, and up to half as much again by chance.
        while scene.deeds() != [wake_in(FIRST, 1)] {
            scene.pass(millis(100));
        }
    }
    assert!((7..=12).contains(&operation), "{operation} calls");
}

#[test]
fn three_failures_in_one_group_lead_to_the_next() {
    let mut scene = Scene::with_groups(&[0, 0], 1);
    scene.arrive(1);
    for operation in 1..=3 {
        assert_eq!(scene.deeds(), [wake_in(FIRST, 1)]);
        scene.start(operation, wake_in(FIRST, 1));
        assert_eq!(scene.fail_operation(operation, OperationFailure::Transient), [""; 0]);
        scene.pass(secs(4));
    }
    assert_eq!(scene.deeds(), [wake_in(SECOND, 1)]);
}

#[test]
fn an_end_and_a_wake_of_one_group_do_not_cross() {
    let mut scene = Scene::with_groups(&[0], 2);
    scene.serve_by_a();
    scene.end(0, LeaseEnd::Done);
    scene.pass_with(secs(301), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    assert_eq!(scene.deeds(), [terminate("a")]);
    scene.start(2, terminate("a"));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), [], "the number is about to change");
    scene.succeed(2, &[]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 1)], "and not 2");
}

#[test]
fn an_end_that_is_seen_before_it_is_answered_lowers_the_wish_once() {
    let mut scene = Scene::new(pool(1, 2));
    let running = InstanceState::Running;
    scene.look(&[group(2)], &[("a", running.clone()), ("b", running.clone())]);
    scene.connect(key(1, 1), on("b", ready(1, 1, 1)));
    scene.pass_with(secs(120 + 300 + 3), &[(key(1, 1), on("b", ready(1, 1, 1)))]);
    assert_eq!(scene.deeds(), [terminate("a")]);
    scene.start(1, terminate("a"));
    scene.look(&[group(1)], &[("a", InstanceState::TerminatingWait), ("b", running)]);
    scene.succeed(1, &[]);
    assert_eq!(scene.core.snapshot().pools[0].groups[0].desired, Some(1));
}

#[test]
fn in_one_plan_an_end_comes_before_a_wake() {
    let mut scene = Scene::new(PoolConfig { instances_min: 1, ..pool(1, 2) });
    scene.look(&[group(1)], &[("a", InstanceState::Running)]);
    scene.connect(key(1, 1), on("a", ready(1, 1, 0)));
    scene.report(key(1, 1), noticed(NoticeReason::SpotInterruption, on("a", ready(1, 1, 0))));
    assert_eq!(scene.deeds(), [terminate("a")]);
}

#[test]
fn a_spot_notice_calls_back_what_has_no_byte_yet() {
    let mut scene = Scene::with_groups(&[0], 2);
    scene.serve_by_a();
    scene.report(key(1, 1), on("a", ready(1, 2, 1)));
    assert_eq!(scene.arrive(1), [grant(1, 1, 1)]);
    scene.tell(Event::AnswerStarted { lease: LeaseId(0) });
    let report = noticed(NoticeReason::SpotInterruption, on("a", ready(1, 2, 2)));
    assert_eq!(scene.report(key(1, 1), report.clone()), ["recall 1"]);
    assert_eq!(scene.report(key(1, 1), report), [""; 0], "once");
    assert_eq!(scene.fail(1, AttemptFailure::Recalled), [""; 0]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 2)]);
    assert_eq!(scene.arrive(1), [""; 0], "behind the one that was called back");
    assert_eq!(scene.connect(key(2, 1), on("b", ready(2, 1, 0))), [grant(1, 2, 2)]);
}

#[test]
fn a_notice_that_is_taken_back_ends_the_drain() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    let ending = noticed(NoticeReason::LifecycleTermination, on("a", ready(1, 1, 1)));
    scene.report(key(1, 1), ending);
    let drain = |scene: &Scene| scene.core.snapshot().pools[0].instances[0].drain;
    assert_eq!(drain(&scene), Some(snapshot::Drain::Notice));
    scene.report(key(1, 1), on("a", ready(1, 1, 1)));
    assert_eq!(drain(&scene), None);
}

#[test]
fn what_its_group_ends_is_not_ended_by_us_as_well() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.end(0, LeaseEnd::Done);
    scene.report(key(1, 1), noticed(NoticeReason::LifecycleTermination, on("a", ready(1, 1, 0))));
    assert_eq!(scene.deeds(), [], "a second order might lower the wish twice");
}

#[test]
fn an_end_that_a_hook_holds_goes_on_once_it_is_drained() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.tell(Event::AnswerStarted { lease: LeaseId(0) });
    scene.pass(secs(4));
    scene.look(&[group(1)], &[("a", InstanceState::TerminatingWait)]);
    let extend = Action::ExtendLifecycle { pool: POOL, group: FIRST, instance: "a".into() };
    assert_eq!(scene.deeds(), std::slice::from_ref(&extend));
    scene.start(2, extend.clone());
    assert_eq!(scene.deeds(), []);
    scene.pass(secs(10));
    assert_eq!(scene.deeds(), std::slice::from_ref(&extend), "again and again");
    scene.tell(Event::ShutdownBegan);
    assert_eq!(scene.plan(), std::slice::from_ref(&extend), "during a shutdown too");
    scene.disconnect(key(1, 1), scene.connections);
    scene.pass(secs(600));
    assert_eq!(scene.plan(), [extend], "and without its agent, which is the successor's");
    scene.end(0, LeaseEnd::Done);
    assert_eq!(scene.plan(), [], "its successor lets it go on");
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.pass(secs(4));
    scene.look(&[group(1)], &[("a", InstanceState::TerminatingWait)]);
    scene.end(0, LeaseEnd::Done);
    let complete = Action::CompleteLifecycle { pool: POOL, group: FIRST, instance: "a".into() };
    assert_eq!(scene.deeds(), [complete]);
}

#[test]
fn a_replacement_that_nobody_wants_is_taken_back_or_ended_while_it_boots() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.end(0, LeaseEnd::Done);
    scene.pass(secs(4));
    scene.look(&[group(1)], &[]);
    assert_eq!(scene.core.snapshot().pools[0].pending, 1, "the group replaces it");
    scene.pass(secs(4));
    assert_eq!(scene.deeds(), [withdraw(FIRST)]);
    scene.look(&[group(1)], &[("b", InstanceState::Pending)]);
    assert_eq!(scene.deeds(), [terminate("b")]);
}

#[test]
fn a_replacement_that_is_wanted_is_no_second_launch() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.pass(secs(4));
    assert_eq!(scene.arrive(1), [""; 0]);
    let said = scene.look(&[group(1)], &[]);
    assert_eq!(said, ["abort 0", "forget 1.1"]);
    assert_eq!(scene.deeds(), [], "the group's own replacement is on its way");
}

#[test]
fn nothing_is_ended_that_another_balancer_may_have_asked_for() {
    let rival = |desired| GroupObserved { has_rival: true, ..group(desired) };
    let mut scene = Scene::with_groups(&[0], 1);
    scene.pass(secs(4));
    // Neither a spare, nor what is never heard of.
    scene.look(&[rival(1)], &[("a", InstanceState::Running)]);
    scene.pass(secs(120 + 300 + 60));
    scene.look(&[rival(1)], &[("b", InstanceState::Running)]);
    scene.pass(secs(1000));
    assert_eq!(scene.deeds(), []);
    scene.look(&[group(1)], &[("b", InstanceState::Running)]);
    scene.pass(secs(400));
    assert_eq!(scene.deeds(), [terminate("b")], "once it is alone");
}

#[test]
fn a_stranger_is_ended_only_after_boot_and_idle_timeout() {
    let mut scene = Scene::new(pool(1, 1));
    scene.look(&[group(1)], &[("a", InstanceState::Running)]);
    scene.pass(secs(120 + 299));
    assert_eq!(scene.deeds(), []);
    scene.pass(secs(3));
    assert_eq!(scene.deeds(), [terminate("a")]);
}

#[test]
fn an_agent_that_says_late_where_it_runs_is_not_tied_to_another_instance() {
    let mut scene = Scene::with_groups(&[0], 2);
    scene.look(&[group(2)], &[("a", InstanceState::Pending), ("b", InstanceState::Pending)]);
    scene.connect(key(2, 1), ready(2, 1, 0));
    scene.report(key(2, 1), on("b", ready(2, 1, 0)));
    let agents = scene.core.snapshot().agents;
    assert_eq!(agents[0].instance, Some("b".into()));
}

#[test]
fn an_instance_that_comes_back_from_standing_by_begins_anew() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.end(0, LeaseEnd::Done);
    scene.pass(secs(4));
    scene.look(&[group(0)], &[("a", InstanceState::Aside)]);
    scene.disconnect(key(1, 1), 1);
    scene.pass(secs(100));
    scene.look(&[group(1)], &[("a", InstanceState::Running)]);
    assert_eq!(scene.deeds(), [], "its agent has time to come back");
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), []);
    assert_eq!(scene.connect(key(1, 1), on("a", ready(1, 1, 0))), [grant(1, 1, 1)]);
}

#[test]
fn a_look_that_began_before_a_wake_says_nothing_about_it() {
    let mut scene = Scene::with_groups(&[0], 1);
    let began = scene.now;
    scene.arrive(1);
    scene.start(1, wake_in(FIRST, 1));
    scene.succeed(1, &[]);
    scene.pass(secs(20));
    let groups = BTreeMap::from([(FIRST, group(0))]);
    scene.tell(Event::FleetObserved { pool: POOL, began, groups, instances: BTreeMap::new() });
    assert_eq!(scene.deeds(), [], "the launch is still expected");
    assert_eq!(scene.core.snapshot().pools[0].pending, 1);
    assert_eq!(scene.core.snapshot().pools[0].groups[0].desired, Some(1), "nor about its wish");
}

/// A machine that vanished without a word, whose last report was long on its way.
#[test]
fn a_late_report_of_a_machine_that_is_gone_makes_it_no_server() {
    let mut scene = Scene::with_groups(&[0], 1);
    scene.serve_by_a();
    scene.end(0, LeaseEnd::Done);
    scene.pass(secs(4));
    scene.look(&[group(0)], &[]);
    scene.report(key(1, 1), on("a", ready(1, 1, 0)));
    assert_eq!(scene.arrive(1), [""; 0]);
    assert_eq!(scene.deeds(), [wake_in(FIRST, 1)]);
}

#[test]
fn at_min_size_a_faulty_instance_is_replaced_and_an_idle_one_stays() {
    let at_min = GroupObserved { min: 1, ..group(1) };
    let mut scene = Scene::new(pool(1, 1));
    scene.look(&[at_min], &[("a", InstanceState::Running)]);
    scene.connect(key(1, 1), on("a", ready(1, 1, 0)));
    scene.pass_with(secs(400), &[(key(1, 1), on("a", ready(1, 1, 0)))]);
    assert_eq!(scene.deeds(), []);
    scene.disconnect(key(1, 1), 1);
    scene.pass(secs(31));
    let replace = Action::Terminate { pool: POOL, group: FIRST, instance: "a".into(), replace: true };
    assert_eq!(scene.deeds(), [replace]);
}
