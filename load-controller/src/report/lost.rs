//! The messages that were lost, as far as they are known by name: the file `lost.jsonl`, one JSON object a line.

use fleet_contract::stats::Stats;

use super::{
    LostInReport,
    format::{File, Format},
};

/// The format of [`render`].
pub(super) struct Lost;

impl Format for Lost {
    const FILES: &'static [File] = &[File { name: "lost.jsonl", content: |of| render(of.stats) }];
}

/// A line for each message.
fn render(stats: &Stats) -> String {
    let line = |message| serde_json::to_string(&LostInReport::new(message)).expect("numbers and strings") + "\n";
    stats.lost.iter().map(line).collect()
}
