//! What calls suffer, and the account of them.

use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Credentials;
use aws_sdk_autoscaling::config::timeout::TimeoutConfig;

use super::{bare, described, refusal, set_desired, start, try_set_desired};
use crate::support::fake_aws::{Fault, Outcome};
use crate::support::http;

const ACTION: Option<&str> = Some("SetDesiredCapacity");

#[tokio::test]
async fn faults_come_as_aws_tells_them_and_are_used_up() {
    let (fake, group, client) = start(bare()).await;
    let odd = Fault::Error { status: 400, code: "ResourceContention".to_owned(), message: "busy".to_owned() };
    let faults = [
        (Fault::Throttled, "Throttling"),
        (Fault::AccessDenied, "AccessDenied"),
        (Fault::ExpiredToken, "ExpiredToken"),
        (Fault::InternalFailure, "InternalFailure"),
        (Fault::ServiceUnavailable, "ServiceUnavailable"),
        (odd, "ResourceContention"),
    ];
    for (fault, code) in faults {
        fake.inject(ACTION, fault, Some(1));
        let (told, message) = try_set_desired(&client, 1).await.unwrap_err();
        assert_eq!(told, code);
        if code == "AccessDenied" {
            let denied = "is not authorized to perform: autoscaling:SetDesiredCapacity on resource: arn:aws:";
            assert!(message.contains(denied) && message.contains("Name/gpu because"), "{message}");
        }
    }
    assert_eq!(group.desired(), 0);
    fake.inject(None, Fault::Throttled, None);
    assert!(try_set_desired(&client, 1).await.is_err() && try_set_desired(&client, 1).await.is_err());
    fake.clear_faults();
    fake.inject(Some("DescribeAutoScalingGroups"), Fault::Throttled, None);
    set_desired(&client, 1).await;
}

#[tokio::test]
async fn the_sdk_retries_what_is_throttled_and_what_was_lost() {
    let (fake, group, _client) = start(bare()).await;
    let retrying = Client::new(&fake.sdk_config().await);
    fake.inject(ACTION, Fault::AnswerLost, Some(1));
    fake.inject(ACTION, Fault::Throttled, Some(1));
    set_desired(&retrying, 1).await;
    let outcomes: Vec<Outcome> =
        fake.calls_of("SetDesiredCapacity").into_iter().map(|call| call.outcome).collect();
    let throttled = Outcome::Failed { status: 400, code: "Throttling".to_owned() };
    assert_eq!(outcomes, [Outcome::AnswerLost { code: None }, throttled, Outcome::Done]);
    assert_eq!((group.desired(), group.launched()), (1, 1), "the same number again launches nothing");
}

#[tokio::test]
async fn a_lost_answer_was_carried_out_and_a_lost_call_was_not() {
    let (fake, group, client) = start(bare()).await;
    fake.inject(ACTION, Fault::CallLost, Some(1));
    let lost = client.set_desired_capacity().auto_scaling_group_name("gpu").desired_capacity(1).send().await;
    assert!(lost.unwrap_err().as_service_error().is_none(), "nothing was answered");
    assert_eq!(group.desired(), 0);
    fake.inject(ACTION, Fault::AnswerLost, Some(1));
    let lost = client.set_desired_capacity().auto_scaling_group_name("gpu").desired_capacity(1).send().await;
    assert!(lost.unwrap_err().as_service_error().is_none(), "nothing was answered");
    assert_eq!(group.desired(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_carried_out_whoever_gives_up() {
    let (fake, group, client) = start(bare()).await;
    fake.inject(ACTION, Fault::Slow(Duration::from_secs(600)), Some(1));
    let impatient = TimeoutConfig::builder().operation_timeout(Duration::from_millis(100)).build();
    let config = client.config().to_builder().timeout_config(impatient).build();
    assert!(try_set_desired(&Client::from_conf(config), 1).await.is_err());
    assert_eq!((group.desired(), fake.calls()[0].outcome.clone()), (1, Outcome::Open));
}

#[tokio::test]
async fn every_call_is_kept_with_its_parameters_and_its_time() {
    let (fake, _group, client) = start(bare()).await;
    let before = fake.clock().mono();
    described(&client).await;
    set_desired(&client, 2).await;
    let calls = fake.calls();
    let told: Vec<&str> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(told, ["DescribeAutoScalingGroups", "SetDesiredCapacity"]);
    assert_eq!(calls[0].parameter("AutoScalingGroupNames.member.1"), "gpu");
    assert_eq!((calls[1].parameter("DesiredCapacity"), &calls[1].outcome), ("2", &Outcome::Done));
    assert!(before <= calls[0].at && calls[0].at < calls[1].at && calls[1].at <= fake.clock().mono());
    assert_eq!(calls[0].connection, calls[1].connection, "the connection was warm");
}

#[tokio::test]
async fn who_does_not_sign_or_is_unknown_is_refused() {
    let (fake, _group, client) = start(bare()).await;
    let form = "Action=DescribeAutoScalingGroups&Version=2011-01-01";
    let unsigned = http::client().post(fake.endpoint()).body(form).send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    assert!(unsigned.text().await.unwrap().contains("<Code>MissingAuthenticationToken</Code>"));
    let stranger = Credentials::new("AKIASTRANGER", "secret", None, None, "test");
    let config = client.config().to_builder().credentials_provider(stranger).build();
    let refused = Client::from_conf(config).describe_auto_scaling_groups().send().await.unwrap_err();
    assert_eq!(refusal(&refused).0, "InvalidClientTokenId");
    let elsewhere = client.config().to_builder().region(aws_config::Region::new("eu-west-1")).build();
    let refused = Client::from_conf(elsewhere).describe_auto_scaling_groups().send().await.unwrap_err();
    assert_eq!(refusal(&refused).0, "SignatureDoesNotMatch");
    let foreign = client.describe_policies().send().await.unwrap_err();
    assert_eq!(refusal(&foreign).0, "InvalidAction");
}
