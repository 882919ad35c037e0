//! Addresses and networks, as people write them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use ipnet::IpNet;

use super::value::ValueError;

/// What stands before the name of an entry of the EC2 instance metadata, as Paddler writes it.
const METADATA_PREFIX: &str = "aws:metadata:";

/// `host:port`, kept as it was written. The host is an IPv4 address, an IPv6 address in brackets, a name, or
/// `aws:metadata:` and the name of an [`AddressEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

/// An address that the EC2 instance metadata tells (EC2 User Guide, "Instance metadata categories").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressEntry {
    /// The private IPv4 address of the first network interface.
    LocalIpv4,
    /// The first IPv6 address of the first network interface.
    Ipv6,
}

impl AddressEntry {
    const ALL: [Self; 2] = [Self::LocalIpv4, Self::Ipv6];

    /// Its name, as the metadata has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalIpv4 => "local-ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl HostPort {
    /// The entry of the instance metadata that stands for the host; none if the host is written out.
    #[must_use]
    pub fn entry(&self) -> Option<AddressEntry> {
        let (name, _) = self.0.strip_prefix(METADATA_PREFIX)?.rsplit_once(':')?;
        AddressEntry::ALL.into_iter().find(|entry| entry.name() == name)
    }

    /// The same port at this address.
    #[must_use]
    pub fn at(&self, host: IpAddr) -> Self {
        let port = self.0.rsplit_once(':').map_or("", |(_, port)| port);
        match host {
            IpAddr::V4(host) => Self(format!("{host}:{port}")),
            IpAddr::V6(host) => Self(format!("[{host}]:{port}")),
        }
    }

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
    port(text).map(|_| HostPort(text.to_owned()))
}

/// Where somebody listens.
///
/// # Errors
/// If it is not of the form `host:port`, or the port is 0.
pub fn peer(text: &str) -> Result<HostPort, ValueError> {
    match port(text)? {
        0 => Err(ValueError::NoPort(text.to_owned())),
        _ => Ok(HostPort(text.to_owned())),
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
fn port(text: &str) -> Result<u16, ValueError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address.port());
    }
    let entry = text.strip_prefix(METADATA_PREFIX);
    let is_host: fn(&str) -> bool = if entry.is_some() { is_entry } else { is_name };
    let parts = entry.unwrap_or(text).rsplit_once(':');
    let parts = parts.filter(|(host, port)| is_host(host) && is_numeric(port));
    parts.and_then(|(_, port)| port.parse().ok()).ok_or_else(|| match entry {
        Some(_) => ValueError::NotInMetadata(text.to_owned()),
        None => ValueError::NotAnAddress(text.to_owned()),
    })
}

fn is_entry(name: &str) -> bool {
    AddressEntry::ALL.into_iter().any(|entry| entry.name() == name)
}

fn is_name(host: &str) -> bool {
    host.split('.').all(is_label) && !host.split('.').next_back().is_some_and(is_numeric)
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
    fn the_metadata_may_stand_for_the_host() {
        let entry = |text: &str| peer(text).unwrap().entry();
        assert_eq!(entry("aws:metadata:local-ipv4:8080"), Some(AddressEntry::LocalIpv4));
        assert_eq!(entry("aws:metadata:ipv6:8080"), Some(AddressEntry::Ipv6));
        assert_eq!(entry("10.0.0.7:8080"), None);
        assert_eq!(entry("[::1]:8080"), None);
        let at = |text: &str, host: &str| peer(text).unwrap().at(host.parse().unwrap()).into_string();
        assert_eq!(at("aws:metadata:local-ipv4:8080", "10.0.0.7"), "10.0.0.7:8080");
        assert_eq!(at("aws:metadata:ipv6:8080", "fd00::7"), "[fd00::7]:8080");
        assert!(listening("aws:metadata:local-ipv4:0").is_ok());
        let text = "aws:metadata:local-ipv4:0".to_owned();
        assert_eq!(peer(&text), Err(ValueError::NoPort(text)));
        for text in [
            "aws:metadata:local-ipv4",
            "aws:metadata:",
            "aws:metadata::80",
            "aws:metadata:local-ipv5:80",
            "aws:metadata:public-ipv4:80",
            "aws:metadata:local-ipv4:x",
            "aws:metadata:local-ipv4:80:80",
        ] {
            assert_eq!(peer(text), Err(ValueError::NotInMetadata(text.to_owned())), "{text}");
        }
        assert!(peer("aws:meta:local-ipv4:80").is_err());
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
