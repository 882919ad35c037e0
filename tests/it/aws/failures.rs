//! What AWS refuses, cannot give, or does not answer; and what the clients are told.

use super::*;
use crate::support::fake_aws::{Call, Fate, Fault, LaunchFailure, Market};

fn spot_and_on_demand() -> Vec<GroupConfig> {
    let named = |name: &str| GroupConfig { name: name.to_owned(), ..GroupConfig::default() };
    vec![GroupConfig { market: Market::Spot, ..named("spot") }, named("on-demand")]
}

#[tokio::test]
async fn without_capacity_in_the_first_group_the_second_serves() {
    let scene = Scene::of_groups(1, &["--idle-timeout", "500ms"], spot_and_on_demand()).await;
    let (spot, on_demand) = (scene.aws.group("spot"), scene.aws.group("on-demand"));
    spot.fail_launches(LaunchFailure::NoCapacity);
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!((spot.launched(), on_demand.launched()), (0, 1));
    assert_eq!(spot.desired(), 0, "the wish was taken back, or the group would try for hours");
    let groups = scene.pool().await["groups"].clone();
    assert_eq!((&groups[0]["name"], &groups[1]["name"]), (&json!("spot"), &json!("on-demand")));
    assert!(groups[0]["cause"].as_str().unwrap().contains("no capacity"), "{groups}");
    let left_alone = groups[0]["left_alone_seconds"].as_f64().unwrap();
    assert!((150.0..=180.0).contains(&left_alone), "{groups}");
    scene.until_at_zero(&on_demand).await;
    spot.clear_launches();
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!(spot.launched(), 0, "it is remembered");
    scene.assert_no_harm();
}

#[tokio::test]
async fn quotas_that_are_used_up_everywhere_are_told_once_they_are_seen() {
    let scene = Scene::of_groups(1, &[], spot_and_on_demand()).await;
    scene.aws.group("spot").fail_launches(LaunchFailure::SpotQuota);
    scene.aws.group("on-demand").fail_launches(LaunchFailure::VcpuQuota);
    let (message, after) = refused(&scene.ask().await);
    let told = scene.aws.clock().mono();
    assert!(message.contains("quota") && message.contains("Service Quotas"), "{message}");
    assert!((100..=180).contains(&after), "until the first group is asked again: {after}");
    let failed = scene
        .aws
        .group("on-demand")
        .activities()
        .iter()
        .filter_map(|activity| activity.ended)
        .min_by_key(|ended| ended.mono);
    let failed = failed.expect("the last group failed").mono;
    // The first look that shows it is the last that they wait for. Taking the wish back is another matter, which looks too.
    let of_it = |call: &Call| call.parameter("AutoScalingGroupName") == "on-demand" && call.at >= failed;
    let after = |action: &str| scene.aws.calls_of(action).into_iter().filter(of_it).map(|call| call.at);
    let taken_back = after("SetDesiredCapacity").min().unwrap_or(told).min(told);
    let looks = after("DescribeScalingActivities").filter(|at| *at < taken_back).count();
    assert!(looks <= 1, "told when it is seen: {looks} looks");
    refused(&scene.ask().await);
    for name in ["spot", "on-demand"] {
        let group = scene.aws.group(name);
        eventually("the wish is taken back", SOON, async || (group.desired() == 0).then_some(())).await;
    }
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_launch_at_once_tells_a_used_up_quota_at_once() {
    let scene = Scene::of_groups(1, &["--asg-wake", "launch-instances"], spot_and_on_demand()).await;
    scene.aws.group("spot").fail_launches(LaunchFailure::SpotQuota);
    scene.aws.group("on-demand").fail_launches(LaunchFailure::VcpuQuota);
    let (message, _) = refused(&scene.ask().await);
    let told = scene.aws.clock().mono();
    assert!(message.contains("Service Quotas"), "{message}");
    let launches = scene.aws.calls_of("LaunchInstances");
    let groups: Vec<&str> = launches.iter().map(|call| call.parameter("AutoScalingGroupName")).collect();
    assert_eq!(groups, ["spot", "on-demand"]);
    let looks = scene.aws.calls_of("DescribeScalingActivities");
    let waited = looks.iter().filter(|look| look.at >= launches[0].at && look.at < told).count();
    assert_eq!(waited, 0, "the answers of the calls are enough");
    assert_eq!(scene.aws.calls_of("SetDesiredCapacity").len(), 0);
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_launch_at_once_tries_each_zone() {
    let zones = ["a", "b", "c"].map(|zone| format!("us-east-1{zone}")).to_vec();
    let group = GroupConfig { zones, ..GroupConfig::default() };
    let flags = ["--asg-wake", "launch-instances", "--idle-timeout", "500ms"];
    let scene = Scene::of(1, &flags, group).await;
    let group = scene.group();
    for zone in ["us-east-1a", "us-east-1b"] {
        group.next_launches(Some(zone), Fate::Fails(LaunchFailure::NoCapacity), None);
    }
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!(group.machines()[0].zone(), "us-east-1c");
    assert_eq!(scene.aws.calls_of("LaunchInstances").len(), 3);
    scene.until_at_zero(&group).await;
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!(scene.aws.calls_of("LaunchInstances").len(), 4, "the zone that had one comes first");
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_launch_whose_answer_was_lost_is_not_made_twice() {
    let scene = Scene::of(1, &["--asg-wake", "launch-instances"], GroupConfig::default()).await;
    scene.aws.inject(Some("LaunchInstances"), Fault::AnswerLost, Some(1));
    assert_eq!(scene.ask().await.status, 200);
    let calls = scene.aws.calls_of("LaunchInstances");
    assert_eq!((calls.len(), scene.group().launched()), (2, 1));
    assert_eq!(calls[0].parameter("ClientToken"), calls[1].parameter("ClientToken"));
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_wish_whose_answer_was_lost_does_not_launch_twice() {
    let scene = Scene::of(1, &["--max-instances", "3"], GroupConfig::default()).await;
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::AnswerLost, Some(1));
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!((scene.group().launched(), scene.aws.calls_of("SetDesiredCapacity").len()), (1, 1));
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_wish_that_never_arrived_is_put_again() {
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::CallLost, Some(1));
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!((scene.group().launched(), scene.aws.calls_of("SetDesiredCapacity").len()), (1, 2));
    scene.assert_no_harm();
}

#[tokio::test]
async fn the_end_of_an_instance_whose_answer_was_lost_is_not_counted_twice() {
    let group = GroupConfig { min: 0, ..GroupConfig::default() };
    let scene = Scene::of(1, &["--idle-timeout", "500ms", "--max-instances", "2"], group).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200);
    scene.aws.inject(Some("TerminateInstanceInAutoScalingGroup"), Fault::AnswerLost, Some(1));
    scene.until_at_zero(&group).await;
    assert_eq!(scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").len(), 1);
    scene.assert_no_harm();
}

#[tokio::test]
async fn throttled_for_a_minute_calls_back_off_and_nobody_is_refused() {
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::Throttled, None);
    let mut waiting = RawClient::connect(scene.paddock.proxy()).await;
    waiting.post(CHAT, &chat(json!({}))).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.aws.clear_faults();
    assert_eq!(waiting.answer().await.status, 200);
    let calls = scene.aws.calls_of("SetDesiredCapacity");
    assert_eq!(scene.group().launched(), 1);
    // 0.5 s, doubled up to 10 s, and up to half as much again by chance.
    assert!((7..=13).contains(&calls.len()), "{} calls", calls.len());
    let gaps: Vec<Duration> = calls.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    assert!(gaps[4] > gaps[0] * 4 && gaps.iter().all(|gap| *gap < Duration::from_secs(16)), "{gaps:?}");
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_missing_permission_is_told_to_who_waits_with_the_action() {
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::AccessDenied, None);
    let (message, after) = refused(&scene.ask().await);
    assert!(
        message.contains("autoscaling:SetDesiredCapacity") && message.contains("IAM policy"),
        "{message}"
    );
    assert!(after <= 5, "{after}");
    scene.aws.clear_faults();
    eventually("it works once it is mended", SOON, async || (scene.ask().await.status == 200).then_some(()))
        .await;
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_failed_launch_is_withdrawn_and_its_late_instance_is_let_go() {
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    let group = scene.group();
    group.next_launches(None, Fate::Fails(LaunchFailure::NoCapacity), Some(1));
    group.next_launches(None, Fate::Late(Duration::from_secs(8)), Some(1));
    let (message, _) = refused(&scene.ask().await);
    assert!(message.contains("no capacity"), "{message}");
    eventually("the late one has come and is gone", SOON, async || {
        (group.launched() == 1 && group.desired() == 0 && group.instances().is_empty()).then_some(())
    })
    .await;
    // The wish was lowered below an instance that AWS did not show yet: nobody could have known.
    assert_eq!(scene.aws.busy_killed(), []);
}

#[tokio::test]
async fn a_launch_that_fails_after_it_was_seen_is_told() {
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    scene.group().next_launches(None, Fate::FailsLater(LaunchFailure::NoCapacity), None);
    let (message, _) = refused(&scene.ask().await);
    assert!(message.contains("no capacity") || message.contains("not in the fleet any more"), "{message}");
    scene.assert_no_harm();
}

#[tokio::test]
async fn boots_that_never_register_are_ended_and_tried_again() {
    let scene = Scene::of(1, &["--boot-timeout", "3s"], GroupConfig::default()).await;
    let group = scene.group();
    group.silence_next_boots(1);
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!((group.launched(), group.desired()), (2, 1));
    assert_eq!(scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").len(), 1);
    scene.assert_no_harm();
}

#[tokio::test]
async fn what_is_wrong_is_told_at_the_start_in_one_line() {
    let aws = FakeAws::start(FakeAwsConfig::of(GroupConfig::default())).await;
    let start = async |name: &str, environment: Vec<(String, String)>| {
        let variables: Vec<(&str, &str)> = environment.iter().map(|(n, v)| (&**n, &**v)).collect();
        let (proxy, management) = (free_addr().to_string(), free_addr().to_string());
        let line =
            ["balancer", "--reverseproxy-addr", &proxy, "--management-addr", &management, "--asg-name", name];
        let mut program = Paddock::spawn_in(&line, &variables);
        let status = program.wait().await;
        let output = program.output();
        let errors: Vec<String> =
            output.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
        assert_eq!((status.code(), errors.len()), (Some(1), 1), "{output}");
        errors[0].clone()
    };
    let told = start("no-such-group", aws.environment()).await;
    assert!(told.contains("no Auto Scaling group 'no-such-group' in us-east-1"), "{told}");
    let without = |names: &[&str]| -> Vec<(String, String)> {
        aws.environment().into_iter().filter(|(name, _)| !names.contains(&&**name)).collect()
    };
    let told = start("gpu", without(&["AWS_REGION"])).await;
    assert!(told.contains("AWS_REGION"), "{told}");
    let told = start("gpu", without(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])).await;
    assert!(told.contains("AWS_ACCESS_KEY_ID"), "{told}");
    aws.inject(Some("DescribeAutoScalingGroups"), Fault::AccessDenied, None);
    let told = start("gpu", aws.environment()).await;
    assert!(told.contains("autoscaling:DescribeAutoScalingGroups"), "{told}");
}

#[tokio::test]
async fn a_balancer_starts_although_aws_fails() {
    let management = free_addr();
    let machine = MachineConfig { agent: AgentConfig::reporting_to(management), ..MachineConfig::default() };
    let aws = FakeAws::start(FakeAwsConfig::of(GroupConfig { machine, ..GroupConfig::default() })).await;
    aws.inject(Some("DescribeAutoScalingGroups"), Fault::ServiceUnavailable, None);
    let flags = ["--asg-name", "gpu"].map(str::to_owned);
    let paddock = start(&aws, free_addr(), management, &flags).await;
    let told = post_json(paddock.proxy(), CHAT, &chat(json!({}))).await;
    assert!(refused(&told).0.contains("503"), "{}", told.text());
    aws.clear_faults();
    eventually("it is mended", SOON, async || {
        (post_json(paddock.proxy(), CHAT, &chat(json!({}))).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(aws.harm(), [""; 0]);
}

#[tokio::test]
async fn an_alarm_is_asked_to_wake_only_if_the_balancer_could_not() {
    let flags = ["--cloudwatch-namespace", "Paddock", "--idle-timeout", "500ms"];
    let scene = Scene::of(1, &flags, GroupConfig::default()).await;
    let told = |name: &str| -> Vec<f64> { scene.aws.metric(name).iter().map(|datum| datum.max()).collect() };
    assert_eq!(scene.ask().await.status, 200);
    eventually("the wait is told", SOON, async || told("requests_buffered").contains(&1.0).then_some(()))
        .await;
    scene.until_at_zero(&scene.group()).await;
    eventually("its end too", SOON, async || (told("requests_buffered").last() == Some(&0.0)).then_some(()))
        .await;
    assert!(told("wake_wanted").iter().all(|wanted| *wanted == 0.0), "{:?}", told("wake_wanted"));
    // Who waited is told at once, and waits no more: it is put all the same.
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::AccessDenied, Some(1));
    refused(&scene.ask().await);
    eventually("the alarm is told", SOON, async || told("wake_wanted").contains(&1.0).then_some(())).await;
    scene.assert_no_harm();
}
