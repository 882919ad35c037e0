//! What of a message's headers is passed on (RFC 9110 section 7.6).

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
};

pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether and how long the client waits is between it and the gateway.
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const X_DEADLINE_MS: HeaderName = HeaderName::from_static("x-paddock-deadline-ms");

/// Names a request through all logs: the client's own, or one made here.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long the request waited for its server, in milliseconds.
pub(super) const X_QUEUE_MS: HeaderName = HeaderName::from_static("x-paddock-queue-ms");
/// Whether it waited for a start.
pub(super) const X_COLD_START: HeaderName = HeaderName::from_static("x-paddock-cold-start");
/// Who answered.
pub(super) const X_AGENT: HeaderName = HeaderName::from_static("x-paddock-agent");

/// The longest request id that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// Takes out what concerns one connection only, what `Connection` names included.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
}

/// Most messages have nothing to strip, so the names are looked through once.
fn strip(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let mut unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    if unwanted.contains(&CONNECTION) {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let named = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
        unwanted.extend(named);
    }
    for name in unwanted {
        headers.remove(name);
    }
}

/// RFC 9110 section 7.6.1, with what is about proxies or framing alone.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What is between the client and the gateway alone. Trailers of requests are not passed on, so they are not announced.
/// `X-Conversation-Id` makes a llama.cpp stream go on after its client
/// left: a slot that nobody reads would stay busy.
fn is_for_the_gateway(name: &str) -> bool {
    matches!(name, "expect" | "trailer" | "x-conversation-id" | "prefer" | "x-paddock-deadline-ms")
}

/// What servers are told of the client: the same for all requests of its connection.
#[derive(Debug, Clone)]
pub(super) struct Forwarded {
    peer: HeaderValue,
    /// Whether the peer is a proxy that is believed.
    is_trusted: bool,
    scheme: HeaderValue,
}

impl Forwarded {
    pub(super) fn new(peer: IpAddr, is_trusted: bool, is_secure: bool) -> Self {
        let peer = HeaderValue::try_from(peer.to_canonical().to_string());
        let peer = peer.unwrap_or(HeaderValue::from_static("unknown"));
        let scheme = HeaderValue::from_static(if is_secure { "https" } else { "http" });
        Self { peer, is_trusted, scheme }
    }

    /// A proxy that is believed has its own word about the client's scheme, and is one more hop of the client's way; what
    /// anybody else says is replaced.
    fn write(&self, headers: &mut HeaderMap) {
        let before = if self.is_trusted { list(headers, &X_FORWARDED_FOR) } else { String::new() };
        if !before.is_empty() {
            let way = [before.as_bytes(), b", ", self.peer.as_bytes()].concat();
            if let Ok(way) = HeaderValue::try_from(way) {
                headers.insert(X_FORWARDED_FOR, way);
            }
        } else {
            headers.insert(X_FORWARDED_FOR, self.peer.clone());
        }
        if !self.is_trusted || !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, self.scheme.clone());
        }
    }
}

/// The values of a list header, which may have come in several fields, as one (RFC 9110 section 5.3).
fn list(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    values.join(", ")
}

/// Makes a client's headers those of the request to the server. The framing is rebuilt from the body that was read.
pub(super) fn toward_server(
    headers: &mut HeaderMap,
    forwarded: &Forwarded,
    host: Option<HeaderValue>,
    api_key: Option<&HeaderValue>,
    body_len: Option<usize>,
) {
    strip(headers, |name| is_hop_by_hop(name) || is_for_the_gateway(name));
    match body_len {
        Some(len) => headers.insert(CONTENT_LENGTH, len.into()),
        None => headers.remove(CONTENT_LENGTH),
    };
    forwarded.write(headers);
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if let Some(key) = api_key {
        headers.remove(X_API_KEY);
        headers.insert(AUTHORIZATION, key.clone());
    }
}

/// Whether the body is a stream of events.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// Whether the client brought a key of its own.
pub(super) fn bears_key(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY)
}

/// The request's id: the client's, if it is short and printable, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(X_REQUEST_ID).filter(|id| {
        (1..=REQUEST_ID_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let mut made = *b"req-000000000000000000000000";
        for (digits, number) in made[4..].chunks_mut(12).zip([fastrand::u64(..), fastrand::u64(..)]) {
            for (place, digit) in digits.iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
            }
        }
        HeaderValue::from_bytes(&made).unwrap_or(HeaderValue::from_static("req"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_connection_names_is_stripped() {
        let mut map = headers(&[
            ("connection", "close, X-Secret ,keep-alive"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn the_framing_is_rebuilt_and_the_peer_is_named() {
        let mut map = headers(&[
            ("content-length", "99"),
            ("expect", "100-continue"),
            ("x-conversation-id", "7"),
            ("prefer", "wait=7"),
            ("x-paddock-deadline-ms", "7"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", "Bearer client"),
            ("host", "gateway"),
        ]);
        let key = HeaderValue::from_static("Bearer server");
        toward_server(&mut map, &from([127, 0, 0, 1], false), None, Some(&key), Some(3));
        let expected = headers(&[
            ("content-length", "3"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("authorization", "Bearer server"),
            ("host", "gateway"),
        ]);
        assert_eq!(map, expected);
    }

    fn from(peer: [u8; 4], is_trusted: bool) -> Forwarded {
        Forwarded::new(peer.into(), is_trusted, true)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_about_its_clients() {
        let told = || {
            let mut map = headers(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")]);
            map.append("x-forwarded-for", HeaderValue::from_static("5.6.7.8"));
            map
        };
        let mut map = told();
        toward_server(&mut map, &from([10, 0, 0, 1], true), None, None, None);
        let way = [("x-forwarded-for", "1.2.3.4, 5.6.7.8, 10.0.0.1"), ("x-forwarded-proto", "http")];
        assert_eq!(map, headers(&way));
        let mut map = headers(&[("x-forwarded-for", "")]);
        toward_server(&mut map, &from([10, 0, 0, 1], true), None, None, None);
        assert_eq!(map["x-forwarded-for"], "10.0.0.1", "an empty list says nothing");
        let mut map = told();
        toward_server(&mut map, &from([10, 0, 0, 1], false), None, None, None);
        assert_eq!(map, headers(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https")]));
    }

    #[test]
    fn a_strange_request_id_is_replaced() {
        assert_eq!(request_id(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        let long: &'static str = "x".repeat(REQUEST_ID_MAX + 1).leak();
        for strange in ["", "two words", long] {
            let made = request_id(&headers(&[("x-request-id", strange)]));
            assert!(made.to_str().unwrap().starts_with("req-"), "{strange:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}

#[cfg(test)]
mod properties;
