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
