//! One child, from its start to its last words.

use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::FleetNews;
use super::output::Output;
use super::process::ProcessConfig;
use super::spawner::Process;
use crate::agent::{self, WatchConfig};
use crate::clock::Clock;
use crate::core::InstanceId;

/// How long the last words of a child that ended are waited for. They are in the pipe already; only a process that left
/// the child's group can still hold it open.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// An order to end. It is answered once the child was signalled, and dropped if the child had ended by then.
pub(super) type Stop = oneshot::Sender<()>;

/// Attends to a child until it is gone; returns how it ended, in words.
///
/// 1. Its output is logged and its server watched, until it ends or is to stop.
/// 2. To stop, its group gets SIGTERM, and `grace` to end in. The group is done when nobody holds its pipe: a shell may be
///    gone before the server that it started.
/// 3. What is left of the group gets SIGKILL, also after an end of its own: a server without its shell is nobody's.
/// 4. It is reaped.
pub(super) async fn attend(
    process: Process,
    mut output: Output,
    agent: Agent,
    grace: Duration,
    stop: oneshot::Receiver<Stop>,
) -> Arc<str> {
    let instance = agent.instance.clone();
    let stopped = tokio::select! {
        () = process.ended() => None,
        Ok(signalled) = stop => Some(signalled),
        never = async {
            tokio::join!(output.follow(&instance), agent.report());
            std::future::pending().await
        } => never,
    };
    let is_stopped = stopped.is_some();
    if let Some(signalled) = stopped {
        process.signal(Signal::TERM);
        // Whoever asked may have gone.
        let _ = signalled.send(());
        let end = async { tokio::join!(process.ended(), output.follow(&instance)) };
        if timeout(grace, end).await.is_err() {
            tracing::warn!(%instance, ?grace, "did not end within its grace: killed");
        }
    }
    process.signal(Signal::KILL);
    process.ended().await;
    let status = process.reap().await;
    // What is not there by now will not come.
    let _ = timeout(LAST_WORDS_WAIT, output.follow(&instance)).await;
    cause(status, is_stopped, &output.last_words()).into()
}

/// The agent of a child: the same code as `paddock agent`, in this process.
#[derive(Debug)]
pub(super) struct Agent {
    pub instance: InstanceId,
    pub boot: u64,
    pub address: SocketAddr,
    pub config: Arc<ProcessConfig>,
    pub clock: Clock,
    pub news: UnboundedSender<FleetNews>,
}

impl Agent {
    /// Watches the child's server and passes on each observation at once. Runs until it is dropped.
    async fn report(&self) {
        let (latest, mut seen) = watch::channel(None);
        let config = WatchConfig {
            server: self.address.to_string(),
            external: self.address.to_string(),
            api_key: self.config.api_key.clone(),
            interval: self.config.interval,
            name: self.config.name.clone(),
            instance_id: Some(self.instance.0.to_string()),
            host: None,
        };
        let watching = agent::watch(config, self.clock, latest, CancellationToken::new());
        let forwarding = async {
            while seen.changed().await.is_ok() {
                let observation = seen.borrow_and_update().clone();
                if let Some(observation) = observation {
                    let status = observation.to_status(self.clock.now());
                    let report =
                        FleetNews::Reported { instance: self.instance.clone(), boot: self.boot, status };
                    // Without a reader the balancer is ending.
                    let _ = self.news.send(report);
                }
            }
        };
        tokio::join!(watching, forwarding);
    }
}

fn cause(status: io::Result<ExitStatus>, is_stopped: bool, last_words: &str) -> String {
    let end = match status {
        // "exit status: 1", "signal: 11 (SIGSEGV) (core dumped)"
        Ok(status) => status.to_string(),
        Err(error) => format!("status unknown: {error}"),
    };
    let end = match end.strip_prefix("exit status: ") {
        _ if is_stopped => format!("stopped by paddock ({end})"),
        Some(code) => format!("exited with code {code}"),
        None => format!("died ({end})"),
    };
    if last_words.is_empty() { end } else { format!("{end}: {last_words}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_cause_says_how_and_why() {
        let exited = |code: i32| Ok(ExitStatus::from_raw(code << 8));
        let killed = |signal| Ok(ExitStatus::from_raw(signal));
        for (status, is_stopped, words, expected) in [
            (exited(1), false, "failed to load model", "exited with code 1: failed to load model"),
            (exited(0), false, "", "exited with code 0"),
            (killed(11), false, "main", "died (signal: 11 (SIGSEGV)): main"),
            (exited(0), true, "", "stopped by paddock (exit status: 0)"),
            (killed(9), true, "no", "stopped by paddock (signal: 9 (SIGKILL)): no"),
            (Err(io::Error::other("lost")), false, "", "died (status unknown: lost)"),
        ] {
            assert_eq!(cause(status, is_stopped, words), expected);
        }
    }
}
