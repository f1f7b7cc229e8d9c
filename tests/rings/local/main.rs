//! The local ring: `simctl` with real sockets and real faults, and nothing but this machine.
//!
//! `cargo xtask test local` runs it with optimized binaries. A failed claim shows the report and the seed that repeats
//! the run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod acts;
mod addresses;
mod adversary;
mod binaries;
mod documents;
mod faults;
mod fleet;
mod links;
mod load;
mod load_tests;
mod outages;
mod pages;
mod phases;
mod refusals;
mod report_files;
mod run;
mod sample;
mod scale;
mod second_terminal;
mod signals;
mod wills;
mod workers;

use std::{fs, time::Duration};

use serde_json::Value;
use tests::project;

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What programs read is as the committed schema of its kind says.
#[track_caller]
fn check_schema(kind: &str, output: &Value) {
    let path = project::root().join(format!("manifests/schema/{kind}.json"));
    let schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(output).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "against {}: {errors:?}", path.display());
}
