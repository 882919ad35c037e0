//! The servers, their agents, and their restarts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use super::answers::Book;
use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::program::{Paddock, Program};
use crate::support::wait::eventually;

const SERVERS: usize = 3;
const SLOTS: usize = 8;
/// Between two restarts; servers and agents take turns.
const RESTART_EVERY: Duration = Duration::from_secs(4);
/// How long a restarted one is away.
const AWAY: Duration = Duration::from_millis(500);
const REGISTERED_MAX: Duration = Duration::from_secs(30);

pub struct Servers {
    management: SocketAddr,
    fakes: Vec<FakeLlama>,
    agents: Vec<Option<Program>>,
    restarts: usize,
}

impl Servers {
    pub async fn start(management: SocketAddr) -> Self {
        let (mut fakes, mut agents) = (Vec::new(), Vec::new());
        for _ in 0..SERVERS {
            let fake = FakeLlama::start(FakeConfig { slots: SLOTS, ..FakeConfig::default() }).await;
            agents.push(Some(Paddock::agent(fake.addr(), management, &[])));
            fakes.push(fake);
        }
        Self { management, fakes, agents, restarts: 0 }
    }

    /// Returns once the balancer knows every server and its slots.
    pub async fn until_registered(&self, paddock: &Paddock) {
        eventually("every agent is registered", REGISTERED_MAX, async || {
            let state = paddock.state().await;
            let agents = state["agents"].as_array()?;
            let ready = agents.iter().filter(|agent| agent["slots_total"] == SLOTS).count();
            (ready == SERVERS).then_some(())
        })
        .await;
    }

    /// Waits for its time, and restarts the next one: a server, then an agent, and so on.
    pub async fn restart_one(&mut self, book: &Book) {
        sleep(RESTART_EVERY).await;
        let (number, is_agent) = (self.restarts / 2 % SERVERS, self.restarts % 2 == 1);
        if is_agent {
            // Killed with its process.
            self.agents[number] = None;
            sleep(AWAY).await;
            self.agents[number] = Some(Paddock::agent(self.fakes[number].addr(), self.management, &[]));
        } else {
            book.turn();
            self.fakes[number].stop().await;
            sleep(AWAY).await;
            self.fakes[number].restart_same_port().await;
            // A request that was sent again may meet the next failure within a moment.
            sleep(AWAY).await;
            book.turn();
        }
        self.restarts += 1;
    }

    pub fn restarts(&self) -> usize {
        self.restarts
    }
}
