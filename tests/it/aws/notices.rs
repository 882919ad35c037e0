//! Machines that are about to end: spot notices, AWS's own ends, hooks, replacements, and hands.

use super::*;
use crate::support::fake_aws::Hook;

fn hooked() -> GroupConfig {
    GroupConfig { hooks: vec![Hook::terminating("drain", Duration::from_secs(12))], ..GroupConfig::default() }
}

#[tokio::test]
async fn a_spot_notice_in_the_middle_of_eight_streams() {
    let flags = ["--max-instances", "2", "--idle-timeout", "1s"];
    let scene = Scene::of(10, &flags, GroupConfig::default()).await;
    let group = scene.group();
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(scene.stream("end").await);
    }
    // Two that wait for their first byte: they are to be served elsewhere.
    let held: Vec<_> = (0..2).map(|_| scene.begin(json!({"hold": "never"}))).collect();
    let first = group.machines()[0].llama().unwrap();
    eventually("all ten are there", SOON, async || (first.stats().busy == 10).then_some(())).await;
    let id = group.ids(Lifecycle::InService)[0].clone();
    group.interrupt(&id, Duration::from_secs(120));
    // Without a byte, they go to the next instance: with its answer to them they need no release by the first.
    eventually("a second instance serves", SOON, async || (group.machines().len() == 2).then_some(())).await;
    let second = group.machines()[1].clone();
    eventually("they are on the second", SOON, async || {
        second.llama().is_some_and(|llama| llama.stats().busy == 2).then_some(())
    })
    .await;
    assert_eq!(first.stats().busy, 8, "what has begun goes on where it is");
    first.release("end");
    for mut stream in streams {
        let (rest, is_whole) = stream.body().await;
        assert!(is_whole && rest.ends_with(b"data: [DONE]\n\n"));
    }
    second.llama().unwrap().release("never");
    for request in held {
        assert_eq!(answer(request).await.status, 200);
    }
    let state = scene.paddock.state().await;
    assert!(state.to_string().contains("spot_interruption") || !state.to_string().contains(&id), "{state}");
    scene.until_at_zero(&group).await;
    assert_eq!(group.launched(), 2, "drained in time, it was ended with its wish: nothing was replaced");
    assert_eq!(scene.aws.busy_killed(), []);
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_replacement_that_nobody_wants_goes_before_it_costs() {
    let times = crate::support::fake_aws::Times { boot: Duration::from_secs(600), ..Default::default() };
    let scene = Scene::of(1, &["--idle-timeout", NEVER], GroupConfig::default()).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200);
    scene.until("it is known", async |pool| pool["instances"][0]["registered"] == json!(true)).await;
    group.change(|config| config.times = times);
    group.kill_by_hand(&group.ids(Lifecycle::InService)[0]);
    eventually("it was replaced", SOON, async || (group.launched() == 2).then_some(())).await;
    scene.until_at_zero(&group).await;
    assert_eq!(group.launched(), 2);
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_replacement_that_is_wanted_serves() {
    let scene = Scene::of(1, &["--idle-timeout", NEVER], GroupConfig::default()).await;
    let group = scene.group();
    let mut stream = scene.stream("never").await;
    let waiting = scene.begin(json!({}));
    scene.until_waiting(1).await;
    group.kill_by_hand(&group.ids(Lifecycle::InService)[0]);
    let (rest, _) = stream.body().await;
    assert!(String::from_utf8_lossy(&rest).contains("error"), "the stream ends with an error event");
    assert_eq!(answer(waiting).await.status, 200);
    eventually("one is there", SOON, async || (group.instances().len() == 1).then_some(())).await;
    assert_eq!((group.launched(), group.desired()), (2, 1), "the group's own replacement served");
    scene.assert_no_harm();
}

#[tokio::test]
async fn aws_ends_a_busy_instance_with_a_hook() {
    let scene = Scene::of(1, &["--idle-timeout", "1s"], hooked()).await;
    let group = scene.group();
    let mut stream = scene.stream("end").await;
    let id = group.ids(Lifecycle::InService)[0].clone();
    group.end_by_aws(&id);
    scene
        .until("it drains", async |pool| {
            pool["instances"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["id"] == json!(id) && one["drain"] == "notice")
        })
        .await;
    // The hook's own time is 12 s: it is held for longer as long as the stream runs.
    eventually("the hook was extended twice", SOON, async || {
        (scene.aws.calls_of("RecordLifecycleActionHeartbeat").len() >= 2).then_some(())
    })
    .await;
    assert!(!group.machine(&id).is_gone());
    assert_eq!(scene.aws.calls_of("CompleteLifecycleAction").len(), 0);
    group.machine(&id).llama().unwrap().release("end");
    let (rest, is_whole) = stream.body().await;
    assert!(is_whole && rest.ends_with(b"data: [DONE]\n\n"));
    eventually("its end went on at once", SOON, async || group.machine(&id).is_gone().then_some(())).await;
    assert_eq!(scene.aws.calls_of("CompleteLifecycleAction").len(), 1);
    assert_eq!(scene.aws.busy_killed(), []);
    let calls = scene.aws.calls_of("TerminateInstanceInAutoScalingGroup");
    assert!(
        calls.iter().all(|call| call.parameter("InstanceId") != id),
        "AWS was ending it already: {calls:?}"
    );
    scene.until_at_zero(&group).await;
    scene.assert_no_harm();
}

#[tokio::test]
async fn our_own_ends_do_not_wait_for_the_hooks_timeout() {
    let hooks = vec![Hook::terminating("drain", Duration::from_secs(600))];
    let scene =
        Scene::of(1, &["--idle-timeout", "500ms"], GroupConfig { hooks, ..GroupConfig::default() }).await;
    assert_eq!(scene.ask().await.status, 200);
    scene.until_at_zero(&scene.group()).await;
    assert_eq!(scene.aws.calls_of("CompleteLifecycleAction").len(), 1);
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_rebalance_recommendation_moves_the_work_and_costs_nothing() {
    let flags = ["--max-instances", "2", "--idle-timeout", "1s"];
    let scene = Scene::of(1, &flags, GroupConfig::default()).await;
    let group = scene.group();
    let mut stream = scene.stream("end").await;
    let id = group.ids(Lifecycle::InService)[0].clone();
    group.recommend_rebalance(&id);
    scene.until("it drains", async |pool| pool["instances"][0]["drain"] == json!("notice")).await;
    assert_eq!(scene.ask().await.status, 200, "another serves");
    group.machine(&id).llama().unwrap().release("end");
    assert!(stream.body().await.1);
    scene.until_at_zero(&group).await;
    assert_eq!(group.launched(), 2);
    scene.assert_no_harm();
}

#[tokio::test]
async fn an_instance_that_somebody_ends_by_hand_loses_no_request() {
    let scene = Scene::of(1, &["--idle-timeout", "1s"], GroupConfig::default()).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200);
    let held = scene.begin(json!({"hold": "first"}));
    let first = group.machines()[0].llama().unwrap();
    eventually("it is there", SOON, async || (first.stats().busy == 1).then_some(())).await;
    group.kill_by_hand(&group.ids(Lifecycle::InService)[0]);
    eventually("another one has it", SOON, async || {
        let machines = group.machines();
        let second = machines.get(1).and_then(|machine| machine.llama());
        second.filter(|llama| llama.stats().busy == 1).map(|llama| llama.release("first"))
    })
    .await;
    assert_eq!(answer(held).await.status, 200);
    scene.until_at_zero(&group).await;
    scene.assert_no_harm();
}

#[tokio::test]
async fn agents_say_where_they_run() {
    let group = GroupConfig { has_tags_in_metadata: true, ..GroupConfig::default() };
    let scene = Scene::of(1, &[], group).await;
    assert_eq!(scene.ask().await.status, 200);
    let id = scene.group().ids(Lifecycle::InService)[0].clone();
    eventually("its facts", SOON, async || {
        let agent = scene.paddock.state().await["agents"][0].clone();
        let facts = (&agent["instance"], &agent["zone"], &agent["group"]);
        (facts == (&json!(id), &json!("us-east-1a"), &json!("gpu"))).then_some(())
    })
    .await;
}
