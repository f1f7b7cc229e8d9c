//! Real Kubernetes on this machine, from nothing but Go's modules and Debian's packages.
//!
//! | what | needs | for |
//! | --- | --- | --- |
//! | [`ControlPlane`] | root, Go | what the API server, its controllers and the scheduler do; its nodes are fake (KWOK): pods become Ready and run nothing |
//! | [`Cluster`] | that, and containerd | real nodes and real containers, of which a node can die |
//!
//! Both live in [sandboxes](crate::sandbox): no request to a pod's address leaves the machine, and nothing is left when
//! the test has ended. Tests share one of them and work in a [`Namespace`] each.

mod api;
mod authority;
mod build;
mod client;
pub mod cluster;
pub mod containers;
pub mod control_plane;
mod detour;
mod external_metrics;
mod fake_nodes;
pub mod keda;
mod kwok;
mod namespace;
mod node;

pub use api::Api;
pub use build::Tools;
pub use client::{Client, EXISTING};
pub use cluster::Cluster;
pub use control_plane::ControlPlane;
pub use detour::Detour;
pub use external_metrics::ExternalMetrics;
pub use kwok::Kwok;
pub use namespace::Namespace;
pub use node::Cut;

use std::time::Duration;

/// How long anything of a cluster may take that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(2);
