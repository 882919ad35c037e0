//! The instance metadata of one machine, version 2 only, on a port of its own.
//!
//! Without a token nothing is told ("EC2 User Guide, Use the Instance Metadata Service to access instance metadata"):
//! 401 for a missing, wrong or expired one, 400 for a token asked for without a lifetime of 1 to 21,600 s, 404 for
//! what is not there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use paddock::clock::Clock;
use paddock::core::{Mono, Now};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wording;

const TOKEN_TTL_MAX: u64 = 21_600;

/// What the metadata tell.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub instance_id: String,
    pub region: String,
    pub zone: String,
    pub local_ipv4: Ipv4Addr,
    pub ipv6: Option<Ipv6Addr>,
    pub instance_type: String,
    /// `pendingTime` of the identity document.
    pub launched: Now,
    /// None outside a group.
    pub target_lifecycle_state: Option<String>,
    /// What is to happen and when.
    pub spot_action: Option<(String, Now)>,
    /// When a rebalance was recommended.
    pub rebalance: Option<Now>,
    /// None when the launch template does not allow tags here.
    pub tags: Option<BTreeMap<String, String>>,
}

/// A metadata server. Dropping it stops it.
#[derive(Debug)]
pub struct Imds {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    metadata: Mutex<Metadata>,
    tokens: Mutex<BTreeMap<String, Mono>>,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Imds {
    /// Listens on a free port of `ip`, `127.0.0.1` or `::1`. To be called within a runtime.
    pub fn start(ip: IpAddr, metadata: Metadata, clock: Clock) -> Self {
        let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            clock,
            metadata: Mutex::new(metadata),
            tokens: Mutex::default(),
            asked: Mutex::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Self { addr, shared, _stop: stop.drop_guard() }
    }

    /// For `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn change(&self, change: impl FnOnce(&mut Metadata)) {
        change(&mut self.shared.metadata.lock().unwrap());
    }

    /// As if a long time had passed: every token is refused.
    pub fn expire_tokens(&self) {
        self.shared.tokens.lock().unwrap().clear();
    }

    /// Path and status of each request, oldest first.
    pub fn asked(&self) -> Vec<(String, u16)> {
        self.shared.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let answer = answer(&shared, &request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        }
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let (status, body) = if path == "/latest/api/token" {
        token(shared, request)
    } else if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, String::new())
    } else if !is_known(shared, request) {
        (StatusCode::UNAUTHORIZED, String::new())
    } else {
        match value(&shared.metadata.lock().unwrap(), &path) {
            Some(value) => (StatusCode::OK, value),
            None => (StatusCode::NOT_FOUND, String::new()),
        }
    };
    shared.asked.lock().unwrap().push((path, status.as_u16()));
    let ttl = header(request, "x-aws-ec2-metadata-token-ttl-seconds").unwrap_or_default();
    let mut response = Response::builder().status(status).header("content-type", "text/plain");
    if status.is_success() && request.method() == Method::PUT {
        response = response.header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
    }
    response.body(Full::from(body)).unwrap()
}

fn header<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// A token, asked for with `PUT` and a lifetime. A request that came through a proxy gets none
/// ("EC2 User Guide": 403 with `X-Forwarded-For`).
fn token(shared: &Shared, request: &Request<Incoming>) -> (StatusCode, String) {
    if request.method() != Method::PUT {
        return (StatusCode::METHOD_NOT_ALLOWED, String::new());
    }
    if header(request, "x-forwarded-for").is_some() {
        return (StatusCode::FORBIDDEN, String::new());
    }
    let ttl = header(request, "x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse().ok());
    let Some(ttl) = ttl.filter(|ttl| (1..=TOKEN_TTL_MAX).contains(ttl)) else {
        return (StatusCode::BAD_REQUEST, String::new());
    };
    let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(56).collect();
    let until = shared.clock.mono() + Duration::from_secs(ttl);
    shared.tokens.lock().unwrap().insert(token.clone(), until);
    (StatusCode::OK, token)
}

fn is_known(shared: &Shared, request: &Request<Incoming>) -> bool {
    let tokens = shared.tokens.lock().unwrap();
    let until = header(request, "x-aws-ec2-metadata-token").and_then(|token| tokens.get(token));
    until.is_some_and(|until| *until > shared.clock.mono())
}

/// ("EC2 User Guide, Instance metadata categories")
fn value(metadata: &Metadata, path: &str) -> Option<String> {
    if path == "/latest/dynamic/instance-identity/document" {
        return Some(identity(metadata));
    }
    let item = path.strip_prefix("/latest/meta-data/")?;
    if let Some(key) = item.strip_prefix("tags/instance") {
        let (tags, key) = (metadata.tags.as_ref()?, key.strip_prefix('/').unwrap_or_default());
        let names = || tags.keys().cloned().collect::<Vec<String>>().join("\n");
        return if key.is_empty() { Some(names()) } else { tags.get(key).cloned() };
    }
    match item {
        "instance-id" => Some(metadata.instance_id.clone()),
        "instance-type" => Some(metadata.instance_type.clone()),
        "local-ipv4" => Some(metadata.local_ipv4.to_string()),
        "ipv6" => metadata.ipv6.map(|ip| ip.to_string()),
        "placement/availability-zone" => Some(metadata.zone.clone()),
        "placement/region" => Some(metadata.region.clone()),
        "autoscaling/target-lifecycle-state" => metadata.target_lifecycle_state.clone(),
        // ("EC2 User Guide, Spot Instance interruption notices": 404 until the notice)
        "spot/instance-action" => {
            let (action, at) = metadata.spot_action.as_ref()?;
            Some(json!({ "action": action, "time": wording::seconds(*at) }).to_string())
        }
        // ("EC2 User Guide, EC2 instance rebalance recommendations")
        "events/recommendations/rebalance" => {
            metadata.rebalance.map(|at| json!({ "noticeTime": wording::seconds(at) }).to_string())
        }
        _ => None,
    }
}

/// ("EC2 User Guide, Instance identity documents")
fn identity(metadata: &Metadata) -> String {
    json!({
        "accountId": super::ACCOUNT,
        "architecture": "x86_64",
        "availabilityZone": metadata.zone,
        "imageId": "ami-0123456789abcdef0",
        "instanceId": metadata.instance_id,
        "instanceType": metadata.instance_type,
        "pendingTime": wording::seconds(metadata.launched),
        "privateIp": metadata.local_ipv4.to_string(),
        "region": metadata.region,
        "version": "2017-09-30",
    })
    .to_string()
}
