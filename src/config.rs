//! What the program runs on: plain values that were checked. The command line is read in [`crate::cli`].

mod address;
mod price;
mod secret;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::core::{self, PoolConfig, PoolId};
use crate::fleet::AsgConfig;
use crate::inherited::Inherited;
use crate::metrics::statsd::StatsdConfig;
use crate::proxy::ProxyConfig;

pub use address::{AddressEntry, HostPort, listening, network, peer};
pub use price::{PriceEntry, budget, price};
pub use secret::{Secret, secret};
pub use value::{
    OrOff, ValueError, asg_name, cloudwatch_namespace, count, count_above_zero, count_or_off, duration,
    duration_or_off, head_size, hook_name, interval, interval_or_off, metrics_prefix, on_off, size,
    statsd_tag, switch, threads,
};

/// The one pool that there is.
pub const POOL: PoolId = PoolId(0);

/// What it is called where people read it, in the dimension of a metric for example.
pub const POOL_NAME: &str = "default";

/// What `paddock balancer` runs on.
pub struct BalancerConfig {
    /// Where clients come in.
    pub proxy_addr: SocketAddr,
    /// Where agents and operators come in.
    pub management_addr: SocketAddr,
    /// Sockets that listen on these addresses already.
    pub inherited: Inherited,
    /// Whether another balancer may listen there, which is about to end.
    pub takes_over: bool,
    /// What they present as Bearer token; none lets everybody in.
    pub management_token: Option<Secret>,
    /// Networks that agents may name beside their own address.
    pub agent_addr_allow: Vec<IpNet>,
    /// Whether the management address serves a page for people.
    pub has_page: bool,
    /// Where instances come from.
    pub fleet: FleetConfig,
    /// The limits of the core.
    pub core: core::Config,
    /// The limits of [`POOL`].
    pub pool: PoolConfig,
    /// The data path.
    pub proxy: ProxyConfig,
    /// Where the ledger is kept; none keeps it in memory.
    pub state_dir: Option<PathBuf>,
    /// Where the gauges are sent.
    pub statsd: Option<StatsdConfig>,
    /// The CloudWatch namespace in which metrics are published.
    pub cloudwatch_namespace: Option<String>,
    /// How the log is written.
    pub log_format: LogFormat,
}

/// Where instances come from.
pub enum FleetConfig {
    /// From other hands: agents register by themselves.
    None,
    /// Processes on this machine.
    Process {
        /// How to start one llama.cpp; `{port}` stands for its port.
        command: Vec<String>,
        /// The key that it wants.
        api_key: Option<Secret>,
    },
    /// EC2 Auto Scaling groups.
    Asg(AsgConfig),
}

/// What `paddock agent` runs on.
pub struct AgentConfig {
    /// The agent itself.
    pub agent: crate::agent::AgentConfig,
    /// How the log is written.
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object in a line.
    Json,
}
