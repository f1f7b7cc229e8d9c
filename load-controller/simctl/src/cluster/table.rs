//! Fleets and what belongs to them as rows, and ages as kubectl shows them. Pure.

use fleet_contract::fleet::BrokerSpec;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use load_controller::{
    resource::{Fleet, FleetStatus},
    words,
};

use super::settle;

/// An object that people see as a row.
pub(crate) trait Row {
    /// What one is called.
    const ONE: &'static str;

    /// The heading.
    fn heading(columns: Columns) -> Vec<String>;

    /// The columns that hold numbers.
    fn right(columns: Columns) -> Vec<usize>;

    /// Its row.
    fn row(&self, columns: Columns, now: Timestamp) -> Vec<String>;
}

/// Which columns a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Objects of several namespaces.
    pub(crate) namespace: bool,
    /// All there are.
    pub(crate) wide: bool,
}

impl Row for Fleet {
    const ONE: &'static str = "fleet";

    fn heading(columns: Columns) -> Vec<String> {
        let namespace = columns.namespace.then_some("NAMESPACE");
        let always = ["NAME", "DEVICES", "CONNECTED", "PODS", "READY", "MSG/S", "AGE"];
        let wide = ["REVISION", "BROKER", "MODELS", "STATE"].into_iter().filter(|_| columns.wide);
        namespace.into_iter().chain(always).chain(wide).map(String::from).collect()
    }

    fn right(columns: Columns) -> Vec<usize> {
        let shift = usize::from(columns.namespace);
        [1, 2, 3, 5].map(|column| column + shift).to_vec()
    }

    fn row(&self, columns: Columns, now: Timestamp) -> Vec<String> {
        let status = self.status.clone().unwrap_or_default();
        let mut row: Vec<String> =
            columns.namespace.then(|| self.namespace().unwrap_or_default()).into_iter().collect();
        row.extend([
            self.name_any(),
            self.devices().to_string(),
            status.connected.to_string(),
            format!("{}/{}", status.pods_ready, status.pods),
            condition(&status, "Ready").to_owned(),
            words::number(status.messages_per_second as f64),
            age(self.metadata.creation_timestamp.as_ref(), now),
        ]);
        if columns.wide {
            row.extend([status.revision.to_string(), broker(self), models(self), state(self, &status)]);
        }
        row
    }
}

/// `True`, `False` or `Unknown`.
pub(crate) fn condition<'a>(status: &'a FleetStatus, kind: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == kind).map_or("Unknown", |found| found.status.as_str())
}

/// Where the devices connect to.
pub(crate) fn broker(fleet: &Fleet) -> String {
    let broker = fleet.spec.typed().and_then(|spec| spec.broker.as_ref());
    broker.filter(|broker| !broker.addresses().is_empty()).map_or_else(
        || format!("{} (its own)", load_controller::resource::names::broker(&fleet.name_any())),
        BrokerSpec::names,
    )
}

fn models(fleet: &Fleet) -> String {
    let groups = fleet.spec.typed().into_iter().flat_map(|spec| &spec.groups);
    groups.map(|group| group.model.as_str()).collect::<Vec<_>>().join(",")
}

/// What is the matter, in a word or two.
pub(crate) fn state(fleet: &Fleet, status: &FleetStatus) -> String {
    let is = |kind| condition(status, kind) == "True";
    let mut words = Vec::new();
    if fleet.metadata.deletion_timestamp.is_some() {
        words.push("Deleting");
    }
    if fleet.spec.typed().is_some_and(|spec| spec.paused) {
        words.push("Paused");
    }
    if settle::is_tested(status) {
        words.push("LoadTest");
    }
    words.extend(["Stalled", "Degraded", "Saturated", "Reconciling"].into_iter().filter(|kind| is(kind)));
    match words.as_slice() {
        [] if is("Ready") => "Running".into(),
        [] => "Pending".into(),
        words => words.join(","),
    }
}

/// How long ago, as kubectl writes it: `59s`, `5m3s`, `3h`, `12d`; `<unknown>` without an instant.
pub(crate) fn age(since: Option<&Time>, now: Timestamp) -> String {
    since.map_or_else(|| "<unknown>".into(), |since| span(now.as_second().saturating_sub(since.0.as_second())))
}

/// So many seconds, with two units where the smaller one still says something.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, below: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{below}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::printer::{Palette, columns};

    fn fleet() -> Fleet {
        serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "robotaxis", "namespace": "load", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"devices": 500, "groups": [{"name": "a", "model": "robotaxi"}, {"name": "b", "model": "charging-station"}]},
            "status": {
                "connected": 498, "pods": 5, "podsReady": 4, "messagesPerSecond": 1234, "revision": 3,
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "x", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                    {"type": "Reconciling", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
                ],
            },
        }))
        .unwrap()
    }

    fn table(columns_: Columns) -> String {
        let now = "2026-01-02T03:09:10Z".parse().unwrap();
        columns(Palette::Plain, &Fleet::right(columns_), &[Fleet::heading(columns_), fleet().row(columns_, now)])
    }

    #[test]
    fn a_fleet_is_a_row() {
        insta::assert_snapshot!(table(Columns { namespace: false, wide: false }), @r"
        NAME       DEVICES  CONNECTED  PODS  READY  MSG/S  AGE
        robotaxis      500        498   4/5  False  1,234  5m5s
        ");
        insta::assert_snapshot!(table(Columns { namespace: true, wide: true }), @r"
        NAMESPACE  NAME       DEVICES  CONNECTED  PODS  READY  MSG/S  AGE   REVISION  BROKER                      MODELS                     STATE
        load       robotaxis      500        498   4/5  False  1,234  5m5s  3         robotaxis-broker (its own)  robotaxi,charging-station  Reconciling
        ");
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        let spans = [0, 119, 120, 303, 600, 10_860, 28_800, 180_000, 700_000, 63_072_000 + 86_400].map(span);
        assert_eq!(spans, ["0s", "119s", "2m", "5m3s", "10m", "3h1m", "8h", "2d2h", "8d", "2y1d"]);
    }
}
