//! Scenarios: events in, exact commands and plans out. The core checks itself after each step.

mod attempts;
mod budget;
mod fleet;
mod groups;
mod happenings;
mod ledger;
mod outlook;
mod queue;
mod servers;
mod unasked;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;

const POOL: PoolId = PoolId(0);
const GROUP: GroupId = GroupId(0);

/// A core, and the shells' part in it.
struct Scene {
    core: Core,
    now: Mono,
    /// What the wall clock shows beyond monotonic time; none for one that stands still.
    wall_ahead: Option<Duration>,
    requests: u64,
    connections: u64,
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn config() -> PoolConfig {
    PoolConfig {
        has_fleet: true,
        instances_min: 0,
        instances_max: 1,
        slots_hint: 1,
        idle_timeout: secs(300),
        boot_timeout: secs(120),
        life_min: Duration::ZERO,
        groups: 1,
        looks: None,
        prices: Arc::default(),
        budget_per_day: None,
    }
}

fn key(agent: u64, incarnation: u64) -> AgentKey {
    AgentKey { agent: AgentId(agent), incarnation: Incarnation(incarnation) }
}

fn address(agent: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, agent as u8], 8080))
}

/// A healthy server with so many slots, of which so many are busy.
fn ready(agent: u64, slots: u32, busy: u32) -> AgentReport {
    AgentReport {
        pool: POOL,
        name: None,
        address: address(agent),
        instance: None,
        phase: Phase::Ready,
        slots_total: slots,
        slots_busy: busy,
        sample_age: Some(Duration::ZERO),
        heartbeat: Some(secs(1)),
        is_authorized: Some(true),
        is_slots_endpoint_enabled: Some(true),
        error: None,
        zone: None,
        group: None,
        notice: None,
        boot: BootAges::default(),
    }
}

fn loading(agent: u64) -> AgentReport {
    AgentReport { phase: Phase::Loading, slots_total: 0, slots_busy: 0, ..ready(agent, 0, 0) }
}

fn on(instance: &str, report: AgentReport) -> AgentReport {
    AgentReport { instance: Some(instance.into()), ..report }
}

fn grant(request: u64, lease: u64, agent: u64) -> String {
    format!("grant {request} as {lease} on {agent}")
}

fn reject(request: u64, because: &str) -> String {
    format!("reject {request}: {because}")
}

impl Scene {
    /// Without a fleet: agents come by themselves.
    fn without_fleet() -> Self {
        Self::new(PoolConfig { has_fleet: false, ..config() })
    }

    fn with_fleet() -> Self {
        Self::new(config())
    }

    fn new(pool: PoolConfig) -> Self {
        let config = Config { queue_max: 3, wait_max: secs(60), bypass_max: secs(5), seed: 7 };
        let mut core = Core::new(config, BTreeMap::from([(POOL, pool)]));
        core.take_plan_changed();
        Self { core, now: Mono(secs(1000)), wall_ahead: None, requests: 0, connections: 0 }
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: self.wall_ahead.map_or(Duration::ZERO, |ahead| ahead + self.now.0) }
    }

    /// Tells, checks, and gives the commands.
    fn tell(&mut self, event: Event) -> Vec<String> {
        self.core.handle(event, self.clock());
        self.commands()
    }

    fn commands(&mut self) -> Vec<String> {
        assert_eq!(self.core.check(), Ok(()));
        let mut said = Vec::new();
        while let Some(command) = self.core.next_command() {
            said.push(match command {
                Command::Grant { request, lease, agent, .. } => grant(request.0, lease.0, agent.agent.0),
                Command::Reject { request, because } => reject(request.0, word(&because)),
                Command::Abort { lease } => format!("abort {lease}"),
                Command::Recall { lease } => format!("recall {lease}"),
                Command::ForgetConnections { agent } => format!("forget {agent}"),
            });
        }
        said
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, span: Duration) -> Vec<String> {
        let until = self.now + span;
        let mut said = Vec::new();
        while let Some((at, _)) = self.core.poll_timeout().filter(|&(at, _)| at <= until) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.clock());
            said.extend(self.commands());
        }
        self.now = until;
        said
    }

    /// Lets time pass while agents report every second.
    fn pass_with(&mut self, span: Duration, reports: &[(AgentKey, AgentReport)]) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..span.as_secs() {
            said.extend(self.pass(secs(1)));
            for (agent, report) in reports {
                said.extend(self.report(*agent, report.clone()));
            }
        }
        said
    }

    fn arrive(&mut self, slots: u32) -> Vec<String> {
        self.arrive_of(1, slots)
    }

    fn arrive_of(&mut self, tenant: u32, slots: u32) -> Vec<String> {
        self.arrive_with(tenant, slots, None)
    }

    /// By a client that waits no longer than this.
    fn arrive_for(&mut self, wait_max: Duration) -> Vec<String> {
        self.arrive_with(1, 1, Some(wait_max))
    }

    fn arrive_with(&mut self, tenant: u32, slots: u32, wait_max: Option<Duration>) -> Vec<String> {
        let request = RequestId(self.requests);
        self.requests += 1;
        let arrival = Arrival { request, pool: POOL, tenant: TenantId(tenant), slots, wait_max };
        self.tell(Event::RequestArrived(arrival))
    }

    /// Over the latest connection.
    fn report(&mut self, agent: AgentKey, report: AgentReport) -> Vec<String> {
        let connection = Connection(self.connections);
        self.tell(Event::AgentReported { agent, connection, report: Box::new(report) })
    }

    /// Over a new connection.
    fn connect(&mut self, agent: AgentKey, report: AgentReport) -> Vec<String> {
        self.connections += 1;
        self.report(agent, report)
    }

    fn disconnect(&mut self, agent: AgentKey, connection: u64) -> Vec<String> {
        self.tell(Event::AgentDisconnected { agent, connection: Connection(connection) })
    }

    fn end(&mut self, lease: u64, end: LeaseEnd) -> Vec<String> {
        self.tell(Event::LeaseEnded { lease: LeaseId(lease), end })
    }

    fn fail(&mut self, lease: u64, kind: AttemptFailure) -> Vec<String> {
        self.tell(Event::AttemptFailed { lease: LeaseId(lease), kind, cause: "gone".into() })
    }

    fn observe(&mut self, instances: &[(&str, InstanceState)]) -> Vec<String> {
        let seen = |(id, state): &(&str, InstanceState)| {
            (InstanceId::from(*id), InstanceObserved { group: GROUP, state: state.clone(), address: None })
        };
        let instances = instances.iter().map(seen).collect();
        self.tell(Event::FleetObserved { pool: POOL, began: self.now, groups: BTreeMap::new(), instances })
    }

    fn observe_at(&mut self, instance: &str, agent: u64) -> Vec<String> {
        let seen =
            InstanceObserved { group: GROUP, state: InstanceState::Running, address: Some(address(agent)) };
        let instances = BTreeMap::from([(instance.into(), seen)]);
        self.tell(Event::FleetObserved { pool: POOL, began: self.now, groups: BTreeMap::new(), instances })
    }

    fn plan(&self) -> Vec<Action> {
        self.core.plan(self.clock()).actions
    }

    fn start(&mut self, operation: u64, action: Action) {
        let operation = OperationId(operation);
        let said = self.tell(Event::OperationStarted { operation, action });
        assert_eq!(said, [""; 0]);
    }

    fn succeed(&mut self, operation: u64, launched: &[&str]) -> Vec<String> {
        let launched = launched.iter().map(|&id| id.into()).collect();
        self.tell(Event::OperationSucceeded { operation: OperationId(operation), launched, wish: None })
    }

    fn fail_operation(&mut self, operation: u64, kind: OperationFailure) -> Vec<String> {
        let cause = "no".into();
        self.tell(Event::OperationFailed { operation: OperationId(operation), kind, cause })
    }

    /// Wakes one instance for a request, up to its first report. The request is 0, its lease 0, the agent 1.
    fn served_by(&mut self, instance: &str) {
        assert_eq!(self.arrive(1), [""; 0]);
        assert_eq!(self.plan(), [wake(1)]);
        self.start(1, wake(1));
        self.succeed(1, &[instance]);
        self.observe(&[(instance, InstanceState::Running)]);
        assert_eq!(self.connect(key(1, 1), on(instance, ready(1, 1, 0))), [grant(0, 0, 1)]);
    }
}

fn wake(instances: u32) -> Action {
    Action::Wake { pool: POOL, group: GROUP, instances }
}

fn terminate(instance: &str) -> Action {
    Action::Terminate { pool: POOL, group: GROUP, instance: instance.into(), replace: false }
}

fn word(because: &Rejection) -> &'static str {
    match because {
        Rejection::QueueFull { .. } => "full",
        Rejection::QueueTimeout { .. } => "timeout",
        Rejection::TooLate { .. } => "too late",
        Rejection::NoCapacity { .. } => "no capacity",
        Rejection::BudgetExhausted { .. } => "budget",
        Rejection::NoAgents => "no agents",
        Rejection::ShuttingDown => "shutting down",
        Rejection::UpstreamFailed { .. } => "upstream failed",
    }
}
