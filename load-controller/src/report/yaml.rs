//! The report as YAML: the same value as JSON, for people who prefer it.

use super::Report;

/// The report, with a line feed at its end.
///
/// # Panics
/// Never: a report has string keys, so that the writer has nothing to refuse.
pub fn render(report: &Report) -> String {
    serde_saphyr::to_string(report).expect("a report has string keys")
}
