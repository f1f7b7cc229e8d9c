//! A report as a test reads it: figures by their path, and claims that show the report when they do not hold.
#![expect(clippy::panic, clippy::missing_panics_doc, reason = "a claim that does not hold fails its test")]

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::simctl::Finished;

/// What `simctl run -o json` and `simctl status -o json` print.
#[derive(Clone, Debug)]
pub struct Report(Value);

impl Report {
    /// The report that a call printed.
    ///
    /// # Errors
    /// When it printed no JSON; the message shows all that it printed.
    pub fn of(finished: &Finished) -> Result<Report> {
        finished.json().map(Report)
    }

    /// What stands at `path`, keys joined by dots: `messages.sent`.
    ///
    /// # Errors
    /// When nothing does.
    pub fn get(&self, path: &str) -> Result<&Value> {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.0.pointer(&pointer).with_context(|| format!("there is no {path} in {self}"))
    }

    /// The count at `path`; one that is missing or `null` fails the test.
    #[track_caller]
    pub fn count(&self, path: &str) -> u64 {
        let count = self.get(path).ok().and_then(Value::as_u64);
        count.unwrap_or_else(|| panic!("expected a count at {path} of {self}"))
    }

    /// The time in seconds at `path`; one that is missing or `null` fails the test.
    #[track_caller]
    pub fn seconds(&self, path: &str) -> f64 {
        let seconds = self.get(path).ok().and_then(Value::as_f64);
        seconds.unwrap_or_else(|| panic!("expected seconds at {path} of {self}"))
    }

    /// The text at `path`; one that is missing is empty.
    pub fn text(&self, path: &str) -> &str {
        self.get(path).ok().and_then(Value::as_str).unwrap_or_default()
    }

    /// The entries of the list at `path`, none when there is no list.
    pub fn list(&self, path: &str) -> &[Value] {
        self.get(path).ok().and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The sum of the counts by name at `path`, such as `connections.lost`.
    pub fn sum(&self, path: &str) -> u64 {
        let counts = self.get(path).ok().and_then(Value::as_object);
        counts.map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum())
    }

    /// Whether one of the reasons of the verdict has this name.
    pub fn has_reason(&self, name: &str) -> bool {
        self.list("reasons").iter().any(|reason| reason["name"] == name)
    }

    /// Fails the test unless `expected` stands at `path`.
    #[track_caller]
    pub fn expect(&self, path: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        let found = self.get(path).unwrap_or(&Value::Null);
        assert!(*found == expected, "expected {path} to be {expected}, found {found} in {self}");
    }

    /// Fails the test unless the claim holds.
    #[track_caller]
    pub fn claim(&self, claim: &str, holds: bool) {
        assert!(holds, "expected that {claim}, found {self}");
    }

    /// Fails the test unless the counters of messages add up, altogether and at each quality of service.
    ///
    /// offered = sent + withheld, sent = observed + unobserved, observed = delivered + lost + unknown + in flight.
    #[track_caller]
    pub fn expect_conservation(&self) {
        for part in ["messages", "messages.by_qos.0", "messages.by_qos.1", "messages.by_qos.2"] {
            let count = |name: &str| self.count(&format!("{part}.{name}"));
            self.claim(
                &format!("offered = sent + withheld in {part}"),
                count("offered") == count("sent") + count("withheld"),
            );
            self.claim(
                &format!("sent = observed + unobserved in {part}"),
                count("sent") == count("observed") + count("unobserved"),
            );
            let judged = count("delivered") + count("lost") + count("unknown");
            self.claim(
                &format!("observed = delivered + lost + unknown + in flight in {part}"),
                count("observed") == judged + count("in_flight"),
            );
        }
    }

    /// Fails the test unless everything that was sent and observed arrived, once and in order.
    #[track_caller]
    pub fn expect_all_delivered(&self) {
        self.expect_all_delivered_but(0);
    }

    /// The same where so many messages are unknown.
    #[track_caller]
    pub fn expect_all_delivered_but(&self, unknown: u64) {
        self.expect_conservation();
        for (name, expected) in [("lost", 0), ("unknown", unknown), ("in_flight", 0), ("late", 0), ("reordered", 0)] {
            self.expect(&format!("messages.{name}"), expected);
        }
        let messages = |name: &str| self.count(&format!("messages.{name}"));
        self.claim("there were messages", messages("delivered") > 0);
        let judged = messages("delivered") + unknown + messages("unobserved");
        self.claim("delivered + unknown + unobserved = sent", judged == messages("sent"));
    }
}

/// Without what is long; with the seed and the command that repeat the run.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut short = self.0.clone();
        if let Some(report) = short.as_object_mut() {
            report.shift_remove("timeline");
            report.shift_remove("lost_messages");
        }
        write!(f, "the report of seed {}:\n{short:#}", self.0["manifest"]["seed"])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let counts = json!({
            "offered": 3, "withheld": 1, "sent": 2, "observed": 2, "unobserved": 0,
            "delivered": 1, "lost": 0, "unknown": 0, "in_flight": 1,
        });
        let mut messages = counts.clone();
        messages["by_qos"] = json!([counts, counts, counts]);
        Report(json!({"messages": messages, "reasons": [{"name": "lost"}], "manifest": {"seed": 7}, "timeline": [1]}))
    }

    #[test]
    fn figures_are_found_by_their_path() {
        assert_eq!(report().count("messages.by_qos.1.sent"), 2);
        assert!(report().has_reason("lost") && !report().has_reason("late"));
        assert!(report().get("messages.none").is_err());
        report().expect_conservation();
    }

    #[test]
    #[should_panic(
        expected = "expected that offered = sent + withheld in messages.by_qos.1, found the report of seed 7"
    )]
    fn one_message_too_many_is_noticed() {
        let mut report = report();
        report.0["messages"]["by_qos"][1]["offered"] = json!(4);
        report.expect_conservation();
    }

    #[test]
    fn what_is_long_is_not_shown() {
        assert!(!report().to_string().contains("timeline"));
    }
}
