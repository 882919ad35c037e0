//! The agents: what they last said, what is leased on them, and whether anything new may be sent there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::{AgentReport, Command, Phase};
use super::ids::{AgentKey, Connection, InstanceId, LeaseId, Mono, PoolId};
use super::pick::Score;
use super::{Broken, Core, Timer};

/// What a Paddler 1.x agent reports at, until three of its reports were seen.
const HEARTBEAT_ASSUMED: Duration = Duration::from_secs(10);
/// A heartbeat that an agent announces or shows is believed within these bounds.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// After so many missed heartbeats nothing new is sent to an agent's server.
const SILENT_HEARTBEATS: u32 = 3;
/// After so many, and not before [`GONE_AFTER_MIN`], the agent is gone.
const GONE_HEARTBEATS: u32 = 4;
const GONE_AFTER_MIN: Duration = Duration::from_secs(10);
/// The longest that a report is on its way, in all but rare cases: its count is older by as much as it may be.
const REPORT_WAY_MAX: Duration = Duration::from_millis(250);
/// How long nothing is sent to a server that could not be reached, or that died with a request.
const QUARANTINE: Duration = Duration::from_secs(2);

/// One life of one agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) pool: PoolId,
    /// False once it was silent for long or its connection ended. It is kept while it holds leases.
    pub(super) is_connected: bool,
    connection: Connection,
    pub(super) report: AgentReport,
    pub(super) reported_at: Mono,
    /// The report before the last: a sample of unknown age is not older than this.
    reported_before: Option<Mono>,
    /// Between the last two reports.
    interval: Option<Duration>,
    heartbeat: Duration,
    is_silent: bool,
    /// Its server said 503 while the agent still called it ready. Over with a report sampled after this.
    not_ready_since: Option<Mono>,
    pub(super) quarantined_until: Option<Mono>,
    /// Why it is, or was, in quarantine.
    pub(super) trouble: Option<std::sync::Arc<str>>,
    pub(super) instance: Option<InstanceId>,
    /// That it speaks for this instance is a guess.
    pub(super) is_guess: bool,
    pub(super) known_since: Mono,
    /// Since when it offers slots.
    pub(super) serving_since: Option<Mono>,
    pub(super) leases: BTreeSet<LeaseId>,
    /// Slots under leases, cooling ones included.
    pub(super) held: u32,
    /// Leases without a slot.
    pub(super) riders: u32,
    /// The most slots held at any time since the last report.
    held_peak: u32,
    /// Busy slots that are not ours, by the last report.
    pub(super) foreign: u32,
    /// As which it stands in the pool's index of open agents.
    pub(super) score: Option<Score>,
    /// As which it stands in the pool's index of live agents.
    pub(super) live: Option<u32>,
}

impl Agent {
    /// Whether its server is up, as far as is known: it counts as capacity, even if nothing may be sent there for the
    /// moment.
    pub(super) fn is_serving(&self) -> bool {
        self.is_connected && self.report.phase == Phase::Ready && self.report.slots_total > 0
    }

    /// Whether any request is with its server, or somebody else's is.
    pub(super) fn is_busy(&self) -> bool {
        !self.leases.is_empty() || (self.is_connected && self.foreign > 0)
    }

    fn gone_after(&self) -> Duration {
        (self.heartbeat * GONE_HEARTBEATS).max(GONE_AFTER_MIN)
    }

    /// The earliest time at which the last report's count can have been taken.
    fn sampled_at(&self) -> Mono {
        let sent_by = match self.report.sample_age {
            Some(age) => self.reported_at - age,
            None => self.reported_before.unwrap_or_default(),
        };
        sent_by - REPORT_WAY_MAX
    }
}

impl Core {
    pub(super) fn agent_reported(&mut self, key: AgentKey, connection: Connection, report: AgentReport) {
        let now = self.now;
        if !self.pools.contains_key(&report.pool) {
            self.broke(Broken::UnknownPool);
            return;
        }
        let is_new = !self.agents.contains_key(&key);
        let address = report.address;
        let agent = self.agents.entry(key).or_insert_with(|| Agent {
            pool: report.pool,
            is_connected: true,
            connection,
            report: report.clone(),
            reported_at: now,
            reported_before: None,
            interval: None,
            heartbeat: HEARTBEAT_ASSUMED,
            is_silent: false,
            not_ready_since: None,
            quarantined_until: None,
            trouble: None,
            instance: None,
            is_guess: false,
            known_since: now,
            serving_since: None,
            leases: BTreeSet::new(),
            held: 0,
            riders: 0,
            held_peak: 0,
            foreign: 0,
            score: None,
            live: None,
        });
        if connection < agent.connection {
            return;
        }
        let was_serving = !is_new && agent.is_serving();
        agent.connection = connection;
        agent.is_connected = true;
        agent.is_silent = false;
        if !is_new {
            let interval = now.since(agent.reported_at);
            // Two reports may come together, late the first: the longer of two intervals tells.
            let before = agent.interval.replace(interval).unwrap_or(HEARTBEAT_ASSUMED);
            agent.heartbeat = before.max(interval);
            agent.reported_before = Some(agent.reported_at);
        }
        agent.heartbeat = report.heartbeat.unwrap_or(agent.heartbeat).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
        agent.reported_at = now;
        let before = std::mem::replace(&mut agent.report, report);
        let (address_before, notice_before) = (before.address, before.notice.filter(|_| !is_new));
        let had_name = !is_new && before.instance == agent.report.instance;
        agent.serving_since = match agent.serving_since {
            _ if !agent.is_serving() => None,
            None => Some(now),
            since => since,
        };
        agent.foreign = agent.report.slots_busy.saturating_sub(agent.held_peak);
        agent.held_peak = agent.held;
        let sampled = agent.sampled_at();
        if agent.not_ready_since.is_some_and(|since| sampled > since) {
            agent.not_ready_since = None;
        }
        let silent_at = now + agent.heartbeat * SILENT_HEARTBEATS;
        let pool = agent.pool;
        let served_others = if agent.foreign > 0 { agent.instance.clone() } else { None };
        if address_before != address {
            self.leave_address(key, address_before);
        }
        self.addresses.entry(address).or_default().insert(key);
        self.arm(Timer::Silence(key), silent_at);
        // A server that is too busy to answer for its slots has not said that they are free.
        if self.agents.get(&key).is_some_and(Agent::is_serving) {
            self.release_cooled(key, sampled);
        }
        if let Some(id) = served_others
            && let Some(instance) = self.pools.get_mut(&pool).and_then(|pool| pool.instances.get_mut(&id))
        {
            // What others do there is use as well.
            instance.rest_since = now;
        }
        self.bind(key);
        let agent = self.agents.get(&key);
        let serves = agent.is_some_and(Agent::is_serving);
        let is_unshown =
            agent.is_some_and(|agent| agent.instance.is_none() && agent.report.instance.is_some());
        if is_new || serves != was_serving {
            self.plan_changed = true;
        }
        // It names an instance that the fleet has not shown yet: a look binds them.
        if serves
            && is_unshown
            && !(was_serving && had_name)
            && let Some(pool) = self.pools.get_mut(&pool)
        {
            pool.look_by(now);
            self.plan_changed = true;
        }
        self.note_boot_progress(key);
        self.recall(key, notice_before);
        self.note_notice(key);
        self.reindex_address(address);
        self.settle(pool);
    }

    pub(super) fn agent_disconnected(&mut self, key: AgentKey, connection: Connection) {
        if self.agents.get(&key).is_some_and(|agent| agent.is_connected && agent.connection == connection) {
            self.agent_gone(key);
        }
    }

    pub(super) fn agent_silent(&mut self, key: AgentKey) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&key) else { return };
        let gone_at = agent.reported_at + agent.gone_after();
        if now >= gone_at {
            self.agent_gone(key);
            return;
        }
        agent.is_silent = true;
        self.arm(Timer::Silence(key), gone_at);
        self.reindex(key);
    }

    /// Nothing new goes to this agent's server. What is under way there may finish.
    pub(super) fn agent_gone(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get_mut(&key) else { return };
        if agent.is_connected {
            agent.is_connected = false;
            self.plan_changed = true;
            self.commands.push_back(Command::ForgetConnections { agent: key });
        }
        let pool = agent.pool;
        let address = agent.report.address;
        let instance = agent.instance.clone();
        self.disarm(Timer::Silence(key));
        // An older agent may speak for the address again.
        self.reindex_address(address);
        if let Some(id) = instance {
            self.agent_of_instance_gone(pool, &id);
        }
        self.forget_if_over(key);
        self.settle(pool);
    }

    /// Drops an agent that is gone and holds nothing.
    pub(super) fn forget_if_over(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else { return };
        if agent.is_connected || !agent.leases.is_empty() {
            return;
        }
        let (pool, address, instance) = (agent.pool, agent.report.address, agent.instance.clone());
        self.agents.remove(&key);
        self.disarm(Timer::Quarantine(key));
        self.leave_address(key, address);
        if let Some(id) = instance
            && let Some(instance) = self.pools.get_mut(&pool).and_then(|pool| pool.instances.get_mut(&id))
        {
            instance.agents.remove(&key);
        }
    }

    fn leave_address(&mut self, key: AgentKey, address: std::net::SocketAddr) {
        if let Some(there) = self.addresses.get_mut(&address) {
            there.remove(&key);
            if there.is_empty() {
                self.addresses.remove(&address);
            }
        }
        self.reindex_address(address);
    }

    pub(super) fn quarantine(&mut self, key: AgentKey, cause: &std::sync::Arc<str>) {
        let until = self.now + QUARANTINE;
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.quarantined_until = Some(until);
            agent.trouble = Some(cause.clone());
            self.arm(Timer::Quarantine(key), until);
            self.reindex(key);
        }
    }

    pub(super) fn quarantine_ended(&mut self, key: AgentKey) {
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.quarantined_until = None;
            let pool = agent.pool;
            self.reindex(key);
            self.settle(pool);
        }
    }

    pub(super) fn not_ready(&mut self, key: AgentKey) {
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.not_ready_since = Some(self.now);
            self.reindex(key);
        }
    }

    /// Takes a new lease into the agent's account.
    pub(super) fn hold(&mut self, key: AgentKey, lease: LeaseId, slots: u32) {
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.leases.insert(lease);
            let is_first = agent.leases.len() == 1;
            agent.held += slots;
            agent.held_peak = agent.held_peak.max(agent.held);
            agent.riders += u32::from(slots == 0);
            // It stands at the address that it reports, alone in all but rare cases.
            let address = agent.report.address;
            self.reindex_address(address);
            if is_first {
                self.count_busy_agent(key);
            }
        }
    }

    /// Slots of a cancelled request on which the server computes beyond the cooling time, by its own count: from now on
    /// they are as good as somebody else's, until a report shows that they are free.
    pub(super) fn make_foreign(&mut self, key: AgentKey, slots: u32) {
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.foreign += slots;
            agent.held_peak = agent.held_peak.saturating_sub(slots);
        }
    }

    /// Takes a lease that is over out of the agent's account.
    pub(super) fn let_go(&mut self, key: AgentKey, lease: LeaseId, slots: u32) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&key) else {
            self.broke(Broken::LeaseWithoutAgent);
            return;
        };
        if !agent.leases.remove(&lease) || agent.held < slots {
            self.broke(Broken::HeldDiffersFromLeases);
            return;
        }
        agent.held -= slots;
        agent.riders -= u32::from(slots == 0);
        let address = agent.report.address;
        let is_connected = agent.is_connected;
        if agent.leases.is_empty()
            && let Some(id) = &agent.instance
            && let Some(pool) = self.pools.get_mut(&agent.pool)
            && let Some(instance) = pool.instances.get_mut(id)
        {
            instance.rest_since = now;
            self.plan_changed |= instance.drain.is_some();
            let (pool, rest_at) = (agent.pool, now + pool.config.idle_timeout);
            self.arm_by(Timer::Rest(pool), rest_at);
            self.count_busy_agent(key);
        }
        self.reindex_address(address);
        if !is_connected {
            self.forget_if_over(key);
        }
    }

    fn reindex_address(&mut self, address: std::net::SocketAddr) {
        let Some(there) = self.addresses.get(&address) else { return };
        if there.len() == 1
            && let Some(&only) = there.first()
        {
            self.reindex(only);
            return;
        }
        for key in there.clone() {
            self.reindex(key);
        }
    }

    /// Free slots of an agent: total − leases − foreign, never below 0. Leases that an earlier life of the agent, or
    /// another agent, still holds at the same address are part of what is foreign here, before any report shows them.
    pub(super) fn free(&self, key: AgentKey, agent: &Agent) -> u32 {
        let inherited: u32 = match self.addresses.get(&agent.report.address) {
            Some(there) if there.len() > 1 => there
                .iter()
                .filter(|&&other| other != key)
                .filter_map(|other| self.agents.get(other))
                .map(|other| other.held)
                .sum(),
            Some(_) | None => 0,
        };
        agent.report.slots_total.saturating_sub(agent.held).saturating_sub(agent.foreign.max(inherited))
    }

    /// Whether anything new may be sent to the agent's server.
    ///
    /// 1. It is up, and its agent is heard.
    /// 2. It did not just fail, and its machine is not about to end.
    /// 3. No later agent speaks for the same address.
    /// 4. Its instance is not on its way out, nor gone.
    pub(super) fn is_eligible(&self, key: AgentKey, agent: &Agent) -> bool {
        if !agent.is_serving() || agent.is_silent {
            return false;
        }
        if agent.quarantined_until.is_some()
            || agent.not_ready_since.is_some()
            || agent.report.notice.is_some()
        {
            return false;
        }
        let is_superseded = self.addresses.get(&agent.report.address).is_some_and(|there| {
            there.iter().any(|&other| {
                other != key
                    && self
                        .agents
                        .get(&other)
                        .is_some_and(|other| other.is_connected && other.connection > agent.connection)
            })
        });
        if is_superseded {
            return false;
        }
        let Some(pool) = self.pools.get(&agent.pool) else { return false };
        match agent.instance.as_ref().and_then(|id| pool.instances.get(id)) {
            Some(instance) => instance.drain.is_none() && instance.is_there(),
            None => !pool.has_ended(&agent.report),
        }
    }

    /// Brings the pool's indexes up to what the agent is now.
    pub(super) fn reindex(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else { return };
        let is_eligible = self.is_eligible(key, agent);
        let total = agent.report.slots_total;
        let free = if is_eligible { self.free(key, agent) } else { 0 };
        let live = is_eligible.then_some(agent.riders);
        let pool_id = agent.pool;
        let Some(pool) = self.pools.get_mut(&pool_id) else { return };
        if !is_eligible {
            pool.kept = pool.kept.filter(|kept| kept.agent != key);
        }
        let is_kept = pool.kept.is_some_and(|kept| kept.agent == key);
        let score = (free > 0 && !is_kept).then(|| Score::new(key, total, free));
        let Some(agent) = self.agents.get_mut(&key) else { return };
        if agent.score != score {
            if let Some(before) = agent.score {
                pool.open.remove(before);
            }
            if let Some(score) = score {
                pool.open.insert(score);
            }
            agent.score = score;
        }
        if agent.live != live {
            if let Some(before) = agent.live {
                pool.live.remove(&(before, key));
            }
            if let Some(riders) = live {
                pool.live.insert((riders, key));
            }
            agent.live = live;
        }
    }
}
