//! Who may use the management address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::refusal::Refusal;
use super::token::Token;
use super::{Ends, Shared, page, session};

/// What anybody may look at: without a token the page is a form, and nothing else here is a secret.
const OPEN_TO_LOOK: [&str; 2] = ["/", "/dashboard"];

/// Logging in takes the token, and logging out forgets a cookie.
const OPEN_TO_POST: [&str; 2] = ["/dashboard/login", "/dashboard/logout"];

/// How a request was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// With the token, or where none is needed.
    Entirely,
    /// By the session of somebody who logged in, which lasts so much longer.
    Session(Duration),
    /// Nobody is known, and what was asked for is open.
    Stranger,
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn admit(
    State(shared): State<Arc<Shared>>,
    Extension(ends): Extension<Ends>,
    mut request: Request,
    next: Next,
) -> Response {
    match check(shared.config.token.as_ref(), ends.peer, shared.clock.now().wall, &request) {
        Ok(admitted) => {
            request.extensions_mut().insert(admitted);
            next.run(request).await
        }
        Err(refusal) => refusal.answer(request.into_body()),
    }
}

/// 1. A web page of another site may not use its visitor's browser: it cannot leave `Origin` out, nor choose it.
/// 2. The health check is open: load balancers have no token.
/// 3. With a token, who presents it is in.
/// 4. Who logged in at the page with it may look, and nothing else: no agent registers by a session.
/// 5. What a person needs before that is open: the page itself, which is then the form to log in, and what is around it.
/// 6. Nobody else is in.
/// 7. Without a token, the visitor's own machine could be reached under a name that a web page had made to point here.
///    Such a request names the page's host. All others are in.
fn check(
    token: Option<&Token>,
    peer: IpAddr,
    wall: Duration,
    request: &Request,
) -> Result<Admitted, Refusal> {
    let (headers, path) = (request.headers(), request.uri().path());
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    // 1.
    if let Some(origin) = headers.get(ORIGIN)
        && !is_same_site(origin.as_bytes(), host(headers))
    {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this is a request of another site's page: the management address serves only its own pages",
        ));
    }
    // 2.
    if path == "/health" && looks {
        return Ok(Admitted::Stranger);
    }
    if let Some(token) = token {
        // 3.
        if presented(headers).is_some_and(|presented| token.matches(presented)) {
            return Ok(Admitted::Entirely);
        }
        // 4.
        if looks
            && is_view(path)
            && let Some(left) = session::left(token, headers, wall)
        {
            return Ok(Admitted::Session(left));
        }
        // 5.
        if (looks && (OPEN_TO_LOOK.contains(&path) || page::is_file(path)))
            || (*request.method() == Method::POST && OPEN_TO_POST.contains(&path))
        {
            return Ok(Admitted::Stranger);
        }
        // 6.
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the management token is missing or wrong: send `Authorization: Bearer TOKEN` (agents: \
             --management-token), or log in at /dashboard",
        ));
    }
    // 7.
    if peer.is_loopback() && !is_local_name(host(headers)) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "without a management token this machine is served only under an IP address or as `localhost`: set \
             --management-token to use another name",
        ));
    }
    Ok(Admitted::Entirely)
}

/// What a session is for.
fn is_view(path: &str) -> bool {
    path == "/dashboard" || path == "/metrics" || path.starts_with("/api/v1/")
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

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn status(token: Option<&str>, peer: IpAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let token = token.map(|token| Token::new(token.to_owned()));
        let request = request.body(Body::empty()).unwrap();
        check(token.as_ref(), peer, NOW, &request)
            .map_or_else(|refusal| refusal.answer(Body::empty()).status().as_u16(), |_| 200)
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

    /// With the right session; and without any.
    fn admitted(method: &str, path: &str, extra: &[(&str, &str)]) -> [Result<Admitted, u16>; 2] {
        let token = Token::new("sesame".to_owned());
        let cookie = session::set_cookie(&token, NOW, false);
        let cookie = cookie.split(';').next().unwrap();
        [Some(cookie), None].map(|cookie| {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value) in extra.iter().copied().chain(cookie.map(|cookie| ("cookie", cookie))) {
                request = request.header(name, value);
            }
            let request = request.body(Body::empty()).unwrap();
            check(Some(&token), THERE, NOW + Duration::from_secs(200), &request)
                .map_err(|refusal| refusal.answer(Body::empty()).status().as_u16())
        })
    }

    #[test]
    fn a_session_opens_what_can_be_looked_at_and_nothing_else() {
        let left = Ok(Admitted::Session(Duration::from_secs(12 * 3600 - 200)));
        let (nobody, refused) = (Ok(Admitted::Stranger), Err(401));
        for (method, path, with, without) in [
            ("GET", "/dashboard", left, nobody),
            ("HEAD", "/dashboard", left, nobody),
            ("GET", "/api/v1/state", left, refused),
            ("GET", "/api/v1/events", left, refused),
            ("GET", "/api/v1/timeline", left, refused),
            ("GET", "/api/v1/agents", left, refused),
            ("GET", "/metrics", left, refused),
            ("POST", "/status_update/a", refused, refused),
            ("GET", "/status_update/a", refused, refused),
            ("POST", "/api/v1/state", refused, refused),
            ("DELETE", "/api/v1/agents", refused, refused),
            ("POST", "/metrics", refused, refused),
            ("GET", "/no/such/path", refused, refused),
            ("GET", "/api/v2/state", refused, refused),
            ("GET", "/metrics/", refused, refused),
            ("GET", "/", nobody, nobody),
            ("GET", "/dashboard/app.js", nobody, nobody),
            ("GET", "/dashboard/style.css", nobody, nobody),
            ("GET", "/dashboard/icon.svg", nobody, nobody),
            ("GET", "/dashboard/", refused, refused),
            ("POST", "/dashboard", refused, refused),
            ("POST", "/dashboard/login", nobody, nobody),
            ("POST", "/dashboard/logout", nobody, nobody),
            ("GET", "/dashboard/login", refused, refused),
        ] {
            assert_eq!(admitted(method, path, &[]), [with, without], "{method} {path}");
            let evil = [("origin", "http://evil.example"), ("host", "gateway:8085")];
            assert_eq!(admitted(method, path, &evil), [Err(403); 2], "{method} {path}");
            let bearer = [("authorization", "Bearer sesame")];
            assert_eq!(admitted(method, path, &bearer), [Ok(Admitted::Entirely); 2], "{method} {path}");
        }
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
}
