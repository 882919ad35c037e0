//! The warm pool: instances that are prepared, stopped, and started again when the group wants one.
//! ("EC2 Auto Scaling User Guide, Decrease latency for applications with long boot times using warm pools", "Use lifecycle
//! hooks with a warm pool in Auto Scaling group")

use paddock::core::Now;

use super::activity::Status;
use super::config::Transition;
use super::group::{Effect, Group};
use super::lifecycle::Lifecycle;

impl Group {
    /// Launches an instance into the pool, as AWS does by itself until the pool is full.
    pub fn warm(&mut self, now: Now) -> String {
        let zone = self.config.zones[0].clone();
        let id = self.launch(&zone, None, now);
        self.instances.get_mut(&id).unwrap().enter(Lifecycle::WarmedPending, now.mono);
        id
    }

    /// It runs: its machine boots, and launching hooks hold it.
    pub(super) fn run_warmed(&mut self, id: &str, now: Now) {
        let waits = self.waits(Transition::Launching, id, now.mono);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.is_running = true;
        let is_held = !waits.is_empty();
        instance.waits = waits;
        let state = if is_held { Lifecycle::WarmedPendingWait } else { Lifecycle::WarmedPendingProceed };
        instance.enter(state, now.mono);
        let (zone, target) = (instance.zone.clone(), state.target());
        self.effect(Effect::Boot { id: id.to_owned(), zone, target });
    }

    /// It stops, whatever it does: nobody said that it is not prepared.
    pub(super) fn stop_warmed(&mut self, id: &str, now: Now) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.enter(Lifecycle::WarmedStopped, now.mono);
        instance.is_running = false;
        instance.is_prepared = true;
        let launch = instance.launch;
        self.activities[launch].end(Status::Successful, now);
        self.effect(Effect::Stop { id: id.to_owned() });
    }

    /// Starts a prepared instance instead of a launch, if there is one: its machine boots anew, as if launched.
    pub(super) fn take_warmed(&mut self, now: Now) -> bool {
        let prepared = self.instances.values_mut().find(|instance| instance.is_prepared);
        let Some(instance) = prepared else { return false };
        instance.is_prepared = false;
        instance.launched = now;
        instance.enter(Lifecycle::Pending, now.mono);
        let (id, zone) = (instance.id.clone(), instance.zone.clone());
        instance.launch = self.activities.len();
        let mut activity =
            self.activity(format!("Launching a new EC2 instance from warm pool: {id}"), &zone, now);
        activity.status = Status::PreInService;
        self.activities.push(activity);
        true
    }
}
