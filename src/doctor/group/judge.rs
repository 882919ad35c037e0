//! What answers about a group mean.

use std::time::Duration;

use aws_sdk_autoscaling::types::{Activity, AutoScalingGroup, LifecycleHook, LifecycleState};
use humantime::format_duration;

use super::super::report::{Check, Verdict};
use crate::aws::CallError;
use crate::fleet::AsgWake;
use crate::fleet::asg::{NO_ACTION, Note, Setting, TERMINATING, claim_ages, latest_failure, notes};
use crate::metrics::cloudwatch::PutsSnapshot;

/// Where the policies are.
const POLICY: &str = "allow it in the IAM policy of the credentials in use (docs/aws-groups.md, Permissions)";

/// A hook that is shorter gives running answers little time, in seconds.
const HEARTBEAT_SECONDS_MIN: i32 = 60;

/// The group as it is, and each of its settings.
pub(super) fn group(name: &str, group: &AutoScalingGroup, instances_max: u32, wake: AsgWake) -> Vec<Check> {
    let (desired, there) = (group.desired_capacity().unwrap_or_default(), group.instances().len());
    let found = format!("its desired capacity is {desired}, and its instances are {there}");
    let mut checks = vec![Check::ok("group", name, found)];
    let notes = notes(group, instances_max, wake);
    for setting in Setting::ALL {
        let (kind, as_it_should_be) = words(setting, group);
        let said: Vec<&Note> = notes.iter().filter(|note| note.setting == setting).collect();
        checks.extend(said.iter().map(|note| match note.is_fatal {
            true => Check::fail(kind, name, &note.found, note.mend),
            false => Check::warn(kind, name, &note.found, note.mend),
        }));
        let matters = setting != Setting::Template || wake == AsgWake::LaunchInstances;
        if said.is_empty() && matters {
            checks.push(Check::ok(kind, name, as_it_should_be));
        }
    }
    checks
}

/// The name of the check, and what it says where nothing is wrong.
fn words(setting: Setting, group: &AutoScalingGroup) -> (&'static str, String) {
    let (kind, text) = match setting {
        Setting::Limits => {
            let (min, max) = (group.min_size().unwrap_or_default(), group.max_size().unwrap_or_default());
            return ("group-limits", format!("from {min} to {max} instances"));
        }
        Setting::Protection => ("group-protection", "new instances are protected from scale-in"),
        Setting::Processes => ("group-processes", "Launch and Terminate run"),
        Setting::Zones => ("group-zones", "AWS ends nothing to balance zones"),
        Setting::Rebalancing => ("group-rebalancing", "capacity rebalancing is off"),
        Setting::Lifetime => ("group-lifetime", "there is no maximum instance lifetime"),
        Setting::Unit => ("group-unit", "its desired capacity counts instances"),
        Setting::Template => ("group-template", "it has a launch template"),
    };
    (kind, text.to_owned())
}

/// The hooks that hold ends.
pub(super) fn terminating(hooks: &[LifecycleHook]) -> impl Iterator<Item = &LifecycleHook> {
    hooks.iter().filter(|hook| hook.lifecycle_transition() == Some(TERMINATING))
}

pub(super) fn hooks(name: &str, hooks: &[LifecycleHook]) -> Check {
    const NAME: &str = "group-hook";
    let Some(hook) = terminating(hooks).next() else {
        return Check::warn(
            NAME,
            name,
            "no terminating hook: what AWS ends by itself, it cuts in the middle of an answer",
            "put one with a heartbeat of 300 s and the default result CONTINUE (docs/aws-groups.md)",
        );
    };
    let seconds = hook.heartbeat_timeout().unwrap_or_default();
    let found = format!(
        "the terminating hook {} holds ends for {seconds} s",
        hook.lifecycle_hook_name().unwrap_or_default()
    );
    if seconds < HEARTBEAT_SECONDS_MIN {
        Check::warn(NAME, name, found, "set its heartbeat to 300 s: running answers need the time")
    } else {
        Check::ok(NAME, name, found)
    }
}

pub(super) fn activities(name: &str, activities: &[Activity]) -> Check {
    const NAME: &str = "group-launches";
    match latest_failure(name, activities) {
        None if activities.is_empty() => Check::ok(NAME, name, "none is known yet"),
        None => Check::ok(NAME, name, "the latest did not fail"),
        Some(failure) => Check::warn(
            NAME,
            name,
            format!("the latest failed: {failure}"),
            "mend what it names, or give --asg-name another group to fall back to",
        ),
    }
}

/// Who works on the group, and whether its tag can be written. `wall` is the time since the Unix epoch; `is_worked_on` is
/// what balancers say.
pub(super) fn claims(name: &str, group: &AutoScalingGroup, wall: Duration, is_worked_on: bool) -> [Check; 2] {
    const NAME: &str = "group-claim";
    const TAG: &str = "group-tag";
    let ages = claim_ages(group, wall);
    let Some(youngest) = ages.iter().min() else {
        let why = "autoscaling:CreateOrUpdateTags is not asked, for it would write; a balancer that lacks it says at its \
                   start that it cannot mark the group";
        let claim = match is_worked_on {
            false => Check::ok(NAME, name, "no balancer has marked it"),
            true => Check::warn(
                NAME,
                name,
                "a balancer works on it, and has not marked it",
                "allow autoscaling:CreateOrUpdateTags to it, or run this again if it has just started",
            ),
        };
        return [claim, Check::skip(TAG, name, why)];
    };
    let age = seconds(*youngest);
    let claim = match ages.len() {
        1 => Check::ok(NAME, name, format!("a balancer works on it: its claim is {age} old")),
        several => Check::warn(
            NAME,
            name,
            format!("{several} balancers claim it, the latest {age} ago"),
            "end all but one, or give each a group of its own; one that moved to another address claimed it twice for 10m",
        ),
    };
    [
        claim,
        Check::ok(
            TAG,
            name,
            format!("autoscaling:CreateOrUpdateTags is allowed: a claim was written {age} ago"),
        ),
    ]
}

/// The capacity that the group may be asked for although it has it already: only if nothing moves, and nobody has marked it.
///
/// # Errors
/// Why it is not asked.
pub(super) fn present_capacity(group: &AutoScalingGroup, wall: Duration) -> Result<i32, String> {
    let desired = group.desired_capacity().ok_or("AWS does not tell its desired capacity")?;
    let there = group.instances().len();
    if usize::try_from(desired).ok() != Some(there) {
        return Err(format!("it wishes for {desired} and has {there}"));
    }
    let moves =
        group.instances().iter().find(|one| one.lifecycle_state() != Some(&LifecycleState::InService));
    if let Some(instance) = moves {
        let state = instance.lifecycle_state().map_or("in no state", LifecycleState::as_str);
        return Err(format!("{} is {state}", instance.instance_id().unwrap_or_default()));
    }
    if let Some(age) = claim_ages(group, wall).into_iter().min() {
        return Err(left_alone(&format!("a balancer works on it (its claim is {} old)", seconds(age))));
    }
    Ok(desired)
}

/// Whose wish must not be written over.
pub(super) fn left_alone(why: &str) -> String {
    format!(
        "{why}, and may wake it this moment; how a balancer's own calls go is in paddock_aws_calls_total of its /metrics"
    )
}

pub(super) fn set_desired(name: &str, asked: Result<Result<i32, CallError>, String>) -> Check {
    const NAME: &str = "group-wake";
    const ACTION: &str = "autoscaling:SetDesiredCapacity";
    match asked {
        Err(why) => Check::skip(NAME, name, format!("{ACTION} is not asked: {why}")),
        Ok(Ok(desired)) => {
            Check::ok(NAME, name, format!("{ACTION} is allowed: {desired} was asked for, which it has"))
        }
        Ok(Err(error)) => failed(NAME, name, ACTION, &error),
    }
}

/// The end of an instance that does not exist.
pub(super) fn terminate(answer: Result<(), CallError>) -> Check {
    const NAME: &str = "terminate";
    const ACTION: &str = "autoscaling:TerminateInstanceInAutoScalingGroup";
    match answer {
        Ok(()) => Check::warn(
            NAME,
            "",
            format!("{ACTION}: AWS ended an instance that does not exist"),
            "ask whoever answers as AWS",
        ),
        Err(CallError::Rejected { message, .. }) if message.contains("not found") => Check::ok(
            NAME,
            "",
            format!("{ACTION} is allowed: AWS looked for an instance that does not exist"),
        ),
        // A policy for certain groups may not cover an instance that is in none.
        Err(CallError::Denied { action, message }) if message.contains("autoScalingGroupName/*") => {
            Check::warn(
                NAME,
                "",
                format!(
                    "{action} is denied for an instance of no group, which a policy for certain groups does ({message})"
                ),
                "look whether the policy allows it on your groups (docs/aws-groups.md, Permissions)",
            )
        }
        Err(error) => failed(NAME, "", ACTION, &error),
    }
}

/// A lifecycle action of an instance that does not exist.
pub(super) fn lifecycle(
    kind: &'static str,
    name: &str,
    action: &str,
    answer: Option<Result<(), CallError>>,
) -> Check {
    match answer {
        None => Check::skip(kind, name, format!("{action} is not asked: there is no hook")),
        Some(Ok(())) => Check::ok(kind, name, format!("{action} is allowed")),
        Some(Err(CallError::Rejected { message, .. })) if message.contains(NO_ACTION) => {
            let found = format!("{action} is allowed: AWS looked for an instance that does not exist");
            Check::ok(kind, name, found)
        }
        Some(Err(error)) => failed(kind, name, action, &error),
    }
}

/// The groups cannot be looked at. Whoever never answers is not there.
pub(super) fn unseen(action: &str, error: &CallError) -> Check {
    const NAME: &str = "aws";
    if !matches!(error, CallError::Unknown { .. }) {
        return failed(NAME, "", action, error);
    }
    let mend = "look at the network, at AWS_ENDPOINT_URL, and in a private subnet at the interface endpoint 'autoscaling'";
    Check::fail(NAME, "", format!("{action}: {error}"), mend)
}

/// A call that got no answer to build on. What passes by itself is no verdict about the set-up.
pub(super) fn failed(kind: &'static str, subject: &str, action: &str, error: &CallError) -> Check {
    let again = "run this again";
    match error {
        CallError::Denied { action, message } => {
            Check::fail(kind, subject, format!("AWS does not allow {action} ({message})"), POLICY)
        }
        CallError::Throttled { .. } | CallError::Server { .. } | CallError::Unknown { .. } => {
            Check::warn(kind, subject, format!("{action}: it cannot be told: {error}"), again)
        }
        CallError::Rejected { code, .. }
            if code.starts_with("ScalingActivity") || code.starts_with("ResourceContention") =>
        {
            Check::warn(kind, subject, format!("{action}: it cannot be told: {error}"), again)
        }
        CallError::Rejected { .. } | CallError::Invalid { .. } => {
            Check::fail(kind, subject, format!("{action}: {error}"), "mend what it names")
        }
        CallError::NoCredentials { .. }
        | CallError::NoRegion
        | CallError::BadCredentials { .. }
        | CallError::Unreachable { .. } => Check::told(kind, subject, Verdict::Fail, error.to_string()),
    }
}

/// A put cannot be asked for without putting; the balancer that puts tells how it goes.
pub(super) fn cloudwatch(namespace: &str, puts: Option<&PutsSnapshot>) -> Check {
    const NAME: &str = "cloudwatch";
    const ACTION: &str = "cloudwatch:PutMetricData";
    match puts {
        None => Check::skip(
            NAME,
            namespace,
            format!(
                "{ACTION} is not asked, for it would put: see \"cloudwatch\" in the balancer's /api/v1/state"
            ),
        ),
        Some(PutsSnapshot { last_error: Some(error), .. }) => {
            Check::told(NAME, namespace, Verdict::Fail, format!("the balancer's latest put failed: {error}"))
        }
        Some(PutsSnapshot { puts: 0, .. }) => {
            Check::skip(NAME, namespace, "the balancer has not put anything yet")
        }
        Some(PutsSnapshot { puts, failures, .. }) => Check::ok(
            NAME,
            namespace,
            format!("the balancer's latest put worked: {puts} did, {failures} failed"),
        ),
    }
}

fn seconds(age: Duration) -> humantime::FormattedDuration {
    format_duration(Duration::from_secs(age.as_secs()))
}

#[cfg(test)]
mod tests;
