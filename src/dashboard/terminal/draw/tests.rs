use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::dashboard::terminal::app::Event;
use crate::dashboard::terminal::input::Key;
use crate::dashboard::{Snapshot, sample};

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

fn app(state: Snapshot) -> App {
    let mut app = unreached();
    app.update(Event::State(Box::new(state)), at(0));
    app
}

fn unreached() -> App {
    App::new("127.0.0.1:8085".to_owned(), at(0))
}

fn press(app: &mut App, keys: &[Key]) {
    for &key in keys {
        app.update(Event::Key(key), at(0));
    }
}

fn buffer(app: &App, theme: &Theme, (width, height): (u16, u16), now: Mono) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(app, now, theme, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The screen's rows, without the blanks at their ends.
fn screen_at(app: &App, size: (u16, u16), now: Mono) -> String {
    let buffer = buffer(app, &Theme::coloured(), size, now);
    let width = usize::from(size.0).max(1);
    let rows = buffer.content().chunks(width).map(|row| {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        row.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn screen(app: &App, width: u16, height: u16) -> String {
    screen_at(app, (width, height), at(0))
}

#[track_caller]
fn shows(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "'{text}' is missing:\n{screen}");
    }
}

#[test]
fn everything_that_matters_is_on_a_small_terminal() {
    let mut app = app(sample::busy());
    let small = screen(&app, 80, 24);
    shows(
        &small,
        &[
            &format!("Paddock {} at 127.0.0.1:8085", env!("CARGO_PKG_VERSION")),
            " connected\n",
            "waiting    12\n",
            "slots      8 of 12 used\n",
            "instances  3 serving\n",
            "cost       today $1.23, always on $12.40, saved $11.17 (estimates)\n",
            "budget     $5.00 a day, the next in 2 h\n",
            "queue, seen so far: at most 12",
            "slots used, seen so far: at most 8",
            " Agents (3)   Boots (2)   Happenings (3) ",
            "Name▲    Issues",
            "alpha    slots disa",
            "10.0.0.7:8001  0 s ago     3           1",
            "q quit  ? help  / filter",
        ],
    );
    assert!(!small.contains("Instance "), "there is no room for more columns:\n{small}");
    press(&mut app, &[Key::Tab]);
    shows(
        &screen(&app, 80, 24),
        &["i-bravo  1 min 4 s: call 2 s, pending 8 s, boot 10 s, load 44 s", "ccpp"],
    );
    press(&mut app, &[Key::Tab]);
    shows(
        &screen(&app, 80, 24),
        &[
            "3 s ago  serving  i-bravo in llama-spot\n",
            "1 min 30 s ago  launch failed  i-bravo in llama-spot:",
            "InsufficientInstanceCapacity",
            "2 min ago  wake asked for",
        ],
    );
}

#[test]
fn a_large_terminal_shows_all_panels_and_columns() {
    let large = screen(&app(sample::busy()), 160, 50);
    shows(
        &large,
        &[
            "slots disabled: start llama-server without --no-slots",
            "Phase  Leases  Instance   Zone           Group",
            "ready       1  i-alpha    eu-central-1a  llama-spot",
            " Agents (3) ",
            " Boots (2) ",
            " Happenings (3) ",
            "i-alpha  1 min 11 s: call 2 s",
            "launch failed",
        ],
    );
}

#[test]
fn zero_is_said_in_words() {
    shows(
        &screen(&app(sample::at_zero()), 80, 24),
        &[
            "waiting    0\n",
            "slots      0 of 0 used\n",
            "instances  none\n",
            "at zero    nothing runs; a request is held while an instance starts for it\n",
            "no agent is registered",
        ],
    );
}

#[test]
fn a_start_has_a_bar_with_its_phase_and_the_rest() {
    let mut state = sample::booting();
    shows(
        &screen(&app(state.clone()), 80, 24),
        &["starting   ██████████████░░░░░░  70%  i-booting: load, 42 s, about 18 s left\n"],
    );
    state.pools[0].pending = 3;
    shows(&screen(&app(state.clone()), 80, 24), &["  0%  launching 2, about 1 min left\n"]);
    let booting = state.pools[0].instances[0].clone();
    state.pools[0].instances = vec![booting; 9];
    shows(&screen(&app(state), 80, 24), &["and 6 more starts\n"]);
}

#[test]
fn what_is_wrong_is_said_and_the_panels_keep_their_room() {
    let mut state = sample::busy();
    state.shutting_down = true;
    state.pools[0].trouble = Some("VcpuLimitExceeded".into());
    state.pools[0].wake_wanted = true;
    state.pools[0].pending = 30;
    let screen = screen(&app(state), 80, 24);
    shows(&screen, &["note       the balancer is ending", "Name▲", "alpha", "bravo", "charlie", "q quit"]);
}

#[test]
fn how_the_balancer_is_reached_is_said() {
    let failed = |app: &mut App, now| {
        let line = "cannot reach it; is it running?".to_owned();
        app.update(Event::Failed { brief: "connection refused".to_owned(), line }, now);
    };
    let mut never = unreached();
    shows(&screen_at(&never, (80, 24), at(2)), &[" connecting since 2 s\n"]);
    failed(&mut never, at(3));
    shows(
        &screen_at(&never, (80, 24), at(5)),
        &["connecting since 5 s: connection refused\n", "cannot reach it; is it running?"],
    );
    let mut app = app(sample::busy());
    failed(&mut app, at(10));
    shows(
        &screen_at(&app, (80, 24), at(22)),
        &["reconnecting since 12 s: connection refused\n", "waiting    12\n", "alpha"],
    );
    app.update(Event::State(Box::new(sample::at_zero())), at(23));
    shows(&screen_at(&app, (80, 24), at(23)), &["connected again after 13 s\n"]);
}

#[test]
fn sorting_and_filtering_are_seen() {
    let mut app = app(sample::busy());
    press(&mut app, &[Key::Char('r')]);
    let reversed = screen(&app, 80, 24);
    shows(&reversed, &["Name▼"]);
    assert!(reversed.find("charlie") < reversed.find("alpha"), "{reversed}");
    press(&mut app, &[Key::Char('/'), Key::Char('b'), Key::Char('r'), Key::Char('a')]);
    let filtered = screen(&app, 80, 24);
    shows(&filtered, &["filter: bra▏  Enter keeps, Esc clears", "Agents (1 of 3 with 'bra')", "bravo"]);
    assert!(!filtered.contains("charlie"), "{filtered}");
    press(&mut app, &[Key::Char('x'), Key::Enter]);
    shows(&screen(&app, 80, 24), &["no agent matches the filter", "Esc clears the filter"]);
}

#[test]
fn details_and_help_cover_the_panels() {
    let mut app = app(sample::busy());
    press(&mut app, &[Key::Enter]);
    shows(
        &screen(&app, 80, 24),
        &[
            "┌ alpha ─",
            "│slots disabled: start llama-server without --no-slots",
            "│slots      3 idle, 1 processing, 4 in all, 0 used by others",
            "│updated    0 s ago, at 00:16:40 UTC",
            "│id         id-of-alpha",
        ],
    );
    press(&mut app, &[Key::Down]);
    shows(&screen(&app, 80, 24), &["┌ bravo ─", "no issue: requests may go there"]);
    press(&mut app, &[Key::Char('?')]);
    shows(&screen(&app, 80, 24), &["┌ Keys ─", "q, Ctrl-C", "sort by the next column"]);
    shows(&screen(&app, 40, 12), &["┌ Keys ─"]);
}

#[test]
fn the_selected_row_is_seen_in_a_long_list() {
    let mut state = sample::busy();
    let first = state.agents[0].clone();
    state.agents = (0..500)
        .map(|nth| crate::dashboard::Agent {
            agent_id: format!("{nth:03}").into(),
            agent_name: Some(format!("agent-{nth:03}").into()),
            ..first.clone()
        })
        .collect();
    let mut app = app(state);
    shows(&screen(&app, 80, 24), &["agent-000"]);
    press(&mut app, &[Key::End]);
    shows(&screen(&app, 80, 24), &["agent-499", "agent-498"]);
    let buffer = buffer(&app, &Theme::plain(), (80, 24), at(0));
    let chosen: String = buffer
        .content()
        .chunks(80)
        .filter(|row| row[0].modifier.contains(Modifier::REVERSED))
        .flatten()
        .map(|cell| cell.symbol())
        .collect();
    assert!(chosen.contains("agent-499"), "{chosen}");
}

#[test]
fn no_size_and_no_state_is_a_panic() {
    let mut hostile = sample::busy();
    hostile.version = "\x1b]0;title\x07".into();
    hostile.at_seconds = f64::INFINITY;
    hostile.agents[0].agent_name = Some("\x1b[31m模型🦙\u{202e}e\u{301}".repeat(99).into());
    hostile.agents[1].zone = Some("\u{301}".repeat(999).into());
    hostile.pools[0].pending = usize::MAX / 2;
    hostile.pools[0].boots[0].phase_seconds.values_mut().for_each(|seconds| *seconds = f64::NAN);
    hostile.pools[0].boots[0].total_seconds = -1.0;
    hostile.pools[0].happenings[0].ago_seconds = f64::NAN;
    hostile.pools[0].happenings[0].cause = Some("\n".repeat(999).into());
    hostile.pools[0].ledger.today.cost_usd = Some(f64::NAN);
    hostile.pools[0].boot_eta_seconds = f64::NEG_INFINITY;
    for state in [hostile, sample::at_zero(), sample::booting(), sample::busy()] {
        for mode in [Mode::Browse, Mode::Filter, Mode::Details, Mode::Help] {
            for panel in Panel::ALL {
                let mut app = app(state.clone());
                (app.mode, app.panel) = (mode, panel);
                for width in [0, 1, 39, 40, 41, 60, 80, 119, 120, 161, 300] {
                    for height in [0, 1, 11, 12, 13, 24, 36, 51] {
                        let screen = screen(&app, width, height);
                        assert!(!screen.replace('\n', "").contains(char::is_control), "{screen:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn hostile_names_stay_in_their_column() {
    let mut state = sample::busy();
    state.agents[0].agent_name = Some("\x1b[31mred\x1b[0m".into());
    state.agents[1].agent_name = Some("模型服务器".into());
    let screen = screen(&app(state), 80, 24);
    shows(&screen, &["�[31mred"]);
    let columns: Vec<usize> = screen
        .lines()
        .filter_map(|line| line.split_once("10.0.0.7:").map(|(before, _)| before))
        .map(crate::dashboard::terminal::text::width)
        .collect();
    // A wide character takes two cells of the buffer, of which the second is blank.
    let wide = 5;
    assert_eq!(columns.len(), 3);
    assert!(columns.iter().all(|column| [columns[0], columns[0] + wide].contains(column)), "{columns:?}");
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    shows(&screen(&app(sample::busy()), 30, 8), &["This terminal has 30 columns", "q quits"]);
}

#[test]
fn without_colours_there_is_none() {
    let mut app = app(sample::busy());
    press(&mut app, &[Key::Down]);
    for (theme, has_colours) in [(Theme::plain(), false), (Theme::coloured(), true)] {
        let buffer = buffer(&app, &theme, (160, 50), at(0));
        let is_coloured =
            buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(is_coloured, has_colours);
    }
}
