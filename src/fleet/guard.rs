//! The first moments of a child: it ties its life to the balancer's, then becomes the command.
//!
//! The kernel sends the parent-death signal when the *thread* that forked the child ends, however it ends; a SIGKILL of the
//! balancer is no exception. The setting survives `execve` (`prctl(2)`), unless the program is set-user-id or has file
//! capabilities. It reaches this one process: a shell that does not `exec` its last command leaves that command behind
//! when the balancer is killed by SIGKILL. (Every other way of ending signals the whole process group.)

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand of the own binary that calls [`exec`]: `exec-child --parent PID -- COMMAND…`.
pub const SUBCOMMAND: &str = "exec-child";

/// What the names of the balancer's own environment variables begin with.
const OWN_VARIABLES: &[u8] = b"PADDOCK_";

/// Becomes `command`, killed by the kernel when the process `parent` ends. Returns only if that failed. The command gets
/// the environment without the variables of Paddock.
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
    // Those are the balancer's own settings, tokens among them.
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.as_encoded_bytes().starts_with(OWN_VARIABLES)) {
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
