//! What a request is counted as, and what is logged of it: once, however it ends.

mod client;
mod line;
mod tokens;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use self::line::Line;
use super::classify::Dialect;
use super::error::Refusal;
use super::trace::Trace;
use crate::clock::Clock;
use crate::core::{AttemptFailure, Mono};
use crate::gate::{Gate, Upstream};
use crate::metrics::{Instruments, Outcome, UpstreamError};

/// Where one worker counts.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    /// Whether requests are logged.
    pub(super) logs: bool,
}

impl Meter {
    fn instruments(&self) -> &Instruments {
        self.gate.instruments()
    }

    /// Whether anything is to be known of requests but their number.
    fn logs(&self) -> bool {
        self.logs && line::is_wanted()
    }

    /// A request's head has come.
    pub(super) fn begin(self: &Rc<Self>) -> Account {
        Account {
            meter: self.clone(),
            began: self.clock.mono(),
            queue_wait: None,
            is_wait_counted: false,
            outcome: Outcome::Cancelled,
            line: None,
        }
    }

    /// What never became a request.
    pub(super) fn refused(&self, client: IpAddr, status: StatusCode, outcome: Outcome) {
        self.instruments().requests.of(outcome).inc();
        if self.logs() {
            line::refused(client.to_canonical(), status, outcome);
        }
    }

    /// A server failed a request.
    pub(super) fn failed(&self, kind: UpstreamError) {
        self.instruments().upstream_errors.of(kind).inc();
    }

    /// The same before its answer began. That a machine is about to end is no failure.
    pub(super) fn attempt_failed(&self, kind: AttemptFailure) {
        match kind {
            AttemptFailure::CouldNotConnect => self.failed(UpstreamError::CouldNotConnect),
            AttemptFailure::NotReady => self.failed(UpstreamError::NotReady),
            AttemptFailure::Died => self.failed(UpstreamError::Died),
            AttemptFailure::Recalled => {}
        }
    }
}

/// One request. Dropped before anybody said how it ended, its client went away.
#[derive(Debug)]
pub(super) struct Account {
    meter: Rc<Meter>,
    began: Mono,
    /// How long it waited for its slots in all. Only such requests are timed: others neither wait nor compute.
    queue_wait: Option<Duration>,
    is_wait_counted: bool,
    outcome: Outcome,
    /// None where nobody wants it.
    line: Option<Box<Line>>,
}

impl Account {
    /// Who asks for what. `trusts` tells a proxy that is believed about its clients.
    pub(super) fn head(
        &mut self,
        parts: &Parts,
        id: &HeaderValue,
        trace: Trace,
        (peer, trusts): (IpAddr, impl Fn(IpAddr) -> bool),
    ) {
        if self.meter.logs() {
            let client = client::believed(peer, &parts.headers, trusts);
            self.line = Some(Box::new(Line::new(parts, id.clone(), trace, client)));
        }
    }

    /// On whose account it is, by the name of its key.
    pub(super) fn tenant(&mut self, name: impl FnOnce() -> Option<Arc<str>>) {
        if let Some(line) = &mut self.line {
            line.tenant = name();
        }
    }

    /// Its body was read.
    pub(super) fn body(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.request_bytes = bytes as u64;
        }
    }

    /// Told once the client was sent the head of an answer that is still to come.
    pub(super) fn was_begun(&self) -> Option<Rc<Cell<bool>>> {
        self.line.as_ref().map(|line| line.was_begun.clone())
    }

    /// It waited so long for a slot: for its first, or for the next after an attempt that failed.
    pub(super) fn waited(&mut self, span: Duration) {
        self.queue_wait = Some(self.queue_wait.unwrap_or_default() + span);
    }

    /// It waits no more. Told again, nothing is counted.
    pub(super) fn count_wait(&mut self) {
        if let Some(wait) = self.queue_wait
            && !std::mem::replace(&mut self.is_wait_counted, true)
        {
            self.meter.instruments().queue_wait.observe(wait);
        }
    }

    /// It is sent to a server.
    pub(super) fn attempt(&mut self, by: &Arc<Upstream>, is_cold_start: Option<bool>) {
        if let Some(line) = &mut self.line {
            line.attempts += 1;
            line.by = Some(by.clone());
            line.is_cold_start = is_cold_start;
        }
    }

    /// An answer's head is there.
    pub(super) fn answers(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(line) = &mut self.line {
            line.answers(status, headers);
        }
    }

    /// The answer's first byte has come.
    pub(super) fn first_byte(&mut self) {
        if self.queue_wait.is_some() {
            let age = self.age();
            self.meter.instruments().time_to_first_byte.observe(age);
            if let Some(line) = &mut self.line {
                line.first_byte = Some(age);
            }
        }
    }

    /// A part of the answer's body passes.
    pub(super) fn passed(&mut self, data: &[u8]) {
        if let Some(line) = &mut self.line {
            line.passed(data);
        }
    }

    /// So long is the body of an answer that the gateway gives.
    pub(super) fn sized(&mut self, bytes: u64) {
        if let Some(line) = &mut self.line {
            line.sized(bytes);
        }
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// It ends with a refusal.
    pub(super) fn refuse(mut self, refusal: &Refusal, dialect: Dialect) {
        if let Some(line) = &mut self.line
            && !line.was_begun.get()
        {
            let response = refusal.clone().into_response(dialect);
            line.answers(response.status(), response.headers());
            line.sized(response.body().len() as u64);
        }
        self.end(refusal.outcome());
    }

    fn age(&self) -> Duration {
        self.meter.clock.mono().since(self.began)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.count_wait();
        let instruments = self.meter.instruments();
        if self.queue_wait.is_some() && self.outcome == Outcome::Served {
            instruments.request_duration.observe(self.age());
        }
        // Last: whoever sees that it is counted sees the rest of it as well.
        instruments.requests.of(self.outcome).inc();
        if let Some(line) = &self.line {
            line.write(self.outcome, self.queue_wait, self.age());
        }
    }
}
