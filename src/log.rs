//! The log, on standard error.
//!
//! **Invariant:** no thread waits for whoever reads it. A thread of its own writes; what it does not come round to is
//! dropped, counted, and told once the reader has caught up.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::colour::is_coloured;
use crate::config::LogFormat;

/// Lines that wait to be written: about four megabytes of those that requests leave.
const LINES_WAITING_MAX: usize = 8192;

/// `RUST_LOG` is no filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "RUST_LOG: '{directives}' is not a filter ({error}); write a level or target=level, such as debug or \
     paddock::scaler=debug"
)]
pub struct FilterError {
    directives: String,
    error: tracing_subscriber::filter::ParseError,
}

/// What is logged, by `RUST_LOG`.
///
/// # Errors
/// If that is no filter.
pub fn filter() -> Result<EnvFilter, FilterError> {
    match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(&directives).map_err(|error| FilterError { directives, error })
        }
        Ok(_) | Err(_) => Ok(EnvFilter::new("info")),
    }
}

/// The running log. Dropping it writes what waits, for about a second at most.
#[derive(Debug)]
pub struct Log {
    lost: Arc<Lost>,
    _writing: WorkerGuard,
}

impl Log {
    /// Starts it for the whole program.
    ///
    /// # Errors
    /// If `RUST_LOG` is no filter.
    pub fn start(format: LogFormat) -> Result<Self, FilterError> {
        let filter = filter()?;
        let lost = Arc::<Lost>::default();
        let (writer, writing) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING_MAX)
            .thread_name("log")
            .finish(Telling { out: io::stderr(), lost: lost.clone() });
        lost.counter.get_or_init(|| writer.error_counter());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
        match format {
            LogFormat::Text => log.with_ansi(is_coloured(&io::stderr())).init(),
            LogFormat::Json => log.json().init(),
        }
        Ok(Self { lost, _writing: writing })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lost.tell();
    }
}

/// Lines that were dropped, and how many of them were told.
#[derive(Debug, Default)]
struct Lost {
    counter: OnceLock<ErrorCounter>,
    told: AtomicUsize,
}

impl Lost {
    /// Tells what was not told yet. The line waits among the others: it may be lost as well, and is counted then.
    fn tell(&self) {
        let lost = self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let new = lost - self.told.swap(lost, Ordering::Relaxed).min(lost);
        if new > 0 {
            tracing::warn!("{new} log lines were dropped: whoever reads standard error did not keep up");
        }
    }
}

/// Tells what was dropped, each time nothing waits any more.
#[derive(Debug)]
struct Telling<W> {
    out: W,
    lost: Arc<Lost>,
}

impl<W: Write> Write for Telling<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lost.tell();
        self.out.flush()
    }
}
