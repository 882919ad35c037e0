//! Which agent: an ordered [`Score`], kept as an index.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::ids::AgentKey;

/// How good an agent is for the next request. Lower is better; compared field by field, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Busy slots in thousandths of all, rounded up, so that 0 means wholly idle: spread the load, so that each answer decodes as fast as it can.
    pub(super) load_permille: u32,
    /// Among equals the one with the most room. So the first of the index, if it is wholly idle, is the largest that is.
    pub(super) free: Reverse<u32>,
    /// Last, so that the order is total.
    pub(super) agent: AgentKey,
}

impl Score {
    pub(super) fn new(agent: AgentKey, total: u32, free: u32) -> Self {
        let busy = u64::from(total.saturating_sub(free));
        let load_permille = u32::try_from((busy * 1000).div_ceil(u64::from(total.max(1)))).unwrap_or(1000);
        Self { load_permille, free: Reverse(free), agent }
    }
}

/// The agents of a pool that have a free slot which is not kept for a certain request.
#[derive(Debug, Default)]
pub(super) struct OpenAgents {
    by_score: BTreeSet<Score>,
    by_free: BTreeSet<(u32, AgentKey)>,
}

impl OpenAgents {
    pub(super) fn insert(&mut self, score: Score) {
        self.by_free.insert((score.free.0, score.agent));
        self.by_score.insert(score);
    }

    pub(super) fn remove(&mut self, score: Score) {
        self.by_free.remove(&(score.free.0, score.agent));
        self.by_score.remove(&score);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_score.is_empty()
    }

    pub(super) fn contains(&self, score: &Score) -> bool {
        self.by_score.contains(score)
    }

    /// The agent for a request of so many slots, of which it takes at most as many as the agent has in all.
    ///
    /// 1. One slot: the best score.
    /// 2. Several: the least room that is enough, so that large rooms stay for large requests.
    /// 3. Else the largest agent that is wholly idle: the request takes all its slots.
    pub(super) fn fit(&self, slots: u32) -> Option<AgentKey> {
        if slots <= 1 {
            return self.by_score.first().map(|score| score.agent);
        }
        let floor = AgentKey { agent: super::AgentId(0), incarnation: super::Incarnation(0) };
        if let Some(&(_, agent)) = self.by_free.range((slots, floor)..).next() {
            return Some(agent);
        }
        self.by_score.first().filter(|score| score.load_permille == 0).map(|score| score.agent)
    }

    /// The agent with the most free slots.
    pub(super) fn roomiest(&self) -> Option<AgentKey> {
        self.by_free.last().map(|&(_, agent)| agent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AgentId, Incarnation};
    use super::*;

    fn key(agent: u64) -> AgentKey {
        AgentKey { agent: AgentId(agent), incarnation: Incarnation(1) }
    }

    fn open(agents: &[(u64, u32, u32)]) -> OpenAgents {
        let mut open = OpenAgents::default();
        for &(agent, total, free) in agents {
            open.insert(Score::new(key(agent), total, free));
        }
        open
    }

    #[test]
    fn one_slot_goes_to_the_least_loaded() {
        assert_eq!(open(&[(1, 4, 1), (2, 4, 3), (3, 8, 4)]).fit(1), Some(key(2)));
        assert_eq!(
            open(&[(1, 4, 4), (2, 8, 8)]).fit(1),
            Some(key(2)),
            "among equals the one with the most room"
        );
    }

    #[test]
    fn several_slots_go_where_they_fit_most_tightly() {
        assert_eq!(open(&[(1, 8, 8), (2, 8, 3), (3, 8, 2)]).fit(3), Some(key(2)));
        assert_eq!(open(&[(1, 8, 2), (2, 8, 1)]).fit(3), None);
    }

    #[test]
    fn more_slots_than_any_agent_has_take_a_wholly_idle_one() {
        assert_eq!(open(&[(1, 4, 3), (2, 2, 2)]).fit(9), Some(key(2)));
        assert_eq!(open(&[(1, 4, 3)]).fit(9), None);
    }

    #[test]
    fn what_was_removed_is_not_picked() {
        let mut open = open(&[(1, 4, 4)]);
        open.remove(Score::new(key(1), 4, 4));
        assert!(open.is_empty());
        assert_eq!((open.fit(1), open.fit(2), open.roomiest()), (None, None, None));
    }
}
