//! One binary for all tests from the outside.
mod fleet;
