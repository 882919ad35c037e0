use std::time::Duration;

use super::*;
use crate::dashboard::sample;

const START: Mono = Mono(Duration::ZERO);

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

fn app(state: Snapshot) -> App {
    let mut app = App::new("127.0.0.1:8085".to_owned(), START);
    app.update(Event::State(Box::new(state)), START);
    app
}

fn press(app: &mut App, keys: &str) {
    for c in keys.chars() {
        assert_eq!(app.update(Event::Key(Key::Char(c)), START), Flow::Go, "{c}");
    }
}

fn selected(app: &App) -> String {
    app.selected()
        .map_or_else(String::new, |agent| agent.agent_name.as_deref().unwrap_or_default().to_owned())
}

fn fail(app: &mut App, now: Mono) {
    let event = Event::Failed { brief: "connection refused".to_owned(), line: "is it running?".to_owned() };
    app.update(event, now);
}

#[test]
fn the_selection_moves_and_stays_in_the_list() {
    let mut app = app(sample::busy());
    assert_eq!(selected(&app), "alpha");
    for (key, name) in [
        (Key::Down, "bravo"),
        (Key::Char('j'), "charlie"),
        (Key::Down, "charlie"),
        (Key::Up, "bravo"),
        (Key::Home, "alpha"),
        (Key::Char('k'), "alpha"),
        (Key::PageDown, "charlie"),
        (Key::PageUp, "alpha"),
        (Key::End, "charlie"),
    ] {
        app.update(Event::Key(key), START);
        assert_eq!(selected(&app), name, "{key:?}");
    }
}

#[test]
fn the_selection_follows_its_agent_while_rows_move() {
    let mut app = app(sample::busy());
    assert_eq!((selected(&app).as_str(), app.row()), ("alpha", 0));
    press(&mut app, "r");
    assert_eq!((selected(&app).as_str(), app.row()), ("alpha", 2));
    press(&mut app, "rj");
    assert_eq!((selected(&app).as_str(), app.row()), ("bravo", 1));
    press(&mut app, "r");
    assert_eq!((selected(&app).as_str(), app.row()), ("bravo", 1));
    press(&mut app, "s");
    // By issues, the ones without come first as it is reversed.
    assert_eq!(selected(&app), "bravo");
    let mut state = sample::busy();
    state.agents.retain(|agent| agent.agent_name.as_deref() != Some("charlie"));
    state.agents[1].incarnation = Incarnation(77);
    app.update(Event::State(Box::new(state)), START);
    assert_eq!(selected(&app), "bravo", "another life of the same agent");
    let mut state = sample::busy();
    state.agents.retain(|agent| agent.agent_name.as_deref() != Some("bravo"));
    app.update(Event::State(Box::new(state)), START);
    assert!(!selected(&app).is_empty(), "whoever stands there");
}

#[test]
fn an_empty_list_is_no_trouble() {
    let mut app = app(sample::at_zero());
    for key in [Key::Down, Key::Up, Key::End, Key::Enter, Key::Tab, Key::Down, Key::Enter, Key::BackTab] {
        assert_eq!(app.update(Event::Key(key), START), Flow::Go);
        assert_eq!((app.mode, app.row(), app.selected().is_none()), (Mode::Browse, 0, true));
    }
    // Nor is it that there was one.
    app.update(Event::State(Box::new(sample::busy())), START);
    app.update(Event::Key(Key::Down), START);
    app.update(Event::Key(Key::Enter), START);
    assert_eq!(app.mode, Mode::Details);
    app.update(Event::State(Box::new(sample::at_zero())), START);
    assert_eq!(app.mode, Mode::Browse);
    app.update(Event::State(Box::new(sample::busy())), START);
    assert_eq!(selected(&app), "bravo", "it came back");
}

#[test]
fn the_filter_is_written_kept_and_cleared() {
    let mut app = app(sample::busy());
    press(&mut app, "/qar");
    assert_eq!((app.mode, app.filter.as_str(), app.listed().len()), (Mode::Filter, "qar", 0));
    for _ in 0..9 {
        app.update(Event::Key(Key::Backspace), START);
    }
    press(&mut app, "CHARLIE");
    app.update(Event::Key(Key::Enter), START);
    assert_eq!((app.mode, selected(&app).as_str(), app.listed().len()), (Mode::Browse, "charlie", 1));
    app.update(Event::Key(Key::Esc), START);
    assert_eq!((app.filter.as_str(), app.listed().len()), ("", 3));
    assert_eq!(selected(&app), "charlie");
    press(&mut app, "/");
    press(&mut app, &"x".repeat(500));
    assert_eq!(app.filter.len(), FILTER_CHARS_MAX);
    app.update(Event::Key(Key::Esc), START);
    assert_eq!((app.mode, app.filter.as_str()), (Mode::Browse, ""));
}

#[test]
fn overlays_open_and_close_and_every_mode_can_be_left() {
    let mut app = app(sample::busy());
    press(&mut app, "?");
    assert_eq!(app.mode, Mode::Help);
    press(&mut app, "?");
    app.update(Event::Key(Key::Enter), START);
    assert_eq!(app.mode, Mode::Details);
    press(&mut app, "j");
    assert_eq!(selected(&app), "bravo");
    app.update(Event::Key(Key::Esc), START);
    assert_eq!(app.mode, Mode::Browse);
    for mode in [Mode::Browse, Mode::Details, Mode::Help] {
        app.mode = mode;
        assert_eq!(app.update(Event::Key(Key::Char('q')), START), Flow::Quit);
    }
    app.mode = Mode::Filter;
    assert_eq!(app.update(Event::Key(Key::Char('q')), START), Flow::Go);
    assert_eq!(app.update(Event::Key(Key::Interrupt), START), Flow::Quit);
}

#[test]
fn panels_turn_and_scroll() {
    let mut app = app(sample::busy());
    app.update(Event::Key(Key::Tab), START);
    assert_eq!(app.panel, Panel::Boots);
    app.update(Event::Key(Key::End), START);
    assert_eq!(app.scroll, 1, "two boots");
    app.update(Event::Key(Key::Tab), START);
    assert_eq!((app.panel, app.scroll), (Panel::Happenings, 0));
    app.update(Event::Key(Key::Tab), START);
    app.update(Event::Key(Key::BackTab), START);
    assert_eq!(app.panel, Panel::Happenings);
    press(&mut app, "/");
    assert_eq!(app.panel, Panel::Agents, "what is filtered is seen");
}

#[test]
fn a_lost_balancer_is_told_from_one_that_was_never_there() {
    let mut never = App::new(String::new(), START);
    fail(&mut never, at(3));
    fail(&mut never, at(4));
    assert!(matches!(never.link, Link::Down { since: START, was_up: false, .. }), "{:?}", never.link);
    never.update(Event::State(Box::new(sample::at_zero())), at(5));
    assert_eq!(never.link, Link::Up { back: None });

    let mut app = app(sample::busy());
    fail(&mut app, at(10));
    fail(&mut app, at(12));
    assert!(
        matches!(&app.link, Link::Down { since, was_up: true, .. } if *since == at(10)),
        "{:?}",
        app.link
    );
    assert_eq!(app.listed().len(), 3, "what it said last stays");
    app.update(Event::State(Box::new(sample::at_zero())), at(22));
    assert_eq!(app.link, Link::Up { back: Some((at(22), Duration::from_secs(12))) });
    app.update(Event::State(Box::new(sample::at_zero())), at(31));
    assert!(matches!(app.link, Link::Up { back: Some(_) }));
    app.update(Event::State(Box::new(sample::at_zero())), at(32));
    assert_eq!(app.link, Link::Up { back: None });
}
