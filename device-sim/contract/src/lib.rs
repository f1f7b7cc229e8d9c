//! What the processes of a fleet agree on, and nothing else: documents, plan, stamp, statistics, names of metrics.
//!
//! Everything here is pure: no clock, no socket, no file, no MQTT and no Kubernetes.
//! A type that only one process needs does not live here.
//!
//! ```text
//! document ─► fleet ─► plan ─► (worker) ─► stats ─► (merge) ─► report
//! ```

pub mod time;
pub mod units;
