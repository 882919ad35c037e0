//! What the compiler does not see: the pure files stay pure, and every file can be read in one sitting.

use std::fs;
use std::path::{Path, PathBuf};

/// No source file is longer.
const LINES_MAX: usize = 600;
/// Half of the source files are at most this long.
const LINES_MEDIAN: usize = 200;

/// Files and folders that decide and do not act.
const PURE: [&str; 6] =
    ["src/core.rs", "src/core", "src/proxy/classify.rs", "src/proxy/classify", "src/proxy/sse.rs", "src/sim"];
/// What a pure file must not name.
const IMPURE: [&str; 9] =
    ["tokio", "hyper", "axum", "reqwest", "aws_", "crate::clock", "Instant", "SystemTime", "std::thread"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    if below.is_file() {
        return vec![below.to_owned()];
    }
    let entries = fs::read_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"))
        .flat_map(|path| rust_files(&path))
        .collect();
    found.sort();
    found
}

fn code_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split_once("//").map_or(line, |(code, _)| code)))
}

#[test]
fn what_decides_does_not_act() {
    let mut files = 0;
    for pure in PURE {
        for file in rust_files(&root().join(pure)) {
            files += 1;
            let text = fs::read_to_string(&file).unwrap();
            for (number, code) in code_of(&text) {
                for name in IMPURE {
                    assert!(!code.contains(name), "{}:{number} names {name}: {code}", file.display());
                }
            }
        }
    }
    assert!(files > 20, "the files were found");
}

#[test]
fn the_core_imports_nothing_else_of_the_project() {
    for file in rust_files(&root().join("src/core")) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, code) in code_of(&text) {
            let is_foreign = code.contains("crate::") && !code.contains("crate::core");
            assert!(!is_foreign, "{}:{number}: {code}", file.display());
        }
    }
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let mut lengths = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for file in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
            lengths.push(lines);
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= LINES_MEDIAN, "half of the files are longer than {median} lines");
}
