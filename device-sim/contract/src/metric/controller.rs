//! The names of the load controller's metrics; code, dashboards and documentation share them as they do the workers'.
//!
//! Labels are few: a reason, a kind of object, or the fleet; never a pod and never a device.

use super::{Kind, Metric};

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric =
            Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };)*

        /// All metrics of a load controller, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    LEADER = "simctl_controller_leader", Gauge, [], "Whether this controller leads: 1 or 0.";
    FLEETS = "simctl_controller_fleets", Gauge, [], "Fleets that this controller looks after.";
    RECONCILES = "simctl_controller_reconciles_total", Counter, [], "Times that a fleet was compared with its objects.";
    RECONCILE_ERRORS = "simctl_controller_reconcile_errors_total", Counter, ["reason"], "Comparisons that failed, by reason.";
    RECONCILE_SECONDS = "simctl_controller_reconcile_seconds", Histogram, [], "Time of a comparison and of what it changed.";
    RECONCILE_OWN_SECONDS = "simctl_controller_reconcile_own_seconds", Histogram, [], "Time of a comparison that changed something, without that of the API server.";
    API_SECONDS = "simctl_controller_api_seconds", Histogram, ["verb"], "Time of a call to the API server, by verb.";
    WATCH_ERRORS = "simctl_controller_watch_errors_total", Counter, ["kind"], "Watches that broke off, by kind of object.";
    PULLS = "simctl_controller_pulls_total", Counter, [], "Readings asked of workers.";
    PULL_FAILURES = "simctl_controller_pull_failures_total", Counter, ["reason"], "Readings that did not come, by reason.";
    PUSHES = "simctl_controller_pushes_total", Counter, ["result"], "Plans pushed to workers, by result: taken, failed.";
    PODS_FORCED = "simctl_controller_pods_forced_total", Counter, [], "Pods of lost nodes that were deleted by force.";
    FLEET_DEVICES = "simctl_controller_fleet_devices", Gauge, ["namespace", "fleet", "state"], "Devices of a fleet by state: desired, assigned, connected.";
    FLEET_PODS = "simctl_controller_fleet_pods", Gauge, ["namespace", "fleet", "state"], "Pods of a fleet by state: desired, present, ready, answering.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in ALL {
            assert!(names.insert(metric.name), "{} stands twice", metric.name);
            assert!(metric.name.starts_with("simctl_controller_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_seconds"), metric.kind == Kind::Histogram, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
