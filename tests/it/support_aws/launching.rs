//! How groups launch, and how that fails.

use std::time::Duration;

use aws_sdk_autoscaling::error::ProvideErrorMetadata;
use aws_sdk_autoscaling::operation::launch_instances::LaunchInstancesOutput;
use aws_sdk_autoscaling::types::{RetryStrategy, ScalingActivityStatusCode};
use aws_sdk_autoscaling::{Client, error::SdkError};

use super::{
    NEVER, SOON, activities, bare, described, set_desired, start, states, try_set_desired, until_states,
    validation,
};
use crate::support::fake_aws::{Fate, GroupConfig, LaunchFailure, Lifecycle, Market, Times};
use crate::support::wait::eventually;

#[tokio::test]
async fn raising_the_desired_capacity_launches_and_protection_starts_in_service() {
    let slow = Times { pending: NEVER, ..Times::default() };
    let (_fake, group, client) = start(GroupConfig { times: slow, ..bare() }).await;
    set_desired(&client, 1).await;
    let pending = described(&client).await;
    let instance = &pending.instances()[0];
    assert_eq!(pending.desired_capacity(), Some(1));
    assert_eq!(instance.lifecycle_state().unwrap().as_str(), "Pending");
    assert_eq!(instance.protected_from_scale_in(), Some(false));
    assert_eq!(instance.availability_zone(), Some("us-east-1a"));
    assert_eq!(activities(&client).await[0].status_code(), Some(&ScalingActivityStatusCode::PreInService));

    group.change(|config| config.times.pending = Duration::ZERO);
    until_states(&client, &["InService"]).await;
    assert_eq!(described(&client).await.instances()[0].protected_from_scale_in(), Some(true));
    let activity = activities(&client).await[0].clone();
    assert_eq!(activity.status_code(), Some(&ScalingActivityStatusCode::Successful));
    assert!(activity.cause().unwrap().contains("increasing the capacity from 0 to 1"), "{activity:?}");
    set_desired(&client, 1).await;
    assert_eq!(group.launched(), 1, "the same number again launches nothing");
}

#[tokio::test]
async fn a_group_tells_what_it_is() {
    let mut config = GroupConfig { min: 1, max: 4, has_warm_pool: true, ..bare() };
    config.tags.insert("team".to_owned(), "a & b".to_owned());
    let (_fake, group, client) = start(config).await;
    until_states(&client, &["InService"]).await;
    group.add_warmed(Lifecycle::WarmedStopped);
    let told = described(&client).await;
    assert_eq!((told.min_size(), told.max_size(), told.desired_capacity()), (Some(1), Some(4), Some(1)));
    assert_eq!(told.new_instances_protected_from_scale_in(), Some(true));
    assert_eq!(told.suspended_processes()[0].process_name(), Some("AZRebalance"));
    assert_eq!(told.launch_template().unwrap().launch_template_name(), Some("gpu-template"));
    assert_eq!(told.vpc_zone_identifier(), Some("subnet-us-east-1a"));
    assert_eq!(told.tags()[0].value(), Some("a & b"));
    assert!(told.warm_pool_configuration().is_some());
    assert_eq!((told.warm_pool_size(), told.instances().len()), (Some(1), 1));
    let unknown = client.describe_auto_scaling_groups().auto_scaling_group_names("other").send().await;
    assert!(unknown.unwrap().auto_scaling_groups().is_empty(), "an unknown name is no error");
}

#[tokio::test]
async fn the_desired_capacity_stays_within_its_bounds() {
    let (_fake, _group, client) = start(GroupConfig { min: 1, max: 2, ..bare() }).await;
    assert_eq!(
        try_set_desired(&client, 3).await,
        Err(validation("New SetDesiredCapacity value 3 is above max value 2 for the AutoScalingGroup."))
    );
    assert_eq!(
        try_set_desired(&client, 0).await,
        Err(validation("New SetDesiredCapacity value 0 is below min value 1 for the AutoScalingGroup."))
    );
    let unknown = client.set_desired_capacity().auto_scaling_group_name("other").desired_capacity(1);
    let unknown = super::refusal(&unknown.send().await.unwrap_err());
    assert_eq!(unknown, validation("AutoScalingGroup name not found - AutoScalingGroup other not found"));
}

#[tokio::test]
async fn a_failed_launch_stays_wished_for_until_it_succeeds() {
    let quick =
        Times { failure: Duration::from_millis(10), retry: Duration::from_millis(50), ..Times::default() };
    let (_fake, group, client) = start(GroupConfig { times: quick, ..bare() }).await;
    group.fail_launches(LaunchFailure::NoCapacity);
    set_desired(&client, 1).await;
    let failed = eventually("three attempts failed", SOON, async || {
        let failed: Vec<_> =
            activities(&client).await.into_iter().filter(|one| one.end_time().is_some()).collect();
        (failed.len() >= 3).then_some(failed)
    })
    .await;
    let message = failed[0].status_message().unwrap();
    assert_eq!(failed[0].status_code(), Some(&ScalingActivityStatusCode::Failed));
    assert!(message.contains("InsufficientInstanceCapacity - "), "{message}");
    assert!(message.ends_with("Launching EC2 instance failed."), "{message}");
    assert_eq!((group.desired(), states(&client).await.len()), (1, 0));
    group.clear_launches();
    until_states(&client, &["InService"]).await;
}

#[tokio::test]
async fn each_failure_has_its_code_and_a_withdrawn_wish_is_not_tried_again() {
    let (fake, group, client) = start(GroupConfig { market: Market::Spot, ..bare() }).await;
    group.change(|config| config.times.failure = Duration::ZERO);
    let failures = [
        LaunchFailure::NoCapacity,
        LaunchFailure::Unfulfillable,
        LaunchFailure::SpotQuota,
        LaunchFailure::VcpuQuota,
        LaunchFailure::Unsupported,
        LaunchFailure::NoAddresses,
    ];
    for failure in failures {
        group.next_launches(None, Fate::Fails(failure), Some(1));
        set_desired(&client, 1).await;
        let newest = eventually("the failure is told", SOON, async || {
            activities(&client).await.first().filter(|one| one.end_time().is_some()).cloned()
        })
        .await;
        let expected = format!("Could not launch Spot Instances. {} - ", failure.code());
        assert!(newest.status_message().unwrap().starts_with(&expected), "{newest:?}");
        set_desired(&client, 0).await;
    }
    assert_eq!(activities(&client).await.len(), failures.len());
    assert_eq!(group.lowerings().len(), failures.len());
    assert!(group.lowerings().iter().all(|lowering| lowering.is_withdrawal()));
    assert!(fake.harm().is_empty());
}

#[tokio::test]
async fn another_zone_is_tried_when_one_fails() {
    let zones = ["us-east-1a", "us-east-1b"].map(str::to_owned).to_vec();
    let (_fake, group, client) = start(GroupConfig { zones, ..bare() }).await;
    group.next_launches(Some("us-east-1a"), Fate::Fails(LaunchFailure::Unsupported), None);
    set_desired(&client, 2).await;
    until_states(&client, &["InService", "InService"]).await;
    let zones: Vec<String> = group.instances().into_iter().map(|instance| instance.zone).collect();
    assert_eq!(zones, ["us-east-1b", "us-east-1b"]);
}

#[tokio::test]
async fn launches_may_fail_late_or_come_late() {
    let slow = Times { pending: NEVER, ..Times::default() };
    let (_fake, group, client) = start(GroupConfig { times: slow, ..bare() }).await;
    group.next_launches(None, Fate::FailsLater(LaunchFailure::NoCapacity), Some(1));
    set_desired(&client, 1).await;
    assert_eq!(states(&client).await, ["Pending"]);
    group.change(|config| config.times.pending = Duration::ZERO);
    let cancelled = eventually("the launch is cancelled", SOON, async || {
        let all = activities(&client).await;
        all.into_iter().find(|one| one.status_code() == Some(&ScalingActivityStatusCode::Cancelled))
    })
    .await;
    assert!(cancelled.status_message().unwrap().contains("InsufficientInstanceCapacity"));
    until_states(&client, &["InService"]).await;

    group.next_launches(None, Fate::Late(NEVER), Some(1));
    set_desired(&client, 2).await;
    assert_eq!(states(&client).await.len(), 1, "the second is not to be seen yet");
    set_desired(&client, 1).await;
    group.show_late();
    until_states(&client, &["InService", "InService"]).await;
    assert_eq!((group.desired(), group.launched()), (1, 3), "it came although nobody wishes for it any more");
}

#[tokio::test]
async fn what_is_described_may_lag() {
    let (_fake, group, client) = start(bare()).await;
    group.change(|config| config.times.describe_lag = NEVER);
    set_desired(&client, 1).await;
    let in_service = async || (group.ids(Lifecycle::InService).len() == 1).then_some(());
    eventually("one is in service", SOON, in_service).await;
    let told = described(&client).await;
    assert_eq!((told.desired_capacity(), told.instances().len(), group.desired()), (Some(0), 0, 1));
    group.change(|config| config.times.describe_lag = Duration::ZERO);
    until_states(&client, &["InService"]).await;
}

async fn launch(
    client: &Client,
    token: &str,
    zone: Option<&str>,
) -> Result<LaunchInstancesOutput, (String, String)> {
    let call = client
        .launch_instances()
        .auto_scaling_group_name("gpu")
        .requested_capacity(1)
        .client_token(token)
        .retry_strategy(RetryStrategy::None)
        .set_availability_zones(zone.map(|zone| vec![zone.to_owned()]));
    call.send().await.map_err(|error| super::refusal(&error))
}

#[tokio::test]
async fn launch_instances_answers_at_once_and_once_for_each_token() {
    let zones = ["us-east-1a", "us-east-1b"].map(str::to_owned).to_vec();
    let (_fake, group, client) = start(GroupConfig { zones, max: 2, ..bare() }).await;
    let first = launch(&client, "one", Some("us-east-1b")).await.unwrap();
    let launched = &first.instances()[0];
    assert_eq!(launched.availability_zone(), Some("us-east-1b"));
    assert_eq!(launched.market_type(), Some("OnDemand"));
    assert_eq!(first.client_token(), Some("one"));
    let again = launch(&client, "one", Some("us-east-1b")).await.unwrap();
    assert_eq!(again.instances()[0].instance_ids(), launched.instance_ids());
    assert_eq!((group.desired(), group.launched()), (1, 1));

    let other = launch(&client, "one", Some("us-east-1a")).await.unwrap_err();
    assert_eq!(other.0, "IdempotentParameterMismatch");
    let nowhere = launch(&client, "two", None).await.unwrap_err();
    assert!(nowhere.1.contains("multiple Availability Zones"), "{nowhere:?}");
    assert_eq!(launch(&client, "two", Some("eu-west-1a")).await.unwrap_err().0, "ValidationError");

    group.next_launches(Some("us-east-1a"), Fate::Fails(LaunchFailure::NoCapacity), None);
    let failed = launch(&client, "two", Some("us-east-1a")).await.unwrap();
    let error = &failed.errors()[0];
    assert!(failed.instances().is_empty());
    assert_eq!(error.error_code(), Some("InsufficientInstanceCapacity"));
    assert_eq!(error.availability_zone(), Some("us-east-1a"));
    assert_eq!((group.desired(), group.launched()), (1, 1), "a failure leaves no wish behind");

    launch(&client, "three", Some("us-east-1b")).await.unwrap();
    assert!(launch(&client, "four", Some("us-east-1b")).await.is_err(), "MaxSize is kept");
}

#[tokio::test]
async fn a_launch_with_retries_leaves_a_wish_behind() {
    let (_fake, group, client) = start(bare()).await;
    group.next_launches(None, Fate::Fails(LaunchFailure::NoCapacity), Some(1));
    let call = client.launch_instances().auto_scaling_group_name("gpu").requested_capacity(1);
    let retrying = call.client_token("t").retry_strategy(RetryStrategy::RetryWithGroupConfiguration);
    let output = retrying.send().await.unwrap();
    assert_eq!((output.instances().len(), output.errors().len()), (0, 1));
    assert_eq!(group.desired(), 1);
    until_states(&client, &["InService"]).await;

    let without_template = GroupConfig { launch_template: None, ..bare() };
    let (_fake, _group, client) = start(without_template).await;
    let refused = launch(&client, "t", None).await.unwrap_err();
    assert!(refused.1.contains("launch template"), "{refused:?}");
}

#[tokio::test]
async fn activities_come_newest_first_and_in_pages() {
    let (_fake, _group, client) = start(bare()).await;
    set_desired(&client, 3).await;
    let page = |token: Option<String>| {
        let call = client.describe_scaling_activities().auto_scaling_group_name("gpu").max_records(2);
        call.set_next_token(token).send()
    };
    let first = page(None).await.unwrap();
    let rest = page(first.next_token().map(str::to_owned)).await.unwrap();
    assert_eq!((first.activities().len(), rest.activities().len(), rest.next_token()), (2, 1, None));
    let ids: Vec<&str> =
        first.activities().iter().chain(rest.activities()).map(|one| one.description().unwrap()).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    let unknown = client.describe_scaling_activities().auto_scaling_group_name("other").send().await;
    let unknown: SdkError<_, _> = unknown.unwrap_err();
    assert_eq!(unknown.code(), Some("ValidationError"));
}
