//! The fake AWS itself, asked with AWS's own SDK: what it imitates must be right, or the tests that rely on it prove nothing.

mod calls;
mod ending;
mod instances;
mod launching;
pub mod metadata;
mod metrics;

use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_autoscaling::types::{Activity, AutoScalingGroup};

use crate::support::fake_aws::{FakeAws, GroupConfig, GroupHandle, LlamaConfig, MachineConfig};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(10);
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);

/// A group whose machines run nothing.
fn bare() -> GroupConfig {
    GroupConfig {
        machine: MachineConfig { llama: LlamaConfig::Never, ..MachineConfig::default() },
        ..GroupConfig::default()
    }
}

/// A client that tries once.
async fn client(fake: &FakeAws) -> Client {
    let once = aws_config::retry::RetryConfig::disabled();
    let config = fake.sdk_config().await.into_builder().retry_config(once).build();
    Client::new(&config)
}

async fn start(config: GroupConfig) -> (FakeAws, GroupHandle, Client) {
    let (fake, group) = FakeAws::with_group(config).await;
    let client = client(&fake).await;
    (fake, group, client)
}

async fn described(client: &Client) -> AutoScalingGroup {
    let output = client.describe_auto_scaling_groups().auto_scaling_group_names("gpu").send().await.unwrap();
    output.auto_scaling_groups()[0].clone()
}

/// The states of the group's instances, in the order of their launches.
async fn states(client: &Client) -> Vec<String> {
    let group = described(client).await;
    let states = group.instances().iter().map(|one| one.lifecycle_state().unwrap().as_str().to_owned());
    states.collect()
}

async fn until_states(client: &Client, expected: &[&str]) {
    let what = format!("the states are {expected:?}");
    eventually(&what, SOON, async || (states(client).await == expected).then_some(())).await;
}

/// Newest first.
async fn activities(client: &Client) -> Vec<Activity> {
    let output = client.describe_scaling_activities().auto_scaling_group_name("gpu").send().await.unwrap();
    output.activities().to_vec()
}

async fn set_desired(client: &Client, desired: i32) {
    try_set_desired(client, desired).await.unwrap();
}

/// The error's code and message when it was refused.
async fn try_set_desired(client: &Client, desired: i32) -> Result<(), (String, String)> {
    let call = client.set_desired_capacity().auto_scaling_group_name("gpu").desired_capacity(desired);
    call.send().await.map(|_| ()).map_err(|error| refusal(&error))
}

async fn try_terminate(
    client: &Client,
    id: &str,
    is_decrementing: bool,
) -> Result<Activity, (String, String)> {
    let call = client
        .terminate_instance_in_auto_scaling_group()
        .instance_id(id)
        .should_decrement_desired_capacity(is_decrementing);
    call.send().await.map(|output| output.activity().unwrap().clone()).map_err(|error| refusal(&error))
}

/// What the SDK read of an error.
fn refusal<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> (String, String) {
    (error.code().unwrap_or("none").to_owned(), error.message().unwrap_or_default().to_owned())
}

fn validation(message: &str) -> (String, String) {
    ("ValidationError".to_owned(), message.to_owned())
}
