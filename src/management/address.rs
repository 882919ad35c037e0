//! Which addresses an agent may name. Who names an address is sent prompts there.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

use super::Ends;
use crate::protocol::plain;

/// To look a name up. The agent comes back by itself.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest `host:port`, in bytes: a DNS name has at most 253 (RFC 1035 section 2.3.4).
const ADDRESS_BYTES_MAX: usize = 260;

/// IPv6 addresses of the services that EC2 offers to an instance: metadata is `fd00:ec2::254`.
const EC2_SERVICES: [u16; 2] = [0xfd00, 0x0ec2];

/// What the balancer's operator says about agents' addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Networks that agents may name beside their own address.
    pub allow: &'a [IpNet],
    /// Where this gateway itself listens.
    pub own: &'a [SocketAddr],
}

/// Why an agent's address is not used.
#[derive(Debug, Error)]
pub(super) enum AddressError {
    #[error("external_llamacpp_addr `{0}` is not host:port: mend the agent's --external-llamacpp-addr")]
    Malformed(String),
    #[error(
        "external_llamacpp_addr `{text}` does not resolve ({cause}): give the agent an --external-llamacpp-addr \
         that this balancer can resolve"
    )]
    Unresolved { text: String, cause: String },
    #[error("external_llamacpp_addr {address}: {because}")]
    Refused { address: SocketAddr, because: Because },
}

/// Why an address that is one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Because {
    #[error("requests are never sent to {0}: give the agent an --external-llamacpp-addr of its own")]
    Never(&'static str),
    #[error(
        "this gateway itself listens there: let the agent's --external-llamacpp-addr be llama.cpp's own address"
    )]
    Own,
    #[error(
        "it is not the agent's own address, which is {0}: let its --external-llamacpp-addr name that, or allow the \
         other with the balancer's --agent-addr-allow"
    )]
    NotThePeer(IpAddr),
}

/// The address that an agent's `host:port` stands for. A name is looked up here and then not again: a name whose
/// address changes later could be made to point anywhere.
pub(super) async fn resolve(text: &str, ends: Ends, rules: Rules<'_>) -> Result<SocketAddr, AddressError> {
    let candidates = match text.parse::<SocketAddr>() {
        Ok(address) => vec![address],
        Err(_) => look_up(text).await?,
    };
    choose(candidates, ends, rules, is_local).map_err(|refused| {
        refused.unwrap_or_else(|| AddressError::Unresolved {
            text: text.to_owned(),
            cause: "the name has no address".to_owned(),
        })
    })
}

async fn look_up(text: &str) -> Result<Vec<SocketAddr>, AddressError> {
    let shown = || plain(text, ADDRESS_BYTES_MAX);
    let is_host_and_port = text.len() <= ADDRESS_BYTES_MAX
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([':', '/', '@', ' ']) && port.parse::<u16>().is_ok()
        });
    if !is_host_and_port {
        return Err(AddressError::Malformed(shown()));
    }
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(text))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
    match found {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(AddressError::Unresolved { text: shown(), cause: error.to_string() }),
    }
}

/// The first address that is allowed, the peer's own before others; else why the first is not.
fn choose(
    candidates: Vec<SocketAddr>,
    ends: Ends,
    rules: Rules<'_>,
    is_local: fn(IpAddr) -> bool,
) -> Result<SocketAddr, Option<AddressError>> {
    let mut candidates: Vec<_> = candidates
        .into_iter()
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .collect();
    candidates.sort_by_key(|address| address.ip() != ends.peer);
    let mut refused = None;
    for address in candidates {
        match check(address, ends, rules, is_local) {
            Ok(()) => return Ok(address),
            Err(because) => {
                refused.get_or_insert(AddressError::Refused { address, because });
            }
        }
    }
    Err(refused)
}

/// Whether requests may be sent to an address, given in its canonical form.
///
/// 1. Some are never right, or lead to secrets.
/// 2. The gateway must not be its own upstream.
/// 3. An agent speaks for its own machine, others only within what the operator allows.
fn check(
    address: SocketAddr,
    ends: Ends,
    rules: Rules<'_>,
    is_local: fn(IpAddr) -> bool,
) -> Result<(), Because> {
    let ip = address.ip();
    if let Some(never) = never(address) {
        return Err(Because::Never(never));
    }
    let is_own = rules.own.iter().any(|own| {
        let listens = own.ip().to_canonical();
        let all = listens.is_unspecified() && (ip.is_ipv4() || listens.is_ipv6());
        own.port() == address.port()
            && (listens == ip || all && (ip.is_loopback() || ip == ends.local || is_local(ip)))
    });
    if is_own {
        return Err(Because::Own);
    }
    let is_peer = ip == ends.peer || (ip.is_loopback() && ends.peer.is_loopback());
    if is_peer || rules.allow.iter().any(|net| net.contains(&ip)) {
        Ok(())
    } else {
        Err(Because::NotThePeer(ends.peer))
    }
}

fn never(address: SocketAddr) -> Option<&'static str> {
    if address.port() == 0 {
        return Some("port 0");
    }
    let ip = address.ip();
    if ip.is_unspecified() {
        return Some("the unspecified address");
    }
    if ip.is_multicast() {
        return Some("a multicast address");
    }
    match ip {
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        // 169.254.169.254, where clouds keep credentials, is one of them.
        IpAddr::V4(ip) if ip.is_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if is_ec2_service(ip) => Some("a service of the cloud"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn is_ec2_service(ip: Ipv6Addr) -> bool {
    ip.segments()[..2] == EC2_SERVICES
}

/// Whether the address is one of this machine's: only those can be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(peer: &str) -> Ends {
        let local = if peer.parse::<IpAddr>().unwrap().is_loopback() { peer } else { "10.0.0.1" };
        Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() }
    }

    /// `ok`, or the kind of refusal.
    fn verdict(peer: &str, address: &str, allow: &[&str], own: &[&str]) -> &'static str {
        let allow: Vec<IpNet> = allow.iter().map(|net| net.parse().unwrap()).collect();
        let own: Vec<SocketAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
        let rules = Rules { allow: &allow, own: &own };
        let is_local = |ip: IpAddr| ip == IpAddr::from([10, 0, 0, 2]);
        match choose(vec![address.parse().unwrap()], ends(peer), rules, is_local) {
            Ok(_) => "ok",
            Err(Some(AddressError::Refused { because, .. })) => match because {
                Because::Never(_) => "never",
                Because::Own => "own",
                Because::NotThePeer(_) => "not the peer",
            },
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn an_agent_speaks_for_its_own_address() {
        for (peer, address, expected) in [
            ("10.0.0.7", "10.0.0.7:9", "ok"),
            ("10.0.0.7", "10.0.0.8:9", "not the peer"),
            ("10.0.0.7", "127.0.0.1:9", "not the peer"),
            ("10.0.0.7", "[::1]:9", "not the peer"),
            ("10.0.0.7", "[::ffff:10.0.0.7]:9", "ok"),
            ("127.0.0.1", "127.0.0.1:9", "ok"),
            ("127.0.0.1", "[::1]:9", "ok"),
            ("127.0.0.1", "[::ffff:127.0.0.1]:9", "ok"),
            ("127.0.0.1", "10.0.0.1:9", "not the peer"),
            ("fd12::7", "[fd12::7]:9", "ok"),
            ("fd12::7", "[fd12::8]:9", "not the peer"),
        ] {
            assert_eq!(verdict(peer, address, &[], &[]), expected, "{peer} names {address}");
        }
    }

    #[test]
    fn other_addresses_may_be_allowed() {
        let allow = ["10.1.0.0/16", "fd12::/16"];
        for (address, expected) in [
            ("10.1.2.3:9", "ok"),
            ("10.2.2.3:9", "not the peer"),
            ("[fd12::1]:9", "ok"),
            ("[::ffff:10.1.2.3]:9", "ok"),
        ] {
            assert_eq!(verdict("10.0.0.7", address, &allow, &[]), expected, "{address}");
        }
    }

    #[test]
    fn some_addresses_are_never_used() {
        let everything = ["0.0.0.0/0", "::/0"];
        for address in [
            "169.254.169.254:80",
            "169.254.1.1:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[fd00:ec2::254]:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:0.0.0.0]:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
            "255.255.255.255:80",
            "10.0.0.7:0",
        ] {
            assert_eq!(verdict("10.0.0.7", address, &everything, &[]), "never", "{address}");
        }
        assert_eq!(verdict("169.254.1.1", "169.254.1.1:80", &[], &[]), "never");
        assert_eq!(verdict("10.0.0.7", "8.8.8.8:80", &everything, &[]), "ok");
    }

    #[test]
    fn the_gateway_is_not_its_own_upstream() {
        let everything = ["0.0.0.0/0", "::/0"];
        for (own, address, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", "own"),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", "own"),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", "own"),
            ("127.0.0.1:8080", "127.0.0.1:8081", "ok"),
            ("127.0.0.1:8080", "10.0.0.2:8080", "ok"),
            ("0.0.0.0:8080", "127.0.0.1:8080", "own"),
            ("0.0.0.0:8080", "127.8.9.1:8080", "own"),
            ("0.0.0.0:8080", "10.0.0.1:8080", "own"),
            ("0.0.0.0:8080", "10.0.0.2:8080", "own"),
            ("0.0.0.0:8080", "10.0.0.2:8081", "ok"),
            ("0.0.0.0:8080", "10.0.0.7:8080", "ok"),
            ("0.0.0.0:8080", "[::1]:8080", "ok"),
            ("[::]:8080", "[::1]:8080", "own"),
            ("[::]:8080", "127.0.0.1:8080", "own"),
            ("[::]:8080", "10.0.0.2:8080", "own"),
        ] {
            assert_eq!(verdict("10.0.0.7", address, &everything, &[own]), expected, "{own}: {address}");
        }
        assert_eq!(verdict("10.0.0.2", "10.0.0.2:8080", &[], &["0.0.0.0:8080"]), "own");
    }

    #[test]
    fn of_a_names_addresses_the_peers_own_is_chosen() {
        let rules = Rules { allow: &["10.0.0.0/8".parse().unwrap()], own: &[] };
        let choose = |candidates: &[&str]| {
            let candidates = candidates.iter().map(|address| address.parse().unwrap()).collect();
            choose(candidates, ends("10.0.0.7"), rules, |_| false)
        };
        assert_eq!(choose(&["10.0.0.8:1", "[::ffff:10.0.0.7]:1"]).unwrap().to_string(), "10.0.0.7:1");
        assert_eq!(choose(&["192.168.0.1:1", "10.0.0.8:1"]).unwrap().to_string(), "10.0.0.8:1");
        let refused = choose(&["192.168.0.1:1", "169.254.0.1:1"]).unwrap_err().unwrap().to_string();
        assert!(refused.contains("192.168.0.1:1") && refused.contains("--agent-addr-allow"), "{refused}");
        assert!(choose(&[]).unwrap_err().is_none());
    }

    #[tokio::test]
    async fn names_are_resolved_and_nonsense_is_named() {
        let resolve =
            async |text: &str| resolve(text, ends("127.0.0.1"), Rules { allow: &[], own: &[] }).await;
        assert!(resolve("localhost:9931").await.unwrap().ip().is_loopback());
        assert_eq!(resolve("127.0.0.1:9931").await.unwrap().to_string(), "127.0.0.1:9931");
        for text in
            ["", "llama", ":80", "llama:", "llama:http", "llama:65536", "http://llama:80", "::1:80", "a b:1"]
        {
            let error = resolve(text).await.unwrap_err();
            assert!(matches!(error, AddressError::Malformed(_)), "{text}: {error}");
            assert!(error.to_string().contains("--external-llamacpp-addr"), "{error}");
        }
        let long = resolve(&format!("{}\n:80", "x".repeat(10_000))).await.unwrap_err().to_string();
        assert!(long.len() < 500, "{long}");
        let error = resolve("no-such-host.invalid:80").await.unwrap_err();
        assert!(matches!(error, AddressError::Unresolved { .. }), "{error}");
    }

    #[test]
    fn this_machines_addresses_are_known() {
        assert!(is_local(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_local(IpAddr::from([192, 0, 2, 1])), "reserved for documentation by RFC 5737");
    }
}
