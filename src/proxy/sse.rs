//! Event streams (HTML, section 9.2), as far as their end matters: no I/O.

/// How a stream ends so far: whether a new event may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// How many newlines it ended with, 2 at most. A carriage return counts as nothing: the one before a newline belongs to
    /// it, and one alone, which ends a line as well, is followed by one empty line too many.
    newlines: u8,
}

impl Default for Tail {
    /// Nothing came yet.
    fn default() -> Self {
        Self { newlines: 2 }
    }
}

impl Tail {
    /// Takes the next bytes of the stream.
    pub fn saw(&mut self, data: &[u8]) {
        let newlines = data
            .iter()
            .rev()
            .filter(|&&byte| byte != b'\r')
            .take(2)
            .take_while(|&&byte| byte == b'\n')
            .count();
        let all_newlines = data.iter().all(|&byte| byte == b'\n' || byte == b'\r');
        let before = if all_newlines { self.newlines } else { 0 };
        // At most 2, so it fits.
        self.newlines = (before + newlines as u8).min(2);
    }

    /// What must come before an event of its own.
    #[must_use]
    pub fn gap(self) -> &'static str {
        match self.newlines {
            2 => "",
            1 => "\n",
            _ => "\n\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(parts: &[&str]) -> &'static str {
        let mut tail = Tail::default();
        for part in parts {
            tail.saw(part.as_bytes());
        }
        tail.gap()
    }

    #[test]
    fn an_event_begins_on_a_line_of_its_own() {
        assert_eq!(after(&[]), "");
        assert_eq!(after(&["data: 1\n\n"]), "");
        assert_eq!(after(&["data: 1\n", "\n"]), "");
        assert_eq!(after(&["data: 1\r\n\r\n"]), "");
        assert_eq!(after(&["data: 1\n"]), "\n");
        assert_eq!(after(&["data: 1\n\n", "data: {\"cho"]), "\n\n");
        assert_eq!(after(&["data: 1\n\n", ""]), "");
    }
}
