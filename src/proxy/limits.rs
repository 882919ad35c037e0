//! What a client and a server may take of the gateway: bytes, fields, time and connections.

use std::time::Duration;

/// The limits of the data path. Each is a flag of `paddock balancer`; `docs/limits.md` has the table of what happens
/// to whoever runs into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The head of a request, in bytes.
    pub head_bytes_max: usize,
    /// The fields in the head of a request.
    pub head_fields_max: usize,
    /// From a request's first byte to the end of its head; from a connection's start to its first request.
    pub head_read_max: Duration,
    /// From one part of a request's body to the next. The whole may take 10 times as long.
    pub body_read_max: Duration,
    /// The longest request body, in bytes.
    pub body_bytes_max: usize,
    /// All request bodies that are held, in bytes.
    pub buffered_bytes_max: usize,
    /// How long a client's connection may be without a request.
    pub client_idle_max: Duration,
    /// Client connections, in all.
    pub connections_max: usize,
    /// Client connections from one address (an IPv6 /64 counts as one); without it there is no such limit.
    pub connections_per_client_max: Option<usize>,
    /// How long a server may take to accept a connection.
    pub connect_max: Duration,
    /// How long a server may take from the end of a request to the first byte of its answer. Without it as long as it
    /// likes: a long prompt takes minutes.
    pub first_byte_max: Option<Duration>,
    /// How long answers may go on after a drain began.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 << 10,
            head_fields_max: 100,
            head_read_max: Duration::from_secs(30),
            body_read_max: Duration::from_secs(60),
            body_bytes_max: 32 << 20,
            buffered_bytes_max: 256 << 20,
            client_idle_max: Duration::from_secs(75),
            connections_max: 16_384,
            connections_per_client_max: Some(1024),
            connect_max: Duration::from_secs(3),
            first_byte_max: None,
            shutdown_grace: Duration::from_secs(300),
        }
    }
}
