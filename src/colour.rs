//! Whether what is written has colours.

use std::env;
use std::io::IsTerminal;

/// Colours are for terminals, unless `NO_COLOR` is there and not empty (<https://no-color.org>).
#[must_use]
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
