//! The body of an answer whose first byte is still to come.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Sleep, sleep};

use super::super::answer::{Body, Cut};
use super::super::classify::Dialect;
use super::{Form, Keepalive, Rest, Teller, words};

/// Sends bytes until the server's first one, then gives way to its answer. The request's permit, or its place in the
/// queue, lives in here.
pub(in crate::proxy) struct Held {
    state: State,
    keepalive: Keepalive,
    teller: Option<Teller>,
    /// Set anew when bytes were sent: a client that does not read is not sent what it missed.
    due: Pin<Box<Sleep>>,
    is_due: bool,
}

enum State {
    /// There is no answer yet.
    Waits(Pin<Box<dyn Future<Output = Rest>>>),
    /// There is one, and nothing of its body came. llama.cpp sends the head of a stream before it computes the prompt.
    Begins(Rest),
    Begun(Body),
}

impl Held {
    /// The first bytes are due.
    pub(super) fn waiting(
        rest: Pin<Box<dyn Future<Output = Rest>>>,
        keepalive: Keepalive,
        teller: Option<Teller>,
        due: Pin<Box<Sleep>>,
    ) -> Self {
        Self { state: State::Waits(rest), keepalive, teller, due, is_due: true }
    }

    /// The head went to the client in time; the first bytes are due then.
    pub(super) fn beginning(
        body: Body,
        keepalive: Keepalive,
        teller: Option<Teller>,
        due: Pin<Box<Sleep>>,
    ) -> Self {
        let state = State::Begins(Rest { first: None, then: body });
        Self { state, keepalive, teller, due, is_due: false }
    }

    #[cfg(test)]
    pub(super) fn wait_for(&mut self, rest: Pin<Box<dyn Future<Output = Rest>>>) {
        self.state = State::Waits(rest);
    }

    /// The answer, once it has begun: from then on there is nothing to do here.
    pub(in crate::proxy) fn take_begun(&mut self) -> Option<Body> {
        match &mut self.state {
            State::Begun(body) => Some(mem::replace(body, Body::Whole(None))),
            State::Waits(_) | State::Begins(_) => None,
        }
    }

    pub(in crate::proxy) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let State::Waits(rest) = &mut self.state
            && let Poll::Ready(rest) = rest.as_mut().poll(context)
        {
            self.state = State::Begins(rest);
        }
        let frame = match &mut self.state {
            State::Waits(_) => None,
            State::Begins(Rest { first, then }) => match first.take() {
                Some(first) => {
                    if then.is_end_stream() {
                        self.begin();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                None => Some(Pin::new(then).poll_frame(context)),
            },
            State::Begun(body) => return Pin::new(body).poll_frame(context),
        };
        match frame {
            Some(Poll::Ready(frame)) => {
                self.begin();
                Poll::Ready(frame)
            }
            Some(Poll::Pending) | None => self.poll_due(context).map(|bytes| Some(Ok(Frame::data(bytes)))),
        }
    }

    fn begin(&mut self) {
        if let State::Begins(Rest { then, .. }) = &mut self.state {
            self.state = State::Begun(mem::replace(then, Body::Whole(None)));
        }
    }

    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        if !mem::take(&mut self.is_due) {
            ready!(self.due.as_mut().poll(context));
        }
        self.due.set(sleep(self.keepalive.interval));
        Poll::Ready(self.bytes())
    }

    /// What the client passes over: one comment line between events, which is no event of its own; the event that
    /// Anthropic's clients wait for; a blank before the JSON.
    fn bytes(&self) -> Bytes {
        if self.keepalive.form == Form::Json {
            return Bytes::from_static(b" ");
        }
        let status = self.teller.as_ref().map(|teller| words::status(teller.gate.outlook(teller.request)));
        match (self.keepalive.dialect, status) {
            (Dialect::Anthropic, None) => Bytes::from_static(words::PING.as_bytes()),
            (Dialect::Anthropic, Some(status)) => format!("{status}{}", words::PING).into(),
            (Dialect::OpenAi | Dialect::LlamaCpp | Dialect::Responses, None) => Bytes::from_static(b":\n"),
            (Dialect::OpenAi | Dialect::LlamaCpp | Dialect::Responses, Some(status)) => status.into(),
        }
    }
}
