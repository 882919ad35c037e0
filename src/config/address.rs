//! Addresses and networks, as people write them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use ipnet::IpNet;

use super::value::ValueError;

/// `host:port`, kept as it was written. The host is an IPv4 address, an IPv6 address in brackets, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// The first of its addresses, IPv4 before IPv6: what people mean by `localhost`. Asks the system's resolver, which may
    /// take seconds.
    ///
    /// # Errors
    /// If the name is not known.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let first = self.0.to_socket_addrs()?.min_by_key(SocketAddr::is_ipv6);
        first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }

    /// As it was written.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where to listen. Port 0 lets the system choose.
///
/// # Errors
/// If it is not of the form `host:port`.
pub fn listening(text: &str) -> Result<HostPort, ValueError> {
    parts(text).map(|_| HostPort(text.to_owned())).ok_or_else(|| ValueError::NotAnAddress(text.to_owned()))
}

/// Where somebody listens.
///
/// # Errors
/// If it is not of the form `host:port`, or the port is 0.
pub fn peer(text: &str) -> Result<HostPort, ValueError> {
    match parts(text) {
        Some(0) => Err(ValueError::NoPort(text.to_owned())),
        Some(_) => Ok(HostPort(text.to_owned())),
        None => Err(ValueError::NotAnAddress(text.to_owned())),
    }
}

/// A network, or an address as the network of itself.
///
/// # Errors
/// If it is neither.
pub fn network(text: &str) -> Result<IpNet, ValueError> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| ValueError::NotANetwork(text.to_owned()))
}

/// The port, if the whole is an address.
fn parts(text: &str) -> Option<u16> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.port());
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_name = host.split('.').all(is_label) && !host.split('.').next_back().is_some_and(is_numeric);
    let port = port.parse().ok().filter(|_| is_numeric(port))?;
    is_name.then_some(port)
}

/// Whether this is one part of a host's name. Underscores are no part of host names (RFC 952), but of those that
/// container networks give.
fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A name never ends in a number (RFC 3696 section 2): `10.0.0.256` is a mistake, not a name.
fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "localhost:1", "my-host.example.com:65535", "llama_1:80"]
        {
            assert_eq!(peer(text).unwrap().into_string(), text);
        }
        assert_eq!(listening("127.0.0.1:0").unwrap().resolve().unwrap(), ([127, 0, 0, 1], 0).into());
        assert_eq!(peer("localhost:80").unwrap().resolve().unwrap().port(), 80);
        assert!(peer("no-such-host.invalid:80").unwrap().resolve().is_err());
        assert_eq!(peer("127.0.0.1:0"), Err(ValueError::NoPort("127.0.0.1:0".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "localhost:+80",
            "::1:80",
            "[::1]",
            "[::1]:",
            "10.0.0.256:80",
            "10.0.0:80",
            "http://a:80",
            "a b:80",
            "a..b:80",
            "a/b:80",
        ] {
            assert_eq!(peer(text), Err(ValueError::NotAnAddress(text.to_owned())), "{text}");
            assert_eq!(listening(text), Err(ValueError::NotAnAddress(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn networks_are_cidrs_or_addresses() {
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("10.0.0.7").unwrap().to_string(), "10.0.0.7/32");
        assert_eq!(network("fd00::/8").unwrap().to_string(), "fd00::/8");
        for text in ["", "10.0.0.0/33", "10.0.0", "host", "10.0.0.1:80"] {
            assert_eq!(network(text), Err(ValueError::NotANetwork(text.to_owned())), "{text}");
        }
    }
}
