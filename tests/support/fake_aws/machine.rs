//! The machine of an instance: its metadata, and what runs on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::config::{AgentConfig, External, GroupConfig, LlamaConfig};
use super::imds::{Imds, Metadata};
use super::instance::EndedBy;
use super::{Ended, Shared};
use crate::support::fake_llama::FakeLlama;
use crate::support::program::{IMDS_ENDPOINT, Program};
use crate::support::real_llama::{RealLlama, busy_slots};
use crate::support::wait::free_addr_on;

/// One machine. It runs until it is killed or dropped.
#[derive(Debug)]
pub struct Machine {
    id: String,
    group: String,
    zone: String,
    imds: Imds,
    /// Where its llama.cpp listens.
    addr: SocketAddr,
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    fake: Option<Arc<FakeLlama>>,
    real: Option<RealLlama>,
    agent: Option<Program>,
    /// What the agent had written when the machine was killed.
    last_output: String,
    is_gone: bool,
}

impl Machine {
    /// A machine that begins to boot.
    pub(super) fn boot(
        shared: &Arc<Shared>,
        config: &GroupConfig,
        is_silent: bool,
        metadata: Metadata,
    ) -> Arc<Self> {
        let ip: IpAddr = if config.machine.has_imds_on_ipv6 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let machine = Arc::new(Self {
            id: metadata.instance_id.clone(),
            group: config.name.clone(),
            zone: metadata.zone.clone(),
            addr: free_addr_on(metadata.local_ipv4.into()),
            imds: Imds::start(ip, metadata, shared.clock),
            parts: Mutex::default(),
        });
        let agent = if is_silent { AgentConfig::Never } else { config.machine.agent.clone() };
        let booting = Arc::clone(&machine).run(Arc::clone(shared), config.clone(), agent);
        tokio::spawn(booting);
        machine
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn group(&self) -> &str {
        &self.group
    }

    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Where its llama.cpp listens, once it does.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn imds(&self) -> &Imds {
        &self.imds
    }

    /// Its fake llama.cpp, if it has one and it is up. After the machine's end it is still there to be asked what it
    /// saw.
    pub fn llama(&self) -> Option<Arc<FakeLlama>> {
        self.parts.lock().unwrap().fake.clone()
    }

    pub fn is_gone(&self) -> bool {
        self.parts.lock().unwrap().is_gone
    }

    /// Whether its agent is a process that runs.
    pub fn has_agent(&self) -> bool {
        let mut parts = self.parts.lock().unwrap();
        parts.agent.as_mut().is_some_and(|agent| agent.ended().is_none())
    }

    /// What its agent wrote so far, or until the machine was killed; empty without one.
    pub fn agent_output(&self) -> String {
        let parts = self.parts.lock().unwrap();
        parts.agent.as_ref().map_or_else(|| parts.last_output.clone(), Program::output)
    }

    /// For example to freeze it, or to kill it while its llama.cpp goes on.
    pub fn signal_agent(&self, signal: Signal) {
        let parts = self.parts.lock().unwrap();
        parts.agent.as_ref().expect("the machine has no agent").signal(signal);
    }

    /// llama.cpp and the agent start together, as units of one boot do.
    async fn run(self: Arc<Self>, shared: Arc<Shared>, config: GroupConfig, agent: AgentConfig) {
        sleep(config.times.boot).await;
        if self.is_gone() {
            return;
        }
        match config.machine.llama {
            LlamaConfig::Never => {}
            LlamaConfig::Fake(llama) => {
                let fake = Arc::new(FakeLlama::start_on(self.addr, llama).await);
                fake.set_loading(!config.times.load.is_zero());
                tokio::spawn(finish_loading(Arc::clone(&fake), config.times.load));
                self.install(|parts| parts.fake = Some(fake));
            }
            LlamaConfig::Real(mut options) => {
                options.load_delay = options.load_delay.max(config.times.load);
                let real = RealLlama::spawn_on(self.addr, options);
                self.install(|parts| parts.real = Some(real));
            }
        }
        if let AgentConfig::Started { management, external, flags } = agent {
            let command = self.agent_command(&management, external, flags);
            let (environment, imds) = (shared.environment(), self.imds.endpoint());
            let mut variables: Vec<(&str, &str)> =
                environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            variables.push((IMDS_ENDPOINT, &imds));
            let agent = Program::spawn_in(&command, &variables);
            self.install(|parts| parts.agent = Some(agent));
        }
    }

    /// What is installed on a machine that went meanwhile goes with it.
    fn install(&self, install: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock().unwrap();
        if !parts.is_gone {
            install(&mut parts);
        }
    }

    fn agent_command(
        &self,
        management: &[SocketAddr],
        external: External,
        flags: Vec<String>,
    ) -> Vec<String> {
        let mut command = vec![
            env!("CARGO_BIN_EXE_paddock").to_owned(),
            "agent".to_owned(),
            "--local-llamacpp-addr".to_owned(),
            self.addr.to_string(),
            "--external-llamacpp-addr".to_owned(),
        ];
        match external {
            External::Metadata => command.push(format!("aws:metadata:local-ipv4:{}", self.addr.port())),
            External::Plain => {
                command.extend([self.addr.to_string(), "--instance-id".to_owned(), self.id.clone()]);
            }
        }
        for addr in management {
            command.extend(["--management-addr".to_owned(), addr.to_string()]);
        }
        command.extend(flags);
        command
    }

    /// The machine stops: llama.cpp at once, the agent with a SIGTERM and soon a SIGKILL. How many slots were busy in
    /// that moment is kept.
    pub(super) fn kill(&self, shared: &Arc<Shared>, by: EndedBy, grace: Duration) {
        let mut parts = self.parts.lock().unwrap();
        if std::mem::replace(&mut parts.is_gone, true) {
            return;
        }
        let ended =
            Ended { id: self.id.clone(), group: self.group.clone(), by, busy: 0, at: shared.clock.mono() };
        let real = parts.real.take();
        match (&parts.fake, real) {
            (Some(fake), _) => {
                shared.ended.lock().unwrap().push(Ended { busy: fake.stats().busy, ..ended });
                fake.kill();
            }
            (None, Some(real)) => {
                tokio::spawn(kill_real(real, Arc::clone(shared), ended));
            }
            (None, None) => shared.ended.lock().unwrap().push(ended),
        }
        parts.end_agent(grace);
    }

    /// The same for a machine that stops, and may boot again: that is no end of its instance.
    pub(super) fn stop(&self, grace: Duration) {
        let mut parts = self.parts.lock().unwrap();
        parts.is_gone = true;
        if let Some(fake) = &parts.fake {
            fake.kill();
        }
        if let Some(mut real) = parts.real.take() {
            real.program().sigkill();
        }
        parts.end_agent(grace);
    }
}

impl Parts {
    fn end_agent(&mut self, grace: Duration) {
        if let Some(agent) = self.agent.take() {
            agent.sigterm();
            self.last_output = agent.output();
            tokio::spawn(kill_agent(agent, grace));
        }
    }
}

async fn finish_loading(fake: Arc<FakeLlama>, load: Duration) {
    sleep(load).await;
    fake.set_loading(false);
}

async fn kill_real(mut real: RealLlama, shared: Arc<Shared>, ended: Ended) {
    let slots = busy_slots(real.addr(), None).await.unwrap_or_default();
    let busy = slots.into_iter().filter(|is_busy| *is_busy).count();
    shared.ended.lock().unwrap().push(Ended { busy, ..ended });
    real.program().sigkill();
}

async fn kill_agent(mut agent: Program, grace: Duration) {
    sleep(grace).await;
    agent.sigkill();
    agent.wait().await;
}

/// An address of loopback for each machine. The first one is random, so that test processes beside each other differ.
#[derive(Debug)]
pub struct Addresses(Mutex<u32>);

impl Default for Addresses {
    fn default() -> Self {
        Self(Mutex::new(fastrand::u32(..)))
    }
}

impl Addresses {
    /// Somewhere in `127.1.0.1` to `127.254.255.254`.
    pub fn next(&self) -> Ipv4Addr {
        let mut next = self.0.lock().unwrap();
        *next = next.wrapping_add(1);
        let number = *next;
        let byte = |value: u32| u8::try_from(value % 254 + 1).unwrap();
        Ipv4Addr::new(127, byte(number / (254 * 254)), byte(number / 254), byte(number))
    }
}
