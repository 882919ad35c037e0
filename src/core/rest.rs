//! When an instance has earned its rest, and when it comes back.

use super::event::InstanceState;
use super::groups::{Group, Origin};
use super::ids::{InstanceId, PoolId};
use super::instances::{Drain, Instance, LOST_AGENT_GRACE, Progress};
use super::journal::{NOT_HEARD, NOT_NEEDED};
use super::registry::Agent;
use super::snapshot::HappeningKind;
use super::{Core, Timer};

/// How often it is asked again whether an instance may rest.
pub(super) const REST_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

impl Core {
    /// An idle instance that is on its way out comes back, unless its end was asked for. False if there is none.
    pub(super) fn cancel_idle_drain(&mut self, id: PoolId) -> bool {
        let Some(pool) = self.pools.get_mut(&id) else { return false };
        let leaving = pool.instances.values_mut().find(|instance| instance.can_come_back());
        let Some(instance) = leaving else { return false };
        instance.drain = None;
        instance.terminate = Progress::NotAsked;
        instance.rest_since = self.now;
        let agents = instance.agents.clone();
        for key in agents {
            self.reindex(key);
        }
        self.arm_by(Timer::Rest(id), self.now + REST_INTERVAL);
        true
    }

    /// Idle instances stay if the pool, or their group, has come to its least number by other hands.
    pub(super) fn keep_the_least(&mut self, id: PoolId) {
        loop {
            let Some(pool) = self.pools.get(&id) else { return };
            let is_kept = |i: &Instance| {
                i.drain == Some(Drain::Idle)
                    && i.is_counted()
                    && pool.groups.get(&i.group).is_some_and(Group::is_at_min)
            };
            let is_short = pool.is_below_min() || pool.instances.values().any(is_kept);
            if !is_short || !self.cancel_idle_drain(id) {
                return;
            }
        }
    }

    /// Nothing new is sent there, and once it is empty it ends.
    pub(super) fn drain_idle(&mut self, id: PoolId, instance_id: &InstanceId) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if let Some(instance) = pool.instances.get_mut(instance_id) {
            instance.drain = Some(Drain::Idle);
            let which = (instance_id, instance.group);
            pool.journal.of_instance(self.now, HappeningKind::DrainBegan, which, Some(NOT_NEEDED.into()));
            let agents = instance.agents.clone();
            self.plan_changed = true;
            for key in agents {
                self.reindex(key);
            }
        }
    }

    /// An instance whose end came to nothing stays if the queue has grown since.
    pub(super) fn keep_what_is_wanted(&mut self, id: PoolId) {
        if self.pools.get(&id).is_some_and(|pool| !pool.queue.is_empty()) {
            self.cancel_idle_drain(id);
            self.settle(id);
        }
    }

    /// Whether an instance has earned its rest.
    ///
    /// 1. A registered instance leaves, whatever else happens, if its agent is lost for good, or if its server has been
    ///    of no use for as long as a boot may take; not while another balancer works on its group.
    /// 2. One that is somebody else's and was never heard of leaves once it has had its time to boot and to rest; not while
    ///    another balancer, or whoever it is, works on its group, nor while an agent is heard that knows no instance.
    /// 3. What a group launched by itself, and nobody wants, leaves while it boots.
    /// 4. Nothing else leaves while anything waits or boots, while another leaves, or below the least number, the group's
    ///    and the pool's.
    /// 5. The one that has been idle longest, once that is long enough.
    /// 6. The least loaded one, once the others could have carried its load for as long.
    pub(super) fn rest(&mut self, id: PoolId) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if !pool.config.has_fleet {
            return;
        }
        let (boot_timeout, idle_timeout) = (pool.config.boot_timeout, pool.config.idle_timeout);
        // It may speak for any instance that is not heard of.
        let is_nameless = |agent: &Agent| {
            let is_bound = agent.instance.is_some() || agent.report.instance.is_some();
            agent.pool == id && agent.is_connected && !is_bound
        };
        let has_nameless = self.agents.values().any(is_nameless);
        let mut lost = Vec::new();
        for (instance_id, instance) in &mut pool.instances {
            let is_lost = instance.agent_lost_at.is_some_and(|at| at + LOST_AGENT_GRACE <= now)
                || instance.unready_since.is_some_and(|at| at + boot_timeout <= now);
            let group = pool.groups.get(&instance.group);
            let has_rival = group.is_some_and(|group| group.has_rival);
            let is_calm =
                group.and_then(|group| group.foreign_write_at).is_none_or(|at| at + idle_timeout <= now);
            let has_had_its_time = instance.is_overdue && instance.boot_deadline + idle_timeout <= now;
            let is_forgotten = has_had_its_time && is_calm && !has_nameless;
            // Another balancer may hear what this one does not.
            let is_lost = ((is_lost && instance.registered_at.is_some()) || is_forgotten) && !has_rival;
            if is_lost && instance.drain.is_none() && instance.is_there() {
                instance.drain = Some(Drain::Fault);
                let which = (instance_id, instance.group);
                pool.journal.of_instance(now, HappeningKind::DrainBegan, which, Some(NOT_HEARD.into()));
                lost.extend(instance.agents.iter().copied());
                self.plan_changed = true;
            }
        }
        for key in lost {
            self.reindex(key);
        }
        self.dismiss_spares(id);
        if let Some(instance_id) = self.resting(id) {
            if let Some(pool) = self.pools.get_mut(&id) {
                pool.surplus_since = None;
            }
            self.drain_idle(id, &instance_id);
        }
        let Some(pool) = self.pools.get(&id) else { return };
        let is_spare = pool.launches.iter().any(|launch| launch.origin == Origin::Spare);
        if is_spare || !pool.instances.is_empty() {
            let next = now + REST_INTERVAL;
            self.arm_by(Timer::Rest(id), next);
        }
    }

    fn resting(&mut self, id: PoolId) -> Option<InstanceId> {
        let now = self.now;
        let pool = self.pools.get(&id)?;
        let is_leaving =
            pool.instances.values().any(|i| i.drain.is_some() && i.state != InstanceState::Aside);
        let serving: Vec<_> = pool
            .instances
            .iter()
            .filter(|(_, i)| i.registered_at.is_some() && i.drain.is_none() && i.is_there())
            .collect();
        if !pool.queue.is_empty() || pool.pending() > 0 || is_leaving {
            return None;
        }
        if serving.len() <= pool.config.instances_min as usize || !pool.is_observed {
            return None;
        }
        let (idle_timeout, life_min) = (pool.config.idle_timeout, pool.config.life_min);
        let old_enough: Vec<_> = serving
            .iter()
            .filter(|(_, i)| now.since(i.launched_at) >= life_min)
            .filter(|(_, i)| !pool.groups.get(&i.group).is_some_and(Group::is_at_min))
            .collect();
        let idle = old_enough.iter().filter(|(_, i)| !self.is_busy(i) && i.rest_since + idle_timeout <= now);
        if let Some((instance, _)) = idle.min_by_key(|(_, instance)| instance.rest_since) {
            return Some((*instance).clone());
        }
        let load = |instance: &Instance| -> (u32, u32) {
            let agents = instance.agents.iter().filter_map(|key| Some((*key, self.agents.get(key)?)));
            agents.fold((0, 0), |(held, free), (key, agent)| {
                let room = if self.is_eligible(key, agent) { self.free(key, agent) } else { 0 };
                (held + agent.held + agent.foreign, free + room)
            })
        };
        let loads: Vec<_> = old_enough.iter().map(|(id, instance)| (load(instance), (*id).clone())).collect();
        let free: u32 = serving.iter().map(|(_, instance)| load(instance).1).sum();
        let least = loads.into_iter().min_by_key(|((held, _), id)| (*held, id.clone()));
        let surplus = least.filter(|((held, own), _)| serving.len() > 1 && free - own >= *held);
        let pool = self.pools.get_mut(&id)?;
        let Some((_, instance)) = surplus else {
            pool.surplus_since = None;
            return None;
        };
        let since = *pool.surplus_since.get_or_insert(now);
        (since + idle_timeout <= now).then_some(instance)
    }
}
