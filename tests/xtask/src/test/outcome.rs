//! What became of a step, and what all steps add up to.

use std::{fmt, fmt::Write, time::Duration};

use crate::cargo::Counts;

/// What became of a step.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It ran; it has passed when none of its tests failed.
    Ran(Counts),
    /// It could not start or not finish.
    Broken(String),
    /// This machine lacks something.
    NotRun { reason: String, in_ci: InCi },
}

/// Whether a step that cannot run fails continuous integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InCi {
    Fails,
    /// Only where another check holds in its stead.
    Passes,
}

impl Outcome {
    /// A step that is one check.
    pub(super) fn of_one(success: bool) -> Outcome {
        let (passed, failed) = if success { (1, 0) } else { (0, 1) };
        Outcome::Ran(Counts { passed, failed, skipped: 0 })
    }

    pub(super) fn broken(error: &anyhow::Error) -> Outcome {
        Outcome::Broken(format!("{error:#}"))
    }

    fn counts(&self, is_ci: bool) -> Counts {
        match self {
            Outcome::Ran(counts) => *counts,
            Outcome::NotRun { in_ci, .. } if !is_ci || *in_ci == InCi::Passes => {
                Counts { skipped: 1, ..Counts::default() }
            }
            Outcome::Broken(_) | Outcome::NotRun { .. } => Counts { failed: 1, ..Counts::default() },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ran(Counts { passed, failed: 0, .. }) => write!(f, "passed ({passed})"),
            Outcome::Ran(Counts { passed, failed, .. }) => {
                write!(f, "FAILED ({failed} of {})", passed + failed)
            }
            Outcome::Broken(reason) => write!(f, "FAILED: {reason}"),
            Outcome::NotRun { reason, .. } => write!(f, "NOT RUN: {reason}"),
        }
    }
}

/// What all steps add up to.
#[derive(Default)]
pub(super) struct Summary {
    rows: Vec<(&'static str, Outcome, Duration)>,
}

impl Summary {
    pub(super) fn add(&mut self, name: &'static str, outcome: Outcome, time: Duration) {
        self.rows.push((name, outcome, time));
    }

    pub(super) fn has_failed(&self, is_ci: bool) -> bool {
        self.counts(is_ci).failed > 0
    }

    /// The table of steps, and alone on the last line the counts.
    pub(super) fn render(&self, is_ci: bool, seed: u64) -> String {
        let mut text = String::from("\n");
        let mut line = |arguments: fmt::Arguments<'_>| {
            writeln!(text, "{arguments}").expect("a String takes everything that is written to it");
        };
        for (name, outcome, time) in &self.rows {
            line(format_args!("{name:13} {:>7.1} s  {outcome}", time.as_secs_f64()));
        }
        let Counts { passed, failed, skipped } = self.counts(is_ci);
        if failed > 0 {
            line(format_args!(
                "to start property tests from the same values: PROPTEST_RNG_SEED={seed} cargo xtask test"
            ));
        }
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        line(format_args!("{passed} passed, {failed} failed{skipped}"));
        text
    }

    fn counts(&self, is_ci: bool) -> Counts {
        let mut sum = Counts::default();
        for (_, outcome, _) in &self.rows {
            sum.add(outcome.counts(is_ci));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(outcome: Outcome) -> Summary {
        let mut summary = Summary::default();
        summary.add("fmt", Outcome::of_one(true), Duration::from_millis(1_500));
        summary.add("next", outcome, Duration::ZERO);
        summary
    }

    #[test]
    fn what_is_not_run_fails_continuous_integration_only() {
        let reason = "needs Mosquitto, because there is none".to_owned();
        let summary = summary(Outcome::NotRun { reason, in_ci: InCi::Fails });
        assert!(!summary.has_failed(false) && summary.has_failed(true));
        assert!(summary.render(true, 7).ends_with("\n1 passed, 1 failed\n"));
        assert_eq!(
            summary.render(false, 7),
            "\nfmt               1.5 s  passed (1)\nnext              0.0 s  NOT RUN: needs Mosquitto, because there is \
             none\n1 passed, 0 failed, 1 skipped\n"
        );
    }

    #[test]
    fn a_broken_step_fails_and_the_seed_is_told() {
        let text = summary(Outcome::Broken("no cargo".to_owned())).render(false, 7);
        assert!(text.contains("FAILED: no cargo\n") && text.contains("PROPTEST_RNG_SEED=7 "), "{text}");
        assert!(text.ends_with("\n1 passed, 1 failed\n"), "{text}");
    }
}
