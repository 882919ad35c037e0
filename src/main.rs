//! The `paddock` program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use paddock::agent;
use paddock::balancer::{self, End};
use paddock::cli::{self, Invocation, Stop};
use paddock::clock::Clock;
use paddock::colour::is_coloured;
use paddock::config::{AgentConfig, BalancerConfig};
use paddock::dashboard::terminal::{self, DashboardConfig, TerminalError};
use paddock::doctor::{self, DoctorConfig};
use paddock::fleet::guard;
use paddock::log::{self, Log};
use paddock::notify;
use paddock::proxy::NewKey;
use paddock::signals::EndSignals;

/// The program did not start, or did not go on.
const FAILED: u8 = 1;

/// The input is wrong.
const WRONG_INPUT: u8 = 2;

/// At the end, for lookups of names that hang in the system's resolver.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let ended = match cli::read(std::env::args_os()) {
        Ok(Invocation::ExecChild { parent, command }) => {
            return complain(FAILED, &guard::exec(parent, &command));
        }
        // The log ends with these lines: what it holds is written before the last words.
        Ok(Invocation::Balancer(config)) => match Log::start(config.log_format) {
            Ok(_log) => run_balancer(config),
            Err(error) => return complain(WRONG_INPUT, &error),
        },
        Ok(Invocation::Agent(config)) => match Log::start(config.log_format) {
            Ok(_log) => run_agent(config),
            Err(error) => return complain(WRONG_INPUT, &error),
        },
        Ok(Invocation::Dashboard(config)) => run_dashboard(config),
        Ok(Invocation::Doctor { config, is_json }) => examine(&config, is_json),
        Ok(Invocation::Checked) => tell_valid(),
        Ok(Invocation::NewKey { name }) => new_key(&name),
        Err(Stop::Help(help)) => {
            // A reader that went away has seen enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Stop::Wrong(line)) => return complain(WRONG_INPUT, &line),
    };
    ended.unwrap_or_else(|error| complain(FAILED, &format!("{error:#}")))
}

fn run_balancer(config: BalancerConfig) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        anyhow::Ok(balancer::run(config, Clock::start(), &mut signals).await?)
    });
    // Kills the children, if any are left.
    runtime.shutdown_timeout(RUNTIME_GRACE);
    Ok(match end? {
        End::Drained => ExitCode::SUCCESS,
        End::Forced(signal) => ExitCode::from(signal.exit_code()),
    })
}

fn run_agent(config: AgentConfig) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        let mut signals = EndSignals::listen().context("cannot listen for signals")?;
        let AgentConfig { agent: config, .. } = config;
        for line in agent::summary(&config) {
            tracing::info!("{line}");
        }
        let cancel = CancellationToken::new();
        tokio::select! {
            ended = agent::run(config, Clock::start(), cancel) => {
                ended?;
                anyhow::bail!("the agent ended by itself")
            }
            signal = signals.next() => tracing::info!(%signal, "ending"),
        }
        notify::stopping();
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    end
}

fn run_dashboard(config: DashboardConfig) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let end = runtime.block_on(terminal::run(config, Clock::start()));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    match end {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ TerminalError::NotATerminal) => Ok(complain(WRONG_INPUT, &error)),
        Err(error) => Ok(complain(FAILED, &error)),
    }
}

/// The report is all that it prints: what the libraries log is in its lines already.
fn examine(config: &DoctorConfig, is_json: bool) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let report = runtime.block_on(doctor::examine(config, Clock::start()));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    let mut output = std::io::stdout();
    let text = if is_json { report.json()? } else { report.text(is_coloured(&output)) };
    output.write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(if report.has_failed() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// As `nginx -t` does: a line for people, and the exit code for programs.
fn tell_valid() -> anyhow::Result<ExitCode> {
    if let Err(error) = log::filter() {
        return Ok(complain(WRONG_INPUT, &error));
    }
    writeln!(std::io::stdout(), "the configuration is valid").context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// The key and its line are for programs too; what they are is said beside them.
#[expect(clippy::print_stderr, reason = "for the person who asked for it")]
fn new_key(name: &str) -> anyhow::Result<ExitCode> {
    let made = NewKey::new(name).context("the system has no random numbers")?;
    let written = writeln!(std::io::stdout(), "{}\n{}", made.key(), made.line());
    written.context("cannot write the key to standard output")?;
    eprintln!(
        "The first line is the key: it is for the client, and is not shown again. The second is for the file of \
         --api-keys-file."
    );
    Ok(ExitCode::SUCCESS)
}

/// For everything but the data path.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

#[expect(clippy::print_stderr, reason = "the last words of a program that did not start or go on")]
fn complain(code: u8, what: &dyn Display) -> ExitCode {
    eprintln!("error: {what}");
    ExitCode::from(code)
}
