use std::path::PathBuf;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::*;
use crate::config::{FleetConfig, LogFormat, Secret};
use crate::dashboard::terminal::Show;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn balancer(line: &str) -> BalancerConfig {
    match read(words(line)) {
        Ok(Invocation::Balancer(config)) => config,
        Ok(_) => panic!("not a balancer: {line}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn agent(line: &str) -> AgentConfig {
    match read(words(line)) {
        Ok(Invocation::Agent(config)) => config,
        Ok(_) => panic!("not an agent: {line}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn dashboard(line: &str) -> DashboardConfig {
    match read(words(line)) {
        Ok(Invocation::Dashboard(config)) => config,
        Ok(_) => panic!("not a dashboard: {line}"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn wrong(line: &str) -> String {
    match read(words(line)) {
        Err(Stop::Wrong(error)) => {
            assert_eq!(error.lines().count(), 1, "{error}");
            error
        }
        Err(Stop::Help(_)) => panic!("help: {line}"),
        Ok(_) => panic!("accepted: {line}"),
    }
}

/// A file that is gone when it is dropped.
struct File(NamedTempFile);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let file = NamedTempFile::with_suffix(name).unwrap();
        std::fs::write(&file, text).unwrap();
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

#[test]
fn the_definition_is_sound_and_every_flag_has_its_environment_form() {
    let mut command = Cli::command();
    command.build();
    command.clone().debug_assert();
    let mut flags = 0;
    for name in ["balancer", "agent", "dashboard", "doctor"] {
        let subcommand = command.find_subcommand(name).unwrap();
        for argument in subcommand.get_arguments() {
            // A setting that stayed would keep the program from ever starting.
            let is_setting = |long: &&str| !["help", "check", "json"].contains(long);
            let Some(long) = argument.get_long().filter(is_setting) else { continue };
            let variable = complaint::variable(long);
            assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(variable.as_str()), "{name}");
            flags += 1;
        }
    }
    assert!(flags > 40, "the flags were found: {flags}");
}

/// So that it runs in the environment of either.
#[test]
fn doctor_takes_the_flags_of_balancer_and_agent() {
    let command = Cli::command();
    let of = |name: &str| command.find_subcommand(name).unwrap();
    let others = || of("balancer").get_arguments().chain(of("agent").get_arguments());
    let is_shared = |long: &&str| *long != "json";
    let mut flags = 0;
    for flag in of("doctor").get_arguments() {
        let Some(long) = flag.get_long().filter(is_shared) else { continue };
        let is_same = |other: &clap::Arg| (other.get_long(), other.get_env()) == (Some(long), flag.get_env());
        assert!(others().any(is_same), "{long}");
        flags += 1;
    }
    assert!(flags > 20, "the flags were found: {flags}");
}

#[test]
fn defaults() {
    let config = balancer("paddock balancer");
    assert_eq!(config.proxy_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.management_addr.to_string(), "127.0.0.1:8085");
    assert!(config.management_token.is_none() && config.statsd.is_none() && !config.has_page);
    assert_eq!(config.cloudwatch_namespace, None);
    assert!(matches!(config.fleet, FleetConfig::None) && !config.pool.has_fleet);
    assert_eq!((config.pool.instances_min, config.pool.instances_max, config.pool.slots_hint), (0, 1, 1));
    assert_eq!(config.pool.idle_timeout, Duration::from_secs(300));
    assert_eq!(config.pool.boot_timeout, Duration::from_secs(600));
    assert_eq!((config.core.queue_max, config.core.wait_max), (1000, Duration::from_secs(600)));
    assert_eq!(
        (config.proxy.limits.body_bytes_max, config.proxy.limits.buffered_bytes_max),
        (32 << 20, 256 << 20)
    );
    assert!(config.proxy.worker_threads >= 1);
    assert_eq!(config.proxy.limits.shutdown_grace, Duration::from_secs(300));
    assert_eq!(config.log_format, LogFormat::Text);
    assert!(config.proxy.logs_access);
    let keepalive = config.proxy.keepalive;
    assert_eq!(
        (keepalive.after, keepalive.interval),
        (Some(Duration::from_secs(15)), Duration::from_secs(15))
    );
    assert!(!keepalive.is_for_json && !keepalive.tells_status);
}

#[test]
fn every_flag_of_the_balancer_arrives() {
    let config = balancer(
        "paddock balancer --reverseproxy-addr [::1]:1 --management-addr 0.0.0.0:2 --management-token sesame \
         --agent-addr-allow 10.0.0.0/8 --agent-addr-allow 192.168.0.1 --fleet process --max-instances 4 \
         --min-instances 2 --slots-per-instance 8 --idle-timeout 90s --boot-timeout 2m --max-buffered-requests 7 \
         --max-buffered-bytes 1MiB --max-request-body 1KiB --buffered-request-timeout 1.5 --llamacpp-api-key key \
         --rewrite-host-header --slots-endpoint-enable --keepalive-after 1s --keepalive-interval 2s \
         --keepalive-json --keepalive-status --statsd-addr localhost:8125 --statsd-prefix p \
         --statsd-reporting-interval 1s --statsd-tag env:prod --statsd-tag a:b:c --cloudwatch-namespace Team/llama \
         --log-format json --access-log off --worker-threads 3 --shutdown-grace 10s \
         -- llama-server --port {port} --name -m",
    );
    assert_eq!(config.proxy_addr.to_string(), "[::1]:1");
    assert_eq!(config.management_token.unwrap().into_exposed(), "sesame");
    let allowed: Vec<_> = config.agent_addr_allow.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.0/8", "192.168.0.1/32"]);
    let FleetConfig::Process { command, api_key } = config.fleet else { panic!("no processes") };
    assert_eq!(command, words("llama-server --port {port} --name -m"));
    assert_eq!(api_key.unwrap().into_exposed(), "key");
    assert_eq!((config.pool.instances_min, config.pool.instances_max, config.pool.slots_hint), (2, 4, 8));
    assert!(config.pool.has_fleet);
    assert_eq!(config.pool.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.pool.boot_timeout, Duration::from_secs(120));
    assert_eq!((config.core.queue_max, config.core.wait_max), (7, Duration::from_millis(1500)));
    assert_eq!(
        (config.proxy.limits.body_bytes_max, config.proxy.limits.buffered_bytes_max),
        (1 << 10, 1 << 20)
    );
    assert!(config.proxy.rewrites_host && config.proxy.serves_slots_endpoint);
    let keepalive = config.proxy.keepalive;
    assert_eq!((keepalive.after, keepalive.interval), (Some(Duration::from_secs(1)), Duration::from_secs(2)));
    assert!(keepalive.is_for_json && keepalive.tells_status);
    assert_eq!(balancer("paddock balancer --keepalive-after off").proxy.keepalive.after, None);
    assert_eq!((config.proxy.llamacpp_api_key.as_deref(), config.proxy.worker_threads), (Some("key"), 3));
    let statsd = config.statsd.unwrap();
    assert_eq!((statsd.addr.as_str(), statsd.prefix.as_str()), ("localhost:8125", "p"));
    assert_eq!(statsd.interval, Duration::from_secs(1));
    let tags: Vec<_> = statsd.tags.iter().map(|tag| (tag.name.as_str(), tag.value.as_str())).collect();
    assert_eq!(tags, [("env", "prod"), ("a", "b:c")]);
    assert!(!config.proxy.logs_access);
    assert_eq!(config.cloudwatch_namespace.as_deref(), Some("Team/llama"));
    assert_eq!(
        (config.proxy.limits.shutdown_grace, config.log_format),
        (Duration::from_secs(10), LogFormat::Json)
    );
}

#[test]
fn every_flag_of_the_agent_arrives() {
    let config = agent(
        "paddock agent --local-llamacpp-addr 127.0.0.1:9 --external-llamacpp-addr my-host:10 --llamacpp-api-key key \
         --management-addr a:1 --management-addr b:2 --management-token sesame --monitoring-interval 500ms --name left \
         --instance-id i-1 --orphan-timeout 15m --log-format json",
    );
    let AgentConfig { agent, log_format } = config;
    assert_eq!(
        (agent.server.to_string(), agent.external.to_string()),
        ("127.0.0.1:9".into(), "my-host:10".into())
    );
    assert_eq!((agent.api_key.as_deref(), agent.interval), (Some("key"), Duration::from_millis(500)));
    assert_eq!((agent.name.as_deref(), agent.instance_id.as_deref()), (Some("left"), Some("i-1")));
    let management: Vec<_> = agent.management.iter().map(ToString::to_string).collect();
    assert_eq!((management, agent.management_token.as_deref()), (words("a:1 b:2"), Some("sesame")));
    assert_eq!(agent.orphan_timeout, Some(Duration::from_secs(15 * 60)));
    assert_eq!(log_format, LogFormat::Json);
}

#[test]
fn command_lines_of_paddler_work() {
    let config = balancer(
        "paddler balancer --management-addr 127.0.0.1:8095 --reverseproxy-addr 127.0.0.1:8096 --rewrite-host-header \
         --slots-endpoint-enable --statsd-addr 127.0.0.1:8125 --statsd-prefix paddler --statsd-reporting-interval 10 \
         --management-dashboard-enable --max-buffered-requests 30 --buffered-request-timeout 10",
    );
    assert_eq!(config.core.wait_max, Duration::from_secs(10));
    assert_eq!(config.statsd.unwrap().interval, Duration::from_secs(10));
    assert!(config.has_page);

    for key in ["--llamacpp-api-key", "--local-llamacpp-api-key"] {
        let config = agent(&format!(
            "paddler agent --external-llamacpp-addr 10.0.0.7:8088 --local-llamacpp-addr localhost:8088 {key} k \
             --management-addr 10.0.0.1:8095 --monitoring-interval 10 --name left"
        ));
        assert_eq!(config.agent.api_key.as_deref(), Some("k"));
        assert_eq!(config.agent.interval, Duration::from_secs(10));
    }
    let config = agent("paddler agent --local-llamacpp-addr localhost:8088 --management-addr 10.0.0.1:8095");
    assert_eq!(config.agent.external.to_string(), "localhost:8088");
    assert_eq!(config.agent.orphan_timeout, None);
}

#[test]
fn the_fleet_follows_from_the_command() {
    assert!(matches!(balancer("paddock balancer --fleet none").fleet, FleetConfig::None));
    assert!(matches!(balancer("paddock balancer -- s {port}").fleet, FleetConfig::Process { .. }));
    assert!(wrong("paddock balancer -- llama-server").starts_with("the command has no {port}: "));
    assert!(wrong("paddock balancer --fleet process").starts_with("--fleet: 'process' needs a command"));
    assert!(wrong("paddock balancer --fleet none -- s {port}").starts_with("--fleet: 'none' starts no"));
    assert!(wrong("paddock balancer --min-instances 1").starts_with("--min-instances: '1' needs"));
}

#[test]
fn tags_have_somewhere_to_go() {
    let line = "paddock balancer --statsd-tag a:b";
    assert!(wrong(line).starts_with("--statsd-tag: there is no StatsD server"));
    let with = format!("{line} --statsd-addr localhost:8125");
    assert_eq!(balancer(&with).statsd.unwrap().tags.len(), 1);
    let eleven = format!("{with} --statsd-tag {}", ["c:d"; 10].join(","));
    assert!(wrong(&eleven).contains("11 tags are given; give 10 or fewer"));
    assert!(
        wrong("paddock balancer --statsd-addr localhost:1 --statsd-tag a:b|c").contains("'a:b|c' is no tag")
    );
    assert!(wrong("paddock balancer --access-log perhaps").contains("'perhaps' is neither on nor off"));
}

#[test]
fn management_is_open_to_this_machine_alone() {
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
        balancer(&format!("paddock balancer --management-addr {address}"));
    }
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:10.0.0.1]:1"] {
        let line = format!("paddock balancer --management-addr {address}");
        assert!(wrong(&line).contains("--management-token"), "{address}");
        balancer(&format!("{line} --management-no-auth"));
        balancer(&format!("{line} --management-token sesame"));
        assert!(wrong(&format!("{line} --management-token t --management-no-auth")).contains("leave one"));
    }
}

#[test]
fn a_token_may_lie_in_a_file() {
    let file = File::new("token", "sesame\n");
    let path = file.path();
    let config = balancer(&format!("paddock balancer --management-token-file {path}"));
    assert_eq!(config.management_token.unwrap().into_exposed(), "sesame");
    let line = "paddock agent --local-llamacpp-addr a:1 --management-addr b:1 --management-token-file";
    assert_eq!(agent(&format!("{line} {path}")).agent.management_token.as_deref(), Some("sesame"));
    let both = wrong(&format!("paddock balancer --management-token t --management-token-file {path}"));
    assert!(both.contains("--management-token-file is given too"), "{both}");
    for (text, says) in [("", "it is empty"), (" \n", "it is empty"), ("two words", "it holds a space")] {
        let file = File::new("bad-token", text);
        let error = wrong(&format!("paddock balancer --management-token-file {}", file.path()));
        assert!(error.contains(says) && error.contains(file.path()), "{error}");
        assert!(text.len() < 5 || !error.contains(text), "{error}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = File::new(
        "wins.toml",
        r#"
        idle-timeout = "7m"
        boot-timeout = 30
        buffered-request-timeout = 0.5
        max-instances = 3
        rewrite-host-header = true
        slots-endpoint-enable = false
        agent-addr-allow = ["10.0.0.0/8", "10.1.1.1"]
        statsd-addr = "localhost:8125"
        cloudwatch-namespace = "Paddock"
        command = ["llama-server", "--port", "{port}"]
        "#,
    );
    let path = file.path();
    let config = balancer(&format!("paddock balancer --config {path}"));
    assert_eq!(config.pool.idle_timeout, Duration::from_secs(420));
    assert_eq!(config.pool.boot_timeout, Duration::from_secs(30));
    assert_eq!(config.core.wait_max, Duration::from_millis(500));
    assert_eq!((config.pool.instances_max, config.agent_addr_allow.len()), (3, 2));
    assert!(config.proxy.rewrites_host && !config.proxy.serves_slots_endpoint && config.statsd.is_some());
    assert_eq!(config.cloudwatch_namespace.as_deref(), Some("Paddock"));
    let FleetConfig::Process { command, .. } = config.fleet else { panic!("no processes") };
    assert_eq!(command, ["llama-server", "--port", "{port}"]);

    let config = balancer(&format!(
        "paddock balancer --idle-timeout 1m --config={path} --max-instances=5 --agent-addr-allow ::1 \
         --slots-endpoint-enable -- other {{port}}"
    ));
    assert_eq!(config.pool.idle_timeout, Duration::from_secs(60));
    assert_eq!((config.pool.instances_max, config.agent_addr_allow.len()), (5, 1));
    assert!(config.proxy.serves_slots_endpoint);
    let FleetConfig::Process { command, .. } = config.fleet else { panic!("no processes") };
    assert_eq!(command, ["other", "{port}"]);
}

#[test]
fn a_bad_file_is_named_with_what_is_bad() {
    for (text, says) in [
        ("idle-timout = \"5m\"", "unknown key 'idle-timout'"),
        ("config = \"other.toml\"", "unknown key 'config'"),
        ("help = true", "unknown key 'help'"),
        ("\nidle-timeout 5", "is not TOML: line 2: "),
        ("[balancer]\nidle-timeout = 5", "unknown key 'balancer'"),
        ("idle-timeout = true", "a value for 'idle-timeout' that is boolean; write a string or a number"),
        ("rewrite-host-header = \"yes\"", "'rewrite-host-header' that is string; write true or false"),
        ("agent-addr-allow = [1.5, true]", "write strings in the list"),
        ("command = \"llama-server {port}\"", "write a list of strings"),
        ("idle-timeout = \"5x\"", "bad.toml: --idle-timeout: '5x' is not a duration; write 10s"),
        ("max-instances = 0", "bad.toml: --max-instances: '0' is not a whole number from 1"),
    ] {
        let file = File::new("bad.toml", text);
        let error = wrong(&format!("paddock balancer --config {}", file.path()));
        assert!(error.contains(says) && error.contains(file.path()), "{text}: {error}");
    }
    let error = wrong("paddock balancer --config /no/such.toml");
    assert!(error.starts_with("--config: '/no/such.toml' cannot be read (No such file"), "{error}");
}

#[test]
fn every_flag_of_the_dashboard_arrives() {
    let config = dashboard("paddock dashboard");
    assert_eq!((config.management.to_string().as_str(), config.show), ("127.0.0.1:8085", Show::Live));
    assert!(config.token.is_none());
    let config = dashboard("paddock dashboard --management-addr gateway:1 --management-token t --once");
    assert_eq!((config.management.to_string().as_str(), config.show), ("gateway:1", Show::Once));
    assert_eq!(config.token.map(Secret::into_exposed).as_deref(), Some("t"));
    assert_eq!(dashboard("paddock dashboard --json").show, Show::Json);
    let error = wrong("paddock dashboard --once --json");
    assert_eq!(error, "--once: --json is given too; leave one of them out");
    let error = wrong("paddock dashboard --management-token a --management-token-file b");
    assert!(error.starts_with("--management-token: --management-token-file is given too"), "{error}");
}

#[test]
fn prices_are_of_the_groups_in_their_order() {
    let config = balancer("paddock balancer --asg-name a,b --price-per-hour 0.2 --price-per-hour g5.xlarge");
    let prices: Vec<f64> = config.pool.prices.iter().map(|price| price.usd()).collect();
    assert_eq!((prices, config.pool.budget_per_day, config.state_dir), (vec![0.2, 1.006], None, None));
    let line = "paddock balancer --price-per-hour 1 --max-cost-per-day 2.5 --state-dir /x -- s {port}";
    let config = balancer(line);
    assert_eq!(config.pool.budget_per_day, crate::core::Money::from_usd(2.5));
    assert_eq!(config.state_dir, Some(PathBuf::from("/x")));
}

#[test]
fn prices_and_limits_that_would_do_nothing_are_refused() {
    for (line, says) in [
        ("--max-cost-per-day 5", "--max-cost-per-day: '5' needs something that starts servers"),
        ("--price-per-hour 0.5", "--price-per-hour: '0.5' needs something that starts servers"),
        ("--max-cost-per-day 5 --asg-name a", "--max-cost-per-day: '5' needs prices; give --price-per-hour"),
        ("--price-per-hour 1 --asg-name a,b", "--price-per-hour: 1 prices are given for 2 --asg-name"),
        ("--price-per-hour 1,2,3 --asg-name a,b", "--price-per-hour: 3 prices are given for 2 --asg-name"),
        (
            "--price-per-hour 1,2 -- s {port}",
            "--price-per-hour: 2 prices are given for servers of one command",
        ),
        ("--price-per-hour 1,x -- s {port}", "--price-per-hour: 'x' has no price here"),
    ] {
        let error = wrong(&format!("paddock balancer {line}"));
        assert!(error.starts_with(says), "{error}");
    }
}
