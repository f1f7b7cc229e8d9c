//! The report as JSON: `-o json` and the file `report.json`.

use super::{
    Report,
    format::{File, Format},
};

/// The format of [`render`].
pub(super) struct Json;

impl Format for Json {
    const FILES: &'static [File] = &[File { name: "report.json", content: |of| render(of.report) }];
}

/// The report, indented, with a line feed at its end.
pub fn render(report: &Report) -> String {
    format!("{:#}\n", serde_json::json!(report))
}
