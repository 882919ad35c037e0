//! What the tests and the benches share: servers to stand behind the gateway, the gateway's own program, clients.

pub mod fake_aws;
pub mod fake_llama;
pub mod faulty_net;
pub mod folder;
pub mod gateway;
pub mod h2;
pub mod http;
pub mod moto;
pub mod openai_clients;
pub mod program;
pub mod prometheus;
pub mod real_llama;
pub mod scripted;
pub mod sdk_clients;
pub mod statsd;
pub mod tls;
pub mod tool;
pub mod wait;
