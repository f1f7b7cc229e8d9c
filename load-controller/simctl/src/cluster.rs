//! Fleets of a cluster: how simctl speaks to Kubernetes, as kubectl does.
//!
//! Whatever happens here to a fleet, `kubectl` can do too: the API server is asked, and the load controller follows.

pub(crate) mod capacity;
pub(crate) mod client;
pub(crate) mod fleets;
pub(crate) mod grafana;
pub(crate) mod helm;
pub(crate) mod hindrance;
pub(crate) mod kinds;
pub(crate) mod live;
pub(crate) mod load_tests;
pub(crate) mod manifest;
pub(crate) mod objects;
pub(crate) mod ownership;
mod quantity;
pub(crate) mod question;
pub(crate) mod revision;
pub(crate) mod settle;
pub(crate) mod show;
pub(crate) mod table;
pub(crate) mod target;

/// Who owns the fields that simctl writes.
pub(crate) const FIELD_MANAGER: &str = "simctl";
