//! Programs of others that a test needs, and that may not be installed.

use std::path::{Path, PathBuf};

/// Set to `required`, what is missing fails the test: where everything is to be checked.
const TOOLS: &str = "PADDOCK_TEST_TOOLS";

/// The path of a program. If it is missing, the test is over: what it would have shown is not checked, and that is said.
pub fn program(name: &str, mend: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.or_else(|| missing(name, mend))
}

/// The path of a file below the project's folder; else the same.
pub fn file(path: &str, mend: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if found.is_file() { Some(found) } else { missing(path, mend) }
}

#[allow(clippy::print_stderr, reason = "what is not checked must be seen")]
fn missing(what: &str, mend: &str) -> Option<PathBuf> {
    let words = format!("NOT CHECKED, for there is no {what}: {mend}");
    assert!(std::env::var_os(TOOLS).is_none_or(|value| value != "required"), "{words}");
    eprintln!("{words}");
    None
}
