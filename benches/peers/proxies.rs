//! The proxies that are compared: each with two workers, the least loaded server first, kept upstream connections, the
//! same limits and headers, and no log of requests.

mod haproxy;
mod nginx;
mod paddock;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::paddock::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use super::message::{self, Client};
use super::process;

/// From the start to the first answer. What takes longer did not start.
const START_MAX: Duration = Duration::from_secs(20);
/// Between two attempts to connect: short against the fastest start.
const LOOK_EVERY: Duration = Duration::from_micros(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Haproxy,
    Nginx,
    Paddock,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Paddock => "Paddock",
        }
    }

    /// What it says of its version, if it is installed.
    pub fn version(self) -> Option<String> {
        let (program, flag) = match self {
            Self::Haproxy => (haproxy::PROGRAM, "-v"),
            Self::Nginx => (nginx::PROGRAM, "-v"),
            Self::Paddock => (paddock::PROGRAM, "--version"),
        };
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
    }
}

/// What stands behind a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Behind {
    pub servers: [SocketAddr; 2],
    /// Of each server.
    pub slots: usize,
    /// Whether a proxy keeps more requests than there are slots waiting. One that cannot is left out.
    pub queues: bool,
}

/// A proxy that listens. Dropping it ends it.
pub struct Running {
    kind: Kind,
    addr: SocketAddr,
    management: SocketAddr,
    behind: Behind,
    child: Child,
    folder: PathBuf,
    start_seconds: f64,
}

impl Running {
    /// Those of these kinds that are installed, each ready for requests.
    pub fn all(kinds: &[Kind], behind: Behind) -> Vec<Self> {
        let running: Vec<Self> = kinds.iter().filter_map(|kind| Self::start(*kind, behind)).collect();
        for proxy in &running {
            proxy.attach_servers();
        }
        running
    }

    /// Starts it, unless it is not installed. Paddock's servers are not there yet.
    pub fn start(kind: Kind, behind: Behind) -> Option<Self> {
        let (addr, management) = (free_addr(), free_addr());
        let folder =
            std::env::temp_dir().join(format!("paddock-peers-{}-{}", std::process::id(), addr.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = match kind {
            Kind::Haproxy => haproxy::command(addr, behind, &folder),
            Kind::Nginx => nginx::command(addr, behind, &folder),
            Kind::Paddock => paddock::command(addr, management),
        };
        let log = std::fs::File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let clock = Clock::start();
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("{} is left out: {error}", kind.name());
                std::fs::remove_dir_all(&folder).unwrap();
                return None;
            }
        };
        let mut running = Self { kind, addr, management, behind, child, folder, start_seconds: 0.0 };
        running.await_first_answer(clock);
        running.start_seconds = clock.mono().0.as_secs_f64();
        Some(running)
    }

    fn await_first_answer(&mut self, clock: Clock) {
        while clock.mono().0 < START_MAX {
            if let Ok(stream) = TcpStream::connect(self.addr) {
                Client::of(stream).ask(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n");
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}", self.kind.name(), self.log());
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("{} does not listen: {}", self.kind.name(), self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The servers are up from now on. The others know them from their configuration.
    pub fn attach_servers(&self) {
        if self.kind == Kind::Paddock {
            paddock::attach(self.management, self.behind);
        }
    }

    /// Waits until nothing of an earlier turn is left. Paddock keeps a slot for two seconds that a client left in the
    /// middle of an answer: llama.cpp still computes there.
    pub fn rest(&self) {
        if self.kind == Kind::Paddock {
            paddock::rest(self.management, self.behind);
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where Paddock's agents report, and people watch.
    #[allow(dead_code, reason = "the bench of those who watch asks for it")]
    pub fn management(&self) -> SocketAddr {
        self.management
    }

    /// From its start to its first answer: a little after it accepted its first connection.
    pub fn start_seconds(&self) -> f64 {
        self.start_seconds
    }

    /// What the proxy and its children have used so far.
    pub fn cpu_seconds(&self) -> f64 {
        process::family(self.child.id()).into_iter().map(process::cpu_seconds).sum()
    }

    /// Of the proxy and its children. What nginx's share is counted for each.
    pub fn resident_bytes(&self) -> f64 {
        process::family(self.child.id()).into_iter().map(process::resident_bytes).sum()
    }

    /// Requests that are neither answered nor refused, whether they wait or run.
    pub fn held(&self) -> usize {
        match self.kind {
            Kind::Haproxy => haproxy::held(&self.folder),
            Kind::Paddock => paddock::held(self.addr),
            Kind::Nginx => unreachable!("nginx holds nothing"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// Writes a configuration into the proxy's folder.
fn configured(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("config");
    std::fs::write(&file, text).unwrap();
    file
}
