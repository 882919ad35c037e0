//! What clients that wait are sent.

use std::time::Duration;

use super::super::complaint::CheckError;
use crate::config::{OrOff, duration_or_off, interval, switch};
use crate::proxy::KeepaliveConfig;

#[derive(Debug, clap::Args)]
pub(super) struct KeepaliveFlags {
    /// Send bytes to streaming clients that have waited so long, so that nobody takes the silence for the end; or off
    #[arg(long, env = "PADDOCK_KEEPALIVE_AFTER", value_name = "TIME|off", default_value = "15s")]
    #[arg(value_parser = duration_or_off)]
    keepalive_after: OrOff<Duration>,
    /// And again so often
    #[arg(long, env = "PADDOCK_KEEPALIVE_INTERVAL", value_name = "TIME", default_value = "15s")]
    #[arg(value_parser = interval)]
    keepalive_interval: Duration,
    /// Send blanks to clients that wait for JSON, too: its status is then 200, whatever becomes of it
    #[arg(long, env = "PADDOCK_KEEPALIVE_JSON", value_parser = switch)]
    keepalive_json: bool,
    /// Tell streaming clients that wait their place in the queue, about how long it takes, and what the server does
    #[arg(long, env = "PADDOCK_KEEPALIVE_STATUS", value_parser = switch)]
    keepalive_status: bool,
}

impl KeepaliveFlags {
    pub(super) fn into_config(self) -> Result<KeepaliveConfig, CheckError> {
        let OrOff(after) = self.keepalive_after;
        let idle = [("--keepalive-json", self.keepalive_json), ("--keepalive-status", self.keepalive_status)];
        match idle.into_iter().find(|(_, is_on)| after.is_none() && *is_on) {
            Some((flag, _)) => Err(CheckError::KeepaliveOff(flag)),
            None => Ok(KeepaliveConfig {
                after,
                interval: self.keepalive_interval,
                is_for_json: self.keepalive_json,
                tells_status: self.keepalive_status,
            }),
        }
    }
}
