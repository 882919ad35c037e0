//! `paddock doctor`: the flags of the balancer and of the agent that name what can be looked at, all of them optional.

use std::path::PathBuf;
use std::time::Duration;

use super::complaint::{CheckError, token};
use crate::config::{
    HostPort, Secret, asg_name, cloudwatch_namespace, count_above_zero, hook_name, interval, peer, secret,
    size,
};
use crate::doctor::DoctorConfig;
use crate::fleet::AsgWake;
use crate::proxy::Limits;

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct Flags {
    /// The management address of a balancer; repeatable
    #[arg(long, env = "PADDOCK_MANAGEMENT_ADDR", value_name = "ADDR", value_delimiter = ',', value_parser = peer)]
    management_addr: Vec<HostPort>,
    /// What it asks for as Bearer token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN", value_name = "TOKEN", value_parser = secret)]
    management_token: Option<Secret>,
    /// A file that holds the token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN_FILE", value_name = "FILE")]
    management_token_file: Option<PathBuf>,
    /// Where clients call the balancer
    #[arg(long, env = "PADDOCK_REVERSEPROXY_ADDR", value_name = "ADDR", value_parser = peer)]
    reverseproxy_addr: Option<HostPort>,
    /// Where an agent on this machine reaches llama.cpp
    #[arg(long, env = "PADDOCK_LOCAL_LLAMACPP_ADDR", value_name = "ADDR", value_parser = peer)]
    local_llamacpp_addr: Option<HostPort>,
    /// Where balancers reach it
    #[arg(long, env = "PADDOCK_EXTERNAL_LLAMACPP_ADDR", value_name = "ADDR", value_parser = peer)]
    external_llamacpp_addr: Option<HostPort>,
    /// The key that llama-server was started with
    #[arg(long, alias = "local-llamacpp-api-key", env = "PADDOCK_LLAMACPP_API_KEY", value_name = "KEY")]
    #[arg(value_parser = secret)]
    llamacpp_api_key: Option<Secret>,
    /// An EC2 Auto Scaling group that servers come from; repeatable
    #[arg(long, env = "PADDOCK_ASG_NAME", value_name = "NAME", value_delimiter = ',', value_parser = asg_name)]
    asg_name: Vec<String>,
    /// How a group is woken [default: set-desired-capacity]
    #[arg(long, env = "PADDOCK_ASG_WAKE", value_enum)]
    asg_wake: Option<AsgWake>,
    /// How many servers the groups are to hold [default: 1]
    #[arg(long, env = "PADDOCK_MAX_INSTANCES", value_name = "COUNT", value_parser = count_above_zero)]
    max_instances: Option<u32>,
    /// What this machine is called by its group [default: what its EC2 metadata says]
    #[arg(long, env = "PADDOCK_INSTANCE_ID", value_name = "ID")]
    instance_id: Option<String>,
    /// As the agent's: whether it may end this instance is looked at
    #[arg(long, env = "PADDOCK_ORPHAN_TIMEOUT", value_name = "TIME", value_parser = interval)]
    orphan_timeout: Option<Duration>,
    /// As the agent's: whether there is such a hook, and may be completed, is looked at
    #[arg(long, env = "PADDOCK_LAUNCHING_HOOK", value_name = "NAME", value_parser = hook_name)]
    launching_hook: Option<String>,
    /// The CloudWatch namespace that the balancer publishes in
    #[arg(long, env = "PADDOCK_CLOUDWATCH_NAMESPACE", value_name = "NAMESPACE")]
    #[arg(value_parser = cloudwatch_namespace)]
    cloudwatch_namespace: Option<String>,
    /// A StatsD server for gauges
    #[arg(long, env = "PADDOCK_STATSD_ADDR", value_name = "ADDR", value_parser = peer)]
    statsd_addr: Option<HostPort>,
    /// Where the ledger is kept
    #[arg(long, env = "PADDOCK_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A file of clients' keys
    #[arg(long, env = "PADDOCK_API_KEYS_FILE", value_name = "FILE")]
    api_keys_file: Option<PathBuf>,
    /// A certificate with its chain, as PEM
    #[arg(long, env = "PADDOCK_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, env = "PADDOCK_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Client connections in all [default: 16384]
    #[arg(long, env = "PADDOCK_MAX_CONNECTIONS", value_name = "COUNT", value_parser = count_above_zero)]
    max_connections: Option<u32>,
    /// Memory for the bodies of requests that wait [default: 256MiB]
    #[arg(long, env = "PADDOCK_MAX_BUFFERED_BYTES", value_name = "SIZE", value_parser = size)]
    max_buffered_bytes: Option<usize>,
    /// The balancer's TOML file; the command line and the environment win over it
    #[arg(long, env = "PADDOCK_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Tell programs: one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Flags {
    /// What is wrong with the files is found by the checks, and is no wrong input.
    pub(super) fn into_config(self) -> Result<DoctorConfig, CheckError> {
        let token_file = self.management_token_file.clone();
        let (token, token_error) = match token(self.management_token, self.management_token_file) {
            Ok(token) => (token, None),
            Err(error @ CheckError::TwoTokens) => return Err(error),
            Err(error) => (None, Some(error.to_string())),
        };
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(cert), None) => return Err(CheckError::CertWithoutKey(cert)),
            (None, Some(key)) => return Err(CheckError::KeyWithoutCert(key)),
            (None, None) => None,
        };
        let limits = Limits::default();
        Ok(DoctorConfig {
            proxy: self.reverseproxy_addr,
            management: self.management_addr,
            token,
            token_file,
            token_error,
            llamacpp: self.local_llamacpp_addr,
            llamacpp_external: self.external_llamacpp_addr,
            llamacpp_api_key: self.llamacpp_api_key.map(Secret::into_exposed),
            groups: self.asg_name,
            wake: self.asg_wake.unwrap_or_default(),
            instances_max: self.max_instances.unwrap_or(1),
            instance_id: self.instance_id,
            ends_itself: self.orphan_timeout.is_some(),
            launching_hook: self.launching_hook,
            cloudwatch_namespace: self.cloudwatch_namespace,
            statsd: self.statsd_addr,
            state_dir: self.state_dir,
            keys_file: self.api_keys_file,
            tls,
            connections_max: self.max_connections.map_or(limits.connections_max, |count| count as usize),
            buffered_bytes_max: self.max_buffered_bytes.unwrap_or(limits.buffered_bytes_max),
        })
    }
}
