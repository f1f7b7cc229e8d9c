//! The Fleet as a custom resource, and the objects that a fleet consists of.
//!
//! One kind a file; each builder is pure and sets every field that is its own and no other.

pub mod fleet;
pub mod names;

pub use fleet::{Fleet, FleetStatus};
