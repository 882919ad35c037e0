//! Paddock: a scale-from-zero gateway for llama.cpp.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod fleet;
pub mod gate;
pub mod management;
pub mod metrics;
pub mod protocol;
pub mod proxy;
pub mod scaler;
pub mod signals;
pub mod sim;
pub mod supervise;
