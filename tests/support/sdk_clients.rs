//! The official Python clients of OpenAI and Anthropic.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::real_llama::python;

/// For all of them together.
const RUN_MAX: Duration = Duration::from_secs(120);

/// What became of one request.
#[derive(Debug, Clone, Deserialize)]
pub struct SdkResult {
    pub case: String,
    /// An answer with a text.
    pub ok: bool,
    /// Characters of the text.
    pub text: usize,
    /// The class of the exception.
    pub error: Option<String>,
    /// What it derives from, each behind its package.
    pub bases: Vec<String>,
    pub status: Option<u16>,
    /// As the body has it.
    pub code: Option<serde_json::Value>,
    #[serde(default)]
    pub message: String,
}

/// Asks `cases` (see `tests/e2e/sdk_clients.py`) at once. No read waits longer than `read_timeout`; nothing is retried.
pub async fn sdk_clients(url: &str, cases: &[&str], read_timeout: Duration, api_key: &str) -> Vec<SdkResult> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/sdk_clients.py");
    let mut command = Command::new(python());
    command.arg(script).arg(url).args(cases);
    command.args(["--read-timeout", &read_timeout.as_secs_f64().to_string(), "--api-key", api_key]);
    // A proxy in the environment is not for loopback.
    command.env("NO_PROXY", "*").kill_on_drop(true);
    let output = timeout(RUN_MAX, command.output()).await.expect("the clients did not end").unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let results: Vec<SdkResult> =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"));
    assert_eq!(results.len(), cases.len());
    results
}
