//! The custom resources Fleet, LoadTest and FleetQuery, and the objects that a fleet consists of.
//!
//! Each builder is pure and sets every field that is its own and no other.
//!
//! | object | name | what it is for |
//! | --- | --- | --- |
//! | [`stateful_set`], [`pod`] | `X` | the workers: pod n runs shard n |
//! | [`service`] | `X` | their names in DNS |
//! | [`config_map`] | `X-HASH`, `X-plan`, `X-totals`, `X-phase-0` … | what devices are, what they do, what ended epochs measured |
//! | [`secret`] | `X-secrets` | the token of the workers' API, and the passwords at a broker of its own |
//! | [`pod_disruption_budget`], [`network_policy`] | `X` | one pod's share at a time; one port |
//! | [`broker`] | `X-broker` | the broker of a fleet that names none |
//! | [`config_map`] | `T-load-test`, `T-report-0` … | what a load test has measured so far, and its report |
//! | [`job`] | `T-hook-0` … | a command of a load test's author |

pub mod broker;
pub mod config_map;
pub mod crd;
pub mod fleet;
pub mod fleet_query;
pub mod job;
pub mod load_test;
pub mod names;
pub mod network_policy;
pub mod owner;
pub mod pod;
pub mod pod_disruption_budget;
pub mod rbac;
pub mod secret;
pub mod service;
pub mod size;
mod spec;
pub mod stateful_set;
mod structural;

pub use fleet::{Fleet, FleetStatus};
pub use fleet_query::FleetQuery;
pub use load_test::{LoadTest, LoadTestStatus};
pub use owner::Owner;
pub use size::Size;
pub use spec::Spec;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
