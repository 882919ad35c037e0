//! `paddock agent`.

use std::path::PathBuf;
use std::time::Duration;

use super::complaint::{CheckError, token};
use super::metadata;
use crate::agent::{self, Imds, Presence};
use crate::config::{AgentConfig, HostPort, LogFormat, Secret, hook_name, interval, peer, secret};

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct Flags {
    /// Where this agent reaches llama.cpp; as in each address, aws:metadata:local-ipv4 or aws:metadata:ipv6 may stand
    /// for the host
    #[arg(long, env = "PADDOCK_LOCAL_LLAMACPP_ADDR", value_name = "ADDR", value_parser = peer)]
    local_llamacpp_addr: HostPort,
    /// Where balancers reach llama.cpp [default: the local one]
    #[arg(long, env = "PADDOCK_EXTERNAL_LLAMACPP_ADDR", value_name = "ADDR", value_parser = peer)]
    external_llamacpp_addr: Option<HostPort>,
    /// The key that llama-server was started with
    #[arg(long, alias = "local-llamacpp-api-key", env = "PADDOCK_LLAMACPP_API_KEY", value_name = "KEY")]
    #[arg(value_parser = secret)]
    llamacpp_api_key: Option<Secret>,
    /// The management address of a balancer; repeatable
    #[arg(
        long,
        env = "PADDOCK_MANAGEMENT_ADDR",
        value_name = "ADDR",
        value_delimiter = ',',
        required = true
    )]
    #[arg(value_parser = peer)]
    management_addr: Vec<HostPort>,
    /// What balancers ask for as Bearer token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN", value_name = "TOKEN", value_parser = secret)]
    management_token: Option<Secret>,
    /// A file that holds the token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN_FILE", value_name = "FILE")]
    management_token_file: Option<PathBuf>,
    /// How often llama.cpp is looked at and reported; while it computes, every two seconds at most
    #[arg(long, env = "PADDOCK_MONITORING_INTERVAL", value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = interval)]
    monitoring_interval: Duration,
    /// What people call this agent
    #[arg(long, env = "PADDOCK_NAME", value_name = "NAME")]
    name: Option<String>,
    /// What the fleet calls this machine [default: what its EC2 metadata says]
    #[arg(long, env = "PADDOCK_INSTANCE_ID", value_name = "ID")]
    instance_id: Option<String>,
    /// End this EC2 instance, and shrink its Auto Scaling group with it, after so long without any balancer and without
    /// work [default: never]
    #[arg(long, env = "PADDOCK_ORPHAN_TIMEOUT", value_name = "TIME", value_parser = interval)]
    orphan_timeout: Option<Duration>,
    /// Complete this lifecycle hook of the Auto Scaling group: when llama.cpp is ready on an instance that goes into a warm
    /// pool, at once on one that goes into service [default: none]
    #[arg(long, env = "PADDOCK_LAUNCHING_HOOK", value_name = "NAME", value_parser = hook_name)]
    launching_hook: Option<String>,
    /// Check the configuration and the files that it names, say that it is valid, and start nothing
    #[arg(long)]
    pub(super) check: bool,
    /// How the log is written
    #[arg(long, env = "PADDOCK_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl Flags {
    /// Checks what only several flags together can get wrong.
    pub(super) fn into_config(self) -> Result<AgentConfig, CheckError> {
        let management_token = token(self.management_token, self.management_token_file)?;
        let server = self.local_llamacpp_addr;
        let external = self.external_llamacpp_addr.unwrap_or_else(|| server.clone());
        let presence = Presence::detect();
        let mut is_asked = presence == Presence::Likely;
        let addresses = [("--local-llamacpp-addr", &server), ("--external-llamacpp-addr", &external)];
        let management = self.management_addr.iter().map(|address| ("--management-addr", address));
        for (flag, address) in addresses.into_iter().chain(management) {
            is_asked |= metadata::needs(flag, address, presence)?;
        }
        if self.orphan_timeout.is_some() && self.instance_id.is_none() && !is_asked {
            return Err(CheckError::OrphanWithoutInstance);
        }
        if self.launching_hook.is_some() && !is_asked {
            return Err(CheckError::HookWithoutInstance);
        }
        let agent = agent::AgentConfig {
            server,
            external,
            api_key: self.llamacpp_api_key.map(Secret::into_exposed),
            interval: self.monitoring_interval,
            name: self.name,
            instance_id: self.instance_id,
            management: self.management_addr,
            management_token: management_token.map(Secret::into_exposed),
            imds: is_asked.then(Imds::from_environment),
            orphan_timeout: self.orphan_timeout,
            launching_hook: self.launching_hook,
        };
        Ok(AgentConfig { agent, log_format: self.log_format })
    }
}
