//! The controller: makes the cluster match the Fleets.
//!
//! ```text
//! watches ─► observe ─► plan (pure) ─► apply ─► status
//!                          │
//!                          └─► push to workers ◄─► pull of statistics ─► totals, report, status
//! ```
//!
//! | module | idea |
//! | --- | --- |
//! | [`document`] | from a Fleet to the document that workers run |
//! | [`observe`] | what there is |
//! | [`plan`] | what is to be done; pure |
//! | [`apply`] | does it |
//! | [`object`], [`quantity`] | an object of any kind, and whether it differs from what it should be; pure |
//! | [`refusal`], [`diagnosis`], [`shortage`] | why a write is refused, why a pod does not run, whether devices are missing; pure |
//! | [`key`], [`tokens`] | where the controller's key is kept; what workers want to be shown |
//! | [`status`], [`conditions`], [`reason`] | what people are told; pure |
//! | [`note`], [`events`] | what people are told about changes, and how |
//! | [`fleet`] | one task owns everything that is known of one fleet |
//! | [`load_test`] | the life of a load test; pure |
//! | [`query`] | answers to those who may ask for a fleet's figures |
//! | [`run`] | the watched stores, and who is asked to look at what |
//! | `watch` | what happens to the objects of one kind |

pub mod apply;
pub mod conditions;
pub mod diagnosis;
pub mod document;
pub mod error;
pub mod events;
pub mod fleet;
pub mod key;
pub mod load_test;
pub mod metrics;
pub mod note;
pub mod object;
pub mod observe;
pub mod plan;
pub mod quantity;
pub mod query;
pub mod reason;
pub mod refusal;
pub mod run;
pub mod shortage;
pub mod status;
pub mod tokens;
pub mod turn;
mod watch;

pub use error::Error;
pub use fleet::{Guard, Request};
pub use run::Settings;
