//! What the groups remember of the instances that they launched and ended: their scaling activities.
//!
//! "Launching a new EC2 instance: i-…", "Terminating EC2 instance: i-…": EC2 Auto Scaling User Guide, "Verify a scaling
//! activity for an Auto Scaling group". They are kept for six weeks (API, DescribeScalingActivities).

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_autoscaling::primitives::DateTime;
use aws_sdk_autoscaling::types::Activity;

use super::look::{began, has_failed};
use super::{AsgError, AsgFleet};
use crate::aws::CallError;
use crate::core::{GroupId, History, InstanceId, Life};

/// Activities in one answer, as many as AWS gives.
const PAGE: i32 = 100;

/// Activities that are read of one group: at one start and one end each ten minutes, those of a week.
const READ_MAX: usize = 2000;

impl AsgFleet {
    /// The lives of instances since then, as the time since the Unix epoch. Of a group with very many, only the latest are
    /// read, and the history begins later.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn history(&self, since: Duration) -> Result<History, AsgError> {
        let mut history = History { since, lives: Vec::new() };
        for at in 0..self.groups.len() {
            let id = GroupId(u32::try_from(at).unwrap_or(u32::MAX));
            let name = self.name(id)?;
            let (activities, is_whole) = self.activities_since(name, since).await?;
            let from = activities.last().map(began).filter(|_| !is_whole).unwrap_or(since).max(since);
            if !is_whole {
                tracing::warn!(group = name, read = READ_MAX, "the ledger begins with its latest activities");
                history.since = history.since.max(from);
            }
            history.lives.extend(lives(id, from, &activities));
        }
        history.lives.sort_by_key(|life| life.began);
        Ok(history)
    }

    /// Those that began since then, the latest first; and whether these are all.
    async fn activities_since(&self, name: &str, since: Duration) -> Result<(Vec<Activity>, bool), AsgError> {
        let call = self.reader.describe_scaling_activities().auto_scaling_group_name(name);
        let mut pages = call.into_paginator().page_size(PAGE).items().send();
        let mut read = Vec::new();
        while let Some(activity) = pages.next().await {
            let activity = activity.map_err(|error| AsgError::Look {
                what: name.to_owned(),
                error: CallError::of("autoscaling:DescribeScalingActivities", &error),
            })?;
            if began(&activity) < since {
                break;
            }
            if read.len() == READ_MAX {
                return Ok((read, false));
            }
            read.push(activity);
        }
        Ok((read, true))
    }
}

/// What an activity means for its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begins,
    Ends,
}

/// The activities of one group, the latest first, as lives.
fn lives(group: GroupId, since: Duration, activities: &[Activity]) -> Vec<Life> {
    let mut lives = Vec::new();
    // When each began; and when its launch was given up, if it was.
    let mut open: BTreeMap<InstanceId, (Duration, Option<Duration>)> = BTreeMap::new();
    // Where each is that ended and did not begin again.
    let mut over: BTreeMap<InstanceId, usize> = BTreeMap::new();
    for activity in activities.iter().rev() {
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
