//! Starts processes, from a thread of its own.
//!
//! A child is killed when the thread that forked it ends (see [`super::guard`]). The threads of a runtime come and go, so
//! one thread does nothing but fork; it ends with the fleet, and what then still ran is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::output::Output;

/// The thread that forks.
#[derive(Debug)]
pub(super) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<(Process, Output)>>,
}

impl Spawner {
    /// Starts the thread; its processes are attended to by the runtime that this is called in.
    pub(super) fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let runtime = Handle::current();
        let thread = thread::Builder::new().name("fleet-spawner".to_owned()).spawn(move || {
            let _context = runtime.enter();
            for job in queue {
                // If nobody waits for it any more, the process is killed as it is dropped.
                let _ = job.reply.send(Process::spawn(job.command));
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "cannot start the thread that starts servers; look at the limit of threads");
        }
        Self { jobs }
    }

    /// Starts `command` as the leader of its own process group, so that a Ctrl-C at the terminal is the balancer's alone.
    pub(super) async fn spawn(&self, command: Command) -> io::Result<(Process, Output)> {
        let (reply, spawned) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.jobs.send(Job { command, reply }).map_err(|_| gone())?;
        spawned.await.map_err(|_| gone())?
    }
}

/// A running child and the group that it leads. Dropped before it was reaped, the group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Pid,
    /// Readable once the child has ended, while its id is not yet free for others.
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    fn spawn(mut command: Command) -> io::Result<(Self, Output)> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let output = Output::new(pipe::Receiver::from_owned_fd(reader.into())?);
        // Killed as it is dropped: also where this function fails further down.
        let child = command.kill_on_drop(true).spawn()?;
        // The writing ends are closed here with the command, so that the pipe ends with the children.
        drop(command);
        let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            return Err(io::Error::other("a process without an id"));
        };
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        #[expect(
            deprecated,
            reason = "its successor is `unsafe`, for types whose descriptor may change: not OwnedFd"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok((Self { child, group, pidfd }, output))
    }

    /// Waits until the child has ended. It is still to be reaped: until then nobody else gets its id, so that a signal
    /// to the group cannot hit a stranger.
    pub(super) async fn ended(&self) {
        // An error means that the runtime ends; the process is dropped then.
        if self.pidfd.readable().await.is_err() {
            std::future::pending().await
        }
    }

    /// Signals the child and everything that it started, unless that left the group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.group, signal) {
            tracing::debug!(group = %self.group, %error, "cannot signal a process group");
        }
    }

    /// Takes the status of a child that has [`ended`](Self::ended).
    pub(super) async fn reap(mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}
