//! The report as `JUnit` XML: the file `junit.xml`, which pipelines show test by test.
//!
//! One suite; its first case is the run itself, which fails by its verdict, and each threshold is a case of its own
//! (<https://github.com/testmoapp/junitxml>). What could not be judged is an error, as in other tools.

use std::fmt::Write as _;

use maud::Escaper;

use super::{
    Report, ThresholdFigures,
    format::{File, Format},
};
use crate::run::{
    threshold::Outcome,
    verdict::{Rule, Verdict},
};

/// How a case has ended that did not pass: its element, its type and its message.
type Ending<'a> = (&'static str, &'a str, String);

/// The format of [`render`].
pub(super) struct Junit;

impl Format for Junit {
    const FILES: &'static [File] = &[File { name: "junit.xml", content: |of| render(of.report) }];
}

/// The report as a suite of tests.
pub fn render(report: &Report) -> String {
    let seconds = report.elapsed_seconds;
    let fleet = report.manifest.load_test.as_ref().unwrap_or(&report.manifest.fleet);
    let mut cases = vec![("run".to_owned(), of_run(report))];
    cases.extend(report.thresholds.iter().map(|threshold| (threshold.name(), of_threshold(threshold))));
    let with = |element: &str| cases.iter().filter(|(_, end)| end.as_ref().is_some_and(|end| end.0 == element)).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\"",
        cases.len(),
        with("failure"),
        with("error"),
        with("skipped")
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"simctl\" {counts}>\n  <testsuite name=\"{}\" {counts} \
         timestamp=\"{}\">\n",
        escape(fleet),
        escape(&report.manifest.started)
    );
    for (name, end) in &cases {
        let head =
            format!("    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"", escape(fleet), escape(name));
        // Writing to a string cannot fail.
        let _ = match end {
            None => writeln!(xml, "{head}/>"),
            Some(("skipped", _, message)) => {
                writeln!(xml, "{head}>\n      <skipped message=\"{}\"/>\n    </testcase>", escape(message))
            }
            Some((element, kind, message)) => {
                let first = message.lines().next().unwrap_or_default();
                writeln!(
                    xml,
                    "{head}>\n      <{element} type=\"{kind}\" message=\"{}\">{}</{element}>\n    </testcase>",
                    escape(first),
                    escape(message)
                )
            }
        };
    }
    xml + "  </testsuite>\n</testsuites>\n"
}

/// How the run itself has ended: by all reasons but those that are cases of their own.
fn of_run(report: &Report) -> Option<Ending<'_>> {
    let reasons = report.reasons.iter().filter(|reason| reason.name != Rule::Threshold);
    let reasons = reasons.map(ToString::to_string).collect::<Vec<_>>();
    let message = || reasons.join("\n");
    match report.verdict {
        Verdict::Invalid | Verdict::Aborted => Some(("error", report.verdict.into(), message())),
        Verdict::Pending => Some(("skipped", "pending", "the run goes on".into())),
        Verdict::Failed if !reasons.is_empty() => Some(("failure", "failed", message())),
        Verdict::Failed | Verdict::Passed => None,
    }
}

fn of_threshold(threshold: &ThresholdFigures) -> Option<Ending<'_>> {
    match threshold.outcome {
        Outcome::Passed => None,
        Outcome::Failed => Some(("failure", "threshold", threshold.message.clone())),
        Outcome::Pending => Some(("skipped", "pending", threshold.message.clone())),
    }
}

/// Text as XML takes it: control characters are no part of any document (XML 1.0, 2.2).
fn escape(text: &str) -> String {
    let is_allowed = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let mut escaped = String::with_capacity(text.len());
    // Writing to a string cannot fail.
    let _ = Escaper::new(&mut escaped).write_str(&text.chars().filter(is_allowed).collect::<String>());
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{facts, stats_of},
        run::{facts::RunFacts, stage::Stage},
    };

    fn facts_with(thresholds: &str) -> RunFacts {
        let mut facts = facts();
        facts.asked.thresholds = serde_saphyr::from_str(thresholds).unwrap();
        facts
    }

    #[test]
    fn each_threshold_is_a_case() {
        let facts =
            facts_with("[lost == 0, {expect: 'end_to_end.p99 < 1ms', group: all}, {expect: sent > 9, group: '<a&b>'}]");
        insta::assert_snapshot!(render(&Report::new(&stats_of(50), &facts)), @r##"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="simctl" tests="4" failures="1" errors="0" skipped="0" time="30.000">
          <testsuite name="demo" tests="4" failures="1" errors="0" skipped="0" time="30.000" timestamp="2026-03-01T12:00:00.000000Z">
            <testcase classname="demo" name="run" time="30.000"/>
            <testcase classname="demo" name="lost == 0" time="30.000"/>
            <testcase classname="demo" name="end_to_end.p99 &lt; 1ms in group all" time="30.000"/>
            <testcase classname="demo" name="sent &gt; 9 in group &lt;a&amp;b&gt;" time="30.000">
              <failure type="threshold" message="expected sent &gt; 9 in group &lt;a&amp;b&gt;, found nothing measured">expected sent &gt; 9 in group &lt;a&amp;b&gt;, found nothing measured</failure>
            </testcase>
          </testsuite>
        </testsuites>
        "##);
    }

    #[test]
    fn a_run_that_is_invalid_is_an_error_and_one_that_goes_on_has_no_result() {
        let mut stats = stats_of(50);
        stats.generator.overdue = 40;
        let invalid = render(&Report::new(&stats, &facts_with("[lost == 0]")));
        assert!(invalid.contains("tests=\"2\" failures=\"0\" errors=\"1\" skipped=\"0\""), "{invalid}");
        assert!(invalid.contains("<error type=\"invalid\" message=\"schedule_lag: expected 99 % of"), "{invalid}");
        let running = RunFacts { stage: Stage::Running, ..facts_with("[lost == 0]") };
        let running = render(&Report::new(&stats_of(50), &running));
        assert!(running.contains("tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"2\""), "{running}");
    }
}
