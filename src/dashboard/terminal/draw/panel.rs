//! The panels: agents, boots, happenings.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::super::app::{App, Panel};
use super::super::rows::{self, Column};
use super::super::table;
use super::super::text::clean;
use super::super::theme::Theme;
use crate::core::snapshot::{BootPhase, BootSnapshot, HappeningSnapshot, PoolSnapshot};
use crate::dashboard::{Snapshot, words};

/// Draws one of them. Where it is alone, its title names the others.
pub(super) fn draw(
    panel: Panel,
    app: &App,
    state: &Snapshot,
    theme: &Theme,
    is_alone: bool,
    area: Rect,
    frame: &mut Frame<'_>,
) {
    let mut title: Vec<Span<'_>> = Vec::new();
    for other in Panel::ALL.into_iter().filter(|&other| is_alone || other == panel) {
        let style = if other == app.panel { theme.chosen } else { theme.label };
        title.extend([Span::styled(format!(" {} ", name(other, app, state)), style), Span::raw(" ")]);
    }
    let border = if panel == app.panel { theme.focus } else { theme.faint };
    let block = Block::new().borders(Borders::TOP).border_style(border).title(Line::from(title));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = match panel {
        Panel::Agents => return frame.render_widget(Paragraph::new(agents(app, state, theme, inner)), inner),
        Panel::Boots => boots(app, state, theme, inner),
        Panel::Happenings => happenings(app, state, theme, inner),
    };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
}

fn name(panel: Panel, app: &App, state: &Snapshot) -> String {
    match panel {
        Panel::Agents if app.filter.is_empty() => format!("Agents ({})", state.agents.len()),
        Panel::Agents => {
            format!("Agents ({} of {} with '{}')", app.listed().len(), state.agents.len(), app.filter)
        }
        Panel::Boots => format!("Boots ({})", sum(state, |pool| pool.boots.len())),
        Panel::Happenings => format!("Happenings ({})", sum(state, |pool| pool.happenings.len())),
    }
}

fn sum(state: &Snapshot, of: fn(&PoolSnapshot) -> usize) -> usize {
    state.pools.iter().map(of).sum()
}

fn agents(app: &App, state: &Snapshot, theme: &Theme, area: Rect) -> Vec<Line<'static>> {
    let listed = app.listed();
    if listed.is_empty() {
        let text =
            if app.filter.is_empty() { "no agent is registered" } else { "no agent matches the filter" };
        return vec![Line::styled(text, theme.faint)];
    }
    // Only the rows that are seen are made: there may be thousands.
    let height = usize::from(area.height.saturating_sub(1));
    let first = (app.row() + 1).saturating_sub(height);
    let shapes = Column::ALL.map(Column::shape);
    let mut rows = vec![titles(app)];
    rows.extend(listed.iter().skip(first).take(height).map(|agent| rows::cells(agent, state)));
    let widths = table::widths(&shapes, &rows, Some(area.width.into()));
    let lines = rows.iter().enumerate().map(|(nth, row)| {
        let is_title = nth == 0;
        let is_chosen = !is_title && first + nth - 1 == app.row();
        let cells = table::cells(&shapes, &widths, row).map(|(place, cell)| {
            let is_issue = Column::ALL.get(place) == Some(&Column::Issues) && !is_title && !is_chosen;
            Span::styled(cell, if is_issue { theme.bad } else { Style::new() })
        });
        let style = match (is_title, is_chosen) {
            (true, _) => theme.label,
            (false, true) => theme.chosen,
            (false, false) => Style::new(),
        };
        Line::from(cells.collect::<Vec<_>>()).style(style)
    });
    lines.collect()
}

/// The one that rows are sorted by points to where the greatest are.
fn titles(app: &App) -> Vec<String> {
    let titled = |column: Column| {
        let mark = match (column == app.sort.by, app.sort.is_reversed) {
            (false, _) => "",
            (true, false) => "▲",
            (true, true) => "▼",
        };
        format!("{}{mark}", column.shape().title)
    };
    Column::ALL.map(titled).to_vec()
}

/// The latest first. Each has a bar of letters, one for each phase, as long as its part.
fn boots(app: &App, state: &Snapshot, theme: &Theme, area: Rect) -> Vec<Line<'static>> {
    let boots: Vec<&BootSnapshot> = state.pools.iter().flat_map(|pool| pool.boots.iter().rev()).collect();
    if boots.is_empty() {
        return vec![Line::styled("no instance has started yet", theme.faint)];
    }
    let skip = if app.panel == Panel::Boots { app.scroll } else { 0 };
    let mut lines = Vec::new();
    for boot in boots.into_iter().skip(skip).take(area.height.into()) {
        let phases: Vec<String> = BootPhase::ALL
            .into_iter()
            .filter_map(|phase| Some((phase, *boot.phase_seconds.get(&phase)?)))
            .filter(|(_, seconds)| *seconds > 0.0)
            .map(|(phase, seconds)| format!("{} {}", words::boot_phase(phase), words::span(seconds)))
            .collect();
        lines.push(Line::from(vec![
            Span::styled(format!("{}  ", clean(&boot.instance.0)), theme.label),
            Span::raw(format!("{}: {}", words::span(boot.total_seconds), phases.join(", "))),
        ]));
        lines.push(Line::styled(bar(boot, area.width.into()), theme.bar));
    }
    lines.truncate(area.height.into());
    lines
}

/// `ccpppbbbbllllllll`: where the start goes, each phase by its first letter.
fn bar(boot: &BootSnapshot, columns: usize) -> String {
    let total: f64 = boot.phase_seconds.values().filter(|seconds| seconds.is_finite()).sum();
    let mut bar = String::new();
    let mut until = 0.0;
    for phase in BootPhase::ALL {
        let seconds = boot.phase_seconds.get(&phase).copied().filter(|seconds| seconds.is_finite());
        until += seconds.unwrap_or_default().max(0.0);
        // Saturates, and what is no number is 0.
        let end = ((until / total * columns as f64).round() as usize).min(columns);
        let letter = words::boot_phase(phase).chars().next().unwrap_or(' ');
        bar.extend(std::iter::repeat_n(letter, end.saturating_sub(bar.len())));
    }
    bar
}

/// The latest first.
fn happenings(app: &App, state: &Snapshot, theme: &Theme, area: Rect) -> Vec<Line<'static>> {
    let mut happenings: Vec<(&PoolSnapshot, &HappeningSnapshot)> = state
        .pools
        .iter()
        .flat_map(|pool| pool.happenings.iter().map(move |happening| (pool, happening)))
        .collect();
    if happenings.is_empty() {
        return vec![Line::styled("nothing has happened yet", theme.faint)];
    }
    happenings.sort_by(|(_, a), (_, b)| a.ago_seconds.total_cmp(&b.ago_seconds));
    let skip = if app.panel == Panel::Happenings { app.scroll } else { 0 };
    let shown = happenings.into_iter().skip(skip).take(area.height.into());
    shown.map(|(pool, happening)| happening_line(pool, happening, theme)).collect()
}

fn happening_line(pool: &PoolSnapshot, happening: &HappeningSnapshot, theme: &Theme) -> Line<'static> {
    let group = happening.group.and_then(|id| pool.groups.iter().find(|group| group.group == id));
    let group = group.and_then(|group| group.name.as_deref());
    let instance = happening.instance.as_ref().map(|id| &*id.0);
    let where_: Vec<String> = [instance, group].into_iter().flatten().map(clean).collect();
    let cause = happening.cause.as_deref().map_or_else(String::new, |cause| format!(": {}", clean(cause)));
    Line::from(vec![
        Span::styled(format!("{:>12} ago  ", words::span(happening.ago_seconds)), theme.faint),
        Span::styled(words::happening(happening.kind), theme.label),
        Span::raw(format!("  {}{cause}", where_.join(" in "))),
    ])
}
