//! Balancers that are killed, and two of them on one group.

use rustix::process::Signal;

use super::*;

#[tokio::test]
async fn killed_while_booting_it_adopts_the_launch() {
    let times = crate::support::fake_aws::Times { boot: Duration::from_secs(3), ..Default::default() };
    let group = GroupConfig { times, ..GroupConfig::default() };
    let mut scene = Scene::of(1, &["--max-instances", "3", "--idle-timeout", NEVER], group).await;
    let group = scene.group();
    let lost = scene.begin(json!({}));
    eventually("it was woken", SOON, async || (group.desired() == 1).then_some(())).await;
    scene.restart().await;
    lost.abort();
    assert_eq!(scene.ask().await.status, 200);
    assert_eq!((group.launched(), group.desired()), (1, 1));
    assert_eq!(scene.aws.calls_of("SetDesiredCapacity").len(), 1, "the wish that stands was enough");
    scene.assert_no_harm();
}

#[tokio::test]
async fn killed_while_draining_it_ends_nothing_that_it_has_not_watched() {
    let mut scene = Scene::of(2, &["--idle-timeout", "4s"], GroupConfig::default()).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200);
    let id = group.ids(Lifecycle::InService)[0].clone();
    // Three of four seconds of rest have passed when the successor starts: it watches a whole idle time of its own. The first
    // one does nothing meanwhile, however long that takes.
    scene.paddock.program().signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.restart().await;
    let restarted = scene.aws.clock().mono();
    scene.until_slots(2).await;
    scene.until_at_zero(&group).await;
    let calls = scene.aws.calls_of("TerminateInstanceInAutoScalingGroup");
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].parameter("InstanceId"), id);
    let watched = calls[0].at.since(restarted);
    assert!(watched >= Duration::from_secs(4), "ended after {watched:?}");
    scene.assert_no_harm();
}

#[tokio::test]
async fn killed_after_the_end_was_asked_for_it_lets_the_end_go_on() {
    let hooks = vec![crate::support::fake_aws::Hook::terminating("drain", Duration::from_secs(600))];
    let group = GroupConfig { hooks, ..GroupConfig::default() };
    let mut scene = Scene::of(2, &["--idle-timeout", "500ms"], group).await;
    let group = scene.group();
    assert_eq!(scene.ask().await.status, 200);
    eventually("its end was asked for", SOON, async || {
        (!scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").is_empty()).then_some(())
    })
    .await;
    scene.restart().await;
    scene.until_at_zero(&group).await;
    assert_eq!(scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").len(), 1);
    scene.assert_no_harm();
}

/// Not even a look: everything is the successor's.
#[tokio::test]
async fn a_drain_calls_nobody_and_ends_no_instance() {
    let mut scene = Scene::of(2, &["--idle-timeout", "1s"], GroupConfig::default()).await;
    let group = scene.group();
    let mut stream = scene.stream("end").await;
    let (proxy, management) = (scene.paddock.proxy(), scene.paddock.management());
    let calls = |scene: &Scene| scene.aws.calls().len();
    scene.paddock.sigterm();
    eventually("management has ended", SOON, async || {
        tokio::net::TcpStream::connect(management).await.is_err().then_some(())
    })
    .await;
    // A look may have been under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = calls(&scene);
    // Longer than the pause between two looks, and than a silent agent counts.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(calls(&scene), before);
    let id = group.ids(Lifecycle::InService)[0].clone();
    group.machine(&id).llama().unwrap().release("end");
    assert!(stream.body().await.1, "{}", scene.paddock.output());
    assert!(scene.paddock.wait().await.success());
    assert_eq!(calls(&scene), before);
    assert_eq!((group.desired(), group.ids(Lifecycle::InService)), (1, vec![id]));
    scene.paddock = start(&scene.aws, proxy, management, &scene.flags).await;
    scene.until_slots(2).await;
    scene.until_at_zero(&group).await;
    scene.assert_no_harm();
}

#[tokio::test]
async fn a_wish_that_fails_since_before_the_restart_is_told_and_taken_back() {
    use crate::support::fake_aws::LaunchFailure;
    let scene = Scene::of(1, &[], GroupConfig::default()).await;
    let group = scene.group();
    drop(scene.paddock);
    group.fail_launches(LaunchFailure::NoCapacity);
    group.set_desired(1);
    eventually("it fails", SOON, async || (!group.activities().is_empty()).then_some(())).await;
    let paddock = start(&scene.aws, free_addr(), free_addr(), &scene.flags).await;
    eventually("it is taken back", SOON, async || (group.desired() == 0).then_some(())).await;
    let told = post_json(paddock.proxy(), CHAT, &chat(json!({}))).await;
    assert!(refused(&told).0.contains("no capacity"), "{}", told.text());
    assert_eq!(scene.aws.harm(), [""; 0]);
}

/// The second one has the group, but no agent reports to it: it does not know what serves.
#[tokio::test]
async fn two_balancers_on_one_group_end_no_busy_instance() {
    let short = ["--idle-timeout", "1s", "--boot-timeout", "2s", "--max-instances", "3"];
    let scene = Scene::of(1, &short, GroupConfig::default()).await;
    let group = scene.group();
    let mut stream = scene.stream("end").await;
    let mut rival = start(&scene.aws, free_addr(), free_addr(), &scene.flags).await;
    eventually("the rival sees the instance", SOON, async || {
        (rival.state().await["pools"][0]["instances"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    // Well beyond its boot timeout and idle timeout.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.aws.calls_of("TerminateInstanceInAutoScalingGroup").len(), 0);
    let id = group.ids(Lifecycle::InService)[0].clone();
    assert!(!group.machine(&id).is_gone());
    assert_eq!(rival.state().await["pools"][0]["groups"][0]["has_rival"], json!(true));
    group.machine(&id).llama().unwrap().release("end");
    assert!(stream.body().await.1);
    scene.until_at_zero(&group).await;
    rival.program().sigkill();
    scene.assert_no_harm();
}

/// A machine whose agent died before the balancer ever heard of it, and that nobody else claims.
#[tokio::test]
async fn an_instance_that_is_never_heard_of_is_ended_after_boot_and_idle_timeout() {
    let short = ["--idle-timeout", "2s", "--boot-timeout", "3s"];
    let scene = Scene::of(1, &short, GroupConfig::default()).await;
    let group = scene.group();
    let management = scene.paddock.management();
    drop(scene.paddock);
    group.silence_next_boots(1);
    group.set_desired(1);
    eventually("it is there", SOON, async || (group.ids(Lifecycle::InService).len() == 1).then_some(()))
        .await;
    let began = scene.aws.clock().mono();
    let _paddock = start(&scene.aws, free_addr(), management, &scene.flags).await;
    eventually("it is ended", SOON, async || (group.desired() == 0).then_some(())).await;
    let took = scene.aws.clock().mono().since(began);
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert_eq!(scene.aws.harm(), [""; 0]);
}
