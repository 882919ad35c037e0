//! The first moments of a child: it ties its life to the balancer's, then becomes the command.
//!
//! The kernel sends the parent-death signal when the *thread* that forked the child ends, however it ends; a SIGKILL of the
//! balancer is no exception. The setting survives `execve` (`prctl(2)`), unless the program is set-user-id or has file
//! capabilities. It reaches this one process: a shell that does not `exec` its last command leaves that command behind
//! when the balancer is killed by SIGKILL. (Every other way of ending signals the whole process group.)

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand of the own binary that calls [`exec`]: `exec-child --parent PID -- COMMAND…`.
pub const SUBCOMMAND: &str = "exec-child";

/// What the names of the balancer's own environment variables begin with: its settings, tokens among them, and what its
/// service manager tells it alone.
const OWN_VARIABLES: [&[u8]; 6] =
    [b"PADDOCK_", b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID", b"LISTEN_FD", b"LISTEN_PID"];

/// Becomes `command`, killed by the kernel when the process `parent` ends. Returns only if that failed. The command gets
/// the environment without the variables that are Paddock's own.
///
/// # Errors
///
/// The error that is returned: the signal cannot be set, the parent is gone already, or the command cannot be run.
#[must_use]
pub fn exec(parent: u32, command: &[String]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no command to run");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // A parent that died before the signal was set sends none: so look after it is set, never before.
    let actual = getppid().map_or(0, |parent| parent.as_raw_pid().unsigned_abs());
    if actual != parent {
        return io::Error::other(format!(
            "the parent is process {actual}, not {parent}: the balancer is gone"
        ));
    }
    let mut command = Command::new(program);
    let is_own =
        |name: &OsString| OWN_VARIABLES.iter().any(|begin| name.as_encoded_bytes().starts_with(begin));
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_own) {
        command.env_remove(name);
    }
    let error = command.args(arguments).exec();
    io::Error::new(error.kind(), format!("cannot run `{program}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Only failures can be tested here: the test's own process must not become another program, so each case fails before.
    #[test]
    fn refuses_without_a_command() {
        assert_eq!(exec(1, &[]).kind(), io::ErrorKind::InvalidInput);
    }
}
