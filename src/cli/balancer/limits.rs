//! What clients and servers may take of the gateway.

use std::time::Duration;

use crate::config::{
    OrOff, count_above_zero, count_or_off, duration, head_size, interval, interval_or_off, size,
};
use crate::proxy::Limits;

#[derive(Debug, clap::Args)]
pub(super) struct LimitFlags {
    /// The longest body of a request
    #[arg(long, env = "PADDOCK_MAX_REQUEST_BODY", value_name = "SIZE", default_value = "32MiB")]
    #[arg(value_parser = size)]
    pub(super) max_request_body: usize,
    /// Memory for the bodies of requests that wait
    #[arg(long, env = "PADDOCK_MAX_BUFFERED_BYTES", value_name = "SIZE", default_value = "256MiB")]
    #[arg(value_parser = size)]
    pub(super) max_buffered_bytes: usize,
    /// The longest head of a request, from 8KiB
    #[arg(long, env = "PADDOCK_MAX_REQUEST_HEAD", value_name = "SIZE", default_value = "64KiB")]
    #[arg(value_parser = head_size)]
    max_request_head: usize,
    /// Fields in the head of a request
    #[arg(long, env = "PADDOCK_MAX_REQUEST_HEADERS", value_name = "COUNT", default_value = "100")]
    #[arg(value_parser = count_above_zero)]
    max_request_headers: u32,
    /// How long a client may take to send the head of a request
    #[arg(long, env = "PADDOCK_REQUEST_HEAD_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = interval)]
    request_head_timeout: Duration,
    /// How long a client may take from one part of a request's body to the next; the whole may take 10 times as long
    #[arg(long, env = "PADDOCK_REQUEST_BODY_TIMEOUT", value_name = "TIME", default_value = "60s")]
    #[arg(value_parser = interval)]
    request_body_timeout: Duration,
    /// How long a client's connection may be idle
    #[arg(long, env = "PADDOCK_CLIENT_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s")]
    #[arg(value_parser = interval)]
    client_idle_timeout: Duration,
    /// Client connections in all; more wait to be accepted
    #[arg(long, env = "PADDOCK_MAX_CONNECTIONS", value_name = "COUNT", default_value = "16384")]
    #[arg(value_parser = count_above_zero)]
    max_connections: u32,
    /// Client connections from one address, unless it is a --trusted-proxy; or off
    #[arg(
        long,
        env = "PADDOCK_MAX_CONNECTIONS_PER_CLIENT",
        value_name = "COUNT|off",
        default_value = "1024"
    )]
    #[arg(value_parser = count_or_off)]
    max_connections_per_client: OrOff<u32>,
    /// How long a server may take to accept a connection
    #[arg(long, env = "PADDOCK_UPSTREAM_CONNECT_TIMEOUT", value_name = "TIME", default_value = "3s")]
    #[arg(value_parser = interval)]
    upstream_connect_timeout: Duration,
    /// How long a server may take to begin its answer, a long prompt's reading included; or off
    #[arg(long, env = "PADDOCK_UPSTREAM_RESPONSE_TIMEOUT", value_name = "TIME|off", default_value = "off")]
    #[arg(value_parser = interval_or_off)]
    upstream_response_timeout: OrOff<Duration>,
    /// After SIGTERM or SIGINT, answers that have begun may take so long
    #[arg(long, env = "PADDOCK_SHUTDOWN_GRACE", value_name = "TIME", default_value = "5m", value_parser = duration)]
    shutdown_grace: Duration,
}

impl LimitFlags {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            head_bytes_max: self.max_request_head,
            head_fields_max: self.max_request_headers as usize,
            head_read_max: self.request_head_timeout,
            body_read_max: self.request_body_timeout,
            body_bytes_max: self.max_request_body,
            buffered_bytes_max: self.max_buffered_bytes,
            client_idle_max: self.client_idle_timeout,
            connections_max: self.max_connections as usize,
            connections_per_client_max: self.max_connections_per_client.0.map(|count| count as usize),
            connect_max: self.upstream_connect_timeout,
            first_byte_max: self.upstream_response_timeout.0,
            shutdown_grace: self.shutdown_grace,
        }
    }
}
