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

/// An address on loopback that nobody listens on, and that no other test is given as long as this process runs.
pub fn free_addr() -> SocketAddr {
    free_addr_on([127, 0, 0, 1].into())
}

/// The same on another address of this machine.
pub fn free_addr_on(ip: IpAddr) -> SocketAddr {
    loop {
        let addr = SocketAddr::from((ip, fastrand::u16(PORTS)));
        if is_claimed(addr.port()) && TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// Whether the port is now this process's among all tests. The claim is a name of the kernel's that one socket alone can
/// have, and that is free again after any end of its process.
#[cfg(target_os = "linux")]
fn is_claimed(port: u16) -> bool {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::Mutex;

    static CLAIMS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let name = SocketAddr::from_abstract_name(format!("paddock-port-{port}")).unwrap();
    let claim = UnixDatagram::bind_addr(&name);
    claim.map(|claim| CLAIMS.lock().unwrap().push(claim)).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn is_claimed(_port: u16) -> bool {
    true
}
