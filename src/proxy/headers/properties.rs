//! What holds for any headers.

use proptest::prelude::*;

use super::*;

/// Concern one connection.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Concern the gateway.
const OWN: [&str; 5] = ["expect", "trailer", "x-conversation-id", "prefer", "x-paddock-deadline-ms"];
/// What the gateway writes itself.
const WRITTEN: [&str; 4] = ["content-length", "x-forwarded-for", "x-forwarded-proto", "authorization"];

fn name() -> impl Strategy<Value = String> {
    let known = [&HOP_BY_HOP[..], &OWN, &WRITTEN].concat();
    prop_oneof![
        prop::sample::select(known).prop_map(str::to_owned),
        prop::sample::select(vec!["host", "accept", "x-api-key", "x-request-id", "cookie"])
            .prop_map(str::to_owned),
        "[a-c]{1,2}",
    ]
}

/// Values of all kinds of bytes, and, for `Connection`, lists of names.
fn value() -> impl Strategy<Value = HeaderValue> {
    let list = prop::collection::vec((name(), "[ \t]{0,2}", any::<bool>()), 0..4).prop_map(|names| {
        let names = names.into_iter().map(|(name, blank, is_upper)| {
            format!("{blank}{}{blank}", if is_upper { name.to_ascii_uppercase() } else { name })
        });
        names.collect::<Vec<_>>().join(",").into_bytes()
    });
    let bytes = prop_oneof![list, prop::collection::vec(any::<u8>(), 0..12)];
    bytes.prop_filter_map("a header's value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((name(), value()), 0..24).prop_map(|fields| {
        let fields = fields.into_iter().map(|(name, value)| (HeaderName::try_from(name).unwrap(), value));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    })
}

/// What `Connection` names, read letter by letter.
fn named(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(CONNECTION).iter().filter(|list| list.to_str().is_ok());
    lists
        .flat_map(|list| list.as_bytes().split(|&byte| byte == b','))
        .map(|name| String::from_utf8_lossy(name).trim().to_ascii_lowercase())
        .collect()
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a HeaderValue> {
    headers.get_all(name).iter().collect()
}

proptest! {
    #[test]
    fn nothing_of_one_connection_is_told_on(before in any_headers()) {
        let named = named(&before);
        let mut after = before.clone();
        strip_hop_by_hop(&mut after);
        for name in HOP_BY_HOP {
            prop_assert!(!after.contains_key(name), "{name}");
        }
        for name in before.keys() {
            let is_gone = HOP_BY_HOP.contains(&name.as_str()) || named.contains(&name.to_string());
            let kept = if is_gone { Vec::new() } else { values(&before, name) };
            prop_assert_eq!(values(&after, name), kept, "{}", name);
        }
    }

    #[test]
    fn what_a_server_gets_is_clear(
        before in any_headers(),
        body_len in prop::option::of(0..1_000_000_usize),
        is_trusted in any::<bool>(),
        key in any::<bool>(),
        with_host in any::<bool>(),
    ) {
        let (peer, key) = (IpAddr::from([192, 0, 2, 1]), key.then(|| HeaderValue::from_static("Bearer server")));
        let host = with_host.then(|| HeaderValue::from_static("g"));
        let named = named(&before);
        let mut after = before.clone();
        let forwarded = Forwarded::new(peer, is_trusted, true);
        toward_server(&mut after, &forwarded, host.clone(), key.as_ref(), body_len);

        for name in HOP_BY_HOP.into_iter().chain(OWN) {
            prop_assert!(!after.contains_key(name), "{name}");
        }
        let lengths: Vec<_> = values(&after, &CONTENT_LENGTH).into_iter().cloned().collect();
        prop_assert_eq!(lengths, body_len.map(HeaderValue::from).into_iter().collect::<Vec<_>>());
        let ways = values(&after, &X_FORWARDED_FOR);
        prop_assert_eq!(ways.len(), 1);
        prop_assert!(ways[0].as_bytes().ends_with(b"192.0.2.1"));
        prop_assert!(is_trusted || ways[0] == "192.0.2.1");
        prop_assert!(is_trusted || values(&after, &X_FORWARDED_PROTO) == ["https"]);
        if let Some(key) = &key {
            prop_assert_eq!(values(&after, &AUTHORIZATION), [key]);
            prop_assert!(!after.contains_key(X_API_KEY));
        }
        if let Some(host) = &host {
            prop_assert_eq!(values(&after, &HOST), [host]);
        }
        // Everything else is as it was, each header's values in their order.
        let is_told = |name: &&HeaderName| {
            ![&WRITTEN[..], &OWN, &HOP_BY_HOP].concat().contains(&name.as_str())
        };
        for name in before.keys().filter(is_told) {
            let is_changed = *name == HOST && host.is_some() || *name == X_API_KEY && key.is_some();
            if !is_changed && !named.contains(&name.to_string()) {
                prop_assert_eq!(values(&after, name), values(&before, name), "{}", name);
            }
        }
        for name in after.keys() {
            prop_assert!(before.contains_key(name) || WRITTEN.contains(&name.as_str()) || *name == HOST, "{name}");
        }
    }
}
