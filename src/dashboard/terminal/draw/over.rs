//! What covers the panels: one agent, and the keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::super::app::App;
use super::super::rows;
use super::super::summary::LABEL_COLUMNS;
use super::super::text::clean;
use super::super::theme::Theme;
use crate::dashboard::{Agent, Snapshot, words};

/// What each key does.
const KEYS: [(&str, &str); 12] = [
    ("q, Ctrl-C", "quit"),
    ("Tab, ← →", "the next panel: agents, boots, happenings"),
    ("↑ ↓, j k", "another agent; further boots or happenings"),
    ("PgUp PgDn", "ten rows at once"),
    ("g G", "to the first row, to the last"),
    ("Enter", "everything about the agent"),
    ("/", "show agents that hold a text; Enter keeps it, Esc clears it"),
    ("s", "sort by the next column"),
    ("r, S", "reverse the order"),
    ("Esc", "back; clear the filter"),
    ("?", "this help"),
    ("c p b s l r", "in a boot's bar: call, pending, boot, service, load, register"),
];

/// All that is known of the agent that is selected, its issues first.
pub(super) fn draw_details(app: &App, theme: &Theme, area: Rect, frame: &mut Frame<'_>) {
    let (Some(state), Some(agent)) = (&app.state, app.selected()) else { return };
    let issues = words::issues(agent, state);
    let mut lines = Vec::new();
    if issues.is_empty() {
        lines.push(Line::styled("no issue: requests may go there", theme.good));
    }
    lines.extend(issues.iter().map(|issue| Line::styled(clean(issue), theme.bad)));
    lines.extend(facts(agent, state).into_iter().map(|(label, text)| {
        Line::from(vec![Span::styled(format!("{label:<LABEL_COLUMNS$}"), theme.label), Span::raw(text)])
    }));
    let block = Block::bordered().border_style(theme.focus).title(format!(" {} ", rows::name(agent)));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), area);
}

fn facts(agent: &Agent, state: &Snapshot) -> Vec<(&'static str, String)> {
    let text = |text: &str| clean(text);
    let mut facts = vec![
        ("llama.cpp", agent.external_llamacpp_addr.to_string()),
        (
            "slots",
            format!(
                "{} idle, {} processing, {} in all, {} used by others",
                agent.slots_idle, agent.slots_processing, agent.slots_total, agent.slots_foreign
            ),
        ),
        ("leases", agent.leases.to_string()),
        ("phase", words::phase(agent.phase).to_owned()),
        (
            "updated",
            format!(
                "{} ago, at {}",
                words::span(rows::silence(agent, state).as_secs_f64()),
                words::clock(agent.last_update)
            ),
        ),
        ("id", text(&agent.agent_id)),
        ("life", agent.incarnation.to_string()),
    ];
    let more = [
        ("instance", agent.instance.as_ref().map(|id| text(&id.0))),
        ("zone", agent.zone.as_deref().map(text)),
        ("group", agent.group.as_deref().map(text)),
    ];
    facts.extend(more.into_iter().filter_map(|(label, text)| Some((label, text?))));
    facts
}

/// What each key does.
pub(super) fn draw_help(theme: &Theme, area: Rect, frame: &mut Frame<'_>) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| {
            Line::from(vec![Span::styled(format!("{key:<13}"), theme.label), Span::raw(*what)])
        })
        .collect();
    let height = super::rows(lines.len()).saturating_add(2).min(area.height);
    let width = area.width.min(80);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().border_style(theme.focus).title(" Keys ");
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
