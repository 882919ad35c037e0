//! HAProxy.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use super::{Behind, configured};

pub const PROGRAM: &str = "haproxy";

/// In the foreground. `maxconn` is as high as 20,000 open files allow.
pub fn command(addr: SocketAddr, behind: Behind, folder: &Path) -> Command {
    let maxconn = if behind.queues { format!("maxconn {}", behind.slots) } else { String::new() };
    let [one, two] = behind.servers;
    let text = format!(
        "global
  nbthread 2
  maxconn 9000
  stats socket {stats}
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 600s
  timeout queue 600s
  timeout http-request 30s
  timeout http-keep-alive 60s
  option http-no-delay
  http-reuse always
frontend in
  bind {addr}
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  http-response set-header X-Request-Id %ID
  http-response set-header X-Queue-Ms %Tw
  http-response set-header X-Cold-Start false
  http-response set-header X-Agent %s
  default_backend out
backend out
  balance leastconn
  server one {one} {maxconn}
  server two {two} {maxconn}
",
        stats = folder.join("stats").display()
    );
    let mut command = Command::new(PROGRAM);
    command.arg("-db").arg("-f").arg(configured(folder, &text));
    command
}

/// The sessions of the backend, by `show stat`: those in its queue too.
pub fn held(folder: &Path) -> usize {
    let mut stats = UnixStream::connect(folder.join("stats")).unwrap();
    stats.write_all(b"show stat\n").unwrap();
    let mut table = String::new();
    stats.read_to_string(&mut table).unwrap();
    let mut lines = table.lines();
    let column = lines.next().unwrap().split(',').position(|name| name == "scur").unwrap();
    let backend = lines.find(|line| line.starts_with("out,BACKEND,")).unwrap();
    backend.split(',').nth(column).unwrap().parse().unwrap()
}
