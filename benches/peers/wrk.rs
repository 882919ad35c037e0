//! The load: wrk, which posts the same chat again and again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const CONNECTIONS: usize = 64;
pub const SECONDS: usize = 4;

/// What one turn came to.
pub struct Load {
    pub requests: f64,
    pub per_second: f64,
    pub failed: f64,
}

pub fn is_installed() -> bool {
    Command::new("wrk").arg("--version").output().is_ok()
}

pub fn write_script(folder: &Path) -> PathBuf {
    let script = folder.join("chat.lua");
    let text = r#"
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"tiny","max_tokens":16,"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"' .. string.rep("word ", 200) .. '"}]}'
done = function(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("FIGURES %d %d %d\n", summary.requests, summary.duration, failed))
end
"#;
    std::fs::write(&script, text).unwrap();
    script
}

pub fn run(addr: SocketAddr, script: &Path) -> Load {
    let output = Command::new("wrk")
        .args(["-t1", "-c", &CONNECTIONS.to_string(), "-d", &SECONDS.to_string(), "-s"])
        .arg(script)
        .arg(format!("http://{addr}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures =
        text.lines().find_map(|line| line.strip_prefix("FIGURES ")).unwrap_or_else(|| panic!("{text}"));
    let figures: Vec<f64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
    Load { requests: figures[0], per_second: figures[0] / (figures[1] / 1e6), failed: figures[2] }
}
