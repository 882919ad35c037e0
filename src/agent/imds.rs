//! The EC2 instance metadata service: whether this machine has one, and what it answers.
//!
//! Version 2 only (EC2 User Guide, "Use the Instance Metadata Service to access instance metadata"): a token is asked for
//! first, and sent with every question. The endpoint is the SDK's choice: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, else
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4` or `IPv6`), else the same from the profile, else IPv4.

use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use aws_config::imds::client::error::ImdsError as SdkError;
use aws_config::imds::client::{Builder, Client};
use thiserror::Error;

use crate::config::{AddressEntry, HostPort};

/// To connect, and between two bytes of an answer: the service is on the machine's own host, and answers within
/// milliseconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);

/// For a question, with the token that it may need first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// `true` forbids every use of the metadata, as in all AWS tools.
const DISABLED_VARIABLE: &str = "AWS_EC2_METADATA_DISABLED";

/// Where the service is, as in all AWS tools.
const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Where addresses and other entries are.
const ENTRIES: &str = "/latest/meta-data/";

/// Whether the metadata is there to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The environment forbids it.
    Forbidden,
    /// Nothing says that this is an EC2 instance.
    Unlikely,
    /// It is there.
    Likely,
}

impl Presence {
    /// Looks at the environment and at what the machine says about itself. Sends nothing.
    #[must_use]
    pub fn detect() -> Self {
        Self::of(|name| std::env::var(name).ok(), Path::new("/sys"))
    }

    /// 1. With `AWS_EC2_METADATA_DISABLED=true`, never.
    /// 2. With `AWS_EC2_METADATA_SERVICE_ENDPOINT`, yes.
    /// 3. On a machine whose vendor, by its DMI, is Amazon EC2: all of Nitro and bare metal.
    /// 4. On a Xen guest whose UUID begins with `ec2` (EC2 User Guide, "Detect whether a host is an EC2 instance").
    /// 5. Else not: nobody else's network gets packets to a link-local address.
    fn of(variable: impl Fn(&str) -> Option<String>, sys: &Path) -> Self {
        if variable(DISABLED_VARIABLE).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::Forbidden;
        }
        let says = |file: &str, begin: &str| {
            let text = std::fs::read_to_string(sys.join(file)).unwrap_or_default();
            text.trim_start().to_ascii_lowercase().starts_with(begin)
        };
        let is_ec2 = variable(ENDPOINT_VARIABLE).is_some_and(|value| !value.is_empty())
            || says("class/dmi/id/sys_vendor", "amazon ec2")
            || says("class/dmi/id/board_vendor", "amazon ec2")
            || says("hypervisor/uuid", "ec2");
        if is_ec2 { Self::Likely } else { Self::Unlikely }
    }
}

/// Why a question got no answer.
#[derive(Debug, Error)]
pub enum ImdsError {
    /// No token or no answer.
    #[error("the EC2 instance metadata does not answer {path} ({cause})")]
    Silent {
        /// What was asked.
        path: String,
        /// What happened.
        cause: String,
    },
    /// An answer that is none.
    #[error("the EC2 instance metadata answers {path} with status {status}")]
    Refused {
        /// What was asked.
        path: String,
        /// The status.
        status: u16,
    },
}

/// Why an address is not known.
#[derive(Debug, Error)]
pub enum LocateError {
    /// The service may answer later.
    #[error(transparent)]
    Imds(#[from] ImdsError),
    /// The machine has no such address.
    #[error("'{address}': this machine has no {name} in its EC2 metadata; assign one, or write the address")]
    Missing {
        /// As it was written.
        address: HostPort,
        /// The entry.
        name: &'static str,
    },
    /// What is told is no address.
    #[error("'{address}': the EC2 metadata tells '{told}', which is no address; write the address")]
    NotAnAddress {
        /// As it was written.
        address: HostPort,
        /// What was told.
        told: String,
    },
}

/// A client of the service. Nothing is sent before the first question.
#[derive(Debug, Clone)]
pub struct Imds {
    builder: Builder,
    client: Client,
}

impl Imds {
    /// At the endpoint that the environment or the profile names.
    #[must_use]
    pub fn from_environment() -> Self {
        // Whoever asks, asks again at a pace of its own: so one attempt.
        let builder = Client::builder()
            .max_attempts(1)
            .connect_timeout(STEP_TIMEOUT)
            .read_timeout(STEP_TIMEOUT)
            .operation_attempt_timeout(ANSWER_TIMEOUT)
            .operation_timeout(ANSWER_TIMEOUT);
        Self { client: builder.clone().build(), builder }
    }

    /// What is at `path`; none where there is nothing.
    ///
    /// # Errors
    /// If the service does not answer, or not with 200 or 404.
    pub async fn get(&mut self, path: &str) -> Result<Option<String>, ImdsError> {
        match self.client.get(path).await {
            Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
            Err(SdkError::ErrorResponse(answer)) => match answer.response().status().as_u16() {
                404 => Ok(None),
                status => {
                    if status == 401 {
                        // The SDK's client keeps its token until it expires, also one that the service has forgotten.
                        self.client = self.builder.clone().build();
                    }
                    Err(ImdsError::Refused { path: path.to_owned(), status })
                }
            },
            Err(error) => Err(ImdsError::Silent { path: path.to_owned(), cause: bottom(&error) }),
        }
    }

    /// The entry of this name below `/latest/meta-data/`.
    ///
    /// # Errors
    /// As [`Imds::get`].
    pub async fn entry(&mut self, name: &str) -> Result<Option<String>, ImdsError> {
        self.get(&format!("{ENTRIES}{name}")).await
    }

    /// The address with its host written out, if the metadata stands for it.
    ///
    /// # Errors
    /// If the service does not answer, or knows no such address.
    pub async fn locate(&mut self, address: &HostPort) -> Result<HostPort, LocateError> {
        let Some(name) = address.entry().map(AddressEntry::name) else { return Ok(address.clone()) };
        let Some(told) = self.entry(name).await? else {
            return Err(LocateError::Missing { address: address.clone(), name });
        };
        match told.parse::<IpAddr>() {
            Ok(host) => Ok(address.at(host)),
            Err(_) => Err(LocateError::NotAnAddress { address: address.clone(), told }),
        }
    }
}

/// What lies at the bottom of an error.
pub(super) fn bottom(error: &dyn Error) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

#[cfg(test)]
pub(super) mod tests;
