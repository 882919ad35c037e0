//! `--once`: the state as lines of plain text. Pure.

use std::fmt::Write;

use super::rows::{self, Column, Sort};
use super::summary::LABEL_COLUMNS;
use super::text::{clean, cut};
use super::{summary, table};
use crate::dashboard::Snapshot;

/// What matters, and a table of the agents: each line in at most `width` columns, or as long as it must be.
pub(super) fn page(state: &Snapshot, address: &str, width: Option<usize>) -> String {
    let mut lines = vec![format!("Paddock {} at {address}", clean(&state.version))];
    let mut line = |label: &str, text: &str| lines.push(format!("{label:<LABEL_COLUMNS$}{text}"));
    line("waiting", &state.requests_buffered.to_string());
    line("slots", &summary::slots(state));
    line("instances", &summary::instance_counts(state));
    for boot in summary::boots(state) {
        line("starting", &format!("{}, {}", boot.what, boot.times()));
    }
    for note in summary::notes(state) {
        line("note", &note);
    }
    for (label, text) in [("cost", summary::cost(state)), ("budget", summary::budget(state))] {
        if let Some(text) = text {
            line(label, &text);
        }
    }
    lines.push(String::new());
    lines.extend(agents(state, width));
    let width = width.unwrap_or(usize::MAX);
    lines.iter().fold(String::new(), |mut page, line| {
        // A `String` takes everything.
        let _ = writeln!(page, "{}", cut(line.trim_end(), width));
        page
    })
}

fn agents(state: &Snapshot, width: Option<usize>) -> Vec<String> {
    let listed = rows::listed(state, Sort { by: Column::Name, is_reversed: false }, "");
    if listed.is_empty() {
        return vec!["no agent is registered".to_owned()];
    }
    let shapes = Column::ALL.map(Column::shape);
    let titles = shapes.iter().map(|shape| shape.title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles)
        .chain(listed.into_iter().map(|agent| dashed(rows::cells(agent, state))))
        .collect();
    let widths = table::widths(&shapes, &rows, width);
    rows.iter().map(|row| table::cells(&shapes, &widths, row).map(|(_, cell)| cell).collect()).collect()
}

/// No cell is empty, so that programs that split at spaces find as many as there are columns.
fn dashed(cells: Vec<String>) -> Vec<String> {
    cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;
    use crate::dashboard::sample;

    const BUSY: &str = "\
Paddock VERSION at 127.0.0.1:8085
waiting    12
slots      8 of 12 used
instances  3 serving
cost       today $1.23, always on $12.40, saved $11.17 (estimates)
budget     $5.00 a day, the next in 2 h

Name     Issues                                                 llama.cpp      Updated  Idle  Processing  Phase  Leases  Instance   Zone           Group
alpha    slots disabled: start llama-server without --no-slots  10.0.0.7:8001  0 s ago     3           1  ready       1  i-alpha    eu-central-1a  llama-spot
bravo    -                                                      10.0.0.7:8002  2 s ago     1           3  ready       3  i-bravo    eu-central-1a  llama-spot
charlie  -                                                      10.0.0.7:8003  0 s ago     0           4  ready       4  i-charlie  eu-central-1a  llama-spot
";

    fn shown(state: &Snapshot, width: Option<usize>) -> String {
        page(state, "127.0.0.1:8085", width).replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }

    #[test]
    fn everything_is_said_in_aligned_lines() {
        let page = shown(&sample::busy(), None);
        assert_eq!(page, BUSY);
    }

    #[test]
    fn zero_is_no_empty_table() {
        let page = shown(&sample::at_zero(), None);
        assert!(page.ends_with("instances  none\n\nno agent is registered\n"), "{page}");
    }

    #[test]
    fn starts_are_told() {
        let page = shown(&sample::booting(), None);
        assert!(page.contains("starting   i-booting: load, 42 s, about 18 s left\n"), "{page}");
    }

    #[test]
    fn it_fits_any_width_and_holds_no_escape() {
        let mut state = sample::busy();
        state.agents[0].agent_name = Some("\x1b[31m模型模型模型\u{202e}\r\n".repeat(50).into());
        state.agents[1].error = Some("\x07\u{9b}2J".repeat(100).into());
        for width in 0..200 {
            for line in page(&state, "x", Some(width)).lines() {
                assert!(text::width(line) <= width, "{width}: {line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
        assert!(!page(&state, "x", None).replace('\n', "").contains(char::is_control));
    }
}
