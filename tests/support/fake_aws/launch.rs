//! How a group launches: by itself, and at once for `LaunchInstances`.

use std::time::Duration;

use paddock::core::{Mono, Now};

use super::activity::Status;
use super::failure::LaunchFailure;
use super::group::Group;
use super::instance::Instance;
use super::lifecycle::Lifecycle;
use super::query::ApiError;

/// At most so many for one call. ("EC2 Auto Scaling API, LaunchInstances")
const LAUNCH_MAX: usize = 100;

/// How launches go, until the rule is used up.
#[derive(Debug, Clone)]
pub struct LaunchRule {
    /// In this zone; none for all.
    pub zone: Option<String>,
    pub fate: Fate,
    /// For so many launches; none for ever.
    pub left: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No instance comes; the activity says so a moment later.
    Fails(LaunchFailure),
    /// The instance is seen pending, then it is gone and its activity is `Cancelled`.
    FailsLater(LaunchFailure),
    /// The instance is there but seen only after this.
    Late(Duration),
}

/// A launch that failed, not told yet.
#[derive(Debug)]
pub struct Failing {
    activity: usize,
    failure: LaunchFailure,
    zone: String,
    at: Mono,
}

/// The parameters of `LaunchInstances`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    pub count: usize,
    pub zones: Vec<String>,
    pub subnets: Vec<String>,
    pub is_retrying: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchAnswer {
    pub zone: String,
    pub ids: Vec<String>,
    pub failure: Option<LaunchFailure>,
}

impl Group {
    /// Launches what is missing. A zone that fails is told in an activity, and the next one is tried ("EC2 Auto
    /// Scaling User Guide, Example: Distribute instances across Availability Zones"); when all fail, the group waits
    /// and tries again, for as long as the desired capacity says so (observed in public reports; the interval is
    /// *assumed*).
    pub(super) fn launch_missing(&mut self, missing: usize, now: Now) {
        for _ in 0..missing {
            let is_launched = self.take_warmed(now)
                || self.zones_by_need().into_iter().any(|zone| self.try_launch(&zone, now).is_ok());
            if !is_launched {
                self.retry_at = now.mono + self.config.times.failure + self.config.times.retry;
                return;
            }
        }
    }

    fn try_launch(&mut self, zone: &str, now: Now) -> Result<(), ()> {
        match self.take_rule(zone) {
            Some(Fate::Fails(failure)) => {
                let activity = self.activity("Launching a new EC2 instance".to_owned(), zone, now);
                let at = now.mono + self.config.times.failure;
                self.failing.push(Failing {
                    activity: self.activities.len(),
                    failure,
                    zone: zone.to_owned(),
                    at,
                });
                self.activities.push(activity);
                Err(())
            }
            fate => {
                self.launch(zone, fate, now);
                Ok(())
            }
        }
    }

    /// The zone with the fewest instances first.
    fn zones_by_need(&self) -> Vec<String> {
        let count = |zone: &String| {
            let there = self.instances.values().filter(|one| one.zone == *zone && one.state.is_counted());
            there.count()
        };
        let mut zones = self.config.zones.clone();
        zones.sort_by_key(count);
        zones
    }

    fn take_rule(&mut self, zone: &str) -> Option<Fate> {
        let matching = |rule: &&mut LaunchRule| {
            rule.left != Some(0) && rule.zone.as_ref().is_none_or(|only| only == zone)
        };
        let rule = self.rules.iter_mut().find(matching)?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fate)
    }

    pub(super) fn launch(&mut self, zone: &str, fate: Option<Fate>, now: Now) -> String {
        let id = format!("i-{:08x}{:09x}", self.number, self.launched);
        self.launched += 1;
        let mut activity = self.activity(format!("Launching a new EC2 instance: {id}"), zone, now);
        activity.status = Status::PreInService;
        let mut instance = Instance {
            id: id.clone(),
            zone: zone.to_owned(),
            state: Lifecycle::Pending,
            since: now.mono,
            launched: now,
            visible_from: now.mono,
            is_protected: false,
            is_healthy: true,
            waits: Vec::new(),
            is_prepared: false,
            is_running: false,
            gone_since: None,
            interrupted_at: None,
            is_at_risk: false,
            fails_later: None,
            ended_by: None,
            launch: self.activities.len(),
            end: None,
        };
        match fate {
            Some(Fate::FailsLater(failure)) => instance.fails_later = Some(failure),
            Some(Fate::Late(by)) => instance.visible_from = now.mono + by,
            Some(Fate::Fails(_)) | None => {}
        }
        self.activities.push(activity);
        self.instances.insert(id.clone(), instance);
        id
    }

    pub(super) fn tell_failures(&mut self, now: Now) {
        for failing in std::mem::take(&mut self.failing) {
            if failing.at > now.mono {
                self.failing.push(failing);
                continue;
            }
            let message = failing.failure.status_message(&self.config, &failing.zone);
            self.activities[failing.activity].fail(Status::Failed, message, now);
        }
    }

    /// `LaunchInstances`. The same token with the same parameters gives the same answer and launches nothing; for how
    /// long AWS remembers a token is not said: *assumed* for ever. ("EC2 Auto Scaling API, LaunchInstances"; "User
    /// Guide, Launching instances with synchronous provisioning")
    pub fn launch_instances(
        &mut self,
        token: Option<&str>,
        request: &LaunchRequest,
        now: Now,
    ) -> Result<LaunchAnswer, ApiError> {
        if let Some((earlier, answer)) = token.and_then(|token| self.tokens.get(token)) {
            if earlier != request {
                return Err(ApiError::sender(
                    "IdempotentParameterMismatch",
                    "The client token was used before with other parameters.",
                ));
            }
            return Ok(answer.clone());
        }
        let zone = self.launch_zone(request)?;
        let mut answer = LaunchAnswer { zone: zone.clone(), ids: Vec::new(), failure: None };
        for _ in 0..request.count {
            match self.take_rule(&zone) {
                Some(Fate::Fails(failure)) => {
                    answer.failure = Some(failure);
                    break;
                }
                fate => answer.ids.push(self.launch(&zone, fate, now)),
            }
        }
        // Without retries the desired capacity grows by what was launched, else by what was asked for.
        self.desired += if request.is_retrying { request.count } else { answer.ids.len() };
        if let Some(token) = token {
            self.tokens.insert(token.to_owned(), (request.clone(), answer.clone()));
        }
        Ok(answer)
    }

    /// The one zone that the call names or the group has. The messages are *assumed*.
    fn launch_zone(&self, request: &LaunchRequest) -> Result<String, ApiError> {
        let refuse = |message: &str| Err(ApiError::validation(message));
        let config = &self.config;
        if config.launch_template.is_none() {
            return refuse("LaunchInstances requires an Auto Scaling group with a launch template.");
        }
        if !(1..=LAUNCH_MAX).contains(&request.count) {
            return refuse("RequestedCapacity must be between 1 and 100.");
        }
        if self.desired + request.count > config.max {
            return refuse(&format!(
                "Launching {} instances would exceed the max size {} of the AutoScalingGroup.",
                request.count, config.max
            ));
        }
        if request.zones.len() > 1 || request.subnets.len() > 1 {
            return refuse("Only one Availability Zone or subnet can be specified.");
        }
        let by_subnet = request.subnets.first().map(|subnet| {
            config.zones.iter().find(|zone| config.subnet(zone) == *subnet).cloned().ok_or(subnet.clone())
        });
        let by_zone = request
            .zones
            .first()
            .map(|named| config.zones.iter().find(|zone| *zone == named).cloned().ok_or(named.clone()));
        match (by_subnet, by_zone) {
            (Some(Err(unknown)), _) | (_, Some(Err(unknown))) => {
                refuse(&format!("{unknown} is not part of the AutoScalingGroup's configuration."))
            }
            (Some(Ok(subnet)), Some(Ok(zone))) if subnet != zone => {
                refuse("The subnet does not reside in the specified Availability Zone.")
            }
            (Some(Ok(zone)), _) | (None, Some(Ok(zone))) => Ok(zone),
            (None, None) if config.zones.len() == 1 => Ok(config.zones[0].clone()),
            (None, None) => refuse(
                "Either AvailabilityZones or SubnetIds must be specified for an AutoScalingGroup with multiple Availability Zones.",
            ),
        }
    }
}
