//! Groups: what is said about them and the permissions, what is asked for that, and that nothing is changed by it.

use std::collections::BTreeSet;

use super::*;
use crate::documents;
use crate::support::fake_aws::{
    Call, FakeAws, FakeAwsConfig, Fault, GroupConfig, Hook, HookResult, LlamaConfig, MachineConfig, Times,
};
use crate::support::moto::Moto;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(20);
const NOBODY: &str = "i-fffffffffffffffff";
const GIVEN: [&str; 2] = ["--asg-name", "gpu"];

/// A group as docs/aws-groups.md wants it.
fn good() -> GroupConfig {
    GroupConfig {
        hooks: vec![Hook::terminating("drain", Duration::from_secs(300))],
        machine: MachineConfig { llama: LlamaConfig::Never, ..MachineConfig::default() },
        ..GroupConfig::default()
    }
}

/// Nothing that was asked for can have had an effect: looks, an instance that does not exist, and the wish `present`.
fn is_harmless(calls: &[Call], present: Option<&str>) {
    for call in calls {
        let parameter = |name| call.parameter(name);
        match call.action.as_str() {
            action if action.starts_with("Describe") => {}
            "SetDesiredCapacity" => {
                assert_eq!(
                    (Some(parameter("DesiredCapacity")), parameter("HonorCooldown")),
                    (present, "false")
                );
            }
            "TerminateInstanceInAutoScalingGroup"
            | "CompleteLifecycleAction"
            | "RecordLifecycleActionHeartbeat" => {
                assert_eq!(parameter("InstanceId"), NOBODY, "{call:?}");
            }
            _ => panic!("asked for {call:?}"),
        }
    }
}

#[tokio::test]
async fn a_good_group_at_rest_is_well_and_left_as_it_was() {
    let (aws, group) = FakeAws::with_group(good()).await;
    let found = examine_in(&aws.environment(), &GIVEN).await;
    assert_eq!(found.code, Some(0), "{found:?}");
    let expected = [
        ("aws", "ok"),
        ("group", "ok"),
        ("group-limits", "ok"),
        ("group-protection", "ok"),
        ("group-processes", "ok"),
        ("group-zones", "ok"),
        ("group-rebalancing", "ok"),
        ("group-lifetime", "ok"),
        ("group-unit", "ok"),
        ("group-launches", "ok"),
        ("group-claim", "ok"),
        ("group-tag", "skip"),
        ("group-wake", "ok"),
        ("group-hook", "ok"),
        ("group-complete", "ok"),
        ("group-heartbeat", "ok"),
        ("terminate", "ok"),
    ];
    let verdicts = found.verdicts();
    let at = verdicts.iter().position(|(name, _)| *name == "aws").unwrap();
    assert_eq!(verdicts[at..at + expected.len()], expected);
    found.says("clock", "ok", "within 5 s of that of AWS");
    is_harmless(&aws.calls(), Some("0"));
    assert_eq!(aws.calls_of("SetDesiredCapacity").len(), 1);
    assert_eq!((group.desired(), group.launched(), group.activities().len()), (0, 0, 0));
    assert_eq!(aws.harm(), [""; 0]);

    // One that serves is at rest as well.
    group.set_desired(1);
    let served = async || group.ids(crate::support::fake_aws::Lifecycle::InService);
    eventually("it serves", SOON, async || (served().await.len() == 1).then_some(())).await;
    let before = aws.calls().len();
    let found = examine_in(&aws.environment(), &GIVEN).await;
    found.says("group-wake", "ok", "1 was asked for, which it has");
    is_harmless(&aws.calls()[before..], Some("1"));
    assert_eq!((group.desired(), served().await.len(), aws.ended().len()), (1, 1, 0));
}

#[tokio::test]
async fn no_capacity_is_asked_for_while_something_moves() {
    let times = Times { pending: Duration::from_secs(3600), ..Times::default() };
    let (aws, group) = FakeAws::with_group(GroupConfig { times, ..good() }).await;
    group.set_desired(1);
    let found = examine_in(&aws.environment(), &GIVEN).await;
    found.says("group-wake", "skip", " is Pending");
    is_harmless(&aws.calls(), None);
    let nobody = Times { describe_lag: Duration::ZERO, ..Times::default() };
    let (aws, group) = FakeAws::with_group(GroupConfig { times: nobody, ..good() }).await;
    group.fail_launches(crate::support::fake_aws::LaunchFailure::VcpuQuota);
    group.set_desired(1);
    eventually("a launch fails", SOON, async || {
        group.activities().iter().any(|activity| activity.message.is_some()).then_some(())
    })
    .await;
    let found = examine_in(&aws.environment(), &GIVEN).await;
    found.says("group-launches", "warn", "the account's quota is used up; raise it in Service Quotas");
    assert_eq!(found.of("group-wake").0, "skip", "{found:?}");
    is_harmless(&aws.calls(), None);
    assert_eq!(group.desired(), 1);
}

#[tokio::test]
async fn no_capacity_is_asked_for_where_a_balancer_works() {
    let (aws, group) = FakeAws::with_group(good()).await;
    let flags = ["--asg-name", "gpu", "--cloudwatch-namespace", "Paddock"];
    let paddock = Paddock::start_in(&aws.environment(), &flags).await;
    eventually("it claims the group", SOON, async || {
        (!aws.calls_of("CreateOrUpdateTags").is_empty()).then_some(())
    })
    .await;
    eventually("it publishes", SOON, async || {
        (paddock.state().await["cloudwatch"]["puts"].as_u64() >= Some(1)).then_some(())
    })
    .await;
    let management = paddock.management().to_string();
    let before = aws.calls_of("SetDesiredCapacity").len();
    let given = [&flags[..], &["--management-addr", &management]].concat();
    let found = examine_in(&aws.environment(), &given).await;
    found.says("group-wake", "skip", "a balancer says that it works on it");
    found.says("group-claim", "ok", "a balancer works on it: its claim is ");
    found.says("group-tag", "ok", "a claim was written ");
    found.says("cloudwatch", "ok", "the balancer's latest put worked");
    // Its claim tells whoever cannot ask it.
    let found = examine_in(&aws.environment(), &GIVEN).await;
    found.says("group-wake", "skip", "a balancer works on it (its claim is ");
    assert_eq!(aws.calls_of("SetDesiredCapacity").len(), before);
    let wall = aws.clock().now().wall.as_secs();
    group.change(|config| {
        config.tags.insert("paddock:balancers".to_owned(), format!("one {wall};other {wall}"));
    });
    examine_in(&aws.environment(), &GIVEN).await.says("group-claim", "warn", "2 balancers claim it");
}

/// One that may not write the tag works without a claim: it is asked itself.
#[tokio::test]
async fn no_capacity_is_asked_for_where_an_unmarked_balancer_works() {
    let (aws, _group) = FakeAws::with_group(good()).await;
    aws.inject(Some("CreateOrUpdateTags"), Fault::AccessDenied, None);
    let flags = ["--asg-name", "gpu", "--management-token", "sesame"];
    let paddock = Paddock::start_in(&aws.environment(), &flags).await;
    eventually("it cannot claim the group", SOON, async || {
        (!aws.calls_of("CreateOrUpdateTags").is_empty()).then_some(())
    })
    .await;
    let management = paddock.management().to_string();
    let given = [&flags[..], &["--management-addr", &management]].concat();
    let found = examine_in(&aws.environment(), &given).await;
    found.says("token", "ok", "the token is accepted");
    found.says("group-wake", "skip", "a balancer says that it works on it, and may wake it");
    found.says("group-claim", "warn", "has not marked it; allow autoscaling:CreateOrUpdateTags");
    // It may as well work on the group.
    let given = [&GIVEN[..], &["--management-addr", &management]].concat();
    let found = examine_in(&aws.environment(), &given).await;
    found.says("group-wake", "skip", &format!("the balancer at {management} does not tell what it works on"));
    found.says("group-claim", "ok", "no balancer has marked it");
    assert_eq!(aws.calls_of("SetDesiredCapacity").len(), 0);
}

#[tokio::test]
async fn each_action_that_is_denied_is_named() {
    let (aws, group) = FakeAws::with_group(good()).await;
    for (action, name) in [
        ("DescribeAutoScalingGroups", "aws"),
        ("DescribeScalingActivities", "group-launches"),
        ("DescribeLifecycleHooks", "group-hook"),
        ("SetDesiredCapacity", "group-wake"),
        ("CompleteLifecycleAction", "group-complete"),
        ("RecordLifecycleActionHeartbeat", "group-heartbeat"),
        ("TerminateInstanceInAutoScalingGroup", "terminate"),
    ] {
        aws.clear_faults();
        aws.inject(Some(action), Fault::AccessDenied, None);
        let found = examine_in(&aws.environment(), &GIVEN).await;
        found.says(name, "fail", &format!("AWS does not allow autoscaling:{action} ("));
        found.says(
            name,
            "fail",
            "; allow it in the IAM policy of the credentials in use (docs/aws-groups.md, Permissions)",
        );
        let failed = found.verdicts().into_iter().filter(|(_, verdict)| *verdict == "fail").count();
        assert_eq!(failed, 1, "{action}: {found:?}");
    }
    aws.clear_faults();
    aws.inject(None, Fault::ExpiredToken, None);
    examine_in(&aws.environment(), &GIVEN).await.says(
        "aws",
        "fail",
        "AWS refuses the credentials (ExpiredToken",
    );
    aws.clear_faults();
    aws.inject(Some("SetDesiredCapacity"), Fault::Throttled, None);
    examine_in(&aws.environment(), &GIVEN).await.says("group-wake", "warn", "AWS asks for fewer calls");
    is_harmless(&aws.calls(), Some("0"));
    assert_eq!(group.desired(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_group_is_said_for_each_setting() {
    let bad = GroupConfig {
        name: "bad".to_owned(),
        min: 0,
        max: 0,
        is_protecting: false,
        is_rebalancing: true,
        zones: vec!["us-east-1a".to_owned(), "us-east-1b".to_owned()],
        suspended: vec!["Launch".to_owned()],
        launch_template: None,
        hooks: vec![Hook::launching("prepare", Duration::from_secs(60), HookResult::Abandon)],
        ..good()
    };
    let config = FakeAwsConfig { groups: vec![bad], ..FakeAwsConfig::default() };
    let aws = FakeAws::start(config).await;
    let found =
        examine_in(&aws.environment(), &["--asg-name", "bad", "--asg-wake", "launch-instances"]).await;
    found.says("group-limits", "fail", "its MaxSize is 0");
    found.says("group-protection", "warn", "set NewInstancesProtectedFromScaleIn");
    found.says("group-processes", "fail", "its process Launch is suspended");
    found.says("group-zones", "warn", "suspend its process AZRebalance");
    found.says("group-rebalancing", "warn", "turn its capacity rebalancing off");
    found.says("group-template", "fail", "needs a launch template");
    found.says("group-hook", "warn", "no terminating hook");
    found.says("group-complete", "skip", "there is no hook");
    found.says("group-launch", "skip", "would launch");
    aws.group("bad")
        .change(|config| (config.min, config.max, config.suspended) = (1, 1, vec!["Terminate".to_owned()]));
    let given = ["--asg-name", "bad,none", "--max-instances", "2"];
    let found = examine_in(&aws.environment(), &given).await;
    let limits = found.checks.iter().filter(|check| check["name"] == "group-limits");
    let limits: Vec<&str> = limits.map(|check| check["found"].as_str().unwrap()).collect();
    assert!(
        limits.len() == 2 && limits[0].contains("MinSize is 1") && limits[1].contains("--max-instances 2"),
        "{limits:?}"
    );
    found.says("group-processes", "fail", "its process Terminate is suspended");
    let groups: Vec<&Value> = found.checks.iter().filter(|check| check["name"] == "group").collect();
    assert_eq!((&groups[1]["subject"], &groups[1]["verdict"]), (&"none".into(), &"fail".into()));
    assert_eq!(groups[1]["mend"], "mend --asg-name, or AWS_REGION and the credentials' account");
}

#[tokio::test]
async fn an_agent_that_ends_its_machine_may_do_so() {
    let launching = Hook::launching("prepare", Duration::from_secs(60), HookResult::Abandon);
    let (aws, group) =
        FakeAws::with_group(GroupConfig { hooks: vec![launching], desired: 1, ..good() }).await;
    let id =
        eventually("an instance", SOON, async || group.instances().first().map(|one| one.id.clone())).await;
    let given = ["--orphan-timeout", "15m", "--launching-hook", "prepare", "--instance-id", &id];
    let found = examine_in(&aws.environment(), &given).await;
    found.says("own-group", "ok", "it belongs to the Auto Scaling group gpu");
    found.says("terminate", "ok", "");
    found.says("launching-hook", "ok", "it has the hook prepare");
    found.says("group-complete", "ok", "");
    is_harmless(&aws.calls(), None);
    let other = ["--launching-hook", "other", "--instance-id", &id];
    examine_in(&aws.environment(), &other).await.says("launching-hook", "fail", "it has no hook other");
    let stranger = ["--orphan-timeout", "15m", "--instance-id", "i-1"];
    examine_in(&aws.environment(), &stranger).await.says(
        "own-group",
        "warn",
        "it belongs to no Auto Scaling group",
    );
    let nameless = ["--orphan-timeout", "15m"];
    examine_in(&aws.environment(), &nameless).await.says(
        "own-group",
        "fail",
        "nobody tells what this instance is called",
    );
    aws.inject(Some("DescribeAutoScalingInstances"), Fault::AccessDenied, None);
    examine_in(&aws.environment(), &given).await.says(
        "own-group",
        "fail",
        "autoscaling:DescribeAutoScalingInstances",
    );
    assert_eq!(group.desired(), 1);
}

/// Other people's AWS, which knows no lifecycle actions, and fails where AWS says that an instance is not found.
#[tokio::test]
async fn a_group_of_moto_is_left_as_it_was() {
    let moto = Moto::start().await;
    let before = moto.create_group("gpu", 1, 2).await;
    let given = [&GIVEN[..], &["--max-instances", "2"]].concat();
    let found = examine_in(&moto.environment(), &given).await;
    found.says("aws", "ok", "autoscaling:DescribeAutoScalingGroups is allowed in eu-central-1");
    found.says("group-limits", "warn", "its MinSize is 1");
    found.says("group-wake", "ok", "1 was asked for, which it has");
    found.says("terminate", "warn", "it cannot be told: AWS failed with 500");
    assert_eq!(moto.group("gpu").await, before);
}

/// So that whoever has the policies of the documents can ask all of it.
#[test]
fn it_asks_for_nothing_that_balancer_and_agent_do_not_need() {
    let asked = documents::called(&documents::DOCTOR_CALLS);
    let listed: BTreeSet<String> = documents::listed().into_iter().flatten().collect();
    assert!(asked.len() >= 8 && asked.is_subset(&listed), "{asked:?}");
}
