//! What a service manager hears, by the socket that it gives.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::folder::Folder;
use crate::support::http::{self, RawClient, post};
use crate::support::program::{Paddock, Program};
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(30);
/// What the watchdog allows, as systemd tells it: short, so that a test sees signs.
const WATCHDOG: Duration = Duration::from_millis(400);

/// What no program says.
const MARK: &str = "MARK";

/// A service manager's end of the socket. What comes is taken at once: the kernel keeps ten words, and lets the eleventh
/// wait.
struct Manager {
    words: UnboundedReceiver<String>,
    folder: Folder,
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        let (heard, words) = unbounded_channel();
        tokio::spawn(async move {
            let mut bytes = [0; 256];
            loop {
                let count = socket.recv(&mut bytes).await.unwrap();
                let word = std::str::from_utf8(&bytes[..count]).unwrap().trim_end().to_owned();
                if heard.send(word).is_err() {
                    return;
                }
            }
        });
        Self { words, folder }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let socket = self.folder.path("notify");
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            variable("NOTIFY_SOCKET", socket.to_str().unwrap()),
            variable("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string()),
        ]
    }

    /// The next word.
    async fn hears(&mut self) -> String {
        timeout(SOON, self.words.recv()).await.expect("nothing is heard").unwrap()
    }

    /// All that was said before now and not heard yet.
    async fn heard(&mut self) -> Vec<String> {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(MARK.as_bytes(), self.folder.path("notify")).await.unwrap();
        let mut heard = Vec::new();
        loop {
            match self.hears().await {
                word if word == MARK => return heard,
                word => heard.push(word),
            }
        }
    }

    async fn hears_signs(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.hears().await, "WATCHDOG=1");
        }
    }
}

fn started(manager: &Manager, args: &[&str]) -> Program {
    let environment = manager.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    Paddock::spawn_in(args, &environment)
}

#[tokio::test]
async fn a_balancer_tells_that_it_serves_works_and_ends() {
    let mut manager = Manager::new();
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let (proxy, management) = (free_addr(), free_addr());
    let (clients, agents) = (proxy.to_string(), management.to_string());
    let mut balancer =
        started(&manager, &["balancer", "--reverseproxy-addr", &clients, "--management-addr", &agents]);
    assert_eq!(manager.hears().await, "READY=1");
    // By then nobody is refused.
    assert_eq!(http::get(proxy, "/health").await.status, 200);
    assert_eq!(http::get(management, "/health").await.status, 200);
    manager.hears_signs().await;

    let _agent = Paddock::agent(fake.addr(), management, &[]);
    let mut client = RawClient::connect(proxy).await;
    client.send(post(CHAT, &json!({"messages": [], "fake": {"hold": "end"}}))).await;
    eventually("it is served", SOON, async || (fake.stats().busy == 1).then_some(())).await;
    balancer.sigterm();
    let until_stopping = async { while manager.hears().await != "STOPPING=1" {} };
    timeout(SOON, until_stopping).await.expect("the end is told");
    // The answer that still runs is guarded as well.
    manager.hears_signs().await;
    fake.release("end");
    assert_eq!(client.answer().await.status, 200);
    assert!(balancer.wait().await.success());
}

#[tokio::test]
async fn a_program_that_does_nothing_gives_no_sign() {
    let mut manager = Manager::new();
    let (clients, agents) = (free_addr().to_string(), free_addr().to_string());
    let balancer =
        started(&manager, &["balancer", "--reverseproxy-addr", &clients, "--management-addr", &agents]);
    assert_eq!(manager.hears().await, "READY=1");
    manager.hears_signs().await;
    balancer.signal(Signal::STOP);
    let is_stopped = async || (state(Path::new("/proc"), balancer.pid()) == 'T').then_some(());
    eventually("it is stopped", SOON, is_stopped).await;
    manager.heard().await;
    let silence = timeout(3 * WATCHDOG, manager.words.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    balancer.signal(Signal::CONT);
    manager.hears_signs().await;
}

/// As `proc(5)` has it.
fn state(proc: &Path, pid: u32) -> char {
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[tokio::test]
async fn an_agent_tells_that_it_reports_works_and_ends() {
    let mut manager = Manager::new();
    // No llama.cpp and no balancer: both may come later, and the agent works.
    let (llama, balancer) = (free_addr().to_string(), free_addr().to_string());
    let mut agent =
        started(&manager, &["agent", "--local-llamacpp-addr", &llama, "--management-addr", &balancer]);
    assert_eq!(manager.hears().await, "READY=1");
    manager.hears_signs().await;
    agent.sigterm();
    assert!(agent.wait().await.success());
    let heard = manager.heard().await;
    assert_eq!(heard.last().map(String::as_str), Some("STOPPING=1"), "{heard:?}");
}

#[tokio::test]
async fn a_balancer_that_cannot_start_is_never_ready() {
    let mut manager = Manager::new();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (other.local_addr().unwrap().to_string(), free_addr().to_string());
    let mut balancer =
        started(&manager, &["balancer", "--reverseproxy-addr", &taken, "--management-addr", &free]);
    assert_eq!(balancer.wait().await.code(), Some(1));
    assert_eq!(manager.heard().await, [""; 0]);
}
