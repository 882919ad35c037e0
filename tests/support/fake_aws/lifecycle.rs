//! The states of an instance in a group. ("EC2 Auto Scaling User Guide, Amazon EC2 Auto Scaling instance lifecycle";
//! the names are those of "API Instance".)

use std::fmt;

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// Launched; it may not run yet.
    Pending,
    /// It runs, and a launching hook holds it.
    PendingWait,
    /// The launching hooks are done.
    PendingProceed,
    InService,
    /// Ending, and no hook holds it.
    Terminating,
    /// A terminating hook holds it.
    TerminatingWait,
    /// The terminating hooks are done.
    TerminatingProceed,
    Standby,
    /// Launched into the warm pool; it may not run yet.
    WarmedPending,
    /// It runs, and a launching hook holds it.
    WarmedPendingWait,
    /// The launching hooks are done.
    WarmedPendingProceed,
    WarmedStopped,
    WarmedRunning,
    WarmedHibernated,
}

impl Lifecycle {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait => "Pending:Wait",
            Self::PendingProceed => "Pending:Proceed",
            Self::InService => "InService",
            Self::Terminating => "Terminating",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
            Self::Standby => "Standby",
            Self::WarmedPending => "Warmed:Pending",
            Self::WarmedPendingWait => "Warmed:Pending:Wait",
            Self::WarmedPendingProceed => "Warmed:Pending:Proceed",
            Self::WarmedStopped => "Warmed:Stopped",
            Self::WarmedRunning => "Warmed:Running",
            Self::WarmedHibernated => "Warmed:Hibernated",
        }
    }

    /// What the instance reads as `autoscaling/target-lifecycle-state`: the steady state that it is in or on its way
    /// to. ("EC2 Auto Scaling User Guide, Retrieve the target lifecycle state through instance metadata")
    pub fn target(self) -> &'static str {
        match self {
            Self::Pending | Self::PendingWait | Self::PendingProceed | Self::InService => "InService",
            Self::Terminating | Self::TerminatingWait | Self::TerminatingProceed => "Terminated",
            // The pool's state is that of its instances: here they stop.
            Self::WarmedPending | Self::WarmedPendingWait | Self::WarmedPendingProceed => "Warmed:Stopped",
            Self::Standby | Self::WarmedStopped | Self::WarmedRunning | Self::WarmedHibernated => {
                self.as_str()
            }
        }
    }

    pub fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::PendingWait | Self::PendingProceed)
    }

    pub fn is_ending(self) -> bool {
        matches!(self, Self::Terminating | Self::TerminatingWait | Self::TerminatingProceed)
    }

    /// Whether a hook holds it.
    pub fn is_held(self) -> bool {
        matches!(self, Self::PendingWait | Self::WarmedPendingWait | Self::TerminatingWait)
    }

    pub fn is_warmed(self) -> bool {
        let is_on_its_way =
            matches!(self, Self::WarmedPending | Self::WarmedPendingWait | Self::WarmedPendingProceed);
        is_on_its_way || matches!(self, Self::WarmedStopped | Self::WarmedRunning | Self::WarmedHibernated)
    }

    /// Whether it counts towards the desired capacity. ("Temporarily remove instances from your Auto Scaling group":
    /// Standby does not; "Warm pools": nor do warmed ones.)
    pub fn is_counted(self) -> bool {
        self.is_pending() || self == Self::InService
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
