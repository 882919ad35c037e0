//! The signals that end the program.

use std::fmt;
use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// A signal that asks for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndSignal {
    /// From a service manager.
    Terminate,
    /// From a terminal.
    Interrupt,
}

impl EndSignal {
    /// What a shell reports for a program that it ended: 128 and the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }
}

impl fmt::Display for EndSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Listens from its start on: the signals do not end the program by themselves any more.
#[derive(Debug)]
pub struct EndSignals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl EndSignals {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal.
    pub async fn next(&mut self) -> EndSignal {
        tokio::select! {
            Some(()) = self.terminate.recv() => EndSignal::Terminate,
            Some(()) = self.interrupt.recv() => EndSignal::Interrupt,
            else => std::future::pending().await,
        }
    }
}
