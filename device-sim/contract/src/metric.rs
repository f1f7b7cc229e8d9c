//! The names of all metrics, in tables that code, dashboards and documentation share.
//!
//! Those of a worker stand in the table of [`series`], each with its values; [`broker`], [`controller`] and [`process`] have tables
//! of their own, which are here. No metric has a label whose values grow with the fleet; all units are base units.

pub mod controller;

pub use crate::series::whole::exported::*;

use crate::series;

/// A metric: its name, its help text and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name, with unit and `_total` where it is a counter.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// What Prometheus takes it for.
    pub kind: Kind,
    /// The labels; a worker's metrics have `fleet` beside these.
    pub labels: &'static [&'static str],
}

/// What Prometheus takes a metric for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution in seconds, in the buckets of [`BUCKETS_SECONDS`].
    Histogram,
}

/// Upper bounds of the buckets of all histograms, in seconds.
pub const BUCKETS_SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };)*

        /// The whole table, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

/// All metrics of a worker, in the order in which they are served.
pub fn of_workers() -> impl Iterator<Item = Metric> {
    let counters = series::COUNTERS.iter().map(|counter| counter.metric);
    let distributions = series::DISTRIBUTIONS.iter().map(|distribution| distribution.metric);
    counters.chain(EXPORTED.iter().map(|row| row.metric)).chain(distributions)
}

// Below the macro, which they use.
pub mod broker;
pub mod process;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in of_workers().chain([broker::ALL, controller::ALL].concat()) {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            assert!(metric.name.starts_with("simctl_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
