//! The body of an answer that began before there was one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::answer::Cut;
use super::super::classify::Dialect;
use super::{Form, Keepalive, Rest, Teller, words};

/// Sends bytes until the answer begins, then the answer. The request's permit, or its place in the queue, lives in here.
pub(in crate::proxy) struct Held {
    state: State,
    keepalive: Keepalive,
    teller: Option<Teller>,
    /// Due at once, and then again and again. A client that does not read is not sent what it missed.
    due: Interval,
}

enum State {
    Waits(Pin<Box<dyn Future<Output = Rest>>>),
    Answers(Rest),
}

impl Held {
    pub(super) fn new(
        rest: Pin<Box<dyn Future<Output = Rest>>>,
        keepalive: Keepalive,
        teller: Option<Teller>,
    ) -> Self {
        let mut due = interval(keepalive.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { state: State::Waits(rest), keepalive, teller, due }
    }

    pub(in crate::proxy) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            match &mut self.state {
                State::Waits(rest) => match rest.as_mut().poll(context) {
                    Poll::Ready(rest) => self.state = State::Answers(rest),
                    Poll::Pending => {
                        ready!(self.due.poll_tick(context));
                        return Poll::Ready(Some(Ok(Frame::data(self.bytes()))));
                    }
                },
                State::Answers(Rest { first, then }) => {
                    return match first.take() {
                        Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                        None => Pin::new(then).poll_frame(context),
                    };
                }
            }
        }
    }

    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Waits(_) => false,
            State::Answers(Rest { first, then }) => first.is_none() && then.is_end_stream(),
        }
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
