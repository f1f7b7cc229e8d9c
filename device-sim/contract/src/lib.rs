//! What the processes of a fleet agree on, and nothing else: documents, plan, stamp, statistics, a worker's API, names
//! of metrics.
//!
//! Everything here is pure: no clock, no socket, no file, no MQTT and no Kubernetes.
//! A type that only one process needs does not live here.
//!
//! ```text
//! document ─► fleet ─► plan ─► (worker) ─► stats ─► (merge) ─► report
//! ```

pub mod allowed;
pub mod broker_url;
pub mod builtin;
pub mod clock;
pub mod cost;
pub mod document;
pub mod expression;
pub mod fault;
pub mod fleet;
pub mod format;
pub mod glossary;
pub mod lag;
pub mod listen;
pub mod load_test;
pub mod metric;
pub mod model;
pub mod plan;
pub mod process;
pub mod qos;
pub mod series;
pub mod share;
pub mod split;
pub mod stamp;
pub mod stats;
pub mod template;
pub mod threshold;
pub mod time;
pub mod topic_filter;
pub mod units;
pub mod unknown;
pub mod worker;
pub mod worker_api;
