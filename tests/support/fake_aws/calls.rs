//! The account of what was called.

use std::collections::BTreeMap;
use std::sync::Mutex;

use paddock::core::Mono;

/// One call as it came, and how it went.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `SetDesiredCapacity`.
    pub action: String,
    /// As they came. What `PutMetricData` brings is in the metrics' own account, and here only its
    /// `Content-Encoding`.
    pub parameters: BTreeMap<String, String>,
    /// When its head was there, on the fake's clock.
    pub at: Mono,
    /// The connection's number, from 1.
    pub connection: u64,
    pub outcome: Outcome,
}

impl Call {
    /// A parameter; empty when it was not given.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet.
    Open,
    Done,
    Failed {
        status: u16,
        code: String,
    },
    /// Carried out (or refused, with that code), and the answer was lost on purpose.
    AnswerLost {
        code: Option<String>,
    },
    /// Neither carried out nor answered, on purpose.
    CallLost,
}

#[derive(Debug, Default)]
pub struct Calls(Mutex<Vec<Call>>);

impl Calls {
    pub fn begin(&self, call: Call) -> usize {
        let mut calls = self.0.lock().unwrap();
        calls.push(call);
        calls.len() - 1
    }

    pub fn end(&self, index: usize, outcome: Outcome) {
        self.0.lock().unwrap()[index].outcome = outcome;
    }

    pub fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }
}
