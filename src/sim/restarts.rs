//! The balancer ends, by a drain or from one moment to the next, and another begins: what it knew is gone.

use std::time::Duration;

use super::hosts::HostState;
use super::world::{Happening, World};
use crate::core::{Core, Event, PoolId};

/// Between two ends of the balancer, at most.
const LIFE_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// From an end to the next begin, at most.
const DOWN_MAX: Duration = Duration::from_secs(20 * 60);
/// How often it is asked again whether something is served.
const SERVED_SOON: Duration = Duration::from_secs(17);
/// For so long the shell asks a fleet what it remembers.
const HISTORY_LATE_MAX: Duration = Duration::from_secs(5 * 60);
/// How often the shell keeps the ledger.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(60);

impl World {
    pub(super) fn balancer_keeps(&mut self) {
        if !self.is_down {
            self.keep_ledger();
            self.check_ledger();
        }
        self.after(KEEP_EVERY, Happening::Keeps);
    }

    pub(super) fn plan_end(&mut self) {
        let life = self.up_to(LIFE_MAX);
        self.after(life, Happening::BalancerEnds);
    }

    pub(super) fn balancer_ends(&mut self) {
        if self.clients.is_load_over {
            return;
        }
        if self.clients.attempts.is_empty() && self.chance(990) {
            // It is the hardest while something is served.
            self.after(SERVED_SOON, Happening::BalancerEnds);
            return;
        }
        if !self.clients.attempts.is_empty() {
            self.count("a balancer ended while it served");
        }
        if self.chance(500) {
            self.count("a balancer was drained");
            self.keep_ledger();
        } else {
            self.count("a balancer was killed");
        }
        self.note(format_args!("  the balancer ends"));
        self.is_down = true;
        self.clients_lose_all();
        self.forget_calls();
        for host in 0..self.hosts.len() {
            for agent in 0..self.hosts[host].agents.len() {
                self.agent_disconnects(host, agent, false);
            }
            let is_child = self.pool(self.hosts[host].pool).config.looks.is_none();
            if is_child && self.hosts[host].is_there() {
                self.host_vanishes(host);
            }
        }
        if self.hosts.iter().any(|host| host.is_there() && host.instance.is_some()) {
            self.excuse_day();
        }
        let down = self.span(Duration::from_secs(1), DOWN_MAX);
        self.after(down, Happening::BalancerBegins);
    }

    pub(super) fn balancer_begins(&mut self) {
        self.note(format_args!("  a balancer begins"));
        if self.hosts.iter().any(|host| host.is_there() && host.instance.is_some()) {
            self.count("a balancer began while instances ran");
            self.excuse_day();
        }
        self.forget_calls();
        self.core = Core::new(self.options.core, self.options.pool_configs());
        self.is_down = false;
        let (record, since) = self.recall_ledger();
        self.tell(Event::LedgerRestored { pool: PoolId(0), record });
        if since.is_some() && self.chance(300) {
            self.count("a history was told late");
            let late = self.up_to(HISTORY_LATE_MAX);
            self.after(late, Happening::Remembers { since });
        } else {
            self.tell_history(since);
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].state == HostState::Running {
                for agent in 0..self.hosts[host].agents.len() {
                    let back = self.up_to(Duration::from_secs(3));
                    self.after(back, Happening::Reconnects { host, agent });
                }
            }
        }
        self.plan_end();
    }
}
