//! `paddock dashboard`: what a balancer knows, in a terminal.
//!
//! The balancer is asked again and again; each answer, each failure and each key is an event, and the screen is a function
//! of what they left. What moves nothing (the passing of time) is drawn once a second.

mod app;
mod draw;
mod history;
mod input;
mod once;
mod rows;
mod screen;
mod source;
mod summary;
mod table;
mod text;
mod theme;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event as Input};
use ratatui::crossterm::terminal;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::colour::is_coloured;
use crate::config::{HostPort, Secret};
use crate::dashboard::Snapshot;
use crate::signals::EndSignals;

use app::{App, Event, Flow};
use screen::Screen;
use source::Source;
use theme::Theme;

pub use source::AskError;

/// From one question to the next.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How many questions pass until the past is asked for again.
const ASKS_PER_TIMELINE: u32 = 10;

/// Events that have come and were not taken in yet, of each kind.
const EVENTS_MAX: usize = 64;

/// What `paddock dashboard` runs on.
#[derive(Debug)]
pub struct DashboardConfig {
    /// Where the balancer's management address is.
    pub management: HostPort,
    /// What it wants as Bearer token.
    pub token: Option<Secret>,
    /// In which form it is shown.
    pub show: Show,
}

/// In which form the state is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// On the whole terminal, until somebody quits.
    Live,
    /// Once, as a table.
    Once,
    /// Once, as the balancer gives it.
    Json,
}

/// Why the view ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// There is nothing to draw on.
    #[error("standard output is not a terminal: write --once for a table or --json for the whole state")]
    NotATerminal,
    /// The balancer does not tell.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// There is no room for an HTTP client.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
    /// The terminal does not do what it should.
    #[error("the terminal failed: {0}")]
    Terminal(#[from] io::Error),
    /// The system does not say when to end.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// What was asked for cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Shows the balancer's state, once or until somebody quits.
///
/// # Errors
/// If there is nothing to draw on, or nothing to show at the start.
pub async fn run(config: DashboardConfig, clock: Clock) -> Result<(), TerminalError> {
    let source = Source::new(config.management, config.token).map_err(TerminalError::Client)?;
    match config.show {
        Show::Live => live(source, clock).await,
        Show::Once => {
            let state = source.state().await?;
            let width = io::stdout().is_terminal().then(terminal::size).and_then(Result::ok);
            // One that does not know its size says 0.
            let width = width.map(|(columns, _)| usize::from(columns)).filter(|&columns| columns > 0);
            print(&once::page(&state, &source.address(), width))
        }
        Show::Json => {
            let value = source.value().await?;
            print(&text::escaped(&format!("{value:#}\n")))
        }
    }
}

/// A reader that went away has seen enough.
fn print(text: &str) -> Result<(), TerminalError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(TerminalError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Until somebody quits, or a signal asks for it.
///
/// 1. What people got wrong ends it before it takes the terminal.
/// 2. A balancer that is only away is waited for.
async fn live(source: Source, clock: Clock) -> Result<(), TerminalError> {
    if !io::stdout().is_terminal() {
        return Err(TerminalError::NotATerminal);
    }
    let mut signals = EndSignals::listen().map_err(TerminalError::Signals)?;
    let mut app = App::new(source.address(), clock.mono());
    let first = tokio::select! {
        first = source.state() => first,
        _ = signals.next() => return Ok(()),
    };
    match first {
        Err(error) if error.is_mistake() => return Err(error.into()),
        first => app.update(heard(first), clock.mono()),
    };
    let theme = if is_coloured(&io::stdout()) { Theme::coloured() } else { Theme::plain() };
    let mut screen = Screen::open()?;
    let mut inputs = inputs();
    let mut events = events(source);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.terminal.draw(|frame| draw::draw(&app, clock.mono(), &theme, frame))?;
        let event = tokio::select! {
            _ = signals.next() => return Ok(()),
            Some(input) = inputs.recv() => match input? {
                Input::Key(key) => input::key(key).map(Event::Key),
                // The new size is read when it is drawn.
                Input::Resize(..) | Input::FocusGained | Input::FocusLost | Input::Mouse(_) | Input::Paste(_) => None,
            },
            Some(event) = events.recv() => Some(event),
            _ = second.tick() => None,
        };
        if let Some(event) = event
            && app.update(event, clock.mono()) == Flow::Quit
        {
            return Ok(());
        }
    }
}

/// What the terminal says. The thread waits for it in a way that nobody can end but the terminal or the program.
fn inputs() -> mpsc::Receiver<io::Result<Input>> {
    let (sender, inputs) = mpsc::channel(EVENTS_MAX);
    std::thread::spawn(move || {
        loop {
            let input = event::read();
            let is_end = input.is_err();
            if sender.blocking_send(input).is_err() || is_end {
                return;
            }
        }
    });
    inputs
}

/// What the balancer says, about once a second. Ends with its receiver.
///
/// 1. The state. Whoever does not tell it is asked for nothing else in this round.
/// 2. The past, now and then. A balancer that came back has another one.
fn events(source: Source) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        let mut asks = 0_u32;
        let mut pause = interval(ASK_INTERVAL);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let state = source.state().await;
            let is_told = state.is_ok();
            if sender.send(heard(state)).await.is_err() {
                return;
            }
            if !is_told {
                asks = 0;
                continue;
            }
            if asks.is_multiple_of(ASKS_PER_TIMELINE)
                && let Ok(timeline) = source.timeline().await
                && sender.send(Event::History(timeline)).await.is_err()
            {
                return;
            }
            asks = asks.wrapping_add(1);
        }
    });
    events
}

fn heard(answer: Result<Snapshot, AskError>) -> Event {
    match answer {
        Ok(state) => Event::State(Box::new(state)),
        Err(error) => Event::Failed { brief: error.brief(), line: error.to_string() },
    }
}
