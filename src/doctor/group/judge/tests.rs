use aws_sdk_autoscaling::primitives::DateTime;
use aws_sdk_autoscaling::types::builders::AutoScalingGroupBuilder;
use aws_sdk_autoscaling::types::{Instance, ScalingActivityStatusCode, SuspendedProcess, TagDescription};

use super::*;

const WALL: Duration = Duration::from_secs(1_800_000_000);

fn good() -> AutoScalingGroupBuilder {
    AutoScalingGroup::builder()
        .min_size(0)
        .max_size(2)
        .desired_capacity(0)
        .new_instances_protected_from_scale_in(true)
        .availability_zones("a")
}

fn instance(state: LifecycleState) -> Instance {
    Instance::builder().instance_id("i-1").lifecycle_state(state).build()
}

/// The claims of balancers that are so many seconds old.
fn claimed(ages: &[u64]) -> AutoScalingGroupBuilder {
    let claims = ages.iter().enumerate().map(|(n, age)| format!("{n} {}", WALL.as_secs() - age));
    let value = claims.collect::<Vec<_>>().join(";");
    good().tags(TagDescription::builder().key("paddock:balancers").value(value).build())
}

fn line(check: &Check) -> String {
    format!(
        "{:?} {}: {}; {}",
        check.verdict,
        check.name,
        check.found,
        check.mend.as_deref().unwrap_or_default()
    )
}

#[test]
fn every_setting_of_a_good_group_is_said_to_be_good() {
    let checks = group("gpu", &good().build(), 2, AsgWake::SetDesiredCapacity);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    let settings = ["limits", "protection", "processes", "zones", "rebalancing", "lifetime", "unit"];
    let settings = settings.map(|setting| format!("group-{setting}"));
    assert_eq!(names[0], "group");
    assert_eq!(names[1..], settings);
    let template = group("gpu", &good().build(), 2, AsgWake::LaunchInstances).pop().unwrap();
    assert_eq!((template.name, template.verdict), ("group-template", Verdict::Fail));
}

#[test]
fn what_keeps_a_group_from_working_fails_and_what_surprises_warns() {
    let launch = SuspendedProcess::builder().process_name("Launch").build();
    for (changed, says) in [
        (good().max_size(0), "Fail group-limits: its MaxSize is 0"),
        (good().suspended_processes(launch), "Fail group-processes: its process Launch is suspended"),
        (good().min_size(1), "Warn group-limits: its MinSize is 1"),
        (good().availability_zones("b"), "Warn group-zones: "),
    ] {
        let checks = group("gpu", &changed.build(), 2, AsgWake::SetDesiredCapacity);
        let bad: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
        let [check] = bad[..] else { panic!("{says}: {bad:?}") };
        assert!(line(check).starts_with(says), "{}", line(check));
        assert!(check.mend.is_some(), "{}", line(check));
    }
}

#[test]
fn a_terminating_hook_is_wanted_with_time_enough() {
    let hook = |transition: &str, seconds| {
        let hook = LifecycleHook::builder().lifecycle_hook_name("drain").lifecycle_transition(transition);
        hook.heartbeat_timeout(seconds).build()
    };
    assert_eq!(hooks("gpu", &[hook(TERMINATING, 300)]).verdict, Verdict::Ok);
    assert!(
        line(&hooks("gpu", &[hook(TERMINATING, 30)]))
            .contains("holds ends for 30 s; set its heartbeat to 300 s")
    );
    assert_eq!(hooks("gpu", &[]).verdict, Verdict::Warn);
    let launching = hook("autoscaling:EC2_INSTANCE_LAUNCHING", 300);
    assert_eq!(hooks("gpu", &[launching]).verdict, Verdict::Warn);
}

#[test]
fn the_latest_launch_tells() {
    let launch = |code: ScalingActivityStatusCode| {
        let launch = Activity::builder().description("Launching a new EC2 instance").status_code(code);
        launch.start_time(DateTime::from_secs(1)).status_message("VcpuLimitExceeded - too many").build()
    };
    let (failed, worked) = (ScalingActivityStatusCode::Failed, ScalingActivityStatusCode::Successful);
    assert_eq!(activities("gpu", &[]).verdict, Verdict::Ok);
    assert_eq!(activities("gpu", &[launch(worked.clone()), launch(failed.clone())]).verdict, Verdict::Ok);
    let check = activities("gpu", &[launch(failed), launch(worked)]);
    assert!(line(&check).contains("the latest failed: group 'gpu': the account's quota"), "{}", line(&check));
}

#[test]
fn claims_tell_who_works_on_the_group_and_that_the_tag_can_be_written() {
    let [claim, tag] = claims("gpu", &good().build(), WALL, false);
    assert_eq!((claim.verdict, tag.verdict), (Verdict::Ok, Verdict::Skip));
    let [claim, tag] = claims("gpu", &claimed(&[40]).build(), WALL, true);
    assert_eq!((claim.verdict, tag.verdict), (Verdict::Ok, Verdict::Ok));
    assert!(claim.found.contains("its claim is 40s old"), "{claim:?}");
    let [claim, _] = claims("gpu", &claimed(&[40, 7]).build(), WALL, false);
    assert!(
        line(&claim)
            .starts_with("Warn group-claim: 2 balancers claim it, the latest 7s ago; end all but one")
    );
    let [claim, _] = claims("gpu", &claimed(&[601]).build(), WALL, false);
    assert_eq!(claim.found, "no balancer has marked it", "an old claim is nobody's");
    let [claim, tag] = claims("gpu", &good().build(), WALL, true);
    assert_eq!(tag.verdict, Verdict::Skip);
    assert!(
        line(&claim)
            .starts_with("Warn group-claim: a balancer works on it, and has not marked it; allow auto")
    );
}

#[test]
fn the_present_capacity_is_asked_for_only_while_nothing_moves() {
    assert_eq!(present_capacity(&good().build(), WALL), Ok(0));
    let serving = || good().desired_capacity(1).instances(instance(LifecycleState::InService));
    assert_eq!(present_capacity(&serving().build(), WALL), Ok(1));
    assert_eq!(present_capacity(&claimed(&[601]).build(), WALL), Ok(0), "nobody's claim");
    for (group, says) in [
        (good().desired_capacity(1), "it wishes for 1 and has 0"),
        (good().instances(instance(LifecycleState::Terminating)), "it wishes for 0 and has 1"),
        (good().desired_capacity(1).instances(instance(LifecycleState::Pending)), "i-1 is Pending"),
        (
            good().desired_capacity(1).instances(instance(LifecycleState::TerminatingWait)),
            "i-1 is Terminating:Wait",
        ),
        (serving().instances(instance(LifecycleState::Standby)), "it wishes for 1 and has 2"),
        (claimed(&[40]), "a balancer works on it (its claim is 40s old)"),
        (good().set_desired_capacity(None), "AWS does not tell"),
    ] {
        let why = present_capacity(&group.build(), WALL).unwrap_err();
        assert!(why.contains(says), "{why}");
    }
}

fn rejected(message: &str) -> CallError {
    CallError::Rejected { code: "ValidationError".to_owned(), message: message.to_owned() }
}

fn denied(message: &str) -> CallError {
    let action = "autoscaling:TerminateInstanceInAutoScalingGroup".to_owned();
    CallError::Denied { action, message: message.to_owned() }
}

#[test]
fn an_instance_that_does_not_exist_tells_denied_from_allowed() {
    for (answer, says) in [
        (
            Err(rejected("Instance Id not found - No managed instance found for instance ID: i-0")),
            "Ok terminate: ",
        ),
        (
            Err(denied("User: x is not authorized")),
            "Fail terminate: AWS does not allow autoscaling:TerminateInstanceInAutoScalingGroup (User: x is not authorized); \
             allow it in the IAM policy",
        ),
        (
            Err(denied("on resource: arn:aws:autoscaling:r:1:autoScalingGroup:*:autoScalingGroupName/*")),
            "Warn terminate: ",
        ),
        (
            Err(rejected("what?")),
            "Fail terminate: autoscaling:TerminateInstanceInAutoScalingGroup: ValidationError: what?",
        ),
        (Ok(()), "Warn terminate: "),
    ] {
        let told = line(&terminate(answer));
        assert!(told.starts_with(says), "{told}");
    }
    let hooked =
        |answer| line(&lifecycle("group-complete", "gpu", "autoscaling:CompleteLifecycleAction", answer));
    let nothing = rejected("No active Lifecycle Action found with instance ID i-0");
    assert!(hooked(Some(Err(nothing))).starts_with("Ok group-complete: "));
    assert!(hooked(Some(Err(denied("no")))).starts_with("Fail group-complete: "));
    assert!(
        hooked(None).starts_with("Skip group-complete: autoscaling:CompleteLifecycleAction is not asked")
    );
}

#[test]
fn what_passes_by_itself_is_no_failure() {
    let told = |error: CallError| failed("aws", "", "a:B", &error).verdict;
    let (code, message, why) = ("C".to_owned(), "m".to_owned(), "w".to_owned());
    let busy =
        CallError::Rejected { code: "ScalingActivityInProgressFault".to_owned(), message: message.clone() };
    let throttled = CallError::Throttled { code: code.clone(), message: message.clone() };
    let server = CallError::Server { status: 500, code: code.clone(), message: message.clone() };
    for error in [busy, throttled, server, CallError::Unknown { why: why.clone() }] {
        assert_eq!(told(error), Verdict::Warn);
    }
    let lost = CallError::Unknown { why: why.clone() };
    assert_eq!(unseen("a:B", &lost).verdict, Verdict::Fail, "AWS is not there at all");
    let wrong = CallError::BadCredentials { code, message };
    let unreachable = CallError::Unreachable { why: why.clone() };
    for error in [CallError::NoRegion, CallError::NoCredentials { why }, wrong, unreachable] {
        assert_eq!(told(error.clone()), Verdict::Fail, "{error}");
        assert!(failed("aws", "", "a:B", &error).mend.is_some(), "{error}");
    }
}

#[test]
fn the_balancer_tells_how_its_puts_go() {
    let puts = |puts, failures, error: Option<&str>| PutsSnapshot {
        puts,
        failures,
        last_error: error.map(str::to_owned),
    };
    assert_eq!(cloudwatch("N", None).verdict, Verdict::Skip);
    assert_eq!(cloudwatch("N", Some(&puts(0, 0, None))).verdict, Verdict::Skip);
    assert_eq!(cloudwatch("N", Some(&puts(3, 1, None))).verdict, Verdict::Ok);
    let check = cloudwatch("N", Some(&puts(3, 1, Some("AWS does not allow it; allow it"))));
    assert_eq!(
        line(&check),
        "Fail cloudwatch: the balancer's latest put failed: AWS does not allow it; allow it"
    );
}

#[test]
fn the_wake_is_told_with_why_it_was_not_asked() {
    let told = |asked| line(&set_desired("gpu", asked));
    assert!(
        told(Ok(Ok(2)))
            .starts_with("Ok group-wake: autoscaling:SetDesiredCapacity is allowed: 2 was asked for")
    );
    assert!(
        told(Err("it moves".to_owned()))
            .starts_with("Skip group-wake: autoscaling:SetDesiredCapacity is not asked: it moves")
    );
    assert!(told(Ok(Err(denied("no")))).starts_with("Fail group-wake: "));
}
