//! Peers and networks that fail, on both sides of the gateway. Whatever they do: a client sees an answer that is right,
//! one that visibly breaks off, or a documented refusal; nobody sees another's; and no slot is lost.

mod answers;
mod deaths;
mod early;
mod leavers;
mod network;
mod readers;
mod senders;

use std::time::Duration;

use crate::support::gateway::{Gateway, GatewayConfig};

const CHAT: &str = "/v1/chat/completions";
/// For what should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// One worker, so that it is known which connections are kept.
fn one_worker() -> Gateway {
    let mut config = GatewayConfig::default();
    config.proxy.worker_threads = 1;
    Gateway::start(config)
}
