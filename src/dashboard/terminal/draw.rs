//! The screen as a function of what is known, of its size and of the time. Pure.
//!
//! From the top: who is watched, and how it is reached; what matters, in words; starts that are under way; the last hour;
//! the panels, all of them where there is room, else one that Tab changes; the keys. What covers the panels comes last.

mod over;
mod panel;
mod top;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Link, Mode, Panel};
use super::summary::LABEL_COLUMNS;
use super::text::cut;
use super::theme::Theme;
use crate::core::Mono;

/// On less, nothing could be read.
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 12;

/// From here on all panels are shown.
const WIDTH_WIDE: u16 = 120;
const HEIGHT_WIDE: u16 = 36;

/// The rows of boots and happenings where all panels are shown.
const LOWER_ROWS: u16 = 12;

/// Rows that are left to the panels in any case.
const PANEL_ROWS_MIN: u16 = 6;

/// The sparklines with their titles.
const HISTORY_ROWS: u16 = 3;

/// Draws all of it.
pub(super) fn draw(app: &App, now: Mono, theme: &Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        return draw_too_small(area, frame);
    }
    let mut lines = top::lines(app, theme, area.width);
    let history = if app.state.is_some() { HISTORY_ROWS } else { 0 };
    let room = area.height.saturating_sub(2 + history + PANEL_ROWS_MIN);
    lines.truncate(room.into());
    let [header, top, past, panels, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows(lines.len())),
        Constraint::Length(history),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(top::header(app, now, theme, area.width)), header);
    frame.render_widget(Paragraph::new(lines), top);
    top::draw_history(app, theme, past, frame);
    draw_panels(app, theme, panels, frame);
    frame.render_widget(Paragraph::new(keys_line(app, theme, area.width)), keys);
    match app.mode {
        Mode::Browse | Mode::Filter => {}
        Mode::Details => over::draw_details(app, theme, panels, frame),
        Mode::Help => over::draw_help(theme, area, frame),
    }
}

fn draw_too_small(area: Rect, frame: &mut Frame<'_>) {
    let text = format!(
        "This terminal has {} columns and {} rows. {WIDTH_MIN} and {HEIGHT_MIN} are needed; q quits.",
        area.width, area.height
    );
    let wrapped = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
    frame.render_widget(wrapped, area);
}

fn draw_panels(app: &App, theme: &Theme, area: Rect, frame: &mut Frame<'_>) {
    let Some(state) = &app.state else {
        return draw_unreached(app, theme, area, frame);
    };
    let whole = frame.area();
    if whole.width < WIDTH_WIDE || whole.height < HEIGHT_WIDE {
        return panel::draw(app.panel, app, state, theme, true, area, frame);
    }
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Length(LOWER_ROWS)]).areas(area);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(lower);
    for (shown, place) in Panel::ALL.into_iter().zip([upper, left, right]) {
        panel::draw(shown, app, state, theme, false, place, frame);
    }
}

/// Nothing is known yet: why, and what to do.
fn draw_unreached(app: &App, theme: &Theme, area: Rect, frame: &mut Frame<'_>) {
    let line = match &app.link {
        Link::Down { line, .. } => Line::styled(line.clone(), theme.bad),
        Link::Connecting { .. } | Link::Up { .. } => Line::raw("connecting"),
    };
    frame.render_widget(Paragraph::new(line).wrap(ratatui::widgets::Wrap { trim: true }), area);
}

fn keys_line(app: &App, theme: &Theme, width: u16) -> Line<'static> {
    let text = match app.mode {
        Mode::Filter => {
            return Line::from(vec![
                Span::styled("filter: ", theme.label),
                Span::raw(cut(&app.filter, usize::from(width).saturating_sub(40))),
                Span::styled("▏", theme.focus),
                Span::styled("  Enter keeps, Esc clears", theme.faint),
            ]);
        }
        Mode::Browse if !app.filter.is_empty() && app.panel == Panel::Agents => {
            "q quit  ? help  Esc clears the filter  s sort  Enter details  Tab panel"
        }
        Mode::Browse => "q quit  ? help  / filter  s sort  r reverse  Enter details  Tab panel",
        Mode::Details => "q quit  ? help  ↑↓ other agents  Esc back",
        Mode::Help => "q quit  Esc back",
    };
    Line::styled(cut(text, width.into()), theme.faint)
}

fn rows(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// A name and what it names.
fn labelled(label: &'static str, text: String, style: Style, theme: &Theme, width: u16) -> Line<'static> {
    let rest = usize::from(width).saturating_sub(LABEL_COLUMNS);
    Line::from(vec![
        Span::styled(format!("{label:<LABEL_COLUMNS$}"), theme.label),
        Span::styled(cut(&text, rest), style),
    ])
}

#[cfg(test)]
mod tests;
