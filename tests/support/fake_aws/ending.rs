//! How an instance leaves its group by a call, and what tests do to instances by hand.

use std::time::Duration;

use paddock::core::{Mono, Now};

use super::activity::Status;
use super::group::{Effect, Group};
use super::instance::{EndedBy, Instance};
use super::lifecycle::Lifecycle;
use super::query::ApiError;

impl Group {
    /// `TerminateInstanceInAutoScalingGroup`. Returns the activity's index.
    ///
    /// Protection does not matter ("EC2 Auto Scaling User Guide, Use instance scale-in protection"). With decrement
    /// the desired capacity falls, never below MinSize (message as in public reports); without, a replacement comes.
    /// Not for warmed instances ("EC2 Auto Scaling API, TerminateInstanceInAutoScalingGroup"; message *assumed*).
    /// That a second call for one that is ending already is refused, and lowers nothing a second time, is *assumed*.
    /// So is that Standby, which is not counted, lowers nothing.
    pub fn terminate(&mut self, id: &str, is_decrementing: bool, now: Now) -> Result<usize, ApiError> {
        let Some(state) = self.instances.get(id).map(|instance| instance.state) else {
            return Err(ApiError::no_instance(id));
        };
        if state.is_warmed() {
            return Err(ApiError::validation(&format!("The instance {id} is part of a warm pool.")));
        }
        if state.is_ending() {
            let message = format!("The instance {id} is in {state} state: its termination is in progress.");
            return Err(ApiError::sender("ScalingActivityInProgress", &message));
        }
        if is_decrementing && state.is_counted() {
            if self.desired <= self.config.min {
                return Err(ApiError::validation(&format!(
                    "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will violate \
                     group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower \
                     group's min size.",
                    self.config.min
                )));
            }
            self.desired -= 1;
        }
        self.begin_end(id, EndedBy::TerminateCall, now);
        let activity = self.activities.len() - 1;
        self.tick(now);
        Ok(activity)
    }

    /// AWS ends an instance by its own choice, as it does to rebalance zones.
    pub fn end_by_aws(&mut self, id: &str, now: Now) {
        self.begin_end(id, EndedBy::Aws, now);
        self.tick(now);
    }

    /// Puts an instance on standby; with decrement nothing is launched in its place.
    /// ("EC2 Auto Scaling API, EnterStandby")
    pub fn enter_standby(&mut self, id: &str, is_decrementing: bool, now: Now) {
        self.move_to(id, Lifecycle::Standby, now);
        if is_decrementing {
            self.desired = self.desired.saturating_sub(1).max(self.config.min);
        }
        self.tick(now);
    }

    /// Brings it back, which raises the desired capacity. ("EC2 Auto Scaling API, ExitStandby")
    pub fn exit_standby(&mut self, id: &str, now: Now) {
        self.move_to(id, Lifecycle::InService, now);
        self.desired += 1;
        self.tick(now);
    }

    /// The group remembers this of an instance that is not there any more: begun so long ago, and over since. In progress
    /// if it never was over.
    pub fn remember(
        &mut self,
        description: &str,
        began_ago: Duration,
        ended_ago: Option<Duration>,
        now: Now,
    ) {
        let ago = |span: Duration| Now {
            mono: Mono(now.mono.0.saturating_sub(span)),
            wall: now.wall.saturating_sub(span),
        };
        let zone = self.config.zones[0].clone();
        let mut activity = self.activity(description.to_owned(), &zone, ago(began_ago));
        if let Some(span) = ended_ago {
            activity.end(Status::Successful, ago(span));
        }
        self.activities.push(activity);
    }

    fn move_to(&mut self, id: &str, state: Lifecycle, now: Now) {
        let instance = self.instances.get_mut(id).unwrap_or_else(|| panic!("no instance {id}"));
        instance.enter(state, now.mono);
        self.effect(Effect::Target { id: id.to_owned(), target: state.target() });
    }

    /// Adds an instance to the warm pool; it has no machine.
    pub fn add_warmed(&mut self, state: Lifecycle, now: Now) -> String {
        assert!(state.is_warmed(), "{state}");
        let zone = self.config.zones[0].clone();
        let id = self.launch(&zone, None, now);
        let launch = self.instances[&id].launch;
        self.activities[launch].end(Status::Successful, now);
        self.instances.get_mut(&id).unwrap().enter(state, now.mono);
        id
    }

    /// From now on a spot notice or rebalance recommendation is out; with a time the machine goes then.
    pub fn put_at_risk(&mut self, id: &str, machine_goes: Option<Mono>, now: Now) {
        let instance = self.instances.get_mut(id).unwrap_or_else(|| panic!("no instance {id}"));
        instance.is_at_risk = true;
        instance.interrupted_at = machine_goes;
        self.tick(now);
    }

    /// The machine is ended in EC2, past the group.
    pub fn kill_by_hand(&mut self, id: &str, now: Now) {
        assert!(self.instances.get(id).is_some_and(Instance::has_machine), "{id} has no machine");
        self.lose(id, EndedBy::Hand, now);
    }
}
