//! What a wake costs in the gateway itself, at its two ends. `cargo bench --bench wake`
//!
//! 1. From the first byte of a request at the gateway to the `SetDesiredCapacity` request at AWS: the proxy, the gate, the
//!    core, the scaler, AWS's SDK, and the wire. Over a connection that is warm; over a new one, with TLS; and with
//!    credentials that have run out and must be fetched first.
//! 2. From the first good report of an instance's agent to the first byte of the request at its llama.cpp: management, the
//!    core, the gate, and a new upstream connection.
//!
//! What lies between the two (AWS, the machine's boot, the model's load) takes half a minute and more, and is not here.
//! Everything is on loopback, in one process: a real network adds half a round trip to a warm call, and two and a half to one
//! over a new TLS connection. Each wake has a gateway of its own, since the core rightly takes its time until it believes that a
//! group is empty again; the fleet's clients, and so their connections and credentials, are the same throughout.
//!
//! The TLS connections need openssl (Debian: `apt-get install openssl`) for a certificate; without it they are left out.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures, and a broken one stops"
)]

#[path = "../tests/support/support.rs"]
#[allow(dead_code, reason = "shared with the tests: each includes all of it and uses a part")]
mod support;

mod wake {
    pub mod call;
    pub mod credentials;
    pub mod environment;
    pub mod first_byte;
    pub mod tls;
}

use wake::call::{Connection, Keys, Scene};
use wake::environment::Environment;
use wake::first_byte;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 1_000;
/// Of what is not the rule.
const RARE_ROUNDS: usize = 100;

fn main() {
    let Some(environment) = Environment::of_this_process() else {
        return Environment::run_this_program_in_it();
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&environment));
}

async fn measure(environment: &Environment) {
    println!("first byte of a request to SetDesiredCapacity on the wire, in ms");
    let mut scene = Scene::start(environment, None, Keys::Lasting).await;
    print("warm connection", scene.rounds(ROUNDS, Connection::Warm).await);
    drop(scene);
    match environment.certificate() {
        Some(certificate) => {
            let mut scene = Scene::start(environment, Some(&certificate), Keys::Lasting).await;
            print("warm TLS connection", scene.rounds(RARE_ROUNDS, Connection::Warm).await);
            print("new TLS connection", scene.rounds(RARE_ROUNDS, Connection::New).await);
        }
        None => println!("openssl is not installed: TLS is not measured (Debian: apt-get install openssl)"),
    }
    let mut scene = Scene::start(environment, None, Keys::Expiring).await;
    print("expired credentials", scene.rounds(RARE_ROUNDS, Connection::Warm).await);
    drop(scene);
    println!("first good report to the first byte at llama.cpp, in ms");
    print("new connection", first_byte::rounds(ROUNDS).await);
}

fn print(what: &str, mut nanos: Vec<u64>) {
    nanos.sort_unstable();
    let millis = |permille: usize| nanos[nanos.len() * permille / 1000] as f64 / 1e6;
    let (p50, p90, p99) = (millis(500), millis(900), millis(990));
    println!("{what:<20} {:>5} rounds: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}", nanos.len());
}
