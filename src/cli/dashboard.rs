//! `paddock dashboard`.

use std::path::PathBuf;

use super::complaint::{CheckError, token};
use super::metadata::{Asking, located};
use crate::config::{HostPort, Secret, peer, secret, switch};
use crate::dashboard::terminal::{DashboardConfig, Show};

#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct Flags {
    /// The management address of the balancer
    #[arg(long, env = "PADDOCK_MANAGEMENT_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8085")]
    #[arg(value_parser = peer)]
    management_addr: HostPort,
    /// What the balancer asks for as Bearer token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN", value_name = "TOKEN", value_parser = secret)]
    management_token: Option<Secret>,
    /// A file that holds the token
    #[arg(long, env = "PADDOCK_MANAGEMENT_TOKEN_FILE", value_name = "FILE")]
    management_token_file: Option<PathBuf>,
    /// Print the state once as a table, and end
    #[arg(long, env = "PADDOCK_ONCE", value_parser = switch)]
    once: bool,
    /// Print the state once as JSON, as the balancer gives it, and end
    #[arg(long, env = "PADDOCK_JSON", value_parser = switch)]
    json: bool,
}

impl Flags {
    /// Checks what only several flags together can get wrong.
    pub(super) fn into_config(self) -> Result<DashboardConfig, CheckError> {
        let show = match (self.once, self.json) {
            (false, false) => Show::Live,
            (true, false) => Show::Once,
            (false, true) => Show::Json,
            (true, true) => return Err(CheckError::OnceAndJson),
        };
        let token = token(self.management_token, self.management_token_file)?;
        let management = located("--management-addr", &self.management_addr, Asking::Metadata)?;
        Ok(DashboardConfig { management, token, show })
    }
}
