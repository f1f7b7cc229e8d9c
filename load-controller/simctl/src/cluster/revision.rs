//! The history of a fleet's document: one immutable ConfigMap a revision. Pure.
//!
//! The numbers that change live (devices, pause, intervals) are no part of it: to undo a document does not undo a scale.

use fleet_contract::plan::LIVE;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt as _;
use load_controller::resource::names::REVISION_ANNOTATION;
use serde_json::{Map, Value};

use crate::exit::Failure;

/// The key under which a revision keeps the fleet's own specification.
const SPEC_KEY: &str = "spec.json";

/// One document of the history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Revision {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// The ConfigMap that holds it.
    pub(crate) config_map: String,
    /// When it was made.
    pub(crate) created: Option<Time>,
    /// The specification without its live numbers.
    pub(crate) spec: Map<String, Value>,
}

/// The revisions among a fleet's ConfigMaps, the oldest first.
pub(crate) fn history(config_maps: &[ConfigMap]) -> Vec<Revision> {
    let mut revisions: Vec<_> = config_maps.iter().filter_map(revision).collect();
    revisions.sort_by_key(|revision| revision.number);
    revisions
}

fn revision(config_map: &ConfigMap) -> Option<Revision> {
    let number = config_map.annotations().get(REVISION_ANNOTATION)?.parse().ok()?;
    let spec = serde_json::from_str(config_map.data.as_ref()?.get(SPEC_KEY)?).ok()?;
    let created = config_map.metadata.creation_timestamp.clone();
    Some(Revision { number, config_map: config_map.name_any(), created, spec })
}

/// The revision to go back to: the wanted one, or the last before `current`.
pub(crate) fn choose(history: &[Revision], current: u64, wanted: Option<u64>) -> Result<&Revision, Failure> {
    let found = match wanted {
        Some(number) => history.iter().find(|revision| revision.number == number),
        None => history.iter().rfind(|revision| revision.number < current),
    };
    found.ok_or_else(|| {
        let known: Vec<_> = history.iter().map(|revision| revision.number.to_string()).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        match wanted {
            Some(number) => {
                Failure::refused(format!("expected a revision of the history, found {number}; there are {known}"))
            }
            None => Failure::refused(format!("there is no revision before {current}; there are {known}")),
        }
    })
}

/// The specification that brings `revision` back and leaves the live numbers of `current` as they are.
pub(crate) fn restored(current: &Map<String, Value>, revision: &Map<String, Value>) -> Map<String, Value> {
    let is_live = |field: &String| LIVE.contains(&field.as_str());
    let stored = revision.iter().filter(|(field, _)| !is_live(field));
    let live = current.iter().filter(|(field, _)| is_live(field));
    live.chain(stored).map(|(field, value)| (field.clone(), value.clone())).collect()
}

/// The fields in which two specifications differ, as people write them: `broker.url`, `groups`.
pub(crate) fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let mut changed = Vec::new();
    differences("", before, after, &mut changed);
    changed
}

fn differences(above: &str, before: &Map<String, Value>, after: &Map<String, Value>, changed: &mut Vec<String>) {
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    for field in after.keys().chain(gone) {
        let path = if above.is_empty() { field.clone() } else { format!("{above}.{field}") };
        match (before.get(field), after.get(field)) {
            (before, after) if before == after => {}
            // A model is one thing; what differs inside it is another question.
            (Some(Value::Object(before)), Some(Value::Object(after))) if above != "models" => {
                differences(&path, before, after, changed);
            }
            _ => changed.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn config_map(number: &str, spec: &Value) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": {"name": format!("a-{number}"), "annotations": {REVISION_ANNOTATION: number}},
            "data": {"spec.json": spec.to_string(), "assignment.json": "{}"},
        }))
        .unwrap()
    }

    #[test]
    fn history_is_in_order_and_leaves_other_maps_out() {
        let plan =
            serde_json::from_value(json!({"metadata": {"name": "a-plan"}, "data": {"plan.json": "{}"}})).unwrap();
        let maps = [config_map("10", &json!({"seed": 2})), plan, config_map("9", &json!({"seed": 1}))];
        let numbers: Vec<_> = history(&maps).iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, [9, 10]);
    }

    #[test]
    fn the_last_revision_before_the_current_one_is_meant() {
        let history = history(&["1", "2", "3"].map(|number| config_map(number, &json!({}))));
        assert_eq!(choose(&history, 3, None).unwrap().number, 2);
        assert_eq!(choose(&history, 3, Some(1)).unwrap().number, 1);
        assert_eq!(
            choose(&history, 3, Some(7)).unwrap_err().to_string(),
            "expected a revision of the history, found 7; there are 1, 2, 3"
        );
        assert!(choose(&history, 1, None).is_err());
    }

    #[test]
    fn to_undo_keeps_devices_pause_and_intervals() {
        let current = json!({"devices": 500, "paused": true, "intervals": {"*": "1s"}, "seed": 2, "observe": "none"});
        let stored = json!({"devices": 100, "seed": 1});
        assert_eq!(
            Value::Object(restored(&map(&current), &map(&stored))),
            json!({"devices": 500, "paused": true, "intervals": {"*": "1s"}, "seed": 1})
        );
    }

    #[test]
    fn changes_are_named_by_field() {
        let before = json!({"seed": 1, "broker": {"url": "a", "protocol": "5"}, "models": {"m": {"x": 1}}, "gone": 1});
        let after = json!({"seed": 1, "broker": {"url": "b", "protocol": "5"}, "models": {"m": {"x": 2}}, "new": 1});
        assert_eq!(changes(&map(&before), &map(&after)), ["broker.url", "models.m", "new", "gone"]);
    }
}
