//! Instances of EC2 Auto Scaling groups.
//!
//! A group keeps a wish, its desired capacity, and acts by itself until it is fulfilled. What is asked of it here:
//!
//! 1. A wake raises the wish (`SetDesiredCapacity`), or launches at once (`LaunchInstances`, see `launch.rs`).
//! 2. A wish that brought nothing is taken back, to what is there.
//! 3. An instance is ended by its id (`TerminateInstanceInAutoScalingGroup`), and its wish with it.
//! 4. Ends that a lifecycle hook holds go on when the core says so.
//! 5. A look tells what there is, and what launches failed (see `look.rs`, `failures.rs`).
//!
//! **Invariant:** the desired capacity is never lowered by number but in [`AsgFleet::withdraw`]: AWS would choose whom
//! to end.
//!
//! Calls that change something are not repeated by the SDK: their failures are the core's business, and an answer that
//! was lost is looked up before anything is asked again.

mod claim;
mod error;
mod failures;
mod history;
mod launch;
mod look;
mod note;
mod start;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_autoscaling::Client;
use tokio::sync::mpsc::UnboundedSender;

use self::claim::Claim;
pub use self::claim::claim_ages;
pub use self::error::AsgError;
pub use self::look::latest_failure;
use self::look::{GroupState, Seen};
pub use self::note::{Note, Setting, notes};
use super::FleetNews;
use crate::aws::CallError;
use crate::clock::Clock;
use crate::core::{GroupId, InstanceId};

/// A group that was empty so short a time ago is still taken to be: looks are made every minute at least. Only then a
/// wish is raised without another look, for a request waits.
const EMPTY_VALID: Duration = Duration::from_secs(120);

/// The transition whose hooks hold an end (EC2 Auto Scaling API, LifecycleHook).
pub(crate) const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// What AWS says of a hook that holds nothing for the instance, not yet or not any more.
pub(crate) const NO_ACTION: &str = "No active Lifecycle Action";

/// How a group is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AsgWake {
    /// Raise the group's desired capacity
    #[default]
    SetDesiredCapacity,
    /// Launch at once, which tells a lack of capacity at once (experimental)
    LaunchInstances,
}

/// Which groups, and how they are woken.
#[derive(Debug, Clone)]
pub struct AsgConfig {
    /// Their names, in the order in which they are tried.
    pub groups: Vec<String>,
    /// How.
    pub wake: AsgWake,
    /// How many instances there may be in all, to be told beside the groups' own limits.
    pub instances_max: u32,
    /// Where this balancer is managed: it tells it from others on the same machine.
    pub management: SocketAddr,
}

/// The handle of a fleet of Auto Scaling groups.
#[derive(Debug)]
pub struct AsgFleet {
    groups: Vec<String>,
    wake: AsgWake,
    /// For what changes nothing: the SDK repeats it.
    reader: Client,
    /// For what changes something: never repeated by the SDK.
    writer: Client,
    clock: Clock,
    news: UnboundedSender<FleetNews>,
    states: Mutex<Vec<GroupState>>,
    claim: Claim,
}

impl AsgFleet {
    /// What people call a group.
    #[must_use]
    pub fn group_name(&self, group: GroupId) -> Option<&str> {
        self.groups.get(group.0 as usize).map(String::as_str)
    }

    /// Lets the group wish for so many instances. Returns those that were launched, as far as AWS names them.
    ///
    /// 1. A group that can have been raised by others since it was seen is looked at first: its wish is never lowered.
    ///    One that was empty a moment ago, and protects what runs, is asked at once.
    /// 2. It wishes for more already: nothing is to be done.
    /// 3. It may not have so many: refused.
    ///
    /// # Errors
    ///
    /// If AWS refuses, or has nothing to give.
    pub async fn wake(&self, group: GroupId, instances: u32) -> Result<Vec<InstanceId>, AsgError> {
        let name = self.name(group)?;
        let is_surely_empty = {
            let states = self.states();
            let state = states.get(group.0 as usize).and_then(|state| state.seen.as_ref());
            state.is_some_and(|(seen, at)| {
                let is_recent = self.clock.mono().since(*at) <= EMPTY_VALID;
                is_recent && seen.is_protected && seen.desired == 0 && seen.instances.is_empty()
            })
        };
        if !is_surely_empty {
            self.look_at(group).await?;
        }
        let seen = self.seen(group)?;
        if seen.desired > instances {
            tracing::debug!(group = name, desired = seen.desired, "it wishes for more already");
            return Ok(Vec::new());
        }
        if instances > seen.max {
            return Err(AsgError::Full { group: name.to_owned(), max: seen.max });
        }
        self.note_wish(group);
        match self.wake {
            AsgWake::SetDesiredCapacity => {
                self.set_desired(name, instances).await?;
                self.update(group, |state| state.desired = instances);
                Ok(Vec::new())
            }
            AsgWake::LaunchInstances => {
                self.launch(group, name, instances.saturating_sub(seen.desired), &seen).await
            }
        }
    }

    /// Takes back what the group wishes for beyond the instances that it has, in any state; reads them anew just
    /// before. Without protection of what runs nothing is taken back: AWS might end an instance that serves. Returns what the
    /// group wishes for then.
    ///
    /// # Errors
    ///
    /// If AWS refuses.
    pub async fn withdraw(&self, group: GroupId) -> Result<u32, AsgError> {
        let name = self.name(group)?;
        self.look_at(group).await?;
        let seen = self.seen(group)?;
        let there = u32::try_from(seen.instances.len()).unwrap_or(u32::MAX).max(seen.min);
        if there >= seen.desired {
            return Ok(seen.desired);
        }
        if !seen.is_protected {
            tracing::warn!(group = name, "its wish is left standing, for nothing protects its instances");
            return Ok(seen.desired);
        }
        self.set_desired(name, there).await?;
        self.update(group, |state| state.desired = there);
        // What still fails of it is not about the next wish.
        self.forget_failures(group).await;
        Ok(there)
    }

    /// Ends an instance, and its group's wish for it unless another is to take its place.
    ///
    /// # Errors
    ///
    /// If AWS refuses, or it is gone already: then no wish was lowered.
    pub async fn terminate(&self, instance: &InstanceId, replace: bool) -> Result<(), AsgError> {
        let call = self.writer.terminate_instance_in_auto_scaling_group();
        let call = call.instance_id(&*instance.0).should_decrement_desired_capacity(!replace);
        let Err(error) = call.send().await else { return Ok(()) };
        let error = CallError::of("autoscaling:TerminateInstanceInAutoScalingGroup", &error);
        // "Instance Id not found - No managed instance found for instance ID …"
        if matches!(&error, CallError::Rejected { message, .. } if message.contains("not found")) {
            return Err(AsgError::Gone(instance.clone()));
        }
        Err(AsgError::Call { what: instance.to_string(), error })
    }

    /// Lets an end go on that the group's hooks hold.
    ///
    /// # Errors
    ///
    /// If AWS refuses. A hook that holds nothing (any more) is no error.
    pub async fn complete_lifecycle(&self, group: GroupId, instance: &InstanceId) -> Result<(), AsgError> {
        let name = self.name(group)?;
        // Read anew: one that is not known would hold the end until its own time is over.
        for hook in self.read_hooks(group, name).await? {
            let call = self.writer.complete_lifecycle_action().auto_scaling_group_name(name);
            let call = call.lifecycle_hook_name(hook).instance_id(&*instance.0);
            let answer = call.lifecycle_action_result("CONTINUE").send().await;
            let answer = answer.map_err(|error| CallError::of("autoscaling:CompleteLifecycleAction", &error));
            settled(instance, answer)?;
        }
        Ok(())
    }

    /// Asks the group's hooks to hold an end for longer.
    ///
    /// # Errors
    ///
    /// If AWS refuses. A hook that holds nothing (any more) is no error.
    pub async fn extend_lifecycle(&self, group: GroupId, instance: &InstanceId) -> Result<(), AsgError> {
        let name = self.name(group)?;
        for hook in self.hooks(group, name).await? {
            let call = self.writer.record_lifecycle_action_heartbeat().auto_scaling_group_name(name);
            let answer = call.lifecycle_hook_name(hook).instance_id(&*instance.0).send().await;
            let action = "autoscaling:RecordLifecycleActionHeartbeat";
            settled(instance, answer.map_err(|error| CallError::of(action, &error)))?;
        }
        Ok(())
    }

    async fn set_desired(&self, name: &str, instances: u32) -> Result<(), AsgError> {
        let desired = i32::try_from(instances).unwrap_or(i32::MAX);
        let call = self.writer.set_desired_capacity().auto_scaling_group_name(name);
        match call.desired_capacity(desired).honor_cooldown(false).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = CallError::of("autoscaling:SetDesiredCapacity", &error);
                Err(AsgError::SetDesired { group: name.to_owned(), error })
            }
        }
    }

    /// The hooks that hold ends, as they were last read.
    async fn hooks(&self, group: GroupId, name: &str) -> Result<Vec<String>, AsgError> {
        let known = self.states().get(group.0 as usize).map(|state| state.hooks.clone()).unwrap_or_default();
        if known.is_empty() { self.read_hooks(group, name).await } else { Ok(known) }
    }

    async fn read_hooks(&self, group: GroupId, name: &str) -> Result<Vec<String>, AsgError> {
        let answer = self.reader.describe_lifecycle_hooks().auto_scaling_group_name(name).send().await;
        let answer = answer.map_err(|error| AsgError::Look {
            what: name.to_owned(),
            error: CallError::of("autoscaling:DescribeLifecycleHooks", &error),
        })?;
        let hooks = answer.lifecycle_hooks().iter();
        let hooks = hooks.filter(|hook| hook.lifecycle_transition() == Some(TERMINATING));
        let hooks: Vec<String> =
            hooks.filter_map(|hook| hook.lifecycle_hook_name().map(str::to_owned)).collect();
        if let Some(state) = self.states().get_mut(group.0 as usize) {
            state.hooks.clone_from(&hooks);
        }
        Ok(hooks)
    }

    fn name(&self, group: GroupId) -> Result<&str, AsgError> {
        self.group_name(group).ok_or(AsgError::NoSuchGroup(group))
    }

    fn seen(&self, group: GroupId) -> Result<Seen, AsgError> {
        let states = self.states();
        let seen = states.get(group.0 as usize).and_then(|state| state.seen.as_ref());
        seen.map(|(seen, _)| seen.clone()).ok_or(AsgError::NoSuchGroup(group))
    }

    /// Notes what a call of ours changed.
    fn update(&self, group: GroupId, change: impl FnOnce(&mut Seen)) {
        let now = self.clock.mono();
        if let Some(state) = self.states().get_mut(group.0 as usize) {
            state.changed_at = now;
            if let Some((seen, _)) = &mut state.seen {
                change(seen);
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, Vec<GroupState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hook that holds nothing for the instance has nothing to do.
fn settled<T>(instance: &InstanceId, answer: Result<T, CallError>) -> Result<(), AsgError> {
    match answer.map(drop) {
        Err(CallError::Rejected { message, .. }) if message.contains(NO_ACTION) => Ok(()),
        answer => answer.map_err(|error| AsgError::Call { what: instance.to_string(), error }),
    }
}
