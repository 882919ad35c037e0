//! The command line: every flag and its environment form, the file beside them, and one line for whoever gets it wrong.
//!
//! 1. The arguments and the environment are parsed.
//! 2. With `--config`, the keys of the file that neither of them set become arguments, and all is parsed again: so a file,
//!    a flag and the environment can never mean different things.
//! 3. What only several flags together can get wrong is checked, names are resolved (the balancer's in the EC2 metadata
//!    too), and the token's file is read.
//!
//! With `--check` that is all, and the metadata is not asked: it would be silent where no instance is.

mod agent;
mod balancer;
mod complaint;
mod dashboard;
mod doctor;
mod file;
mod metadata;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::config::{AgentConfig, BalancerConfig};
use crate::dashboard::terminal::DashboardConfig;
use crate::doctor::DoctorConfig;
use crate::proxy::key_name;

pub use complaint::CheckError;
pub use file::FileError;

/// What the program was asked to do.
#[allow(clippy::large_enum_variant, reason = "there is one in a program's life")]
pub enum Invocation {
    /// Be the gateway.
    Balancer(BalancerConfig),
    /// Be an agent.
    Agent(AgentConfig),
    /// Show what a balancer knows.
    Dashboard(DashboardConfig),
    /// Say that the configuration is valid, as `--check` asked.
    Checked,
    /// Look at a set-up, and say what is wrong.
    Doctor {
        /// What is looked at.
        config: DoctorConfig,
        /// Whether programs are told.
        is_json: bool,
    },
    /// Make a key for a client.
    NewKey {
        /// Whose.
        name: String,
    },
    /// Become a child of the process fleet.
    ExecChild {
        /// The process that asked for it.
        parent: u32,
        /// What to become.
        command: Vec<String>,
    },
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Help or the version was asked for: to be printed on standard output.
    #[error("{0}")]
    Help(clap::Error),
    /// The input is wrong: one line that names what, and the mend.
    #[error("{0}")]
    Wrong(String),
}

/// A scale-from-zero gateway for llama.cpp.
///
/// Clients call one address. While nobody calls, no server runs; the first request is held while one is started.
#[derive(Debug, clap::Parser)]
#[command(name = "paddock", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    subcommand: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Hold clients' requests, start servers, and give requests to them.
    Balancer(Box<balancer::Flags>),
    /// Watch one llama.cpp, and tell balancers how it is.
    Agent(Box<agent::Flags>),
    /// Show what a balancer knows: what waits, what runs, what starts and what it costs.
    Dashboard(dashboard::Flags),
    /// Look at a set-up from here, and say what is wrong and how to mend it. Exits with 1 if something does not work.
    ///
    /// It takes the flags and the environment of a balancer or an agent, looks at what they name, and changes nothing.
    Doctor(Box<doctor::Flags>),
    /// Make keys for clients.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Become a child of the balancer.
    #[command(hide = true)]
    ExecChild(ExecChild),
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make a key: prints it, and below it the line for the file of --api-keys-file. It is nowhere kept.
    New {
        /// Whose it is: letters, digits and characters of . _ - @
        #[arg(value_parser = key_name)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct ExecChild {
    /// The process id of the balancer.
    #[arg(long, value_name = "PID")]
    parent: u32,
    /// What to become.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Reads the command line, its first word being the program's name. Blocks while names are resolved: not to be called
/// within a runtime.
///
/// # Errors
/// If help was asked for, or something is wrong.
pub fn read(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Invocation, Stop> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let (cli, matches) = parse(&arguments).map_err(|error| complaint::stop(error, &arguments, None))?;
    let cli = match cli.file() {
        Some(path) => with_file(&path, &arguments, &matches)?,
        None => cli,
    };
    let wrong = |error: CheckError| Stop::Wrong(error.to_string());
    match cli.subcommand {
        Subcommand::Balancer(flags) => {
            let is_check = flags.check;
            let config = flags.into_config().map_err(wrong)?;
            Ok(if is_check { Invocation::Checked } else { Invocation::Balancer(config) })
        }
        Subcommand::Agent(flags) => {
            let is_check = flags.check;
            let config = flags.into_config().map_err(wrong)?;
            Ok(if is_check { Invocation::Checked } else { Invocation::Agent(config) })
        }
        Subcommand::Dashboard(flags) => {
            let config = flags.into_config().map_err(|error| Stop::Wrong(error.to_string()))?;
            Ok(Invocation::Dashboard(config))
        }
        Subcommand::Doctor(flags) => {
            let is_json = flags.json;
            Ok(Invocation::Doctor { config: flags.into_config().map_err(wrong)?, is_json })
        }
        Subcommand::Key(KeyCommand::New { name }) => Ok(Invocation::NewKey { name }),
        Subcommand::ExecChild(ExecChild { parent, command }) => Ok(Invocation::ExecChild { parent, command }),
    }
}

impl Cli {
    /// The file of `--config`.
    fn file(&self) -> Option<PathBuf> {
        match &self.subcommand {
            Subcommand::Balancer(flags) => flags.config.clone(),
            Subcommand::Doctor(flags) => flags.config.clone(),
            Subcommand::Agent(_)
            | Subcommand::Dashboard(_)
            | Subcommand::Key(_)
            | Subcommand::ExecChild(_) => None,
        }
    }
}

/// The file is the balancer's: of its keys another subcommand takes those that it has.
fn with_file(path: &Path, arguments: &[OsString], matches: &ArgMatches) -> Result<Cli, Stop> {
    let command = Cli::command();
    let (Some(balancer), Some((name, given))) = (command.find_subcommand("balancer"), matches.subcommand())
    else {
        return Err(Stop::Wrong("--config: only the balancer reads a file".to_owned()));
    };
    let taken = command.find_subcommand(name).unwrap_or(balancer);
    let all = file::merged(path, balancer, taken, given, arguments)
        .map_err(|error| Stop::Wrong(error.to_string()))?;
    let (cli, _) = parse(&all).map_err(|error| complaint::stop(error, &all, Some(path)))?;
    Ok(cli)
}

fn parse(arguments: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    // What a value was set to in the environment is nobody's business in a help text: it may be a secret.
    let mut command = Cli::command();
    for subcommand in ["balancer", "agent", "dashboard", "doctor"] {
        command = command.mut_subcommand(subcommand, |command| {
            command.mut_args(|argument| argument.hide_env_values(true))
        });
    }
    let matches = command.try_get_matches_from_mut(arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((cli, matches))
}

#[cfg(test)]
mod tests;
