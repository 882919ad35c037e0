//! Machines, each with a model of llama.cpp: slots, loading, and its own queue when the slots are full.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::agents::AgentModel;
use super::world::{Happening, World};
use crate::core::{GroupId, InstanceId, LeaseId, Mono, NoticeReason, PoolId};

/// llama.cpp looks after closed connections about once a second, and finishes a batch first.
const CANCEL_MAX: Duration = Duration::from_millis(1500);
/// Now and then a batch is long.
const LONG_BATCH: Duration = Duration::from_secs(4);

/// One machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) pool: PoolId,
    pub(super) address: SocketAddr,
    /// None for one that no fleet started.
    pub(super) instance: Option<InstanceId>,
    pub(super) group: GroupId,
    /// What it knows of its own end.
    pub(super) notice: Option<NoticeReason>,
    /// Until when a hook holds its end.
    pub(super) held_until: Mono,
    pub(super) state: HostState,
    /// When its wake was begun.
    pub(super) launched_at: Mono,
    pub(super) visible_at: Mono,
    pub(super) gone_at: Option<Mono>,
    pub(super) fate: Fate,
    pub(super) server: Server,
    pub(super) agents: Vec<AgentModel>,
    /// What its agents add to the slots that they report.
    pub(super) lie: i32,
    /// A lie is or may still be what the core goes by.
    pub(super) is_excused: bool,
    /// Foreign use that a report has shown beyond doubt.
    pub(super) foreign_known: u32,
    /// The last change of what is ours there.
    pub(super) calm_since: Mono,
    /// The last change of anything there.
    pub(super) steady_since: Mono,
    /// A report with slots has arrived.
    pub(super) has_registered: bool,
}

/// The part of its life that a machine is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostState {
    Pending,
    Running,
    /// It is to end, and a hook holds it.
    Held,
    Terminating,
    /// It ended by itself; to be shown once.
    Ended,
    Gone,
}

/// How a launch comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Healthy,
    /// It boots, but long after its deadline.
    Late,
    /// Its agent is never heard.
    Mute,
    /// It exits while it loads.
    Exits,
    /// Its llama.cpp has no `/slots`.
    Misconfigured,
}

/// A model of llama.cpp.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) slots: u32,
    pub(super) is_up: bool,
    pub(super) is_ready: bool,
    /// Never comes back.
    pub(super) is_broken: bool,
    /// Counts its lives.
    pub(super) epoch: u64,
    pub(super) tasks: BTreeMap<u64, Task>,
    waiting: VecDeque<u64>,
    task_next: u64,
}

/// Something that the server computes, or has in its own queue.
#[derive(Debug)]
pub(super) struct Task {
    /// None if it is somebody else's.
    pub(super) lease: Option<LeaseId>,
    pub(super) slots: u32,
    pub(super) is_running: bool,
    pub(super) cancelled_at: Option<Mono>,
}

impl Server {
    pub(super) fn busy(&self) -> u32 {
        self.tasks.values().filter(|task| task.is_running).map(|task| task.slots).sum()
    }

    pub(super) fn foreign(&self) -> u32 {
        let foreign = self.tasks.values().filter(|task| task.is_running && task.lease.is_none());
        foreign.map(|task| task.slots).sum()
    }

    pub(super) fn defers(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The number of the task that is taken next.
    pub(super) fn next_task(&self) -> u64 {
        self.task_next + 1
    }

    fn add(&mut self, lease: Option<LeaseId>, slots: u32) -> u64 {
        self.task_next += 1;
        self.tasks.insert(self.task_next, Task { lease, slots, is_running: false, cancelled_at: None });
        self.waiting.push_back(self.task_next);
        self.task_next
    }

    /// Starts what fits, in order.
    fn start(&mut self) -> Vec<LeaseId> {
        let mut started = Vec::new();
        while let Some(&first) = self.waiting.front() {
            let busy = self.busy();
            if let Some(task) = self.tasks.get_mut(&first) {
                if busy + task.slots > self.slots {
                    break;
                }
                task.is_running = true;
                started.extend(task.lease);
            }
            self.waiting.pop_front();
        }
        started
    }

    /// The process ends, and all that it computed.
    pub(super) fn dies(&mut self) -> Vec<LeaseId> {
        self.is_up = false;
        self.is_ready = false;
        self.epoch += 1;
        self.waiting.clear();
        std::mem::take(&mut self.tasks)
            .into_values()
            .filter(|task| task.cancelled_at.is_none())
            .filter_map(|task| task.lease)
            .collect()
    }
}

impl Host {
    pub(super) fn is_there(&self) -> bool {
        matches!(
            self.state,
            HostState::Pending | HostState::Running | HostState::Held | HostState::Terminating
        )
    }
}

impl World {
    pub(super) fn add_host(
        &mut self,
        pool: PoolId,
        instance: Option<InstanceId>,
        launched_at: Mono,
    ) -> usize {
        let at = self.hosts.len();
        let ip = [10, 0, (at >> 8) as u8, at as u8];
        let slots = self.pool(pool).slots;
        if let Some(instance) = &instance {
            self.host_of_instance.insert(instance.clone(), at);
        }
        self.hosts.push(Host {
            pool,
            address: SocketAddr::from((ip, 8080)),
            instance,
            group: GroupId(0),
            notice: None,
            held_until: Mono::default(),
            state: HostState::Pending,
            launched_at,
            visible_at: self.now,
            gone_at: None,
            fate: Fate::Healthy,
            server: Server { slots, ..Server::default() },
            agents: Vec::new(),
            lie: 0,
            is_excused: false,
            foreign_known: 0,
            calm_since: self.now,
            steady_since: self.now,
            has_registered: false,
        });
        at
    }

    pub(super) fn start_static_host(&mut self, pool: PoolId) {
        let host = self.add_host(pool, None, self.now);
        self.after(Duration::ZERO, Happening::Boots { host });
    }

    /// The machine is up: its agent and its llama.cpp begin.
    pub(super) fn host_boots(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.state != HostState::Pending {
            return;
        }
        host.state = HostState::Running;
        host.server.is_up = true;
        let (pool, fate, epoch) = (host.pool, host.fate, host.server.epoch);
        if fate != Fate::Mute {
            self.add_agent(at);
        }
        let load = self.span(self.pool(pool).boot_min, self.pool(pool).boot_max) / 2;
        match fate {
            Fate::Healthy | Fate::Mute | Fate::Misconfigured => {
                self.after(load, Happening::Loads { host: at, epoch });
            }
            Fate::Late => {
                let late = self.pool(pool).config.boot_timeout * 3;
                self.after(late, Happening::Loads { host: at, epoch });
            }
            Fate::Exits => self.after(load, Happening::Exits { host: at }),
        }
        self.fleet_changed(pool);
    }

    /// llama.cpp has its model.
    pub(super) fn server_loads(&mut self, at: usize, epoch: u64) {
        let host = &mut self.hosts[at];
        if host.is_there() && host.server.epoch == epoch && !host.server.is_broken {
            host.server.is_up = true;
            host.server.is_ready = true;
            host.steady_since = self.now;
            self.sample_now(at);
        }
    }

    /// A request of ours has arrived at the server.
    pub(super) fn server_takes(&mut self, at: usize, lease: LeaseId, slots: u32) -> u64 {
        let server = &mut self.hosts[at].server;
        let task = server.add(Some(lease), slots.min(server.slots));
        self.server_starts(at);
        task
    }

    /// Somebody else uses slots.
    pub(super) fn foreign_use(&mut self, at: usize, slots: u32, span: Duration) {
        let task = self.hosts[at].server.add(None, slots);
        self.server_starts(at);
        self.after(span, Happening::TaskStops { host: at, task });
    }

    pub(super) fn server_starts(&mut self, at: usize) {
        let started = self.hosts[at].server.start();
        self.hosts[at].steady_since = self.now;
        for lease in started {
            self.task_started(lease);
        }
    }

    /// A task is over on the server.
    pub(super) fn task_stops(&mut self, at: usize, task: u64) {
        let server = &mut self.hosts[at].server;
        server.tasks.remove(&task);
        server.waiting.retain(|&waiting| waiting != task);
        self.server_starts(at);
    }

    /// The connection of a task was closed: the server will notice.
    pub(super) fn cancel_task(&mut self, at: usize, task: u64) {
        let most = if self.chance(100) { LONG_BATCH } else { CANCEL_MAX };
        let notices = self.up_to(most);
        if let Some(found) = self.hosts[at].server.tasks.get_mut(&task) {
            found.cancelled_at = Some(self.now);
            self.after(notices, Happening::TaskStops { host: at, task });
        }
    }

    /// The llama.cpp process ends by itself.
    pub(super) fn server_dies(&mut self, at: usize) {
        let cut = self.hosts[at].server.dies();
        self.hosts[at].steady_since = self.now;
        for lease in cut {
            let notices = self.up_to(Duration::from_millis(50));
            self.after(notices, Happening::Cut(lease));
        }
    }

    /// The machine is gone from one moment to the next.
    pub(super) fn host_vanishes(&mut self, at: usize) {
        if self.hosts[at].state == HostState::Gone {
            return;
        }
        self.hosts[at].state = HostState::Gone;
        self.hosts[at].gone_at = Some(self.now);
        // If it is gone before the core could tie its agent to it, that is a boot that failed.
        let pool = self.hosts[at].pool;
        self.boot_fails(pool);
        let cut = self.hosts[at].server.dies();
        let is_silent = self.chance(300);
        for lease in cut {
            // Without a reset only the loss of the instance, or the kernel's own timeout, ends an answer.
            let notices = if is_silent { Duration::from_secs(60) } else { Duration::from_millis(30) };
            let notices = self.up_to(notices);
            self.after(notices, Happening::Cut(lease));
        }
        for agent in 0..self.hosts[at].agents.len() {
            self.agent_disconnects(at, agent, !is_silent);
        }
        self.fleet_changed(pool);
    }

    /// The machine is gone without anybody's order: a group replaces it.
    pub(super) fn host_is_lost(&mut self, at: usize) {
        let is_counted = matches!(self.hosts[at].state, HostState::Pending | HostState::Running);
        let (pool, group) = (self.hosts[at].pool, self.hosts[at].group);
        self.host_vanishes(at);
        if is_counted && self.hosts[at].instance.is_some() {
            self.is_missed(pool, group);
        }
    }

    /// The process of an instance exits by itself.
    pub(super) fn host_exits(&mut self, at: usize) {
        if self.hosts[at].is_there() {
            self.count("an instance exited");
            self.host_is_lost(at);
            self.hosts[at].state = HostState::Ended;
        }
    }
}
