//! Cuts the body of a report stream into its JSON objects.

use bytes::{Buf, BytesMut};
use serde::de::Error as _;
use thiserror::Error;

use super::StatusUpdate;

/// The longest single report, in bytes: a thousand slots take about 40 KiB.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;

/// Why a report stream cannot be read on.
#[derive(Debug, Error)]
pub enum FrameError {
    /// One object does not end.
    #[error("a report is longer than {REPORT_BYTES_MAX} bytes: is this an agent?")]
    TooLong,
    /// Not JSON, or not a status.
    #[error("a report is not an agent's status in JSON: {0}")]
    NotAStatus(#[source] serde_json::Error),
}

/// An incremental decoder: objects follow one another with or without whitespace between them, and TCP may join or
/// split them anywhere.
///
/// After an error the stream is lost: its connection is to be closed.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    scan: Scan,
    /// How many bytes of an unfinished object were last found to be a possible beginning.
    checked: usize,
}

/// How far the first object in the buffer was looked through for its end.
#[derive(Debug, Default)]
struct Scan {
    position: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Frames {
    /// Takes bytes as they came. Take every [`Frames::next`] before the next push: that bounds what is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole report; none when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When the bytes so far cannot become a report.
    #[expect(clippy::should_implement_trait, reason = "it ends for now, not for good, and it can fail")]
    pub fn next(&mut self) -> Result<Option<StatusUpdate>, FrameError> {
        if self.scan.position == 0 {
            let space = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(space);
            if self.buffer.first().is_some_and(|byte| *byte != b'{') {
                return Err(FrameError::NotAStatus(serde_json::Error::custom("expected an object")));
            }
        }
        let Some(end) = self.scan.object_end(&self.buffer) else {
            return self.check_beginning();
        };
        if end > REPORT_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let object = self.buffer.split_to(end);
        self.scan = Scan::default();
        self.checked = 0;
        serde_json::from_slice(&object).map(Some).map_err(FrameError::NotAStatus)
    }

    /// Refuses what can no longer become a report. The check reads from the beginning, so it is made only when the
    /// unfinished object has doubled: all checks together read each byte about twice.
    fn check_beginning(&mut self) -> Result<Option<StatusUpdate>, FrameError> {
        let length = self.buffer.len();
        if length > REPORT_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        if length < self.checked * 2 || length == 0 {
            return Ok(None);
        }
        self.checked = length;
        let mut beginning = &self.buffer[..];
        // serde_json does not take `-` or `1.` for the beginning of a number: leave an unfinished one out.
        while !self.scan.in_string
            && let [rest @ .., b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'] = beginning
        {
            beginning = rest;
        }
        match serde_json::from_slice::<StatusUpdate>(beginning) {
            Err(error) if !error.is_eof() => Err(FrameError::NotAStatus(error)),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl Scan {
    /// Looks on from where it stopped; says how long the object is once it is whole. Text that is not an object
    /// ends nowhere.
    fn object_end(&mut self, buffer: &[u8]) -> Option<usize> {
        while let Some(&byte) = buffer.get(self.position) {
            self.position += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.position);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Phase, SLOTS_MAX, SlotStatus};
    use super::*;

    const SMALL: &str = r#"{"external_llamacpp_addr":"a:1"}"#;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<StatusUpdate>, FrameError> {
        let mut frames = Frames::default();
        let mut updates = Vec::new();
        for piece in pieces {
            frames.push(piece);
            while let Some(update) = frames.next()? {
                updates.push(update);
            }
        }
        Ok(updates)
    }

    #[test]
    fn text_that_is_not_json_is_refused_at_once() {
        for text in ["hello", "{hello", "null", "[", "\"", "}", "7", r#"{"a":1]"#, r#"{"error":["#, "{}"] {
            assert!(matches!(decode([text.as_bytes()]), Err(FrameError::NotAStatus(_))), "{text}");
        }
        for text in [
            "",
            " \n",
            "{",
            r#"{"err"#,
            r#"{"a":tr"#,
            r#"{"a":-"#,
            r#"{"a":1."#,
            r#"{"a":1.5e+"#,
            r#"{"error":"\u12"#,
            r#"{"error":"\ud83d\"#,
        ] {
            assert_eq!(decode([text.as_bytes()]).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn garbage_byte_by_byte_is_refused_before_the_buffer_is_full() {
        let text = format!("{{\"a\":{}", "x".repeat(64));
        assert!(decode(text.as_bytes().chunks(1)).is_err());
    }

    #[test]
    fn what_follows_a_report_is_judged_by_itself() {
        let mut frames = Frames::default();
        frames.push(format!("{SMALL}\n oops").as_bytes());
        assert!(frames.next().unwrap().is_some());
        assert!(frames.next().is_err());
    }

    #[test]
    fn an_endless_report_is_refused() {
        let endless = format!("{{\"error\":\"{}", "x".repeat(REPORT_BYTES_MAX));
        assert!(matches!(decode(endless.as_bytes().chunks(1000)), Err(FrameError::TooLong)));
        let whole = format!("{endless}\"}}");
        assert!(matches!(decode([whole.as_bytes()]), Err(FrameError::TooLong)));
        let many = format!("{SMALL}\n").repeat(2 * REPORT_BYTES_MAX / SMALL.len());
        assert!(decode([many.as_bytes()]).unwrap().len() > 10_000);
    }

    #[test]
    fn a_long_report_in_single_bytes_is_seldom_read_from_its_beginning() {
        let long =
            format!(r#"{{"external_llamacpp_addr":"a:1","error":"{}"}}"#, "x".repeat(REPORT_BYTES_MAX - 100));
        let (beginning, end) = long.split_at(long.len() - 1);
        let mut frames = Frames::default();
        let mut lengths_checked = Vec::new();
        for byte in beginning.bytes() {
            frames.push(&[byte]);
            assert_eq!(frames.next().unwrap(), None);
            lengths_checked.push(frames.checked);
        }
        lengths_checked.dedup();
        assert!(lengths_checked.len() < 20, "{lengths_checked:?}");
        assert_eq!(frames.scan.position, beginning.len());
        frames.push(end.as_bytes());
        assert!(frames.next().unwrap().is_some());
    }

    fn any_update() -> impl Strategy<Value = StatusUpdate> {
        let paddlers = (
            any::<Option<String>>(),
            any::<Option<String>>(),
            any::<String>(),
            0..=SLOTS_MAX,
            any::<Option<bool>>(),
            any::<Option<bool>>(),
            0..=SLOTS_MAX,
            prop::collection::vec(any::<(i64, bool)>(), 0..4),
        );
        let phases = prop::option::of(prop::sample::select(vec![
            Phase::Starting,
            Phase::Loading,
            Phase::Ready,
            Phase::Failing,
        ]));
        let ours = (any::<Option<String>>(), any::<Option<u64>>(), any::<Option<u64>>(), phases);
        (paddlers, ours).prop_map(|((name, error, address, idle, authorized, enabled, busy, slots), ours)| {
            StatusUpdate {
                agent_name: name,
                error,
                external_llamacpp_addr: address,
                idle_slots_count: idle,
                is_authorized: authorized,
                is_slots_endpoint_enabled: enabled,
                processing_slots_count: busy,
                slots: slots
                    .into_iter()
                    .map(|(id, is_processing)| SlotStatus { id, is_processing })
                    .collect(),
                version: ours.0.clone(),
                boot_nonce: ours.0.clone(),
                sequence: ours.1,
                sample_age_ms: ours.2,
                heartbeat_ms: ours.1,
                instance_id: ours.0,
                phase: ours.3,
                availability_zone: None,
                group: None,
                drain_reason: None,
                drain_left_ms: None,
                boot: None,
            }
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_updates(
            updates in prop::collection::vec((any_update(), "[ \r\n\t]{0,3}", any::<bool>()), 0..5),
            sizes in prop::collection::vec(1..80_usize, 1..20),
        ) {
            let mut text = String::new();
            for (update, space, pretty) in &updates {
                let json = if *pretty { serde_json::to_string_pretty(update) } else { serde_json::to_string(update) };
                text.push_str(space);
                text.push_str(&json.unwrap());
            }
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at(rest.len().min(*size));
                pieces.push(piece);
                rest = later;
            }
            let sent: Vec<_> = updates.into_iter().map(|(update, ..)| update).collect();
            prop_assert_eq!(decode(pieces).unwrap(), sent.clone());
            prop_assert_eq!(decode([text.as_bytes()]).unwrap(), sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.chunks(7));
        }
    }
}
