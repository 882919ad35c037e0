//! Addresses that stand in the EC2 instance metadata.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::sleep;

use super::complaint::CheckError;
use crate::agent::{Imds, LocateError, Presence};
use crate::config::HostPort;

/// How often the metadata is asked for an address of the balancer, which cannot start without it. With the pauses it is
/// half a minute at most: the network of a fresh instance is late by moments, and a service manager starts it again.
const ATTEMPTS_MAX: u32 = 10;

/// Between two of them.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Who may be asked for an address that stands in the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// The metadata, which the address is needed from.
    Metadata,
    /// Nobody: any address will do in its place.
    Nobody,
}

/// Whether the address stands in the metadata.
pub(super) fn needs(flag: &'static str, address: &HostPort, presence: Presence) -> Result<bool, CheckError> {
    match (address.entry(), presence) {
        (None, _) => Ok(false),
        (Some(_), Presence::Likely | Presence::Unlikely) => Ok(true),
        (Some(_), Presence::Forbidden) => {
            Err(CheckError::MetadataForbidden { flag, address: address.clone() })
        }
    }
}

/// The address with its host written out. Asks the metadata if it must, and blocks meanwhile: not to be called within a
/// runtime.
pub(super) fn located(
    flag: &'static str,
    address: &HostPort,
    asking: Asking,
) -> Result<HostPort, CheckError> {
    if !needs(flag, address, Presence::detect())? {
        return Ok(address.clone());
    }
    if asking == Asking::Nobody {
        // Whichever it is, others reach it.
        return Ok(address.at(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CheckError::Runtime)?;
    let mut imds = Imds::from_environment();
    let asking = async {
        let mut attempt = 1;
        loop {
            match imds.locate(address).await {
                Err(LocateError::Imds(_)) if attempt < ATTEMPTS_MAX => sleep(ATTEMPT_PAUSE).await,
                told => return told,
            }
            attempt += 1;
        }
    };
    runtime.block_on(asking).map_err(|error| CheckError::Unlocated { flag, error })
}
