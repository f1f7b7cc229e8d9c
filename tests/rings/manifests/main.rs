//! The manifests ring: what is shipped beside the programs, read by the tools that it is made for.
//!
//! Helm renders the chart, Prometheus runs the dashboards' queries and the alerts, the workers read the files of
//! the Compose setup. `cargo xtask test manifests` runs it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod admission;
mod alerts;
mod chart;
mod panels;
