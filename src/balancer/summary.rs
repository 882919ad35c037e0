//! What was started: what it will do, and what it will never do, in a few lines.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{BalancerConfig, FleetConfig};

/// One line for each matter, the addresses first.
pub(super) fn of(config: &BalancerConfig, proxy: SocketAddr, management: SocketAddr) -> Vec<String> {
    let mut lines = vec![
        format!(
            "paddock {}: clients on {proxy} ({}), management on {management} ({})",
            env!("CARGO_PKG_VERSION"),
            clients(config),
            access(config, management)
        ),
        format!("servers: {}", servers(config)),
        format!("never: {}", never(config)),
        format!("requests: {}", requests(config)),
        format!("seen at: {}", seen_at(config, management)),
    ];
    lines.extend(costs(config).map(|costs| format!("costs: {costs}")));
    lines
}

fn clients(config: &BalancerConfig) -> &'static str {
    match (&config.proxy.tls, &config.proxy.keys) {
        (Some(_), Some(_)) => "TLS, by key",
        (Some(_), None) => "TLS, open to everybody who reaches it",
        (None, Some(_)) => "by key",
        (None, None) => "open to everybody who reaches it",
    }
}

fn access(config: &BalancerConfig, management: SocketAddr) -> &'static str {
    match config.management_token {
        Some(_) => "by token",
        None if management.ip().to_canonical().is_loopback() => "open to this machine",
        None => "open to everybody",
    }
}

/// Where they come from, and when they begin and end.
fn servers(config: &BalancerConfig) -> String {
    let what = match &config.fleet {
        FleetConfig::None => return "those whose agents register".to_owned(),
        FleetConfig::Asg(asg) => match &asg.groups[..] {
            [group] => format!("of the Auto Scaling group {group}"),
            groups => format!("of the Auto Scaling groups {}, tried in this order", groups.join(", ")),
        },
        // Not the whole command: its arguments may hold keys.
        FleetConfig::Process { command, .. } => format!("of {}", command.first().map_or("", String::as_str)),
    };
    let pool = &config.pool;
    format!(
        "{} to {} {what}; started when a request waits, ended after {} without work",
        pool.instances_min,
        pool.instances_max,
        time(pool.idle_timeout),
    )
}

/// What the core's invariants and the limits forbid.
fn never(config: &BalancerConfig) -> String {
    let pool = &config.pool;
    let last = match &config.fleet {
        FleetConfig::None => return "starts or ends a server".to_owned(),
        FleetConfig::Process { .. } => "leaves one running when it ends itself",
        FleetConfig::Asg(_) => "changes of a group more than its desired capacity and one tag",
    };
    // Once the day's money is spent, those that boot would only cost more.
    let unless = match pool.budget_per_day {
        Some(_) => ", before the day's cost is spent,",
        None => "",
    };
    format!(
        "asks for more than {} at once; ends one that serves, or{unless} that boots for less than {}; {last}",
        pool.instances_max,
        time(pool.boot_timeout),
    )
}

/// What is known of money, and what bounds it. Servers that others start are theirs to pay for.
fn costs(config: &BalancerConfig) -> Option<String> {
    if matches!(config.fleet, FleetConfig::None) {
        return None;
    }
    let pool = &config.pool;
    let prices: Vec<String> = pool.prices.iter().map(|price| format!("${}", price.usd())).collect();
    let each = match &prices[..] {
        [] => "unknown (--price-per-hour)".to_owned(),
        prices => format!("{} an hour each", prices.join(", ")),
    };
    let limit = match pool.budget_per_day {
        Some(most) => format!("none is started that would take a UTC day beyond ${:.2}", most.usd()),
        None => "no limit (--max-cost-per-day)".to_owned(),
    };
    let kept = match &config.state_dir {
        Some(folder) => format!("kept in {}", folder.display()),
        None => "not kept over a restart (--state-dir)".to_owned(),
    };
    Some(format!("{each}; {limit}; {kept}"))
}

fn requests(config: &BalancerConfig) -> String {
    let (queue, proxy) = (&config.core, &config.proxy);
    let waiting = match queue.queue_max {
        0 => "none may wait".to_owned(),
        1 => format!("1 may wait for {}", time(queue.wait_max)),
        most => format!("{most} may wait for {}", time(queue.wait_max)),
    };
    format!(
        "{waiting}, up to {} each and {} in all; connections: {}; threads: {}",
        size(proxy.limits.body_bytes_max),
        size(proxy.limits.buffered_bytes_max),
        proxy.limits.connections_max,
        proxy.worker_threads,
    )
}

fn seen_at(config: &BalancerConfig, management: SocketAddr) -> String {
    let mut places = vec![format!("http://{management}/metrics"), "paddock dashboard".to_owned()];
    if config.has_page {
        places.push(format!("http://{management}/dashboard"));
    }
    let statsd = config.statsd.as_ref();
    places.extend(statsd.map(|statsd| format!("StatsD {} every {}", statsd.addr, time(statsd.interval))));
    let namespace = config.cloudwatch_namespace.as_ref();
    places.extend(namespace.map(|namespace| format!("CloudWatch {namespace}")));
    places.join(", ")
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
    use crate::cli::{self, Invocation};

    /// The summary of the balancer with these flags, without its first word, which is the version's.
    fn summary(flags: &str) -> String {
        let words = format!("paddock balancer --worker-threads 2 {flags}");
        let Ok(Invocation::Balancer(config)) = cli::read(words.split_whitespace()) else {
            panic!("not a balancer: {flags}")
        };
        let lines = of(&config, config.proxy_addr, config.management_addr);
        assert!(lines.iter().all(|line| !line.contains('\n') && line.len() < 200), "{lines:?}");
        let version = format!("paddock {}: ", env!("CARGO_PKG_VERSION"));
        lines.join("\n").strip_prefix(&version).unwrap().to_owned()
    }

    #[test]
    fn a_balancer_without_a_fleet() {
        assert_eq!(
            summary(""),
            "clients on 127.0.0.1:8080 (open to everybody who reaches it), management on 127.0.0.1:8085 (open to this machine)\n\
             servers: those whose agents register\n\
             never: starts or ends a server\n\
             requests: 1000 may wait for 10m, up to 32MiB each and 256MiB in all; connections: 16384; threads: 2\n\
             seen at: http://127.0.0.1:8085/metrics, paddock dashboard"
        );
    }

    #[test]
    fn one_of_processes_tells_nothing_of_their_arguments() {
        assert_eq!(
            summary(
                "--management-addr 0.0.0.0:9085 --management-no-auth --max-instances 3 --min-instances 1 --idle-timeout 90s \
                 --boot-timeout 2m --max-buffered-requests 0 --management-dashboard-enable \
                 -- llama-server --api-key sesame --port {port}"
            ),
            "clients on 127.0.0.1:8080 (open to everybody who reaches it), management on 0.0.0.0:9085 (open to everybody)\n\
             servers: 1 to 3 of llama-server; started when a request waits, ended after 1m 30s without work\n\
             never: asks for more than 3 at once; ends one that serves, or that boots for less than 2m; leaves one running when \
             it ends itself\n\
             requests: none may wait, up to 32MiB each and 256MiB in all; connections: 16384; threads: 2\n\
             seen at: http://0.0.0.0:9085/metrics, paddock dashboard, http://0.0.0.0:9085/dashboard\n\
             costs: unknown (--price-per-hour); no limit (--max-cost-per-day); not kept over a restart (--state-dir)"
        );
    }

    #[test]
    fn one_of_groups_says_their_order_and_what_it_leaves_alone() {
        assert_eq!(
            summary(
                "--management-addr [::]:8085 --management-token sesame --asg-name spot --asg-name on-demand --max-instances 2 \
                 --max-buffered-requests 1 --statsd-addr localhost:8125 --cloudwatch-namespace Team/llama \
                 --price-per-hour 0.2,g5.xlarge --max-cost-per-day 7.5 --state-dir /var/lib/paddock"
            ),
            "clients on 127.0.0.1:8080 (open to everybody who reaches it), management on [::]:8085 (by token)\n\
             servers: 0 to 2 of the Auto Scaling groups spot, on-demand, tried in this order; started when a request waits, \
             ended after 5m without work\n\
             never: asks for more than 2 at once; ends one that serves, or, before the day's cost is spent, that boots for less \
             than 10m; changes of a group more than its desired capacity and one tag\n\
             requests: 1 may wait for 10m, up to 32MiB each and 256MiB in all; connections: 16384; threads: 2\n\
             seen at: http://[::]:8085/metrics, paddock dashboard, StatsD localhost:8125 every 10s, CloudWatch Team/llama\n\
             costs: $0.2, $1.006 an hour each; none is started that would take a UTC day beyond $7.50; kept in /var/lib/paddock"
        );
        assert!(
            summary("--asg-name gpu").contains("\nservers: 0 to 1 of the Auto Scaling group gpu; started")
        );
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for text in ["64MiB", "1GiB", "3KiB", "1023B", "1536KiB"] {
            assert_eq!(size(crate::config::size(text).unwrap()), text);
        }
    }
}
