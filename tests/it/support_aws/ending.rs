//! How instances leave their groups.

use std::time::Duration;

use aws_sdk_autoscaling::Client;

use super::{
    NEVER, SOON, activities, bare, described, refusal, set_desired, start, states, try_terminate,
    until_states, validation,
};
use crate::support::fake_aws::{
    EndedBy, FakeAws, GroupConfig, GroupHandle, Hook, HookResult, Lifecycle, Times, Transition,
};
use crate::support::wait::eventually;

/// A group with instances in service, and their ids.
async fn serving(config: GroupConfig) -> (FakeAws, GroupHandle, Client, Vec<String>) {
    let count = config.desired;
    let (fake, group, client) = start(config).await;
    until_states(&client, &vec!["InService"; count]).await;
    let ids = group.ids(Lifecycle::InService);
    (fake, group, client, ids)
}

async fn until_ended(fake: &FakeAws, expected: &[(&str, EndedBy)]) {
    let ended = || fake.ended().into_iter().map(|one| (one.id, one.by)).collect::<Vec<_>>();
    let expected: Vec<(String, EndedBy)> = expected.iter().map(|(id, by)| ((*id).to_owned(), *by)).collect();
    let what = format!("these ended: {expected:?}");
    eventually(&what, SOON, async || (ended() == expected).then_some(())).await;
}

async fn until_desired_and_states(group: &GroupHandle, client: &Client, desired: usize, states: &[&str]) {
    until_states(client, states).await;
    assert_eq!(group.desired(), desired);
}

fn protection_off(config: GroupConfig) -> GroupConfig {
    GroupConfig { is_protecting: false, ..config }
}

#[tokio::test]
async fn a_terminate_call_ends_that_instance_and_lowers_what_is_desired() {
    let (fake, group, client, ids) = serving(GroupConfig { desired: 2, ..bare() }).await;
    group.change(|config| config.times.terminating = NEVER);
    let activity = try_terminate(&client, &ids[1], true).await.unwrap();
    assert!(activity.description().unwrap().contains(&ids[1]), "{activity:?}");
    assert_eq!(states(&client).await, ["InService", "Terminating"], "protection does not matter");
    assert_eq!(group.desired(), 1);
    let twice = try_terminate(&client, &ids[1], true).await.unwrap_err();
    assert_eq!((twice.0.as_str(), group.desired()), ("ScalingActivityInProgress", 1));
    group.change(|config| config.times.terminating = Duration::ZERO);
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
    until_ended(&fake, &[(&ids[1], EndedBy::TerminateCall)]).await;
    assert!(group.lowerings().is_empty(), "that was not by number");
    let unknown = try_terminate(&client, "i-0", true).await;
    let message = "Instance Id not found - No managed instance found for instance ID: i-0";
    assert_eq!(unknown.unwrap_err(), validation(message));
}

#[tokio::test]
async fn min_size_refuses_a_decrement_and_without_one_a_replacement_comes() {
    let (fake, group, client, ids) = serving(GroupConfig { min: 1, desired: 1, ..bare() }).await;
    let refused = try_terminate(&client, &ids[0], true).await.unwrap_err();
    let message = "Currently, desiredSize equals minSize (1). Terminating instance without replacement will \
                   violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false \
                   or lower group's min size.";
    assert_eq!(refused, validation(message));
    assert!(fake.ended().is_empty());
    try_terminate(&client, &ids[0], false).await.unwrap();
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
    assert_eq!(group.launched(), 2);
}

#[tokio::test]
async fn lowering_by_number_ends_unprotected_instances_only() {
    let (fake, group, client, ids) = serving(protection_off(GroupConfig { desired: 2, ..bare() })).await;
    set_desired(&client, 1).await;
    until_ended(&fake, &[(&ids[0], EndedBy::DesiredLowered)]).await;
    let lowering = group.lowerings()[0];
    assert_eq!((lowering.from, lowering.to, lowering.counted), (2, 1, 2));
    assert!(fake.harm()[0].contains("lowered by number"), "{:?}", fake.harm());

    let (fake, group, client, _ids) = serving(GroupConfig { desired: 2, ..bare() }).await;
    set_desired(&client, 1).await;
    let newest = activities(&client).await[0].clone();
    assert_eq!(newest.status_code().unwrap().as_str(), "Cancelled");
    assert!(newest.status_message().unwrap().contains("protected from scale-in"), "{newest:?}");
    until_desired_and_states(&group, &client, 1, &["InService", "InService"]).await;
    assert!(fake.ended().is_empty());
}

#[tokio::test]
async fn what_is_pending_is_trimmed_where_the_group_does_so() {
    let slow = Times { pending: NEVER, ..Times::default() };
    let (_fake, group, client) = start(GroupConfig { times: slow, ..bare() }).await;
    set_desired(&client, 1).await;
    set_desired(&client, 0).await;
    assert_eq!(states(&client).await, ["Pending"]);
    group.change(|config| config.is_pending_trimmed = true);
    until_states(&client, &[]).await;
}

#[tokio::test]
async fn a_terminating_hook_holds_an_instance_until_it_is_completed() {
    let hooks = vec![Hook::terminating("drain", NEVER)];
    let (fake, group, client, ids) = serving(GroupConfig { desired: 1, hooks, ..bare() }).await;
    let told = client.describe_lifecycle_hooks().auto_scaling_group_name("gpu").send().await.unwrap();
    let hook = &told.lifecycle_hooks()[0];
    assert_eq!((hook.lifecycle_hook_name(), hook.heartbeat_timeout()), (Some("drain"), Some(600)));
    assert_eq!(hook.lifecycle_transition(), Some(Transition::Terminating.as_str()));
    assert_eq!(hook.default_result(), Some("CONTINUE"));

    let complete = || {
        let call = client.complete_lifecycle_action().auto_scaling_group_name("gpu").instance_id(&ids[0]);
        call.lifecycle_hook_name("drain").lifecycle_action_result("CONTINUE").send()
    };
    let early = refusal(&complete().await.unwrap_err());
    let message = format!("No active Lifecycle Action found with instance ID {}", ids[0]);
    assert_eq!(early, validation(&message));

    group.change(|config| config.times.hook = NEVER);
    try_terminate(&client, &ids[0], true).await.unwrap();
    assert_eq!((group.desired(), states(&client).await), (0, vec!["Terminating".to_owned()]));
    assert_eq!(refusal(&complete().await.unwrap_err()), validation(&message), "it does not hold yet");
    group.change(|config| config.times.hook = Duration::ZERO);
    until_states(&client, &["Terminating:Wait"]).await;
    assert!(fake.ended().is_empty(), "it is held");
    group.change(|config| config.times.terminating = NEVER);
    complete().await.unwrap();
    assert_eq!(states(&client).await, ["Terminating:Proceed"]);
    group.change(|config| config.times.terminating = Duration::ZERO);
    until_ended(&fake, &[(&ids[0], EndedBy::TerminateCall)]).await;
    until_states(&client, &[]).await;
}

#[tokio::test]
async fn heartbeats_keep_an_instance_and_without_them_it_goes() {
    let held = async |heartbeat: Duration| {
        let hooks = vec![Hook::terminating("drain", heartbeat)];
        let (fake, group, client, ids) = serving(GroupConfig { desired: 1, hooks, ..bare() }).await;
        try_terminate(&client, &ids[0], true).await.unwrap();
        (fake, group, client, ids)
    };
    let beat = |client: &Client, id: &str| {
        let call = client.record_lifecycle_action_heartbeat().auto_scaling_group_name("gpu");
        call.lifecycle_hook_name("drain").instance_id(id).send()
    };
    let (_fake, group, client, ids) = held(NEVER).await;
    until_states(&client, &["Terminating:Wait"]).await;
    let until = || group.instances()[0].waits[0].until;
    let first = until();
    beat(&client, &ids[0]).await.unwrap();
    assert!(until() > first, "its time counts anew");
    assert_eq!(states(&client).await, ["Terminating:Wait"]);

    let (fake, _group, client, ids) = held(Duration::from_millis(50)).await;
    until_ended(&fake, &[(&ids[0], EndedBy::TerminateCall)]).await;
    assert_eq!(refusal(&beat(&client, &ids[0]).await.unwrap_err()).0, "ValidationError");
}

#[tokio::test]
async fn a_launching_hook_holds_a_new_instance_and_may_abandon_it() {
    let hooks = vec![Hook::launching("boot", NEVER, HookResult::Abandon)];
    let (fake, group, client) = start(GroupConfig { desired: 1, hooks, ..bare() }).await;
    until_states(&client, &["Pending:Wait"]).await;
    let first = group.ids(Lifecycle::PendingWait).remove(0);
    let complete = |id: &str, result: &str| {
        let call = client.complete_lifecycle_action().auto_scaling_group_name("gpu").instance_id(id);
        call.lifecycle_hook_name("boot").lifecycle_action_result(result).send()
    };
    complete(&first, "ABANDON").await.unwrap();
    until_ended(&fake, &[(&first, EndedBy::Abandoned)]).await;
    until_states(&client, &["Pending:Wait"]).await;
    let second = group.ids(Lifecycle::PendingWait).remove(0);
    complete(&second, "CONTINUE").await.unwrap();
    until_states(&client, &["InService"]).await;
    assert_eq!((group.desired(), group.launched()), (1, 2));
}

#[tokio::test]
async fn what_disappears_is_noticed_and_replaced() {
    let (fake, group, client, ids) = serving(GroupConfig { desired: 1, ..bare() }).await;
    group.change(|config| {
        config.times = Times { health_check: NEVER, terminating: NEVER, pending: NEVER, ..config.times };
    });
    group.kill_by_hand(&ids[0]);
    until_ended(&fake, &[(&ids[0], EndedBy::Hand)]).await;
    assert_eq!(states(&client).await, ["InService"], "the group does not know it yet");
    group.change(|config| config.times.health_check = Duration::ZERO);
    until_states(&client, &["Terminating", "Pending"]).await;
    assert_eq!(described(&client).await.instances()[0].health_status(), Some("Unhealthy"));
    group.change(|config| config.times = Times::default());
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
    assert_eq!((group.launched(), fake.ended().len()), (2, 1));
}

#[tokio::test]
async fn aws_itself_ends_an_instance_through_the_hook_and_replaces_it() {
    let hooks = vec![Hook::terminating("drain", NEVER)];
    let (fake, group, client, ids) = serving(GroupConfig { desired: 1, hooks, ..bare() }).await;
    group.change(|config| config.times.pending = NEVER);
    group.end_by_aws(&ids[0]);
    until_states(&client, &["Terminating:Wait", "Pending"]).await;
    let call = client.complete_lifecycle_action().auto_scaling_group_name("gpu").instance_id(&ids[0]);
    call.lifecycle_hook_name("drain").lifecycle_action_result("CONTINUE").send().await.unwrap();
    group.change(|config| config.times.pending = Duration::ZERO);
    until_ended(&fake, &[(&ids[0], EndedBy::Aws)]).await;
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
}

#[tokio::test]
async fn with_capacity_rebalance_the_replacement_comes_first() {
    let config = GroupConfig { desired: 1, is_rebalancing: true, ..bare() };
    let (fake, group, client, ids) = serving(config).await;
    group.change(|config| config.times.pending = NEVER);
    group.recommend_rebalance(&ids[0]);
    until_states(&client, &["InService", "Pending"]).await;
    group.change(|config| config.times.pending = Duration::ZERO);
    until_ended(&fake, &[(&ids[0], EndedBy::Rebalanced)]).await;
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
    assert_eq!(group.launched(), 2);
}

#[tokio::test]
async fn warmed_and_standby_instances_do_not_count() {
    let (_fake, group, client, ids) = serving(GroupConfig { desired: 1, ..bare() }).await;
    let warmed = group.add_warmed(Lifecycle::WarmedRunning);
    let refused = try_terminate(&client, &warmed, true).await.unwrap_err();
    assert!(refused.1.contains("warm pool"), "{refused:?}");
    let told = client.describe_auto_scaling_instances().instance_ids(&warmed).send().await.unwrap();
    let told = &told.auto_scaling_instances()[0];
    assert_eq!(
        (told.lifecycle_state(), told.auto_scaling_group_name()),
        (Some("Warmed:Running"), Some("gpu"))
    );

    group.enter_standby(&ids[0], true);
    assert_eq!((group.desired(), states(&client).await), (0, vec!["Standby".to_owned()]));
    group.exit_standby(&ids[0]);
    assert_eq!((group.desired(), states(&client).await), (1, vec!["InService".to_owned()]));
    group.enter_standby(&ids[0], false);
    until_desired_and_states(&group, &client, 1, &["Standby", "InService"]).await;
    try_terminate(&client, &ids[0], true).await.unwrap();
    until_desired_and_states(&group, &client, 1, &["InService"]).await;
}

#[tokio::test]
async fn tags_are_kept() {
    let (_fake, _group, client) = start(bare()).await;
    let tag = aws_sdk_autoscaling::types::Tag::builder()
        .resource_id("gpu")
        .resource_type("auto-scaling-group")
        .key("paddock")
        .value("woken <now>")
        .propagate_at_launch(false);
    client.create_or_update_tags().tags(tag.build()).send().await.unwrap();
    let told = described(&client).await;
    assert_eq!((told.tags()[0].key(), told.tags()[0].value()), (Some("paddock"), Some("woken <now>")));
}
