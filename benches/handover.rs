//! How long a slot stays empty: from the last byte of an answer at the server to the first byte of the next request
//! there, when the one that waits is served by the other worker. `cargo bench --bench handover`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures, and a broken one stops"
)]

#[path = "../tests/support/support.rs"]
#[allow(dead_code, reason = "shared with the tests: each includes all of it and uses a part")]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use paddock::clock::Clock;
use paddock::core::Mono;
use support::gateway::{Gateway, GatewayConfig};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 2_000;
const WARM_UP: usize = 200;
/// Pairs of client connections that are tried until one is spread over both workers.
const PAIRS_MAX: usize = 64;
const REQUEST: &[u8] =
    b"POST /completion HTTP/1.1\r\nHost: bench\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"a\"}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A request that arrived at the server: when its first byte did, and how to answer it.
struct Arrived {
    at: Mono,
    connection: usize,
    stream: TcpStream,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let clock = Clock::start();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let (sender, arrivals) = channel();
    std::thread::spawn(move || serve(&listener, clock, &sender));
    let gateway = Gateway::start(GatewayConfig::default());
    gateway.attach("a", server, 1);
    let mut took = measure(gateway.addr(), clock, &arrivals);
    took.sort_unstable();
    let micros = |permille: usize| took[took.len() * permille / 1000] as f64 / 1000.0;
    println!("last byte of an answer to first byte of the next request, the waiter on the other worker");
    println!(
        "{} rounds: p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs",
        took.len(),
        micros(500),
        micros(900),
        micros(990)
    );
}

/// One thread for each connection: it notes when a request's first byte came.
fn serve(listener: &TcpListener, clock: Clock, arrivals: &Sender<Arrived>) {
    for (connection, stream) in listener.incoming().enumerate() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let arrivals = arrivals.clone();
        std::thread::spawn(move || {
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while let Ok(count) = stream.read(&mut part)
                && count > 0
            {
                let at = clock.mono();
                request.extend_from_slice(&part[..count]);
                while !request.ends_with(b"{\"prompt\":\"a\"}") {
                    let count = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..count]);
                }
                request.clear();
                let stream = stream.try_clone().unwrap();
                if arrivals.send(Arrived { at, connection, stream }).is_err() {
                    return;
                }
            }
        });
    }
}

fn measure(gateway: SocketAddr, clock: Clock, arrivals: &Receiver<Arrived>) -> Vec<u64> {
    let connect = || {
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    for _ in 0..PAIRS_MAX {
        let mut running = connect();
        let mut waiting = connect();
        let mut took = Vec::with_capacity(ROUNDS);
        running.write_all(REQUEST).unwrap();
        let mut current = arrivals.recv().unwrap();
        for _ in 0..WARM_UP + ROUNDS {
            waiting.write_all(REQUEST).unwrap();
            until_waiting();
            let ended = clock.mono();
            current.stream.write_all(ANSWER).unwrap();
            let mut next = arrivals.recv().unwrap();
            if next.connection == current.connection {
                // Upstream connections belong to a worker: the same one means the same worker.
                took.clear();
                next.stream.write_all(ANSWER).unwrap();
                read_answer(&mut running);
                read_answer(&mut waiting);
                break;
            }
            took.push(u64::try_from(next.at.since(ended).as_nanos()).unwrap());
            read_answer(&mut running);
            std::mem::swap(&mut running, &mut waiting);
            current = next;
        }
        if took.len() == WARM_UP + ROUNDS {
            return took.split_off(WARM_UP);
        }
    }
    panic!("no pair of connections was spread over both workers");
}

/// Long enough for the request to have reached the queue.
fn until_waiting() {
    std::thread::sleep(std::time::Duration::from_micros(500));
}

fn read_answer(client: &mut TcpStream) {
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(b"\r\n\r\n{}") {
        let count = client.read(&mut part).unwrap();
        assert!(count > 0, "the gateway closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..count]);
    }
}
