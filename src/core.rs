//! The core decides; it neither waits nor acts.
pub mod event;
pub mod ids;

pub use event::*;
pub use ids::*;
