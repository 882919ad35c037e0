//! Machines that are about to end, as their agents learn it.

use super::Core;
use super::dispatch::LeaseState;
use super::event::{Command, Notice, NoticeReason};
use super::ids::{AgentKey, LeaseId};
use super::instances::Drain;
use super::snapshot::HappeningKind;

impl Core {
    /// An agent's report says that its machine is about to end, and the one before did not: attempts whose answer has
    /// not begun are called back; answers that run may finish.
    pub(super) fn recall(&mut self, key: AgentKey, before: Option<Notice>) {
        let now = self.now;
        let Some(agent) = self.agents.get(&key) else { return };
        let reason = |notice: Option<Notice>| notice.map(|notice| notice.reason);
        let notice = reason(agent.report.notice);
        if notice.is_none() || reason(before) == notice {
            return;
        }
        let is_unanswered =
            |id: &&LeaseId| self.leases.get(id).is_some_and(|lease| lease.state == LeaseState::Waiting);
        let unanswered: Vec<LeaseId> = agent.leases.iter().filter(is_unanswered).copied().collect();
        let pool = agent.pool;
        self.commands.extend(unanswered.into_iter().map(|lease| Command::Recall { lease }));
        self.plan_changed = true;
        // The fleet may be ending it already, and will replace it.
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.look_by(now);
        }
    }

    /// The instance that an agent speaks for drains while the agent says that it is about to end. A notice that is
    /// taken back ends the drain, unless the fleet or we have begun to end the instance.
    pub(super) fn note_notice(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else { return };
        let notice = agent.report.notice.map(|notice| notice.reason);
        let (pool, instance) = (agent.pool, agent.instance.clone());
        let Some(pool) = self.pools.get_mut(&pool) else { return };
        let Some(id) = instance else { return };
        let Some(instance) = pool.instances.get_mut(&id) else { return };
        if instance.notice == notice {
            return;
        }
        instance.notice = notice;
        self.plan_changed = true;
        let is_being_ended = !instance.is_there() || instance.is_end_asked();
        if let Some(reason) = notice.filter(|_| !instance.is_ending()) {
            let cause = Some(reason.words().into());
            pool.journal.of_instance(self.now, HappeningKind::DrainBegan, (&id, instance.group), cause);
        }
        match notice {
            Some(_) if instance.drain != Some(Drain::Fault) => instance.drain = Some(Drain::Notice),
            None if instance.drain == Some(Drain::Notice) && !is_being_ended => {
                instance.drain = pool.is_spent.then_some(Drain::Budget);
            }
            Some(_) | None => {}
        }
        let agents = instance.agents.clone();
        for key in agents {
            self.reindex(key);
        }
    }
}

impl NoticeReason {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::SpotInterruption => "the spot market takes it back",
            Self::RebalanceRecommendation => "the spot market may take it back soon",
            Self::LifecycleTermination => "its group ends it",
        }
    }
}
