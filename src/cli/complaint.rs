//! One line for each mistake: it names the flag, the value and the mend.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Stop;
use super::metadata::{Asking, located};
use crate::agent::LocateError;
use crate::config::{HostPort, Secret, ValueError, secret};
use crate::inherited::InheritedError;
use crate::ledger::LedgerError;
use crate::metrics::statsd::TAGS_MAX;
use crate::proxy::{KeysFileError, TlsError};

/// The longest token file that is read: a token is a line, and `/dev/zero` has no end.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What several flags together got wrong.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// All instances would fight for one port.
    #[error("the command has no {{port}}: write it where llama-server takes its port, e.g. --port {{port}}")]
    NoPort,
    /// There is nothing to start.
    #[error(
        "--fleet: 'process' needs a command; write it at the end: -- llama-server -m model.gguf --port {{port}}"
    )]
    NoCommand,
    /// The command would not be used.
    #[error("--fleet: 'none' starts no servers, but a command is given; leave one of them out")]
    CommandWithoutFleet,
    /// There is no group to wake.
    #[error("--fleet: 'asg' needs the name of an Auto Scaling group; write --asg-name NAME")]
    NoAsg,
    /// Two fleets at once.
    #[error("--asg-name: a command is given too; leave one of them out, for servers come from one fleet")]
    CommandBesideAsg,
    /// The group would not be used.
    #[error("--asg-name: '{0}' would not be used by this --fleet; write --fleet asg, or leave the name out")]
    AsgWithoutFleet(String),
    /// It would do nothing.
    #[error("--asg-wake: there is no Auto Scaling group; write --asg-name NAME, or leave it out")]
    WakeWithoutAsg,
    /// Which place does it have in the order?
    #[error("--asg-name: '{0}' is given twice; leave one out")]
    AsgTwice(String),
    /// It would do nothing.
    #[error("{0}: --keepalive-after is 'off', so it would do nothing; give a time there, or leave this out")]
    KeepaliveOff(&'static str),
    /// It would do nothing.
    #[error(
        "--statsd-tag: there is no StatsD server to send it to; write --statsd-addr ADDR, or leave it out"
    )]
    TagWithoutStatsd,
    /// Each of them is sent with each gauge.
    #[error("--statsd-tag: {0} tags are given; give {max} or fewer", max = TAGS_MAX)]
    TooManyTags(usize),
    /// Nothing could be kept there.
    #[error(transparent)]
    StateDir(LedgerError),
    /// The limits contradict each other.
    #[error(
        "--min-instances: '{min}' is more than --max-instances '{max}'; raise the one or lower the other"
    )]
    MinAboveMax {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The longest body would never find room.
    #[error(
        "--max-request-body: '{body}' bytes are more than --max-buffered-bytes '{all}', which holds all bodies; lower the \
         one or raise the other"
    )]
    BodyAboveBuffer {
        /// The longest body, in bytes.
        body: usize,
        /// All of them, in bytes.
        all: usize,
    },
    /// Nothing could hold it.
    #[error(
        "--min-instances: '{0}' needs something that starts servers; give a command after -- or an --asg-name, or leave it out"
    )]
    MinWithoutFleet(u32),
    /// Nothing would be limited.
    #[error(
        "--max-cost-per-day: '{0}' needs something that starts servers; give a command after -- or an --asg-name, or leave \
         it out"
    )]
    BudgetWithoutFleet(f64),
    /// Nothing would be counted.
    #[error(
        "--price-per-hour: '{0}' needs something that starts servers; give a command after -- or an --asg-name, or leave it \
         out"
    )]
    PriceWithoutFleet(f64),
    /// What it costs would not be known.
    #[error("--max-cost-per-day: '{0}' needs prices; give --price-per-hour, once for each --asg-name")]
    BudgetWithoutPrice(f64),
    /// Which is whose?
    #[error(
        "--price-per-hour: {given} prices are given for {groups} --asg-name; give one for each, in their order"
    )]
    PricesOfGroups {
        /// How many.
        given: usize,
        /// How many are needed.
        groups: u32,
    },
    /// Which is it?
    #[error("--price-per-hour: {given} prices are given for servers of one command; give one")]
    PricesOfProcesses {
        /// How many.
        given: usize,
    },
    /// Two listeners for one port.
    #[error("--management-addr: '{0}' is --reverseproxy-addr too; give one of them another port")]
    SameAddress(SocketAddr),
    /// Which of them?
    #[error(
        "{flag}: '{given}' is not where the inherited socket listens, '{address}'; write that, or leave the flag out"
    )]
    OtherSocket {
        /// Which flag.
        flag: &'static str,
        /// What it says.
        given: SocketAddr,
        /// What the socket says.
        address: SocketAddr,
    },
    /// A service manager gave what cannot be used.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// Whoever reaches it could register an agent, and be sent prompts.
    #[error(
        "--management-addr: '{0}' can be reached from other machines; give --management-token or \
         --management-token-file, or --management-no-auth to let everybody register agents"
    )]
    OpenManagement(SocketAddr),
    /// The token would not be asked for.
    #[error("--management-no-auth: a token is given too; leave one of them out")]
    TokenWithoutAuth,
    /// Which of them?
    #[error("--management-token: --management-token-file is given too; leave one of them out")]
    TwoTokens,
    /// Which of them?
    #[error("--once: --json is given too; leave one of them out")]
    OnceAndJson,
    /// The token's file cannot be read.
    #[error(
        "--management-token-file: '{path}' cannot be read ({error}); give a readable file that holds the token"
    )]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The token's file holds no token.
    #[error("--management-token-file: '{path}' is of no use: {error}")]
    TokenInFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        error: ValueError,
    },
    /// The file of keys is of no use.
    #[error(transparent)]
    Keys(#[from] KeysFileError),
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing could be signed.
    #[error("--tls-cert: '{0}' needs its private key; give --tls-key too, or leave it out")]
    CertWithoutKey(PathBuf),
    /// Nothing could be shown.
    #[error("--tls-key: '{0}' needs its certificate; give --tls-cert too, or leave it out")]
    KeyWithoutCert(PathBuf),
    /// The name is not known.
    #[error(
        "{flag}: '{address}' cannot be resolved ({error}); write an IP address and a port, such as 127.0.0.1:8080"
    )]
    Unresolved {
        /// Which flag.
        flag: &'static str,
        /// As it was written.
        address: HostPort,
        /// What the system says.
        error: io::Error,
    },
    /// The metadata must not be asked.
    #[error(
        "{flag}: '{address}' needs the EC2 metadata, which AWS_EC2_METADATA_DISABLED forbids; unset it, or write the \
         address"
    )]
    MetadataForbidden {
        /// Which flag.
        flag: &'static str,
        /// As it was written.
        address: HostPort,
    },
    /// The metadata does not tell.
    #[error("{flag}: {error}")]
    Unlocated {
        /// Which flag.
        flag: &'static str,
        /// Why.
        error: LocateError,
    },
    /// The metadata cannot be asked.
    #[error("cannot ask the EC2 metadata: {0}; look at the limits of open files and memory")]
    Runtime(io::Error),
    /// Nothing could be ended.
    #[error(
        "--orphan-timeout: this is no EC2 instance, whose metadata would tell its id; give --instance-id, or leave it \
         out"
    )]
    OrphanWithoutInstance,
    /// Nobody would tell where the instance goes.
    #[error(
        "--launching-hook: this is no EC2 instance, whose metadata would tell where its group wants it; leave it out"
    )]
    HookWithoutInstance,
}

/// The socket's address, after the metadata and the system's resolver were asked.
pub(super) fn resolved(
    flag: &'static str,
    address: &HostPort,
    asking: Asking,
) -> Result<SocketAddr, CheckError> {
    let address = &located(flag, address, asking)?;
    address.resolve().map_err(|error| CheckError::Unresolved { flag, address: address.clone(), error })
}

/// The token, from whichever of the two places holds it.
pub(super) fn token(token: Option<Secret>, file: Option<PathBuf>) -> Result<Option<Secret>, CheckError> {
    match (token, file) {
        (Some(_), Some(_)) => Err(CheckError::TwoTokens),
        (token, None) => Ok(token),
        (None, Some(path)) => {
            let text = match read_start(&path) {
                Ok(text) => text,
                Err(error) => return Err(CheckError::TokenFile { path, error }),
            };
            // Editors end files with a newline.
            secret(text.trim()).map(Some).map_err(|error| CheckError::TokenInFile { path, error })
        }
    }
}

fn read_start(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, TOKEN_FILE_BYTES_MAX), &mut text)?;
    Ok(text)
}

/// What a failed parse means for the program. `file` is where values came from that parsed badly.
pub(super) fn stop(error: clap::Error, arguments: &[OsString], file: Option<&Path>) -> Stop {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Stop::Help(error);
    }
    let line = line(&error, arguments);
    let line = match file {
        Some(path) => format!("{}: {line}", path.display()),
        None => line,
    };
    // A value may hold a newline, and this is one line.
    Stop::Wrong(line.replace(char::is_control, " "))
}

fn line(error: &clap::Error, arguments: &[OsString]) -> String {
    let flag = || named(error, arguments);
    let value = || text(error, ContextKind::InvalidValue);
    let source = error.source().map(ToString::to_string);
    match (error.kind(), source) {
        (ErrorKind::ValueValidation, Some(why)) => format!("{}: {why}", flag()),
        (ErrorKind::InvalidValue, _) if value().is_empty() => {
            format!("{}: its value is missing; write one after it", flag())
        }
        (ErrorKind::InvalidValue, _) => {
            let valid = text(error, ContextKind::ValidValue);
            format!("{}: '{}' is none of its values; write one of {valid}", flag(), value())
        }
        (ErrorKind::UnknownArgument, _) => unknown(error),
        (ErrorKind::InvalidSubcommand, _) => {
            let word = text(error, ContextKind::InvalidSubcommand);
            format!(
                "'{word}' is not a command; write paddock balancer, paddock agent, paddock dashboard, paddock doctor or \
                 paddock key new"
            )
        }
        (ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => {
            "a command is missing; write paddock balancer, paddock agent, paddock dashboard, paddock doctor or paddock key \
             new NAME, or see paddock --help"
                .to_owned()
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing = text(error, ContextKind::InvalidArg);
            // A word that is no flag's value stands alone in its brackets.
            let word = missing.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
            let missing = word.unwrap_or(&missing);
            format!("{}: it is missing; write {missing}", first_word(missing))
        }
        (ErrorKind::ArgumentConflict, _)
            if text(error, ContextKind::InvalidArg) == text(error, ContextKind::PriorArg) =>
        {
            format!("{}: it is given twice; leave one out", flag())
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            let what = first.strip_prefix("error: ").unwrap_or(first);
            format!("{what}; see paddock --help")
        }
    }
}

fn unknown(error: &clap::Error) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let suggested = text(error, ContextKind::SuggestedArg);
    if !argument.starts_with('-') {
        return format!("'{argument}' is not expected here; a command to start goes to the end, after --");
    }
    if suggested.is_empty() {
        format!("{argument}: there is no such flag; see --help for those that there are")
    } else {
        format!("{argument}: there is no such flag; did you mean {}?", first_word(&suggested))
    }
}

/// The flag that has the wrong value, or the variable that set it.
fn named(error: &clap::Error, arguments: &[OsString]) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    let flag = first_word(&argument);
    let is_given = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    match flag.strip_prefix("--") {
        Some(name) if !arguments.iter().take_while(|argument| *argument != "--").any(is_given) => {
            variable(name)
        }
        Some(_) | None => flag.to_owned(),
    }
}

/// The environment form of a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("PADDOCK_{}", flag.replace('-', "_").to_uppercase())
}

/// The flag in `--flag <VALUE>`.
fn first_word(argument: &str) -> &str {
    argument.split([' ', '=']).next().unwrap_or(argument)
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}
