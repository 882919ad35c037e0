//! Text from outside made fit for a screen. Pure.

use unicode_width::UnicodeWidthStr;

use crate::protocol::is_hidden;

/// The most that is shown of any text, in characters: none may take the time of all.
const TEXT_CHARS_MAX: usize = 400;

/// Stands for what would not be seen, or would act on the terminal.
const INSTEAD: char = '\u{fffd}';

/// Without what acts on a terminal: control characters, with which escape sequences begin, and invisible ones, which
/// change the order or the place of what follows.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if is_hidden(c) { INSTEAD } else { c }).collect()
}

/// JSON that is shown as it is elsewhere, with escapes for the same characters: it means what it meant.
pub(super) fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of strings it ends a line; within them it is an escape already.
        if c == '\n' || !is_hidden(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

/// How many columns it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// In exactly so many columns: what is longer ends with an ellipsis.
pub(super) fn fit(text: &str, columns: usize) -> String {
    let mut fitted = cut(text, columns);
    let room = columns.saturating_sub(width(&fitted));
    fitted.extend(std::iter::repeat_n(' ', room));
    fitted
}

/// The same for numbers, which stand at the right.
pub(super) fn fit_right(text: &str, columns: usize) -> String {
    let fitted = cut(text, columns);
    let room = columns.saturating_sub(width(&fitted));
    format!("{}{fitted}", " ".repeat(room))
}

/// In at most so many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept) >= columns {
            kept.pop();
            break;
        }
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(clean("a\x1b[31mred\x07\r\n\u{9b}2J\u{7f}"), "a�[31mred���\u{fffd}2J\u{fffd}");
        assert_eq!(clean("left\u{202e}thgir\u{2066}\u{feff}\u{200b}\u{200d}"), "left�thgir����");
        assert_eq!(clean("e\u{301} 模型 é"), "e\u{301} 模型 é");
        assert_eq!(clean(&"x".repeat(10_000)).len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn json_means_what_it_meant_and_does_not_act_on_the_terminal() {
        let value = serde_json::json!({"n": "a\x1b[2J\u{7f}\u{9b}2J\u{202e}b\n\u{e0001}模", "m": [1]});
        let shown = escaped(&format!("{value:#}\n"));
        assert!(shown.contains(r"\u007f\u009b2J\u202eb\n\udb40\udc01模"), "{shown}");
        assert!(!shown.replace('\n', "").contains(is_hidden) && shown.ends_with("}\n"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn what_is_cut_keeps_its_columns() {
        for (text, columns, is) in [
            ("abc", 5, "abc  "),
            ("abcdef", 5, "abcd…"),
            ("模型模型", 5, "模型…"),
            ("模型模型", 6, "模型… "),
            ("模型模型", 8, "模型模型"),
            ("abc", 1, "…"),
            ("模", 1, "…"),
            ("abc", 0, ""),
            ("", 2, "  "),
        ] {
            let fitted = fit(text, columns);
            assert_eq!(fitted, is);
            assert_eq!(width(&fitted), columns);
            assert_eq!(width(&fit_right(text, columns)), columns);
        }
        assert_eq!(fit_right("7", 3), "  7");
    }
}
