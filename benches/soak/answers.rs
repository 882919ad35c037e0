//! What came of the requests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::support::http::Answer;

/// Wrong answers that are kept to be shown.
const WRONG_SHOWN_MAX: usize = 10;

/// The account of all clients.
#[derive(Debug, Default)]
pub struct Book {
    counts: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
    /// Odd while a server is being restarted.
    restarts: AtomicU64,
}

/// A moment in the servers' lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

impl Book {
    /// A server's restart begins or ends.
    pub fn turn(&self) {
        self.restarts.fetch_add(1, Ordering::SeqCst);
    }

    pub fn now(&self) -> Moment {
        Moment(self.restarts.load(Ordering::SeqCst))
    }

    /// Whether a server was restarted since: then an answer may break off.
    fn is_excused(&self, since: Moment) -> bool {
        since.0 % 2 == 1 || self.now() != since
    }

    pub fn count(&self, what: &str) {
        *self.counts.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }

    fn is_wrong(&self, what: String) {
        self.count("**wrong**");
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < WRONG_SHOWN_MAX {
            wrong.push(what);
        }
    }

    /// Takes note of how a request of an ordinary client ended: of its answer's status and body, if it came whole.
    pub fn note(&self, since: Moment, words: usize, is_stream: bool, answer: Option<(u16, String)>) {
        let Some((status, body)) = answer else {
            match self.is_excused(since) {
                true => self.count("broken off: its server restarted"),
                false => self.is_wrong("broken off, and no server restarted".to_owned()),
            }
            return;
        };
        let code = code_of(&body);
        match (status, code.as_deref()) {
            (200, None) if is_right(&body, words, is_stream) => self.count("right"),
            (200 | 502, Some("upstream_failed")) if self.is_excused(since) => {
                self.count("told that its server failed (`upstream_failed`)");
            }
            (429, Some("queue_full")) => self.count("refused, 429 `queue_full`"),
            (504, Some("queue_timeout")) => self.count("refused, 504 `queue_timeout`"),
            _ => self.is_wrong(format!("{status} {body}")),
        }
    }

    /// Takes note of the answer to a request that has to be refused. A full queue comes first.
    pub fn note_refusal(&self, expected: (u16, &str), answer: Option<Answer>) {
        let got = answer.map(|answer| (answer.status, code_of(&answer.text())));
        match got {
            Some((status, Some(code)))
                if [expected, (429, "queue_full")].contains(&(status, code.as_str())) =>
            {
                self.count(&format!("refused, {status} `{code}`"));
            }
            got => self.is_wrong(format!("{expected:?} was expected: {got:?}")),
        }
    }

    /// All counts, as the lines of a table.
    pub fn lines(&self) -> String {
        let counts = self.counts.lock().unwrap();
        counts.iter().map(|(what, count)| format!("| {what} | {count} |\n")).collect()
    }

    pub fn assert_all_right(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "wrong answers: {wrong:#?}");
        assert!(self.counts.lock().unwrap().get("right").is_some_and(|&count| count > 0));
    }
}

/// The code of a refusal, or of the error event that a stream ends with.
fn code_of(body: &str) -> Option<String> {
    let json = body.split("data: ").last()?;
    let error: Value = serde_json::from_str(json.trim()).ok()?;
    error["error"]["code"].as_str().map(str::to_owned)
}

/// What a fake server answers when nothing fails.
fn is_right(body: &str, words: usize, is_stream: bool) -> bool {
    let text: String = (0..words).map(|index| format!("word{index} ")).collect();
    if !is_stream {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        return json["choices"][0]["message"]["content"] == text;
    }
    let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let told: String = events
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    told == text && body.ends_with("data: [DONE]\n\n")
}
