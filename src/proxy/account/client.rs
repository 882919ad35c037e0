//! Who the client is, behind proxies that are believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::proxy::headers::X_FORWARDED_FOR;

/// The nearest address that is no trusted proxy's: each of them is believed about the one before it, and nobody else is.
/// Where it cannot be read, it is the last that could.
pub(super) fn believed(peer: IpAddr, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer.to_canonical();
    while trusts(client) {
        let Some(before) = hops.next().and_then(address) else { break };
        client = before.to_canonical();
    }
    client
}

/// Some proxies tell the port as well.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
    hop.parse().or_else(|_| hop.parse().map(|address: SocketAddr| address.ip())).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_trusted_proxy_is_believed_about_the_one_before_it() {
        let trusts = |address: IpAddr| address.to_string().starts_with("10.");
        for (peer, told, expected) in [
            ("192.0.2.1", &["203.0.113.7"][..], "192.0.2.1"),
            ("::ffff:192.0.2.1", &[], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7 , 10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7", "10.0.0.2"], "203.0.113.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:10.0.0.9"], "10.0.0.9"),
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["", "x\u{1b}[31m"], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in told {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    headers.append(X_FORWARDED_FOR, value);
                }
            }
            let client = believed(peer.parse().unwrap(), &headers, trusts);
            assert_eq!(client.to_string(), expected, "{peer} {told:?}");
        }
    }
}
