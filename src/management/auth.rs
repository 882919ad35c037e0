//! Who may use the management address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::refusal::Refusal;
use super::{Ends, Shared};

/// What agents and management clients present as `Authorization: Bearer`. Only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    hash: [u8; 32],
}

impl Token {
    /// Takes the token over. An empty one would be met by an empty header: refuse it where it is configured.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self { hash: Sha256::digest(token).into() }
    }

    /// Whether `presented` is the token. Takes the same time whichever byte differs.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        self.hash.ct_eq(&hash).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Response {
    match check(shared.config.token.as_ref(), ends.peer, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.answer(request.into_body()),
    }
}

/// 1. A web page of another site may not use its visitor's browser: it cannot leave `Origin` out, nor choose it.
/// 2. The health check is open: load balancers have no token.
/// 3. With a token, who presents it is in.
/// 4. Without one, the visitor's own machine could be reached under a name that a web page had made to point here.
///    Such a request names the page's host.
fn check(token: Option<&Token>, peer: IpAddr, request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    if let Some(origin) = headers.get(ORIGIN)
        && !is_same_site(origin.as_bytes(), host(headers))
    {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this is a request of another site's page: the management address serves only its own pages",
        ));
    }
    if request.uri().path() == "/health" && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    match token {
        Some(token) if presented(headers).is_some_and(|presented| token.matches(presented)) => Ok(()),
        Some(_) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the management token is missing or wrong: send `Authorization: Bearer TOKEN` (agents: \
             --management-token)",
        )),
        None if peer.is_loopback() && !is_local_name(host(headers)) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "without a management token this machine is served only under an IP address or as `localhost`: set \
             --management-token to use another name",
        )),
        None => Ok(()),
    }
}

/// The scheme's name knows no case (RFC 9110 section 11.1).
fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn host(headers: &HeaderMap) -> &[u8] {
    headers.get(HOST).map_or(&[], |host| host.as_bytes())
}

fn is_same_site(origin: &[u8], host: &[u8]) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    !host.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether the `Host` is an address, `localhost`, or missing, as browsers never let it be.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn status(token: Option<&str>, peer: IpAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let token = token.map(|token| Token::new(token.to_owned()));
        let request = request.body(Body::empty()).unwrap();
        check(token.as_ref(), peer, &request)
            .map_or_else(|refusal| refusal.answer(Body::empty()).status().as_u16(), |()| 200)
    }

    #[test]
    fn the_token_opens_everything_and_the_health_check_is_open() {
        for (path, authorization, expected) in [
            ("/api/v1/agents", None, 401),
            ("/api/v1/agents", Some("Bearer sesame"), 200),
            ("/api/v1/agents", Some("bearer sesame"), 200),
            ("/api/v1/agents", Some("Bearer  sesame"), 200),
            ("/api/v1/agents", Some("Bearer Sesame"), 401),
            ("/api/v1/agents", Some("Bearer sesam"), 401),
            ("/api/v1/agents", Some("Bearer sesame2"), 401),
            ("/api/v1/agents", Some("Bearer"), 401),
            ("/api/v1/agents", Some("Bearer "), 401),
            ("/api/v1/agents", Some("Basic sesame"), 401),
            ("/api/v1/agents", Some("sesame"), 401),
            ("/status_update/a", None, 401),
            ("/no/such/path", None, 401),
            ("/health/", None, 401),
            ("/health", None, 200),
            ("/health", Some("Bearer wrong"), 200),
        ] {
            let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
            assert_eq!(
                status(Some("sesame"), HERE, "GET", path, &headers),
                expected,
                "{path} {authorization:?}"
            );
        }
        assert_eq!(status(Some("sesame"), HERE, "POST", "/health", &[]), 401);
        assert_eq!(status(None, THERE, "POST", "/status_update/a", &[]), 200);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for (origin, host, expected) in [
            ("http://127.0.0.1:8085", "127.0.0.1:8085", 200),
            ("https://127.0.0.1:8085", "127.0.0.1:8085", 200),
            ("http://LOCALHOST:8085", "localhost:8085", 200),
            ("http://127.0.0.1:3000", "127.0.0.1:8085", 403),
            ("http://evil.example", "127.0.0.1:8085", 403),
            ("null", "127.0.0.1:8085", 403),
            ("null", "null", 403),
            ("", "", 403),
            ("http://", "", 403),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(status(None, HERE, "POST", "/status_update/a", &headers), expected, "{origin} {host}");
            assert_eq!(status(None, HERE, "GET", "/health", &headers), expected, "{origin} {host}");
            let headers = [("origin", origin), ("host", host), ("authorization", "Bearer sesame")];
            assert_eq!(status(Some("sesame"), HERE, "GET", "/api/v1/state", &headers), expected, "{origin}");
        }
    }

    #[test]
    fn without_a_token_a_foreign_name_for_this_machine_is_refused() {
        for (host, expected) in [
            ("127.0.0.1:8085", 200),
            ("[::1]:8085", 200),
            ("[::1]", 200),
            ("localhost", 200),
            ("Localhost:8085", 200),
            ("", 200),
            ("evil.example:8085", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:8085", 403),
            ("::1:x", 403),
        ] {
            assert_eq!(status(None, HERE, "GET", "/api/v1/state", &[("host", host)]), expected, "{host}");
            assert_eq!(status(None, THERE, "GET", "/api/v1/state", &[("host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn debug_hides_the_token() {
        let shown = format!("{:?}", Token::new("sesame".to_owned()));
        assert_eq!(shown, "Token(..)");
    }
}
