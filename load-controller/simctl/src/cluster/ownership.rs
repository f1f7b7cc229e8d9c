//! Who owns a field of an object, as `metadata.managedFields` tells. Pure.
//!
//! The numbers that change while a fleet runs belong to whoever changed them last: a scale, an autoscaler, a pause.
//! A document that is applied again leaves them as they are. A document that no longer speaks of the devices gives their
//! number up, which stays what it is.

use fleet_contract::plan::LIVE;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;
use load_controller::resource::Fleet;
use serde_json::{Map, Value, json};

use super::FIELD_MANAGER;

/// A live number that stays what it is, though the document says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The field.
    pub(crate) field: &'static str,
    /// What it stays.
    pub(crate) live: Value,
    /// Who said so.
    pub(crate) owner: String,
}

/// Takes out of `spec` the live numbers that somebody else owns in `fleet`; those that differ.
pub(crate) fn yield_live(spec: &mut Map<String, Value>, fleet: &Fleet) -> Vec<Kept> {
    let mut kept = Vec::new();
    for field in LIVE {
        let Some(owner) = other_owner(fleet.managed_fields(), field) else { continue };
        let live = fleet.spec.written().get(field).cloned().unwrap_or_default();
        if let Some(wanted) = spec.remove(field).filter(|wanted| *wanted != live) {
            drop(wanted);
            kept.push(Kept { field, live, owner });
        }
    }
    kept
}

/// The merge patch by which `simctl apply` gives up the number of devices; `None` when it does not own that.
///
/// Server-side apply removes a field that its last owner no longer sends, and the API server would fill in 0. So the
/// ownership goes first, and the number stays. The patch holds for this version of the fleet alone.
pub(crate) fn give_up_devices(fleet: &Fleet) -> Option<Value> {
    let mut entries = fleet.managed_fields().to_vec();
    let document = entries.iter_mut().find(|entry| is_document(entry))?;
    let spec = document.fields_v1.as_mut()?.0.get_mut("f:spec")?.as_object_mut()?;
    spec.shift_remove("f:devices")?;
    Some(json!({"metadata": {"resourceVersion": fleet.resource_version(), "managedFields": entries}}))
}

/// Who owns a field of the specification beside the documents that simctl applies.
fn other_owner(entries: &[ManagedFieldsEntry], field: &str) -> Option<String> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let spec = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some()) && !is_document(entry)
    };
    entries.iter().find(owns).map(|entry| {
        let manager = entry.manager.as_deref().unwrap_or("somebody");
        match entry.subresource.as_deref() {
            Some(subresource) => format!("{manager} ({subresource})"),
            None => manager.to_owned(),
        }
    })
}

/// Whether an entry stands for what `simctl apply` wrote.
fn is_document(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(manager: &str, operation: &str, subresource: &str) -> Fleet {
        serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "demo", "resourceVersion": "7", "managedFields": [
                {"manager": manager, "operation": operation, "subresource": subresource, "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:spec": {"f:devices": {}, "f:seed": {}}}},
            ]},
            "spec": {"devices": 500},
        }))
        .unwrap()
    }

    fn wanted() -> Map<String, Value> {
        json!({"devices": 100, "seed": 7}).as_object().unwrap().clone()
    }

    #[test]
    fn the_devices_that_a_scale_has_set_stay() {
        for (manager, operation, subresource) in
            [("simctl", "Update", "scale"), ("kube-controller-manager", "Update", "scale"), ("kubectl", "Apply", "")]
        {
            let mut spec = wanted();
            let kept = yield_live(&mut spec, &fleet(manager, operation, subresource));
            assert_eq!((kept[0].field, &kept[0].live, spec.get("devices")), ("devices", &json!(500), None));
        }
    }

    #[test]
    fn those_of_the_last_document_change_with_the_next() {
        let mut spec = wanted();
        assert_eq!(yield_live(&mut spec, &fleet("simctl", "Apply", "")), []);
        assert_eq!(spec["devices"], 100);
    }

    #[test]
    fn a_document_gives_up_the_devices_alone_and_only_its_own() {
        let patch = give_up_devices(&fleet("simctl", "Apply", "")).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:seed": {}}}));
        for (manager, operation, subresource) in [("simctl", "Update", "scale"), ("kubectl", "Apply", "")] {
            assert_eq!(give_up_devices(&fleet(manager, operation, subresource)), None);
        }
    }

    #[test]
    fn what_is_the_same_needs_no_word() {
        let mut spec = json!({"devices": 500}).as_object().unwrap().clone();
        assert_eq!(yield_live(&mut spec, &fleet("kubectl", "Update", "scale")), []);
        assert!(spec.is_empty());
    }
}
