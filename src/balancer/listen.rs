//! The listeners, all bound before anything runs.

use std::io;
use std::net::{self, SocketAddr};

use tokio::net::TcpListener;

use crate::config::BalancerConfig;
use crate::proxy;

/// What was bound.
pub(super) struct Listeners {
    /// One for each worker thread.
    pub proxy: Vec<net::TcpListener>,
    pub proxy_addr: SocketAddr,
    pub management: TcpListener,
    pub management_addr: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: cannot listen on '{address}': {}", mend(.error))]
pub struct ListenError {
    /// Which flag.
    flag: &'static str,
    /// Where.
    address: SocketAddr,
    /// What the system says.
    error: io::Error,
}

/// Binds on the runtime that this is called in.
pub(super) fn bind(config: &BalancerConfig) -> Result<Listeners, ListenError> {
    let failed = |flag, address| move |error| ListenError { flag, address, error };
    let (flag, address) = ("--management-addr", config.management_addr);
    // Without SO_REUSEPORT, so that a second balancer does not go unnoticed.
    let management = net::TcpListener::bind(address).map_err(failed(flag, address))?;
    management.set_nonblocking(true).map_err(failed(flag, address))?;
    let management = TcpListener::from_std(management).map_err(failed(flag, address))?;
    let management_addr = management.local_addr().map_err(failed(flag, address))?;

    let (flag, address) = ("--reverseproxy-addr", config.proxy_addr);
    let proxy = proxy::bind(address, config.proxy.worker_threads).map_err(failed(flag, address))?;
    let first = proxy.first().ok_or_else(|| io::ErrorKind::InvalidInput.into());
    let proxy_addr = first.and_then(net::TcpListener::local_addr).map_err(failed(flag, address))?;
    Ok(Listeners { proxy, proxy_addr, management, management_addr })
}

fn mend(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "another program listens there; end it, or give another port"),
        (
            io::ErrorKind::AddrNotAvailable,
            "this machine has no such address; give one of its own, or 0.0.0.0 for all of them",
        ),
        (io::ErrorKind::PermissionDenied, "not permitted; give a port above 1023"),
    ];
    match known.into_iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, mend)) => mend.to_owned(),
        None => format!("{error}; give another address"),
    }
}
