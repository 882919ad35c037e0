//! OpenAI's official Python client, many at once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::real_llama::python;

/// For all of the answers together.
const RUN_MAX: Duration = Duration::from_secs(120);

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct OpenAiLoad {
    pub count: u32,
    /// How many of them stream.
    pub streaming: u32,
    pub max_tokens: u32,
}

/// What became of one request.
#[derive(Debug, Clone, Deserialize)]
pub struct OpenAiResult {
    pub streaming: bool,
    /// A whole answer: text, a reason for its end, no error.
    pub ok: bool,
    /// Characters of the answer.
    pub text: usize,
    pub chunks: usize,
    pub finish_reason: Option<String>,
    pub seconds: f64,
    pub error: Option<String>,
}

/// Sends all of `load` at once to the server at `addr`. Nothing is retried.
pub async fn openai_clients(addr: SocketAddr, load: OpenAiLoad) -> Vec<OpenAiResult> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/openai_clients.py");
    let mut command = Command::new(python());
    command.arg(script).arg(format!("http://{addr}/v1"));
    command.args(["--count", &load.count.to_string(), "--streaming", &load.streaming.to_string()]);
    command.args(["--max-tokens", &load.max_tokens.to_string()]);
    // A proxy in the environment is not for loopback.
    command.env("NO_PROXY", "*").kill_on_drop(true);
    let output = timeout(RUN_MAX, command.output()).await.expect("the openai clients did not end").unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}\n{stderr}"))
}
