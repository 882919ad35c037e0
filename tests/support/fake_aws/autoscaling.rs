//! The actions of Auto Scaling: parameters in, the result's XML out. ("EC2 Auto Scaling API Reference", a page for
//! each)

use std::cmp::Reverse;

use paddock::core::Now;

use super::activity::Activity;
use super::config::{GroupConfig, Hook, HookResult, Market};
use super::group::Group;
use super::instance::Instance;
use super::launch::{LaunchAnswer, LaunchRequest};
use super::query::{ApiError, Parameters, Xml};
use super::world::World;
use super::{ACCOUNT, wording};

/// How many are told at once. ("DescribeAutoScalingGroups": 50 by default; "DescribeScalingActivities": 100)
const GROUPS_PAGE: usize = 50;
const ACTIVITIES_PAGE: usize = 100;

/// Carries out one call; the result's content.
pub fn perform(world: &mut World, action: &str, parameters: &Parameters, now: Now) -> Result<Xml, ApiError> {
    let mut xml = Xml::default();
    match action {
        "DescribeAutoScalingGroups" => describe_groups(world, parameters, now, &mut xml)?,
        "DescribeAutoScalingInstances" => describe_instances(world, parameters, now, &mut xml),
        "DescribeLifecycleHooks" => describe_hooks(world, parameters, &mut xml)?,
        "DescribeScalingActivities" => describe_activities(world, parameters, &mut xml)?,
        "SetDesiredCapacity" => set_desired(world, parameters, now)?,
        "LaunchInstances" => launch_instances(world, parameters, now, &mut xml)?,
        "TerminateInstanceInAutoScalingGroup" => terminate(world, parameters, now, &mut xml)?,
        "CompleteLifecycleAction" => complete(world, parameters, now)?,
        "RecordLifecycleActionHeartbeat" => heartbeat(world, parameters, now)?,
        "CreateOrUpdateTags" => tag(world, parameters)?,
        _ => {
            let message = format!("Could not find operation {action} for version 2011-01-01");
            return Err(ApiError::sender("InvalidAction", &message));
        }
    }
    Ok(xml)
}

/// Names that do not exist are left out; that is no error. Warmed instances are not told
/// ("DescribeAutoScalingGroups": they are in `DescribeWarmPool`).
fn describe_groups(world: &World, parameters: &Parameters, now: Now, xml: &mut Xml) -> Result<(), ApiError> {
    let names = parameters.list("AutoScalingGroupNames");
    let chosen: Vec<&Group> = world
        .groups
        .values()
        .filter(|group| names.is_empty() || names.contains(&group.config.name))
        .collect();
    let (page, next) = page(&chosen, parameters, GROUPS_PAGE)?;
    xml.list("AutoScalingGroups", page, |xml, group| describe_group(&world.region, group, now, xml));
    xml.optional("NextToken", next);
    Ok(())
}

fn describe_group(region: &str, group: &Group, now: Now, xml: &mut Xml) {
    let (config, view) = (&group.config, group.view(now.mono));
    let (warmed, instances): (Vec<&Instance>, Vec<&Instance>) =
        view.instances.iter().partition(|instance| instance.state.is_warmed());
    xml.text("AutoScalingGroupName", &config.name);
    xml.text("AutoScalingGroupARN", arn(region, &config.name));
    launch_source(config, xml);
    xml.text("MinSize", config.min);
    xml.text("MaxSize", config.max);
    xml.text("DesiredCapacity", view.desired);
    xml.text("DefaultCooldown", 300);
    xml.texts("AvailabilityZones", &config.zones);
    xml.text("HealthCheckType", "EC2");
    xml.text("HealthCheckGracePeriod", 0);
    xml.list("Instances", instances, |xml, instance| describe_instance(config, instance, xml));
    xml.text("CreatedTime", "2026-01-01T00:00:00Z");
    xml.list("SuspendedProcesses", &config.suspended, |xml, process| {
        xml.text("ProcessName", process);
        xml.text("SuspensionReason", "User suspended at 2026-01-01T00:00:00Z");
    });
    let subnets: Vec<String> = config.zones.iter().map(|zone| config.subnet(zone)).collect();
    xml.text("VPCZoneIdentifier", subnets.join(","));
    xml.list("Tags", &config.tags, |xml, (key, value)| {
        xml.text("ResourceId", &config.name);
        xml.text("ResourceType", "auto-scaling-group");
        xml.text("Key", key);
        xml.text("Value", value);
        xml.text("PropagateAtLaunch", true);
    });
    xml.texts("TerminationPolicies", ["Default"]);
    xml.text("NewInstancesProtectedFromScaleIn", config.is_protecting);
    xml.text("CapacityRebalance", config.is_rebalancing);
    if config.has_warm_pool {
        xml.within("WarmPoolConfiguration", |xml| {
            xml.text("MinSize", 0);
            xml.text("PoolState", "Stopped");
        });
        xml.text("WarmPoolSize", warmed.len());
    }
}

/// Of a launch template, or of a launch configuration.
fn launch_source(config: &GroupConfig, xml: &mut Xml) {
    match &config.launch_template {
        Some(name) => xml.within("LaunchTemplate", |xml| {
            xml.text("LaunchTemplateId", "lt-0123456789abcdef0");
            xml.text("LaunchTemplateName", name);
            xml.text("Version", "$Latest");
        }),
        None => xml.text("LaunchConfigurationName", "gpu-configuration"),
    }
}

fn describe_instance(config: &GroupConfig, instance: &Instance, xml: &mut Xml) {
    xml.text("InstanceId", &instance.id);
    xml.text("InstanceType", &config.instance_type);
    xml.text("AvailabilityZone", &instance.zone);
    xml.text("LifecycleState", instance.state);
    xml.text("HealthStatus", if instance.is_healthy { "Healthy" } else { "Unhealthy" });
    launch_source(config, xml);
    xml.text("ProtectedFromScaleIn", instance.is_protected);
}

/// Ids that do not exist are left out. Warmed instances are shown.
fn describe_instances(world: &World, parameters: &Parameters, now: Now, xml: &mut Xml) {
    let ids = parameters.list("InstanceIds");
    let all = world
        .groups
        .values()
        .flat_map(|group| group.view(now.mono).instances.into_iter().map(move |one| (group, one)));
    let chosen = all.filter(|(_, instance)| ids.is_empty() || ids.contains(&instance.id));
    xml.list("AutoScalingInstances", chosen, |xml, (group, instance)| {
        xml.text("AutoScalingGroupName", &group.config.name);
        describe_instance(&group.config, &instance, xml);
    });
}

fn describe_hooks(world: &mut World, parameters: &Parameters, xml: &mut Xml) -> Result<(), ApiError> {
    let group = world.group(parameters.required("AutoScalingGroupName")?)?;
    let names = parameters.list("LifecycleHookNames");
    let chosen = |hook: &&Hook| names.is_empty() || names.contains(&hook.name);
    xml.list("LifecycleHooks", group.config.hooks.iter().filter(chosen), |xml, hook| {
        xml.text("LifecycleHookName", &hook.name);
        xml.text("AutoScalingGroupName", &group.config.name);
        xml.text("LifecycleTransition", hook.transition.as_str());
        // Whole seconds, as AWS has them; a test's fractions are rounded up.
        let seconds = hook.heartbeat.as_secs_f64().ceil() as u64;
        xml.text("HeartbeatTimeout", seconds);
        xml.text("GlobalTimeout", (seconds * 100).min(172_800));
        xml.text("DefaultResult", hook.default_result.as_str());
    });
    Ok(())
}

/// Those in progress first, then by start, newest first. ("DescribeScalingActivities")
fn describe_activities(world: &mut World, parameters: &Parameters, xml: &mut Xml) -> Result<(), ApiError> {
    let name = parameters.required("AutoScalingGroupName")?;
    let region = world.region.clone();
    let group = world.group(name)?;
    let ids = parameters.list("ActivityIds");
    let newest_first = group.activities.iter().rev();
    let mut chosen: Vec<&Activity> =
        newest_first.filter(|activity| ids.is_empty() || ids.contains(&activity.id)).collect();
    chosen.sort_by_key(|activity| (activity.ended.is_some(), Reverse(activity.started.wall)));
    let (page, next) = page(&chosen, parameters, ACTIVITIES_PAGE)?;
    xml.list("Activities", page, |xml, activity| describe_activity(&region, name, activity, xml));
    xml.optional("NextToken", next);
    Ok(())
}

fn describe_activity(region: &str, group: &str, activity: &Activity, xml: &mut Xml) {
    xml.text("ActivityId", &activity.id);
    xml.text("AutoScalingGroupName", group);
    xml.text("Description", &activity.description);
    xml.text("Cause", &activity.cause);
    xml.text("StartTime", wording::time(activity.started));
    xml.optional("EndTime", activity.ended.map(wording::seconds));
    xml.text("StatusCode", activity.status.as_str());
    xml.optional("StatusMessage", activity.message.as_ref());
    xml.text("Progress", activity.status.progress());
    xml.text("Details", &activity.details);
    xml.text("AutoScalingGroupARN", arn(region, group));
}

/// The token is the number of those told already.
fn page<'a, T>(
    all: &'a [T],
    parameters: &Parameters,
    most: usize,
) -> Result<(&'a [T], Option<usize>), ApiError> {
    let start: usize = parameters.parsed("NextToken")?.unwrap_or(0).min(all.len());
    let size = parameters.parsed::<usize>("MaxRecords")?.unwrap_or(most).clamp(1, 100);
    let end = all.len().min(start + size);
    Ok((&all[start..end], (end < all.len()).then_some(end)))
}

/// Outside of MinSize and MaxSize it is refused; the message for above is as in public reports, that for below
/// *assumed* alike. `HonorCooldown` changes nothing: there is no cooldown here.
fn set_desired(world: &mut World, parameters: &Parameters, now: Now) -> Result<(), ApiError> {
    let group = world.group(parameters.required("AutoScalingGroupName")?)?;
    parameters.required("DesiredCapacity")?;
    let desired = parameters.parsed::<usize>("DesiredCapacity")?.unwrap_or(0);
    let refuse = |which: &str, bound: usize| {
        let message = format!(
            "New SetDesiredCapacity value {desired} is {which} value {bound} for the AutoScalingGroup."
        );
        Err(ApiError::validation(&message))
    };
    if desired > group.config.max {
        return refuse("above max", group.config.max);
    }
    if desired < group.config.min {
        return refuse("below min", group.config.min);
    }
    group.set_desired(desired, now);
    Ok(())
}

fn launch_instances(
    world: &mut World,
    parameters: &Parameters,
    now: Now,
    xml: &mut Xml,
) -> Result<(), ApiError> {
    let group = world.group(parameters.required("AutoScalingGroupName")?)?;
    parameters.required("RequestedCapacity")?;
    let request = LaunchRequest {
        count: parameters.parsed("RequestedCapacity")?.unwrap_or(0),
        zones: parameters.list("AvailabilityZones"),
        subnets: parameters.list("SubnetIds"),
        is_retrying: parameters.get("RetryStrategy") == Some("retry-with-group-configuration"),
    };
    let token = parameters.get("ClientToken");
    let answer = group.launch_instances(token, &request, now)?;
    xml.text("AutoScalingGroupName", &group.config.name);
    xml.optional("ClientToken", token);
    let place = |xml: &mut Xml, answer: &LaunchAnswer| {
        xml.text("InstanceType", &group.config.instance_type);
        let market = match group.config.market {
            Market::OnDemand => "OnDemand",
            Market::Spot => "Spot",
        };
        xml.text("MarketType", market);
        xml.text("SubnetId", group.config.subnet(&answer.zone));
        xml.text("AvailabilityZone", &answer.zone);
    };
    xml.list("Instances", Some(&answer).filter(|answer| !answer.ids.is_empty()), |xml, answer| {
        place(xml, answer);
        xml.texts("InstanceIds", &answer.ids);
    });
    xml.list("Errors", answer.failure, |xml, failure| {
        place(xml, &answer);
        xml.text("ErrorCode", failure.code());
        xml.text("ErrorMessage", failure.message(&group.config, &answer.zone));
    });
    group.tick(now);
    Ok(())
}

fn terminate(world: &mut World, parameters: &Parameters, now: Now, xml: &mut Xml) -> Result<(), ApiError> {
    let id = parameters.required("InstanceId")?;
    parameters.required("ShouldDecrementDesiredCapacity")?;
    let is_decrementing = parameters.parsed("ShouldDecrementDesiredCapacity")?.unwrap_or(false);
    let region = world.region.clone();
    let group = world.group_of(id)?;
    let activity = group.terminate(id, is_decrementing, now)?;
    let (activity, name) = (&group.activities[activity], &group.config.name);
    xml.within("Activity", |xml| describe_activity(&region, name, activity, xml));
    Ok(())
}

/// The instance by its id, or by the token of a hook that holds it.
fn held(group: &Group, parameters: &Parameters) -> Result<String, ApiError> {
    let token = parameters.get("LifecycleActionToken");
    if let Some(id) = parameters.get("InstanceId") {
        return Ok(id.to_owned());
    }
    let by_token = |instance: &&Instance| instance.waits.iter().any(|wait| Some(&*wait.token) == token);
    let found = group.instances.values().find(by_token).map(|instance| instance.id.clone());
    let token = token.unwrap_or("null");
    found.ok_or_else(|| no_action(&format!("token {token}")))
}

/// As in public reports.
fn no_action(of: &str) -> ApiError {
    ApiError::validation(&format!("No active Lifecycle Action found with {of}"))
}

fn complete(world: &mut World, parameters: &Parameters, now: Now) -> Result<(), ApiError> {
    let hook = parameters.required("LifecycleHookName")?;
    let result = match parameters.required("LifecycleActionResult")? {
        "CONTINUE" => HookResult::Continue,
        "ABANDON" => HookResult::Abandon,
        other => return Err(ApiError::validation(&format!("{other} is not a LifecycleActionResult"))),
    };
    let group = world.group(parameters.required("AutoScalingGroupName")?)?;
    let id = held(group, parameters)?;
    let is_done = group.complete_hook(&id, hook, result, now);
    if is_done { Ok(()) } else { Err(no_action(&format!("instance ID {id}"))) }
}

fn heartbeat(world: &mut World, parameters: &Parameters, now: Now) -> Result<(), ApiError> {
    let hook = parameters.required("LifecycleHookName")?;
    let group = world.group(parameters.required("AutoScalingGroupName")?)?;
    let id = held(group, parameters)?;
    let is_done = group.beat_hook(&id, hook, now);
    if is_done { Ok(()) } else { Err(no_action(&format!("instance ID {id}"))) }
}

fn tag(world: &mut World, parameters: &Parameters) -> Result<(), ApiError> {
    for number in 1.. {
        let of = |field: &str| parameters.get(&format!("Tags.member.{number}.{field}"));
        let Some(key) = of("Key") else { break };
        let group = world.group(of("ResourceId").unwrap_or_default())?;
        group.config.tags.insert(key.to_owned(), of("Value").unwrap_or_default().to_owned());
    }
    Ok(())
}

/// The group that an action is done to; none for those that only describe.
/// ("Service Authorization Reference, Actions, resources, and condition keys for Amazon EC2 Auto Scaling")
pub fn resource(world: &mut World, action: &str, parameters: &Parameters) -> Option<String> {
    if action.starts_with("Describe") {
        return None;
    }
    let named = parameters.get("AutoScalingGroupName").map(str::to_owned);
    let name = named.or_else(|| {
        let group = world.group_of(parameters.get("InstanceId")?).ok()?;
        Some(group.config.name.clone())
    });
    name.map(|name| arn(&world.region, &name))
}

fn arn(region: &str, name: &str) -> String {
    let id = wording::uuid(&[name]);
    format!("arn:aws:autoscaling:{region}:{ACCOUNT}:autoScalingGroup:{id}:autoScalingGroupName/{name}")
}
