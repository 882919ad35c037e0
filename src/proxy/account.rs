//! What a request is counted as: it is counted once, however it ends.

use std::rc::Rc;

use crate::clock::Clock;
use crate::core::{AttemptFailure, Mono};
use crate::gate::Gate;
use crate::metrics::{Instruments, Outcome, UpstreamError};

/// Where one worker counts.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) gate: Gate,
    pub(super) clock: Clock,
}

impl Meter {
    fn instruments(&self) -> &Instruments {
        self.gate.instruments()
    }

    /// A request's head has come.
    pub(super) fn begin(self: &Rc<Self>) -> Account {
        Account {
            meter: self.clone(),
            began: self.clock.mono(),
            has_slot: false,
            outcome: Outcome::Cancelled,
        }
    }

    /// What never became a request.
    pub(super) fn refused(&self, outcome: Outcome) {
        self.instruments().requests.of(outcome).inc();
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
    /// Only such requests are timed: others neither wait nor compute.
    has_slot: bool,
    outcome: Outcome,
}

impl Account {
    /// It waited so long for its slot.
    pub(super) fn granted(&mut self, asked: Mono, granted: Mono) {
        self.has_slot = true;
        self.meter.instruments().queue_wait.observe(granted.since(asked));
    }

    /// The answer's first byte has come.
    pub(super) fn first_byte(&self) {
        if self.has_slot {
            self.meter.instruments().time_to_first_byte.observe(self.age());
        }
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn age(&self) -> std::time::Duration {
        self.meter.clock.mono().since(self.began)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let instruments = self.meter.instruments();
        instruments.requests.of(self.outcome).inc();
        if self.has_slot && self.outcome == Outcome::Served {
            instruments.request_duration.observe(self.age());
        }
    }
}
