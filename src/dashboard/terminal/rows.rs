//! The agents as rows of a table: their columns, their order, and which of them are shown. Pure.

use std::time::Duration;

use super::table::Shape;
use super::text::clean;
use crate::dashboard::{Agent, Snapshot, words};

/// A column. The first six are those of Paddler 1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Issues,
    Address,
    Updated,
    Idle,
    Processing,
    Phase,
    Leases,
    Instance,
    Zone,
    Group,
}

impl Column {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 11] = [
        Self::Name,
        Self::Issues,
        Self::Address,
        Self::Updated,
        Self::Idle,
        Self::Processing,
        Self::Phase,
        Self::Leases,
        Self::Instance,
        Self::Zone,
        Self::Group,
    ];

    /// The one after it, and after the last the first.
    pub(super) fn next(self) -> Self {
        let mut after = Self::ALL.into_iter().cycle().skip_while(|&column| column != self);
        after.nth(1).unwrap_or(self)
    }

    /// How it is drawn.
    pub(super) fn shape(self) -> Shape {
        let text = |title, narrow, wide| Shape { title, is_number: false, is_essential: true, narrow, wide };
        let number = |title| Shape { is_number: true, ..text(title, 11, 11) };
        let more = |shape| Shape { is_essential: false, ..shape };
        match self {
            Self::Name => text("Name", 8, 24),
            Self::Issues => text("Issues", 10, 40),
            Self::Address => text("llama.cpp", 21, 21),
            Self::Updated => text("Updated", 10, 16),
            Self::Idle => number("Idle"),
            Self::Processing => number("Processing"),
            Self::Phase => more(text("Phase", 5, 8)),
            Self::Leases => more(number("Leases")),
            Self::Instance => more(text("Instance", 10, 24)),
            Self::Zone => more(text("Zone", 10, 16)),
            Self::Group => more(text("Group", 10, 24)),
        }
    }
}

/// The cells of one agent, in the order of [`Column::ALL`].
pub(super) fn cells(agent: &Agent, state: &Snapshot) -> Vec<String> {
    Column::ALL.iter().map(|&column| cell(column, agent, state)).collect()
}

fn cell(column: Column, agent: &Agent, state: &Snapshot) -> String {
    let or_none =
        |text: Option<&str>| text.map(clean).filter(|text| !text.is_empty()).unwrap_or("-".to_owned());
    match column {
        Column::Name => name(agent),
        Column::Issues => clean(&words::issues(agent, state).join("; ")),
        Column::Address => agent.external_llamacpp_addr.to_string(),
        Column::Updated => format!("{} ago", words::span(silence(agent, state).as_secs() as f64)),
        Column::Idle => agent.slots_idle.to_string(),
        Column::Processing => agent.slots_processing.to_string(),
        Column::Phase => words::phase(agent.phase).to_owned(),
        Column::Leases => agent.leases.to_string(),
        Column::Instance => or_none(agent.instance.as_ref().map(|id| &*id.0)),
        Column::Zone => or_none(agent.zone.as_deref()),
        Column::Group => or_none(agent.group.as_deref()),
    }
}

/// What it is called, or else the beginning of its id: not to be empty.
pub(super) fn name(agent: &Agent) -> String {
    let named = agent.agent_name.as_deref().map(clean).filter(|name| !name.trim().is_empty());
    named.unwrap_or_else(|| clean(&agent.agent_id))
}

/// Since its last report.
pub(super) fn silence(agent: &Agent, state: &Snapshot) -> Duration {
    words::taken_at(state).duration_since(agent.last_update).unwrap_or_default()
}

/// In which order agents are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    /// By what.
    pub by: Column,
    /// The greatest first.
    pub is_reversed: bool,
}

/// The agents whose cells hold `filter`, whatever its case, in their order. Those that are equal keep one order.
pub(super) fn listed<'a>(state: &'a Snapshot, sort: Sort, filter: &str) -> Vec<&'a Agent> {
    let filter = filter.to_lowercase();
    let matches = |agent: &&Agent| {
        filter.is_empty() || cells(agent, state).iter().any(|cell| cell.to_lowercase().contains(&filter))
    };
    let mut listed: Vec<&Agent> = state.agents.iter().filter(matches).collect();
    listed.sort_by_cached_key(|agent| key(agent, state, sort.by));
    if sort.is_reversed {
        listed.reverse();
    }
    listed
}

/// Numbers are ordered as numbers. The id and the life come last.
fn key(agent: &Agent, state: &Snapshot, by: Column) -> (u128, String, String, u64) {
    let (number, text) = match by {
        Column::Name => (0, name(agent).to_lowercase()),
        // Those without an issue come last.
        Column::Issues => match cell(by, agent, state) {
            issues if issues.is_empty() => (1, issues),
            issues => (0, issues),
        },
        Column::Updated => (silence(agent, state).as_nanos(), String::new()),
        Column::Idle => (agent.slots_idle.into(), String::new()),
        Column::Processing => (agent.slots_processing.into(), String::new()),
        Column::Leases => (agent.leases as u128, String::new()),
        Column::Address | Column::Phase | Column::Instance | Column::Zone | Column::Group => {
            (0, cell(by, agent, state))
        }
    };
    (number, text, agent.agent_id.to_string(), agent.incarnation.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::sample;

    fn names(by: Column, is_reversed: bool, filter: &str) -> Vec<String> {
        let state = sample::busy();
        listed(&state, Sort { by, is_reversed }, filter).into_iter().map(name).collect()
    }

    #[test]
    fn agents_are_sorted_by_any_column() {
        assert_eq!(names(Column::Name, false, ""), ["alpha", "bravo", "charlie"]);
        assert_eq!(names(Column::Name, true, ""), ["charlie", "bravo", "alpha"]);
        assert_eq!(names(Column::Idle, false, ""), ["charlie", "bravo", "alpha"]);
        assert_eq!(names(Column::Processing, true, ""), ["charlie", "bravo", "alpha"]);
        assert_eq!(names(Column::Updated, true, ""), ["bravo", "charlie", "alpha"]);
        assert_eq!(names(Column::Issues, false, ""), ["alpha", "bravo", "charlie"]);
        let mut column = Column::Name;
        for _ in Column::ALL {
            assert_eq!(names(column, false, "").len(), 3);
            column = column.next();
        }
        assert_eq!(column, Column::Name);
    }

    #[test]
    fn the_filter_looks_at_every_cell() {
        assert_eq!(names(Column::Name, false, "BRAV"), ["bravo"]);
        assert_eq!(names(Column::Name, false, "8003"), ["charlie"]);
        assert_eq!(names(Column::Name, false, "slots disabled"), ["alpha"]);
        assert_eq!(names(Column::Name, false, "llama-spot").len(), 3);
        assert!(names(Column::Name, false, "nothing of this").is_empty());
    }

    #[test]
    fn who_has_no_name_is_called_by_its_id() {
        let mut state = sample::busy();
        state.agents[0].agent_name = None;
        assert_eq!(name(&state.agents[0]), "id-of-charlie");
        state.agents[0].agent_name = Some(" ".into());
        assert_eq!(name(&state.agents[0]), "id-of-charlie");
        state.agents[0].agent_name = Some("\x1b[2J".into());
        assert_eq!(name(&state.agents[0]), "\u{fffd}[2J");
    }
}
