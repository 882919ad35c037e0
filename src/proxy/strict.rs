//! What is refused beyond what hyper refuses: every head that two readers may take for two different requests.
//!
//! hyper has parsed the head already. It refuses bad names and values, lengths that are no numbers or differ, chunks in
//! HTTP/1.0 and unknown last encodings; it takes chunks instead of a length where both are given, and then ends the
//! connection. What it leaves are the questions of what is asked, and of whom.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Uri, Version};

use super::error::Refusal;

/// Headers of which two would contradict each other.
const ONCE: [HeaderName; 3] = [HOST, AUTHORIZATION, CONTENT_TYPE];
/// Headers that every reader on the way needs, so that `Connection` must not take them away.
const NEEDED: [HeaderName; 4] = [HOST, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];

/// Refuses a head that is not clear.
///
/// 1. Tunnels: `CONNECT`, and an upgrade to WebSocket. Other upgrades are an offer, which is not taken (RFC 9110 section 7.8).
/// 2. The target (RFC 9112 section 3.2).
/// 3. The host (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
/// 4. Headers that are there twice, encodings other than chunks, and a `Connection` that takes away what is needed.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::BadRequest("CONNECT is not served: this is no forward proxy"));
    }
    if members(&parts.headers, &UPGRADE).any(|offer| offer.eq_ignore_ascii_case("websocket")) {
        return Err(Refusal::Upgrade);
    }
    let found = wrong_target(&parts.method, &parts.uri)
        .or_else(|| wrong_host(parts))
        .or_else(|| wrong_headers(&parts.headers));
    found.map_or(Ok(()), |why| Err(Refusal::BadRequest(why)))
}

fn wrong_target(method: &Method, uri: &Uri) -> Option<&'static str> {
    // An authority alone is a target of CONNECT only.
    let Some(target) = uri.path_and_query() else { return Some("the target has no path") };
    let is_asterisk = target.as_str() == "*" && method == Method::OPTIONS;
    if !target.path().starts_with('/') && !is_asterisk {
        return Some("the target does not begin with a slash");
    }
    if !target.as_str().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("the target has characters that are not percent-encoded");
    }
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Some("the target is neither of http nor of https");
    }
    None
}

fn wrong_host(parts: &Parts) -> Option<&'static str> {
    let host = parts.headers.get(HOST).map(|host| host.as_bytes());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if !host.iter().chain(&authority).all(|name| is_host(name)) {
        return Some("the host is not a name or an address with or without a port");
    }
    match (parts.version, host, authority) {
        (Version::HTTP_11, None, _) => Some("a request has exactly one Host header"),
        (Version::HTTP_2, None, None) => Some("a request names its host"),
        (Version::HTTP_2, Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Some("the Host header and the authority differ")
        }
        _ => None,
    }
}

fn wrong_headers(headers: &HeaderMap) -> Option<&'static str> {
    if ONCE.iter().any(|name| headers.get_all(name).iter().count() > 1) {
        return Some("Host, Authorization and Content-Type may be given once");
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    if encodings.next().is_some_and(|first| !first.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || encodings.next().is_some()
    {
        return Some("a request's only transfer encoding is 'chunked', once");
    }
    let takes = |name: &str| NEEDED.iter().any(|needed| name.eq_ignore_ascii_case(needed.as_str()));
    if members(headers, &CONNECTION).any(takes) {
        return Some("Connection names a header that is not the connection's own");
    }
    None
}

/// The members of a list header.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// `name`, `name:port`, `[address]` or `[address]:port`: RFC 3986 section 3.2, without user names, and without the
/// characters that no host has.
fn is_host(name: &[u8]) -> bool {
    let (host, port) = if name.starts_with(b"[") {
        let Some(end) = name.iter().position(|&byte| byte == b']') else { return false };
        let is_address =
            end > 1 && name[1..end].iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte));
        (is_address, &name[end + 1..])
    } else {
        let end = name.iter().position(|&byte| byte == b':').unwrap_or(name.len());
        let is_name =
            end > 0 && name[..end].iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte));
        (is_name, &name[end..])
    };
    host && match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in ["g", "g:", "g:80", "a-b_c.example.", "127.0.0.1:8080", "[::1]", "[::ffff:1.2.3.4]:1"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a b", "a,b", "u@g", "g:8x", "g:1:2", "[]", "[::1", "[::1]x", "[g]", "g/", "g?", "g#",
            "g%20", "gé", "g\\",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
