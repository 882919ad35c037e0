//! A group's scaling activities: the only place where AWS says why a launch failed.

use paddock::core::Now;

/// One activity. ("EC2 Auto Scaling API, Activity")
#[derive(Debug, Clone)]
pub struct Activity {
    pub id: String,
    pub description: String,
    /// A sentence that says what led to it, with times.
    pub cause: String,
    pub started: Now,
    pub ended: Option<Now>,
    pub status: Status,
    /// What went wrong.
    pub message: Option<String>,
    /// JSON with the subnet and the zone.
    pub details: String,
}

/// Of AWS's statuses those that occur here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `PreInService`: launched, not yet in service.
    PreInService,
    InProgress,
    /// A terminating hook holds it.
    MidTerminatingLifecycleAction,
    Successful,
    Failed,
    Cancelled,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreInService => "PreInService",
            Self::InProgress => "InProgress",
            Self::MidTerminatingLifecycleAction => "MidTerminatingLifecycleAction",
            Self::Successful => "Successful",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    pub fn progress(self) -> u8 {
        match self {
            Self::PreInService | Self::InProgress => 30,
            Self::MidTerminatingLifecycleAction => 60,
            Self::Successful | Self::Failed | Self::Cancelled => 100,
        }
    }
}

impl Activity {
    pub fn end(&mut self, status: Status, now: Now) {
        self.status = status;
        self.ended = Some(now);
    }

    /// The description gains the reason, as AWS's does.
    pub fn fail(&mut self, status: Status, message: String, now: Now) {
        self.end(status, now);
        self.description = format!("{}.  Status Reason: {message}", self.description.trim_end_matches('.'));
        self.message = Some(message);
    }
}
