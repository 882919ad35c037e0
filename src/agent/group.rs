//! The instance's Auto Scaling group, as far as the instance itself needs it: to end with it, and to let itself be launched.

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use thiserror::Error;
use tokio::time::sleep;
use tracing::{info, warn};

use super::imds::bottom;
use super::machine::Target;
use crate::protocol::plain;

/// For one call: the SDK has no limit of its own. Calls take well below a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks at an instance that is ending.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// No hook holds an instance for more than 2 h without a heartbeat (EC2 Auto Scaling API, PutLifecycleHook).
const LOOKS_MAX: u32 = 2 * 60 * 60 / 5;

/// How much of an error's text is logged.
const CAUSE_BYTES_MAX: usize = 500;

/// The state of an instance that serves.
const IN_SERVICE: &str = "InService";

/// What the states of an instance in a warm pool begin with.
const WARMED: &str = "Warmed:";

/// The state of an instance that its terminating hooks hold.
const TERMINATING_WAIT: &str = "Terminating:Wait";

/// The transition that those hooks are of.
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// Why the group does not end the instance. Each says what to mend.
#[derive(Debug, Error)]
pub(super) enum GroupError {
    /// It is nobody's.
    #[error("it belongs to no Auto Scaling group, which {0} is for; leave that out")]
    NoGroup(&'static str),
    /// Another one does.
    #[error(
        "it does not hold this instance, which is {state}; give --launching-hook the name of the hook that does"
    )]
    OtherHook { state: String },
    /// Somebody has taken it out, or it is not in yet.
    #[error(
        "its state in group '{group}' is {state}, not InService; return it to service, or end it by hand"
    )]
    NotInService { group: String, state: String },
    /// It would be replaced at once.
    #[error("group '{group}' is at its MinSize; lower MinSize to let it shrink ({cause})")]
    MinSize { group: String, cause: String },
    /// The instance's role lacks a permission.
    #[error("{action} is denied; allow autoscaling:{action} to this instance's role ({cause})")]
    Denied { action: &'static str, cause: String },
    /// Nobody knows who asks.
    #[error("{action} is refused for its credentials; give this instance a role ({cause})")]
    Credentials { action: &'static str, cause: String },
    /// Others ask too much, or the group is being changed.
    #[error("{action} is held off ({cause})")]
    HeldOff { action: &'static str, cause: String },
    /// Anything else, the network too.
    #[error("{action} failed ({cause}); look at the region, and at the way to the Auto Scaling endpoint")]
    Failed { action: &'static str, cause: String },
}

/// A client of Auto Scaling.
pub(super) struct Group {
    client: Client,
}

/// What became of a launching hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launch {
    /// It lets the instance go on.
    Completed,
    /// It does not hold the instance: it was completed, or there is none.
    NotHeld,
    /// It does not hold the instance yet.
    NotYet,
}

/// Where an instance stands.
struct Place {
    group: String,
    state: String,
}

impl Group {
    /// Region, endpoint and credentials as every AWS tool takes them.
    pub(super) async fn from_environment() -> Self {
        Self::new(&aws_config::defaults(BehaviorVersion::latest()).load().await)
    }

    /// Without the SDK's own retries: before each attempt to end the instance its state is looked at, so that an answer
    /// that was lost does not lower the group's desired capacity twice.
    pub(super) fn new(sdk: &SdkConfig) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).build();
        let config = aws_sdk_autoscaling::config::Builder::from(sdk)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// Ends the instance and lowers the group's desired capacity with it (EC2 Auto Scaling API,
    /// TerminateInstanceInAutoScalingGroup): ended in any other way it would be replaced.
    ///
    /// # Errors
    /// If it cannot be ended now. One that is ending already is none.
    pub(super) async fn end(&self, instance: &str) -> Result<(), GroupError> {
        const ACTION: &str = "TerminateInstanceInAutoScalingGroup";
        let Some(Place { group, state }) = self.place(instance).await? else {
            return Err(GroupError::NoGroup("--orphan-timeout"));
        };
        if state.starts_with("Terminat") {
            return Ok(());
        }
        if state != IN_SERVICE {
            return Err(GroupError::NotInService { group, state });
        }
        let call = self.client.terminate_instance_in_auto_scaling_group().instance_id(instance);
        let ended = call.should_decrement_desired_capacity(true).send().await;
        ended.map(drop).map_err(|error| {
            let error = failure(ACTION, &error);
            if let GroupError::Failed { cause, .. } = &error
                && is_min_size(cause)
            {
                return GroupError::MinSize { group, cause: cause.clone() };
            }
            error
        })
    }

    /// Completes the terminating lifecycle actions of an instance that is ending, once they hold it. Returns when nothing
    /// holds it any more, and at the latest after the longest time that a hook can.
    pub(super) async fn let_go(&self, instance: &str) {
        let mut told = String::new();
        for _ in 0..LOOKS_MAX {
            match self.complete(instance).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let error = error.to_string();
                    if error != told {
                        warn!(instance, "cannot complete the lifecycle action: {error}; trying again");
                        told = error;
                    }
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether nothing holds the instance any more.
    async fn complete(&self, instance: &str) -> Result<bool, GroupError> {
        const DESCRIBE: &str = "DescribeLifecycleHooks";
        const COMPLETE: &str = "CompleteLifecycleAction";
        let Some(Place { group, state }) = self.place(instance).await? else { return Ok(true) };
        if state != TERMINATING_WAIT {
            // First it is Terminating, and last Terminating:Proceed.
            return Ok(state != "Terminating" && state != IN_SERVICE);
        }
        let call = self.client.describe_lifecycle_hooks().auto_scaling_group_name(&group);
        let hooks = call.send().await.map_err(|error| failure(DESCRIBE, &error))?;
        let hooks = hooks.lifecycle_hooks().iter();
        for hook in hooks.filter(|hook| hook.lifecycle_transition() == Some(TERMINATING)) {
            let Some(name) = hook.lifecycle_hook_name() else { continue };
            let call = self.client.complete_lifecycle_action().auto_scaling_group_name(&group);
            let call = call.lifecycle_hook_name(name).instance_id(instance);
            let completed = call.lifecycle_action_result("CONTINUE").send().await;
            completed.map_err(|error| failure(COMPLETE, &error))?;
            info!(instance, hook = name, "completed the lifecycle action");
        }
        Ok(false)
    }

    /// Completes this launching hook for the instance, which its group wants at `target`. `named` is its group, where that
    /// is known.
    ///
    /// # Errors
    /// If it cannot be completed now.
    pub(super) async fn complete_launch(
        &self,
        instance: &str,
        named: Option<&str>,
        hook: &str,
        target: Target,
    ) -> Result<Launch, GroupError> {
        const ACTION: &str = "CompleteLifecycleAction";
        const NO_GROUP: GroupError = GroupError::NoGroup("--launching-hook");
        let group = match named {
            Some(named) => named.to_owned(),
            None => self.place(instance).await?.ok_or(NO_GROUP)?.group,
        };
        let call = self.client.complete_lifecycle_action().auto_scaling_group_name(&group);
        let call = call.lifecycle_hook_name(hook).instance_id(instance);
        match call.lifecycle_action_result("CONTINUE").send().await {
            Ok(_) => return Ok(Launch::Completed),
            Err(error) if is_no_action(&error) => {}
            Err(error) => return Err(failure(ACTION, &error)),
        }
        let Place { state, .. } = self.place(instance).await?.ok_or(NO_GROUP)?;
        let step = match (target, state.strip_prefix(WARMED)) {
            (Target::InService, None) => state.as_str(),
            (Target::Warmed, Some(step)) => step,
            // The metadata may tell the target before the state shows the way there.
            (Target::InService, Some(_)) | (Target::Warmed, None) => return Ok(Launch::NotYet),
        };
        match step {
            "Pending" => Ok(Launch::NotYet),
            "Pending:Wait" => Err(GroupError::OtherHook { state }),
            _ => Ok(Launch::NotHeld),
        }
    }

    async fn place(&self, instance: &str) -> Result<Option<Place>, GroupError> {
        const ACTION: &str = "DescribeAutoScalingInstances";
        let call = self.client.describe_auto_scaling_instances().instance_ids(instance);
        let answer = call.send().await.map_err(|error| failure(ACTION, &error))?;
        let details = answer.auto_scaling_instances().first();
        Ok(details.map(|details| Place {
            group: details.auto_scaling_group_name().unwrap_or_default().to_owned(),
            state: details.lifecycle_state().unwrap_or_default().to_owned(),
        }))
    }
}

/// "No active Lifecycle Action found with instance ID i-0123456789abcdef0". There is no code of its own for it.
fn is_no_action<E, R>(error: &SdkError<E, R>) -> bool
where
    SdkError<E, R>: ProvideErrorMetadata,
{
    error.message().is_some_and(|message| message.to_ascii_lowercase().contains("no active lifecycle action"))
}

/// "Currently, desiredSize equals minSize (1). Terminating instance without replacement will violate group's min size
/// constraint." There is no code of its own for it.
fn is_min_size(cause: &str) -> bool {
    let cause = cause.to_ascii_lowercase();
    cause.contains("minsize") || cause.contains("min size")
}

/// By the error's code (EC2 Auto Scaling API, "Common Errors"), else by what lies at its bottom.
fn failure<E, R>(action: &'static str, error: &SdkError<E, R>) -> GroupError
where
    SdkError<E, R>: ProvideErrorMetadata + Error,
{
    let Some(code) = error.code() else {
        let cause = bottom(error);
        return if cause.contains("credential") {
            GroupError::Credentials { action, cause }
        } else {
            GroupError::Failed { action, cause }
        };
    };
    let cause = match error.message() {
        Some(message) => format!("{code}: {message}"),
        None => code.to_owned(),
    };
    let cause = plain(&cause, CAUSE_BYTES_MAX);
    match code {
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            GroupError::Denied { action, cause }
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken" => GroupError::Credentials { action, cause },
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "ScalingActivityInProgress"
        | "ResourceContention"
        | "ServiceUnavailable" => GroupError::HeldOff { action, cause },
        _ => GroupError::Failed { action, cause },
    }
}

#[cfg(test)]
mod tests;
