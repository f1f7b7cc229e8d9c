//! A worker: simulated devices, one real MQTT session each.
//!
//! ```text
//! document ─► model ─► signals ─► encode ─► session ─► engine ─► broker ─► observe
//!                                                        ▲
//!                                             worker ─ api, metrics
//!                                                        │
//!                                                     process
//! ```

mod agent;
mod api;
pub mod args;
pub mod blueprint;
pub mod clock;
pub mod credentials;
pub mod encode;
pub mod engine;
mod fault;
pub mod generator;
mod identity;
pub mod index;
pub mod leftovers;
mod link;
pub mod metrics;
pub mod model;
mod observe;
pub mod process;
pub mod random;
mod record;
pub mod rehearsal;
mod reload;
pub mod sample;
pub mod session;
pub mod signal;
pub mod state;
pub mod transport;
pub mod worker;
