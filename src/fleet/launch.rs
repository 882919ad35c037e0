//! What a child is started with: a program that exists, a free port, and a command line.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::FleetError;

/// What stands for the port in a command.
const PORT: &str = "{port}";

/// How often another port is asked for when the kernel names one that a child has been given already. It picks from
/// thousands at random, so a second try is rare and this many in a row mean that there is none.
const PORT_TRIES: u32 = 32;

/// Whether the command says where its port goes.
#[must_use]
pub fn has_port(command: &[String]) -> bool {
    command.iter().any(|argument| argument.contains(PORT))
}

/// The command with its port filled in wherever it is named.
pub(super) fn with_port(command: &[String], port: u16) -> Vec<String> {
    command.iter().map(|argument| argument.replace(PORT, &port.to_string())).collect()
}

/// A port of 127.0.0.1 that nobody listens on, and that none of `taken` is about to listen on.
///
/// Another process may still take it before the child does; the child then ends with llama.cpp's own words about it, and
/// the next one gets another port.
pub(super) fn free_port(taken: &BTreeSet<u16>) -> Result<u16, FleetError> {
    for _ in 0..PORT_TRIES {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(FleetError::Port)?;
        let port = listener.local_addr().map_err(FleetError::Port)?.port();
        if !taken.contains(&port) {
            return Ok(port);
        }
    }
    Err(FleetError::Port(io::ErrorKind::AddrInUse.into()))
}

/// Whether the command can be run, looked up as `execvp(3)` does. Asked before each start: after the guard has started, a
/// missing program would look like a server that crashed.
pub(super) fn check_program(command: &[String]) -> Result<(), FleetError> {
    let program = command.first().filter(|program| !program.is_empty()).ok_or(FleetError::NoProgram)?;
    let found = if program.contains('/') {
        check_file(Path::new(program))
    } else {
        check_path(program, env::var_os("PATH").as_deref().unwrap_or(OsStr::new("/bin:/usr/bin")))
    };
    found.map_err(|error| FleetError::Program { program: program.clone(), error })
}

fn check_path(program: &str, path: &OsStr) -> io::Result<()> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it is in no directory of PATH");
    for directory in env::split_paths(path) {
        match check_file(&directory.join(program)) {
            Ok(()) => return Ok(()),
            // A file that is there but cannot be run tells more than "not found" in the other directories.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn check_file(file: &Path) -> io::Result<()> {
    const EXECUTABLE: u32 = 0o111;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & EXECUTABLE != 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not an executable file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::OperationFailure;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_port_is_filled_in_wherever_it_is_named() {
        let command = words("server --port {port} --url=http://127.0.0.1:{port}/{port}");
        assert!(has_port(&command));
        assert_eq!(with_port(&command, 81), words("server --port 81 --url=http://127.0.0.1:81/81"));
        assert!(!has_port(&words("server --port port")));
    }

    #[test]
    fn a_port_is_not_handed_out_twice() {
        let mut taken = BTreeSet::new();
        for _ in 0..100 {
            assert!(taken.insert(free_port(&taken).unwrap()));
        }
    }

    #[test]
    fn a_program_is_found_as_the_system_finds_it() {
        check_program(&words("sh -c true")).unwrap();
        check_program(&words("/bin/sh -c true")).unwrap();
        for (command, says) in [
            ("no-such-llama --port {port}", "cannot run `no-such-llama`: it is in no directory of PATH"),
            ("/no/such/llama", "cannot run `/no/such/llama`: No such file"),
            (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "Cargo.toml`: it is not an executable file"),
            ("/etc", "cannot run `/etc`: it is not an executable file"),
            ("", "the command after `--` is empty"),
        ] {
            let error = check_program(&words(command)).unwrap_err();
            assert!(error.to_string().contains(says), "{command}: {error}");
            assert_eq!(error.failure(), OperationFailure::Permanent, "{command}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_run_is_told_over_one_that_is_missing() {
        let error =
            check_path("Cargo.toml", OsStr::new(concat!("/bin:", env!("CARGO_MANIFEST_DIR"), ":/nowhere")))
                .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
