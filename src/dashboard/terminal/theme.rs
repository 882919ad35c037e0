//! How things look, with colours and without.

use ratatui::style::{Color, Modifier, Style};

/// A style for each thing that is told apart. None is told apart by its colour alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    /// The first line.
    pub title: Style,
    /// Names of what follows them.
    pub label: Style,
    /// What is as it should be.
    pub good: Style,
    /// What will pass.
    pub warn: Style,
    /// What is wrong.
    pub bad: Style,
    /// What matters less.
    pub faint: Style,
    /// The row that is selected.
    pub chosen: Style,
    /// The panel that has the keys.
    pub focus: Style,
    /// Bars and sparklines.
    pub bar: Style,
}

impl Theme {
    /// The sixteen colours of every terminal, so that a light one is as well to read as a dark one.
    pub(super) fn coloured() -> Self {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        Self {
            title: bold,
            label: bold,
            good: Style::new().fg(Color::Green),
            warn: Style::new().fg(Color::Yellow),
            bad: Style::new().fg(Color::Red),
            faint: Style::new().add_modifier(Modifier::DIM),
            chosen: Style::new().add_modifier(Modifier::REVERSED),
            focus: Style::new().fg(Color::Cyan),
            bar: Style::new().fg(Color::Cyan),
        }
    }

    /// Without any (<https://no-color.org>).
    pub(super) fn plain() -> Self {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        Self {
            title: bold,
            label: bold,
            good: Style::new(),
            warn: Style::new(),
            bad: bold,
            faint: Style::new(),
            chosen: Style::new().add_modifier(Modifier::REVERSED),
            focus: bold,
            bar: Style::new(),
        }
    }
}
