//! Paddock: a scale-from-zero gateway for llama.cpp.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod clock;
pub mod core;
pub mod proxy;
pub mod sim;
