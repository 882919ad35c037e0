//! AWS's words, where a program may read them.

use aws_sdk_autoscaling::primitives::{DateTime, DateTimeFormat};
use paddock::core::Now;
use sha2::{Digest, Sha256};

use super::instance::EndedBy;

/// ("EC2 Auto Scaling User Guide, Use instance scale-in protection"; the wording is *assumed* from public reports.)
pub const ALL_PROTECTED: &str =
    "Could not scale to desired capacity because all remaining instances are protected from scale-in.";

/// A time as the query protocol writes it.
pub fn time(now: Now) -> String {
    let wall = DateTime::from_secs_f64((now.wall.as_secs_f64() * 1000.0).floor() / 1000.0);
    wall.fmt(DateTimeFormat::DateTime).unwrap()
}

/// A time with whole seconds, as the metadata and the activities' causes write it.
pub fn seconds(now: Now) -> String {
    let wall = DateTime::from_secs(now.wall.as_secs().cast_signed());
    wall.fmt(DateTimeFormat::DateTime).unwrap()
}

/// Looks like a UUID; the same parts give the same.
pub fn uuid(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub fn details(subnet: &str, zone: &str) -> String {
    format!("{{\"Subnet ID\":\"{subnet}\",\"Availability Zone\":\"{zone}\"}}")
}

/// As activities in public reports show it.
pub fn start_cause(counted: usize, desired: usize, now: Now) -> String {
    format!(
        "At {}Z an instance was started in response to a difference between desired and actual capacity, increasing the \
         capacity from {counted} to {desired}.",
        seconds(now).trim_end_matches('Z')
    )
}

/// As activities in public reports show it; the last three are *assumed*.
pub fn end_cause(by: EndedBy, id: &str, now: Now) -> String {
    let why = match by {
        EndedBy::TerminateCall => {
            format!("instance {id} was taken out of service in response to a user request.")
        }
        EndedBy::DesiredLowered => {
            format!("instance {id} was selected for termination to shrink the capacity.")
        }
        EndedBy::Spot | EndedBy::Hand => {
            "an instance was taken out of service in response to an EC2 health check \
                                          indicating it has been terminated or stopped."
                .to_owned()
        }
        EndedBy::Aws => {
            format!("instance {id} was taken out of service to rebalance the Availability Zones.")
        }
        EndedBy::Rebalanced => {
            format!(
                "instance {id} was taken out of service in response to an EC2 instance rebalance recommendation."
            )
        }
        EndedBy::Abandoned => {
            format!("instance {id} was taken out of service: a lifecycle action was completed with ABANDON.")
        }
    };
    format!("At {} {why}", seconds(now))
}
