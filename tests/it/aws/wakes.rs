//! From zero and back, growth, and what a wake costs in calls.

use super::*;

#[tokio::test]
async fn from_zero_and_back_five_times() {
    let scene = Scene::of(4, &["--idle-timeout", "500ms"], GroupConfig::default()).await;
    let group = scene.group();
    for cycle in 1..=5 {
        let answer = scene.ask().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-paddock-cold-start"), Some("true"));
        scene.until_at_zero(&group).await;
        assert_eq!(group.launched(), cycle);
        assert_eq!(scene.aws.calls_of("SetDesiredCapacity").len(), cycle);
        assert_eq!(scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").len(), cycle);
    }
    let boots = scene.pool().await["boots"].clone();
    assert_eq!(boots.as_array().unwrap().len(), 5, "each boot is kept: {boots}");
    for phase in ["call", "pending", "boot", "service", "load", "register"] {
        assert!(boots[4]["phase_seconds"][phase].is_number(), "{phase}: {boots}");
    }
    scene.assert_no_harm();
}

#[tokio::test]
async fn fifty_requests_at_zero_launch_one_instance() {
    let scene =
        Scene::of(4, &["--max-instances", "3", "--idle-timeout", NEVER], GroupConfig::default()).await;
    let requests: Vec<_> = (0..50).map(|_| scene.begin(json!({"delay_ms": 5}))).collect();
    for request in requests {
        assert_eq!(answer(request).await.status, 200);
    }
    assert_eq!((scene.group().launched(), scene.group().desired()), (1, 1));
    assert_eq!(scene.aws.calls_of("SetDesiredCapacity").len(), 1);
    let llama = scene.group().machines()[0].llama().unwrap();
    assert_eq!((llama.stats().received, llama.stats().overcommit), (50, 0));
    scene.assert_no_harm();
}

#[tokio::test]
async fn growth_to_three_and_back_to_zero_ends_no_running_answer() {
    // A boot of 300 ms, and answers of a second: a backlog is worth another instance.
    let flags = ["--max-instances", "3", "--idle-timeout", "500ms"];
    let scene = Scene::of(1, &flags, GroupConfig::default()).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200, "a boot and an answer are measured");
    let requests: Vec<_> = (0..24).map(|_| scene.begin(json!({"delay_ms": 1000}))).collect();
    scene.until_slots(3).await;
    for request in requests {
        assert_eq!(answer(request).await.status, 200);
    }
    scene.until_at_zero(&group).await;
    assert_eq!(group.launched(), 3);
    scene.assert_no_harm();
}

#[tokio::test]
async fn shrink_stops_at_the_groups_min_size() {
    let group = GroupConfig { min: 1, desired: 1, ..GroupConfig::default() };
    let scene = Scene::of(1, &["--max-instances", "3", "--idle-timeout", "300ms"], group).await;
    let group = scene.group();
    scene.until_slots(1).await;
    group.set_desired(2);
    scene.until("both are known", async |pool| pool["instances"].as_array().unwrap().len() == 2).await;
    scene.until("one is left", async |pool| pool["instances"].as_array().unwrap().len() == 1).await;
    // It goes on being idle, well beyond the idle time, and is left alone.
    for _ in 0..20 {
        assert_eq!(scene.ask().await.status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((group.desired(), group.instances().len()), (1, 1));
    let calls = scene.aws.calls_of("TerminateInstanceInAutoScalingGroup");
    assert_eq!(calls.len(), 1, "no end below MinSize was even asked for");
    scene.paddock.until_says("its MinSize is 1").await;
    scene.assert_no_harm();
}

#[tokio::test]
async fn an_instance_that_others_asked_for_serves_and_rests() {
    let scene = Scene::of(2, &["--idle-timeout", "1s"], GroupConfig::default()).await;
    let group = scene.group();
    // The backup alarm, or somebody by hand.
    group.set_desired(1);
    let first = scene.begin(json!({}));
    assert_eq!(answer(first).await.status, 200);
    scene.until_at_zero(&group).await;
    assert_eq!(group.launched(), 1, "it was not launched twice");
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_groups_own_limit_holds_beside_max_instances() {
    let group = GroupConfig { max: 1, ..GroupConfig::default() };
    let scene = Scene::of(1, &["--max-instances", "3", "--idle-timeout", NEVER], group).await;
    assert_eq!(scene.ask().await.status, 200);
    let requests: Vec<_> = (0..6).map(|_| scene.begin(json!({"delay_ms": 500}))).collect();
    for request in requests {
        assert_eq!(answer(request).await.status, 200);
    }
    assert_eq!((scene.group().launched(), scene.aws.calls_of("SetDesiredCapacity").len()), (1, 1));
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_standby_instance_is_neither_used_nor_ended() {
    let scene =
        Scene::of(1, &["--idle-timeout", "500ms", "--max-instances", "2"], GroupConfig::default()).await;
    let group = scene.group();
    let stream = scene.stream("on").await;
    let id = group.ids(Lifecycle::InService)[0].clone();
    group.enter_standby(&id, true);
    scene.until("it stands by", async |pool| pool["instances"][0]["state"] == json!("aside")).await;
    assert_eq!(scene.ask().await.status, 200, "another one serves");
    group.machine(&id).llama().unwrap().release("on");
    drop(stream);
    scene.until("only it is left", async |pool| pool["instances"].as_array().unwrap().len() == 1).await;
    assert_eq!(group.ids(Lifecycle::Standby), std::slice::from_ref(&id));
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_wake_goes_over_the_connection_that_the_looks_keep_warm() {
    let scene = Scene::of(1, &["--idle-timeout", NEVER], GroupConfig::default()).await;
    // Until then the first look is not over, and holds the connection.
    eventually("the balancer's claim is written", SOON, async || {
        scene
            .aws
            .calls_of("CreateOrUpdateTags")
            .iter()
            .any(|call| call.outcome == Outcome::Done)
            .then_some(())
    })
    .await;
    assert_eq!(scene.ask().await.status, 200);
    let calls = scene.aws.calls();
    let wake = calls.iter().position(|call| call.action == "SetDesiredCapacity").unwrap();
    let mut looks = calls[..wake].iter().filter(|call| call.action == "DescribeAutoScalingGroups");
    assert!(looks.any(|look| look.connection == calls[wake].connection), "{:?}", &calls[..=wake]);
    scene.assert_no_harm();
}

#[tokio::test]
async fn warmed_instances_are_left_to_their_pool() {
    let group = GroupConfig { has_warm_pool: true, ..GroupConfig::default() };
    let scene = Scene::of(1, &["--idle-timeout", "500ms"], group).await;
    let group = scene.group();
    let warmed = group.add_warmed(Lifecycle::WarmedStopped);
    assert_eq!(scene.ask().await.status, 200);
    scene.until("the other one is gone", async |pool| pool["instances"] == json!([])).await;
    let calls = scene.aws.calls_of("TerminateInstanceInAutoScalingGroup");
    assert!(calls.iter().all(|call| call.parameter("InstanceId") != warmed), "{calls:?}");
    scene.assert_no_harm();
}
