//! An instance as its group sees it.

use std::time::Duration;

use paddock::core::{Mono, Now};

use super::config::{Hook, HookResult};
use super::failure::LaunchFailure;
use super::lifecycle::Lifecycle;

/// How often a heartbeat can be recorded over: the global timeout is 100 times the heartbeat timeout, 48 hours at
/// most. ("EC2 Auto Scaling API, LifecycleHook, GlobalTimeout")
const HEARTBEATS_MAX: u32 = 100;
const GLOBAL_TIMEOUT_MAX: Duration = Duration::from_secs(48 * 3600);

/// Why an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    /// `TerminateInstanceInAutoScalingGroup`.
    TerminateCall,
    /// The desired capacity was lowered by number, and AWS chose this one.
    DesiredLowered,
    /// A spot interruption.
    Spot,
    /// Somebody ended it in EC2.
    Hand,
    /// AWS's own doing: rebalancing of zones, maintenance.
    Aws,
    /// Its replacement was there (`CapacityRebalance`).
    Rebalanced,
    /// A launching hook's result was ABANDON.
    Abandoned,
}

impl EndedBy {
    /// Whether a caller of Auto Scaling brought it about.
    pub fn is_by_call(self) -> bool {
        matches!(self, Self::TerminateCall | Self::DesiredLowered | Self::Abandoned)
    }
}

#[derive(Debug, Clone)]
pub struct Instance {
    pub id: String,
    pub zone: String,
    pub state: Lifecycle,
    /// When it came into this state.
    pub since: Mono,
    pub launched: Now,
    /// From then on the group shows it: later than `launched` for a launch that was late.
    pub visible_from: Mono,
    /// Only from InService on. ("EC2 Auto Scaling User Guide, Use instance scale-in protection": "starts when the
    /// instance state is InService")
    pub is_protected: bool,
    pub is_healthy: bool,
    /// Hooks that hold it, or are about to.
    pub waits: Vec<HookWait>,
    /// Whether it waits in the warm pool, prepared and stopped, for the group to want it.
    pub is_prepared: bool,
    /// Whether its machine was started.
    pub is_running: bool,
    /// Since when its machine has been gone without the group's doing.
    pub gone_since: Option<Mono>,
    /// When a spot interruption takes its machine.
    pub interrupted_at: Option<Mono>,
    /// Whether it has a rebalance recommendation or an interruption notice.
    pub is_at_risk: bool,
    /// The launch is to fail when it should run.
    pub fails_later: Option<LaunchFailure>,
    pub ended_by: Option<EndedBy>,
    /// Indices in the group's activities.
    pub launch: usize,
    pub end: Option<usize>,
}

impl Instance {
    /// Ended by its group, and not because its machine was gone already.
    pub fn has_machine(&self) -> bool {
        self.is_running && self.gone_since.is_none()
    }

    pub fn enter(&mut self, state: Lifecycle, now: Mono) {
        self.state = state;
        self.since = now;
    }

    /// Takes out the hooks whose heartbeat ran out, and says whether one of them abandons.
    pub fn expire_hooks(&mut self, now: Mono) -> bool {
        let is_abandoned =
            self.waits.iter().any(|wait| wait.until <= now && wait.default_result == HookResult::Abandon);
        self.waits.retain(|wait| wait.until > now);
        is_abandoned
    }
}

/// A hook that holds an instance.
#[derive(Debug, Clone)]
pub struct HookWait {
    pub hook: String,
    pub token: String,
    pub heartbeat: Duration,
    pub default_result: HookResult,
    pub until: Mono,
    /// No heartbeat moves `until` past this.
    pub until_max: Mono,
}

impl HookWait {
    pub fn start(hook: &Hook, token: String, now: Mono) -> Self {
        let mut wait = Self {
            hook: hook.name.clone(),
            token,
            heartbeat: hook.heartbeat,
            default_result: hook.default_result,
            until: now,
            until_max: now,
        };
        wait.begin(now);
        wait
    }

    /// Its timeouts count from now.
    pub fn begin(&mut self, now: Mono) {
        self.until = now + self.heartbeat;
        self.until_max = now + (self.heartbeat * HEARTBEATS_MAX).min(GLOBAL_TIMEOUT_MAX);
    }

    /// ("EC2 Auto Scaling API, RecordLifecycleActionHeartbeat")
    pub fn beat(&mut self, now: Mono) {
        self.until = (now + self.heartbeat).min(self.until_max);
    }
}
