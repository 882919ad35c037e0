//! The proxies that are compared: each with two workers, least connections, and kept upstream connections.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Slots that each server has for Paddock: more than the load has connections.
const SLOTS: usize = 64;

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Paddock,
    Haproxy,
    Nginx,
}

/// A proxy in front of the servers. Dropping it ends it.
pub struct Running {
    kind: Kind,
    addr: SocketAddr,
    child: Child,
    ticks_per_second: f64,
}

impl Running {
    /// Starts it, unless it is not installed.
    pub fn start(kind: Kind, servers: [SocketAddr; 2], folder: &Path) -> Option<Self> {
        let addr = free_addr();
        let mut command = match kind {
            Kind::Paddock => paddock(addr),
            Kind::Haproxy => haproxy(addr, servers, folder),
            Kind::Nginx => nginx(addr, servers, folder),
        };
        let child = match command.0.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("{kind:?} is left out: {error}");
                return None;
            }
        };
        until_listens(addr);
        if let Some(management) = command.1 {
            until_listens(management);
            for server in servers {
                std::thread::spawn(move || report_for_ever(management, server));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let ticks = Command::new("getconf").arg("CLK_TCK").output().unwrap().stdout;
        let ticks_per_second = String::from_utf8(ticks).unwrap().trim().parse().unwrap();
        Some(Self { kind, addr, child, ticks_per_second })
    }

    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Paddock => "paddock",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the proxy and its children have used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids = children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([pid]);
        pids.map(ticks).sum::<f64>() / self.ticks_per_second
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let terminate = rustix::process::Signal::TERM;
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, terminate);
        }
        let _ = self.child.wait();
    }
}

/// User and system time of a process (proc_pid_stat(5), fields 14 and 15).
fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}

fn free_addr() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn until_listens(addr: SocketAddr) {
    for _ in 0..500 {
        if TcpStream::connect(addr).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nothing listens on {addr}");
}

/// The program, and the address at which its agents report.
fn paddock(addr: SocketAddr) -> (Command, Option<SocketAddr>) {
    let management = free_addr();
    let mut command = Command::new(env!("CARGO_BIN_EXE_paddock"));
    command.args(["balancer", "--worker-threads", "2", "--reverseproxy-addr", &addr.to_string()]);
    command.args(["--management-addr", &management.to_string()]);
    (command, Some(management))
}

/// What a Paddler agent would report: free slots, again and again.
fn report_for_ever(management: SocketAddr, server: SocketAddr) {
    let report = format!(
        r#"{{"agent_name":null,"error":null,"external_llamacpp_addr":"{server}","idle_slots_count":{SLOTS},"is_authorized":true,"is_slots_endpoint_enabled":true,"processing_slots_count":0,"slots":[]}}"#
    );
    let mut stream = TcpStream::connect(management).unwrap();
    let head = format!(
        "POST /status_update/{server} HTTP/1.1\r\nHost: {management}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    while stream.write_all(format!("{:x}\r\n{report}\r\n", report.len()).as_bytes()).is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn haproxy(addr: SocketAddr, [one, two]: [SocketAddr; 2], folder: &Path) -> (Command, Option<SocketAddr>) {
    let config = folder.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 2\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option http-no-delay\n  \
         http-reuse always\n\
         frontend in\n  bind {addr}\n  option forwardfor\n  default_backend out\n\
         backend out\n  balance leastconn\n  server one {one}\n  server two {two}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    (command, None)
}

fn nginx(addr: SocketAddr, [one, two]: [SocketAddr; 2], folder: &Path) -> (Command, Option<SocketAddr>) {
    let config = folder.join("nginx.conf");
    let folder = folder.display();
    let text = format!(
        "daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  \
         keepalive_requests 1000000000;\n  \
         upstream out {{ least_conn; server {one}; server {two}; keepalive 64; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {addr} reuseport;\n    client_max_body_size 32m;\n    \
         location / {{\n      proxy_pass http://out;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n      \
         proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(config);
    (command, None)
}
