//! The program from the outside: wrong input, start and end.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fleet::stand_in::{mark, running, sleeper, until};

/// The program, in an environment that says nothing.
pub fn paddock() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paddock"));
    let is_ours = |name: &str| name.starts_with("PADDOCK_") || name.starts_with("AWS_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Runs a program that is to end by itself; returns its only line.
pub fn complaint(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {stderr}");
    assert!(
        stdout.is_empty() && stderr.ends_with('\n') && stderr.lines().count() == 1,
        "{command:?}: {stderr}"
    );
    stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{stderr}")).trim_end().to_owned()
}

#[test]
fn wrong_input_gets_one_line_with_flag_value_and_mend() {
    let agent = "agent --local-llamacpp-addr 127.0.0.1:1 --management-addr 127.0.0.1:2";
    for (line, says) in [
        (
            "",
            &[
                "a command is missing",
                "write paddock balancer, paddock agent, paddock dashboard, paddock doctor or paddock key new NAME",
            ][..],
        ),
        ("balancr", &["'balancr'", "write paddock balancer"]),
        ("dashboard --once --json", &["--once: --json is given too; leave one of them out"]),
        (
            "dashboard --management-addr 8085",
            &["--management-addr: '8085' is not an address; write host:port"],
        ),
        ("dashboard --management-addr 127.0.0.1:0", &["--management-addr: '127.0.0.1:0' has port 0"]),
        ("--what", &["--what", "no such flag", "--help"]),
        ("balancer --idle-timout 5m", &["--idle-timout", "did you mean --idle-timeout?"]),
        ("balancer --qqq 5m", &["--qqq", "no such flag", "--help"]),
        ("balancer llama-server", &["'llama-server'", "after --"]),
        (
            "balancer --idle-timeout 5x",
            &["--idle-timeout: '5x' is not a duration; write 10s, 500ms, 5m or a number"],
        ),
        ("balancer --idle-timeout=-5", &["--idle-timeout: '-5' is not a duration"]),
        ("balancer --idle-timeout 99d", &["--idle-timeout: '99d' is too long; write 30d or less"]),
        (
            "balancer --price-per-hour p5.48xlarge --asg-name x",
            &[
                "--price-per-hour: 'p5.48xlarge' has no price here; write USD per hour, such as 0.526, or one of g4dn",
            ],
        ),
        (
            "balancer --max-cost-per-day 0",
            &["--max-cost-per-day: '0' is not a sum of money; write USD above zero"],
        ),
        ("balancer --idle-timeout", &["--idle-timeout: its value is missing; write one"]),
        ("balancer --idle-timeout 1 --idle-timeout 2", &["--idle-timeout: it is given twice; leave one out"]),
        (
            "balancer --keepalive-after never",
            &["--keepalive-after: 'never' is not a duration; write 15s, 500ms, a number of seconds, or off"],
        ),
        (
            "balancer --keepalive-interval 0",
            &["--keepalive-interval: '0' is too short; write a time above zero"],
        ),
        (
            "balancer --keepalive-after off --keepalive-json",
            &[
                "--keepalive-json: --keepalive-after is 'off', so it would do nothing; give a time there, or leave",
            ],
        ),
        ("balancer --boot-timeout 0", &["--boot-timeout: '0' is too short; write a time above zero"]),
        ("balancer --statsd-reporting-interval 0", &["--statsd-reporting-interval: '0' is too short; write"]),
        ("balancer --max-request-body 1MBit", &["--max-request-body: '1MBit' is not a size; write 64MiB"]),
        (
            "balancer --max-buffered-bytes 1MiB",
            &["--max-request-body: '33554432' bytes are more than --max-buffered-bytes '1048576'", "; lower"],
        ),
        ("balancer --max-buffered-bytes 0", &["--max-buffered-bytes: '0' leaves room for nothing; write"]),
        (
            "balancer --max-instances 0",
            &["--max-instances: '0' is not a whole number from 1 to 1000000; write"],
        ),
        ("balancer --min-instances x", &["--min-instances: 'x' is not a whole number from 0"]),
        (
            "balancer --min-instances 2 -- s {port}",
            &["--min-instances: '2' is more than --max-instances '1'; raise"],
        ),
        ("balancer --slots-per-instance 0", &["--slots-per-instance: '0' is not a whole number from 1"]),
        (
            "balancer --max-buffered-requests -1",
            &["--max-buffered-requests: '-1' is not a whole number from 0"],
        ),
        (
            "balancer --worker-threads 9999",
            &["--worker-threads: '9999' is not a whole number from 1 to 1024"],
        ),
        (
            "balancer --reverseproxy-addr 8080",
            &["--reverseproxy-addr: '8080' is not an address; write host:port"],
        ),
        ("balancer --reverseproxy-addr 127.0.0.1:99999", &["'127.0.0.1:99999' is not an address; write"]),
        (
            "balancer --management-addr http://127.0.0.1:80",
            &["--management-addr: 'http://127.0.0.1:80' is not an address"],
        ),
        (
            "balancer --management-addr a-label-of-more-than-63-bytes-is-no-name-and-no-server-is-asked-for-it:80",
            &["--management-addr: 'a-label", "' cannot be resolved", "write an IP"],
        ),
        (
            "balancer --management-addr 0.0.0.0:8085",
            &[
                "--management-addr: '0.0.0.0:8085' can be reached from other machines; give --management-token",
            ],
        ),
        (
            "balancer --management-addr 127.0.0.1:8080",
            &["--management-addr: '127.0.0.1:8080' is --reverseproxy-addr too; give"],
        ),
        (
            "balancer --management-token-file /no/such",
            &["--management-token-file: '/no/such' cannot be read (No such file", "give"],
        ),
        (
            "balancer --management-token-file /dev/null",
            &["--management-token-file: '/dev/null'", "it is empty; write"],
        ),
        (
            "balancer --management-token a --management-token-file b",
            &["--management-token: --management-token-file is given too; leave"],
        ),
        (
            "balancer --agent-addr-allow 10.0.0.0/33",
            &["--agent-addr-allow: '10.0.0.0/33' is not a network; write"],
        ),
        ("balancer --fleet asgs", &["--fleet: 'asgs' is none of its values; write one of none, process"]),
        (
            "balancer --log-format xml",
            &["--log-format: 'xml' is none of its values; write one of text, json"],
        ),
        ("balancer --statsd-addr localhost", &["--statsd-addr: 'localhost' is not an address; write"]),
        ("balancer --statsd-prefix a:b", &["--statsd-prefix: 'a:b' is not a prefix", "write"]),
        (
            "balancer --cloudwatch-namespace=",
            &["--cloudwatch-namespace: '' is not a CloudWatch namespace; write"],
        ),
        ("balancer --cloudwatch-namespace :x", &["--cloudwatch-namespace: ':x' is not", "write"]),
        (
            "balancer --cloudwatch-namespace AWS/EC2",
            &["--cloudwatch-namespace: 'AWS/EC2' is not", "such as Paddock"],
        ),
        ("balancer --config /no/such.toml", &["--config: '/no/such.toml' cannot be read", "give"]),
        (
            "balancer -- llama-server --port 8080",
            &["the command has no {port}: write it where llama-server takes its port, e.g. --port {port}"],
        ),
        ("balancer --fleet process", &["--fleet: 'process' needs a command; write it"]),
        ("balancer --fleet none -- s {port}", &["--fleet: 'none' starts no servers", "leave one"]),
        ("agent", &["--local-llamacpp-addr", "--management-addr", "it is missing; write"]),
        (
            "agent --local-llamacpp-addr 127.0.0.1:0 --management-addr a:1",
            &["--local-llamacpp-addr: '127.0.0.1:0' has port 0", "write"],
        ),
        (&format!("{agent} --monitoring-interval 0"), &["--monitoring-interval: '0' is too short; write"]),
        (
            &format!("{agent} --external-llamacpp-addr ::1"),
            &["--external-llamacpp-addr: '::1' is not an address; write"],
        ),
        (
            &format!("{agent} --external-llamacpp-addr aws:metadata:local-ipv5:80"),
            &[
                "--external-llamacpp-addr: 'aws:metadata:local-ipv5:80' is not an address in the EC2 metadata; write \
                 aws:metadata:local-ipv4:8080",
            ],
        ),
        (
            &format!("{agent} --external-llamacpp-addr aws:metadata:local-ipv4:80"),
            &["--external-llamacpp-addr: 'aws:metadata:local-ipv4:80' needs the EC2 metadata, which \
                 AWS_EC2_METADATA_DISABLED forbids; unset it"],
        ),
        (
            "balancer --statsd-addr aws:metadata:ipv6:8125",
            &["--statsd-addr: 'aws:metadata:ipv6:8125' needs the EC2 metadata", "; unset it"],
        ),
        (
            &format!("{agent} --orphan-timeout 15m"),
            &["--orphan-timeout: this is no EC2 instance", "; give --instance-id"],
        ),
        (&format!("{agent} --orphan-timeout 0"), &["--orphan-timeout: '0' is too short; write"]),
        (
            &format!("{agent} --management-token-file /no/such"),
            &["--management-token-file: '/no/such' cannot be read"],
        ),
    ] {
        let told = complaint(paddock().args(line.split_whitespace()), 2);
        for says in says {
            assert!(told.contains(says), "{line}: {told}");
        }
    }
}

#[test]
fn a_newline_in_a_value_stays_within_the_line() {
    let told = complaint(paddock().args(["balancer", "--idle-timeout", "5\nerror: all is well"]), 2);
    assert!(told.starts_with("--idle-timeout: '5 error: all is well' is not a duration"), "{told}");
}

#[test]
fn secrets_are_not_repeated() {
    for line in [
        &["balancer", "--management-token", "my token"][..],
        &["balancer", "--llamacpp-api-key", "my token"],
        &["balancer", "--management-token", ""],
    ] {
        let told = complaint(paddock().args(line), 2);
        assert!(told.starts_with(line[1]) && told.contains("write") && !told.contains("my token"), "{told}");
    }
    let help =
        paddock().args(["balancer", "--help"]).env("PADDOCK_MANAGEMENT_TOKEN", "sesame").output().unwrap();
    assert!(help.status.success() && help.stderr.is_empty());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("PADDOCK_MANAGEMENT_TOKEN") && !help.contains("sesame"), "{help}");
}

#[test]
fn the_environment_sets_flags_and_is_named_when_it_is_wrong() {
    let told = complaint(paddock().arg("balancer").env("PADDOCK_IDLE_TIMEOUT", "5x"), 2);
    assert!(told.starts_with("PADDOCK_IDLE_TIMEOUT: '5x' is not a duration; write"), "{told}");
    let told = complaint(paddock().arg("balancer").env("PADDOCK_REWRITE_HOST_HEADER", "perhaps"), 2);
    assert!(
        told.starts_with("PADDOCK_REWRITE_HOST_HEADER: 'perhaps' is neither true nor false; write"),
        "{told}"
    );
    let told = complaint(paddock().arg("balancer").env("RUST_LOG", "a=b=c"), 2);
    assert!(told.starts_with("RUST_LOG: 'a=b=c' is not a filter"), "{told}");

    // Seen through a check of two flags: the command line wins over the environment, which wins over the file.
    let file = std::env::temp_dir().join(mark("precedence.toml"));
    std::fs::write(&file, "max-instances = 1\nmin-instances = 9\n").unwrap();
    let mut command = paddock();
    command.args(["balancer", "--config"]).arg(&file).args(["--", "s", "{port}"]);
    let told = complaint(&mut command, 2);
    assert!(told.starts_with("--min-instances: '9' is more than --max-instances '1'"), "{told}");
    command.env("PADDOCK_MAX_INSTANCES", "2");
    let told = complaint(&mut command, 2);
    assert!(told.starts_with("--min-instances: '9' is more than --max-instances '2'"), "{told}");
    let mut command = paddock();
    command.args(["balancer", "--min-instances", "8", "--config"]).arg(&file).args(["--", "s", "{port}"]);
    let told = complaint(command.env("PADDOCK_MIN_INSTANCES", "7"), 2);
    assert!(told.starts_with("--min-instances: '8' is more than --max-instances '1'"), "{told}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "--version", "balancer --help", "agent --help", "help"] {
        let output = paddock().args(line.split(' ')).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(), "{line}");
    }
    let version = paddock().arg("--version").output().unwrap().stdout;
    assert_eq!(String::from_utf8(version).unwrap(), concat!("paddock ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = String::from_utf8(paddock().arg("--help").output().unwrap().stdout).unwrap();
    assert!(!help.contains("exec-child"), "{help}");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in
        [("--reverseproxy-addr", "--management-addr"), ("--management-addr", "--reverseproxy-addr")]
    {
        let told = complaint(paddock().args(["balancer", flag, &address, other, "127.0.0.1:0"]), 1);
        let says =
            format!("{flag}: cannot listen on '{address}': another program listens there; end it, or give");
        assert!(told.starts_with(&says), "{told}");
    }
    let told = complaint(
        paddock().args([
            "balancer",
            "--reverseproxy-addr",
            "192.0.2.1:0",
            "--management-addr",
            "127.0.0.1:0",
        ]),
        1,
    );
    assert!(
        told.contains("--reverseproxy-addr: cannot listen on '192.0.2.1:0': this machine has no such"),
        "{told}"
    );
}

/// A balancer that listens on ports of its own. Killed when it is dropped.
struct Balancer {
    process: Child,
    log: BufReader<ChildStderr>,
}

impl Balancer {
    fn start(line: &[&str]) -> Self {
        let mut command = paddock();
        command.args(["balancer", "--reverseproxy-addr", "127.0.0.1:0", "--management-addr", "127.0.0.1:0"]);
        let mut process = command.args(line).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Self { process, log }
    }

    /// The first line of the log that holds this. The test's own time limit bounds the wait.
    fn logged(&mut self, says: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "no {says:?} in:\n{all}");
            if line.contains(says) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process.id().cast_signed()).unwrap(), signal).unwrap();
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.process.wait().unwrap(), rest)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address that follows this word in the summary.
fn address(summary: &str, word: &str) -> SocketAddr {
    let (_, rest) = summary.split_once(word).unwrap();
    rest.split([',', ' ']).next().unwrap().parse().unwrap()
}

#[test]
fn a_few_lines_say_what_was_started_and_a_signal_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut balancer = Balancer::start(&["--worker-threads", "2", "--management-dashboard-enable"]);
        let summary = balancer.logged("clients on ");
        assert!(summary.contains("open to this machine"), "{summary}");
        for (line, says) in [
            ("servers: ", &["those whose agents register"][..]),
            ("never: ", &["starts or ends a server"]),
            ("requests: ", &["1000 may wait for 10m", "32MiB", "256MiB", "threads: 2"]),
            ("seen at: ", &["/metrics", "/dashboard"]),
        ] {
            let told = balancer.logged(line);
            assert!(says.iter().all(|says| told.contains(says)), "{says:?}: {told}");
        }
        for word in ["clients on ", "management on "] {
            drop(TcpStream::connect_timeout(&address(&summary, word), Duration::from_secs(20)).unwrap());
        }
        balancer.signal(signal);
        let (status, rest) = balancer.end();
        assert_eq!(status.code(), Some(0), "{rest}");
        assert!(!rest.contains("ERROR") && !rest.contains("WARN"), "{rest}");
    }
}

#[tokio::test]
async fn the_end_of_the_balancer_is_the_end_of_its_servers() {
    let mark = mark("kept");
    let script = sleeper(&mark);
    let mut balancer =
        Balancer::start(&["--min-instances", "1", "--", "sh", "-c", &script, "server", "{port}"]);
    let action = balancer.logged("let there be 1 server");
    assert!(action.contains("there are fewer than --min-instances"), "{action}");
    until("a server", || !running(&mark).is_empty()).await;
    balancer.signal(Signal::TERM);
    let (status, rest) = balancer.end();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(running(&mark).is_empty());
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_kills_the_servers() {
    let mark = mark("stubborn");
    // Deaf to SIGTERM, so that the drain takes its whole grace.
    let script = format!("trap '' TERM; {}", sleeper(&mark));
    let mut balancer =
        Balancer::start(&["--min-instances", "1", "--", "sh", "-c", &script, "server", "{port}"]);
    until("a server", || !running(&mark).is_empty()).await;
    balancer.signal(Signal::TERM);
    balancer.logged("a second signal ends at once");
    balancer.signal(Signal::INT);
    let (status, rest) = balancer.end();
    assert_eq!(status.code(), Some(130), "{rest}");
    until("no server", || running(&mark).is_empty()).await;
}

#[test]
fn the_log_can_be_json() {
    let mut balancer = Balancer::start(&["--log-format", "json"]);
    let line: serde_json::Value = serde_json::from_str(&balancer.logged("clients on ")).unwrap();
    assert_eq!(line["level"], "INFO");
    assert!(line["fields"]["message"].as_str().unwrap().starts_with("paddock "), "{line}");
}

#[test]
fn an_agent_ends_with_a_signal() {
    let mut command = paddock();
    command.args(["agent", "--local-llamacpp-addr", "127.0.0.1:9", "--management-addr", "127.0.0.1:9"]);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let mut agent = Balancer { process, log };
    agent.logged("watching llama.cpp on 127.0.0.1:9 every 1s, known to balancers as 127.0.0.1:9");
    agent.logged("reports: to 127.0.0.1:9 without a token");
    agent.logged("never: ends this machine; starts or ends llama.cpp");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0.code(), Some(0));
}
