//! Instances that are prepared in a warm pool: the agent says when that is done, and again when they leave it.

use std::time::Duration;

use super::*;
use crate::support::fake_aws::{Fault, Hook, HookResult, Times};

const COMPLETE: &str = "CompleteLifecycleAction";
const HOOK: &str = "launch";
/// Longer than any test: the hook ends only by a word of the agent, llama.cpp loads until it is told otherwise.
const LONG: Duration = Duration::from_secs(600);

/// A warm pool with a launching hook; what is prepared there is ended if nobody says that it is ready.
fn pool() -> GroupConfig {
    GroupConfig {
        has_warm_pool: true,
        hooks: vec![Hook::launching(HOOK, LONG, HookResult::Abandon)],
        times: Times { load: LONG, ..Times::default() },
        ..GroupConfig::default()
    }
}

/// The agents of the group complete this hook.
async fn scene(group: GroupConfig, hook: Option<&str>) -> Scene {
    let scene = Scene::of(1, &[], group).await;
    scene.group().change(|config| {
        if let (AgentConfig::Started { flags, .. }, Some(hook)) = (&mut config.machine.agent, hook) {
            flags.extend(["--launching-hook".to_owned(), hook.to_owned()]);
        }
    });
    scene
}

async fn until_state(group: &GroupHandle, id: &str, state: Lifecycle) {
    let is_there = async || group.ids(state).contains(&id.to_owned()).then_some(());
    eventually(&format!("{id} is {state}"), SOON, is_there).await;
}

/// The agent has looked at its llama.cpp, and the balancer knows it.
async fn until_told(scene: &Scene, phase: &str) {
    eventually(&format!("an agent says {phase}"), SOON, async || {
        let state = scene.paddock.state().await;
        let agents = state["agents"].as_array().cloned().unwrap_or_default();
        agents.iter().any(|agent| agent["phase"] == phase).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_instance_is_prepared_in_the_pool_and_leaves_it_for_the_first_request() {
    let scene = scene(pool(), Some(HOOK)).await;
    let group = scene.group();
    let id = group.warm();
    until_state(&group, &id, Lifecycle::WarmedPendingWait).await;
    until_told(&scene, "loading").await;
    // It asks the metadata beside llama.cpp, and either may answer first.
    eventually("nothing may be sent there", SOON, async || {
        let state = scene.paddock.state().await;
        (state["agents"][0]["notice"]["reason"] == "lifecycle_termination").then_some(())
    })
    .await;
    assert!(scene.aws.calls_of(COMPLETE).is_empty(), "llama.cpp still loads");
    let prepared = group.machine(&id);
    prepared.llama().unwrap().set_loading(false);
    until_state(&group, &id, Lifecycle::WarmedStopped).await;
    let calls = scene.aws.calls_of(COMPLETE);
    let said = ["AutoScalingGroupName", "LifecycleHookName", "InstanceId", "LifecycleActionResult"];
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(said.map(|name| calls[0].parameter(name)), ["gpu", HOOK, &id, "CONTINUE"]);
    assert!(prepared.is_gone() && !prepared.has_agent(), "the machine is stopped");
    assert_eq!((group.desired(), scene.aws.ended().len()), (0, 0));

    // A request takes it out of the pool. The machine boots again; the hook holds it until the agent, started anew, speaks.
    let request = scene.begin(json!({}));
    until_state(&group, &id, Lifecycle::InService).await;
    assert_eq!(scene.aws.calls_of(COMPLETE).len(), 2, "{}", group.machine(&id).agent_output());
    until_told(&scene, "loading").await;
    group.machine(&id).llama().unwrap().set_loading(false);
    assert_eq!(answer(request).await.status, 200);
    assert_eq!((group.launched(), scene.aws.calls_of(COMPLETE).len()), (1, 2));
    scene.assert_no_harm();
}

#[tokio::test]
async fn an_instance_past_the_pool_is_let_in_before_its_llama_is_ready() {
    let tags = GroupConfig { has_tags_in_metadata: true, ..pool() };
    for (config, asks_for_its_group) in [(pool(), true), (tags, false)] {
        let scene = scene(config, Some(HOOK)).await;
        let group = scene.group();
        let request = scene.begin(json!({}));
        let id = eventually("it is in service", SOON, async || group.ids(Lifecycle::InService).pop()).await;
        until_told(&scene, "loading").await;
        group.machine(&id).llama().unwrap().set_loading(false);
        assert_eq!(answer(request).await.status, 200);
        let calls = scene.aws.calls_of(COMPLETE);
        assert_eq!(calls.len(), 1, "{calls:?}");
        // A tag in the metadata saves a question.
        let asked = scene.aws.calls_of("DescribeAutoScalingInstances");
        assert_eq!(!asked.is_empty(), asks_for_its_group, "{asked:?}");
        scene.assert_no_harm();
    }
}

#[tokio::test]
async fn without_the_flag_an_agent_calls_nobody() {
    let hooks = vec![Hook::launching(HOOK, Duration::from_millis(300), HookResult::Continue)];
    let scene = scene(GroupConfig { hooks, ..GroupConfig::default() }, None).await;
    assert_eq!(scene.ask().await.status, 200);
    for action in [COMPLETE, "DescribeAutoScalingInstances"] {
        assert!(scene.aws.calls_of(action).is_empty(), "{action}");
    }
}

#[tokio::test]
async fn a_group_without_the_hook_serves_as_ever() {
    let scene = scene(GroupConfig::default(), Some(HOOK)).await;
    assert_eq!(scene.ask().await.status, 200);
    let group = scene.group();
    let id = group.ids(Lifecycle::InService).pop().unwrap();
    eventually("it asked", SOON, async || (!scene.aws.calls_of(COMPLETE).is_empty()).then_some(())).await;
    let output = group.machine(&id).agent_output();
    assert!(!output.contains("cannot complete"), "{output}");
}

#[tokio::test]
async fn what_keeps_the_hook_from_being_completed_is_told_once_and_tried_again() {
    let scene = scene(pool(), Some(HOOK)).await;
    let group = scene.group();
    scene.aws.inject(Some(COMPLETE), Fault::AccessDenied, Some(2));
    let id = group.warm();
    until_state(&group, &id, Lifecycle::WarmedPendingWait).await;
    let machine = group.machine(&id);
    eventually("it is up", SOON, async || machine.llama()).await.set_loading(false);
    until_state(&group, &id, Lifecycle::WarmedStopped).await;
    let calls = scene.aws.calls_of(COMPLETE);
    assert_eq!(calls.len(), 3, "{calls:?}");
    let output = machine.agent_output();
    let says = "allow autoscaling:CompleteLifecycleAction to this instance's role";
    assert_eq!(output.matches(says).count(), 1, "{output}");
}

#[tokio::test]
async fn another_hook_than_the_one_that_holds_is_named() {
    let scene = scene(pool(), Some("lunch")).await;
    let group = scene.group();
    let id = group.warm();
    until_state(&group, &id, Lifecycle::WarmedPendingWait).await;
    let machine = group.machine(&id);
    eventually("it is up", SOON, async || machine.llama()).await.set_loading(false);
    let says = "it does not hold this instance, which is Warmed:Pending:Wait; give --launching-hook the name";
    eventually("the mend", SOON, async || machine.agent_output().contains(says).then_some(())).await;
    assert_eq!(group.ids(Lifecycle::WarmedPendingWait), [id]);
}
