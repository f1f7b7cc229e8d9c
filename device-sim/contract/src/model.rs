//! What a device is: its signals, and the streams of messages made from them.
//!
//! ```yaml
//! description: A room's thermometer
//! signals:
//!   temperature: {kind: ornsteinUhlenbeck, mean: 21, stddev: 1.5, relaxation: 10m, range: [-40, 85], unit: celsius}
//! streams:
//!   state: {topic: "{fleet}/{index}/state", interval: 10s, payload: {json: {temperature: "{temperature}"}}}
//! ```
//!
//! The types here are the document as written; [`check`] finds what a schema cannot.
//! Workers compile it before they send anything.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod bounds;
mod check;
pub mod fault;
mod levels;
pub mod payload;
pub mod signal;
pub mod stream;
mod types;

pub use crate::{document::Problem, qos::Qos};
pub use check::{BODY_MAX, EXACT_MAX, check, check_overrides};
pub use fault::StreamFault;
pub use levels::step_of;
pub use payload::Payload;
pub use signal::Signal;
pub use stream::{MessageProperties, Rule, StampMode, Stream, StreamOverride};
pub use types::types;

/// Contents of the files that models name, by that name; whoever reads a document reads them too.
pub type Files = BTreeMap<String, String>;

/// What a device is and sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The values that evolve over time, by name; a name is letters, digits and `_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Signal>,
    /// The series of messages, by name.
    pub streams: BTreeMap<String, Stream>,
}

impl Model {
    /// The names of the files that the caller has to read before the model can be compiled.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.signals.values().filter_map(|signal| match signal {
            Signal::Replay(replay) => replay.file.as_deref(),
            Signal::Constant(_)
            | Signal::Uniform(_)
            | Signal::Gaussian(_)
            | Signal::RandomWalk(_)
            | Signal::OrnsteinUhlenbeck(_)
            | Signal::Noise(_)
            | Signal::Sine(_)
            | Signal::Diurnal(_)
            | Signal::Step(_)
            | Signal::Markov(_)
            | Signal::Counter(_)
            | Signal::Integrator(_)
            | Signal::Derived(_)
            | Signal::Route(_) => None,
        })
    }
}

/// `skip_serializing_if` for flags that are off unless written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}
