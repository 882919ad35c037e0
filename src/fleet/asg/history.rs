//! What the groups remember of the instances that they launched and ended: their scaling activities.
//!
//! "Launching a new EC2 instance: i-…", "Terminating EC2 instance: i-…": EC2 Auto Scaling User Guide, "Verify a scaling
//! activity for an Auto Scaling group". They are kept for six weeks (API, DescribeScalingActivities).

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_autoscaling::primitives::DateTime;
use aws_sdk_autoscaling::types::Activity;
use futures_util::future::try_join_all;

use super::look::{began, has_failed};
use super::{AsgError, AsgFleet};
use crate::aws::CallError;
use crate::core::{GroupId, History, InstanceId, Life};

/// Activities in one answer, as many as AWS gives.
const PAGE: i32 = 100;

/// Activities that are read of one group: at one start and one end each ten minutes, those of a week.
const READ_MAX: usize = 2000;

/// How long an end may take: hooks hold it for 48 hours at most (EC2 Auto Scaling API, LifecycleHook, GlobalTimeout).
const END_MAX: Duration = Duration::from_secs(48 * 3600);

impl AsgFleet {
    /// The lives of instances since then, as the time since the Unix epoch. Of a group with very many, only the latest are
    /// read, and the history begins later.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn history(&self, since: Duration) -> Result<History, AsgError> {
        let ids = (0..self.groups.len()).map(|at| GroupId(u32::try_from(at).unwrap_or(u32::MAX)));
        let of_groups = try_join_all(ids.map(|id| self.history_of(id, since))).await?;
        let since = of_groups.iter().map(|of_group| of_group.since).max().unwrap_or(since);
        let mut lives: Vec<Life> = of_groups.into_iter().flat_map(|of_group| of_group.lives).collect();
        lives.sort_by_key(|life| life.began);
        Ok(History { since, lives })
    }

    async fn history_of(&self, id: GroupId, since: Duration) -> Result<History, AsgError> {
        let name = self.name(id)?;
        // What ended since then may have begun to end before.
        let (activities, from) = self.activities_since(name, since.saturating_sub(END_MAX)).await?;
        let from = from.max(since);
        if from > since {
            tracing::warn!(group = name, read = READ_MAX, "the ledger begins with its latest activities");
        }
        let mut lives = lives(id, from, activities);
        lives.retain(|life| life.ended.is_none_or(|ended| ended > from));
        Ok(History { since: from, lives })
    }

    /// Those that began since then or still go on, and since when these are all. AWS describes those in progress first, and
    /// then the others, the latest first (API, DescribeScalingActivities).
    async fn activities_since(
        &self,
        name: &str,
        since: Duration,
    ) -> Result<(Vec<Activity>, Duration), AsgError> {
        let call = self.reader.describe_scaling_activities().auto_scaling_group_name(name);
        let mut pages = call.into_paginator().page_size(PAGE).items().send();
        let mut read = Vec::new();
        while let Some(activity) = pages.next().await {
            let activity = activity.map_err(|error| AsgError::Look {
                what: name.to_owned(),
                error: CallError::of("autoscaling:DescribeScalingActivities", &error),
            })?;
            let is_over = activity.end_time().is_some();
            if is_over && began(&activity) < since {
                break;
            }
            if read.len() == READ_MAX {
                return Ok((read, began(&activity)));
            }
            read.push(activity);
        }
        Ok((read, since))
    }
}

/// What an activity means for its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begins,
    Ends,
}

/// The activities of one group as lives, whatever their order. What ends and never began was there before.
fn lives(group: GroupId, since: Duration, mut activities: Vec<Activity>) -> Vec<Life> {
    // Of two within a second AWS tells the later one first.
    activities.reverse();
    activities.sort_by_key(began);
    let mut lives: Vec<Life> = Vec::new();
    // When each began; and when its launch was given up, if it was.
    let mut open: BTreeMap<InstanceId, (Duration, Option<Duration>)> = BTreeMap::new();
    // Where each is that ended and did not begin again.
    let mut over: BTreeMap<InstanceId, usize> = BTreeMap::new();
    for activity in &activities {
        let Some((step, instance)) = activity.description().and_then(step) else { continue };
        let ended = activity.end_time().map(since_epoch);
        match step {
            Step::Begins => {
                let given_up = ended.filter(|_| has_failed(activity));
                over.remove(&instance);
                open.entry(instance).or_insert((began(activity), given_up));
            }
            Step::Ends if has_failed(activity) => {}
            Step::Ends => {
                // An end that follows an end is the same one.
                if let Some(life) = over.get(&instance).and_then(|&at| lives.get_mut(at)) {
                    life.ended = life.ended.or(ended);
                    continue;
                }
                over.insert(instance.clone(), lives.len());
                let began = open.remove(&instance).map_or(since, |(began, _)| began);
                lives.push(Life { instance, group, began, ended });
            }
        }
    }
    let left = open.into_iter();
    lives.extend(left.map(|(instance, (began, ended))| Life { instance, group, began, ended }));
    lives.sort_by_key(|life| life.began);
    lives
}

/// In a warm pool an instance is stopped. On standby it runs.
fn step(description: &str) -> Option<(Step, InstanceId)> {
    let (what, rest) = description.split_once(": ")?;
    let id = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
    let step = match what {
        "Launching a new EC2 instance"
        | "Launching a new EC2 instance from warm pool"
        | "Attaching an existing EC2 instance" => Step::Begins,
        "Terminating EC2 instance" | "Terminating EC2 instance into warm pool" | "Detaching EC2 instance" => {
            Step::Ends
        }
        _ => return None,
    };
    id.starts_with("i-").then(|| (step, id.into()))
}

fn since_epoch(at: &DateTime) -> Duration {
    Duration::new(u64::try_from(at.secs()).unwrap_or_default(), at.subsec_nanos())
}

#[cfg(test)]
mod tests;
