//! What is wrong with agents, logged once: a refused agent comes back every second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tracing::warn;

/// Agents whose last refusal is remembered. Beyond it all are forgotten, and may be logged again.
const REMEMBERED_MAX: usize = 1000;

/// The last refusal of each agent, until it registers.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<BTreeMap<String, String>>,
}

impl Complaints {
    /// Logs why an agent was refused, unless that was said before.
    pub(super) fn log(&self, agent: &str, peer: IpAddr, message: &str) {
        if self.is_new(agent, message) {
            warn!(%peer, "{message}");
        }
    }

    /// The agent is well: its next refusal is news.
    pub(super) fn forget(&self, agent: &str) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(agent);
    }

    fn is_new(&self, agent: &str, message: &str) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(agent).is_some_and(|before| before == message) {
            return false;
        }
        if last.len() >= REMEMBERED_MAX {
            last.clear();
        }
        last.insert(agent.to_owned(), message.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_new_until_it_repeats() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("a", "no"));
        assert!(!complaints.is_new("a", "no"));
        assert!(complaints.is_new("b", "no"));
        assert!(complaints.is_new("a", "never"));
        assert!(complaints.is_new("a", "no"));
        complaints.forget("a");
        assert!(complaints.is_new("a", "no"));
    }

    #[test]
    fn memory_is_bounded() {
        let complaints = Complaints::default();
        for agent in 0..3 * REMEMBERED_MAX {
            assert!(complaints.is_new(&agent.to_string(), "no"));
        }
        assert!(complaints.last.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
