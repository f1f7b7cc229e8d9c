//! Fleets for tests.

use fleet_contract::{builtin, fleet::FleetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Fleet, Owner};

/// A specification of thermometers, with `more` of its fields as YAML.
pub(crate) fn spec(more: &str) -> FleetSpec {
    let mut spec: FleetSpec = serde_json::from_value(Value::Object(raw(more))).unwrap();
    let thermometer = builtin::find("thermometer").unwrap();
    spec.models.insert("thermometer".into(), serde_saphyr::from_str(thermometer.document).unwrap());
    spec
}

/// The same as it is stored.
pub(crate) fn raw(more: &str) -> Map<String, Value> {
    serde_saphyr::from_str(&format!("groups: [{{name: all, model: thermometer}}]\n{more}")).unwrap()
}

/// A Fleet that an API server has stored.
pub(crate) fn fleet(more: &str) -> Fleet {
    let mut fleet = Fleet::new("demo", raw(more));
    fleet.metadata = ObjectMeta {
        namespace: Some("load".into()),
        uid: Some("0b0d7a3e-8d0c-4f4e-9a53-4f3c1b1c2d3e".into()),
        generation: Some(1),
        ..fleet.metadata
    };
    fleet
}

/// Its owner.
pub(crate) fn owner() -> Owner {
    Owner::of(&fleet("devices: 10")).unwrap()
}
