//! The data path.
pub mod classify;
