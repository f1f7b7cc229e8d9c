//! The figures as tables of one Markdown page.

use std::{env, time::Duration};

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// At most this times the peer's.
    RatioAtMost(f64),
}

/// A figure of ours.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// What was measured, with the unit.
    pub(super) what: String,
    /// As people read it.
    pub(super) ours: String,
    /// What it is compared with; empty where there is nothing.
    pub(super) beside: String,
    /// What the target is held against: the figure itself, or its ratio to the other.
    pub(super) value: f64,
    /// `None` for a figure that is only told.
    pub(super) target: Option<Target>,
}

/// A table whose rows hold no target.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
    /// What is to be known beside the rows.
    pub(super) notes: Vec<String>,
}

/// Everything that was measured.
pub(super) struct Report {
    conditions: Vec<String>,
    figures: Vec<Figure>,
    tables: Vec<Table>,
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtMost(most) | Target::RatioAtMost(most) => value <= most,
            Target::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(most) => format!("≤ {most}"),
            Target::AtLeast(least) => format!("≥ {}", thousands(least)),
            Target::RatioAtMost(most) => format!("≤ {most} ×"),
        }
    }
}

impl Figure {
    /// The columns beside, target and mark.
    fn columns(&self) -> [String; 3] {
        let Figure { what: _, ours: _, beside, value, target } = self;
        let beside = match target {
            Some(Target::RatioAtMost(_)) => format!("{beside}, {value:.2} ×"),
            _ => beside.clone(),
        };
        let mark = target.map(|target| if target.is_met(*value) { "met" } else { "missed" });
        [beside, target.map(Target::text).unwrap_or_default(), mark.unwrap_or_default().to_owned()]
    }
}

impl Report {
    pub(super) fn new(conditions: Vec<String>) -> Report {
        Report { conditions, figures: Vec::new(), tables: Vec::new(), notes: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    pub(super) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Says what was left out, and why.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says what could not be measured.
    pub(super) fn failed(&mut self, text: impl Into<String>) {
        self.failures.push(text.into());
    }

    /// Whether everything was measured and no figure is worse than its target, or none at all.
    pub(super) fn has_passed(&self) -> bool {
        let is_met = |figure: &Figure| figure.target.is_none_or(|target| target.is_met(figure.value));
        self.failures.is_empty() && self.figures.iter().all(is_met)
    }

    /// The page; `load_average` is that of the end, `took` the time of all measurements.
    pub(super) fn render(&self, load_average: &str, took: Duration) -> String {
        let command = env::args().skip(1).collect::<Vec<_>>().join(" ");
        let mut lines = vec![
            "# What the generator costs".to_owned(),
            String::new(),
            format!("`cargo xtask {command}` has written this page, in {} minutes.", took.as_secs().div_ceil(60)),
            "Costs are CPU seconds per million messages, user + system, as the kernel counts them over all processes of \
             the generator; medians of the rounds."
                .to_owned(),
            "Messages have 200 bytes, made by a model unless they are called constant; MQTT 3.1.1 over TCP on loopback, \
             against a sink that only acknowledges."
                .to_owned(),
            String::new(),
        ];
        lines.extend(self.conditions.iter().map(|condition| format!("- {condition}")));
        lines.push(format!("- load average at the end {load_average}"));
        if !self.figures.is_empty() {
            let row = |figure: &Figure| {
                let [beside, target, mark] = figure.columns();
                vec![figure.what.clone(), figure.ours.clone(), beside, target, mark]
            };
            let rows: Vec<_> = self.figures.iter().map(row).collect();
            lines.push(String::new());
            lines.extend(markdown(&["what", "simctl", "beside", "target", ""], &rows));
        }
        for Table { title, columns, rows, notes } in &self.tables {
            lines.extend([String::new(), format!("## {title}"), String::new()]);
            lines.extend(markdown(columns, rows));
            lines.extend(list(notes));
        }
        lines.extend(list(&self.notes));
        lines.extend(list(&self.failures));
        lines.join("\n") + "\n"
    }
}

fn markdown(columns: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut lines =
        vec![format!("| {} |", columns.join(" | ")), format!("| {} |", vec!["---"; columns.len()].join(" | "))];
    lines.extend(rows.iter().map(|row| format!("| {} |", row.join(" | "))));
    lines
}

/// As a list after a blank line, nothing where there is nothing to say.
fn list(notes: &[String]) -> Vec<String> {
    let blank = (!notes.is_empty()).then(String::new);
    blank.into_iter().chain(notes.iter().map(|note| format!("- {note}"))).collect()
}

/// An error's text without the frame around what a program printed, as an entry of a list.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("---"));
    lines.collect::<Vec<_>>().join("; ")
}

/// A whole number with commas: `1,500,000`.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(target: Target, value: f64) -> Report {
        let mut report = Report::new(vec!["2 cores".to_owned()]);
        report.figure(Figure {
            what: "w".to_owned(),
            ours: "7".to_owned(),
            beside: "10".to_owned(),
            value,
            target: Some(target),
        });
        report
    }

    #[track_caller]
    fn check(target: Target, value: f64, passes: bool, row: &str) {
        let report = report(target, value);
        let page = report.render("0.1 0.2 0.3", Duration::from_secs(61));
        assert_eq!(report.has_passed(), passes);
        assert!(page.contains(&format!("\n{row}\n")), "{page}");
    }

    #[test]
    fn a_figure_is_held_against_its_target() {
        check(Target::RatioAtMost(0.7), 0.7, true, "| w | 7 | 10, 0.70 × | ≤ 0.7 × | met |");
        check(Target::AtMost(2.0), 2.1, false, "| w | 7 | 10 | ≤ 2 | missed |");
        check(Target::AtLeast(20_000.0), 20_000.0, true, "| w | 7 | 10 | ≥ 20,000 | met |");
    }

    #[test]
    fn no_number_is_a_missed_target() {
        check(Target::AtMost(2.0), f64::NAN, false, "| w | 7 | 10 | ≤ 2 | missed |");
        check(Target::AtLeast(2.0), f64::NAN, false, "| w | 7 | 10 | ≥ 2 | missed |");
    }

    #[test]
    fn what_could_not_be_measured_is_told_and_fails() {
        let mut report = report(Target::AtMost(9.0), 7.0);
        assert!(report.has_passed());
        report.failed("Large was not measured: no such thing");
        assert!(!report.has_passed());
        assert!(report.render("0", Duration::ZERO).ends_with("\n\n- Large was not measured: no such thing\n"));
    }

    #[test]
    fn a_note_is_one_line() {
        assert_eq!(one_line("a: has ended\n--- stdout ends\n\n--- stderr ends\nwhy\n"), "a: has ended; why");
    }

    #[test]
    fn whole_numbers_have_commas() {
        let texts = [0.0, 999.4, 1_000.0, 2_780_000.0].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "2,780,000"]);
    }
}
