//! Programs of others that a test needs, and that may not be installed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Set to `required`, what is missing fails the test: where everything is to be checked.
const TOOLS: &str = "PADDOCK_TEST_TOOLS";

/// What was not checked, a line each: what a test that passes prints is shown by nobody. `make rust-test` shows this.
const NOT_CHECKED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/not-checked");

/// The path of a program. If it is missing, the test is over: what it would have shown is not checked, and that is said.
pub fn program(name: &str, mend: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.or_else(|| missing(name, mend))
}

/// The path of a file, below the project's folder unless it is absolute; else the same.
pub fn file(path: &str, mend: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if found.is_file() { Some(found) } else { missing(path, mend) }
}

fn missing(what: &str, mend: &str) -> Option<PathBuf> {
    let why = format!("there is no {what}: {mend}");
    assert!(std::env::var_os(TOOLS).is_none_or(|value| value != "required"), "{why}");
    not_checked(&why);
    None
}

/// Says what is not checked, and why that is no failure.
#[allow(clippy::print_stderr, reason = "what is not checked must be seen")]
pub fn not_checked(why: &str) {
    let words = format!("NOT CHECKED, for {why}");
    eprintln!("{words}");
    let file = OpenOptions::new().create(true).append(true).open(NOT_CHECKED);
    file.and_then(|mut file| file.write_all(format!("{words}\n").as_bytes())).unwrap();
}
