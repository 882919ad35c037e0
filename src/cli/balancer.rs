//! `paddock balancer`.

mod access;
mod keepalive;
mod ledger;
mod limits;
mod listen;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{ArgAction, ValueEnum};
use ipnet::IpNet;

use self::access::AccessFlags;
use self::keepalive::KeepaliveFlags;
use self::ledger::LedgerFlags;
use self::limits::LimitFlags;
use self::listen::{Listen, ListenFlags};
use super::complaint::{CheckError, resolved, token};
use super::metadata::{self, Asking};
use crate::config::{
    BalancerConfig, FleetConfig, HostPort, LogFormat, POOL, Secret, asg_name, cloudwatch_namespace, count,
    count_above_zero, duration, interval, metrics_prefix, network, on_off, peer, secret, statsd_tag, switch,
    threads,
};
use crate::core::{Config, Looks, PoolConfig};
use crate::fleet::{AsgConfig, AsgWake, has_port};
use crate::metrics::statsd::{StatsdConfig, StatsdTag, TAGS_MAX};
use crate::proxy::ProxyConfig;

/// How long a request for several slots lets smaller ones pass: by then the slots that it lacks are rarely more than an
/// answer away, and those that it keeps idle meanwhile are few.
const BYPASS_MAX: Duration = Duration::from_secs(10);

/// EC2 bills for 60 s at least (Amazon EC2 User Guide, "Billing"). Processes of this machine cost nothing by the minute: they
/// may end as young as they like.
const ASG_LIFE_MIN: Duration = Duration::from_secs(60);

/// All calls of an account and region share one throttle, so groups are looked at no more often than this: while something
/// boots, drains or ends, and otherwise.
const ASG_LOOKS: Looks = Looks { hurry: Duration::from_secs(5), rest: Duration::from_secs(60) };

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct Flags {
    #[command(flatten)]
    listen: ListenFlags,
    /// What agents and operators present as Bearer token; needed unless the management address is a loopback one
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN", value_name = "TOKEN", value_parser = secret)]
    management_token: Option<Secret>,
    /// A file that holds the token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN_FILE", value_name = "FILE")]
    management_token_file: Option<PathBuf>,
    /// Let everybody who reaches the management address register agents, which are then sent clients' prompts: for agents
    /// of Paddler 1.x, which have no token
    #[arg(long, env = "PADDOCK_MANAGEMENT_NO_AUTH", value_parser = switch)]
    management_no_auth: bool,
    /// A network that agents may name as their server's, beside the address they call from; repeatable
    #[arg(long, env = "PADDOCK_AGENT_ADDR_ALLOW", value_name = "CIDR|IP", value_delimiter = ',')]
    #[arg(value_parser = network)]
    agent_addr_allow: Vec<IpNet>,
    /// A TOML file of flags: `idle-timeout = "5m"`; the command line and the environment win over it
    #[arg(long, env = "PADDOCK_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where servers come from [default: asg if there is an --asg-name, process if there is a COMMAND, else none]
    #[arg(long, env = "PADDOCK_FLEET", value_enum)]
    fleet: Option<FleetName>,
    /// An EC2 Auto Scaling group that servers come from; repeatable: tried in this order, spot first, then on demand
    #[arg(long, env = "PADDOCK_ASG_NAME", value_name = "NAME", value_delimiter = ',', value_parser = asg_name)]
    asg_name: Vec<String>,
    /// How a group is woken [default: set-desired-capacity]
    #[arg(long, env = "PADDOCK_ASG_WAKE", value_enum)]
    asg_wake: Option<AsgWake>,
    /// Never more servers
    #[arg(long, env = "PADDOCK_MAX_INSTANCES", value_name = "COUNT", default_value = "1")]
    #[arg(value_parser = count_above_zero)]
    max_instances: u32,
    /// Never fewer servers
    #[arg(long, env = "PADDOCK_MIN_INSTANCES", value_name = "COUNT", default_value = "0", value_parser = count)]
    min_instances: u32,
    /// Slots of a server, before one was seen [default: 1]
    #[arg(long, env = "PADDOCK_SLOTS_PER_INSTANCE", value_name = "COUNT", value_parser = count_above_zero)]
    slots_per_instance: Option<u32>,
    /// From a server's last response byte to its end
    #[arg(long, env = "PADDOCK_IDLE_TIMEOUT", value_name = "TIME", default_value = "5m", value_parser = duration)]
    idle_timeout: Duration,
    /// A server that does not serve so long after its launch has failed
    #[arg(long, env = "PADDOCK_BOOT_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = interval)]
    boot_timeout: Duration,
    /// No idle server ends before it is this old [default: 60s for an Auto Scaling group, which is billed at least, else 0s]
    #[arg(long, env = "PADDOCK_MIN_INSTANCE_LIFE", value_name = "TIME", value_parser = duration)]
    min_instance_life: Option<Duration>,
    /// Requests that may wait; 0 lets none wait
    #[arg(long, env = "PADDOCK_MAX_BUFFERED_REQUESTS", value_name = "COUNT", default_value = "1000")]
    #[arg(value_parser = count)]
    max_buffered_requests: u32,
    #[command(flatten)]
    limits: LimitFlags,
    /// How long a request may wait
    #[arg(long, env = "PADDOCK_BUFFERED_REQUEST_TIMEOUT", value_name = "TIME", default_value = "10m")]
    #[arg(value_parser = duration)]
    buffered_request_timeout: Duration,
    /// A network of proxies before this one, whose X-Forwarded-For and X-Forwarded-Proto are believed; repeatable
    #[arg(long, env = "PADDOCK_TRUSTED_PROXY", value_name = "CIDR|IP", value_delimiter = ',')]
    #[arg(value_parser = network)]
    trusted_proxy: Vec<IpNet>,
    #[command(flatten)]
    keepalive: KeepaliveFlags,
    /// Sent to llama.cpp in place of the client's key
    #[arg(long, env = "PADDOCK_LLAMACPP_API_KEY", value_name = "KEY", value_parser = secret)]
    llamacpp_api_key: Option<Secret>,
    /// Send llama.cpp its own address as Host, not the client's
    #[arg(long, env = "PADDOCK_REWRITE_HOST_HEADER", value_parser = switch)]
    rewrite_host_header: bool,
    /// Let clients ask for /slots, which may show other clients' prompts
    #[arg(long, env = "PADDOCK_SLOTS_ENDPOINT_ENABLE", value_parser = switch)]
    slots_endpoint_enable: bool,
    /// Serve people a page at /dashboard of the management address; where there is a token, they log in with it
    #[arg(long, env = "PADDOCK_MANAGEMENT_DASHBOARD_ENABLE", value_parser = switch)]
    management_dashboard_enable: bool,
    /// A StatsD server for gauges
    #[arg(long, env = "PADDOCK_STATSD_ADDR", value_name = "ADDR", value_parser = peer)]
    statsd_addr: Option<HostPort>,
    /// What the names of the gauges begin with
    #[arg(long, env = "PADDOCK_STATSD_PREFIX", value_name = "NAME", default_value = "paddock")]
    #[arg(value_parser = metrics_prefix)]
    statsd_prefix: String,
    /// How often the gauges are sent
    #[arg(long, env = "PADDOCK_STATSD_REPORTING_INTERVAL", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = interval)]
    statsd_reporting_interval: Duration,
    /// A DogStatsD tag of each gauge, which then has pool:default too; repeatable
    #[arg(long, env = "PADDOCK_STATSD_TAG", value_name = "NAME:VALUE", value_delimiter = ',', value_parser = statsd_tag)]
    statsd_tag: Vec<StatsdTag>,
    /// A CloudWatch namespace for the same metrics; region and credentials are taken as every AWS tool takes them
    #[arg(long, env = "PADDOCK_CLOUDWATCH_NAMESPACE", value_name = "NAMESPACE")]
    #[arg(value_parser = cloudwatch_namespace)]
    cloudwatch_namespace: Option<String>,
    #[command(flatten)]
    ledger: LedgerFlags,
    #[command(flatten)]
    access: AccessFlags,
    /// Check the configuration and the files that it names, say that it is valid, and start nothing: nothing is listened
    /// on, and AWS is not asked
    #[arg(long)]
    pub(super) check: bool,
    /// How the log is written
    #[arg(long, env = "PADDOCK_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Whether each request is logged once it has ended, without anything that it says or is answered
    #[arg(long, env = "PADDOCK_ACCESS_LOG", value_name = "on|off", default_value = "on")]
    #[arg(value_parser = on_off, action = ArgAction::Set)]
    access_log: bool,
    /// Threads that serve clients [default: one for each core]
    #[arg(long, env = "PADDOCK_WORKER_THREADS", value_name = "COUNT", value_parser = threads)]
    worker_threads: Option<u32>,
    /// How to start one llama.cpp; {port} is replaced by a free port
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FleetName {
    /// Servers and agents are started by other hands
    None,
    /// Servers are processes on this machine
    Process,
    /// Servers are instances of EC2 Auto Scaling groups
    Asg,
}

impl Flags {
    /// Checks what only several flags together can get wrong.
    pub(super) fn into_config(self) -> Result<BalancerConfig, CheckError> {
        let fleet = self.fleet()?;
        let has_fleet = match fleet {
            FleetName::None => false,
            FleetName::Process | FleetName::Asg => true,
        };
        if self.min_instances > self.max_instances {
            return Err(CheckError::MinAboveMax { min: self.min_instances, max: self.max_instances });
        }
        if self.min_instances > 0 && !has_fleet {
            return Err(CheckError::MinWithoutFleet(self.min_instances));
        }
        let (body, all) = (self.limits.max_request_body, self.limits.max_buffered_bytes);
        if body > all {
            return Err(CheckError::BodyAboveBuffer { body, all });
        }
        let asking = if self.check { Asking::Nobody } else { Asking::Metadata };
        let Listen { proxy_addr, management_addr, inherited, takes_over } =
            self.listen.into_listen(asking)?;
        let (keys, tls) = (self.access.keys()?, self.access.tls()?);
        if self.check
            && let Some(address) = &self.statsd_addr
        {
            resolved("--statsd-addr", address, asking)?;
        }
        let statsd_addr = self.statsd_addr;
        let statsd_addr =
            statsd_addr.map(|address| metadata::located("--statsd-addr", &address, asking)).transpose()?;
        match self.statsd_tag.len() {
            0 => {}
            _ if statsd_addr.is_none() => return Err(CheckError::TagWithoutStatsd),
            count if count > TAGS_MAX => return Err(CheckError::TooManyTags(count)),
            _ => {}
        }
        let management_token = token(self.management_token, self.management_token_file)?;
        check_access(management_addr, management_token.is_some(), self.management_no_auth)?;
        let (default_life, looks) = match fleet {
            FleetName::None | FleetName::Process => (Duration::ZERO, None),
            FleetName::Asg => (ASG_LIFE_MIN, Some(ASG_LOOKS)),
        };
        let life_min = self.min_instance_life.unwrap_or(default_life);
        let groups = u32::try_from(self.asg_name.len()).unwrap_or(u32::MAX).max(1);
        let (prices, budget_per_day) = self.ledger.prices(fleet, groups)?;
        if self.check {
            self.ledger.check()?;
        }
        let cores = || available_parallelism().map_or(1, usize::from);
        let api_key = self.llamacpp_api_key.clone().map(Secret::into_exposed);
        Ok(BalancerConfig {
            proxy_addr,
            management_addr,
            takes_over,
            management_token,
            agent_addr_allow: self.agent_addr_allow,
            has_page: self.management_dashboard_enable,
            fleet: match fleet {
                FleetName::None => FleetConfig::None,
                FleetName::Process => {
                    FleetConfig::Process { command: self.command, api_key: self.llamacpp_api_key }
                }
                FleetName::Asg => FleetConfig::Asg(AsgConfig {
                    groups: self.asg_name,
                    wake: self.asg_wake.unwrap_or_default(),
                    instances_max: self.max_instances,
                    management: management_addr,
                }),
            },
            core: Config {
                queue_max: self.max_buffered_requests as usize,
                wait_max: self.buffered_request_timeout,
                bypass_max: BYPASS_MAX,
                seed: fastrand::u64(..),
            },
            pool: PoolConfig {
                has_fleet,
                instances_min: self.min_instances,
                instances_max: self.max_instances,
                slots_hint: self.slots_per_instance.unwrap_or(1),
                idle_timeout: self.idle_timeout,
                boot_timeout: self.boot_timeout,
                life_min,
                groups,
                looks,
                prices,
                budget_per_day,
            },
            proxy: ProxyConfig {
                worker_threads: self.worker_threads.map_or_else(cores, |threads| threads as usize),
                pool: POOL,
                limits: self.limits.limits(),
                trusted_proxies: self.trusted_proxy,
                rewrites_host: self.rewrite_host_header,
                serves_slots_endpoint: self.slots_endpoint_enable,
                llamacpp_api_key: api_key,
                tls,
                keys,
                keepalive: self.keepalive.into_config()?,
                logs_access: self.access_log,
                is_listener_shared: inherited.proxy.is_some(),
            },
            inherited,
            statsd: statsd_addr.map(|addr| StatsdConfig {
                addr: addr.into_string(),
                prefix: self.statsd_prefix,
                interval: self.statsd_reporting_interval,
                tags: self.statsd_tag,
            }),
            state_dir: self.ledger.state_dir,
            cloudwatch_namespace: self.cloudwatch_namespace,
            log_format: self.log_format,
        })
    }

    /// Which fleet the flags mean; those that another one needs would do nothing.
    fn fleet(&self) -> Result<FleetName, CheckError> {
        let default = match (&self.asg_name[..], &self.command[..]) {
            ([], []) => FleetName::None,
            ([], _) => FleetName::Process,
            (_, _) => FleetName::Asg,
        };
        let fleet = self.fleet.unwrap_or(default);
        match (fleet, &self.command[..]) {
            (FleetName::None, [_, ..]) => return Err(CheckError::CommandWithoutFleet),
            (FleetName::Process, []) => return Err(CheckError::NoCommand),
            (FleetName::Process, command) if !has_port(command) => return Err(CheckError::NoPort),
            (FleetName::Asg, [_, ..]) => return Err(CheckError::CommandBesideAsg),
            (FleetName::None | FleetName::Process | FleetName::Asg, _) => {}
        }
        match (fleet, &self.asg_name[..]) {
            (FleetName::Asg, []) => return Err(CheckError::NoAsg),
            (FleetName::None | FleetName::Process, [name, ..]) => {
                return Err(CheckError::AsgWithoutFleet(name.clone()));
            }
            (FleetName::None | FleetName::Process | FleetName::Asg, _) => {}
        }
        if fleet != FleetName::Asg && self.asg_wake.is_some() {
            return Err(CheckError::WakeWithoutAsg);
        }
        let twice = (1..self.asg_name.len()).find(|&at| self.asg_name[..at].contains(&self.asg_name[at]));
        match twice {
            Some(at) => Err(CheckError::AsgTwice(self.asg_name[at].clone())),
            None => Ok(fleet),
        }
    }
}

fn check_access(management: SocketAddr, has_token: bool, is_open: bool) -> Result<(), CheckError> {
    let is_local = management.ip().to_canonical().is_loopback();
    match (has_token, is_open) {
        (true, true) => Err(CheckError::TokenWithoutAuth),
        (false, false) if !is_local => Err(CheckError::OpenManagement(management)),
        (true | false, _) => Ok(()),
    }
}
