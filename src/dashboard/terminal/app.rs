//! What the view knows and what it shows of it: events in, a new state out. Pure.

mod link;

use std::sync::Arc;

use super::history::History;
use super::input::Key;
use super::rows::{Column, Sort, listed};
use crate::core::{Incarnation, Mono};
use crate::dashboard::{Agent, Snapshot, Timeline};

pub(super) use link::Link;

/// The longest filter, in characters.
const FILTER_CHARS_MAX: usize = 100;

/// How many rows a page is.
const PAGE_ROWS: isize = 10;

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The balancer answered.
    State(Box<Snapshot>),
    /// It told its past; none if it keeps none.
    History(Option<Timeline>),
    /// It did not answer as it should; why, in a few words, and in a line with the mend.
    Failed {
        /// For the header.
        brief: String,
        /// For where there is room.
        line: String,
    },
    /// Somebody pressed a key.
    Key(Key),
}

/// Whether the view goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does.
    Go,
    /// Somebody has seen enough.
    Quit,
}

/// What is shown below the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panel {
    /// The agents.
    Agents,
    /// The last boots.
    Boots,
    /// What happened.
    Happenings,
}

impl Panel {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 3] = [Self::Agents, Self::Boots, Self::Happenings];

    fn stepped(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|&panel| panel == self).unwrap_or_default();
        Self::ALL.get((place + by) % Self::ALL.len()).copied().unwrap_or(self)
    }
}

/// What keys act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The panel.
    Browse,
    /// The filter is being written.
    Filter,
    /// One agent covers the panels.
    Details,
    /// The keys are explained.
    Help,
}

/// Which agent: one life of it, if that is still there.
type Selected = (Arc<str>, Incarnation);

/// All of it.
#[derive(Debug)]
pub(super) struct App {
    /// Where the balancer is, as it was written.
    pub address: String,
    /// How it is reached.
    pub link: Link,
    /// What it said last.
    pub state: Option<Box<Snapshot>>,
    /// The past.
    pub history: History,
    /// Which panel has the keys.
    pub panel: Panel,
    /// What the keys do.
    pub mode: Mode,
    /// In which order agents stand.
    pub sort: Sort,
    /// What they must hold to be shown.
    pub filter: String,
    /// The first row of the boots or the happenings that is shown.
    pub scroll: usize,
    selected: Option<Selected>,
    /// Its row, for when it is gone.
    row: usize,
}

impl App {
    /// Nothing is known yet.
    pub(super) fn new(address: String, now: Mono) -> Self {
        Self {
            address,
            link: Link::Connecting { since: now },
            state: None,
            history: History::default(),
            panel: Panel::Agents,
            mode: Mode::Browse,
            sort: Sort { by: Column::Name, is_reversed: false },
            filter: String::new(),
            scroll: 0,
            selected: None,
            row: 0,
        }
    }

    /// The agents that are shown, in their order.
    pub(super) fn listed(&self) -> Vec<&Agent> {
        self.state.as_ref().map_or_else(Vec::new, |state| listed(state, self.sort, &self.filter))
    }

    /// The row of the agent that is selected.
    pub(super) fn row(&self) -> usize {
        self.row
    }

    /// The agent that is selected; none if there is none to select.
    pub(super) fn selected(&self) -> Option<&Agent> {
        self.listed().get(self.row).copied()
    }

    /// How many rows the boots or happenings have.
    fn lines(&self) -> usize {
        let pools = self.state.iter().flat_map(|state| &state.pools);
        match self.panel {
            Panel::Agents => 0,
            Panel::Boots => pools.map(|pool| pool.boots.len()).sum(),
            Panel::Happenings => pools.map(|pool| pool.happenings.len()).sum(),
        }
    }

    /// Takes the event in.
    pub(super) fn update(&mut self, event: Event, now: Mono) -> Flow {
        match event {
            Event::State(state) => self.heard(state, now),
            Event::History(timeline) => self.history.tell(timeline.as_ref()),
            Event::Failed { brief, line } => self.link.failed(brief, line, now),
            Event::Key(Key::Interrupt) => return Flow::Quit,
            Event::Key(Key::Char('q')) if self.mode != Mode::Filter => return Flow::Quit,
            Event::Key(key) => self.pressed(key),
        }
        self.settle();
        Flow::Go
    }

    fn heard(&mut self, state: Box<Snapshot>, now: Mono) {
        self.link.heard(now);
        self.history.saw(&state);
        self.state = Some(state);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing in most modes")]
impl App {
    fn pressed(&mut self, key: Key) {
        match self.mode {
            Mode::Browse => self.browse(key),
            Mode::Filter => self.write(key),
            Mode::Details => match key {
                Key::Esc | Key::Enter | Key::Left => self.mode = Mode::Browse,
                Key::Char('?') => self.mode = Mode::Help,
                other => self.step(other),
            },
            Mode::Help => match key {
                Key::Esc | Key::Enter | Key::Char('?') => self.mode = Mode::Browse,
                _ => {}
            },
        }
    }

    fn browse(&mut self, key: Key) {
        match key {
            Key::Char('?') => self.mode = Mode::Help,
            Key::Char('/') => (self.mode, self.panel) = (Mode::Filter, Panel::Agents),
            Key::Char('s') => self.sort.by = self.sort.by.next(),
            Key::Char('S' | 'r') => self.sort.is_reversed = !self.sort.is_reversed,
            Key::Tab | Key::Right => self.turn(1),
            Key::BackTab | Key::Left => self.turn(Panel::ALL.len() - 1),
            Key::Esc => self.filter.clear(),
            Key::Enter if self.panel == Panel::Agents && self.selected().is_some() => {
                self.mode = Mode::Details;
            }
            other => self.step(other),
        }
    }

    fn turn(&mut self, by: usize) {
        self.panel = self.panel.stepped(by);
        self.scroll = 0;
    }

    fn write(&mut self, key: Key) {
        match key {
            Key::Esc => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            Key::Enter => self.mode = Mode::Browse,
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Char(c) if self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(c),
            Key::Char(_) => {}
            other => self.step(other),
        }
    }

    /// Moves through the rows.
    fn step(&mut self, key: Key) {
        let by = match key {
            Key::Down | Key::Char('j') => 1,
            Key::Up | Key::Char('k') => -1,
            Key::PageDown => PAGE_ROWS,
            Key::PageUp => -PAGE_ROWS,
            Key::Home | Key::Char('g') => isize::MIN,
            Key::End | Key::Char('G') => isize::MAX,
            _ => return,
        };
        match self.panel {
            Panel::Agents => {
                let last = self.listed().len().saturating_sub(1);
                self.row = self.row.saturating_add_signed(by).min(last);
                self.selected = self.listed().get(self.row).map(|agent| selection(agent));
            }
            Panel::Boots | Panel::Happenings => self.scroll = self.scroll.saturating_add_signed(by),
        }
    }
}

impl App {
    /// The selection follows its agent, wherever that stands now.
    ///
    /// 1. The same life of it.
    /// 2. Another life of the same agent.
    /// 3. Whoever stands where it stood.
    fn settle(&mut self) {
        self.scroll = self.scroll.min(self.lines().saturating_sub(1));
        let listed = self.listed();
        let selected = self.selected.as_ref();
        let same = listed.iter().position(|agent| Some(&selection(agent)) == selected);
        let other = || listed.iter().position(|agent| Some(&agent.agent_id) == selected.map(|(id, _)| id));
        let row = same.or_else(other).unwrap_or_else(|| self.row.min(listed.len().saturating_sub(1)));
        let found = listed.get(row).map(|agent| selection(agent));
        self.row = row;
        // While none is shown, the last one is remembered: it may come back.
        self.selected = found.or(self.selected.take());
        if self.mode == Mode::Details && self.listed().is_empty() {
            self.mode = Mode::Browse;
        }
    }
}

fn selection(agent: &Agent) -> Selected {
    (agent.agent_id.clone(), agent.incarnation)
}

#[cfg(test)]
mod tests;
