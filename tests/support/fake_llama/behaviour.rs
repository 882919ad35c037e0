//! What a request may ask a fake server to do.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// The field `fake` of a request's body. What is not given is as in `Behaviour::default()`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Before the head of the answer.
    pub delay_ms: u64,
    /// Words of the answer; a stream has one event for each.
    pub chunks: usize,
    /// Before each of them but the first.
    pub chunk_delay_ms: u64,
    /// The answer's status; an error's body from 400 on.
    pub status: u16,
    /// Dies instead of answering, or in the middle of the answer.
    pub die: Option<Death>,
    /// Answers with `Content-Length: 0`.
    pub empty: bool,
    /// Waits before the head until the test releases this name.
    pub hold: Option<String>,
    /// Waits between the head of a stream and the first word until the test releases this name, as llama.cpp does while it
    /// computes the prompt.
    pub hold_body: Option<String>,
    /// Waits after the first word until the test releases this name.
    pub hold_stream: Option<String>,
}

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// After the request, before a byte of the answer.
    BeforeHead,
    /// After the first word.
    MidStream,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            chunks: 3,
            chunk_delay_ms: 0,
            status: 200,
            die: None,
            empty: false,
            hold: None,
            hold_body: None,
            hold_stream: None,
        }
    }
}

impl Behaviour {
    /// What this request asks for, or why that is not understood.
    pub(super) fn of(body: &Value, otherwise: &Self) -> Result<Self, serde_json::Error> {
        match body.get("fake") {
            Some(asked) => Self::deserialize(asked),
            None => Ok(otherwise.clone()),
        }
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    pub(super) fn chunk_delay(&self) -> Duration {
        Duration::from_millis(self.chunk_delay_ms)
    }
}

/// How many slots llama.cpp takes for this body: one for each of `n`, of an array of prompts, of inputs.
pub(super) fn slots_taken(body: &Value) -> usize {
    let n = body.get("n").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    let listed = ["prompt", "input", "documents"].into_iter().filter_map(|field| body.get(field)?.as_array());
    n.max(1) * listed.map(Vec::len).max().unwrap_or(1).max(1)
}
