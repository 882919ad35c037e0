//! Tasks that the program cannot do without, and tasks that are started again.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The pause after a task's first end.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause. A task that ran for as long begins again with the shortest one.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The end of a task that should not have ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task '{name}' {how}: please report this")]
pub struct Ended {
    /// Which task.
    pub name: &'static str,
    /// "ended", or "panicked" and with what.
    pub how: String,
}

/// Named tasks. Dropped, it aborts them all.
#[derive(Debug)]
pub struct Supervisor {
    clock: Clock,
    cancel: CancellationToken,
    tasks: JoinSet<(&'static str, Option<String>)>,
    running: BTreeMap<&'static str, u32>,
}

impl Supervisor {
    /// Without tasks.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, cancel: CancellationToken::new(), tasks: JoinSet::new(), running: BTreeMap::new() }
    }

    /// What tells a task to end: cancelled by [`Supervisor::stop`].
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// A task that the program cannot do without.
    pub fn essential(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        *self.running.entry(name).or_default() += 1;
        self.tasks.spawn(async move { (name, panicked(task).await) });
    }

    /// A task that begins again after a pause when it ends or panics before it was told to. The pause doubles from 100 ms to
    /// 30 s.
    pub fn restarting<F>(&mut self, name: &'static str, mut start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let (clock, cancel) = (self.clock, self.cancel.clone());
        let repeating = async move {
            let mut pause = RESTART_PAUSE_MIN;
            loop {
                let began = clock.mono();
                let panic = panicked(start()).await;
                if cancel.is_cancelled() {
                    return;
                }
                if clock.mono().since(began) >= RESTART_PAUSE_MAX {
                    pause = RESTART_PAUSE_MIN;
                }
                let how = panic.unwrap_or_else(|| "ended".to_owned());
                tracing::error!(task = name, how, ?pause, "a task ended and is started again");
                if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        };
        self.essential(name, repeating);
    }

    /// Waits for the end of a task that should go on. Without tasks, for ever.
    pub async fn failed(&mut self) -> Ended {
        loop {
            let Some(end) = self.tasks.join_next().await else { return std::future::pending().await };
            // Panics are caught within, and nobody aborts a task before the end.
            let Ok((name, panic)) = end else { continue };
            self.forget(name);
            return Ended { name, how: panic.unwrap_or_else(|| "ended".to_owned()) };
        }
    }

    /// Tells all tasks to end, waits for at most `grace`, and aborts the rest.
    pub async fn stop(mut self, grace: Duration) {
        self.cancel.cancel();
        let ends = async {
            while let Some(end) = self.tasks.join_next().await {
                if let Ok((name, _)) = end {
                    self.forget(name);
                }
            }
        };
        if timeout(grace, ends).await.is_err() {
            let tasks: Vec<_> = self.running.keys().collect();
            tracing::warn!(?tasks, ?grace, "tasks did not end within their grace: aborted");
        }
    }

    fn forget(&mut self, name: &'static str) {
        if let Some(count) = self.running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(name);
            }
        }
    }
}

/// Runs to the end; says so if it was a panic.
async fn panicked(task: impl Future<Output = ()>) -> Option<String> {
    let panic = AssertUnwindSafe(task).catch_unwind().await.err()?;
    Some(format!("panicked: {}", words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_essential_task_is_told_and_the_others_are_stopped() {
        let mut tasks = Supervisor::new(Clock::start());
        let token = tasks.token();
        tasks.essential("lasting", async move { token.cancelled().await });
        tasks.essential("short", tokio::time::sleep(Duration::from_secs(1)));
        assert_eq!(tasks.failed().await, Ended { name: "short", how: "ended".to_owned() });
        assert_eq!(tasks.running.keys().copied().collect::<Vec<_>>(), ["lasting"]);
        let clock = Clock::start();
        tasks.stop(Duration::from_secs(10)).await;
        assert_eq!(
            clock.mono().0,
            Duration::ZERO,
            "a task that obeys is not waited for longer than it needs"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_end_with_its_words() {
        let mut tasks = Supervisor::new(Clock::start());
        let number = 7;
        tasks.essential("wrong", async move { panic!("number {number}") });
        let ended = tasks.failed().await;
        assert_eq!(ended.to_string(), "the task 'wrong' panicked: number 7: please report this");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_obey_is_aborted_after_the_grace() {
        let mut tasks = Supervisor::new(Clock::start());
        let held = Arc::new(());
        let holds = held.clone();
        tasks.essential("deaf", async move {
            std::future::pending::<()>().await;
            drop(holds);
        });
        let clock = Clock::start();
        tasks.stop(Duration::from_secs(10)).await;
        assert_eq!(clock.mono().0, Duration::from_secs(10));
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&held), 1, "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn another_task_begins_again_after_pauses_that_grow() {
        let clock = Clock::start();
        let mut tasks = Supervisor::new(clock);
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let (reached, mut tenth) = tokio::sync::mpsc::unbounded_channel();
        tasks.restarting("failing", move || {
            let count = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let reached = reached.clone();
            async move {
                if count == 10 {
                    reached.send(()).unwrap();
                }
                assert!(count.is_multiple_of(2), "panics and ends alike");
            }
        });
        tokio::select! {
            ended = tasks.failed() => panic!("{ended}"),
            tenth = tenth.recv() => tenth.unwrap(),
        }
        // 0.1 + 0.2 + … + 25.6 s.
        assert_eq!(clock.mono().0.as_millis(), 51_100);
        tasks.stop(Duration::from_secs(1)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ran_for_long_begins_again_soon() {
        let clock = Clock::start();
        let mut tasks = Supervisor::new(clock);
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        tasks.restarting("steady", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(60))
        });
        assert!(timeout(Duration::from_secs(3600), tasks.failed()).await.is_err());
        // One start in each 60.1 s. With a pause that grew they would be 46.
        assert_eq!(starts.load(Ordering::SeqCst), 60);
    }
}
