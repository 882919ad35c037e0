//! The open loop: requests at a fixed rate, whatever the answers take. Each connection has its own thread and its own
//! timetable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Barrier;
use std::time::Duration;

use paddock::clock::Clock;

use super::message::Client;
use super::stats::quantile;

pub const CONNECTIONS: u32 = 64;
/// Requests a second, all connections together.
pub const RATE: u32 = 20_000;

/// What one turn came to.
pub struct Load {
    pub requests: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// One turn.
pub fn run(addr: SocketAddr, request: &[u8], turn: Duration) -> Load {
    let clock = Clock::start();
    let barrier = Arc::new(Barrier::new(CONNECTIONS as usize));
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (request, barrier, mut client) = (request.to_vec(), barrier.clone(), Client::connect(addr));
            std::thread::spawn(move || {
                barrier.wait();
                follow_timetable(&mut client, &request, clock, number, turn)
            })
        })
        .collect();
    let of_each: Vec<(Vec<f64>, f64)> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let seconds = of_each.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
    let mut latencies: Vec<f64> = of_each.into_iter().flat_map(|(latencies, _)| latencies).collect();
    latencies.sort_by(f64::total_cmp);
    let requests = latencies.len() as f64;
    let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| quantile(&latencies, share) * 1e3);
    Load { requests, per_second: requests / seconds, p50_ms, p99_ms }
}

/// The seconds that each request took, and those that all of them did. A request that is late because the one before it
/// was is counted from when it was due.
fn follow_timetable(
    client: &mut Client,
    request: &[u8],
    clock: Clock,
    number: u32,
    turn: Duration,
) -> (Vec<f64>, f64) {
    let begun = clock.mono().0;
    let period = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut due = period * number / CONNECTIONS;
    let mut latencies = Vec::new();
    while due < turn {
        let left = due.saturating_sub(clock.mono().0 - begun);
        std::thread::sleep(left);
        // How late the kernel wakes a sleeper is not the proxy's.
        let from = if left.is_zero() { due } else { clock.mono().0 - begun };
        client.ask(request);
        latencies.push((clock.mono().0 - begun - from).as_secs_f64());
        due += period;
    }
    (latencies, (clock.mono().0 - begun).as_secs_f64())
}
