//! Which groups balancers work on, by their own words: a group's tag tells it only of those that may write it.

use std::collections::BTreeSet;

/// What the balancers that were asked say.
#[derive(Debug, Default)]
pub(super) struct Work {
    groups: BTreeSet<String>,
    untold: Option<String>,
}

impl Work {
    /// A balancer works on these groups.
    pub(super) fn told(&mut self, groups: impl IntoIterator<Item = String>) {
        self.groups.extend(groups);
    }

    /// The balancer at this address does not tell.
    pub(super) fn untold(&mut self, address: &str) {
        self.untold.get_or_insert_with(|| address.to_owned());
    }

    /// Whether a balancer said that it works on the group.
    pub(super) fn is_on(&self, group: &str) -> bool {
        self.groups.contains(group)
    }

    /// Why nothing is to be asked of the group that a balancer may undo, or that may undo what a balancer asks.
    pub(super) fn forbids(&self, group: &str) -> Option<String> {
        if self.is_on(group) {
            return Some("a balancer says that it works on it".to_owned());
        }
        self.untold
            .as_ref()
            .map(|address| format!("the balancer at {address} does not tell what it works on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_left_alone_if_a_balancer_works_on_it_or_may() {
        let mut work = Work::default();
        assert_eq!(work.forbids("gpu"), None);
        work.told(["gpu".to_owned()]);
        assert_eq!(work.forbids("gpu").as_deref(), Some("a balancer says that it works on it"));
        assert_eq!((work.is_on("other"), work.forbids("other")), (false, None));
        work.untold("a:1");
        work.untold("b:2");
        let why = "the balancer at a:1 does not tell what it works on";
        assert_eq!((work.is_on("other"), work.forbids("other").as_deref()), (false, Some(why)));
    }
}
