//! Why launches fail, in AWS's words.

use super::config::{GroupConfig, Market};

/// A cause, with the code that EC2 gives it ("EC2 API Reference, Error codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchFailure {
    /// `InsufficientInstanceCapacity`.
    NoCapacity,
    /// `UnfulfillableCapacity`: spot only.
    Unfulfillable,
    /// `MaxSpotInstanceCountExceeded`: the spot quota.
    SpotQuota,
    /// `VcpuLimitExceeded`: the on-demand quota.
    VcpuQuota,
    /// `Unsupported`: the zone does not have the type.
    Unsupported,
    /// `InsufficientFreeAddressesInSubnet`.
    NoAddresses,
}

impl LaunchFailure {
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCapacity => "InsufficientInstanceCapacity",
            Self::Unfulfillable => "UnfulfillableCapacity",
            Self::SpotQuota => "MaxSpotInstanceCountExceeded",
            Self::VcpuQuota => "VcpuLimitExceeded",
            Self::Unsupported => "Unsupported",
            Self::NoAddresses => "InsufficientFreeAddressesInSubnet",
        }
    }

    /// EC2's message. The wording of the first five is as activities in public reports show it; the last is
    /// *assumed*.
    pub fn message(self, group: &GroupConfig, zone: &str) -> String {
        let kind = &group.instance_type;
        match (self, group.market) {
            (Self::NoCapacity, Market::Spot) => {
                "There is no Spot capacity available that matches your request.".to_owned()
            }
            (Self::NoCapacity, Market::OnDemand) => format!(
                "We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). Our \
                 system will be working on provisioning additional capacity. You can currently get {kind} capacity by not \
                 specifying an Availability Zone in your request or choosing another one."
            ),
            (Self::Unfulfillable, _) => "Unable to fulfill capacity due to your request configuration. Please adjust your \
                                         request and try again."
                .to_owned(),
            (Self::SpotQuota, _) => "Max spot instance count exceeded".to_owned(),
            (Self::VcpuQuota, _) => "You have requested more vCPU capacity than your current vCPU limit of 0 allows for \
                                     the instance bucket that the specified instance type belongs to. Please visit \
                                     http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
                .to_owned(),
            (Self::Unsupported, _) => format!(
                "Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone}). \
                 Please retry your request by not specifying an Availability Zone or choosing another one."
            ),
            (Self::NoAddresses, _) => {
                "There are not enough free addresses in subnet to satisfy the requested number of instances.".to_owned()
            }
        }
    }

    /// The `StatusMessage` of a group's activity. Groups with a launch template say the code as well.
    pub fn status_message(self, group: &GroupConfig, zone: &str) -> String {
        let market = match group.market {
            Market::OnDemand => "On-Demand",
            Market::Spot => "Spot",
        };
        let (code, message) = (self.code(), self.message(group, zone));
        let message = message.trim_end_matches('.');
        format!("Could not launch {market} Instances. {code} - {message}. Launching EC2 instance failed.")
    }
}
