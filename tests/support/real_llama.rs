//! llama.cpp's own server with a tiny random model.
//!
//! One thread computes, and an answer always has exactly `max_tokens` words. A step costs more the longer the
//! answer already is, so an answer's length decides how long it keeps a slot: see [`busy_for`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::http;
use super::program::Program;
use super::wait::free_addr;

/// Between two looks at `/slots`. llama.cpp notices that a client left once it was quiet for a second, and
/// *any* result that it delivers breaks the quiet, those of `/slots` too: who asks more often keeps an abandoned
/// request alive. Streams that have begun are not concerned.
pub const SLOTS_LOOK_EVERY: Duration = Duration::from_millis(1250);

/// How the server is started.
#[derive(Debug, Clone)]
pub struct RealOptions {
    /// Requests computed at once.
    pub slots: u32,
    /// Tokens for each slot; the model knows 32,768.
    pub context: u32,
    /// Tokens of a prompt that are computed before the server looks at cancellations again.
    pub batch: u32,
    /// What clients must present.
    pub api_key: Option<String>,
    /// Whether `/slots` answers 501.
    pub is_slots_endpoint_disabled: bool,
    /// How long it answers 503 "Loading model" first.
    pub load_delay: Duration,
}

impl Default for RealOptions {
    fn default() -> Self {
        Self {
            slots: 4,
            context: 8192,
            batch: 2048,
            api_key: None,
            is_slots_endpoint_disabled: false,
            load_delay: Duration::ZERO,
        }
    }
}

impl RealOptions {
    /// What starts such a server on `port`, which may be the `{port}` that the gateway replaces.
    pub fn command(&self, port: &str) -> Vec<String> {
        let mut command = vec![
            text(python()),
            text(manifest_dir().join("tests/support/llama_server.py")),
            "--model".to_owned(),
            text(model()),
            "--port".to_owned(),
            port.to_owned(),
            "--slots".to_owned(),
            self.slots.to_string(),
            "--ctx".to_owned(),
            self.context.to_string(),
            "--batch".to_owned(),
            self.batch.to_string(),
        ];
        if let Some(key) = &self.api_key {
            command.extend(["--api-key".to_owned(), key.clone()]);
        }
        if self.is_slots_endpoint_disabled {
            command.push("--no-slots".to_owned());
        }
        if !self.load_delay.is_zero() {
            command.extend(["--load-delay".to_owned(), self.load_delay.as_secs_f64().to_string()]);
        }
        command
    }
}

/// A standing server.
#[derive(Debug)]
pub struct RealLlama {
    program: Program,
    addr: SocketAddr,
    api_key: Option<String>,
}

impl RealLlama {
    /// Returns once it is healthy, or at once when it is to be seen loading.
    pub async fn start(options: RealOptions) -> Self {
        Self::start_on(free_addr(), options).await
    }

    /// The same on a given address.
    pub async fn start_on(addr: SocketAddr, options: RealOptions) -> Self {
        let is_awaited = options.load_delay.is_zero();
        let mut real = Self::spawn_on(addr, options);
        if is_awaited {
            real.program.until_answers(addr, "/health").await;
        }
        real
    }

    /// Starts it on a given address without waiting for it.
    pub fn spawn_on(addr: SocketAddr, options: RealOptions) -> Self {
        let mut command = options.command(&addr.port().to_string());
        command.extend(["--host".to_owned(), addr.ip().to_string()]);
        Self { program: Program::spawn(&command), addr, api_key: options.api_key }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Which slots compute. Not to be asked in a loop: see [`SLOTS_LOOK_EVERY`].
    pub async fn slots(&self) -> Vec<bool> {
        busy_slots(self.addr, self.api_key.as_deref()).await.expect("no /slots")
    }
}

/// Which slots of the server at `addr` compute; none when it does not say.
pub async fn busy_slots(addr: SocketAddr, api_key: Option<&str>) -> Option<Vec<bool>> {
    let mut request = http::client().get(format!("http://{addr}/slots"));
    if let Some(key) = api_key {
        request = request.bearer_auth(key);
    }
    let slots: Vec<Value> = request.send().await.ok()?.json().await.ok()?;
    slots.iter().map(|slot| slot["is_processing"].as_bool()).collect()
}

/// Waits until no slot of the server at `addr` computes, looking as seldom as [`SLOTS_LOOK_EVERY`] asks.
pub async fn until_idle(addr: SocketAddr, bound: Duration) {
    let idle = async {
        loop {
            sleep(SLOTS_LOOK_EVERY).await;
            if busy_slots(addr, None).await.is_some_and(|slots| slots.iter().all(|is_busy| !is_busy)) {
                return;
            }
        }
    };
    timeout(bound, idle).await.unwrap_or_else(|_| panic!("slots of {addr} still compute after {bound:?}"));
}

/// How many tokens an answer needs to take about this long on an idle server: its cost grows with the square
/// of its length. 18 s fill a context of 8,192 tokens. Several at once share the one thread.
pub fn busy_for(span: Duration) -> u32 {
    (1850.0 * span.as_secs_f64().sqrt()) as u32
}

/// A chat request whose answer takes about `span` on an idle server.
pub fn chat_for(span: Duration, is_streaming: bool) -> Value {
    json!({
        "messages": [{ "role": "user", "content": "name some words" }],
        "max_tokens": busy_for(span),
        "stream": is_streaming,
    })
}

/// A request for one word whose prompt of `tokens` tokens is not cached: 8,000 take about 0.8 s, and with a
/// context of 32,768, 16,000 take 4 s and 32,000 take 17 s.
pub fn long_prompt(tokens: usize) -> Value {
    json!({ "prompt": "~ ".repeat(tokens / 2), "n_predict": 1, "cache_prompt": false, "stream": true })
}

/// The Python that has xllamacpp.
pub fn python() -> PathBuf {
    let given = std::env::var_os("PADDOCK_TEST_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| manifest_dir().join(".venv/bin/python"));
    assert!(python.is_file(), "no {}: run `make venv` first", python.display());
    python
}

/// The model's file, written if this version of its writer has not written it yet.
pub fn model() -> PathBuf {
    let writer = manifest_dir().join("tests/support/tiny_model.py");
    let version = Sha256::digest(std::fs::read(&writer).unwrap());
    let version: String = version.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tiny-{version}.gguf"));
    if !model.is_file() {
        let status = Command::new(python()).arg(writer).arg(&model).status().unwrap();
        assert!(status.success(), "the tiny model could not be written: {status}");
    }
    model
}

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl Into<PathBuf>) -> String {
    path.into().into_os_string().into_string().unwrap()
}
