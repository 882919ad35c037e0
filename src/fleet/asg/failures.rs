//! Why a group could not launch an instance: from AWS's words to what can be done about it.

use crate::core::OperationFailure;
use crate::protocol::plain;

/// The longest message of AWS that is passed on, in bytes: an activity may quote a whole policy.
const MESSAGE_BYTES_MAX: usize = 400;

/// A launch that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("group '{group}': {what}: {message}")]
pub struct LaunchFailure {
    /// Of which group.
    pub group: String,
    /// Whether to try again there.
    pub kind: OperationFailure,
    /// What is missing, and the mend where there is one.
    what: &'static str,
    /// AWS's words.
    message: String,
}

/// What AWS's codes mean. The codes are those of the EC2 API Reference, "Error codes", as they stand in the texts of scaling
/// activities (EC2 Auto Scaling User Guide, "Troubleshoot Amazon EC2 Auto Scaling") and in `LaunchInstances`' errors;
/// some texts have words instead of a code. The first that is found counts.
const KNOWN: [(&str, OperationFailure, &str); 34] = {
    use OperationFailure::{Permanent, Throttled, Transient, Unavailable};
    const CAPACITY: &str = "AWS has no capacity for it";
    const QUOTA: &str = "the account's quota is used up; raise it in Service Quotas";
    const OFFER: &str = "it is not offered there; choose another instance type or zone";
    const RIGHTS: &str = "AWS does not allow the launch; mend the IAM policy or the service-linked role";
    const TEMPLATE: &str = "its launch template is wrong";
    [
        ("InsufficientInstanceCapacity", Unavailable, CAPACITY),
        ("InsufficientHostCapacity", Unavailable, CAPACITY),
        ("InsufficientReservedInstanceCapacity", Unavailable, CAPACITY),
        ("InsufficientCapacity", Unavailable, CAPACITY),
        ("UnfulfillableCapacity", Unavailable, CAPACITY),
        ("ReservationCapacityExceeded", Unavailable, CAPACITY),
        ("do not have sufficient", Unavailable, CAPACITY),
        ("capacity-not-available", Unavailable, CAPACITY),
        ("SpotMaxPriceTooLow", Unavailable, "its spot price limit is below the market"),
        ("MaxSpotInstanceCountExceeded", Unavailable, QUOTA),
        ("VcpuLimitExceeded", Unavailable, QUOTA),
        ("InstanceLimitExceeded", Unavailable, QUOTA),
        ("VolumeLimitExceeded", Unavailable, QUOTA),
        ("MaxIOPSLimitExceeded", Unavailable, QUOTA),
        ("vCPU limit", Unavailable, QUOTA),
        ("quota", Unavailable, QUOTA),
        (
            "InsufficientFreeAddressesInSubnet",
            Unavailable,
            "its subnet has no free addresses; use a larger one",
        ),
        ("InsufficientAddressCapacity", Unavailable, CAPACITY),
        ("Unsupported", Unavailable, OFFER),
        ("not supported", Unavailable, OFFER),
        ("InstanceTypeNotSupported", Unavailable, OFFER),
        ("RequestLimitExceeded", Throttled, "AWS asks for fewer calls"),
        ("UnauthorizedOperation", Permanent, RIGHTS),
        ("not authorized", Permanent, RIGHTS),
        ("AccessDenied", Permanent, RIGHTS),
        ("ServiceLinkedRoleCreationNotPermitted", Permanent, RIGHTS),
        ("AuthFailure", Permanent, RIGHTS),
        ("OptInRequired", Permanent, "the account has not accepted the image's terms"),
        ("PendingVerification", Permanent, "AWS has not verified the account yet"),
        ("InvalidParameter", Permanent, TEMPLATE),
        ("Invalid", Permanent, TEMPLATE),
        ("launch template", Permanent, TEMPLATE),
        (
            "Client.InternalError",
            Permanent,
            "its volume cannot be made; mend the permissions of its encryption key",
        ),
        ("InternalError", Transient, "AWS failed"),
    ]
};

impl LaunchFailure {
    /// What the text of a failed activity means.
    pub(super) fn of_activity(group: &str, status_message: &str) -> Self {
        Self::of(group, status_message, status_message)
    }

    /// What the code and message of a `LaunchInstances` error mean.
    pub(super) fn of_code(group: &str, code: &str, message: &str) -> Self {
        let known = KNOWN.iter().any(|(mark, _, _)| code.contains(mark));
        Self::of(group, if known { code } else { message }, &format!("{code}: {message}"))
    }

    fn of(group: &str, text: &str, message: &str) -> Self {
        let known = KNOWN.iter().find(|(mark, _, _)| text.contains(mark));
        let (kind, what) = known
            .map_or((OperationFailure::Transient, "AWS could not launch it"), |(_, kind, what)| {
                (*kind, *what)
            });
        Self { group: group.to_owned(), kind, what, message: plain(message.trim(), MESSAGE_BYTES_MAX) }
    }

    pub(super) fn is_for_lack(&self) -> bool {
        self.kind == OperationFailure::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_says_is_sorted_by_what_can_be_done() {
        use OperationFailure::{Permanent, Throttled, Transient, Unavailable};
        for (text, kind, says) in [
            (
                "We currently do not have sufficient g4dn.xlarge capacity in the Availability Zone you requested \
                 (us-east-1a). Launching EC2 instance failed.",
                Unavailable,
                "no capacity",
            ),
            (
                "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available \
              that matches your request. Launching EC2 instance failed.",
                Unavailable,
                "no capacity",
            ),
            (
                "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your \
              request configuration. Launching EC2 instance failed.",
                Unavailable,
                "no capacity",
            ),
            (
                "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded. \
              Launching EC2 instance failed.",
                Unavailable,
                "quota",
            ),
            (
                "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance \
              bucket that the specified instance type belongs to. Launching EC2 instance failed.",
                Unavailable,
                "quota",
            ),
            (
                "Your requested instance type (p5.48xlarge) is not supported in your requested Availability Zone \
              (us-east-1e). Launching EC2 instance failed.",
                Unavailable,
                "not offered",
            ),
            (
                "InsufficientFreeAddressesInSubnet: The specified subnet does not have enough free addresses.",
                Unavailable,
                "subnet",
            ),
            ("RequestLimitExceeded: Request limit exceeded.", Throttled, "fewer calls"),
            (
                "You are not authorized to perform this operation. Launching EC2 instance failed.",
                Permanent,
                "IAM policy",
            ),
            ("The image id '[ami-0]' does not exist: InvalidAMIID.NotFound", Permanent, "launch template"),
            (
                "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: \
              Client.InternalError: Client error on launch",
                Permanent,
                "encryption key",
            ),
            ("Server.InternalError: Internal error on launch", Transient, "AWS failed"),
            ("something new", Transient, "could not launch"),
        ] {
            let failure = LaunchFailure::of_activity("spot", text);
            assert_eq!(failure.kind, kind, "{text}");
            let words = failure.to_string();
            assert!(words.starts_with("group 'spot': ") && words.contains(says), "{words}");
        }
    }

    #[test]
    fn a_code_decides_before_its_message() {
        let failure = LaunchFailure::of_code("g", "InsufficientInstanceCapacity", "Unsupported, as it were");
        assert!(failure.is_for_lack() && failure.to_string().contains("no capacity"), "{failure}");
        let failure = LaunchFailure::of_code("g", "Unknown", "the quota is used up");
        assert!(failure.to_string().contains("Service Quotas"), "{failure}");
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let failure = LaunchFailure::of_activity("g", &format!("a\nb{}", "x".repeat(10_000)));
        let words = failure.to_string();
        assert!(words.len() < 600 && !words.contains('\n'), "{words}");
    }
}
