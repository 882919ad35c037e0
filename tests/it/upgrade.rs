//! Restarts under load: over sockets that outlive the program, and beside a balancer that is taken over from.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::http::{RawClient, post};
use crate::support::program::{Paddock, Program};
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(30);
/// More than all requests of a test together: none has to wait for a slot.
const SLOTS: usize = 512;
/// Clients of the load, each with one request at a time.
const CLIENTS: usize = 8;
/// So many answers show that a restart is over.
const ENOUGH: usize = 10 * CLIENTS;
const RESTARTS: usize = 4;

/// Short requests without a pause, each on a connection of its own, and how they ended.
pub struct Load {
    ends: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Aborted with this.
    _clients: JoinSet<()>,
}

impl Load {
    pub fn start(addr: SocketAddr) -> Self {
        let ends = Arc::new(Mutex::new(BTreeMap::new()));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let ends = ends.clone();
            clients.spawn(async move {
                loop {
                    let end = ask(addr).await;
                    *ends.lock().unwrap().entry(end).or_default() += 1;
                }
            });
        }
        Self { ends, _clients: clients }
    }

    pub fn ends(&self) -> BTreeMap<String, usize> {
        self.ends.lock().unwrap().clone()
    }

    /// Waits until enough further requests were answered.
    pub async fn goes_on(&self) {
        let answered = || self.ends().get("200").copied().unwrap_or(0);
        let before = answered();
        eventually("answers", SOON, async || (answered() >= before + ENOUGH).then_some(())).await;
    }
}

/// The status, or what became of the connection.
async fn ask(addr: SocketAddr) -> String {
    let mut stream = match TcpStream::connect(addr).await {
        Ok(stream) => stream,
        Err(error) => return error.kind().to_string(),
    };
    let body = r#"{"messages":[],"fake":{"delay_ms":5}}"#;
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {}", body.len());
    let mut answer = String::new();
    let exchange = async {
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    match timeout(SOON, exchange).await {
        Ok(Ok(_)) if answer.ends_with('}') => answer[9..12].to_owned(),
        Ok(Ok(_)) => format!("cut after {} bytes", answer.len()),
        Ok(Err(error)) => error.kind().to_string(),
        Err(_) => "no answer".to_owned(),
    }
}

fn sockets() -> [TcpListener; 2] {
    [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap())
}

async fn llama() -> FakeLlama {
    FakeLlama::start(FakeConfig { slots: SLOTS, ..FakeConfig::default() }).await
}

/// An agent that has registered.
async fn agent(fake: &FakeLlama, paddock: &Paddock) -> Program {
    let agent = Paddock::agent(fake.addr(), paddock.management(), &[]);
    eventually("the agent registers", SOON, async || {
        (paddock.state().await["agents"][0]["slots_total"] == json!(SLOTS)).then_some(())
    })
    .await;
    agent
}

async fn ends_well(paddock: &mut Paddock) {
    paddock.sigterm();
    let status = paddock.wait().await;
    assert!(status.success(), "{status}:\n{}", paddock.output());
}

#[tokio::test]
async fn a_restart_on_inherited_sockets_loses_no_connection() {
    let [clients, management] = sockets();
    let sockets = [&clients, &management];
    let fake = llama().await;
    let mut paddock = Paddock::start_inheriting(sockets, &[]).await;
    let _agent = agent(&fake, &paddock).await;
    let load = Load::start(paddock.proxy());
    load.goes_on().await;
    for restart in 0..RESTARTS {
        if restart % 2 == 0 {
            // As systemctl restart does: meanwhile clients and agents wait in the backlog.
            ends_well(&mut paddock).await;
            paddock = Paddock::start_inheriting(sockets, &[]).await;
        } else {
            let successor = Paddock::start_inheriting(sockets, &[]).await;
            ends_well(&mut paddock).await;
            paddock = successor;
        }
        load.goes_on().await;
    }
    let ends = load.ends();
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["200"], "{ends:?}");
}

/// What is established at one of two listeners that share a port, and is not accepted when it closes, is reset by Linux:
/// the moment between the last look and the close cannot be excluded here.
#[tokio::test]
async fn a_takeover_under_load_answers_all_that_was_accepted() {
    let fake = llama().await;
    let mut paddock = Paddock::start(&[]).await;
    let _agent = agent(&fake, &paddock).await;
    let load = Load::start(paddock.proxy());
    load.goes_on().await;
    for _ in 0..RESTARTS {
        let successor = Paddock::take_over(paddock.proxy(), paddock.management(), &[]).await;
        ends_well(&mut paddock).await;
        paddock = successor;
        load.goes_on().await;
    }
    let ends = load.ends();
    eprintln!("{RESTARTS} takeovers: {ends:?}");
    let is_reset = |end: &String| end == "200" || end == "connection reset";
    assert!(ends.keys().all(is_reset), "{ends:?}");
}

/// Two of them are fewer than wait in the backlog of a socket of the standard library.
const CROWD: u64 = 50;

/// Clients that have sent their request, whether or not anybody accepts them.
async fn crowd(addr: SocketAddr) -> Vec<RawClient> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut client = RawClient::connect(addr).await;
        client.send(post(CHAT, &json!({"messages": []}))).await;
        crowd.push(client);
    }
    crowd
}

/// A crowd that came before the order to end, and that the program cannot have seen before it.
async fn crowd_before_the_end(paddock: &mut Paddock) -> Vec<RawClient> {
    paddock.program().signal(Signal::STOP);
    let crowd = crowd(paddock.proxy()).await;
    paddock.sigterm();
    paddock.program().signal(Signal::CONT);
    crowd
}

async fn all_are_answered(crowd: &mut [RawClient]) {
    for client in crowd {
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn what_waits_to_be_accepted_is_answered_before_the_end() {
    let fake = llama().await;
    let mut paddock = Paddock::start(&["--worker-threads", "1"]).await;
    let _agent = agent(&fake, &paddock).await;
    let mut crowd = crowd_before_the_end(&mut paddock).await;
    all_are_answered(&mut crowd).await;
    assert!(paddock.wait().await.success());
}

#[tokio::test]
async fn what_waits_in_an_inherited_backlog_is_the_successors() {
    let [clients, management] = sockets();
    let fake = llama().await;
    let mut paddock = Paddock::start_inheriting([&clients, &management], &[]).await;
    let _agent = agent(&fake, &paddock).await;
    let mut before = crowd_before_the_end(&mut paddock).await;
    assert!(paddock.wait().await.success());
    let mut after = crowd(paddock.proxy()).await;
    assert!(fake.stats().received <= CROWD);
    let _successor = Paddock::start_inheriting([&clients, &management], &[]).await;
    all_are_answered(&mut before).await;
    all_are_answered(&mut after).await;
    assert_eq!(fake.stats().received, 2 * CROWD);
}

#[tokio::test]
async fn without_the_flag_a_second_balancer_is_refused() {
    let paddock = Paddock::start(&[]).await;
    let (proxy, management) = (paddock.proxy().to_string(), paddock.management().to_string());
    let free = free_addr().to_string();
    for (proxy, management, flag) in
        [(&proxy, &free, "--reverseproxy-addr"), (&free, &management, "--management-addr")]
    {
        let addresses = ["balancer", "--reverseproxy-addr", proxy, "--management-addr", management];
        let output = Paddock::run(&addresses).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("{flag}: cannot listen on")) && told.contains("--takeover"), "{told}");
    }
}

#[tokio::test]
async fn a_program_that_is_no_balancer_cannot_be_taken_over_from() {
    let [other, _] = sockets();
    let (proxy, management) = (other.local_addr().unwrap().to_string(), free_addr().to_string());
    let addresses = ["--reverseproxy-addr", &proxy, "--management-addr", &management];
    let output = Paddock::run(&[&["balancer", "--takeover"], &addresses[..]].concat()).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("no balancer of this user"), "{told}");
}

#[tokio::test]
async fn inherited_sockets_and_flags_may_not_disagree() {
    let [clients, management] = sockets();
    let words = [env!("CARGO_BIN_EXE_paddock"), "balancer", "--reverseproxy-addr", "127.0.0.1:1"];
    let words = words.map(str::to_owned);
    let mut program = Program::spawn_inheriting(&words, &[], [&clients, &management]);
    assert_eq!(program.wait().await.code(), Some(2));
    let line = "error: --reverseproxy-addr: '127.0.0.1:1' is not where the inherited socket listens, ";
    eventually("one line", SOON, async || program.output().starts_with(line).then_some(())).await;
    assert_eq!(program.output().lines().count(), 1, "{}", program.output());
}

/// It would let everybody register agents, whichever way the address came.
#[tokio::test]
async fn an_inherited_management_socket_needs_a_token_as_well() {
    let [clients, _] = sockets();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let words = [env!("CARGO_BIN_EXE_paddock"), "balancer"].map(str::to_owned);
    let mut program = Program::spawn_inheriting(&words, &[], [&clients, &open]);
    assert_eq!(program.wait().await.code(), Some(2));
    eventually("the mend", SOON, async || program.output().contains("--management-token").then_some(()))
        .await;
}

#[tokio::test]
async fn names_tell_inherited_sockets_apart() {
    let [management, clients] = sockets();
    let names = [("LISTEN_FDNAMES", "management:proxy")];
    let words = [env!("CARGO_BIN_EXE_paddock"), "balancer"].map(str::to_owned);
    let mut program = Program::spawn_inheriting(&words, &names, [&management, &clients]);
    program.until_answers(management.local_addr().unwrap(), "/api/v1/state").await;
    for (whose, socket) in [("clients", &clients), ("management", &management)] {
        program.until_says(&format!("{whose} on {} ", socket.local_addr().unwrap())).await;
    }
}
