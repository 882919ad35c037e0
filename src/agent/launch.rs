//! Completes the lifecycle hook that holds this instance while it is launched.
//!
//! A warm pool prepares instances and stops them, in the end, in the midst of whatever they do; a launching hook holds each
//! until somebody says that it is prepared. The same hook holds it again when it leaves the pool, and each instance
//! that is launched past the pool. (EC2 Auto Scaling User Guide, "Use lifecycle hooks with a warm pool in Auto Scaling group")

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::group::{Group, Launch};
use super::machine::{Machine, Target};
use super::report::Observation;
use crate::protocol::Phase;

/// The pause after the first attempt that came to nothing.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// No hook holds an instance for more than 2 h without a heartbeat (EC2 Auto Scaling API, PutLifecycleHook): then its own
/// default result has decided.
const ATTEMPTS_MAX: u32 = 2 * 60 * 60 / 30;

/// What [`complete`] looks at.
pub(super) struct Watched {
    /// How the server was found.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What the machine says.
    pub machine: watch::Receiver<Machine>,
    /// What the fleet calls the machine; none to take what the machine says.
    pub instance_id: Option<String>,
}

/// Completes the hook whenever it is due: once for each target that the machine is told, since an instance of a warm pool that
/// goes on to run, or hibernates, leaves the pool under the same agent. Runs until it is dropped.
pub(super) async fn complete(hook: String, watched: Watched) {
    whenever_due(watched, |instance, group, target| attempt(hook.clone(), instance, group, target)).await;
}

async fn whenever_due<A: Future<Output = ()>>(
    mut watched: Watched,
    attempt: impl Fn(String, Option<String>, Target) -> A,
) {
    let mut done = None;
    loop {
        let machine = watched.machine.borrow_and_update().clone();
        let is_ready = watched.observations.borrow_and_update().as_deref().is_some_and(is_ready);
        let facts = machine.facts;
        // What is wanted elsewhere may be wanted here again, and is held again then.
        done = done.filter(|done| machine.target == Some(*done));
        let instance = watched.instance_id.clone().or(facts.instance_id);
        if let (Some(target), Some(instance)) = (machine.target, instance)
            && done != Some(target)
            && is_due(target, is_ready)
        {
            let mut told = watched.machine.clone();
            tokio::select! {
                () = attempt(instance, facts.group, target) => done = Some(target),
                // Its sender goes with this task.
                Ok(_) = told.wait_for(|machine| machine.target != Some(target)) => {}
            }
            continue;
        }
        tokio::select! {
            Ok(()) = watched.observations.changed() => {}
            Ok(()) = watched.machine.changed() => {}
        }
    }
}

/// What goes into service is needed at once: its llama.cpp may load while the group counts it in, and the balancer waits for
/// the agent's word anyway. What goes into the pool has to be worth its place there.
fn is_due(target: Target, is_ready: bool) -> bool {
    match target {
        Target::InService => true,
        Target::Warmed => is_ready,
    }
}

fn is_ready(latest: &Observation) -> bool {
    latest.status.phase == Some(Phase::Ready) && !latest.status.slots.is_empty()
}

/// Tries until nothing is left to complete.
async fn attempt(hook: String, instance: String, named: Option<String>, target: Target) {
    let group = Group::from_environment().await;
    let mut pause = RETRY_PAUSE_MIN;
    let mut told = String::new();
    for _ in 0..ATTEMPTS_MAX {
        match group.complete_launch(&instance, named.as_deref(), &hook, target).await {
            Ok(Launch::Completed) => return info!(instance, hook, "completed the launching hook"),
            Ok(Launch::NotHeld) => return debug!(instance, hook, "the launching hook holds nothing"),
            Ok(Launch::NotYet) => {}
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    warn!(instance, hook, "cannot complete the launching hook: {error}; trying again");
                    told = error;
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
    warn!(instance, hook, "the launching hook was not completed in two hours: its default result decides");
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;

    use super::*;
    use crate::agent::machine::Facts;

    /// It comes back to the pool without being prepared again, and leaves it once more.
    #[tokio::test(start_paused = true)]
    async fn each_way_into_service_is_let_go_on() {
        let (_server, observations) = watch::channel(None);
        let facts = Facts { instance_id: Some("i-1".to_owned()), ..Facts::default() };
        let (told, machine) = watch::channel(Machine { facts, ..Machine::default() });
        let (sender, mut attempts) = unbounded_channel();
        let completing =
            whenever_due(Watched { observations, machine, instance_id: None }, |_, _, target| {
                sender.send(target).unwrap();
                std::future::ready(())
            });
        let wanting = async {
            for target in [Target::InService, Target::Warmed, Target::InService] {
                told.send_modify(|machine| machine.target = Some(target));
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = wanting => {}
            () = completing => {}
        }
        for _ in 0..2 {
            assert_eq!(timeout(Duration::ZERO, attempts.recv()).await, Ok(Some(Target::InService)));
        }
        assert!(attempts.is_empty());
    }

    #[test]
    fn what_is_prepared_waits_for_its_server_and_what_is_needed_does_not() {
        assert!(is_due(Target::InService, false) && is_due(Target::InService, true));
        assert!(!is_due(Target::Warmed, false) && is_due(Target::Warmed, true));
    }
}
