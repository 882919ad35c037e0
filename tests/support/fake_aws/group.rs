//! What an Auto Scaling group decides: pure, with time as an argument. What it wants done to machines are
//! [`Effect`]s.
//!
//! At each tick: what is due happens to its instances, failed launches are told, then the number of instances that
//! count is compared with the desired capacity: too few are launched, too many are trimmed. ("EC2 Auto Scaling User
//! Guide, Amazon EC2 Auto Scaling instance lifecycle", "Set scaling limits for your group")

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use paddock::core::{Mono, Now};

use super::activity::{Activity, Status};
use super::config::{GroupConfig, HookResult, Transition};
use super::instance::{EndedBy, HookWait, Instance};
use super::launch::{Failing, LaunchAnswer, LaunchRequest, LaunchRule};
use super::lifecycle::Lifecycle;
use super::view::Views;
use super::wording;

/// What is to be done to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Boot {
        id: String,
        zone: String,
        /// What the metadata tell as `autoscaling/target-lifecycle-state`.
        target: &'static str,
    },
    /// The machine stops, and may boot again.
    Stop {
        id: String,
    },
    /// The metadata tell a new `autoscaling/target-lifecycle-state`.
    Target {
        id: String,
        target: &'static str,
    },
    Kill {
        id: String,
        by: EndedBy,
    },
}

/// The desired capacity was lowered by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lowering {
    pub from: usize,
    pub to: usize,
    /// How many instances counted then, in whatever state.
    pub counted: usize,
    pub at: Mono,
}

impl Lowering {
    /// Nothing that was there became too much: only a wish was taken back.
    pub fn is_withdrawal(self) -> bool {
        self.to >= self.counted
    }
}

#[derive(Debug)]
pub struct Group {
    pub config: GroupConfig,
    pub(super) number: usize,
    pub(super) desired: usize,
    pub(super) instances: BTreeMap<String, Instance>,
    /// Oldest first; never removed, so that indices last.
    pub(super) activities: Vec<Activity>,
    pub(super) lowerings: Vec<Lowering>,
    pub(super) rules: Vec<LaunchRule>,
    pub(super) failing: Vec<Failing>,
    /// No launch is tried before.
    pub(super) retry_at: Mono,
    /// What `LaunchInstances` answered, by client token.
    pub(super) tokens: BTreeMap<String, (LaunchRequest, LaunchAnswer)>,
    /// Whether it was already told that only protected instances are left.
    is_protection_told: bool,
    pub(super) launched: usize,
    pub(super) views: Views,
    effects: VecDeque<Effect>,
}

impl Group {
    pub fn new(config: GroupConfig, number: usize) -> Self {
        assert!(config.min <= config.max && !config.zones.is_empty(), "{config:?}");
        Self {
            desired: config.desired.clamp(config.min, config.max),
            config,
            number,
            instances: BTreeMap::new(),
            activities: Vec::new(),
            lowerings: Vec::new(),
            rules: Vec::new(),
            failing: Vec::new(),
            retry_at: Mono::default(),
            tokens: BTreeMap::new(),
            is_protection_told: false,
            launched: 0,
            views: Views::default(),
            effects: VecDeque::new(),
        }
    }

    pub fn desired(&self) -> usize {
        self.desired
    }

    /// Those that the group shows.
    pub fn shown(&self, now: Mono) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |instance| instance.visible_from <= now)
    }

    pub fn effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Everything that is due.
    pub fn tick(&mut self, now: Now) {
        let ids: Vec<String> = self.instances.keys().cloned().collect();
        for id in ids {
            self.advance(&id, now);
        }
        self.tell_failures(now);
        self.replace_those_at_risk(now);
        self.reconcile(now);
        self.keep_view(now.mono);
    }

    fn reconcile(&mut self, now: Now) {
        let counted = self.counted();
        if counted < self.desired {
            if !self.config.is_suspended("Launch") && self.retry_at <= now.mono && self.failing.is_empty() {
                self.launch_missing(self.desired - counted, now);
            }
        } else if counted > self.desired && !self.config.is_suspended("Terminate") {
            self.trim(counted - self.desired, now);
        }
    }

    /// Instances that count. With `CapacityRebalance` those at risk do not: their replacement comes first.
    /// ("EC2 Auto Scaling User Guide, Use Capacity Rebalancing to handle Amazon EC2 Spot interruptions")
    pub(super) fn counted(&self) -> usize {
        let is_spare = |instance: &&Instance| self.config.is_rebalancing && instance.is_at_risk;
        let counted = self.instances.values().filter(|instance| instance.state.is_counted());
        counted.filter(|instance| !is_spare(instance)).count()
    }

    /// What `SetDesiredCapacity` and the console do, within MinSize and MaxSize.
    pub fn set_desired(&mut self, desired: usize, now: Now) {
        let from = self.desired;
        if desired < from {
            let counted = self.instances.values().filter(|instance| instance.state.is_counted()).count();
            self.lowerings.push(Lowering { from, to: desired, counted, at: now.mono });
        }
        if desired > from {
            self.retry_at = self.retry_at.min(now.mono);
        }
        self.desired = desired;
        self.is_protection_told = false;
        self.tick(now);
    }

    /// Moves one instance on if its time has come.
    fn advance(&mut self, id: &str, now: Now) {
        let times = self.config.times;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let is_over = |span: Duration| instance.since + span <= now.mono;
        let is_gone = instance.gone_since.is_some_and(|at| at + times.health_check <= now.mono);
        if instance.interrupted_at.is_some_and(|at| at <= now.mono) {
            self.lose(id, EndedBy::Spot, now);
            return;
        }
        match instance.state {
            state if is_gone && !state.is_ending() => {
                instance.is_healthy = false;
                let by = instance.ended_by.unwrap_or(EndedBy::Hand);
                self.begin_end(id, by, now);
            }
            Lifecycle::Pending if is_over(times.pending) && instance.visible_from <= now.mono => {
                self.run(id, now);
            }
            Lifecycle::WarmedPending if is_over(times.pending) => self.run_warmed(id, now),
            Lifecycle::PendingWait | Lifecycle::WarmedPendingWait => {
                if instance.expire_hooks(now.mono) {
                    self.begin_end(id, EndedBy::Abandoned, now);
                } else if instance.waits.is_empty() {
                    let is_warmed = instance.state.is_warmed();
                    let next =
                        if is_warmed { Lifecycle::WarmedPendingProceed } else { Lifecycle::PendingProceed };
                    instance.enter(next, now.mono);
                }
            }
            Lifecycle::PendingProceed if is_over(times.proceed) => self.serve(id, now),
            Lifecycle::WarmedPendingProceed if is_over(times.proceed) => self.stop_warmed(id, now),
            Lifecycle::TerminatingWait => {
                // Either result lets the instance go; they differ in other hooks only.
                // ("EC2 Auto Scaling User Guide, Amazon EC2 Auto Scaling lifecycle hooks")
                instance.expire_hooks(now.mono);
                if instance.waits.is_empty() {
                    self.proceed_to_end(id, now);
                }
            }
            Lifecycle::Terminating if !instance.waits.is_empty() => {
                if is_over(times.hook) {
                    instance.enter(Lifecycle::TerminatingWait, now.mono);
                    instance.waits.iter_mut().for_each(|wait| wait.begin(now.mono));
                }
            }
            Lifecycle::Terminating | Lifecycle::TerminatingProceed if is_over(times.terminating) => {
                let end = instance.end;
                self.instances.remove(id);
                if let Some(end) = end {
                    self.activities[end].end(Status::Successful, now);
                }
            }
            Lifecycle::Pending
            | Lifecycle::PendingProceed
            | Lifecycle::InService
            | Lifecycle::Terminating
            | Lifecycle::TerminatingProceed
            | Lifecycle::Standby
            | Lifecycle::WarmedPending
            | Lifecycle::WarmedPendingProceed
            | Lifecycle::WarmedStopped
            | Lifecycle::WarmedRunning
            | Lifecycle::WarmedHibernated => {}
        }
    }

    /// A pending instance runs: its machine boots, and launching hooks hold it.
    fn run(&mut self, id: &str, now: Now) {
        let waits = self.waits(Transition::Launching, id, now.mono);
        let Some(instance) = self.instances.get_mut(id) else { return };
        if let Some(failure) = instance.fails_later {
            let (launch, zone) = (instance.launch, instance.zone.clone());
            self.instances.remove(id);
            let message = failure.status_message(&self.config, &zone);
            self.activities[launch].fail(Status::Cancelled, message, now);
            self.retry_at = now.mono + self.config.times.retry;
            return;
        }
        instance.is_running = true;
        let zone = instance.zone.clone();
        if waits.is_empty() {
            self.serve(id, now);
        } else {
            instance.enter(Lifecycle::PendingWait, now.mono);
            instance.waits = waits;
        }
        let target = Lifecycle::Pending.target();
        self.effect(Effect::Boot { id: id.to_owned(), zone, target });
    }

    /// It comes into service; protection starts here.
    pub(super) fn serve(&mut self, id: &str, now: Now) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.enter(Lifecycle::InService, now.mono);
        instance.is_protected = self.config.is_protecting;
        let launch = instance.launch;
        self.activities[launch].end(Status::Successful, now);
    }

    pub(super) fn waits(&self, transition: Transition, id: &str, now: Mono) -> Vec<HookWait> {
        let hooks = self.config.hooks.iter().filter(|hook| hook.transition == transition);
        hooks.map(|hook| HookWait::start(hook, wording::uuid(&[id, &hook.name]), now)).collect()
    }

    /// Ends one instance: hooks hold it if it was in service and its machine is there.
    /// That instances which are not yet in service end without hooks is *assumed*.
    pub(super) fn begin_end(&mut self, id: &str, by: EndedBy, now: Now) {
        let waits = self.waits(Transition::Terminating, id, now.mono);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let was_serving = matches!(instance.state, Lifecycle::InService | Lifecycle::Standby);
        let is_held = was_serving && instance.has_machine() && !waits.is_empty();
        instance.ended_by = Some(by);
        instance.end = Some(self.activities.len());
        instance.enter(Lifecycle::Terminating, now.mono);
        instance.waits = if is_held { waits } else { Vec::new() };
        let (launch, zone) = (instance.launch, instance.zone.clone());
        let mut activity = self.activity(format!("Terminating EC2 instance: {id}"), &zone, now);
        activity.cause = wording::end_cause(by, id, now);
        activity.status = if is_held { Status::MidTerminatingLifecycleAction } else { Status::InProgress };
        self.activities.push(activity);
        if self.activities[launch].ended.is_none() {
            self.activities[launch].end(Status::Cancelled, now);
        }
        self.effect(Effect::Target { id: id.to_owned(), target: Lifecycle::Terminating.target() });
        if !is_held {
            self.kill(id, by);
        }
    }

    fn proceed_to_end(&mut self, id: &str, now: Now) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.enter(Lifecycle::TerminatingProceed, now.mono);
        let (by, end) = (instance.ended_by, instance.end);
        if let Some(end) = end {
            self.activities[end].status = Status::InProgress;
        }
        if let Some(by) = by {
            self.kill(id, by);
        }
    }

    fn kill(&mut self, id: &str, by: EndedBy) {
        if self.instances.get(id).is_some_and(Instance::has_machine) {
            self.effect(Effect::Kill { id: id.to_owned(), by });
        }
    }

    /// The machine goes without the group's doing: the group will notice.
    pub(super) fn lose(&mut self, id: &str, by: EndedBy, now: Now) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.interrupted_at = None;
        if !instance.has_machine() {
            return;
        }
        self.effects.push_back(Effect::Kill { id: id.to_owned(), by });
        instance.gone_since = Some(now.mono);
        if instance.state.is_ending() {
            instance.waits.clear();
        } else {
            instance.ended_by = Some(by);
        }
    }

    /// Too many: unprotected ones go, the longest in service first (which one AWS takes depends on the termination
    /// policy and is *assumed*). With only protected ones left nothing goes. ("EC2 Auto Scaling User Guide, Use
    /// instance scale-in protection")
    fn trim(&mut self, excess: usize, now: Now) {
        let mut victims: Vec<(bool, Mono, String)> = self
            .instances
            .values()
            .filter(|instance| instance.state.is_counted() && !instance.is_protected)
            .filter(|instance| instance.state == Lifecycle::InService || self.config.is_pending_trimmed)
            .map(|instance| (instance.state.is_pending(), instance.since, instance.id.clone()))
            .collect();
        victims.sort();
        let is_short = victims.len() < excess;
        for (_, _, id) in victims.into_iter().take(excess) {
            self.begin_end(&id, EndedBy::DesiredLowered, now);
        }
        let is_any_pending = self.instances.values().any(|instance| instance.state.is_pending());
        if is_short && !is_any_pending && !self.is_protection_told {
            self.is_protection_told = true;
            let zone = self.config.zones[0].clone();
            let mut activity = self.activity("Terminating EC2 instance".to_owned(), &zone, now);
            activity.fail(Status::Cancelled, wording::ALL_PROTECTED.to_owned(), now);
            self.activities.push(activity);
        }
    }

    /// With `CapacityRebalance`, an instance at risk ends once its replacement serves.
    fn replace_those_at_risk(&mut self, now: Now) {
        if !self.config.is_rebalancing {
            return;
        }
        let is_serving = |instance: &Instance| instance.state == Lifecycle::InService;
        let serving = self.instances.values().filter(|one| is_serving(one) && !one.is_at_risk).count();
        let at_risk: Vec<String> = self
            .instances
            .values()
            .filter(|one| is_serving(one) && one.is_at_risk && one.has_machine())
            .map(|one| one.id.clone())
            .collect();
        if serving >= self.desired {
            for id in at_risk {
                self.begin_end(&id, EndedBy::Rebalanced, now);
            }
        }
    }

    pub(super) fn activity(&self, description: String, zone: &str, now: Now) -> Activity {
        Activity {
            id: wording::uuid(&[&self.config.name, &self.activities.len().to_string()]),
            description,
            cause: wording::start_cause(self.counted(), self.desired, now),
            started: now,
            ended: None,
            status: Status::InProgress,
            message: None,
            details: wording::details(&self.config.subnet(zone), zone),
        }
    }

    /// The result for a hook that holds an instance. False when none of that name does.
    pub fn complete_hook(&mut self, id: &str, hook: &str, result: HookResult, now: Now) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        if !instance.state.is_held() {
            return false;
        }
        let before = instance.waits.len();
        instance.waits.retain(|wait| wait.hook != hook);
        if instance.waits.len() == before {
            return false;
        }
        let is_launching = instance.state.is_pending() || instance.state.is_warmed();
        if result == HookResult::Abandon && is_launching {
            self.begin_end(id, EndedBy::Abandoned, now);
        } else if result == HookResult::Abandon {
            // ABANDON of a terminating hook stops the other hooks.
            instance.waits.clear();
        }
        self.tick(now);
        true
    }

    /// False when no hook of that name holds the instance.
    pub fn beat_hook(&mut self, id: &str, hook: &str, now: Now) -> bool {
        let held = self.instances.get_mut(id).filter(|instance| instance.state.is_held());
        let waits = held.map(|instance| &mut instance.waits);
        let Some(wait) = waits.into_iter().flatten().find(|wait| wait.hook == hook) else { return false };
        wait.beat(now.mono);
        true
    }
}
