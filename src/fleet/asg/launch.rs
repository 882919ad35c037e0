//! Launching at once, which tells a lack of capacity at once (experimental).
//!
//! `LaunchInstances` (EC2 Auto Scaling API) launches synchronously, and names what it launched or why not. A group of
//! several zones takes exactly one of them in a call, so they are tried in turn. With the retry strategy `none` a
//! failure leaves the group's wish as it was.

use aws_sdk_autoscaling::types::RetryStrategy;

use super::failures::LaunchFailure;
use super::look::{Place, Seen};
use super::{AsgError, AsgFleet};
use crate::aws::CallError;
use crate::core::{GroupId, InstanceId};

/// How often a call is made whose answer is lost. It carries a token: AWS does it once, and answers the same.
const TRIES_MAX: u32 = 3;

impl AsgFleet {
    /// Launches up to so many instances, in the first place that has any; the others in the next.
    ///
    /// # Errors
    ///
    /// If no place has one: as the last said.
    pub(super) async fn launch(
        &self,
        group: GroupId,
        name: &str,
        instances: u32,
        seen: &Seen,
    ) -> Result<Vec<InstanceId>, AsgError> {
        let first = self.states().get(group.0 as usize).map_or(0, |state| state.place_next);
        let mut launched: Vec<InstanceId> = Vec::new();
        let mut failure = None;
        // A group without places is one of another kind: AWS says what is wrong with it.
        for turn in 0..seen.places.len().max(1) {
            let at = (first + turn) % seen.places.len().max(1);
            let missing = instances.saturating_sub(u32::try_from(launched.len()).unwrap_or(u32::MAX));
            if missing == 0 {
                break;
            }
            let (some, failed) = match self.launch_in(name, missing, seen.places.get(at)).await {
                Ok(answer) => answer,
                // What was launched before counts; the rest is asked for again.
                Err(error) if launched.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(group = name, %error, "not all instances were launched");
                    break;
                }
            };
            if !some.is_empty()
                && let Some(state) = self.states().get_mut(group.0 as usize)
            {
                state.place_next = at;
            }
            launched.extend(some);
            if let Some(failed) = failed {
                tracing::info!(place = ?seen.places.get(at), %failed, "nothing was launched there");
                let is_local = failed.is_for_lack();
                failure = Some(failed);
                if !is_local {
                    break;
                }
            }
        }
        let count = u32::try_from(launched.len()).unwrap_or(u32::MAX);
        self.update(group, |state| state.desired += count);
        match failure {
            Some(failure) if launched.is_empty() => Err(failure.into()),
            _ => Ok(launched),
        }
    }

    async fn launch_in(
        &self,
        name: &str,
        instances: u32,
        place: Option<&Place>,
    ) -> Result<(Vec<InstanceId>, Option<LaunchFailure>), AsgError> {
        let token = format!("paddock-{:032x}", fastrand::u128(..));
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let call = self.writer.launch_instances().auto_scaling_group_name(name).client_token(&token);
            let call = call.requested_capacity(i32::try_from(instances).unwrap_or(i32::MAX));
            let call = match place {
                Some(Place::Subnet(id)) => call.subnet_ids(id),
                Some(Place::Zone(zone)) => call.availability_zones(zone),
                None => call,
            };
            match call.retry_strategy(RetryStrategy::None).send().await {
                Ok(answer) => break answer,
                Err(error) => {
                    let error = CallError::of("autoscaling:LaunchInstances", &error);
                    if !error.may_be_done() || tries >= TRIES_MAX {
                        return Err(AsgError::Call { what: name.to_owned(), error });
                    }
                    tracing::info!(group = name, %error, "asked again under the same token");
                }
            }
        };
        let launched = answer.instances().iter().flat_map(|some| some.instance_ids());
        let launched = launched.map(|id| InstanceId::from(id.as_str())).collect();
        let failed = answer.errors().first().map(|error| {
            let code = error.error_code().unwrap_or_default();
            LaunchFailure::of_code(name, code, error.error_message().unwrap_or_default())
        });
        Ok((launched, failed))
    }
}
