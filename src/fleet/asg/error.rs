//! Why an Auto Scaling group did not do what it was told.

use super::failures::LaunchFailure;
use crate::aws::CallError;
use crate::core::{GroupId, InstanceId, OperationFailure};

/// Faults that pass by themselves (EC2 Auto Scaling API, SetDesiredCapacity: "Errors").
const PASSING: [&str; 2] = ["ScalingActivityInProgress", "ResourceContention"];

/// Why an Auto Scaling group did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum AsgError {
    /// There is no group of this name.
    #[error(
        "--asg-name: there is no Auto Scaling group '{group}' in {region}; mend the name, or AWS_REGION and the \
         credentials' account"
    )]
    NotFound {
        /// As it was given.
        group: String,
        /// Where it was looked for.
        region: String,
    },
    /// It may not have more instances.
    #[error("group '{group}' may have no more instances: its MaxSize is {max}; raise it")]
    Full {
        /// Which.
        group: String,
        /// Its limit.
        max: u32,
    },
    /// It has nothing to give.
    #[error(transparent)]
    Launch(#[from] LaunchFailure),
    /// A wish could not be put. To repeat it is harmless: it is absolute.
    #[error("group '{group}': {error}")]
    SetDesired {
        /// Which.
        group: String,
        /// What AWS says.
        error: CallError,
    },
    /// It could not be looked at. Nothing was changed.
    #[error("{what}: {error}")]
    Look {
        /// The groups.
        what: String,
        /// What AWS says.
        error: CallError,
    },
    /// Its end was asked for, and it is in no group any more.
    #[error("{0} is gone already")]
    Gone(InstanceId),
    /// Another call failed.
    #[error("{what}: {error}")]
    Call {
        /// The group or the instance.
        what: String,
        /// What AWS says.
        error: CallError,
    },
    /// Nobody knows this group: a fault of this program.
    #[error("there is no group {0} that was seen: please report this")]
    NoSuchGroup(GroupId),
}

impl AsgError {
    /// Whether a repeat may help.
    #[must_use]
    pub fn failure(&self) -> OperationFailure {
        match self {
            Self::NotFound { .. } | Self::NoSuchGroup(_) => OperationFailure::Permanent,
            Self::Full { .. } => OperationFailure::Unavailable,
            Self::Launch(failure) => failure.kind,
            Self::Gone(_) => OperationFailure::Transient,
            Self::SetDesired { error, .. } | Self::Look { error, .. } | Self::Call { error, .. } => {
                failure(error)
            }
        }
    }

    /// Whether it may have been done all the same.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::SetDesired { error, .. } => matches!(error, CallError::Unknown { .. }),
            Self::Call { error, .. } => error.may_be_done(),
            Self::NotFound { .. }
            | Self::Full { .. }
            | Self::Launch(_)
            | Self::Look { .. }
            | Self::Gone(_)
            | Self::NoSuchGroup(_) => false,
        }
    }
}

fn failure(error: &CallError) -> OperationFailure {
    match error {
        CallError::Throttled { .. } => OperationFailure::Throttled,
        CallError::Rejected { code, .. } if PASSING.iter().any(|passing| code.starts_with(passing)) => {
            OperationFailure::Transient
        }
        CallError::NoCredentials { .. }
        | CallError::NoRegion
        | CallError::BadCredentials { .. }
        | CallError::Denied { .. }
        | CallError::Rejected { .. }
        | CallError::Invalid { .. } => OperationFailure::Permanent,
        CallError::Server { .. } | CallError::Unreachable { .. } | CallError::Unknown { .. } => {
            OperationFailure::Transient
        }
    }
}
