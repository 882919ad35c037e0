//! What stands above the panels.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::super::app::{App, Link};
use super::super::history::Moment;
use super::super::summary::{self, LABEL_COLUMNS};
use super::super::text::{clean, cut, width};
use super::super::theme::Theme;
use super::labelled;
use crate::core::Mono;
use crate::dashboard::words;

/// The most starts that have a line of their own.
const BOOTS_MAX: usize = 3;

/// The most notes.
const NOTES_MAX: usize = 4;

/// A start's bar, in columns.
const BAR_COLUMNS: u16 = 20;

/// Who is watched at the left, how it is reached at the right.
pub(super) fn header(app: &App, now: Mono, theme: &Theme, columns: u16) -> Line<'static> {
    let version = app.state.as_ref().map_or_else(String::new, |state| format!(" {}", clean(&state.version)));
    let (link, style) = link(app, now, theme);
    let columns = usize::from(columns);
    let link = cut(&link, columns);
    let who = cut(&format!("Paddock{version} at {}", app.address), columns.saturating_sub(width(&link) + 1));
    let gap = " ".repeat(columns.saturating_sub(width(&who) + width(&link)));
    Line::from(vec![Span::styled(who, theme.title), Span::raw(gap), Span::styled(link, style)])
}

fn link(app: &App, now: Mono, theme: &Theme) -> (String, Style) {
    let since = |at: &Mono| words::span(now.since(*at).as_secs_f64().floor());
    match &app.link {
        Link::Connecting { since: at } => (format!("connecting since {}", since(at)), theme.warn),
        Link::Up { back: None } => ("connected".to_owned(), theme.good),
        Link::Up { back: Some((_, away)) } => {
            (format!("connected again after {}", words::span(away.as_secs_f64())), theme.good)
        }
        Link::Down { since: at, was_up, brief, .. } => {
            let word = if *was_up { "reconnecting" } else { "connecting" };
            (format!("{word} since {}: {brief}", since(at)), theme.bad)
        }
    }
}

/// What matters, in words, and starts that are under way.
pub(super) fn lines(app: &App, theme: &Theme, columns: u16) -> Vec<Line<'static>> {
    let Some(state) = &app.state else { return Vec::new() };
    let normal = Style::new();
    let line = |label, text, style| labelled(label, text, style, theme, columns);
    let waiting = state.requests_buffered;
    let mut lines = vec![
        line("waiting", waiting.to_string(), if waiting > 0 { theme.warn } else { normal }),
        line("slots", summary::slots(state), normal),
        line("instances", summary::instance_counts(state), normal),
    ];
    if summary::is_at_zero(state) {
        let what = "nothing runs; a request is held while an instance starts for it".to_owned();
        lines.push(line("at zero", what, theme.good));
    }
    let boots = summary::boots(state);
    for boot in boots.iter().take(BOOTS_MAX) {
        lines.push(boot_line(boot, theme, columns));
    }
    if boots.len() > BOOTS_MAX {
        lines.push(line("", format!("and {} more starts", boots.len() - BOOTS_MAX), normal));
    }
    for note in summary::notes(state).into_iter().take(NOTES_MAX) {
        lines.push(line("note", note, theme.bad));
    }
    lines.extend(summary::cost(state).map(|cost| line("cost", cost, normal)));
    lines.extend(summary::budget(state).map(|budget| line("budget", budget, normal)));
    lines
}

fn boot_line(boot: &summary::Boot, theme: &Theme, columns: u16) -> Line<'static> {
    let filled = (boot.done() * f64::from(BAR_COLUMNS)).round() as usize;
    let empty = usize::from(BAR_COLUMNS) - filled.min(usize::from(BAR_COLUMNS));
    let text = format!(" {:>3.0}%  {}, {}", boot.done() * 100.0, boot.what, boot.times());
    let rest = usize::from(columns).saturating_sub(LABEL_COLUMNS + usize::from(BAR_COLUMNS));
    Line::from(vec![
        Span::styled(format!("{:<LABEL_COLUMNS$}", "starting"), theme.label),
        Span::styled("█".repeat(filled), theme.bar),
        Span::styled("░".repeat(empty), theme.faint),
        Span::raw(cut(&text, rest)),
    ])
}

/// The queue and the slots in use, side by side.
pub(super) fn draw_history(app: &App, theme: &Theme, area: Rect, frame: &mut Frame<'_>) {
    if area.height < 2 {
        return;
    }
    let halves: [Rect; 2] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(area);
    let [queue, slots]: [fn(&Moment) -> u64; 2] = [|moment| moment.queued, |moment| moment.used];
    for ((what, of), half) in [("queue", queue), ("slots used", slots)].into_iter().zip(halves) {
        let columns = app.history.columns(half.width.into(), of);
        let max = columns.iter().flatten().max().copied().unwrap_or_default();
        let title = format!("{what}, {}: at most {max}", app.history.reach());
        let [above, below] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(half);
        frame.render_widget(Paragraph::new(Span::styled(cut(&title, half.width.into()), theme.label)), above);
        frame.render_widget(Sparkline::default().data(columns).max(max.max(1)).style(theme.bar), below);
    }
}
