//! That the proxies do the same work: what each adds to requests and answers.

use std::net::SocketAddr;

use super::message::{self, Client};
use super::proxies::Running;
use super::server::Servers;

/// What every proxy tells the server.
const TO_SERVERS: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-request-id"];

/// Panics unless each proxy tells the servers the same, and adds as many headers to an answer.
pub fn assert_alike(proxies: &[Running], servers: &Servers, chat: &[u8]) {
    let mut added = Vec::new();
    for proxy in proxies {
        servers.take_question();
        message::get(proxy.addr(), "/v1/models");
        let question = servers.take_question();
        for name in TO_SERVERS {
            let name_of = proxy.kind().name();
            assert!(message::field(&question, name).is_some(), "{name_of} sends no {name}");
        }
        added.push((proxy.kind(), marks_of_answer(proxy.addr(), chat)));
    }
    assert!(added.windows(2).all(|pair| pair[0].1 == pair[1].1), "headers of answers: {added:?}");
}

/// How many headers of an answer begin with `X-`: servers send none.
fn marks_of_answer(addr: SocketAddr, chat: &[u8]) -> usize {
    let answer = Client::connect(addr).ask(chat);
    let head = String::from_utf8_lossy(&answer[..message::head_end(&answer).unwrap()]).to_ascii_lowercase();
    head.lines().filter(|line| line.starts_with("x-")).count()
}
