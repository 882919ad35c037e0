use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use super::*;
use crate::config::peer;

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// An instance metadata service, version 2 only, as strict as the real one.
#[derive(Clone)]
pub(in crate::agent) struct FakeImds {
    pub endpoint: String,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<String, String>,
    tokens: Vec<String>,
    tokens_given: usize,
    status: Option<StatusCode>,
    asked: Vec<String>,
}

impl FakeImds {
    pub(in crate::agent) async fn start(entries: &[(&str, &str)]) -> Self {
        Self::start_on("127.0.0.1:0", entries).await
    }

    pub(in crate::agent) async fn start_on(address: &str, entries: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { endpoint, book: Arc::default() };
        for (name, value) in entries {
            fake.set(name, Some(value));
        }
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        fake
    }

    pub(in crate::agent) fn imds(&self) -> Imds {
        at(&self.endpoint)
    }

    /// Changes what is at `name` below `/latest/`.
    pub(in crate::agent) fn set(&self, name: &str, value: Option<&str>) {
        let path = format!("/latest/{name}");
        match value {
            Some(value) => self.book().entries.insert(path, value.to_owned()),
            None => self.book().entries.remove(&path),
        };
    }

    /// Answers everything with this status, if any.
    pub(in crate::agent) fn fail(&self, status: Option<u16>) {
        self.book().status = status.map(|status| StatusCode::from_u16(status).unwrap());
    }

    fn forget_tokens(&self) {
        self.book().tokens.clear();
    }

    pub(in crate::agent) fn asked(&self) -> usize {
        self.book().asked.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

pub(in crate::agent) fn at(endpoint: &str) -> Imds {
    let builder = Imds::from_environment().builder.endpoint(endpoint).unwrap();
    Imds { client: builder.clone().build(), builder }
}

async fn answer(State(fake): State<FakeImds>, request: Request) -> Response {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path().to_owned();
    let mut book = fake.book();
    book.asked.push(path.clone());
    if let Some(status) = book.status {
        return status.into_response();
    }
    if request.method() == Method::PUT && path == "/latest/api/token" {
        let Some(ttl) = header(TTL_HEADER).filter(|ttl| (1..=21_600).contains(&ttl.parse().unwrap_or(0)))
        else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        book.tokens_given += 1;
        let token = format!("token-{}", book.tokens_given);
        book.tokens.push(token.clone());
        return ([(TTL_HEADER, ttl)], token).into_response();
    }
    if !header(TOKEN_HEADER).is_some_and(|token| book.tokens.contains(&token)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match book.entries.get(&path) {
        Some(value) => value.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test]
async fn an_entry_is_told_with_one_token_for_all() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let fake = FakeImds::start_on(address, &[("meta-data/local-ipv4", "10.0.0.7\n")]).await;
        let mut imds = fake.imds();
        assert_eq!(imds.entry("local-ipv4").await.unwrap().as_deref(), Some("10.0.0.7"));
        assert_eq!(imds.entry("ipv6").await.unwrap(), None);
        assert_eq!(fake.book().tokens_given, 1);
        assert_eq!(fake.book().asked.len(), 3);
    }
}

#[tokio::test]
async fn a_token_that_the_service_forgot_is_replaced() {
    let fake = FakeImds::start(&[("meta-data/instance-id", "i-1")]).await;
    let mut imds = fake.imds();
    assert!(imds.entry("instance-id").await.is_ok());
    fake.forget_tokens();
    let error = imds.entry("instance-id").await.unwrap_err();
    assert!(matches!(error, ImdsError::Refused { status: 401, .. }), "{error}");
    assert_eq!(imds.entry("instance-id").await.unwrap().as_deref(), Some("i-1"));
    assert_eq!(fake.book().tokens_given, 2);
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_one_line() {
    let fake = FakeImds::start(&[]).await;
    fake.fail(Some(503));
    let error = fake.imds().entry("ipv6").await.unwrap_err().to_string();
    assert!(error.contains("/latest/meta-data/ipv6"), "{error}");
    // Version 2 is switched off for this instance.
    fake.fail(Some(403));
    let error = fake.imds().entry("ipv6").await.unwrap_err().to_string();
    assert!(error.contains("orbidden") && error.lines().count() == 1, "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = at(&endpoint).entry("ipv6").await.unwrap_err().to_string();
    assert!(error.contains("refused") && error.lines().count() == 1, "{error}");
}

#[tokio::test]
async fn addresses_are_located() {
    let fake = FakeImds::start(&[("meta-data/local-ipv4", "10.0.0.7"), ("meta-data/ipv6", "fd00::7")]).await;
    let mut imds = fake.imds();
    for (address, located) in [
        ("aws:metadata:local-ipv4:8080", "10.0.0.7:8080"),
        ("aws:metadata:ipv6:8080", "[fd00::7]:8080"),
        ("my-host:8080", "my-host:8080"),
    ] {
        assert_eq!(imds.locate(&peer(address).unwrap()).await.unwrap().to_string(), located);
    }
    fake.set("meta-data/local-ipv4", Some("<html>"));
    fake.set("meta-data/ipv6", None);
    for (address, says) in [
        ("aws:metadata:local-ipv4:8080", "tells '<html>', which is no address; write"),
        ("aws:metadata:ipv6:8080", "'aws:metadata:ipv6:8080': this machine has no ipv6"),
    ] {
        let error = imds.locate(&peer(address).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// A `/sys` of its own, gone when it is dropped.
struct Sys(tempfile::TempDir);

impl Sys {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Self(root)
    }
}

#[test]
fn only_ec2_is_asked() {
    let amazon = ("class/dmi/id/sys_vendor", "Amazon EC2\n");
    let endpoint = (ENDPOINT_VARIABLE, "http://127.0.0.1:1");
    for (variables, files, presence) in [
        (&[][..], &[][..], Presence::Unlikely),
        (&[], &[("class/dmi/id/sys_vendor", "QEMU\n"), ("hypervisor/uuid", "0ec2")], Presence::Unlikely),
        (&[], &[amazon], Presence::Likely),
        (&[], &[("class/dmi/id/board_vendor", "Amazon EC2\n")], Presence::Likely),
        (&[], &[("hypervisor/uuid", "ec2e1916-9099-7caf-fd21-012345abcdef\n")], Presence::Likely),
        (&[endpoint], &[], Presence::Likely),
        (&[(ENDPOINT_VARIABLE, "")], &[], Presence::Unlikely),
        (&[(DISABLED_VARIABLE, "True"), endpoint], &[amazon], Presence::Forbidden),
        (&[(DISABLED_VARIABLE, "false")], &[amazon], Presence::Likely),
        (&[(DISABLED_VARIABLE, "false")], &[], Presence::Unlikely),
    ] {
        let sys = Sys::new(files);
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(Presence::of(variable, sys.0.path()), presence, "{variables:?} {files:?}");
    }
}
