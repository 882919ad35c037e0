//! Paddler's gauges, and three more, as StatsD datagrams.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use cadence::prelude::*;
use cadence::{MetricError, MetricSink, StatsdClient};
use thiserror::Error;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Gauges;
use crate::config::POOL_NAME;
use crate::gate::{Gate, QueueWatch};

/// Gauges are not sent more often: each time the whole state is read.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The most tags, beside the one of the pool: with the longest ones a datagram has two kilobytes.
pub const TAGS_MAX: usize = 10;

/// The name of the tag that says which pool a gauge is about.
pub const POOL_TAG: &str = "pool";

/// A tag of each gauge, in DogStatsD's form: `|#NAME:VALUE,…` behind it, which Amazon's CloudWatch agent reads too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdTag {
    /// Before the first colon.
    pub name: String,
    /// Behind it.
    pub value: String,
}

/// Where gauges are sent, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdConfig {
    /// The server, as `host:port`. A name is looked up once, at the start.
    pub addr: String,
    /// What every name begins with, without the dot.
    pub prefix: String,
    /// Between two sends of all gauges.
    pub interval: Duration,
    /// What each gauge says besides. Without any there is none of the pool either: plain StatsD knows no tags.
    pub tags: Vec<StatsdTag>,
}

/// Why nothing can be sent.
#[derive(Debug, Error)]
pub enum StatsdError {
    /// The name or port is wrong, or the name unknown.
    #[error("StatsD address `{addr}` cannot be resolved ({cause}): give --statsd-addr as host:port")]
    Address {
        /// As it was given.
        addr: String,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// It would break the datagrams' form.
    #[error(
        "StatsD prefix `{0}` may not hold `:`, `|`, `@`, `#`, blanks or control characters: mend --statsd-prefix"
    )]
    Prefix(String),
    /// The system gives no socket that leads there.
    #[error("no UDP socket towards StatsD at {addr}: {cause}")]
    Socket {
        /// Where to.
        addr: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// A way to the StatsD server.
#[derive(Debug)]
pub struct Statsd {
    client: StatsdClient,
    addr: SocketAddr,
    interval: Duration,
    is_failing: bool,
}

/// Looks the server up. Whether it is there is not asked: StatsD is sent without an answer.
///
/// # Errors
///
/// When the configuration is wrong or the system has no socket.
pub fn connect(config: &StatsdConfig) -> Result<Statsd, StatsdError> {
    let prefix = &config.prefix;
    if prefix.contains([':', '|', '@', '#']) || prefix.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(StatsdError::Prefix(prefix.escape_debug().to_string()));
    }
    let unresolved = |cause| StatsdError::Address { addr: config.addr.clone(), cause };
    let addr = config
        .addr
        .to_socket_addrs()
        .map_err(unresolved)?
        .next()
        .ok_or_else(|| unresolved(io::Error::new(ErrorKind::NotFound, "the name has no address")))?;
    let socket = socket(addr).map_err(|cause| StatsdError::Socket { addr, cause })?;
    let mut client = StatsdClient::builder(prefix, Connected(socket));
    if !config.tags.is_empty() {
        client = client.with_tag(POOL_TAG, POOL_NAME);
    }
    for StatsdTag { name, value } in &config.tags {
        client = client.with_tag(name, value);
    }
    Ok(Statsd {
        client: client.build(),
        addr,
        interval: config.interval.max(INTERVAL_MIN),
        is_failing: false,
    })
}

fn socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(addr)?;
    Ok(socket)
}

/// Sends all gauges at once and at each interval, until cancelled.
pub async fn run(mut statsd: Statsd, gate: Gate, cancel: CancellationToken) {
    let queue = gate.watch_queue();
    let mut interval = tokio::time::interval(statsd.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(interval.tick()).await.is_some() {
        statsd.send(&gate, &queue);
    }
}

impl Statsd {
    fn send(&mut self, gate: &Gate, queue: &QueueWatch) {
        // A burst between two sends would not be seen otherwise, and it is what an autoscaler acts on.
        let peak = queue.take_peak();
        let gauges = Gauges::read(gate).named(peak);
        let sent = gauges.map(|(name, value)| self.client.gauge(name, value).map(drop));
        self.note(sent.into_iter().collect());
    }

    /// Logs when sending begins to fail, and when it works again.
    fn note(&mut self, sent: Result<(), MetricError>) {
        let addr = self.addr;
        match &sent {
            Err(error) if !self.is_failing => warn!(%addr, %error, "StatsD gets no gauges; sending on"),
            Ok(()) if self.is_failing => info!(%addr, "StatsD gets gauges again"),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = sent.is_err();
    }
}

/// A socket that knows its peer is told when nobody listens there.
#[derive(Debug)]
struct Connected(UdpSocket);

impl MetricSink for Connected {
    fn emit(&self, metric: &str) -> io::Result<usize> {
        match self.0.send(metric.as_bytes()) {
            // This is about an earlier datagram, and stood in this one's way: it is sent all the same.
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                self.0.send(metric.as_bytes())?;
                Err(refused)
            }
            sent => sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::Clock;
    use crate::core::TenantId;
    use crate::gate::{Ask, Registration};
    use crate::management::fixture::{POOL, gate, report, soon, until};

    const ASK: Ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };

    fn config(addr: &str) -> StatsdConfig {
        StatsdConfig {
            addr: addr.to_owned(),
            prefix: "paddler".to_owned(),
            interval: Duration::from_secs(3600),
            tags: Vec::new(),
        }
    }

    async fn receive(server: &tokio::net::UdpSocket, count: usize) -> BTreeMap<String, String> {
        let mut gauges = BTreeMap::new();
        for _ in 0..count {
            let mut bytes = [0; 512];
            let length = soon(server.recv(&mut bytes)).await.unwrap();
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            let (name, value) = text.split_once(':').unwrap();
            gauges.insert(name.to_owned(), value.to_owned());
        }
        gauges
    }

    fn expected(gauges: [(&str, u32); 6]) -> BTreeMap<String, String> {
        gauges.into_iter().map(|(name, value)| (format!("paddler.{name}"), format!("{value}|g"))).collect()
    }

    fn up(gate: &Gate, id: &str, port: u16, slots: u32) -> Registration {
        let agent = gate.register(id, None);
        gate.report(agent, &id.into(), report(port, slots));
        agent
    }

    async fn gauges_are_sent(server: &str) {
        let server = tokio::net::UdpSocket::bind(server).await.unwrap();
        let gate = gate(Clock::start());
        let queue = gate.watch_queue();
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.acquire(ASK).await.map(drop) })
            })
            .collect();
        until(|| Gauges::read(&gate).requests_buffered == 5).await;
        for waiter in waiting {
            waiter.abort();
            let _ = waiter.await;
        }
        let left = up(&gate, "left", 1, 1);
        up(&gate, "right", 2, 2);
        let _permit = soon(gate.acquire(ASK)).await.unwrap();

        let mut statsd = connect(&config(&server.local_addr().unwrap().to_string())).unwrap();
        statsd.send(&gate, &queue);
        let sent = receive(&server, 6).await;
        assert_eq!(
            sent,
            expected([
                ("slots_idle", 2),
                ("slots_processing", 1),
                ("requests_buffered", 5),
                ("slots_total", 3),
                ("agents", 2),
                ("wake_wanted", 1),
            ])
        );
        gate.disconnected(left);
        statsd.send(&gate, &queue);
        let sent = receive(&server, 6).await;
        assert_eq!(sent["paddler.requests_buffered"], "0|g", "the peak is of the time since the last send");
        assert_eq!(sent["paddler.wake_wanted"], "0|g", "the same");
        assert_eq!(sent["paddler.agents"], "1|g");
    }

    #[tokio::test]
    async fn gauges_are_sent_over_ipv4() {
        gauges_are_sent("127.0.0.1:0").await;
    }

    #[tokio::test]
    async fn gauges_are_sent_over_ipv6() {
        gauges_are_sent("[::1]:0").await;
    }

    /// As Amazon's CloudWatch agent reads them: `MetricName:value|type|@sample_rate|#tag1:value,tag1…` (Amazon CloudWatch
    /// User Guide, "Retrieve custom metrics with StatsD"), where the rate may be left out.
    #[tokio::test]
    async fn each_gauge_has_the_tags_and_its_pool() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tag = |name: &str, value: &str| StatsdTag { name: name.to_owned(), value: value.to_owned() };
        let tags = vec![tag("env", "prod"), tag("url", "http://a:1")];
        let config = StatsdConfig { tags, ..config(&server.local_addr().unwrap().to_string()) };
        let gate = gate(Clock::start());
        connect(&config).unwrap().send(&gate, &gate.watch_queue());
        let sent = receive(&server, 6).await;
        let expected =
            ["requests_buffered", "slots_idle", "slots_processing", "slots_total", "agents", "wake_wanted"]
                .map(|name| {
                    (format!("paddler.{name}"), "0|g|#pool:default,env:prod,url:http://a:1".to_owned())
                });
        assert_eq!(sent, BTreeMap::from(expected));
    }

    #[tokio::test]
    async fn gauges_are_sent_at_each_interval_until_cancelled() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config =
            StatsdConfig { interval: Duration::ZERO, ..config(&server.local_addr().unwrap().to_string()) };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run(connect(&config).unwrap(), gate(Clock::start()), cancel.clone()));
        assert_eq!(receive(&server, 18).await.len(), 6);
        cancel.cancel();
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_noticed_and_one_that_comes_back_gets_every_gauge() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = server.local_addr().unwrap();
        let mut statsd = connect(&config(&addr.to_string())).unwrap();
        let gate = gate(Clock::start());
        let queue = gate.watch_queue();
        drop(server);
        statsd.send(&gate, &queue);
        assert!(statsd.is_failing);
        let server = tokio::net::UdpSocket::bind(addr).await.unwrap();
        statsd.send(&gate, &queue);
        assert_eq!(receive(&server, 6).await.len(), 6);
        statsd.send(&gate, &queue);
        assert!(!statsd.is_failing);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_flag() {
        for addr in ["", "nonsense", "127.0.0.1", "127.0.0.1:x", "no-such-host.invalid:8125"] {
            let error = connect(&config(addr)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{addr}`")) && error.contains("--statsd-addr"), "{error}");
        }
        for prefix in ["a:b", "a|b", "a b", "a\nb"] {
            let error = connect(&StatsdConfig { prefix: prefix.to_owned(), ..config("127.0.0.1:9") });
            let error = error.unwrap_err().to_string();
            assert!(error.contains("--statsd-prefix") && !error.contains('\n'), "{error}");
        }
    }
}
