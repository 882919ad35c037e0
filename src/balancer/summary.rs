//! What was started, in one line.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{BalancerConfig, FleetConfig};

pub(super) fn of(config: &BalancerConfig, proxy: SocketAddr, management: SocketAddr) -> String {
    let clients = match (&config.proxy.tls, &config.proxy.keys) {
        (Some(_), Some(_)) => "TLS, by key",
        (Some(_), None) => "TLS, open to everybody who reaches it",
        (None, Some(_)) => "by key",
        (None, None) => "open to everybody who reaches it",
    };
    let access = match config.management_token {
        Some(_) => "by token",
        None if management.ip().to_canonical().is_loopback() => "open to this machine",
        None => "open to everybody",
    };
    let fleet = match &config.fleet {
        FleetConfig::None => "by agents that register".to_owned(),
        FleetConfig::Asg(asg) => format!(
            "{} to {} of the Auto Scaling groups {}, ended after {} without work",
            config.pool.instances_min,
            config.pool.instances_max,
            asg.groups.join(", "),
            time(config.pool.idle_timeout),
        ),
        // Not the whole command: its arguments may hold keys.
        FleetConfig::Process { command, .. } => format!(
            "{} to {} of {}, ended after {} without work",
            config.pool.instances_min,
            config.pool.instances_max,
            command.first().map_or("", String::as_str),
            time(config.pool.idle_timeout),
        ),
    };
    let queue = match config.core.queue_max {
        0 => "none may wait".to_owned(),
        1 => format!("1 may wait for {}", time(config.core.wait_max)),
        most => format!("{most} may wait for {}", time(config.core.wait_max)),
    };
    format!(
        "paddock {}: clients on {proxy} ({clients}), management on {management} ({access}); servers: {fleet}; requests: {queue}, \
         up to {} each and {} in all; threads: {}",
        env!("CARGO_PKG_VERSION"),
        size(config.proxy.limits.body_bytes_max),
        size(config.proxy.limits.buffered_bytes_max),
        config.proxy.worker_threads,
    )
}

fn time(span: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(span)
}

/// In the largest unit that leaves no rest.
fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for text in ["64MiB", "1GiB", "3KiB", "1023B", "1536KiB"] {
            assert_eq!(size(crate::config::size(text).unwrap()), text);
        }
    }
}
