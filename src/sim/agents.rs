//! Agents: they count slots, and their reports take their way.

use std::time::Duration;

use super::hosts::{Fate, HostState};
use super::world::{Happening, World};
use crate::core::{
    AgentId, AgentKey, AgentReport, BootAges, Connection, Event, Incarnation, Mono, Notice, Phase,
};

/// The longest between counting the slots and sending the report.
const AGE_MAX: Duration = Duration::from_millis(100);

/// An agent that starts learns from its machine's metadata on which instance it runs.
const NAME_MAX: Duration = Duration::from_millis(300);

/// One agent's process, over all its lives.
#[derive(Debug)]
pub(super) struct AgentModel {
    pub(super) key: AgentKey,
    /// None while it is not connected.
    pub(super) connection: Option<Connection>,
    /// Counts connections, so that an older one's samples end.
    epoch: u64,
    pub(super) frozen_until: Mono,
    /// Reports of one connection stay in order.
    told_until: Mono,
    /// When the last report arrived, over this life.
    heard_at: Option<Mono>,
    /// It said more or fewer slots than there are.
    told_lie: bool,
    /// Its next report does not say yet on which instance it runs.
    is_nameless: bool,
}

impl World {
    pub(super) fn add_agent(&mut self, host: usize) {
        let id = AgentId(self.host_of_agent.len() as u64);
        self.host_of_agent.insert(id, host);
        let is_nameless = self.chance(300) && self.options.month.is_none();
        self.hosts[host].agents.push(AgentModel {
            key: AgentKey { agent: id, incarnation: Incarnation(1) },
            connection: None,
            epoch: 0,
            frozen_until: Mono::default(),
            told_until: Mono::default(),
            heard_at: None,
            told_lie: false,
            is_nameless,
        });
        self.agent_connects(host, self.hosts[host].agents.len() - 1);
    }

    /// A new connection; its first report comes at once.
    pub(super) fn agent_connects(&mut self, host: usize, agent: usize) {
        if !self.hosts[host].is_there() {
            return;
        }
        let connection = self.next_connection();
        let now = self.now;
        let found = &mut self.hosts[host].agents[agent];
        found.connection = Some(connection);
        found.epoch += 1;
        found.told_until = now;
        let epoch = found.epoch;
        self.disturb_agents(host);
        self.after(Duration::ZERO, Happening::Sample { host, agent, epoch });
    }

    /// The connection ends, which the balancer may never see.
    pub(super) fn agent_disconnects(&mut self, host: usize, agent: usize, is_seen: bool) {
        let delay = self.up_to(self.options.network_max);
        let now = self.now;
        let found = &mut self.hosts[host].agents[agent];
        let Some(connection) = found.connection.take() else { return };
        found.epoch += 1;
        let at = found.told_until.max(now + delay);
        let event = Event::AgentDisconnected { agent: found.key, connection };
        self.disturb_agents(host);
        if is_seen {
            self.at(at, Happening::Told(Box::new(event)));
        }
    }

    /// Its process starts anew, beside a server that goes on.
    pub(super) fn agent_restarts(&mut self, host: usize, agent: usize, is_seen: bool) {
        self.agent_disconnects(host, agent, is_seen);
        let found = &mut self.hosts[host].agents[agent];
        found.key.incarnation.0 += 1;
        found.heard_at = None;
        found.frozen_until = Mono::default();
        let back = self.up_to(Duration::from_secs(3));
        self.after(back, Happening::Reconnects { host, agent });
    }

    fn disturb_agents(&mut self, host: usize) {
        self.hosts[host].foreign_known = 0;
        self.hosts[host].steady_since = self.now;
    }

    /// Agents of ours report a change at once.
    pub(super) fn sample_now(&mut self, host: usize) {
        if self.pool(self.hosts[host].pool).agents_are_old {
            return;
        }
        for agent in 0..self.hosts[host].agents.len() {
            if self.hosts[host].agents[agent].connection.is_some() {
                self.hosts[host].agents[agent].epoch += 1;
                let epoch = self.hosts[host].agents[agent].epoch;
                self.after(Duration::ZERO, Happening::Sample { host, agent, epoch });
            }
        }
    }

    /// The agent counts, and sends what it counted.
    pub(super) fn agent_samples(&mut self, host: usize, agent: usize, epoch: u64) {
        let found = &self.hosts[host].agents[agent];
        let Some(connection) = found.connection.filter(|_| found.epoch == epoch) else { return };
        if found.frozen_until > self.now {
            let thaws = found.frozen_until;
            self.at(thaws, Happening::Sample { host, agent, epoch });
            return;
        }
        let key = found.key;
        let told_until = found.told_until;
        let age = self.up_to(AGE_MAX);
        let delay = self.up_to(self.options.network_max);
        let mut report = self.report(host, age);
        let is_nameless = std::mem::take(&mut self.hosts[host].agents[agent].is_nameless);
        if is_nameless {
            report.instance = None;
        }
        let every = self.pool(report.pool).report_every;
        let at = told_until.max(self.now + age + delay);
        // While a request of ours waits inside llama.cpp, a count of busy slots does not tell whose they are.
        let server = &self.hosts[host].server;
        let foreign = if server.defers() { 0 } else { server.foreign() };
        let is_true = self.hosts[host].lie == 0;
        self.hosts[host].agents[agent].told_until = at;
        let event = Box::new(Event::AgentReported { agent: key, connection, report: Box::new(report) });
        self.at(at, Happening::ReportTold { host, event, foreign, is_true });
        let next = if is_nameless { NAME_MAX } else { every };
        self.after(next, Happening::Sample { host, agent, epoch });
    }

    fn report(&self, at: usize, age: Duration) -> AgentReport {
        let host = &self.hosts[at];
        let pool = self.pool(host.pool);
        let (phase, is_on) = match (host.fate, host.server.is_up, host.server.is_ready) {
            (_, false, _) => (Phase::Starting, None),
            (_, true, false) => (Phase::Loading, None),
            (Fate::Misconfigured, true, true) => (Phase::Failing, Some(false)),
            (Fate::Healthy | Fate::Late | Fate::Mute | Fate::Exits, true, true) => (Phase::Ready, Some(true)),
        };
        let is_ready = phase == Phase::Ready;
        let total = host.server.slots.saturating_add_signed(host.lie);
        AgentReport {
            pool: host.pool,
            name: None,
            address: host.address,
            // A server that was started by hand beside a group has a name as well, which no group shows.
            instance: host
                .instance
                .clone()
                .or_else(|| pool.config.looks.map(|_| format!("by-hand-{at}").as_str().into()))
                .filter(|_| !pool.agents_are_old),
            phase,
            slots_total: if is_ready { total } else { 0 },
            slots_busy: if is_ready { host.server.busy().min(total) } else { 0 },
            sample_age: (!pool.agents_are_old).then_some(age),
            heartbeat: (!pool.agents_are_old).then_some(pool.report_every),
            is_authorized: is_on.map(|_| true),
            is_slots_endpoint_enabled: is_on,
            error: None,
            zone: None,
            group: None,
            notice: host.notice.filter(|_| !pool.agents_are_old).map(|reason| Notice { reason, left: None }),
            boot: BootAges::default(),
        }
    }

    /// A report arrives. Notes what the core must know from it.
    pub(super) fn report_told(&mut self, host: usize, event: Event, foreign: u32, is_true: bool) {
        let Event::AgentReported { agent, connection, report } = &event else { return };
        let (agent, connection, has_slots) = (*agent, *connection, report.slots_total > 0);
        // Without its name, a dead launch's last words would be taken for the next launch's first.
        if self.hosts[host].state == HostState::Gone && report.instance.is_none() {
            return;
        }
        let now = self.now;
        // A sample may be older than the report before it by the longest way.
        let slack = self.options.network_max + AGE_MAX * 2;
        // What was granted by a lie outlives it.
        let lies_on = self.clients.attempts.values().any(|a| a.host == host && a.slots > 1);
        let found = &mut self.hosts[host];
        let latest = found.agents.iter().filter_map(|agent| agent.connection).max();
        let reporter = found.agents.iter_mut().find(|model| model.key == agent);
        if let Some(reporter) = reporter {
            let before = reporter.heard_at.replace(now);
            reporter.told_lie = !is_true;
            let is_calm = before.is_some_and(|before| found.calm_since + slack < before);
            let known = if is_calm && is_true { foreign } else { 0 };
            let is_latest = latest == Some(connection);
            // The core may go by an earlier connection, if the later one is not heard.
            found.foreign_known = if is_latest { known } else { found.foreign_known.min(known) };
            let is_lying = found.lie != 0 || found.agents.iter().any(|agent| agent.told_lie);
            found.is_excused = is_lying || (found.is_excused && lies_on);
        }
        if has_slots && !found.has_registered && found.is_there() {
            found.has_registered = true;
            found.steady_since = now;
            self.count("a host registered");
        }
        self.tell(event);
    }
}
