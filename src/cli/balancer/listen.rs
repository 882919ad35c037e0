//! Where the balancer listens: on addresses of its own, beside one that it takes over from, or on sockets that it inherits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use super::super::complaint::{CheckError, resolved};
use super::super::metadata::Asking;
use crate::config::{HostPort, listening, switch};
use crate::inherited::{self, Inherited, InheritedError};

/// Without `--reverseproxy-addr`.
const PROXY_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Without `--management-addr`.
const MANAGEMENT_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8085);

#[derive(Debug, clap::Args)]
pub(super) struct ListenFlags {
    /// Where clients call [default: what the inherited socket says, else 127.0.0.1:8080]
    #[arg(long, env = "PADDOCK_REVERSEPROXY_ADDR", value_name = "ADDR", value_parser = listening)]
    reverseproxy_addr: Option<HostPort>,
    /// Where agents register and operators look [default: what the inherited socket says, else 127.0.0.1:8085]
    #[arg(long, env = "PADDOCK_MANAGEMENT_ADDR", value_name = "ADDR", value_parser = listening)]
    management_addr: Option<HostPort>,
    /// Listen beside the balancer that runs on the same addresses, which is to be sent SIGTERM then
    #[arg(long, env = "PADDOCK_TAKEOVER", value_parser = switch)]
    takeover: bool,
}

/// The same, checked.
pub(super) struct Listen {
    pub proxy_addr: SocketAddr,
    pub management_addr: SocketAddr,
    pub inherited: Inherited,
    pub takes_over: bool,
}

impl ListenFlags {
    pub(super) fn into_listen(self, asking: Asking) -> Result<Listen, CheckError> {
        let inherited = inherited::take()?;
        let proxy_addr = placed(
            "--reverseproxy-addr",
            self.reverseproxy_addr.as_ref(),
            PROXY_ADDR,
            inherited.proxy.as_ref(),
            asking,
        )?;
        let management_addr = placed(
            "--management-addr",
            self.management_addr.as_ref(),
            MANAGEMENT_ADDR,
            inherited.management.as_ref(),
            asking,
        )?;
        if proxy_addr == management_addr && proxy_addr.port() != 0 {
            return Err(CheckError::SameAddress(proxy_addr));
        }
        Ok(Listen { proxy_addr, management_addr, inherited, takes_over: self.takeover })
    }
}

/// The inherited socket's own address, else the given one.
fn placed(
    flag: &'static str,
    given: Option<&HostPort>,
    default: SocketAddr,
    socket: Option<&TcpListener>,
    asking: Asking,
) -> Result<SocketAddr, CheckError> {
    let given = given.map(|address| resolved(flag, address, asking)).transpose()?;
    let Some(socket) = socket else { return Ok(given.unwrap_or(default)) };
    let unusable = |error| InheritedError::Unusable { number: 1, error };
    let address = socket.local_addr().map_err(unusable)?;
    match given {
        Some(given) if given != address => Err(CheckError::OtherSocket { flag, given, address }),
        Some(_) | None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_says_where_it_listens_and_a_flag_may_not_contradict() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let place = |given: Option<&str>, socket| {
            let given = given.map(|text| listening(text).unwrap());
            placed("--reverseproxy-addr", given.as_ref(), PROXY_ADDR, socket, Asking::Nobody)
        };
        assert_eq!(place(None, None).unwrap(), PROXY_ADDR);
        assert_eq!(place(Some("127.0.0.1:1"), None).unwrap().port(), 1);
        assert_eq!(place(None, Some(&socket)).unwrap(), address);
        assert_eq!(place(Some(&address.to_string()), Some(&socket)).unwrap(), address);
        let told = place(Some("127.0.0.1:1"), Some(&socket)).unwrap_err().to_string();
        let line = format!(
            "--reverseproxy-addr: '127.0.0.1:1' is not where the inherited socket listens, '{address}'; write that, or \
             leave the flag out"
        );
        assert_eq!(told, line);
    }
}
