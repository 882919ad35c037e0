//! Paddock: a scale-from-zero gateway for llama.cpp.
//!
//! Data flows one way: [`proxy`] → [`gate`] → [`core`]; agents' reports ([`agent`], [`protocol`], [`management`]) and the
//! [`fleet`]'s news → [`gate`] → [`core`]; commands and plans out, to the waiting requests and to the [`scaler`].
//!
//! The way of a request, in the order of `proxy`'s files: its head decides what can be decided; its body is read whole; its
//! slots are counted; the gate gives it a permit, at once or after a wait in which an instance may start; it is sent, again
//! if need be, until an answer begins; the answer's body passes and carries the permit, whose end frees the slot.
//!
//! **Invariant:** a request is answered exactly once. **Invariant:** no grant exceeds the free slots of its server.
//! **Invariant:** no instance that serves is ended, and none that boots but on a day whose budget is spent. They are enforced
//! in [`core`], where the others stand as well.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod aws;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod colour;
pub mod config;
pub mod core;
pub mod dashboard;
pub mod doctor;
pub mod fleet;
pub mod gate;
pub mod inherited;
pub mod ledger;
pub mod log;
pub mod management;
pub mod metrics;
pub mod notify;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub mod scaler;
pub mod signals;
pub mod sim;
pub mod supervise;
