//! The report as JSON: `-o json` and the file `report.json`.

use super::Report;

/// The report, indented, with a line feed at its end.
pub fn render(report: &Report) -> String {
    format!("{:#}\n", serde_json::json!(report))
}
