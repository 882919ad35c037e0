//! Every command line in the documents is one that works.

use std::fs;
use std::path::Path;

use paddock::cli;

const DOCUMENTS: [&str; 3] = ["README.md", "CONTRIBUTING.md", "docs/testing.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of the document's fenced blocks, without comments.
fn commands(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let mut is_code = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default().trim();
        if is_code && !line.is_empty() {
            commands.push(line.to_owned());
        }
    }
    commands
}

#[test]
fn every_command_line_is_understood() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = 0;
    for document in DOCUMENTS {
        for command in commands(document) {
            seen += 1;
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| is_setting(word)).collect();
            match words.as_slice() {
                ["target/release/paddock", ..] => understood(document, &words),
                ["make", target] => {
                    assert!(makefile.contains(&format!("\n{target}:")), "{document}: {command}");
                }
                ["cargo", "build" | "check" | "bench" | "test", ..] | ["cargo", "nextest", "run", ..] => {}
                ["curl", url, ..] => {
                    assert!(url.starts_with("http://127.0.0.1:808"), "{document}: {command}")
                }
                _ => panic!("{document}: is this a command line? {command}"),
            }
        }
    }
    assert!(seen > 15, "the documents' commands were found: {seen}");
}

/// `NAME=value` in front of a command.
fn is_setting(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

/// The program's own parser takes it; a token file is there, as the reader would have made it.
fn understood(document: &str, words: &[&str]) {
    let token = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents-token");
    fs::write(&token, "a-token-for-this-test\n").unwrap();
    let token = token.to_str().unwrap();
    let words = words.iter().map(|&word| if word == "/etc/paddock/token" { token } else { word });
    if let Err(stop) = cli::read(words.clone()) {
        panic!("{document}: {}: {stop}", words.collect::<Vec<_>>().join(" "));
    }
}
