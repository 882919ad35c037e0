//! The `paddock` program itself, as a process.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::http;
use super::wait::{eventually, free_addr};

/// From its start to its first answer on the management address.
const START_MAX: Duration = Duration::from_secs(20);
/// From an event to its line: a thread of its own writes the log.
const SAID_MAX: Duration = Duration::from_secs(30);
/// From whatever ends it to its end.
const END_MAX: Duration = Duration::from_secs(60);

/// Where the EC2 instance metadata is.
pub const IMDS_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
/// Forbids its use.
const IMDS_DISABLED: &str = "AWS_EC2_METADATA_DISABLED";

/// A process with its output. It is killed when this is dropped; its output is shown if the test fails.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    pid: Pid,
    /// Where both streams go. A pipe would have to be emptied by somebody, who comes to it when it suits them.
    output: File,
}

impl Program {
    /// Starts `command`, whose first part is the program.
    pub fn spawn(command: &[String]) -> Self {
        Self::spawn_in(command, &[])
    }

    /// The same with these variables. AWS is what they say, and nothing otherwise.
    pub fn spawn_in(command: &[String], environment: &[(&str, &str)]) -> Self {
        Self::spawn_with(command, environment, Stdio::null(), None)
    }

    /// The same with these listening sockets, as a service manager hands them over: the first for clients, the second
    /// for management.
    pub fn spawn_inheriting(
        command: &[String],
        environment: &[(&str, &str)],
        sockets: [&TcpListener; 2],
    ) -> Self {
        // Only standard descriptors pass to a child without unsafe code. The shell takes two of them to where they
        // belong, and becomes the program, so that LISTEN_PID is true.
        let script = "exec 3<&0 4<&1 0</dev/null 1>&2; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\"";
        let words = ["sh", "-c", script, "sh"].map(str::to_owned);
        let [first, second] = sockets.map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        Self::spawn_with(&[&words, command].concat(), environment, first.into(), Some(second.into()))
    }

    /// `stdout` is its output unless it is something else.
    fn spawn_with(
        command: &[String],
        environment: &[(&str, &str)],
        stdin: Stdio,
        stdout: Option<Stdio>,
    ) -> Self {
        let name = command.join(" ");
        let mut process = Command::new(&command[0]);
        without_aws(&mut process);
        if environment.iter().any(|(name, _)| *name == IMDS_ENDPOINT) {
            process.env_remove(IMDS_DISABLED);
        }
        let output = tempfile::tempfile().unwrap();
        let stream = || Stdio::from(output.try_clone().unwrap());
        let child = process
            .args(&command[1..])
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(stdout.unwrap_or_else(stream))
            .stderr(stream())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        Self { name, child, pid, output }
    }

    /// The lines that it has written so far, both streams. Once its end was waited for, all that it wrote.
    pub fn output(&self) -> String {
        let mut bytes = vec![0; self.output.metadata().unwrap().len().try_into().unwrap()];
        self.output.read_exact_at(&mut bytes, 0).unwrap();
        if self.child.id().is_some() {
            bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The output, once it holds `text`.
    pub async fn until_says(&self, text: &str) -> String {
        eventually(&format!("'{text}' from {}", self.name), SAID_MAX, async || {
            let output = self.output();
            output.contains(text).then_some(output)
        })
        .await
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Asks it to end. One that has ended already is left alone.
    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it without asking.
    pub fn sigkill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends any signal, for example to freeze it.
    pub fn signal(&self, signal: Signal) {
        // Once waited for, its number may be another's.
        if self.child.id().is_some() {
            kill_process(self.pid, signal).unwrap();
        }
    }

    /// Its end, which must come within a minute.
    pub async fn wait(&mut self) -> ExitStatus {
        let Ok(status) = timeout(END_MAX, self.child.wait()).await else {
            panic!("{} did not end within {END_MAX:?}", self.name)
        };
        status.unwrap()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks `GET path` until the answer is 200. Panics when the process ends before.
    pub async fn until_answers(&mut self, addr: SocketAddr, path: &str) {
        let what = format!("200 to GET {path} at {addr} from {}", self.name);
        eventually(&what, START_MAX, async || {
            if let Some(status) = self.ended() {
                panic!("{}: {status} before its first answer:\n{}", self.name, self.output());
            }
            http::try_get(addr, path).await.filter(|answer| answer.status == 200)
        })
        .await;
    }
}

#[allow(clippy::print_stderr, reason = "what a failed test or bench is understood by")]
impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of {}\n{}---", self.name, self.output());
        }
    }
}

/// A running `paddock balancer`.
#[derive(Debug)]
pub struct Paddock {
    program: Program,
    proxy: SocketAddr,
    management: SocketAddr,
}

impl Paddock {
    /// `paddock balancer` on free ports, with these flags (and `--`, COMMAND) besides. Returns once it answers.
    pub async fn start(args: &[&str]) -> Self {
        Self::start_on(free_addr(), free_addr(), args).await
    }

    /// The same with these variables.
    pub async fn start_in(environment: &[(String, String)], args: &[&str]) -> Self {
        Self::start_on_in(environment, free_addr(), free_addr(), args).await
    }

    /// The same on given addresses: a restart comes back where the last one was.
    pub async fn start_on(proxy: SocketAddr, management: SocketAddr, args: &[&str]) -> Self {
        Self::start_on_in(&[], proxy, management, args).await
    }

    /// The same on given addresses and with these variables.
    pub async fn start_on_in(
        environment: &[(String, String)],
        proxy: SocketAddr,
        management: SocketAddr,
        args: &[&str],
    ) -> Self {
        let (proxy_addr, management_addr) = (proxy.to_string(), management.to_string());
        let listen = ["balancer", "--reverseproxy-addr", &proxy_addr, "--management-addr", &management_addr];
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut program = Program::spawn_in(&command(&[&listen, args].concat()), &environment);
        program.until_answers(management, "/health").await;
        Self { program, proxy, management }
    }

    /// `paddock balancer` on sockets that it inherits: clients' and management's. Returns once it has started; while
    /// another accepts from the same sockets, who answers is open.
    pub async fn start_inheriting(sockets: [&TcpListener; 2], args: &[&str]) -> Self {
        let [proxy, management] = sockets.map(|socket| socket.local_addr().unwrap());
        let program = Program::spawn_inheriting(&command(&[&["balancer"], args].concat()), &[], sockets);
        Self { program, proxy, management }.started().await
    }

    /// The same beside a balancer that runs on these addresses.
    pub async fn take_over(proxy: SocketAddr, management: SocketAddr, args: &[&str]) -> Self {
        let (proxy_addr, management_addr) = (proxy.to_string(), management.to_string());
        let listen = ["balancer", "--takeover", "--reverseproxy-addr", &proxy_addr];
        let listen = [&listen[..], &["--management-addr", &management_addr]].concat();
        let program = Program::spawn(&command(&[&listen, args].concat()));
        Self { program, proxy, management }.started().await
    }

    async fn started(mut self) -> Self {
        eventually("it serves clients", START_MAX, async || {
            if let Some(status) = self.program.ended() {
                panic!("{status} before it served:\n{}", self.output());
            }
            self.output().contains("clients on ").then_some(())
        })
        .await;
        self
    }

    /// `paddock agent` that watches `llamacpp` and reports to `management`; `args` are further flags.
    pub fn agent(llamacpp: SocketAddr, management: SocketAddr, args: &[&str]) -> Program {
        let (llamacpp, management) = (llamacpp.to_string(), management.to_string());
        let watch = ["agent", "--local-llamacpp-addr", &llamacpp, "--external-llamacpp-addr", &llamacpp];
        Program::spawn(&command(&[&watch, ["--management-addr", &management].as_slice(), args].concat()))
    }

    /// Any `paddock`, with these variables.
    pub fn spawn_in(args: &[&str], environment: &[(&str, &str)]) -> Program {
        Program::spawn_in(&command(args), environment)
    }

    /// Runs `paddock` to its end: for command lines that it should refuse.
    pub async fn run(args: &[&str]) -> Output {
        let command = command(args);
        let mut process = Command::new(&command[0]);
        without_aws(&mut process);
        let run = process.args(&command[1..]).kill_on_drop(true).output();
        timeout(END_MAX, run).await.expect("paddock did not end").unwrap()
    }

    /// Where clients go.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Where agents go.
    pub fn management(&self) -> SocketAddr {
        self.management
    }

    /// The whole snapshot.
    pub async fn state(&self) -> Value {
        http::get(self.management, "/api/v1/state").await.json()
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        self.program.output()
    }

    /// The output, once it holds `text`.
    pub async fn until_says(&self, text: &str) -> String {
        self.program.until_says(text).await
    }

    /// Asks it to drain and end.
    pub fn sigterm(&self) {
        self.program.sigterm();
    }

    /// Ends it without asking.
    pub fn sigkill(&self) {
        self.program.sigkill();
    }

    /// Its end.
    pub async fn wait(&mut self) -> ExitStatus {
        self.program.wait().await
    }
}

/// Whoever runs the tests may have credentials, and the machine may be an EC2 instance: no test touches either.
fn without_aws(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command.env(IMDS_DISABLED, "true");
}

fn command(args: &[&str]) -> Vec<String> {
    [env!("CARGO_BIN_EXE_paddock")].iter().chain(args).map(ToString::to_string).collect()
}
