//! A real StatsD server, asked over its management port what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::folder::Folder;
use super::program::Program;
use super::tool;
use super::wait::{eventually, free_addr, free_addr_on};

/// From its start to its first answer.
const START_MAX: std::time::Duration = std::time::Duration::from_secs(20);
/// What ends each of its answers.
const END: &str = "END\n\n";

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct StatsdServer {
    _program: Program,
    _folder: Folder,
    addr: SocketAddr,
    management: SocketAddr,
}

impl StatsdServer {
    /// None if there is none on this machine. It listens on loopback, by IPv4 or IPv6.
    pub async fn start(ip: std::net::IpAddr) -> Option<Self> {
        let node = tool::program("node", "install Node.js (Debian's packages nodejs and npm)")?;
        let statsd = tool::file("target/npm/node_modules/statsd/stats.js", "run `make npm`")?;
        // A free port of TCP is one of UDP too, as far as anybody here knows.
        let (addr, management) = (free_addr_on(ip), free_addr());
        let folder = Folder::new();
        let config = serde_json::json!({
            "servers": [{
                "server": "./servers/udp",
                "address": addr.ip().to_string(),
                "address_ipv6": addr.is_ipv6(),
                "port": addr.port(),
            }],
            "mgmt_address": management.ip().to_string(),
            "mgmt_port": management.port(),
            "backends": ["./backends/console"],
            "title": false,
        });
        let config = folder.write("statsd.js", &config.to_string());
        let program = Program::spawn(&[node, statsd, config].map(|part| part.display().to_string()));
        let server = Self { _program: program, _folder: folder, addr, management };
        eventually("the StatsD server answers", START_MAX, async || server.ask("gauges").await).await;
        Some(server)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every gauge as it was last told.
    pub async fn gauges(&self) -> BTreeMap<String, f64> {
        let answer = self.ask("gauges").await.expect("the StatsD server answers");
        let pairs =
            answer.trim_matches(['{', '}', '\n', ' ']).split(',').filter_map(|pair| pair.split_once(':'));
        let clean = |(name, value): (&str, &str)| {
            (name.trim_matches(['\'', '"', '\n', ' ']).to_owned(), value.trim().parse().unwrap())
        };
        pairs.map(clean).collect()
    }

    async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.management).await.ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        while !answer.ends_with(END) {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.ok().filter(|&count| count > 0)?;
            answer.push_str(std::str::from_utf8(&part[..count]).ok()?);
        }
        answer.strip_suffix(END).map(str::to_owned)
    }
}
