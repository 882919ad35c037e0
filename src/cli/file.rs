//! `--config`: a TOML file whose keys are flags.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not for us.
    #[error("--config: '{path}' cannot be read ({error}); give a readable TOML file")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no TOML.
    #[error("--config: '{path}' is not TOML: line {line}: {why}; write lines such as idle-timeout = \"5m\"")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// There is no such flag.
    #[error(
        "--config: '{path}' has the unknown key '{key}'; its keys are the flags of paddock balancer --help, without \
         their dashes"
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A flag cannot have this as its value.
    #[error("--config: '{path}' has a value for '{key}' that is {kind}; write {instead}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type of the value.
        kind: &'static str,
        /// What fits.
        instead: &'static str,
    },
}

/// The arguments, and among them what the file says about flags that neither they nor the environment set.
///
/// `known` is the subcommand whose flags are the keys, `taken` the one that runs: keys that it does not have are passed over.
/// `given` is what it was given, `arguments` the whole command line: the program, the subcommand, and so on.
pub(super) fn merged(
    path: &Path,
    known: &Command,
    taken: &Command,
    given: &ArgMatches,
    arguments: &[OsString],
) -> Result<Vec<OsString>, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| FileError::Unreadable { path: path.to_owned(), error })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        FileError::Syntax { path: path.to_owned(), line, why: error.message().to_owned() }
    })?;
    let (program, rest) = arguments.split_at(arguments.len().min(2));
    let mut flags = Vec::new();
    let mut command = Vec::new();
    for (key, value) in &table {
        let is_named = |argument: &&Arg| name(argument) == Some(key);
        if !known.get_arguments().any(|argument| is_named(&argument)) {
            return Err(FileError::UnknownKey { path: path.to_owned(), key: key.clone() });
        }
        let Some(argument) = taken.get_arguments().find(is_named) else { continue };
        let values = values(argument, value).map_err(|(kind, instead)| FileError::Value {
            path: path.to_owned(),
            key: key.clone(),
            kind,
            instead,
        })?;
        match given.value_source(argument.get_id().as_str()) {
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) => {}
            _ if argument.is_last_set() => command = values,
            _ if is_switch(argument) => flags.extend(values.iter().map(|_| format!("--{key}"))),
            _ => flags.extend(values.iter().map(|value| format!("--{key}={value}"))),
        }
    }
    if !command.is_empty() && !rest.iter().any(|argument| argument == "--") {
        command.insert(0, "--".to_owned());
    }
    let own = |texts: Vec<String>| texts.into_iter().map(OsString::from);
    Ok(program.iter().cloned().chain(own(flags)).chain(rest.iter().cloned()).chain(own(command)).collect())
}

/// The key of a flag; the command after `--` has one too. The file itself has none, nor has what a single call asks for.
fn name(argument: &Arg) -> Option<&str> {
    match argument.get_long() {
        Some("config" | "check") => None,
        Some(long) => Some(long),
        None => argument.is_last_set().then(|| argument.get_id().as_str()),
    }
}

fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

/// The values, as they would be written on the command line; one for a switch that is on, none for one that is off.
fn values(argument: &Arg, value: &Value) -> Result<Vec<String>, (&'static str, &'static str)> {
    let kind = value.type_str();
    if is_switch(argument) {
        let is_on = value.as_bool().ok_or((kind, "true or false"))?;
        return Ok(if is_on { vec![String::new()] } else { Vec::new() });
    }
    let repeats = matches!(argument.get_action(), ArgAction::Append);
    if let Some(items) = value.as_array().filter(|_| repeats) {
        let items = items.iter().map(|item| plain(item).ok_or((item.type_str(), "strings in the list")));
        return items.collect();
    }
    let instead = match argument.is_last_set() {
        true => return Err((kind, "a list of strings, one for each word")),
        false if repeats => "a string, or a list of strings",
        false => "a string or a number",
    };
    plain(value).map(|text| vec![text]).ok_or((kind, instead))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
