//! Waiting for conditions instead of for time.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Between two looks: short against what is waited for, long against what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Ports that the kernel does not give to outgoing connections: below its default range for them.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Asks again and again until there is an answer. Panics with `what` when there is none within `bound`.
pub async fn eventually<T>(what: &str, bound: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    match timeout(bound, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {bound:?}: {what}"),
    }
}

/// An address on loopback that nobody listens on. Random, because tests run beside each other.
pub fn free_addr() -> SocketAddr {
    free_addr_on([127, 0, 0, 1].into())
}

/// The same on another address of this machine.
pub fn free_addr_on(ip: IpAddr) -> SocketAddr {
    loop {
        let addr = SocketAddr::from((ip, fastrand::u16(PORTS)));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
