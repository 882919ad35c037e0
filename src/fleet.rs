//! Where instances come from.
//!
//! A fleet does what the plan says (`wake`, `terminate`, …) and tells what it sees ([`FleetNews`]). It decides nothing: how many
//! instances there should be, and when one that failed is tried again, is the core's business.

pub mod asg;
pub mod guard;
pub mod process;

mod child;
mod launch;
mod output;
mod spawner;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{GroupId, GroupObserved, History, InstanceId, InstanceObserved, Mono, OperationFailure};
use crate::protocol::StatusUpdate;

pub use asg::{AsgConfig, AsgError, AsgFleet, AsgWake};
pub use process::{ProcessConfig, ProcessFleet, TERMINATE_GRACE, has_port};

/// What starts and ends the instances of a pool.
#[derive(Debug)]
pub enum Fleet {
    /// Nothing: agents come and go by other hands.
    None,
    /// Processes on this machine.
    Process(ProcessFleet),
    /// EC2 Auto Scaling groups.
    Asg(AsgFleet),
}

impl Fleet {
    /// Lets the group have `instances` instances; returns those that were launched now, as far as the fleet names them.
    ///
    /// The number is absolute, so a repeat is harmless; more than `instances` are left as they are. A process counts
    /// while it boots, and until it is gone.
    ///
    /// # Errors
    ///
    /// If an instance could not be started; [`FleetError::failure`] tells whether a repeat may help. Instances that were
    /// launched before the error stay, and are in the news.
    pub async fn wake(&self, group: GroupId, instances: u32) -> Result<Vec<InstanceId>, FleetError> {
        match self {
            Self::None => Err(FleetError::NoFleet),
            Self::Process(fleet) => fleet.wake(instances).await,
            Self::Asg(fleet) => Ok(fleet.wake(group, instances).await?),
        }
    }

    /// Takes back what the group wishes for beyond the instances that it has. Returns what it wishes for then.
    ///
    /// # Errors
    ///
    /// If the fleet refused. One that keeps no wish has nothing to take back.
    pub async fn withdraw(&self, group: GroupId) -> Result<Option<u32>, FleetError> {
        match self {
            Self::None | Self::Process(_) => Ok(None),
            Self::Asg(fleet) => Ok(Some(fleet.withdraw(group).await?)),
        }
    }

    /// Tells the instance to end, and returns then; its end is seen in the news. One that is gone already is no error.
    /// With `replace`, the group launches another in its place, where it keeps a wish.
    ///
    /// # Errors
    ///
    /// If the fleet refused; processes never do.
    pub async fn terminate(&self, instance: &InstanceId, replace: bool) -> Result<(), FleetError> {
        match self {
            Self::None => {}
            Self::Process(fleet) => fleet.terminate(instance).await,
            Self::Asg(fleet) => fleet.terminate(instance, replace).await?,
        }
        Ok(())
    }

    /// Lets an end go on that the fleet holds.
    ///
    /// # Errors
    ///
    /// If the fleet refused.
    pub async fn complete_lifecycle(&self, group: GroupId, instance: &InstanceId) -> Result<(), FleetError> {
        match self {
            Self::None | Self::Process(_) => Ok(()),
            Self::Asg(fleet) => Ok(fleet.complete_lifecycle(group, instance).await?),
        }
    }

    /// Asks the fleet to hold an end for longer.
    ///
    /// # Errors
    ///
    /// If the fleet refused.
    pub async fn extend_lifecycle(&self, group: GroupId, instance: &InstanceId) -> Result<(), FleetError> {
        match self {
            Self::None | Self::Process(_) => Ok(()),
            Self::Asg(fleet) => Ok(fleet.extend_lifecycle(group, instance).await?),
        }
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
            Self::Asg(fleet) => Ok(fleet.observe().await?),
        }
    }

    /// What the fleet itself remembers of the instances that ran since then, as the time since the Unix epoch; none if it
    /// remembers nothing. Children of a balancer end with it, so there is nothing to be remembered.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    pub async fn history(&self, since: Duration) -> Result<Option<History>, FleetError> {
        match self {
            Self::None | Self::Process(_) => Ok(None),
            Self::Asg(fleet) => Ok(Some(fleet.history(since).await?)),
        }
    }

    /// What people call its groups, in their order, where they have names.
    #[must_use]
    pub fn group_names(&self) -> Vec<Arc<str>> {
        let names = (0..).map_while(|at| self.group_name(GroupId(at)));
        names.map(Into::into).collect()
    }

    /// What people call a group, where it has a name.
    #[must_use]
    pub fn group_name(&self, group: GroupId) -> Option<&str> {
        match self {
            Self::None | Self::Process(_) => None,
            Self::Asg(fleet) => fleet.group_name(group),
        }
    }

    /// Ends everything that the gateway would leave behind, and waits until it is gone.
    pub async fn shutdown(&self) {
        match self {
            // Machines outlive the balancer: its successor finds them, or they end themselves.
            Self::None | Self::Asg(_) => {}
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
    /// The fleet as a whole.
    Observed {
        /// When the look began.
        began: Mono,
        /// Every group that keeps a wish.
        groups: BTreeMap<GroupId, GroupObserved>,
        /// Every instance there is. One that ended is named once, with its last words, and is missing from then on.
        instances: BTreeMap<InstanceId, InstanceObserved>,
    },
    /// A group tried to launch an instance by itself, and failed.
    LaunchFailed {
        /// Which group.
        group: GroupId,
        /// Whether to try again there.
        kind: OperationFailure,
        /// Why.
        cause: Arc<str>,
    },
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
    /// AWS did not do it.
    #[error(transparent)]
    Asg(#[from] AsgError),
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
            Self::Asg(error) => error.failure(),
        }
    }

    /// Whether it may have been done all the same.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Asg(error) if error.may_be_done())
    }
}
