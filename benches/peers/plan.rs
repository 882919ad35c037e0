//! How much is measured.

use std::time::Duration;

use super::process;
use super::proxies::Running;
use super::table::Figures;

/// The parts, in their order; each has a block in `BENCHMARKS.md`.
pub const PARTS: [&str; 6] = ["base", "contended", "sse", "held", "h2c", "start"];

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Turns of each proxy.
    pub rounds: usize,
    /// How long a turn is.
    pub turn: Duration,
    /// Starts of each proxy.
    pub starts: usize,
    /// Requests that are held over HTTP/1, each on its own connection.
    pub held: usize,
    /// Connections of HTTP/2.
    pub h2_connections: usize,
    /// After the held requests were answered over HTTP/1, and over HTTP/2.
    pub rest: Duration,
    pub h2_rest: Duration,
}

impl Plan {
    /// What the document tells.
    pub const FULL: Self = Self {
        rounds: 9,
        turn: Duration::from_secs(3),
        starts: 21,
        held: 8_000,
        h2_connections: 500,
        rest: Duration::from_secs(15),
        h2_rest: Duration::from_secs(60),
    };

    /// For working on the bench: every step, and figures that mean nothing.
    pub const QUICK: Self = Self {
        rounds: 2,
        turn: Duration::from_secs(1),
        starts: 3,
        held: 500,
        h2_connections: 20,
        rest: Duration::from_secs(3),
        h2_rest: Duration::from_secs(5),
    };

    /// Lets the proxies take turns, so that the machine's drift hits all alike; each round begins with another one.
    pub fn interleave<const N: usize>(
        &self,
        proxies: &[Running],
        mut turn: impl FnMut(&Running) -> [f64; N],
    ) -> [Figures; N] {
        let mut figures = [(); N].map(|()| Figures::new());
        for round in 0..self.rounds {
            for at in 0..proxies.len() {
                let proxy = &proxies[(round + at) % proxies.len()];
                proxy.rest();
                for (figures, value) in figures.iter_mut().zip(turn(proxy)) {
                    figures.entry(proxy.kind()).or_default().push(value);
                }
            }
        }
        figures
    }
}

/// Resident memory once it has stood still: between two looks it changed by less than a hundredth.
pub fn settled_resident_bytes(proxy: &Running) -> f64 {
    const LOOK_EVERY: Duration = Duration::from_millis(300);
    const LOOKS_MAX: usize = 30;
    let mut last = proxy.resident_bytes();
    for _ in 0..LOOKS_MAX {
        std::thread::sleep(LOOK_EVERY);
        let now = proxy.resident_bytes();
        if (now - last).abs() < last / 100.0 {
            return now;
        }
        last = now;
    }
    panic!("{} does not come to rest", proxy.kind().name());
}

/// What the kernel's buffers hold beyond what they held before.
pub fn socket_bytes_since(before: f64) -> f64 {
    process::socket_bytes() - before
}
