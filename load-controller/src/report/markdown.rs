//! The report as Markdown: the file `report.md`, for the summary of a pipeline or the comment on a change.

use std::fmt::Write as _;

use fleet_contract::series::{DELIVERED, LOST, OFFERED, SENT};

use super::{
    Report,
    format::{File, Format},
    text,
};
use crate::{run::threshold::Outcome, words};

/// The format of [`render`].
pub(super) struct Markdown;

impl Format for Markdown {
    const FILES: &'static [File] = &[File { name: "report.md", content: |of| render(of.report) }];
}

/// The verdict, thresholds, phases and the figures that are looked for first.
pub fn render(report: &Report) -> String {
    let manifest = &report.manifest;
    let mut page = format!(
        "## {} {}: {}\n\nRun {} of {}, broker {}, {} for {}.\n",
        mark(report),
        escape(manifest.load_test.as_ref().unwrap_or(&manifest.fleet)),
        report.verdict,
        manifest.run,
        manifest.started,
        escape(&manifest.broker),
        words::devices(report.devices.desired),
        words::time(report.elapsed_seconds)
    );
    // Writing to a string cannot fail.
    for reason in &report.reasons {
        let _ = writeln!(page, "\n- **{}**: {}", reason.name, escape(&reason.message));
    }
    if !report.thresholds.is_empty() {
        page.push_str("\n| threshold | found | |\n| --- | ---: | --- |\n");
        for threshold in &report.thresholds {
            let outcome = match threshold.outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "**failed**",
                Outcome::Pending => "pending",
            };
            let (expect, place) = (&threshold.expect, escape(&threshold.place()));
            let name = format!("`{expect}` {place}");
            let _ = writeln!(page, "| {} | {} | {outcome} |", name.trim_end(), escape(threshold.shown()));
        }
    }
    let row = |name: &str, counts: &super::Counts, latency: &super::Times| {
        let count =
            |counter: fleet_contract::series::Counter| counts.get(&counter).map_or_else(|| "–".into(), words::count);
        let summary = latency.of(&report.shown_latency());
        let [p50, p99] = [summary.p50, summary.p99].map(text::shown_time);
        let counts = [OFFERED, SENT, DELIVERED, LOST].map(count).join(" | ");
        format!("| {} | {counts} | {p50} | {p99} |\n", escape(name))
    };
    let title = report.shown_latency().title;
    let _ = write!(
        page,
        "\n| | offered | sent | delivered | lost | {title} p50 | p99 |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for phase in &report.phases {
        page.push_str(&row(&phase.name, &phase.counts, &phase.latency));
    }
    page.push_str(&row("whole run", &report.messages.all, &report.latency));
    page.push_str(&table(&text::FAULT, report.faults.iter().map(text::fault)));
    page.push_str(&table(&text::MODEL_FAULT, report.model_faults.iter().map(text::model_fault)));
    if let Some(found) = &report.offline_detection {
        page.push_str(&table(&text::WILLS, report.detections().map(|(name, found)| text::wills_of(name, found))));
        if let Some(line) = text::wills_beside(found) {
            let _ = writeln!(page, "\n{line}.");
        }
    }
    page.push_str(&table(&text::EVENT, report.events.iter().map(text::event)));
    for note in &report.notes {
        let _ = writeln!(page, "\n> {}", escape(note));
    }
    page
}

/// Rows of figures behind a name; nothing without any.
fn table<const N: usize>(names: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: String = rows.map(|cells| format!("| {} |\n", cells.map(|cell| escape(&cell)).join(" | "))).collect();
    if rows.is_empty() {
        return rows;
    }
    format!("\n| {} |\n| --- |{}\n{rows}", names.join(" | "), " ---: |".repeat(N - 1))
}

const fn mark(report: &Report) -> &'static str {
    use crate::run::verdict::Verdict::{Aborted, Failed, Invalid, Passed, Pending};
    match report.verdict {
        Passed => "✅",
        Failed => "❌",
        Invalid | Aborted => "⚠️",
        Pending => "⏳",
    }
}

/// Text that stays text in a cell of a table.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(if c.is_control() { ' ' } else { c });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{facts, stats_of};

    #[test]
    fn a_page_has_verdict_thresholds_and_figures() {
        let mut facts = facts();
        facts.asked.thresholds =
            serde_saphyr::from_str("[lost == 0, {expect: 'end_to_end.p99 < 1ms', group: all}]").unwrap();
        insta::assert_snapshot!(render(&Report::new(&stats_of(50), &facts)), @r##"
        ## ✅ demo: passed

        Run 7f3a21c0 of 2026-03-01T12:00:00.000000Z, broker mqtt://127.0.0.1:1883, 100 devices for 30.0 s.

        | threshold | found | |
        | --- | ---: | --- |
        | `lost == 0` | 0 | passed |
        | `end_to_end.p99 < 1ms` in group all | 949 µs (of 50) | passed |

        | | offered | sent | delivered | lost | end to end p50 | p99 |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: |
        | whole run | 50 | 50 | 50 | 0 | 924 µs | 949 µs |
        "##);
    }
}
