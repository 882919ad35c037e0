//! Virtual time: an agenda of what happens, and the core between it and its shells.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::books::Books;
use super::checks::Promises;
use super::clients::Clients;
use super::fleet::FleetModel;
use super::hosts::Host;
use super::options::Options;
use super::restarts::KEEP_EVERY;
use crate::core::{
    AgentId, AttemptFailure, Command, Connection, Core, Event, GroupId, GroupObserved, InstanceId,
    InstanceObserved, LeaseId, Mono, Now, OperationId, PoolId, RequestId,
};

/// More lines of the log at one moment mean that something answers itself for ever.
const LINES_AT_ONCE_MAX: u32 = 10_000;

/// A month's log has no end: what is left of it tells the last hours.
const LOG_OF_MONTH_MAX: usize = 1 << 20;

/// What happens in the world, apart from what the core does.
#[derive(Debug)]
pub(super) enum Happening {
    Arrivals,
    ClientLeaves(RequestId),
    Reaches(LeaseId),
    Fails(LeaseId, AttemptFailure),
    FirstByte(LeaseId),
    LastByte(LeaseId),
    Cut(LeaseId),
    TaskStops {
        host: usize,
        task: u64,
    },
    Sample {
        host: usize,
        agent: usize,
        epoch: u64,
    },
    Reconnects {
        host: usize,
        agent: usize,
    },
    Told(Box<Event>),
    Remembers {
        since: Option<Duration>,
    },
    ReportTold {
        host: usize,
        event: Box<Event>,
        foreign: u32,
        is_true: bool,
    },
    Boots {
        host: usize,
    },
    Loads {
        host: usize,
        epoch: u64,
    },
    Exits {
        host: usize,
    },
    Vanishes {
        host: usize,
    },
    Looks {
        pool: PoolId,
    },
    Shows {
        pool: PoolId,
        began: Mono,
        describe: Option<OperationId>,
        groups: BTreeMap<GroupId, GroupObserved>,
        seen: BTreeMap<InstanceId, InstanceObserved>,
    },
    Works {
        operation: OperationId,
    },
    GroupActs {
        pool: PoolId,
        group: GroupId,
    },
    HookEnds {
        host: usize,
    },
    SpotEnds {
        host: usize,
    },
    Ends {
        operation: OperationId,
    },
    Fault,
    Heal,
    Shutdown,
    Probe,
    Keeps,
    BalancerEnds,
    BalancerBegins,
}

/// Everything that there is.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Mono,
    pub(super) core: Core,
    agenda: BTreeMap<(Mono, u64), Happening>,
    order: u64,
    replan_at: Option<Mono>,
    pub(super) hosts: Vec<Host>,
    pub(super) host_of_agent: BTreeMap<AgentId, usize>,
    pub(super) host_of_instance: BTreeMap<InstanceId, usize>,
    pub(super) connections: u64,
    pub(super) clients: Clients,
    pub(super) fleet: FleetModel,
    pub(super) promises: Promises,
    pub(super) books: Books,
    /// No balancer runs.
    pub(super) is_down: bool,
    pub(super) is_healed: bool,
    pub(super) is_shutting_down: bool,
    pub(super) is_over: bool,
    pub(super) log: String,
    noted_at: Mono,
    /// Lines of the log at this moment.
    lines_now: u32,
    pub(super) tally: BTreeMap<&'static str, u64>,
    pub(super) failure: Option<String>,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        let pools = options.pool_configs();
        Self {
            rng: fastrand::Rng::with_seed(options.seed ^ 0x5eed),
            now: Mono::default(),
            core: Core::new(options.core, pools),
            agenda: BTreeMap::new(),
            order: 0,
            replan_at: None,
            hosts: Vec::new(),
            host_of_agent: BTreeMap::new(),
            host_of_instance: BTreeMap::new(),
            connections: 0,
            clients: Clients::default(),
            fleet: FleetModel::default(),
            promises: Promises::default(),
            books: Books::default(),
            is_down: false,
            is_healed: false,
            is_shutting_down: false,
            is_over: false,
            log: String::new(),
            noted_at: Mono::default(),
            lines_now: 0,
            tally: BTreeMap::new(),
            failure: None,
            options,
        }
    }

    /// Lets time pass until all is over, or a promise is broken.
    pub(super) fn play(&mut self) {
        self.begin();
        while self.failure.is_none() && !self.is_over {
            let timer = self.core.poll_timeout().filter(|_| !self.is_down);
            let timer = timer.map(|(at, _)| at + self.options.timer_late);
            let happening = self.agenda.first_key_value().map(|(&(at, _), _)| at);
            let replan_at = self.replan_at.filter(|_| !self.is_down);
            let Some(next) = [timer, happening, replan_at].into_iter().flatten().min() else {
                self.fail("nothing is left to happen");
                return;
            };
            self.now = self.now.max(next);
            if happening == Some(next) {
                if let Some((_, happening)) = self.agenda.pop_first() {
                    self.happen(happening);
                }
            } else if timer == Some(next) {
                self.core.handle_timeout(self.clock());
                self.follow_up();
                self.check_deadlines();
            } else {
                self.follow_up();
            }
            self.check_progress();
        }
    }

    fn begin(&mut self) {
        for at in 0..self.options.pools.len() {
            let pool = PoolId(at as u32);
            for _ in 0..self.options.pools[at].statics {
                self.start_static_host(pool);
            }
            if self.options.pools[at].config.looks.is_some() {
                self.add_groups(pool);
            } else if self.options.pools[at].config.has_fleet {
                self.after(Duration::ZERO, Happening::Looks { pool });
            }
        }
        self.after(Duration::from_secs(1), Happening::Arrivals);
        self.after(self.options.fault_every, Happening::Fault);
        let heal_at = self.options.heal_at;
        self.at(heal_at, Happening::Heal);
        if self.options.month.is_some() {
            let (record, since) = self.recall_ledger();
            self.tell(Event::LedgerRestored { pool: PoolId(0), record });
            self.tell_history(since);
            self.after(KEEP_EVERY, Happening::Keeps);
            self.plan_end();
        }
        if let Some(at) = self.options.shutdown_at {
            self.at(at, Happening::Shutdown);
        }
        self.follow_up();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrivals => self.clients_arrive(),
            Happening::ClientLeaves(request) => self.client_leaves(request),
            Happening::Reaches(lease) => self.attempt_reaches(lease),
            Happening::Fails(lease, kind) => self.attempt_fails(lease, kind),
            Happening::FirstByte(lease) => self.first_byte(lease),
            Happening::LastByte(lease) => self.last_byte(lease),
            Happening::Cut(lease) => self.attempt_cut(lease),
            Happening::TaskStops { host, task } => self.task_stops(host, task),
            Happening::Sample { host, agent, epoch } => self.agent_samples(host, agent, epoch),
            Happening::Reconnects { host, agent } => self.agent_connects(host, agent),
            Happening::Told(event) => self.tell(*event),
            Happening::Remembers { since } => self.tell_history(since),
            Happening::ReportTold { host, event, foreign, is_true } => {
                self.report_told(host, *event, foreign, is_true);
            }
            Happening::Boots { host } => self.host_boots(host),
            Happening::Loads { host, epoch } => self.server_loads(host, epoch),
            Happening::Exits { host } => self.host_exits(host),
            Happening::Vanishes { host } => self.host_vanishes(host),
            Happening::Looks { pool } => self.fleet_looks(pool),
            Happening::Shows { pool, began, describe, groups, seen } => {
                self.fleet_shows(pool, began, describe, groups, seen);
            }
            Happening::GroupActs { pool, group } => self.group_tries(pool, group),
            Happening::HookEnds { host } => self.hook_ends(host),
            Happening::SpotEnds { host } => self.spot_ends(host),
            Happening::Works { operation } => self.operation_works(operation),
            Happening::Ends { operation } => self.operation_ends(operation),
            Happening::Fault => self.fault(),
            Happening::Heal => self.heal(),
            Happening::Shutdown => {
                self.is_shutting_down = true;
                self.tell(Event::ShutdownBegan);
            }
            Happening::Probe => self.probe(),
            Happening::Keeps => self.balancer_keeps(),
            Happening::BalancerEnds => self.balancer_ends(),
            Happening::BalancerBegins => self.balancer_begins(),
        }
    }

    /// Tells the core, carries out what it says, and checks.
    pub(super) fn tell(&mut self, event: Event) {
        if self.is_down {
            return;
        }
        if let Event::AgentReported { agent, connection, report } = &event {
            let (total, busy) = (report.slots_total, report.slots_busy);
            let (phase, pool) = (report.phase, report.pool);
            self.note(format_args!("> report {agent}/{connection} pool {pool} {phase:?} {busy}/{total}"));
        } else {
            self.note(format_args!("> {event:?}"));
        }
        self.core.handle(event, self.clock());
        self.follow_up();
    }

    fn follow_up(&mut self) {
        if self.is_down {
            return;
        }
        while let Some(command) = self.core.next_command() {
            self.note(format_args!("< {command:?}"));
            match command {
                Command::Grant { request, lease, agent, cold_start: _ } => {
                    self.granted(request, lease, agent);
                }
                Command::Reject { request, because } => self.rejected(request, &because),
                Command::Abort { lease } => self.aborted(lease),
                Command::Recall { lease } => self.recalled(lease),
                Command::ForgetConnections { .. } => {}
            }
        }
        if self.core.take_plan_changed() || self.replan_at.is_some_and(|at| at <= self.now) {
            let plan = self.core.plan(self.clock());
            self.replan_at = plan.wait.map(|(at, _)| at);
            self.promises.last_wait = plan.wait.map(|(_, why)| why);
            for action in plan.actions {
                let operation = self.fleet.next_operation();
                self.note(format_args!("< {operation} {action:?}"));
                self.check_action(&action);
                self.core.handle(Event::OperationStarted { operation, action: action.clone() }, self.clock());
                self.operation_begins(operation, action);
            }
        }
        self.book_busy();
        if let Err(broken) = self.core.check() {
            self.fail(&format!("the core's own check: {broken}"));
        }
    }

    /// What was between the balancer and the world is of no account any more: calls, answers, reports.
    pub(super) fn forget_calls(&mut self) {
        self.fleet.operations.clear();
        self.replan_at = None;
        self.agenda.retain(|_, happening| match happening {
            Happening::ClientLeaves(_)
            | Happening::Reaches(_)
            | Happening::Fails(..)
            | Happening::FirstByte(_)
            | Happening::LastByte(_)
            | Happening::Cut(_)
            | Happening::Sample { .. }
            | Happening::Told(_)
            | Happening::Remembers { .. }
            | Happening::ReportTold { .. }
            | Happening::Shows { .. }
            | Happening::Works { .. }
            | Happening::Ends { .. } => false,
            Happening::Arrivals
            | Happening::TaskStops { .. }
            | Happening::Reconnects { .. }
            | Happening::Boots { .. }
            | Happening::Loads { .. }
            | Happening::Exits { .. }
            | Happening::Vanishes { .. }
            | Happening::Looks { .. }
            | Happening::GroupActs { .. }
            | Happening::HookEnds { .. }
            | Happening::SpotEnds { .. }
            | Happening::Fault
            | Happening::Heal
            | Happening::Shutdown
            | Happening::Probe
            | Happening::Keeps
            | Happening::BalancerEnds
            | Happening::BalancerBegins => true,
        });
    }

    /// Whether the plan is to be looked at again now, whatever happens.
    pub(super) fn is_replan_due(&self) -> bool {
        self.replan_at.is_some_and(|at| at <= self.now)
    }

    pub(super) fn clock(&self) -> Now {
        Now { mono: self.now, wall: self.options.wall_start + self.now.0 }
    }

    pub(super) fn at(&mut self, at: Mono, happening: Happening) {
        self.order += 1;
        self.agenda.insert((at.max(self.now), self.order), happening);
    }

    pub(super) fn after(&mut self, span: Duration, happening: Happening) {
        self.at(self.now + span, happening);
    }

    pub(super) fn next_connection(&mut self) -> Connection {
        self.connections += 1;
        Connection(self.connections)
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, permille: u32) -> bool {
        self.rng.u32(0..1000) < permille
    }

    /// True so many times in a thousand, before the heal.
    pub(super) fn mishap(&mut self, permille: u32) -> bool {
        !self.is_healed && self.chance(permille)
    }

    pub(super) fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (least.as_micros() as u64, most.as_micros() as u64);
        Duration::from_micros(self.rng.u64(least..=most.max(least)))
    }

    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        self.span(Duration::ZERO, most)
    }

    pub(super) fn pool(&self, pool: PoolId) -> &super::options::PoolOptions {
        &self.options.pools[pool.0 as usize]
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        if self.options.month.is_some() && self.log.len() > LOG_OF_MONTH_MAX {
            self.log.clear();
        }
        self.lines_now = if self.noted_at == self.now { self.lines_now + 1 } else { 0 };
        self.noted_at = self.now;
        if self.lines_now > LINES_AT_ONCE_MAX && self.failure.is_none() {
            self.failure = Some("time stands still".to_owned());
        }
        let micros = self.now.0.as_micros();
        // Writing to a string does not fail.
        let _ = writeln!(self.log, "{:>5}.{:06} {line}", micros / 1_000_000, micros % 1_000_000);
    }

    /// Keeps the first thing that went wrong.
    pub(super) fn fail(&mut self, why: &str) {
        if self.failure.is_none() {
            self.note(format_args!("FAILED: {why}"));
            self.failure = Some(why.to_owned());
        }
    }
}
