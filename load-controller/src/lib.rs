//! The control plane of fleets: what a run comes to, and what Kubernetes is asked for.
//!
//! | module | idea |
//! | --- | --- |
//! | [`report`], [`verdict`], [`timeline`], [`conservation`] | what becomes of a run's measurements; pure but for [`report::files`] |
//! | [`facts`], [`phase`] | what is known of a run beside its measurements |
//! | [`words`], [`yaml`] | figures as people read them; anything as YAML |
//! | [`resource`] | the Fleet as a custom resource and the objects made from it, one kind a file; pure |
//! | [`controller`] | observe, plan, apply, status: makes a cluster match its Fleets |
//! | [`workers`] | the workers of a fleet: pull of statistics, push of plans |
//! | [`key`] | the controller's key, from which tokens and passwords are derived |
//! | [`lease`], [`http`] | who leads, and what the controller tells over HTTP |
//!
//! ```text
//! stats ─► timeline ─┐
//! stats ─► verdict ──┼─► report ─► json, yaml, text, html, files
//! facts ─────────────┘
//! ```

pub mod conservation;
pub mod controller;
pub mod facts;
pub mod http;
pub mod key;
mod kube_error;
pub mod lease;
pub mod limits;
pub mod phase;
pub mod report;
pub mod resource;
pub mod timeline;
pub mod verdict;
pub mod words;
pub mod workers;
pub mod yaml;

#[cfg(test)]
mod fixture;
