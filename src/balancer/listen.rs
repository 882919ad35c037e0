//! The listeners, all bound before anything runs.

use std::io;
use std::net::{self, SocketAddr};

use tokio::net::TcpListener;

use crate::config::BalancerConfig;
use crate::inherited::Inherited;
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
#[error("{flag}: cannot listen on '{address}': {}", mend(.error, *.takes_over))]
pub struct ListenError {
    /// Which flag.
    flag: &'static str,
    /// Where.
    address: SocketAddr,
    /// What the system says.
    error: io::Error,
    /// Whether another balancer was expected there.
    takes_over: bool,
}

/// Binds on the runtime that this is called in. Inherited sockets are taken as they are.
pub(super) fn bind(config: &mut BalancerConfig) -> Result<Listeners, ListenError> {
    let Inherited { proxy, management } = std::mem::take(&mut config.inherited);
    let takes_over = config.takes_over;
    let bind = |address, workers, inherited: Option<net::TcpListener>| match inherited {
        Some(socket) => proxy::share(&socket, workers),
        None if takes_over => proxy::join(address, workers),
        None => proxy::bind(address, workers),
    };
    let failed = |flag, address| move |error| ListenError { flag, address, error, takes_over };
    let none = || io::Error::from(io::ErrorKind::InvalidInput);

    let failed_here = failed("--management-addr", config.management_addr);
    let management = bind(config.management_addr, 1, management)
        .and_then(|mut one| one.pop().ok_or_else(none))
        .and_then(TcpListener::from_std)
        .map_err(failed_here)?;
    let management_addr = management.local_addr().map_err(failed_here)?;

    let failed_here = failed("--reverseproxy-addr", config.proxy_addr);
    let proxy = bind(config.proxy_addr, config.proxy.worker_threads, proxy).map_err(failed_here)?;
    let first = proxy.first().ok_or_else(none);
    let proxy_addr = first.and_then(net::TcpListener::local_addr).map_err(failed_here)?;
    Ok(Listeners { proxy, proxy_addr, management, management_addr })
}

fn mend(error: &io::Error, takes_over: bool) -> String {
    let in_use = match takes_over {
        false => {
            "another program listens there; end it, or give another port, or join it by --takeover if it is a balancer"
        }
        true => {
            "another program listens there, and it is no balancer of this user that could be taken over from; end it, or \
             give another port"
        }
    };
    let known = [
        (io::ErrorKind::AddrInUse, in_use),
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
