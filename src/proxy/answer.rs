//! The answer's body on its way to the client. The permit lives here: the lease ends at the last byte, on an error, or
//! when the client goes away and hyper drops the body.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::account::Account;
use super::classify::Dialect;
use super::error::error_event;
use super::keepalive::Held;
use super::sse::Tail;
use super::upstream::{Connection, Connections};
use crate::core::AgentKey;
use crate::gate::Permit;
use crate::metrics::{Outcome, UpstreamError};

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

    /// A server's answer: its request ends with it.
    pub(super) fn carry(&mut self, mut account: Account) {
        match self {
            Self::Passing(passing) if !passing.is_over() => passing.account = Some(account),
            Self::Passing(_) | Self::Whole(_) | Self::Held(_) => {
                if let Self::Whole(Some(bytes)) = self {
                    account.passed(bytes);
                }
                account.first_byte();
                account.end(Outcome::Served);
            }
        }
    }

    /// The client has been given all that it gets of it: what is left is not read.
    pub(super) fn is_enough(&mut self) {
        if let Self::Passing(passing) = self
            && let Some(account) = passing.account.take()
        {
            account.end(Outcome::Served);
        }
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
    /// The next that the client gets.
    cut: Option<Cut>,
    account: Option<Account>,
    /// Whether a part of the body has come.
    has_begun: bool,
}

/// An event stream, and how far it has come.
struct EventStream {
    dialect: Dialect,
    tail: Tail,
}

impl EventStream {
    /// The error as an event of its own, behind whatever the stream broke off in.
    fn last_words(&self, message: &str) -> Bytes {
        [self.tail.gap().as_bytes(), &error_event(self.dialect, message)].concat().into()
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
        let stream = stream.map(|dialect| EventStream { dialect, tail: Tail::default() });
        let mut passing = Self {
            incoming: Some(incoming),
            connection: Some(connection),
            permit,
            connections,
            agent,
            stream,
            cut: None,
            account: None,
            has_begun: false,
        };
        // An answer without a body has seen its last byte already.
        if passing.incoming.as_ref().is_some_and(Incoming::is_end_stream) {
            passing.finish();
        }
        passing
    }

    fn is_over(&self) -> bool {
        self.incoming.is_none() && self.cut.is_none()
    }

    /// The last byte was seen: the slot is free at once, and the connection good for another request.
    fn finish(&mut self) {
        self.incoming = None;
        if let Some(account) = self.account.take() {
            account.end(Outcome::Served);
        }
        if let Some(permit) = self.permit.take() {
            permit.finish();
        }
        if let Some(connection) = self.connection.take() {
            self.connections.put(self.agent, connection);
        }
    }

    /// The answer broke off. An event stream ends with an error event, anything else with its connection.
    ///
    /// What came before is let out first: hyper drops what it has not written when a body fails.
    fn cut(&mut self, why: String, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.incoming = None;
        self.connection = None;
        self.permit = None;
        self.connections.meter.failed(UpstreamError::Broken);
        if let Some(account) = self.account.take() {
            account.end(Outcome::Broken);
        }
        let Some(stream) = &self.stream else {
            self.cut = Some(Cut(why));
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        let message = format!("the server's answer broke off: {why}");
        Poll::Ready(Some(Ok(Frame::data(stream.last_words(&message)))))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(cut) = self.cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        let (Some(incoming), Some(connection)) = (&mut self.incoming, &mut self.connection) else {
            return Poll::Ready(None);
        };
        match connection.poll_frame(incoming, context) {
            Poll::Ready(Some(Ok(frame))) => {
                // Behind trailers nothing comes, and hyper does not ask.
                let is_last = incoming.is_end_stream() || frame.is_trailers();
                if let Some(account) = &mut self.account {
                    if !self.has_begun {
                        account.first_byte();
                    }
                    frame.data_ref().into_iter().for_each(|data| account.passed(data));
                }
                self.has_begun = true;
                if let (Some(stream), Some(data)) = (&mut self.stream, frame.data_ref()) {
                    stream.tail.saw(data);
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
            Poll::Ready(Some(Err(error))) => self.cut(in_words(&error), context),
            Poll::Pending => match self.permit.as_ref().map(|permit| permit.poll_lost(context)) {
                Some(Poll::Ready(())) => self.cut("its instance is gone".to_owned(), context),
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
