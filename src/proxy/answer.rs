//! The answer's body on its way to the client. The permit lives here: the lease ends at the last byte, on an error, or
//! when the client goes away and hyper drops the body.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::classify::Dialect;
use super::error::error_event;
use super::keepalive::Held;
use super::upstream::{Connection, Connections};
use crate::core::AgentKey;
use crate::gate::Permit;

/// What the gateway answers with.
pub(super) enum Body {
    /// From memory.
    Whole(Option<Bytes>),
    /// A server's answer, passed on as it comes.
    Passing(Box<Passing>),
    /// A server's answer of which nothing came yet, and bytes that keep its client waiting until then.
    Held(Box<Held>),
}

impl Body {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        match this {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passing) => passing.poll_frame(context),
            Self::Held(held) => {
                let frame = held.poll_frame(context);
                if let Some(begun) = held.take_begun() {
                    *this = begun;
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Passing(passing) => passing.is_over(),
            Self::Held(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Passing(passing) => {
                passing.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
            }
            Self::Held(_) => SizeHint::default(),
        }
    }
}

/// The server's answer broke off, so the client's connection must too.
#[derive(Debug, thiserror::Error)]
#[error("the server's answer broke off: {0}")]
pub(super) struct Cut(String);

/// A server's answer that runs.
pub(super) struct Passing {
    /// None once it is over.
    incoming: Option<Incoming>,
    connection: Option<Connection>,
    /// None for what takes no lease.
    permit: Option<Permit>,
    connections: Rc<Connections>,
    agent: AgentKey,
    /// For an event stream: in whose words its breaking off is told.
    stream: Option<EventStream>,
}

/// How far an event stream has come: whether a new event may begin.
struct EventStream {
    dialect: Dialect,
    /// How many newlines the stream ended with, 2 at most.
    newlines: u8,
}

impl EventStream {
    fn saw(&mut self, data: &[u8]) {
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

    /// The error as an event of its own, behind whatever the stream broke off in.
    fn last_words(&self, message: &str) -> Bytes {
        let event = error_event(self.dialect, message);
        if self.newlines == 2 {
            return event;
        }
        let missing = if self.newlines == 1 { "\n" } else { "\n\n" };
        [missing.as_bytes(), &event].concat().into()
    }
}

impl Passing {
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        permit: Option<Permit>,
        connections: Rc<Connections>,
        agent: AgentKey,
        stream: Option<Dialect>,
    ) -> Self {
        let stream = stream.map(|dialect| EventStream { dialect, newlines: 2 });
        let mut passing = Self {
            incoming: Some(incoming),
            connection: Some(connection),
            permit,
            connections,
            agent,
            stream,
        };
        // An answer without a body has seen its last byte already.
        if passing.incoming.as_ref().is_some_and(Incoming::is_end_stream) {
            passing.finish();
        }
        passing
    }

    fn is_over(&self) -> bool {
        self.incoming.is_none()
    }

    /// The last byte was seen: the slot is free at once, and the connection good for another request.
    fn finish(&mut self) {
        self.incoming = None;
        if let Some(permit) = self.permit.take() {
            permit.finish();
        }
        if let Some(connection) = self.connection.take() {
            self.connections.put(self.agent, connection);
        }
    }

    /// The answer broke off. An event stream ends with an error event, anything else with its connection.
    fn cut(&mut self, why: String) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.incoming = None;
        self.connection = None;
        self.permit = None;
        let Some(stream) = &self.stream else { return Poll::Ready(Some(Err(Cut(why)))) };
        let message = format!("the server's answer broke off: {why}");
        Poll::Ready(Some(Ok(Frame::data(stream.last_words(&message)))))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let (Some(incoming), Some(connection)) = (&mut self.incoming, &mut self.connection) else {
            return Poll::Ready(None);
        };
        match connection.poll_frame(incoming, context) {
            Poll::Ready(Some(Ok(frame))) => {
                // Behind trailers nothing comes, and hyper does not ask.
                let is_last = incoming.is_end_stream() || frame.is_trailers();
                if let (Some(stream), Some(data)) = (&mut self.stream, frame.data_ref()) {
                    stream.saw(data);
                }
                if is_last {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => self.cut(in_words(&error)),
            Poll::Pending => match self.permit.as_ref().map(|permit| permit.poll_lost(context)) {
                Some(Poll::Ready(())) => self.cut("its instance is gone".to_owned()),
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }
}

/// What lies at the bottom of hyper's error.
pub(super) fn in_words(error: &hyper::Error) -> String {
    let mut bottom: &dyn std::error::Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(parts: &[&str]) -> String {
        let mut stream = EventStream { dialect: Dialect::OpenAi, newlines: 2 };
        for part in parts {
            stream.saw(part.as_bytes());
        }
        let words = stream.last_words("gone");
        let words = String::from_utf8(words.to_vec()).unwrap();
        words[..words.find("data:").unwrap()].to_owned()
    }

    #[test]
    fn an_error_event_begins_on_a_line_of_its_own() {
        assert_eq!(after(&[]), "");
        assert_eq!(after(&["data: 1\n\n"]), "");
        assert_eq!(after(&["data: 1\n", "\n"]), "");
        assert_eq!(after(&["data: 1\r\n\r\n"]), "");
        assert_eq!(after(&["data: 1\n"]), "\n");
        assert_eq!(after(&["data: 1\n\n", "data: {\"cho"]), "\n\n");
        assert_eq!(after(&["data: 1\n\n", ""]), "");
    }
}
