//! The closed loop: wrk, whose connections each ask again as soon as they are answered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::message;
use super::server::Servers;

pub const CONNECTIONS: usize = 64;
pub const PROGRAM: &str = "wrk";
/// By then the servers have finished what wrk left behind.
const LEFT_BEHIND_MAX: Duration = Duration::from_millis(100);

/// What one turn came to.
pub struct Load {
    pub requests: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// wrk with its script, which is removed when this is dropped.
pub struct Wrk {
    script: PathBuf,
}

impl Wrk {
    /// Posts chats with bodies of so many bytes; none if it is not installed.
    pub fn installed(body_bytes: usize) -> Option<Self> {
        if Command::new(PROGRAM).arg("--version").output().is_err() {
            println!("wrk is not installed (Debian: apt-get install wrk): what it would load is left out");
            return None;
        }
        let script = std::env::temp_dir().join(format!("paddock-peers-{}-wrk.lua", std::process::id()));
        let chat = message::chat(body_bytes);
        let body = String::from_utf8_lossy(message::body(&chat)).into_owned();
        let text = format!(
            r#"
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("FIGURES %d %d %d %f %f\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"#
        );
        std::fs::write(&script, text).unwrap();
        Some(Self { script })
    }

    /// One turn. It must have failed nowhere, and the servers must have given each of its answers.
    pub fn run(&self, addr: SocketAddr, turn: Duration, servers: &Servers) -> Load {
        let before = servers.answers();
        let output = Command::new(PROGRAM)
            .args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{}s", turn.as_secs().max(1)), "-s"])
            .arg(&self.script)
            .arg(format!("http://{addr}"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
        let figures = line.unwrap_or_else(|| panic!("wrk says: {text}"));
        let figures: Vec<f64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [requests, micros, failed, p50, p99] = figures[..] else { panic!("wrk says: {text}") };
        assert!(requests > 0.0 && failed == 0.0, "not all answers were 200: {text}");
        std::thread::sleep(LEFT_BEHIND_MAX);
        let answers = (servers.answers() - before) as f64;
        let unseen = answers - requests;
        assert!((0.0..=CONNECTIONS as f64).contains(&unseen), "{answers} answers for {requests}");
        Load { requests, per_second: requests / (micros / 1e6), p50_ms: p50 / 1e3, p99_ms: p99 / 1e3 }
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.script);
    }
}
