//! The control plane of fleets: what a run comes to, and what Kubernetes is asked for.
//!
//! | module | idea |
//! | --- | --- |
//! | [`report`], [`verdict`], [`timeline`], [`conservation`] | what becomes of a run's measurements; pure but for [`report::files`] |
//! | [`resource`] | the Fleet as a custom resource and the objects made from it, one kind a file; pure |
//!
//! ```text
//! stats ─► timeline ─┐
//! stats ─► verdict ──┼─► report ─► json, yaml, text, html, files
//! facts ─────────────┘
//! ```

pub mod conservation;
pub mod report;
pub mod resource;
pub mod timeline;
pub mod verdict;

#[cfg(test)]
mod fixture;
