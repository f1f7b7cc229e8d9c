//! The control plane of fleets: what a run comes to, and what Kubernetes is asked for.
//!
//! | module | idea |
//! | --- | --- |
//! | [`run`] | a run, wherever it runs: workers, timeline, phases, verdict; pure |
//! | [`report`] | what becomes of a run's measurements; pure but for [`report::files`] |
//! | [`api`] | HTTP between the project's own processes |
//! | [`words`], [`yaml`], [`table`], [`paint`] | figures as people read them; anything as YAML; columns; colours |
//! | [`resource`] | the Fleet as a custom resource and the objects made from it, a file for each part of a fleet; pure |
//! | [`controller`] | observe, plan, apply, status: makes a cluster match its Fleets |
//! | [`key`] | the controller's key, from which tokens and passwords are derived |
//! | [`lease`], [`http`] | who leads, and what the controller tells over HTTP |
//!
//! ```text
//! workers ◄─ api ─► run ─► report ─► json, yaml, text, html, files
//!                    ▲
//!          ┌─────────┴──────────┐
//!   simctl's local run      controller ─► resource ─► Kubernetes
//! ```

pub mod api;
pub mod controller;
pub mod http;
pub mod key;
mod kube_error;
pub mod lease;
pub mod limits;
mod packed;
pub mod paint;
pub mod report;
pub mod resource;
pub mod run;
pub mod table;
pub mod words;
pub mod yaml;

#[cfg(test)]
mod fixture;
