//! What a child writes: into the log line by line, and its last words kept for whoever asks why it ended.

use std::collections::VecDeque;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::core::InstanceId;

/// How much of one line is kept, in bytes; the rest of it is dropped. llama.cpp can print a whole prompt into one line.
const LINE_MAX_BYTES: usize = 2048;
/// How many lines are last words: llama.cpp's failure to load a model is told in three or four.
const LAST_WORDS_LINES: usize = 5;
/// How long last words may be, in bytes: they go into the answers of all waiting clients.
const LAST_WORDS_BYTES: usize = 600;
/// How much is read at once, in bytes: what Linux puts into a pipe's page.
const READ_BYTES: usize = 4096;

/// The reading end of the pipe that is both the stdout and the stderr of a child: one pipe keeps their order.
#[derive(Debug)]
pub(super) struct Output {
    pipe: pipe::Receiver,
    chunk: Box<[u8; READ_BYTES]>,
    lines: Lines,
}

impl Output {
    pub(super) fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, chunk: Box::new([0; READ_BYTES]), lines: Lines::default() }
    }

    /// Reads until nobody can write any more, and logs under the name of `instance`. May be dropped and called again.
    pub(super) async fn follow(&mut self, instance: &InstanceId) {
        let log = |line: &str| tracing::info!(target: "llamacpp", %instance, "{line}");
        while let Ok(length @ 1..) = self.pipe.read(&mut self.chunk[..]).await {
            self.lines.take(&self.chunk[..length], log);
        }
        self.lines.end(log);
    }

    /// The last lines in one, oldest first.
    pub(super) fn last_words(&self) -> String {
        self.lines.last_words()
    }
}

/// Cuts bytes into lines, and remembers the last of them.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], log: impl Fn(&str)) {
        // Progress bars end their lines by a carriage return.
        for piece in bytes.split_inclusive(|byte| is_line_end(*byte)) {
            let text = piece.strip_suffix(b"\n").or(piece.strip_suffix(b"\r")).unwrap_or(piece);
            let room = LINE_MAX_BYTES.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.end(&log);
            }
        }
    }

    fn end(&mut self, log: impl Fn(&str)) {
        let line: String =
            String::from_utf8_lossy(&self.partial).chars().filter(|c| !c.is_control()).collect();
        self.partial.clear();
        if line.trim().is_empty() {
            return;
        }
        log(&line);
        if self.last.len() == LAST_WORDS_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn last_words(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(|line| line.trim()).collect();
        let words = lines.join("; ");
        // The end tells more than the beginning.
        let cut = words.len().saturating_sub(LAST_WORDS_BYTES);
        let cut = (cut..=words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
        words[cut..].to_owned()
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn logged(chunks: &[&[u8]]) -> (Vec<String>, String) {
        let log = RefCell::new(Vec::new());
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.take(chunk, |line| log.borrow_mut().push(line.to_owned()));
        }
        lines.end(|line| log.borrow_mut().push(line.to_owned()));
        (log.into_inner(), lines.last_words())
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let (log, words) = logged(&[b"load", b"ing\r\n\n", b"10%\r20%\rerr\x1bor: \xff", b"no memory"]);
        assert_eq!(log, ["loading", "10%", "20%", "error: \u{fffd}no memory"]);
        assert_eq!(words, log.join("; "));
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_than_its_share() {
        let long = vec![b'x'; LINE_MAX_BYTES];
        let (log, words) = logged(&[&long, &long, &long, b"\nafter\n"]);
        assert_eq!(log.iter().map(String::len).collect::<Vec<_>>(), [LINE_MAX_BYTES, "after".len()]);
        assert_eq!(words.len(), LAST_WORDS_BYTES);
        assert!(words.ends_with("x; after"));
    }

    #[test]
    fn last_words_are_the_last_ones_and_cut_between_characters() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(logged(&[text.as_bytes()]).1, "line 95; line 96; line 97; line 98; line 99");
        let (_, words) = logged(&["é".repeat(LAST_WORDS_BYTES).as_bytes(), b"!"]);
        assert!(words.len() <= LAST_WORDS_BYTES && words.ends_with("é!"), "{words}");
    }
}
