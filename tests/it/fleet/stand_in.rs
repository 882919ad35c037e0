//! A fleet of stand-ins, and looks at the processes of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::{GroupId, InstanceId, InstanceObserved, InstanceState};
use paddock::fleet::{Fleet, FleetNews, ProcessConfig, ProcessFleet, TERMINATE_GRACE};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// All processes are of one group.
pub const GROUP: GroupId = GroupId(0);

/// The longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Serves `/health`, `/slots` and `/props` as a llama.cpp with three slots.
pub const SERVER: &str = r#"
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {"/health": {"status": "ok"}, "/props": {"total_slots": 3},
                   "/slots": [{"id": n, "is_processing": n == 0} for n in range(3)]}
        body = json.dumps(answers.get(self.path.split("?")[0], {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

pub fn shell(script: &str) -> ProcessConfig {
    config(&["sh", "-c", script, "llama-server", "{port}"])
}

pub fn config(command: &[&str]) -> ProcessConfig {
    ProcessConfig {
        command: command.iter().map(|&argument| argument.to_owned()).collect(),
        interval: Duration::from_millis(50),
        api_key: None,
        name: Some("stand-in".to_owned()),
        guard: PathBuf::from(env!("CARGO_BIN_EXE_paddock")),
        grace: TERMINATE_GRACE,
    }
}

/// A fleet, and what it told.
pub struct Watched {
    pub fleet: Fleet,
    pub news: UnboundedReceiver<FleetNews>,
}

pub type Observed = BTreeMap<InstanceId, InstanceObserved>;

impl Watched {
    pub fn start(config: ProcessConfig) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        Self { fleet: Fleet::Process(ProcessFleet::start(config, Clock::start(), sender)), news }
    }

    /// The next piece of news that `pick` takes.
    pub async fn news<T>(&mut self, pick: impl Fn(FleetNews) -> Option<T>) -> T {
        soon(async {
            loop {
                let news = self.news.recv().await.expect("the fleet is there");
                if let Some(picked) = pick(news) {
                    return picked;
                }
            }
        })
        .await
    }

    pub async fn observed(&mut self) -> Observed {
        self.news(|news| match news {
            FleetNews::Observed { instances, .. } => Some(instances),
            FleetNews::Reported { .. } | FleetNews::AgentGone { .. } | FleetNews::LaunchFailed { .. } => None,
        })
        .await
    }

    /// Waits for the end of an instance, and returns why it ended.
    pub async fn end(&mut self, instance: &InstanceId) -> String {
        self.news(|news| match news {
            FleetNews::Observed { instances, .. } => {
                let InstanceState::Ended { cause } = &instances.get(instance)?.state else { return None };
                Some(cause.to_string())
            }
            FleetNews::Reported { .. } | FleetNews::AgentGone { .. } | FleetNews::LaunchFailed { .. } => None,
        })
        .await
    }

    pub async fn wake_one(&mut self) -> (InstanceId, SocketAddr) {
        let launched = soon(self.fleet.wake(GROUP, 1)).await.expect("a stand-in that starts");
        let [instance] = &launched[..] else { panic!("one was wanted, launched: {launched:?}") };
        let address = self
            .news(|news| match news {
                FleetNews::Observed { instances, .. } => instances.get(instance)?.address,
                FleetNews::Reported { .. } | FleetNews::AgentGone { .. } | FleetNews::LaunchFailed { .. } => {
                    None
                }
            })
            .await;
        (instance.clone(), address)
    }
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("within the patience of this test")
}

pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let polling = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, polling).await.is_ok(), "never came: {what}");
}

/// The processes that run (zombies do not) and hold `mark` among their arguments.
pub fn running(mark: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|process| {
            // A zombie has no command line.
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes())
        })
        .collect()
}

/// An argument that no other process of any test has.
pub fn mark(test: &str) -> String {
    format!("{test}-of-{}", std::process::id())
}

/// A command for a shell that becomes a server which does nothing, and can be found by `mark`.
pub fn sleeper(mark: &str) -> String {
    format!("exec python3 -c 'import time; time.sleep(600)' {mark}")
}

/// A file by which a script tells that it has come to a point.
pub struct Flag(pub PathBuf);

impl Flag {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(mark(name)))
    }

    pub fn raise(&self) -> String {
        format!(": > {}", self.0.display())
    }

    pub fn is_raised(&self) -> bool {
        self.0.exists()
    }

    pub async fn raised(&self) {
        until("a flag", || self.is_raised()).await;
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The children of this process that have ended and were not reaped.
pub fn zombies() -> usize {
    let stat = |process: &str| fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let own = format!(") Z {} ", std::process::id());
    let processes =
        fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter(|process| stat(process).contains(&own)).count()
}
