//! The start of a fleet of Auto Scaling groups: what is wrong with them, or what will surprise, is said before anybody waits.

use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use aws_sdk_autoscaling::types::AutoScalingGroup;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::claim::Claim;
use super::look::GroupState;
use super::note::notes;
use super::{AsgConfig, AsgError, AsgFleet};
use crate::aws;
use crate::clock::Clock;
use crate::core::GroupId;
use crate::fleet::FleetNews;
use crate::metrics::{AwsCalls, CountCalls};

/// For the first look at the groups. Clients wait for as long: their connections are queued by the kernel.
const CHECK_MAX: Duration = Duration::from_secs(10);

impl AsgFleet {
    /// Finds the groups, and says what there is to say about them. The core asks for the first look. What AWS is called for
    /// is counted in `calls`.
    ///
    /// 1. Without a region or credentials, without the right to look, or without one of the groups, there is no start.
    /// 2. If AWS cannot be reached or fails, the balancer starts all the same: servers that run may register.
    /// 3. What is missing for later is a warning. Whether the wish may be changed, and an instance ended, cannot be
    ///    asked without doing it: a refusal is told when it comes, to the log and to those who wait.
    ///
    /// # Errors
    ///
    /// What is to be mended first.
    pub async fn start(
        config: AsgConfig,
        clock: Clock,
        news: UnboundedSender<FleetNews>,
        calls: AwsCalls,
    ) -> Result<Self, AsgError> {
        let shared = Builder::from(&aws::config().await).interceptor(CountCalls(calls));
        let once = shared.clone().retry_config(RetryConfig::disabled());
        let fleet = Self {
            states: Mutex::new(config.groups.iter().map(|_| GroupState::default()).collect()),
            groups: config.groups,
            wake: config.wake,
            reader: Client::from_conf(shared.build()),
            writer: Client::from_conf(once.build()),
            clock,
            news,
            claim: Claim::new(config.management),
        };
        match timeout(CHECK_MAX, fleet.check_all(config.instances_max)).await {
            Ok(checked) => checked?,
            Err(_) => tracing::warn!("AWS is slow: the Auto Scaling groups are looked at later"),
        }
        Ok(fleet)
    }

    async fn check_all(&self, instances_max: u32) -> Result<(), AsgError> {
        let ids: Vec<GroupId> = (0..self.groups.len()).map(|at| GroupId(at as u32)).collect();
        match self.describe(&ids).await {
            Ok(groups) => {
                if let Some(&missing) = ids.iter().find(|id| !groups.contains_key(id)) {
                    return Err(self.not_found(missing));
                }
                for (&id, group) in &groups {
                    self.check(id, group, instances_max).await;
                }
                Ok(())
            }
            Err(AsgError::Look { what, error }) if error.needs_mending() => {
                Err(AsgError::Look { what: format!("--asg-name {what}"), error })
            }
            Err(error) => {
                tracing::warn!(%error, "the Auto Scaling groups cannot be looked at yet; trying on");
                Ok(())
            }
        }
    }

    /// Says what will surprise.
    async fn check(&self, id: GroupId, group: &AutoScalingGroup, instances_max: u32) {
        let name = self.group_name(id).unwrap_or_default();
        for note in notes(group, instances_max, self.wake) {
            tracing::warn!(group = name, "{note}");
        }
        let (min, max) = (group.min_size().unwrap_or_default(), group.max_size().unwrap_or_default());
        let desired = group.desired_capacity().unwrap_or_default();
        tracing::info!(
            group = name,
            min,
            max,
            desired,
            "an Auto Scaling group; it never goes below its MinSize"
        );
        if let Err(error) = self.activities(name).await {
            tracing::warn!(%error, "failed launches will not be seen before --boot-timeout");
        }
        match self.hooks(id, name).await {
            Ok(hooks) if hooks.is_empty() => {}
            Ok(hooks) => tracing::info!(group = name, ?hooks, "its ends are held until they are drained"),
            Err(error) => {
                tracing::warn!(%error, "ends that lifecycle hooks hold will run into their timeouts")
            }
        }
    }
}
