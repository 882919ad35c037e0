//! What a waiting stream is told, each in one line: nothing here can hold a line break, or a stream could be forged.

use std::fmt::Write;

use http::HeaderMap;

use super::super::headers::{X_AGENT, X_COLD_START, X_QUEUE_MS};
use crate::core::snapshot::BootPhase;
use crate::core::{Outlook, POSITION_MAX};

/// Anthropic's own keepalive, a whole event.
pub(super) const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// A comment with what is known of the wait; of a request that does not wait any more, that a server has it.
pub(super) fn status(outlook: Option<Outlook>) -> String {
    let Some(Outlook { position, eta, phase }) = outlook else {
        return ": sent to a server, which has not answered yet\n".to_owned();
    };
    let mut line = String::from(": waiting, position ");
    // Writing to a string does not fail.
    let _ = match position {
        beyond if beyond > POSITION_MAX => write!(line, "beyond {POSITION_MAX}"),
        position => write!(line, "{position}"),
    };
    if let Some(eta) = eta {
        let _ = write!(line, ", about {} s", eta.as_secs_f64().ceil());
    }
    if let Some(phase) = phase {
        let _ = write!(line, ", {}", stage(phase));
    }
    line.push('\n');
    line
}

fn stage(phase: BootPhase) -> &'static str {
    match phase {
        BootPhase::Call => "server called",
        BootPhase::Pending => "machine starting",
        BootPhase::Boot => "system booting",
        BootPhase::Service => "llama.cpp starting",
        BootPhase::Load => "model loading",
        BootPhase::Register => "server registering",
    }
}

/// A comment with what the headers of the answer would have said.
pub(super) fn facts(headers: &HeaderMap) -> String {
    let mut line = String::from(":");
    for name in [X_QUEUE_MS, X_COLD_START, X_AGENT] {
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            let _ = write!(line, " {name}={value}");
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_is_one_comment_line() {
        let outlook = |position, eta: Option<u64>, phase| {
            status(Some(Outlook { position, eta: eta.map(Duration::from_millis), phase }))
        };
        assert_eq!(
            outlook(3, Some(39_200), Some(BootPhase::Load)),
            ": waiting, position 3, about 40 s, model loading\n"
        );
        assert_eq!(outlook(1, None, None), ": waiting, position 1\n");
        assert_eq!(outlook(POSITION_MAX + 1, None, None), ": waiting, position beyond 1000\n");
        for phase in BootPhase::ALL {
            let line = outlook(1, Some(0), Some(phase));
            assert!(line.starts_with(':') && line.find(['\n', '\r']) == Some(line.len() - 1), "{line:?}");
        }
        assert!(status(None).starts_with(": sent"));
    }

    #[test]
    fn facts_are_one_comment_line() {
        let mut headers = HeaderMap::new();
        assert_eq!(facts(&headers), ":\n");
        headers.insert(X_QUEUE_MS, HeaderValue::from_static("1500"));
        headers.insert(X_COLD_START, HeaderValue::from_static("true"));
        headers.insert(X_AGENT, HeaderValue::from_static("gpu 1"));
        assert_eq!(
            facts(&headers),
            ": x-paddock-queue-ms=1500 x-paddock-cold-start=true x-paddock-agent=gpu 1\n"
        );
    }
}
