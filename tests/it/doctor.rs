//! `paddock doctor`: each verdict of each check, and that it changes nothing.

mod aws;
mod here;
mod peers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::program::{Paddock, Program};

/// The limit of the slowest of the checks that wait for a silent peer, and a busy machine's slowness.
const SILENT_MAX: Duration = Duration::from_secs(45);

/// What was found: each check by its name, and by its subject where a name occurs twice.
#[derive(Debug)]
struct Examined {
    checks: Vec<Value>,
    code: Option<i32>,
}

impl Examined {
    /// The only check of this name: its verdict, what was found, and the mend.
    fn of(&self, name: &str) -> (&str, String) {
        let found: Vec<&Value> = self.checks.iter().filter(|check| check["name"] == name).collect();
        let [check] = found[..] else { panic!("one {name}: {:#?}", self.checks) };
        let mend = check["mend"].as_str().map_or_else(String::new, |mend| format!("; {mend}"));
        (check["verdict"].as_str().unwrap(), format!("{}{mend}", check["found"].as_str().unwrap()))
    }

    /// Whether the check has this verdict and says this.
    #[track_caller]
    fn says(&self, name: &str, verdict: &str, says: &str) {
        let (given, line) = self.of(name);
        assert_eq!(given, verdict, "{name}: {line}");
        assert!(line.contains(says), "{name}: {line}");
    }

    /// The verdicts of all, in their order.
    fn verdicts(&self) -> Vec<(&str, &str)> {
        self.checks
            .iter()
            .map(|check| (check["name"].as_str().unwrap(), check["verdict"].as_str().unwrap()))
            .collect()
    }
}

/// Runs `paddock doctor --json` with these flags and variables. What it says of failures is what its exit code says, and
/// whatever is not well has a mend.
async fn examine_in(environment: &[(String, String)], args: &[&str]) -> Examined {
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    examined(Paddock::spawn_in(&[&["doctor", "--json"], args].concat(), &environment)).await
}

/// What a `paddock doctor --json` finds that was started.
async fn examined(mut program: Program) -> Examined {
    let code = program.wait().await.code();
    let output = program.output();
    let report: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    let checks = report["checks"].as_array().unwrap().clone();
    let has_failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!(code, Some(i32::from(has_failed)), "{output}");
    for check in &checks {
        let is_ill = ["warn", "fail"].contains(&check["verdict"].as_str().unwrap());
        assert_eq!(check["mend"].is_string(), is_ill, "{check}");
    }
    Examined { checks, code }
}

async fn examine(args: &[&str]) -> Examined {
    examine_in(&[], args).await
}

/// The same as people see it: the lines.
async fn lines(environment: &[(&str, &str)], args: &[&str]) -> (String, Option<i32>) {
    let mut program = Paddock::spawn_in(&[&["doctor"], args].concat(), environment);
    let code = program.wait().await.code();
    (program.output(), code)
}

/// Takes connections, and never answers.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// How often each line of a list occurs.
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for word in words {
        *counted.entry(word.to_owned()).or_default() += 1;
    }
    counted
}

#[allow(clippy::disallowed_methods, reason = "how long the whole program takes")]
fn now() -> Instant {
    Instant::now()
}
