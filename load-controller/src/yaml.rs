//! Anything as YAML, by way of a value of JSON: the writer is then compiled once, and not for each type within it.

use serde::Serialize;

/// The text of `value`, with a line feed at its end.
///
/// # Errors
/// For a map whose keys are no strings.
pub fn text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(value)?;
    Ok(serde_saphyr::to_string(&value).expect("a value of JSON is one of YAML"))
}
