//! A test's hand on one group.

use std::sync::Arc;
use std::time::Duration;

use super::activity::Activity;
use super::config::GroupConfig;
use super::failure::LaunchFailure;
use super::group::{Group, Lowering};
use super::instance::Instance;
use super::launch::{Fate, LaunchRule};
use super::lifecycle::Lifecycle;
use super::machine::Machine;
use super::{Ended, Shared};

/// A group of a fake AWS, by its name.
#[derive(Debug, Clone)]
pub struct GroupHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
}

impl GroupHandle {
    fn with<T>(&self, work: impl FnOnce(&mut Group) -> T) -> T {
        self.shared.change(|world| work(world.groups.get_mut(&self.name).unwrap()))
    }

    pub fn desired(&self) -> usize {
        self.with(|group| group.desired())
    }

    /// As `DescribeAutoScalingGroups` shows them, and warmed ones; in the order of their launches.
    pub fn instances(&self) -> Vec<Instance> {
        let now = self.shared.clock.mono();
        self.with(|group| group.shown(now).cloned().collect())
    }

    /// The ids of those in a state.
    pub fn ids(&self, state: Lifecycle) -> Vec<String> {
        let instances = self.instances().into_iter().filter(|one| one.state == state);
        instances.map(|one| one.id).collect()
    }

    /// Oldest first.
    pub fn activities(&self) -> Vec<Activity> {
        self.with(|group| group.activities.clone())
    }

    /// When the desired capacity was lowered by number, by whomever.
    pub fn lowerings(&self) -> Vec<Lowering> {
        self.with(|group| group.lowerings.clone())
    }

    /// How many instances it ever launched.
    pub fn launched(&self) -> usize {
        self.with(|group| group.launched)
    }

    /// The machines that were booted, those that are gone too; in the order of their launches.
    pub fn machines(&self) -> Vec<Arc<Machine>> {
        let machines = self.shared.machines.lock().unwrap();
        machines.values().filter(|machine| machine.group() == self.name).cloned().collect()
    }

    /// Of this group.
    pub fn ended(&self) -> Vec<Ended> {
        let ended = self.shared.ended.lock().unwrap();
        ended.iter().filter(|one| one.group == self.name).cloned().collect()
    }

    /// Changes the group as `UpdateAutoScalingGroup` does: the desired capacity moves into the new bounds.
    pub fn change(&self, change: impl FnOnce(&mut GroupConfig)) {
        let now = self.shared.clock.now();
        self.with(|group| {
            change(&mut group.config);
            let desired = group.desired().clamp(group.config.min, group.config.max);
            if desired == group.desired() {
                group.tick(now);
            } else {
                group.set_desired(desired, now);
            }
        });
    }

    /// Another writer sets the desired capacity.
    pub fn set_desired(&self, desired: usize) {
        let now = self.shared.clock.now();
        self.with(|group| group.set_desired(desired, now));
    }

    /// The next `times` launches go so (none: all of them, until [`GroupHandle::clear_launches`]), in one zone or in
    /// all.
    pub fn next_launches(&self, zone: Option<&str>, fate: Fate, times: Option<u32>) {
        let rule = LaunchRule { zone: zone.map(str::to_owned), fate, left: times };
        self.with(|group| group.rules.push(rule));
    }

    /// Instances that were launched [`Fate::Late`] are seen from now on.
    pub fn show_late(&self) {
        let now = self.shared.clock.mono();
        self.with(|group| {
            for instance in group.instances.values_mut() {
                instance.visible_from = instance.visible_from.min(now);
            }
        });
    }

    /// Every launch fails from now on.
    pub fn fail_launches(&self, failure: LaunchFailure) {
        self.next_launches(None, Fate::Fails(failure), None);
    }

    /// Launches go well again.
    pub fn clear_launches(&self) {
        self.with(|group| group.rules.clear());
    }

    /// The next `count` machines boot without an agent.
    pub fn silence_next_boots(&self, count: u32) {
        *self.shared.silent_boots.lock().unwrap().entry(self.name.clone()).or_default() += count;
    }

    /// A spot interruption: the notice is out now, and the machine goes after `notice`. The notice names whole
    /// seconds. ("EC2 User Guide, Spot Instance interruption notices": two minutes, best effort)
    pub fn interrupt(&self, id: &str, notice: Duration) {
        let mut at = self.shared.clock.now();
        let now = at;
        at.mono = at.mono + notice;
        at.wall += notice;
        let machine = self.machine(id);
        machine.imds().change(|metadata| metadata.spot_action = Some(("terminate".to_owned(), at)));
        self.with(|group| group.put_at_risk(id, Some(at.mono), now));
    }

    /// A rebalance recommendation: nothing else happens, unless the group has `CapacityRebalance`.
    pub fn recommend_rebalance(&self, id: &str) {
        let now = self.shared.clock.now();
        self.machine(id).imds().change(|metadata| metadata.rebalance = Some(now));
        self.with(|group| group.put_at_risk(id, None, now));
    }

    /// Somebody ends the instance in EC2; the group notices by itself.
    pub fn kill_by_hand(&self, id: &str) {
        let now = self.shared.clock.now();
        self.with(|group| group.kill_by_hand(id, now));
    }

    /// AWS ends it by its own choice, hooks included, and replaces it.
    pub fn end_by_aws(&self, id: &str) {
        let now = self.shared.clock.now();
        self.with(|group| group.end_by_aws(id, now));
    }

    pub fn enter_standby(&self, id: &str, is_decrementing: bool) {
        let now = self.shared.clock.now();
        self.with(|group| group.enter_standby(id, is_decrementing, now));
    }

    pub fn exit_standby(&self, id: &str) {
        let now = self.shared.clock.now();
        self.with(|group| group.exit_standby(id, now));
    }

    /// The group remembers this of earlier: begun so long ago, and over since, or never.
    pub fn remember(&self, description: &str, began_ago: Duration, ended_ago: Option<Duration>) {
        let now = self.shared.clock.now();
        self.with(|group| group.remember(description, began_ago, ended_ago, now));
    }

    /// AWS prepares an instance for the warm pool: it boots, is held by launching hooks, stops, and is taken at the next
    /// launch.
    pub fn warm(&self) -> String {
        let now = self.shared.clock.now();
        self.with(|group| group.warm(now))
    }

    /// An instance in the warm pool, without a machine.
    pub fn add_warmed(&self, state: Lifecycle) -> String {
        let now = self.shared.clock.now();
        self.with(|group| group.add_warmed(state, now))
    }

    /// The machine of an instance that was booted.
    pub fn machine(&self, id: &str) -> Arc<Machine> {
        let machines = self.shared.machines.lock().unwrap();
        Arc::clone(machines.get(id).unwrap_or_else(|| panic!("{id} was not booted")))
    }
}
