//! What goes wrong, and the moment from which on nothing does.

use std::time::Duration;

use super::hosts::HostState;
use super::world::{Happening, World};
use crate::core::{Event, LeaseEnd, LeaseId, Mono};

impl World {
    /// One fault, somewhere.
    pub(super) fn fault(&mut self) {
        if self.is_healed {
            return;
        }
        let every = self.options.fault_every;
        let next = self.up_to(every * 2);
        self.after(next, Happening::Fault);
        if self.chance(100) {
            self.disturb_a_group();
        }
        let there: Vec<usize> = (0..self.hosts.len()).filter(|&at| self.hosts[at].is_there()).collect();
        if there.is_empty() {
            return;
        }
        let host = there[self.rng.usize(0..there.len())];
        let agents = self.hosts[host].agents.len();
        let agent = if agents > 0 { Some(self.rng.usize(0..agents)) } else { None };
        let is_fleet = self.hosts[host].instance.is_some();
        // Among a fleet's launches an agent without a name is taken for one of them.
        let is_stranger = !is_fleet && self.pool(self.hosts[host].pool).config.has_fleet;
        let is_of_group = is_fleet && self.pool(self.hosts[host].pool).config.looks.is_some();
        match (self.rng.u32(0..12), agent) {
            (0 | 1 | 2 | 4, _) if is_stranger => {}
            (0, Some(agent)) => self.freeze(host, agent),
            (1, Some(agent)) => self.flap(host, agent),
            (2, Some(agent)) => {
                self.count("fault: an agent restarts");
                let is_seen = self.chance(600);
                self.agent_restarts(host, agent, is_seen);
            }
            (3, Some(_)) => self.lie(host),
            (4, Some(_)) if agents == 1 => {
                self.count("fault: two agents at one address");
                self.add_agent(host);
            }
            (5 | 6, _) => self.foreigners(host),
            (7, _) => self.llama_dies(host, is_fleet),
            (8, _) if is_fleet => {
                self.count("fault: an instance vanishes");
                self.host_is_lost(host);
            }
            (9, _) if is_of_group => self.take_back(host),
            (9, _) if is_fleet => {
                self.count("fault: the fleet ends an instance");
                self.host_ends(host, Duration::from_secs(20));
            }
            (10, _) => self.break_a_connection(),
            (11, _) => self.end_an_old_lease(),
            _ => {}
        }
    }

    fn freeze(&mut self, host: usize, agent: usize) {
        self.count("fault: an agent freezes");
        let span = self.up_to(Duration::from_secs(70));
        let key = self.hosts[host].agents[agent].key;
        self.note(format_args!("  agent {key} freezes"));
        let until = (self.now + span).max(self.hosts[host].agents[agent].frozen_until);
        self.hosts[host].agents[agent].frozen_until = until;
        self.hosts[host].steady_since = until;
    }

    fn flap(&mut self, host: usize, agent: usize) {
        self.count("fault: an agent flaps");
        let is_seen = self.chance(700);
        self.agent_disconnects(host, agent, is_seen);
        let back = self.up_to(Duration::from_secs(2));
        self.after(back, Happening::Reconnects { host, agent });
    }

    fn lie(&mut self, host: usize) {
        self.count("fault: an agent lies");
        let slots = self.hosts[host].server.slots as i32;
        self.hosts[host].lie = self.rng.i32(-slots..=4);
        self.hosts[host].is_excused = true;
    }

    fn foreigners(&mut self, host: usize) {
        self.count("fault: somebody else uses slots");
        let slots = self.rng.u32(1..=self.hosts[host].server.slots);
        let span = self.up_to(Duration::from_secs(60));
        let address = self.hosts[host].address;
        self.note(format_args!("  somebody else takes {slots} slots of {address}"));
        if self.hosts[host].server.is_ready {
            self.foreign_use(host, slots, span);
        }
    }

    fn llama_dies(&mut self, host: usize, is_fleet: bool) {
        self.count("fault: llama.cpp dies");
        let address = self.hosts[host].address;
        self.note(format_args!("  llama.cpp on {address} dies"));
        self.server_dies(host);
        if is_fleet && self.chance(200) {
            self.count("fault: llama.cpp does not come back");
            self.hosts[host].server.is_broken = true;
            return;
        }
        let epoch = self.hosts[host].server.epoch;
        let back = self.up_to(Duration::from_secs(20));
        self.after(back, Happening::Loads { host, epoch });
    }

    fn break_a_connection(&mut self) {
        let leases: Vec<LeaseId> = self.clients.attempts.keys().copied().collect();
        if !leases.is_empty() {
            self.count("fault: a connection breaks");
            let lease = leases[self.rng.usize(0..leases.len())];
            self.attempt_cut(lease);
        }
    }

    /// The end of an attempt that is over, told again.
    fn end_an_old_lease(&mut self) {
        let old: Vec<LeaseId> = self
            .clients
            .leases_seen
            .iter()
            .filter(|lease| !self.clients.attempts.contains_key(lease))
            .copied()
            .collect();
        if !old.is_empty() {
            self.count("fault: an old attempt ends again");
            let lease = old[self.rng.usize(0..old.len())];
            let end = if self.chance(500) { LeaseEnd::Done } else { LeaseEnd::Cancelled };
            self.tell(Event::LeaseEnded { lease, end });
        }
    }

    /// Faults are over. What they broke for good stays broken, and must be replaced.
    pub(super) fn heal(&mut self) {
        self.note(format_args!("  everything heals"));
        self.is_healed = true;
        for host in 0..self.hosts.len() {
            self.hosts[host].lie = 0;
            if self.hosts[host].state != HostState::Running {
                continue;
            }
            for agent in 0..self.hosts[host].agents.len() {
                if self.hosts[host].agents[agent].frozen_until > self.now {
                    self.hosts[host].agents[agent].frozen_until = Mono::default();
                    self.agent_disconnects(host, agent, true);
                    self.after(Duration::from_secs(1), Happening::Reconnects { host, agent });
                }
            }
        }
    }
}
