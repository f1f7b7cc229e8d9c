//! The figures as one Markdown table.

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    kind: Kind,
    found: f64,
    most: f64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The figure itself.
    Value,
    /// Ours divided by the peer's.
    Ratio,
}

pub(super) struct Row {
    pub(super) what: String,
    pub(super) ours: String,
    /// Empty where there is nobody to compare with.
    pub(super) peer: String,
    pub(super) target: Option<Target>,
}

pub(super) struct Table {
    conditions: Vec<String>,
    rows: Vec<Row>,
}

impl Target {
    pub(super) fn at_most(found: f64, most: f64) -> Target {
        Target { kind: Kind::Value, found, most }
    }

    pub(super) fn ratio_at_most(found: f64, most: f64) -> Target {
        Target { kind: Kind::Ratio, found, most }
    }

    fn is_met(self) -> bool {
        self.found <= self.most
    }

    /// The columns ratio, target and mark.
    fn columns(self) -> [String; 3] {
        let mark = if self.is_met() { "✓" } else { "✗" }.to_owned();
        match self.kind {
            Kind::Value => [String::new(), format!("≤ {}", self.most), mark],
            Kind::Ratio => [format!("{:.2}", self.found), format!("≤ {} ×", self.most), mark],
        }
    }
}

impl Table {
    pub(super) fn new(conditions: Vec<String>) -> Table {
        Table { conditions, rows: Vec::new() }
    }

    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether a figure is worse than its target, or none at all.
    pub(super) fn has_missed(&self) -> bool {
        self.rows.iter().filter_map(|row| row.target).any(|target| !target.is_met())
    }

    /// The table and under what it was measured; `load_average` is that of the end.
    pub(super) fn render(&self, load_average: &str) -> String {
        let mut lines = vec![
            String::new(),
            "| what | native | rumqttc | ratio | target | |".to_owned(),
            "| --- | --- | --- | --- | --- | --- |".to_owned(),
        ];
        for Row { what, ours, peer, target } in &self.rows {
            let [ratio, target, mark] = target.map(Target::columns).unwrap_or_default();
            lines.push(format!("| {what} | {ours} | {peer} | {ratio} | {target} | {mark} |"));
        }
        lines.push(String::new());
        lines.push("`cargo xtask bench`, medians:".to_owned());
        lines.extend(self.conditions.iter().map(|condition| format!("- {condition}")));
        lines.push(format!("- load average at the end {load_average}"));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(target: Target) -> Table {
        let mut table = Table::new(vec!["2 cores".to_owned()]);
        let row = Row { what: "w".to_owned(), ours: "7".to_owned(), peer: "10".to_owned(), target: Some(target) };
        table.push(row);
        table
    }

    #[test]
    fn a_ratio_within_its_target_is_met() {
        let table = table(Target::ratio_at_most(0.7, 0.7));
        assert!(!table.has_missed());
        assert_eq!(
            table.render("0.1 0.2 0.3"),
            "\n| what | native | rumqttc | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n\
             | w | 7 | 10 | 0.70 | ≤ 0.7 × | ✓ |\n\n`cargo xtask bench`, medians:\n- 2 cores\n\
             - load average at the end 0.1 0.2 0.3\n"
        );
    }

    #[test]
    fn what_is_above_its_target_or_no_number_is_missed() {
        assert!(table(Target::at_most(2.1, 2.0)).has_missed());
        assert!(table(Target::at_most(f64::NAN, 2.0)).render("").contains("| ≤ 2 | ✗ |"));
    }
}
