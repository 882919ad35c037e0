//! Auto Scaling groups, the balancer's and the agent's own: whether they are as they should be, and what the credentials
//! here may do to them.
//!
//! Auto Scaling has no dry run. So each action is asked for what is there already, or of nothing that exists, or not at
//! all, and the check says why:
//!
//! 1. Whatever only describes is asked.
//! 2. `SetDesiredCapacity` to the present value, on a group where nothing moves, on which no balancer that was asked works
//!    and which none has marked, read anew just before.
//! 3. `TerminateInstanceInAutoScalingGroup`, `CompleteLifecycleAction` and `RecordLifecycleActionHeartbeat` of an instance
//!    that does not exist: AWS says 'not found' to whom it allows them.
//! 4. `CreateOrUpdateTags`, `LaunchInstances` and `PutMetricData` would write, launch and put whatever they are given.

mod judge;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::types::{AutoScalingGroup, LifecycleHook};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::DoctorConfig;
use super::report::Check;
use super::skew::{NoteDates, Skews};
use super::work::Work;
use crate::aws::{self, CallError};
use crate::clock::Clock;
use crate::fleet::AsgWake;
use crate::metrics::cloudwatch::PutsSnapshot;

/// To find the region and where credentials come from: a profile, a file, the metadata.
const SETTINGS_MAX: Duration = Duration::from_secs(10);

/// One attempt of a call, credentials included.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A call with all its attempts. There are four after one another at most.
const CALL_MAX: Duration = Duration::from_secs(12);

/// No instance has this id: EC2's of 17 digits begin with a 0.
const NOBODY: &str = "i-fffffffffffffffff";

/// Activities that are read, the latest first.
const ACTIVITIES_READ: i32 = 20;

const DESCRIBE: &str = "autoscaling:DescribeAutoScalingGroups";
const COMPLETE: &str = "autoscaling:CompleteLifecycleAction";
const HEARTBEAT: &str = "autoscaling:RecordLifecycleActionHeartbeat";

/// The groups that are given, and the one that this machine belongs to if its agent acts on it. `instance` is this machine;
/// `work` is what balancers say they do.
pub(super) async fn look(
    config: &DoctorConfig,
    instance: Option<String>,
    work: &Work,
    clock: Clock,
    skews: &Skews,
) -> Vec<Check> {
    let acts = config.ends_itself || config.launching_hook.is_some();
    if config.groups.is_empty() && !acts {
        return Vec::new();
    }
    let Ok(aws) = timeout(SETTINGS_MAX, Aws::connect(clock, skews)).await else {
        let found = format!("region and credentials were not found within {} s", SETTINGS_MAX.as_secs());
        let mend = "set AWS_REGION, and look at the instance's metadata and the AWS profile";
        return vec![Check::fail("aws", "", found, mend)];
    };
    let mut checks = Vec::new();
    if !config.groups.is_empty() {
        checks.extend(aws.balancers(config, work).await);
    }
    if acts {
        checks.extend(aws.agents(config, instance).await);
    }
    checks
}

/// How publishing goes, if it is to.
pub(super) fn cloudwatch(config: &DoctorConfig, puts: Option<&PutsSnapshot>) -> Vec<Check> {
    config.cloudwatch_namespace.iter().map(|namespace| judge::cloudwatch(namespace, puts)).collect()
}

struct Aws {
    /// For what changes nothing: the SDK repeats it.
    reader: Client,
    /// For the rest: never repeated.
    writer: Client,
    clock: Clock,
}

impl Aws {
    async fn connect(clock: Clock, skews: &Skews) -> Self {
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_MAX).operation_timeout(CALL_MAX);
        let shared = Builder::from(&aws::config().await)
            .timeout_config(timeouts.build())
            .interceptor(NoteDates(skews.clone()));
        let once = shared.clone().retry_config(RetryConfig::disabled());
        Self { reader: Client::from_conf(shared.build()), writer: Client::from_conf(once.build()), clock }
    }

    /// What the balancer needs.
    async fn balancers(&self, config: &DoctorConfig, work: &Work) -> Vec<Check> {
        let found = match self.describe(&config.groups).await {
            Ok(found) => found,
            Err(error) => {
                let mut checks = vec![judge::unseen(DESCRIBE, &error)];
                if matches!(error, CallError::Denied { .. }) {
                    checks.push(judge::terminate(self.terminate().await));
                }
                let unseen =
                    config.groups.iter().map(|name| Check::skip("group", name, "it cannot be looked at"));
                checks.extend(unseen);
                return checks;
            }
        };
        let region = self.reader.config().region().map_or("this region", AsRef::as_ref);
        let mut checks = vec![Check::ok("aws", "", format!("{DESCRIBE} is allowed in {region}"))];
        let groups = config.groups.iter().map(async |name| match found.get(name) {
            Some(group) => self.group(name, group, config, work).await,
            None => vec![Check::fail(
                "group",
                name,
                format!("there is no Auto Scaling group of this name in {region}"),
                "mend --asg-name, or AWS_REGION and the credentials' account",
            )],
        });
        let (groups, terminated) = tokio::join!(join_all(groups), self.terminate());
        checks.extend(groups.into_iter().flatten());
        checks.push(judge::terminate(terminated));
        checks
    }

    async fn group(
        &self,
        name: &str,
        group: &AutoScalingGroup,
        config: &DoctorConfig,
        work: &Work,
    ) -> Vec<Check> {
        let wall = self.clock.now().wall;
        let (hooks, activities, desired) =
            tokio::join!(self.hooks(name), self.activities(name), self.set_present(name, group, work));
        let mut checks = judge::group(name, group, config.instances_max, config.wake);
        checks.push(activities);
        checks.extend(judge::claims(name, group, wall, work.is_on(name)));
        checks.push(judge::set_desired(name, desired));
        if config.wake == AsgWake::LaunchInstances {
            let why = "autoscaling:LaunchInstances and ec2:CreateFleet are not asked, for they would launch; the balancer's \
                       log tells at the first wake";
            checks.push(Check::skip("group-launch", name, why));
        }
        match hooks {
            Err(error) => {
                checks.push(judge::failed("group-hook", name, "autoscaling:DescribeLifecycleHooks", &error))
            }
            Ok(hooks) => {
                checks.push(judge::hooks(name, &hooks));
                let hook = judge::terminating(&hooks).next().and_then(LifecycleHook::lifecycle_hook_name);
                let completed = match hook {
                    Some(hook) => Some(self.complete(name, hook).await),
                    None => None,
                };
                let beaten = match hook {
                    Some(hook) => Some(self.beat(name, hook).await),
                    None => None,
                };
                checks.push(judge::lifecycle("group-complete", name, COMPLETE, completed));
                checks.push(judge::lifecycle("group-heartbeat", name, HEARTBEAT, beaten));
            }
        }
        checks
    }

    /// What an agent needs that ends its machine, or completes its launching hook.
    async fn agents(&self, config: &DoctorConfig, instance: Option<String>) -> Vec<Check> {
        const NAME: &str = "own-group";
        const ACTION: &str = "autoscaling:DescribeAutoScalingInstances";
        let Some(instance) = instance else {
            let mend = "give --instance-id, or leave --orphan-timeout and --launching-hook out";
            return vec![Check::fail(NAME, "", "nobody tells what this instance is called", mend)];
        };
        let call = self.reader.describe_auto_scaling_instances().instance_ids(&instance);
        let answer = call.send().await.map_err(|error| CallError::of(ACTION, &error));
        let group = match answer {
            Err(error) => return vec![judge::failed(NAME, &instance, ACTION, &error)],
            Ok(answer) => answer
                .auto_scaling_instances()
                .first()
                .and_then(|one| one.auto_scaling_group_name().map(str::to_owned)),
        };
        let Some(group) = group else {
            let mend = "leave --orphan-timeout and --launching-hook out, which are for groups";
            return vec![Check::warn(NAME, &instance, "it belongs to no Auto Scaling group", mend)];
        };
        let mut checks =
            vec![Check::ok(NAME, &instance, format!("it belongs to the Auto Scaling group {group}"))];
        if config.ends_itself {
            checks.push(judge::terminate(self.terminate().await));
        }
        match self.hooks(&group).await {
            Err(error) => {
                checks.push(judge::failed("group-hook", &group, "autoscaling:DescribeLifecycleHooks", &error))
            }
            Ok(hooks) => checks.extend(self.own_hooks(&group, &hooks, config).await),
        }
        checks
    }

    /// The hooks that the agent completes: of its launch by name, of its end whatever their names.
    async fn own_hooks(&self, group: &str, hooks: &[LifecycleHook], config: &DoctorConfig) -> Vec<Check> {
        let mut checks = Vec::new();
        let names: Vec<&str> = hooks.iter().filter_map(LifecycleHook::lifecycle_hook_name).collect();
        if let Some(wanted) = &config.launching_hook {
            checks.push(match names.contains(&wanted.as_str()) {
                true => Check::ok("launching-hook", group, format!("it has the hook {wanted}")),
                false => Check::fail(
                    "launching-hook",
                    group,
                    format!("it has no hook {wanted}"),
                    "mend --launching-hook, or leave it out",
                ),
            });
        }
        let completed = match names.first() {
            Some(hook) => Some(self.complete(group, hook).await),
            None => None,
        };
        checks.push(judge::lifecycle("group-complete", group, COMPLETE, completed));
        checks
    }

    async fn describe(&self, names: &[String]) -> Result<BTreeMap<String, AutoScalingGroup>, CallError> {
        let call =
            self.reader.describe_auto_scaling_groups().set_auto_scaling_group_names(Some(names.to_vec()));
        let mut found = BTreeMap::new();
        let mut pages = call.into_paginator().items().send();
        while let Some(group) = pages.next().await {
            let group = group.map_err(|error| CallError::of(DESCRIBE, &error))?;
            if let Some(name) = group.auto_scaling_group_name() {
                found.insert(name.to_owned(), group);
            }
        }
        Ok(found)
    }

    async fn hooks(&self, name: &str) -> Result<Vec<LifecycleHook>, CallError> {
        let answer = self.reader.describe_lifecycle_hooks().auto_scaling_group_name(name).send().await;
        let answer = answer.map_err(|error| CallError::of("autoscaling:DescribeLifecycleHooks", &error))?;
        Ok(answer.lifecycle_hooks.unwrap_or_default())
    }

    async fn activities(&self, name: &str) -> Check {
        const ACTION: &str = "autoscaling:DescribeScalingActivities";
        let call = self.reader.describe_scaling_activities().auto_scaling_group_name(name);
        match call.max_records(ACTIVITIES_READ).send().await {
            Ok(answer) => judge::activities(name, answer.activities()),
            Err(error) => judge::failed("group-launches", name, ACTION, &CallError::of(ACTION, &error)),
        }
    }

    /// Asks for the capacity that the group has. The group is read anew just before: what was read first may be old.
    async fn set_present(
        &self,
        name: &str,
        seen: &AutoScalingGroup,
        work: &Work,
    ) -> Result<Result<i32, CallError>, String> {
        if let Some(why) = work.forbids(name) {
            return Err(judge::left_alone(&why));
        }
        let wall = self.clock.now().wall;
        let before = judge::present_capacity(seen, wall)?;
        let read = self.describe(&[name.to_owned()]).await.map_err(|error| error.to_string())?;
        let group = read.get(name).ok_or("it is gone")?;
        let desired = judge::present_capacity(group, wall)?;
        if desired != before {
            return Err("somebody changes it this moment".to_owned());
        }
        let call = self.writer.set_desired_capacity().auto_scaling_group_name(name);
        let answer = call.desired_capacity(desired).honor_cooldown(false).send().await;
        Ok(answer.map(|_| desired).map_err(|error| CallError::of("autoscaling:SetDesiredCapacity", &error)))
    }

    async fn terminate(&self) -> Result<(), CallError> {
        let call = self.writer.terminate_instance_in_auto_scaling_group().instance_id(NOBODY);
        let answer = call.should_decrement_desired_capacity(true).send().await;
        let action = "autoscaling:TerminateInstanceInAutoScalingGroup";
        answer.map(drop).map_err(|error| CallError::of(action, &error))
    }

    async fn complete(&self, group: &str, hook: &str) -> Result<(), CallError> {
        let call = self.writer.complete_lifecycle_action().auto_scaling_group_name(group);
        let call = call.lifecycle_hook_name(hook).instance_id(NOBODY);
        let answer = call.lifecycle_action_result("CONTINUE").send().await;
        answer.map(drop).map_err(|error| CallError::of(COMPLETE, &error))
    }

    async fn beat(&self, group: &str, hook: &str) -> Result<(), CallError> {
        let call = self.writer.record_lifecycle_action_heartbeat().auto_scaling_group_name(group);
        let answer = call.lifecycle_hook_name(hook).instance_id(NOBODY).send().await;
        answer.map(drop).map_err(|error| CallError::of(HEARTBEAT, &error))
    }
}
