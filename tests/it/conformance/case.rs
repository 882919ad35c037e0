//! A row of the table: what is sent, what is answered, and what reaches the server.

use super::reading::Request;

/// One row. As it is made it says: 400, closed, and nothing reaches the server.
pub struct Case {
    pub name: &'static str,
    pub sent: Vec<u8>,
    /// Whether the client ends its side after that.
    pub finishes: bool,
    /// The answers' statuses in their order.
    pub answers: Vec<u16>,
    /// Whether the connection ends with them.
    pub closes: bool,
    /// What reaches the server, without what the gateway adds to every request.
    pub passed: Vec<Request>,
}

/// A row about these bytes.
pub fn case(name: &'static str, sent: impl Into<Vec<u8>>) -> Case {
    Case { name, sent: sent.into(), finishes: false, answers: vec![400], closes: true, passed: Vec::new() }
}

impl Case {
    /// Refused with another status.
    pub fn refused(self, status: u16) -> Self {
        Self { answers: vec![status], ..self }
    }

    /// Answered by the gateway itself; the connection goes on.
    pub fn answered(self, status: u16) -> Self {
        Self { answers: vec![status], closes: false, ..self }
    }

    /// The client ends its side, though what it began is not whole.
    pub fn finished(self) -> Self {
        Self { finishes: true, ..self }
    }

    /// Closed without a word.
    pub fn silent(self) -> Self {
        Self { answers: Vec::new(), ..self }
    }

    /// Passed on in this form; the connection goes on.
    pub fn passes(mut self, line: &str, fields: &[&str], body: impl Into<Vec<u8>>) -> Self {
        if self.passed.is_empty() {
            self.answers.clear();
        }
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        self.passed.push(Request { line: format!("{line} HTTP/1.1"), fields, body: body.into() });
        self.answers.push(200);
        Self { closes: false, ..self }
    }

    /// The client is told to go on first.
    pub fn continues(mut self) -> Self {
        self.answers.insert(0, 100);
        self
    }

    /// Another answer follows.
    pub fn then(mut self, status: u16) -> Self {
        self.answers.push(status);
        self
    }

    /// The connection ends after it.
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

/// A path that takes a slot.
pub const INFILL: &str = "POST /infill";

/// `POST`, with these header lines and this body as they are.
pub fn post(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [format!("{INFILL} HTTP/1.1\r\nHost: g\r\n{fields}\r\n").as_bytes(), body.as_ref()].concat()
}

/// `GET` of a path that needs a live server, with these header lines as they are.
pub fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: g\r\n{fields}\r\n").into_bytes()
}
