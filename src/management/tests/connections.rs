//! How connections begin and end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::super::fixture::{POOL, Served, soon, until};
use super::super::ingest::SILENCE_MAX;
use super::super::{END_GRACE, HEAD_TIMEOUT, set_up};
#[cfg(target_os = "linux")]
use super::super::{TCP_USER_TIMEOUT, UNSENT_MAX};
use super::{paddler, status};
use crate::agent::{self, AgentConfig};
use crate::clock::Clock;
use crate::config;
use crate::core::TenantId;
use crate::gate::Ask;

#[tokio::test]
async fn our_own_agent_registers_and_its_slot_can_be_used() {
    let router = Router::new()
        .route("/health", get(async || "{}"))
        .route("/slots", get(async || r#"[{"id":0,"is_processing":false}]"#));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let llamacpp = tokio::spawn(async { axum::serve(listener, router).await });

    let served = Served::start(Some("sesame")).await;
    let address = |address: SocketAddr| config::peer(&address.to_string()).unwrap();
    let config = AgentConfig {
        server: address(server),
        external: address(server),
        api_key: None,
        interval: Duration::from_secs(1),
        name: Some("left".to_owned()),
        instance_id: None,
        management: vec![address(served.address)],
        management_token: Some("sesame".to_owned()),
        imds: None,
        orphan_timeout: None,
        launching_hook: None,
    };
    let cancel = CancellationToken::new();
    let agent = tokio::spawn(agent::run(config, Clock::start(), cancel.clone()));
    let ask = Ask { pool: POOL, tenant: TenantId(0), slots: 1, wait_max: None };
    let permit = soon(served.gate.acquire(ask)).await.unwrap();
    assert_eq!((permit.upstream().address, &*permit.upstream().name), (server, "left"));
    permit.finish();

    cancel.cancel();
    soon(agent).await.unwrap().unwrap();
    until(|| served.agents() == (0, 0)).await;
    llamacpp.abort();
}

/// Where the connection ends, and how many seconds after its start.
async fn cut_after(served: &Served, sent: &str) -> u64 {
    let clock = Clock::start();
    let mut stream = served.connect().await;
    stream.write(sent).await;
    let mut rest = Vec::new();
    let _ = soon(stream.0.read_to_end(&mut rest)).await;
    clock.mono().0.as_secs()
}

/// The clock is paused: it jumps to the next timer when nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn slow_heads_and_idle_connections_are_cut() {
    let served = Served::piped(None, false);
    let slow = "GET /health HTTP/1.1\r\nHost: ";
    let idle = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let limit = HEAD_TIMEOUT.as_secs();
    let (slow, idle) = tokio::join!(cut_after(&served, slow), cut_after(&served, idle));
    assert!((limit..2 * limit).contains(&slow), "{slow} s");
    assert!((limit..2 * limit).contains(&idle), "{idle} s");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_for_long_is_ended() {
    let served = Served::piped(None, false);
    let clock = Clock::start();
    let mut agent = served.stream("a").await;
    agent.chunk(&paddler(1)).await;
    let mut answer = [0; 12];
    agent.0.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(clock.mono().0.as_secs(), SILENCE_MAX.as_secs());
    assert_eq!(served.agents(), (0, 0));
}

#[tokio::test]
async fn vanished_peers_are_noticed_by_the_system() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    set_up(&stream).unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(TCP_USER_TIMEOUT));
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_MAX);
}

#[tokio::test]
async fn the_end_closes_agents_streams_and_slow_connections() {
    let served = Served::start(None).await;
    let mut agent = served.stream("a").await;
    agent.chunk(&paddler(1)).await;
    let mut slow = served.connect().await;
    slow.write("GET /health HT").await;
    until(|| served.agents() == (1, 2)).await;

    served.cancel.cancel();
    let answer = agent.answer().await;
    assert_eq!(status(&answer), "202", "{answer}");
    let clock = Clock::start();
    soon(served.task).await.unwrap();
    assert!(clock.mono().0 < 2 * END_GRACE);
    assert!(TcpStream::connect(served.address).await.is_err());
    let agents = served.gate.snapshot().0.agents;
    assert!(matches!(&agents[..], [agent] if agent.is_connected), "it is not gone, but silent: {agents:?}");
}
