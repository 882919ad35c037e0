//! A hundred thousand requests that wait for a server over HTTP/2 without TLS, 200 on each connection; then one comes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{Method, Request, StatusCode};
use paddock::clock::Clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::peers::goal::Goal;
use crate::peers::message;
use crate::peers::plan::{Plan, settled_resident_bytes, socket_bytes_since};
use crate::peers::process::socket_bytes;
use crate::peers::proxies::{Behind, Kind, Running};
use crate::peers::server::Servers;
use crate::peers::table::{Figures, Row};

const BODY_BYTES: usize = 2_000;
const STREAMS: usize = 200;
const SLOTS: usize = 64;
/// For all requests to be there.
const HOLD_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn run(plan: &Plan) -> Vec<Row> {
    let servers = Servers::start(SLOTS, Duration::ZERO);
    let behind = Behind { servers: servers.addrs(), slots: SLOTS, queues: true };
    let Some(proxy) = Running::start(Kind::Paddock, behind) else { return Vec::new() };
    let requests = plan.h2_connections * STREAMS;
    let (idle, sockets) = (settled_resident_bytes(&proxy), socket_bytes());
    // Its own thread, so that the connections live on while this one looks.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let waiting = runtime.block_on(ask_all(proxy.addr(), plan.h2_connections));
    until_held(&proxy, requests);
    let each = |bytes: f64| bytes / requests as f64 / 1024.0;
    let resident_each = each(settled_resident_bytes(&proxy) - idle);
    let sockets_each = each(socket_bytes_since(sockets));
    proxy.attach_servers();
    let answered = runtime.block_on(answer_all(waiting));
    assert_eq!(answered, requests, "all are answered");
    drop(runtime);
    std::thread::sleep(plan.h2_rest);
    let rest = proxy.resident_bytes() / idle;
    let of = |value: f64| Figures::from([(Kind::Paddock, vec![value])]);
    vec![
        Row::plain("held, and answered with 200", 0, &of(answered as f64)),
        Row::alone("resident memory a held request, KiB", 2, &of(resident_each), Goal::AtMost(5.0)),
        Row::plain("the kernel's socket buffers a held request, KiB", 2, &of(sockets_each)),
        Row::alone("resident memory a minute later, × idle", 2, &of(rest), Goal::AtMost(1.5)),
    ]
}

/// The answers of one connection that are still to come.
type Waiting = Vec<ResponseFuture>;

async fn ask_all(addr: SocketAddr, connections: usize) -> Vec<Waiting> {
    let chat = message::chat(BODY_BYTES);
    let body = Bytes::copy_from_slice(message::body(&chat));
    let mut asking = JoinSet::new();
    for _ in 0..connections {
        asking.spawn(ask(addr, body.clone()));
    }
    asking.join_all().await
}

/// One connection with all its streams. It lives until the runtime ends.
async fn ask(addr: SocketAddr, body: Bytes) -> Waiting {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut waiting = Vec::with_capacity(STREAMS);
    for _ in 0..STREAMS {
        sender = sender.ready().await.unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{addr}/v1/chat/completions"))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let (answer, mut to_send) = sender.send_request(request, false).unwrap();
        to_send.send_data(body.clone(), true).unwrap();
        waiting.push(answer);
    }
    waiting
}

fn until_held(proxy: &Running, requests: usize) {
    let clock = Clock::start();
    while proxy.held() < requests {
        assert!(clock.mono().0 < HOLD_MAX, "{} of {requests} are held", proxy.held());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How many were answered with 200, to the last byte.
async fn answer_all(waiting: Vec<Waiting>) -> usize {
    let mut answering = JoinSet::new();
    for waiting in waiting {
        answering.spawn(async move {
            let mut answered = 0;
            for answer in waiting {
                let (head, mut body) = answer.await.unwrap().into_parts();
                assert_eq!(head.status, StatusCode::OK);
                while let Some(data) = body.data().await {
                    body.flow_control().release_capacity(data.unwrap().len()).unwrap();
                }
                answered += 1;
            }
            answered
        });
    }
    answering.join_all().await.into_iter().sum()
}
