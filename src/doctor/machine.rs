//! This machine: its limits, its memory, and the files that a set-up names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit};

use super::DoctorConfig;
use super::report::{Check, Verdict};
use crate::ledger;
use crate::proxy::{Keys, Tls};

/// Descriptors beside those of clients and of the servers that they are sent to: agents, watchers, files.
const SPARE_FILES: u64 = 4_500;

/// Anybody may read it.
const WORLD_READABLE: u32 = 0o004;

/// `wall` is the time since the Unix epoch.
pub(super) fn look(config: &DoctorConfig, wall: Duration) -> Vec<Check> {
    let mut checks = Vec::new();
    if config.is_balancers() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        checks.push(judge_files(maximum, config.connections_max));
        checks.push(judge_memory(memory(), config.buffered_bytes_max));
    }
    checks.extend(config.token_file.as_deref().map(|path| token_file(path, config.token_error.as_deref())));
    checks.extend(config.keys_file.as_deref().map(keys_file));
    if let Some((cert, key)) = &config.tls {
        checks.push(certificate(cert, key, wall));
        checks.extend(world_readable("tls-key", key, "TLS key"));
    }
    checks.extend(config.state_dir.as_deref().map(state_dir));
    checks
}

/// Each client takes a descriptor, and so does the server that it is sent to. The balancer raises its own limit to the
/// hard one, `maximum`; none is no limit.
fn judge_files(maximum: Option<u64>, connections: usize) -> Check {
    const NAME: &str = "open-files";
    let needed = 2 * connections as u64 + SPARE_FILES;
    match maximum {
        Some(maximum) if maximum < needed => Check::warn(
            NAME,
            "",
            format!("{maximum} may be open here, and {connections} connections need {needed}"),
            "raise the hard limit (LimitNOFILE= of the unit), or lower --max-connections",
        ),
        Some(maximum) => {
            Check::ok(NAME, "", format!("{maximum} may be open here, and {needed} are needed at most"))
        }
        None => Check::ok(NAME, "", "as many as there are"),
    }
}

/// The machine's memory, or what its control group may have of it, in bytes.
fn memory() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = read("/proc/self/cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
    let limits = ["/sys/fs/cgroup/memory.max".to_owned(), format!("/sys/fs/cgroup{own}/memory.max")];
    let limits = limits.iter().filter_map(|path| read(path).trim().parse().ok());
    let machine = read("/proc/meminfo");
    let machine = machine
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    limits.chain(machine.map(|kilobytes| kilobytes * 1024)).min()
}

/// Bodies that wait are not all: half of the memory is for the rest.
fn judge_memory(memory: Option<u64>, buffered: usize) -> Check {
    const NAME: &str = "memory";
    let mebibytes = |bytes: u64| bytes >> 20;
    let buffered = buffered as u64;
    match memory {
        None => Check::skip(NAME, "", "the system does not tell how much there is"),
        Some(memory) if buffered > memory / 2 => Check::warn(
            NAME,
            "",
            format!(
                "requests that wait may take {} MiB of {} MiB (--max-buffered-bytes)",
                mebibytes(buffered),
                mebibytes(memory)
            ),
            format!("give --max-buffered-bytes {}MiB or less", mebibytes(memory / 4).max(1)),
        ),
        Some(memory) => Check::ok(
            NAME,
            "",
            format!(
                "{} MiB, of which requests that wait may take {} MiB",
                mebibytes(memory),
                mebibytes(buffered)
            ),
        ),
    }
}

fn token_file(path: &Path, error: Option<&str>) -> Check {
    const NAME: &str = "token-file";
    if let Some(error) = error {
        return Check::told(NAME, "", Verdict::Fail, error);
    }
    let warning = world_readable(NAME, path, "token, and may register an agent with it");
    warning.unwrap_or_else(|| Check::ok(NAME, &path.display().to_string(), "holds a token"))
}

/// A warning, if everybody on this machine may read the secret.
fn world_readable(name: &'static str, path: &Path, what: &str) -> Option<Check> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let path = path.display().to_string();
    (mode & WORLD_READABLE != 0).then(|| {
        let found = format!("everybody on this machine may read the {what}");
        Check::warn(name, &path, found, format!("chmod o= {path}"))
    })
}

fn keys_file(path: &Path) -> Check {
    const NAME: &str = "api-keys";
    match Keys::open(path) {
        Ok(_) => Check::ok(NAME, &path.display().to_string(), "every line is a name and a hash"),
        Err(error) => Check::told(NAME, "", Verdict::Fail, error.to_string()),
    }
}

fn certificate(cert: &Path, key: &Path, wall: Duration) -> Check {
    const NAME: &str = "tls";
    let tls = match Tls::open(cert, key) {
        Ok(tls) => tls,
        Err(error) => return Check::told(NAME, "", Verdict::Fail, error.to_string()),
    };
    match tls.end(wall) {
        None => Check::ok(
            NAME,
            &cert.display().to_string(),
            "the certificate is valid, and the key belongs to it",
        ),
        Some(words) if tls.is_over(wall) => Check::told(NAME, "", Verdict::Fail, words),
        Some(words) => Check::told(NAME, "", Verdict::Warn, words),
    }
}

fn state_dir(path: &Path) -> Check {
    const NAME: &str = "state-dir";
    match ledger::check(path) {
        Ok(()) => Check::ok(NAME, &path.display().to_string(), "can be written"),
        Err(error) => Check::told(NAME, "", Verdict::Fail, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_needs_two_descriptors() {
        let judged = |maximum| judge_files(maximum, 1000);
        assert_eq!(judged(Some(6_499)).verdict, Verdict::Warn);
        assert_eq!(judged(Some(6_500)).verdict, Verdict::Ok);
        assert_eq!(judged(None).verdict, Verdict::Ok);
        assert!(judged(Some(1024)).found.contains("1024 may be open here, and 1000 connections need 6500"));
    }

    #[test]
    fn waiting_requests_may_take_half_of_the_memory() {
        let judged = |memory: u64| judge_memory(Some(memory << 20), 256 << 20);
        assert_eq!(judged(512).verdict, Verdict::Ok);
        let small = judged(511);
        assert_eq!(
            (small.verdict, small.mend.as_deref()),
            (Verdict::Warn, Some("give --max-buffered-bytes 127MiB or less"))
        );
        assert_eq!(judge_memory(None, 1).verdict, Verdict::Skip);
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20), "this machine has some");
    }

    #[test]
    fn a_folder_that_can_be_written_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(state_dir(&folder.path().join("missing")).verdict, Verdict::Fail);
        assert_eq!(state_dir(folder.path()).verdict, Verdict::Ok);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
