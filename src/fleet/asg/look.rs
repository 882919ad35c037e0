//! What the groups are, and which of their launches failed.
//!
//! A wish that is not fulfilled is either on its way or failing, and only the group's scaling activities tell which. They
//! are read as long as a wish lacks something.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_autoscaling::types::{Activity, AutoScalingGroup, LifecycleState, ScalingActivityStatusCode};

use super::failures::LaunchFailure;
use super::{AsgError, AsgFleet};
use crate::aws::CallError;
use crate::core::{GroupId, GroupObserved, InstanceId, InstanceObserved, InstanceState, Mono};
use crate::fleet::FleetNews;

/// Activities that are read at a time, the latest first: a group tries one launch after the other.
const ACTIVITIES_READ: i32 = 20;

/// A failure that began this long before a wish was known to lack something is not about that wish. Two clocks are
/// compared here, which both follow the true time, and AWS tells whole seconds.
const OLDER_FAILURE_MAX: Duration = Duration::from_secs(5);

/// Failed activities that are remembered, so that each is told once.
const TOLD_MAX: usize = 1000;

/// One group, as it was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) desired: u32,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) is_protected: bool,
    /// Every instance that is part of its number, in any state.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Subnets, or else zones: where launches can be asked for.
    pub(super) places: Vec<Place>,
    /// The claim of a balancer.
    pub(super) claim: Option<String>,
}

/// Where an instance can be launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Subnet(String),
    Zone(String),
}

/// What is remembered of a group between two looks.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub(super) seen: Option<(Seen, Mono)>,
    /// When a call of ours last changed it: a look that began before says nothing.
    pub(super) changed_at: Mono,
    /// It was missing in the last look.
    is_missing: bool,
    pub(super) hooks: Vec<String>,
    /// The place that is tried first by the next launch.
    pub(super) place_next: usize,
    /// Since when its wish lacks something, as the time since the Unix epoch. None while it lacks nothing.
    lacking_since: Option<Duration>,
    told: BTreeSet<String>,
}

impl AsgFleet {
    /// Looks at all groups, and tells what there is.
    ///
    /// # Errors
    ///
    /// If they cannot be looked at, or one is not there any more.
    pub async fn observe(&self) -> Result<(), AsgError> {
        let ids: Vec<GroupId> = (0..self.groups.len()).map(|at| GroupId(at as u32)).collect();
        let began = self.clock.mono();
        let found = self.describe(&ids).await?;
        self.note_missing(&ids, &found)?;
        let mut groups = BTreeMap::new();
        let mut instances = BTreeMap::new();
        let mut lacking = Vec::new();
        for (&id, group) in &found {
            let seen = seen(group);
            let has_rival = self.claim.has_rival(id, seen.claim.as_deref(), self.clock.now().wall);
            groups.insert(
                id,
                GroupObserved {
                    desired: seen.desired,
                    min: seen.min,
                    max: seen.max,
                    is_protected: seen.is_protected,
                    has_rival,
                },
            );
            let mut there = 0;
            for instance in group.instances() {
                let (Some(name), Some(state)) =
                    (instance.instance_id(), instance.lifecycle_state().and_then(state_of))
                else {
                    continue;
                };
                there += u32::from(matches!(state, InstanceState::Pending | InstanceState::Running));
                let observed = InstanceObserved { group: id, state, address: None };
                instances.insert(InstanceId::from(name), observed);
            }
            if there < seen.desired {
                lacking.push(id);
            } else if let Some(state) = self.states().get_mut(id.0 as usize) {
                state.lacking_since = None;
            }
            self.remember(id, seen, began);
        }
        // In this order: a failure is about a wish that is known.
        self.tell(FleetNews::Observed { began, groups, instances });
        for id in lacking {
            self.tell_failures(id).await;
        }
        self.renew_claims(&found).await;
        Ok(())
    }

    /// Looks at one group, for a call that depends on what it is now.
    pub(super) async fn look_at(&self, id: GroupId) -> Result<(), AsgError> {
        let began = self.clock.mono();
        match self.describe(&[id]).await?.get(&id) {
            Some(group) => {
                self.remember(id, seen(group), began);
                Ok(())
            }
            None => Err(self.not_found(id)),
        }
    }

    /// From now on the group's wish lacks something, until a look shows otherwise.
    pub(super) fn note_wish(&self, id: GroupId) {
        let now = self.clock.now().wall;
        if let Some(state) = self.states().get_mut(id.0 as usize) {
            state.lacking_since = Some(now);
        }
    }

    /// The launches that fail, or are under way, are those of a wish that was taken back.
    pub(super) async fn forget_failures(&self, id: GroupId) {
        let Some(name) = self.group_name(id) else { return };
        let activities = match self.activities(name).await {
            Ok(activities) => activities,
            Err(error) => return tracing::debug!(%error, "what failed before may be told again"),
        };
        if let Some(state) = self.states().get_mut(id.0 as usize) {
            state.lacking_since = None;
            state.told.extend(activities.into_iter().filter_map(|activity| activity.activity_id));
        }
    }

    /// A group that is not there any more is said once; the others go on.
    fn note_missing(
        &self,
        ids: &[GroupId],
        found: &BTreeMap<GroupId, AutoScalingGroup>,
    ) -> Result<(), AsgError> {
        for &id in ids {
            let is_missing = !found.contains_key(&id);
            let was_missing = match self.states().get_mut(id.0 as usize) {
                Some(state) => std::mem::replace(&mut state.is_missing, is_missing),
                None => continue,
            };
            if is_missing && !was_missing {
                tracing::error!(error = %self.not_found(id), "an Auto Scaling group is gone");
            }
        }
        match ids.first() {
            Some(&first) if found.is_empty() => Err(self.not_found(first)),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn not_found(&self, id: GroupId) -> AsgError {
        let group = self.group_name(id).unwrap_or_default().to_owned();
        AsgError::NotFound { group, region: self.region().to_owned() }
    }

    fn remember(&self, id: GroupId, seen: Seen, began: Mono) {
        if let Some(state) = self.states().get_mut(id.0 as usize)
            && (state.changed_at <= began || state.seen.is_none())
        {
            state.seen = Some((seen, began));
        }
    }

    /// The groups of these numbers, those that are there.
    pub(super) async fn describe(
        &self,
        ids: &[GroupId],
    ) -> Result<BTreeMap<GroupId, AutoScalingGroup>, AsgError> {
        let names: Vec<&str> = ids.iter().filter_map(|&id| self.group_name(id)).collect();
        let mut call = self.reader.describe_auto_scaling_groups();
        for name in &names {
            call = call.auto_scaling_group_names(*name);
        }
        let mut found = BTreeMap::new();
        let mut pages = call.into_paginator().items().send();
        while let Some(group) = pages.next().await {
            let group = group.map_err(|error| AsgError::Look {
                what: names.join(", "),
                error: CallError::of("autoscaling:DescribeAutoScalingGroups", &error),
            })?;
            let id = ids.iter().find(|&&id| self.group_name(id) == group.auto_scaling_group_name());
            if let Some(&id) = id {
                found.insert(id, group);
            }
        }
        Ok(found)
    }

    /// Tells each failed launch of a wish once. That they cannot be read is logged: the boot deadline still holds.
    async fn tell_failures(&self, id: GroupId) {
        let Some(name) = self.group_name(id) else { return };
        let activities = match self.activities(name).await {
            Ok(activities) => activities,
            Err(error) => return tracing::warn!(%error, "failed launches are not seen"),
        };
        let now = self.clock.now().wall;
        let fresh: Vec<LaunchFailure> = {
            let mut states = self.states();
            let Some(state) = states.get_mut(id.0 as usize) else { return };
            let since = state.lacking_since.replace(state.lacking_since.unwrap_or(now));
            if state.told.len() > TOLD_MAX {
                state.told.clear();
            }
            // A wish that somebody else made, some time before this balancer saw it: its latest attempt tells.
            let read = if since.is_some() { activities.len() } else { 1 };
            activities
                .iter()
                .filter(|activity| is_launch(activity))
                .take(read)
                .filter(|activity| has_failed(activity))
                .filter(|activity| since.is_none_or(|since| began(activity) + OLDER_FAILURE_MAX >= since))
                .filter(|activity| activity.activity_id().is_some_and(|id| state.told.insert(id.to_owned())))
                .map(|activity| {
                    LaunchFailure::of_activity(name, activity.status_message().unwrap_or_default())
                })
                .collect()
        };
        for failure in fresh {
            self.tell(FleetNews::LaunchFailed {
                group: id,
                kind: failure.kind,
                cause: failure.to_string().into(),
            });
        }
    }

    /// The latest activities of a group, the latest first.
    pub(super) async fn activities(&self, name: &str) -> Result<Vec<Activity>, AsgError> {
        let call = self.reader.describe_scaling_activities().auto_scaling_group_name(name);
        let answer = call.max_records(ACTIVITIES_READ).send().await.map_err(|error| AsgError::Look {
            what: name.to_owned(),
            error: CallError::of("autoscaling:DescribeScalingActivities", &error),
        })?;
        Ok(answer.activities.unwrap_or_default())
    }

    pub(super) fn region(&self) -> &str {
        self.reader.config().region().map_or("this region", AsRef::as_ref)
    }

    pub(super) fn tell(&self, news: FleetNews) {
        // Without a reader the balancer is ending.
        let _ = self.news.send(news);
    }
}

/// Why the latest launch of a group failed; none if it did not. The latest activity comes first.
#[must_use]
pub fn latest_failure(group: &str, activities: &[Activity]) -> Option<LaunchFailure> {
    let latest =
        activities.iter().find(|activity| is_launch(activity)).filter(|latest| has_failed(latest))?;
    Some(LaunchFailure::of_activity(group, latest.status_message().unwrap_or_default()))
}

fn seen(group: &AutoScalingGroup) -> Seen {
    let count = |number: Option<i32>| number.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let is_part = |state: &LifecycleState| state_of(state).is_some_and(|state| state != InstanceState::Aside);
    let instances = group.instances().iter().filter(|i| i.lifecycle_state().is_some_and(is_part));
    let subnets = group.vpc_zone_identifier().unwrap_or_default().split(',').filter(|id| !id.is_empty());
    let mut places: Vec<Place> = subnets.map(|id| Place::Subnet(id.trim().to_owned())).collect();
    if places.is_empty() {
        places = group.availability_zones().iter().map(|zone| Place::Zone(zone.clone())).collect();
    }
    Seen {
        desired: count(group.desired_capacity()),
        min: count(group.min_size()),
        max: count(group.max_size()),
        is_protected: group.new_instances_protected_from_scale_in() == Some(true),
        instances: instances.filter_map(|instance| instance.instance_id().map(InstanceId::from)).collect(),
        places,
        claim: super::claim::of(group),
    }
}

/// EC2 Auto Scaling User Guide, "Amazon EC2 Auto Scaling instance lifecycle". None for what is not there any more.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a state that a later API knows is not ours to use or to end"
)]
fn state_of(state: &LifecycleState) -> Option<InstanceState> {
    match state {
        LifecycleState::Pending | LifecycleState::PendingWait | LifecycleState::PendingProceed => {
            Some(InstanceState::Pending)
        }
        LifecycleState::InService => Some(InstanceState::Running),
        LifecycleState::TerminatingWait => Some(InstanceState::TerminatingWait),
        LifecycleState::Terminating | LifecycleState::TerminatingProceed => Some(InstanceState::Terminating),
        LifecycleState::Terminated | LifecycleState::Detached => None,
        // In the warm pool: mostly stopped, and no part of the group before they leave it.
        state if state.as_str().starts_with("Warmed") => None,
        // Standing by, detaching.
        _ => Some(InstanceState::Aside),
    }
}

/// "Launching a new EC2 instance: i-…", "Launching a new EC2 instance.  Status Reason: …"
fn is_launch(activity: &Activity) -> bool {
    activity.description().is_none_or(|what| what.starts_with("Launching"))
}

pub(super) fn has_failed(activity: &Activity) -> bool {
    let failed = [ScalingActivityStatusCode::Failed, ScalingActivityStatusCode::Cancelled];
    activity.status_code().is_some_and(|code| failed.contains(code))
}

/// When it began, as the time since the Unix epoch.
pub(super) fn began(activity: &Activity) -> Duration {
    let seconds = activity.start_time().map_or(0, aws_sdk_autoscaling::primitives::DateTime::secs);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
