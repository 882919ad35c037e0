//! The page for people, with its login: served from the program itself.
//!
//! It is files without a secret, and asks no other host for anything; all that it shows it reads from the API as any
//! client does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use super::auth::Admitted;
use super::refusal::{Refusal, drained};
use super::{Shared, api, session};

/// The body of a log-in at most, in bytes: a token, each of its characters percent-encoded.
const LOGIN_BYTES_MAX: usize = 16 * 1024;

/// For the body of a log-in to arrive.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the form's complaint goes.
const COMPLAINT: &str = "{{error}}";

/// Nothing is loaded, sent or framed but from and to this address. The referrer goes to nobody else; to none at all
/// would turn the form's `Origin` into `null` (Fetch, "append a request `Origin` header").
const GUARDS: [(HeaderName, &str); 3] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";

/// A file of `src/dashboard/web`, by its name.
macro_rules! asset {
    ($name:literal) => {
        Asset::new($name, include_str!(concat!("../dashboard/web/", $name)))
    };
}

static PAGE: Asset = asset!("index.html");
static LOGIN: Asset = asset!("login.html");
/// What the two load. Nothing of it is a secret.
static FILES: [Asset; 17] = [
    asset!("agents.js"),
    asset!("app.js"),
    asset!("boot.js"),
    asset!("boots.js"),
    asset!("chart.js"),
    asset!("cost.js"),
    asset!("dom.js"),
    asset!("format.js"),
    asset!("happened.js"),
    asset!("icon.svg"),
    asset!("live.js"),
    asset!("model.js"),
    asset!("now.js"),
    asset!("said.js"),
    asset!("style.css"),
    asset!("timeline.js"),
    asset!("words.js"),
];

/// `GET /dashboard`: the page; for who has to log in, the form.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(admitted): Extension<Admitted>,
    headers: HeaderMap,
) -> Response {
    match admitted {
        _ if !shared.config.has_page => off(Body::empty()),
        Admitted::Entirely | Admitted::Session(_) => PAGE.answer(&headers),
        Admitted::Stranger => form(StatusCode::OK, None),
    }
}

/// `GET /dashboard/{file}`: what the page loads.
pub(super) async fn file(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match named(request.uri().path()) {
        _ if !shared.config.has_page => off(request.into_body()),
        Some(file) => file.answer(request.headers()),
        None => api::not_found(request).await,
    }
}

/// Whether the page loads what is at this path.
pub(super) fn is_file(path: &str) -> bool {
    named(path).is_some()
}

fn named(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix("/dashboard/")?;
    FILES.iter().find(|file| file.name == name)
}

/// `GET /`: on to the page, where there is one.
pub(super) async fn root(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if shared.config.has_page { to_page(None) } else { api::not_found(request).await }
}

/// `POST /dashboard/login`, with the token as the form's only field.
pub(super) async fn log_in(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    if !shared.config.has_page {
        return off(body);
    }
    let Some(token) = &shared.config.token else { return drained(to_page(None), body) };
    let read = tokio::time::timeout(LOGIN_TIMEOUT, read(&mut body)).await;
    let Ok(Some(sent)) = read else {
        let complaint = "The token did not arrive whole. Try again.";
        return drained(form(StatusCode::BAD_REQUEST, Some(complaint)), body);
    };
    let presented = form_urlencoded::parse(&sent).find(|(name, _)| name == "token");
    if !presented.is_some_and(|(_, presented)| token.matches(presented.trim())) {
        tracing::warn!("somebody tried to log in at the page with a wrong token");
        return form(StatusCode::UNAUTHORIZED, Some("This is not the management token. Try again."));
    }
    // The browser says how it came, and the check before this one that it names this host.
    let by_tls = headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    to_page(Some(session::set_cookie(token, shared.clock.now().wall, by_tls)))
}

/// `POST /dashboard/logout`
pub(super) async fn log_out(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    if shared.config.has_page { drained(to_page(Some(session::clear_cookie())), body) } else { off(body) }
}

fn off(unread: Body) -> Response {
    let message = "the page is off: start the balancer with --management-dashboard-enable";
    Refusal::new(StatusCode::NOT_FOUND, "not_found", message).answer(unread)
}

/// After a form was sent, the browser asks for the page with a plain GET.
fn to_page(cookie: Option<String>) -> Response {
    let cookie = cookie.map(|cookie| [(SET_COOKIE, cookie)]);
    let headers = [(LOCATION, "/dashboard"), (CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers, cookie, GUARDS).into_response()
}

fn form(status: StatusCode, complaint: Option<&'static str>) -> Response {
    let complaint = complaint.map_or_else(String::new, |words| {
        format!("<p id=\"error\" class=\"error\" role=\"alert\">{words}</p>")
    });
    // RFC 9110 section 15.5.2 wants it; no browser asks anything for this scheme.
    let challenge = (status == StatusCode::UNAUTHORIZED).then_some([(WWW_AUTHENTICATE, "Bearer")]);
    let headers = [(CONTENT_TYPE, HTML), (CACHE_CONTROL, "no-store")];
    (status, headers, challenge, GUARDS, LOGIN.text.replace(COMPLAINT, &complaint)).into_response()
}

/// The body, unless it breaks off or is too long.
async fn read(body: &mut Body) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.ok()?.into_data() else { continue };
        if whole.len() + bytes.len() > LOGIN_BYTES_MAX {
            return None;
        }
        whole.extend_from_slice(&bytes);
    }
    Some(whole)
}

/// A file of the page.
struct Asset {
    name: &'static str,
    text: &'static str,
    etag: OnceLock<String>,
}

impl Asset {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, etag: OnceLock::new() }
    }

    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            Some(_) | None => HTML,
        }
    }

    /// A browser asks each time whether it is still the same, so that an upgrade shows at once.
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let etag = self.etag.get_or_init(|| {
            let hash = Sha256::digest(self.text);
            let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("\"{hex}\"")
        });
        let common = [(ETAG, etag.as_str()), (CACHE_CONTROL, "no-cache")];
        let known = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
        // A proxy may have made the tag a weak one (RFC 9110 section 13.1.2).
        let mut known = known.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        if known.any(|tag| tag == etag || tag == "*") {
            return (StatusCode::NOT_MODIFIED, common, GUARDS).into_response();
        }
        (common, GUARDS, [(CONTENT_TYPE, self.content_type())], self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard/web");
        let there =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served = FILES.iter().chain([&PAGE, &LOGIN]).map(|asset| asset.name.to_owned());
        assert_eq!(there.collect::<BTreeSet<_>>(), served.collect());
    }

    #[test]
    fn only_what_the_page_loads_is_open() {
        assert!(is_file("/dashboard/app.js") && is_file("/dashboard/style.css"));
        for path in [
            "/dashboard/index.html",
            "/dashboard/",
            "/dashboard",
            "/dashboard/../app.js",
            "app.js",
            "/app.js",
        ] {
            assert!(!is_file(path), "{path}");
        }
    }
}
