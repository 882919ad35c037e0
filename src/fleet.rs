//! Where instances come from.
//!
//! A fleet does what the plan says (`wake`, `terminate`) and tells what it sees ([`FleetNews`]). It decides nothing: how many
//! instances there should be, and when one that failed is tried again, is the core's business.

pub mod guard;
pub mod process;

mod child;
mod launch;
mod output;
mod spawner;

use std::collections::BTreeMap;
use std::io;

use crate::core::{InstanceId, InstanceObserved, OperationFailure};
use crate::protocol::StatusUpdate;

pub use process::{ProcessConfig, ProcessFleet, TERMINATE_GRACE, has_port};

/// What starts and ends the instances of a pool.
#[derive(Debug)]
pub enum Fleet {
    /// Nothing: agents come and go by other hands.
    None,
    /// Processes on this machine.
    Process(ProcessFleet),
}

impl Fleet {
    /// Lets there be `instances` instances, counting those that boot and those that are not gone yet; returns those that
    /// were launched now.
    ///
    /// The number is absolute, so a repeat is harmless; more than `instances` are left as they are.
    ///
    /// # Errors
    ///
    /// If an instance could not be started; [`FleetError::failure`] tells whether a repeat may help. Instances that were
    /// launched before the error stay, and are in the news.
    pub async fn wake(&self, instances: u32) -> Result<Vec<InstanceId>, FleetError> {
        match self {
            Self::None => Err(FleetError::NoFleet),
            Self::Process(fleet) => fleet.wake(instances).await,
        }
    }

    /// Tells the instance to end, and returns then; its end is seen in the news. One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// If the fleet refused; processes never do.
    pub async fn terminate(&self, instance: &InstanceId) -> Result<(), FleetError> {
        match self {
            Self::None => {}
            Self::Process(fleet) => fleet.terminate(instance).await,
        }
        Ok(())
    }

    /// Tells in the news what there is, as it is now.
    ///
    /// # Errors
    ///
    /// If the fleet cannot be looked at; processes always can.
    pub async fn observe(&self) -> Result<(), FleetError> {
        match self {
            Self::None => Err(FleetError::NoFleet),
            Self::Process(fleet) => fleet.observe().await,
        }
    }

    /// Ends everything that the gateway would leave behind, and waits until it is gone.
    pub async fn shutdown(&self) {
        match self {
            Self::None => {}
            Self::Process(fleet) => fleet.shutdown().await,
        }
    }
}

/// What a fleet tells.
///
/// The channel is unbounded so that nothing here ever waits for its reader; what may lie in it is bounded by the number of
/// instances: each sends one report for every interval, and a few observations in its life.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all news are reports, which are the large ones")]
pub enum FleetNews {
    /// Every instance there is. One that ended is named once, with its last words, and is missing from then on.
    Observed(BTreeMap<InstanceId, InstanceObserved>),
    /// How an instance's server is, from the agent's code run in this process.
    Reported {
        /// On which instance.
        instance: InstanceId,
        /// Which life of the agent; a number for each child, never used again by this process.
        boot: u64,
        /// What an agent of its own would have sent.
        status: StatusUpdate,
    },
    /// Nothing more will be reported from this instance.
    AgentGone {
        /// Which.
        instance: InstanceId,
    },
}

/// Why a fleet did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is nothing to start instances with.
    #[error(
        "there is no fleet to start a server with; start one and an agent by hand, or give the balancer a command after `--`"
    )]
    NoFleet,
    /// The command has no program.
    #[error("the command after `--` is empty; name a program, such as llama-server")]
    NoProgram,
    /// The command's program cannot be run.
    #[error("cannot run `{program}`: {error}; install it, or give its full path after `--`")]
    Program {
        /// As it was given.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// The program that guards each child cannot be run.
    #[error(
        "cannot run `{program}`, through which paddock starts its servers: {error}; restart paddock if it was replaced"
    )]
    Guard {
        /// Its path.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system has no room for another process.
    #[error("cannot start a process: {0}; look at the limits of processes, open files and memory")]
    Spawn(io::Error),
    /// No port could be had.
    #[error("cannot find a free port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// It has stopped for good.
    #[error("the gateway is shutting down")]
    ShutDown,
}

impl FleetError {
    /// Whether a repeat may help.
    #[must_use]
    pub fn failure(&self) -> OperationFailure {
        match self {
            Self::NoFleet | Self::NoProgram | Self::Program { .. } | Self::Guard { .. } | Self::ShutDown => {
                OperationFailure::Permanent
            }
            Self::Spawn(_) | Self::Port(_) => OperationFailure::Transient,
        }
    }
}
