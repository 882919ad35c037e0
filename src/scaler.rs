//! Carries out the plan, and tells the core what came of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::core::snapshot::{Drain, Snapshot};
use crate::core::{Action, Core, Event, GroupId, InstanceId, Mono, OperationId, PoolId};
use crate::fleet::{Fleet, FleetError, FleetNews, TERMINATE_GRACE};
use crate::gate::{Gate, Registration};
use crate::metrics::WakeResult;
use crate::protocol::StatusUpdate;

/// After this time nobody knows what became of an operation. A wake may wait for the place of a child that is being
/// terminated, so it is longer than that takes, twice over.
const OPERATION_TIMEOUT: Duration = TERMINATE_GRACE.saturating_mul(3);

/// Asks for the plan whenever it may have changed, and starts what it says, until cancelled.
///
/// Each action runs in a task of its own. They are bounded by the plan: for each pool one wake and one look at the fleet,
/// and for each instance one end.
pub async fn run(gate: Gate, fleet: Arc<Fleet>, clock: Clock, cancel: CancellationToken) {
    let mut operations = JoinSet::new();
    loop {
        let (started, wait) = gate.start_plan();
        for (operation, action) in started {
            let words = words(&action, &fleet);
            match action {
                // Routine, every few seconds.
                Action::Describe { .. } | Action::ExtendLifecycle { .. } => {
                    tracing::debug!(%operation, "{words}");
                }
                Action::Wake { .. }
                | Action::Withdraw { .. }
                | Action::Terminate { .. }
                | Action::CompleteLifecycle { .. } => {
                    tracing::info!(%operation, reason = reason(&action, &gate.snapshot().0), "{words}");
                }
            }
            let is_wake = matches!(action, Action::Wake { .. });
            let open = Open { gate: gate.clone(), operation, is_wake, is_over: false };
            operations.spawn(carry_out(open, action, fleet.clone()));
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = gate.plan_changed() => {}
            () = due(wait, clock) => {}
            Some(_) = operations.join_next() => {}
        }
    }
}

/// Tells the core and the registry of agents what the fleet tells, until the fleet is gone.
///
/// A process has no connection that could be lost: each of its lives registers once.
pub async fn forward_news(mut news: UnboundedReceiver<FleetNews>, pool: PoolId, gate: Gate) {
    let mut agents: BTreeMap<InstanceId, Agent> = BTreeMap::new();
    while let Some(news) = news.recv().await {
        match news {
            FleetNews::Observed { began, groups, instances } => {
                gate.handle(Event::FleetObserved { pool, began, groups, instances });
            }
            FleetNews::LaunchFailed { group, kind, cause } => {
                tracing::warn!(cause = &*cause, "a launch came to nothing");
                gate.handle(Event::LaunchFailed { pool, group, kind, cause });
            }
            FleetNews::Reported { instance, boot, status } => {
                let agent = match agents.get(&instance).copied() {
                    Some(agent) if agent.boot == boot => agent,
                    former => {
                        if let Some(former) = former {
                            gate.disconnected(former.registration);
                        }
                        let registration = gate.register(&instance.0, Some(&boot.to_string()));
                        let agent = Agent { boot, registration };
                        agents.insert(instance.clone(), agent);
                        agent
                    }
                };
                report(&gate, agent.registration, &instance, status, pool);
            }
            FleetNews::AgentGone { instance } => {
                if let Some(agent) = agents.remove(&instance) {
                    gate.disconnected(agent.registration);
                }
            }
        }
    }
}

/// The agent of an instance, within this program.
#[derive(Debug, Clone, Copy)]
struct Agent {
    boot: u64,
    registration: Registration,
}

fn report(gate: &Gate, by: Registration, instance: &InstanceId, status: StatusUpdate, pool: PoolId) {
    match status.external_llamacpp_addr.parse::<SocketAddr>() {
        Ok(address) => gate.report(by, &instance.0, status.into_report(pool, address)),
        Err(error) => {
            let address = status.external_llamacpp_addr;
            tracing::error!(%instance, address, %error, "a fleet's agent named no address: please report this");
        }
    }
}

/// An operation that has no outcome yet. Dropped without one (by a timeout, a panic, or the end of the scaler), it is
/// unknown.
struct Open {
    gate: Gate,
    operation: OperationId,
    is_wake: bool,
    is_over: bool,
}

impl Open {
    fn close(mut self, outcome: Result<Done, FleetError>) {
        let operation = self.operation;
        let event = match outcome {
            Ok(Done { launched, wish }) => {
                self.count(WakeResult::Succeeded);
                Event::OperationSucceeded { operation, launched, wish }
            }
            Err(error) if error.may_be_done() => {
                tracing::warn!(%operation, %error, "the fleet may have done it");
                return;
            }
            Err(error) => {
                tracing::warn!(%operation, %error, "the fleet did not do it");
                self.count(WakeResult::Failed);
                Event::OperationFailed { operation, kind: error.failure(), cause: error.to_string().into() }
            }
        };
        self.is_over = true;
        self.gate.handle(event);
    }

    fn count(&self, result: WakeResult) {
        if self.is_wake {
            self.gate.instruments().wakes.of(result).inc();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_over {
            tracing::warn!(operation = %self.operation, "what became of it is unknown");
            self.count(WakeResult::Unknown);
            self.gate.handle(Event::OperationUnknown { operation: self.operation });
        }
    }
}

/// What an operation that succeeded brought.
#[derive(Debug, Default)]
struct Done {
    launched: Vec<InstanceId>,
    wish: Option<u32>,
}

async fn carry_out(open: Open, action: Action, fleet: Arc<Fleet>) {
    let done = |(): ()| Done::default();
    let outcome = timeout(OPERATION_TIMEOUT, async {
        match action {
            Action::Wake { group, instances, .. } => {
                let launched = fleet.wake(group, instances).await?;
                Ok(Done { launched, wish: None })
            }
            Action::Withdraw { group, .. } => {
                Ok(Done { launched: Vec::new(), wish: fleet.withdraw(group).await? })
            }
            Action::Terminate { instance, replace, .. } => {
                fleet.terminate(&instance, replace).await.map(done)
            }
            Action::CompleteLifecycle { group, instance, .. } => {
                fleet.complete_lifecycle(group, &instance).await.map(done)
            }
            Action::ExtendLifecycle { group, instance, .. } => {
                fleet.extend_lifecycle(group, &instance).await.map(done)
            }
            // The answer is in the news.
            Action::Describe { .. } => fleet.observe().await.map(done),
        }
    });
    if let Ok(outcome) = outcome.await {
        open.close(outcome);
    }
}

async fn due(wait: Option<Mono>, clock: Clock) {
    match wait {
        Some(at) => sleep_until(clock.instant(at)).await,
        None => std::future::pending().await,
    }
}

fn words(action: &Action, fleet: &Fleet) -> String {
    let of = |group: &GroupId| fleet.group_name(*group).map(|name| format!(" in {name}")).unwrap_or_default();
    match action {
        Action::Wake { group, instances: 1, .. } => format!("let there be 1 server{}", of(group)),
        Action::Wake { group, instances, .. } => format!("let there be {instances} servers{}", of(group)),
        Action::Withdraw { group, .. } => format!("take back the wish for more servers{}", of(group)),
        Action::Terminate { instance, replace: false, .. } => format!("end {instance}"),
        Action::Terminate { instance, replace: true, .. } => format!("replace {instance}"),
        Action::CompleteLifecycle { instance, .. } => format!("let the end of {instance} go on"),
        Action::ExtendLifecycle { instance, .. } => format!("hold the end of {instance} for longer"),
        Action::Describe { .. } => "look at the fleet".to_owned(),
    }
}

/// Why the plan says so.
fn reason(action: &Action, state: &Snapshot) -> String {
    let pool = state.pools.iter().find(|pool| pool.pool == action.pool());
    match action {
        Action::Wake { .. } => Core::wake_reason(pool.map_or(0, |pool| pool.requests_buffered)),
        Action::Withdraw { group, .. } => {
            let group = pool.and_then(|pool| pool.groups.iter().find(|known| known.group == *group));
            let cause = group.and_then(|group| group.cause.clone());
            cause.map_or_else(|| "nobody waits for them".to_owned(), |cause| cause.to_string())
        }
        Action::Terminate { instance, .. } => {
            let instances = pool.map(|pool| &pool.instances[..]).unwrap_or_default();
            let drain = instances.iter().find(|known| known.id == *instance).and_then(|known| known.drain);
            match drain {
                Some(Drain::Idle) => "it is not needed any more".to_owned(),
                Some(Drain::Fault) => {
                    "it did not boot in time, or its agent was not heard for long".to_owned()
                }
                Some(Drain::Notice) => "its machine is about to end".to_owned(),
                Some(Drain::Budget) => "today has cost as much as it may (--max-cost-per-day)".to_owned(),
                None => "it is drained".to_owned(),
            }
        }
        Action::CompleteLifecycle { .. } => "it is drained".to_owned(),
        Action::ExtendLifecycle { .. } => "it still serves".to_owned(),
        Action::Describe { .. } => "it may have changed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::core::{Config, InstanceObserved, InstanceState, PoolConfig, Rejection, TenantId};
    use crate::gate::Ask;

    const POOL: PoolId = PoolId(0);

    fn gate() -> Gate {
        let config = Config { queue_max: 10, wait_max: Duration::from_secs(300), ..Config::default() };
        let pool = PoolConfig { has_fleet: true, ..PoolConfig::default() };
        Gate::new(config, [(POOL, pool)].into(), Clock::start())
    }

    fn reported(boot: u64, idle: u32) -> FleetNews {
        let json = format!(
            r#"{{"external_llamacpp_addr":"127.0.0.1:9","idle_slots_count":{idle},"is_authorized":true,
                "is_slots_endpoint_enabled":true,"instance_id":"process-1","phase":"ready"}}"#
        );
        let status = serde_json::from_str(&json).unwrap();
        FleetNews::Reported { instance: "process-1".into(), boot, status }
    }

    fn observed(state: InstanceState) -> FleetNews {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        let seen = InstanceObserved { group: GroupId(0), state, address };
        FleetNews::Observed {
            began: Mono::default(),
            groups: BTreeMap::new(),
            instances: [("process-1".into(), seen)].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_life_of_an_instance_registers_once() {
        let gate = gate();
        let (sender, news) = mpsc::unbounded_channel();
        tokio::spawn(forward_news(news, POOL, gate.clone()));
        let tell = async |news| {
            sender.send(news).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            gate.snapshot().0
        };
        let state = tell(observed(InstanceState::Running)).await;
        assert_eq!(state.pools[0].instances[0].id, "process-1".into());
        let first = tell(reported(1, 2)).await.agents;
        assert_eq!((first.len(), first[0].slots_total, first[0].is_connected), (1, 2, true));
        assert_eq!(first[0].instance, Some("process-1".into()), "bound to its instance");
        let again = tell(reported(1, 3)).await.agents;
        assert_eq!((again.len(), again[0].key, again[0].slots_total), (1, first[0].key, 3));
        let next = tell(reported(2, 3)).await.agents;
        let connected: Vec<_> = next.iter().filter(|agent| agent.is_connected).collect();
        assert!(matches!(connected[..], [agent] if agent.key != first[0].key), "{connected:?}");
        let gone = tell(FleetNews::AgentGone { instance: "process-1".into() }).await.agents;
        assert!(gone.iter().all(|agent| !agent.is_connected), "{gone:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_fleet_refuses_is_told_to_who_waits() {
        let gate = gate();
        let cancel = CancellationToken::new();
        let scaling = tokio::spawn(run(gate.clone(), Arc::new(Fleet::None), Clock::start(), cancel.clone()));
        let answer = gate.acquire(Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None }).await;
        let Err(Rejection::NoCapacity { cause, .. }) = answer else { panic!("{answer:?}") };
        assert!(cause.starts_with("there is no fleet to start a server with"), "{cause}");
        cancel.cancel();
        scaling.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_without_an_outcome_is_looked_up() {
        let gate = gate();
        let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.acquire(ask).await.map(drop) }
        });
        gate.plan_changed().await;
        tokio::task::yield_now().await;
        let (started, _) = gate.start_plan();
        let [(operation, Action::Wake { .. })] = started[..] else { panic!("{started:?}") };
        assert!(gate.start_plan().0.is_empty(), "one wake at a time");
        drop(Open { gate: gate.clone(), operation, is_wake: true, is_over: false });
        assert_eq!(gate.instruments().wakes.of(WakeResult::Unknown).get(), 1);
        let (started, _) = gate.start_plan();
        assert!(matches!(started[..], [(_, Action::Describe { .. })]), "{started:?}");
        waiting.abort();
    }

    #[test]
    fn an_action_is_told_with_its_reason() {
        let state = gate().snapshot().0;
        let mut busy = state.clone();
        busy.pools[0].requests_buffered = 3;
        let group = GroupId(0);
        let wake = Action::Wake { pool: POOL, group, instances: 2 };
        assert_eq!(words(&wake, &Fleet::None), "let there be 2 servers");
        assert_eq!(reason(&wake, &busy), "3 requests wait");
        assert_eq!(reason(&wake, &state), "there are fewer than --min-instances");
        let end = Action::Terminate { pool: POOL, group, instance: "process-1".into(), replace: false };
        assert_eq!(
            (words(&end, &Fleet::None).as_str(), reason(&end, &state).as_str()),
            ("end process-1", "it is drained")
        );
    }
}
