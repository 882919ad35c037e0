//! A network between two sides that is not as it should be. There is none of the kernel's here to be told to fail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every part comes so much later.
    Delay(Duration),
    /// Parts are of so many bytes, a millisecond each.
    Throttle(usize),
    /// Both sides see its end.
    Cut,
    /// Both sides see a reset.
    Reset,
    /// Bytes are taken and never arrive.
    Swallow,
}

/// What happens to a connection, and after how many bytes, both directions together.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub fault: Fault,
    pub after: usize,
}

/// Passes connections on to one address, by a plan for each. Dropping it lets no more in.
#[derive(Debug)]
pub struct FaultyNet {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl FaultyNet {
    /// `plan` is asked for each connection, in their order; none is a network without fault.
    pub async fn start(target: SocketAddr, mut plan: impl FnMut() -> Option<Plan> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(near, target, plan()));
            }
        });
        Self { addr, task }
    }
}

impl Drop for FaultyNet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr, plan: Option<Plan>) {
    // Without the far side the near one is closed, too.
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let up = copy(near_in, far_out, plan, &passed);
        let down = copy(far_in, near_out, plan, &passed);
        // An error of one direction is that direction's fault, which ends both.
        let _ = tokio::try_join!(up, down);
    }
    if plan.is_some_and(|plan| plan.fault == Fault::Reset && passed.load(Ordering::Relaxed) >= plan.after) {
        for stream in [&near, &far] {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

/// Passes bytes of one direction on.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    plan: Option<Plan>,
    passed: &AtomicUsize,
) -> Result<(), ()> {
    let mut part = [0; 4096];
    loop {
        let before = passed.load(Ordering::Relaxed);
        let (most, fault) = match plan {
            Some(plan) if before >= plan.after => (part.len(), Some(plan.fault)),
            Some(plan) => (part.len().min(plan.after - before), None),
            None => (part.len(), None),
        };
        let most = match fault {
            Some(Fault::Cut | Fault::Reset) => return Err(()),
            Some(Fault::Throttle(bytes)) => most.min(bytes),
            Some(Fault::Delay(_) | Fault::Swallow) | None => most,
        };
        let count = match from.read(&mut part[..most]).await {
            Ok(0) => return to.shutdown().await.map_err(drop),
            Ok(count) => count,
            Err(_) => return Err(()),
        };
        match fault {
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Throttle(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
            Some(Fault::Swallow) => continue,
            Some(Fault::Cut | Fault::Reset) | None => {}
        }
        to.write_all(&part[..count]).await.map_err(drop)?;
        passed.fetch_add(count, Ordering::Relaxed);
    }
}
