//! The tests that need more than one module: one binary, so that it is linked once.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what went wrong by failing")]

#[path = "../support/support.rs"]
#[allow(dead_code, reason = "shared with the benches: each includes all of it and uses a part")]
mod support;

mod access_log;
mod aws;
mod bench_figures;
mod check;
mod cli;
mod cloudwatch;
mod conformance;
mod corpus;
mod counted;
mod crowd;
mod dashboard;
mod doctor;
mod documents;
mod edges;
mod endings;
mod faults;
mod fleet;
mod h2;
mod instance;
mod keys;
mod ledger;
mod limits;
mod moto;
mod no_capacity;
mod notify;
mod paddler_compat;
mod prometheus;
mod proxy;
mod real_clients;
mod real_llama;
mod scaler;
mod statsd;
mod support_aws;
mod support_fake;
mod support_real;
mod systemd;
mod terminal;
mod tidy;
mod tls;
mod units;
mod upgrade;
mod waiting;
