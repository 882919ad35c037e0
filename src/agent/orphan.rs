//! Ends the agent's own instance when no balancer is left that could.
//!
//! The decision is [`Vigil`]'s alone, and knows no clock; [`keep`] feeds it, and [`Group`] talks to Auto Scaling.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::group::Group;
use super::machine::Machine;
use super::report::Observation;
use crate::clock::Clock;
use crate::core::Mono;

/// The pause after the first attempt that failed.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(10);

/// The longest pause. All agents of a fleet become orphans together, and share one throttle: each calls rarely.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// What [`keep`] looks at.
pub(super) struct Watched {
    /// How many balancers have accepted this agent's reports.
    pub registered: watch::Receiver<u32>,
    /// How the server was found.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What the machine says; told when the agent begins to end it.
    pub machine: watch::Sender<Machine>,
    /// What the fleet calls the machine; none to take what the machine says.
    pub instance_id: Option<String>,
}

/// Ends the instance once it has been an orphan for `timeout`. Returns when that is done, or was done by others.
pub(super) async fn keep(timeout: Duration, mut watched: Watched, clock: Clock) {
    let mut vigil = Vigil::new(timeout, clock.mono());
    let mut machine = watched.machine.subscribe();
    loop {
        let latest = watched.observations.borrow_and_update().clone();
        let latest = latest.as_deref();
        let seen = Seen {
            is_registered: *watched.registered.borrow_and_update() > 0,
            is_busy: latest.is_some_and(|latest| latest.status.processing_slots_count > 0),
            is_ended_by_aws: machine.borrow_and_update().ending.is_some_and(|ending| ending.is_certain()),
            sampled: latest.map(|latest| latest.sampled),
        };
        let wake = match vigil.look(seen, clock.mono()) {
            Verdict::Until(wake) => wake,
            Verdict::End => {
                if end(&watched, timeout).await {
                    return;
                }
                vigil.failed(clock.mono(), fastrand::f64());
                continue;
            }
        };
        let timer = async {
            match wake {
                Some(at) => sleep_until(clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        // None of the senders goes before this task does.
        tokio::select! {
            () = timer => {}
            Ok(()) = watched.registered.changed() => {}
            Ok(()) = watched.observations.changed() => {}
            Ok(()) = machine.changed() => {}
        }
    }
}

/// Whether the instance will end. From before the call on the agent reports that it drains: a balancer that comes back
/// now must not send anything here.
async fn end(watched: &Watched, timeout: Duration) -> bool {
    let told = watched.machine.borrow().facts.instance_id.clone();
    let Some(instance) = watched.instance_id.clone().or(told) else {
        warn!(
            "an orphan for --orphan-timeout, but the EC2 metadata does not tell the instance id; trying again"
        );
        return false;
    };
    warn!(instance, timeout = %humantime::format_duration(timeout), "no balancer and no work: ending this instance");
    watched.machine.send_modify(|machine| machine.is_orphan = true);
    let group = Group::from_environment().await;
    match group.end(&instance).await {
        Ok(()) => {
            info!(instance, "the group ends this instance");
            group.let_go(&instance).await;
            true
        }
        Err(error) => {
            watched.machine.send_modify(|machine| machine.is_orphan = false);
            warn!(instance, "cannot end this instance: {error}; trying again");
            false
        }
    }
}

/// What is seen in a moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_registered: bool,
    is_busy: bool,
    is_ended_by_aws: bool,
    /// When the server was last looked at.
    sampled: Option<Mono>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Look again when something changes, and at this moment if there is one.
    Until(Option<Mono>),
    /// End the instance.
    End,
}

/// For how long nobody has had use for the instance.
#[derive(Debug)]
struct Vigil {
    timeout: Duration,
    had_company: bool,
    alone_since: Mono,
    retry_at: Mono,
    retry_pause: Duration,
}

impl Vigil {
    fn new(timeout: Duration, now: Mono) -> Self {
        Self { timeout, had_company: false, alone_since: now, retry_at: now, retry_pause: RETRY_PAUSE_MIN }
    }

    /// 1. While any balancer accepts the reports, or a slot computes for whomever, the instance is in use. The time counts
    ///    from the end of that, whichever was the last; before that, from the agent's start.
    /// 2. A server that starts, loads, fails or does not answer is not in use: no report of a busy slot, no use. A server
    ///    that computes says so in `/slots` within seconds, and the time begins again; one that has said nothing for all
    ///    of the time hangs, or never came up, and costs as much as one that serves.
    /// 3. What AWS ends already is left to it. A rebalance recommendation ends nothing by itself: it does not count.
    /// 4. The time is up `timeout` after the last use, and not before the pause after a failed attempt.
    /// 5. Even then the server must have been looked at after that: with a long `--monitoring-interval` it may have become
    ///    busy since.
    fn look(&mut self, seen: Seen, now: Mono) -> Verdict {
        let has_company = seen.is_registered || seen.is_busy;
        if has_company || self.had_company {
            *self = Self { had_company: has_company, ..Self::new(self.timeout, now) };
        }
        if has_company || seen.is_ended_by_aws {
            return Verdict::Until(None);
        }
        let due = self.retry_at.max(self.alone_since + self.timeout);
        if now < due {
            return Verdict::Until(Some(due));
        }
        if seen.sampled.is_some_and(|sampled| sampled >= due) { Verdict::End } else { Verdict::Until(None) }
    }

    /// The next attempt comes after a pause that doubles, and of which `part` (0 to 1) chooses the latter half: agents that
    /// were left together do not call together.
    fn failed(&mut self, now: Mono, part: f64) {
        self.retry_at = now + self.retry_pause.mul_f64(0.5 + part / 2.0);
        self.retry_pause = (self.retry_pause * 2).min(RETRY_PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests;
