//! An object of a fleet, of whatever kind: what it should be, and the object in the cluster that it is to change.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use kube::{Resource, ResourceExt as _, core::ApiResource};
use serde::Serialize;
use serde_json::Value;

use super::quantity;

/// Kind and name of an object, in the fleet's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The kind, as people write it: `Service`.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of the object of a kind with that name.
    pub fn of<K: Resource<DynamicType = ()>>(name: impl Into<String>) -> Self {
        Self { kind: K::kind(&()).into_owned(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// An object that is to be written.
#[derive(Debug, Clone)]
pub struct Object {
    key: Key,
    resource: ApiResource,
    uid: Option<String>,
    body: Value,
}

impl Object {
    /// `wanted`, to be written over `observed`, which has to be the fleet's own; created where that is `None`.
    pub fn of<K>(wanted: &K, observed: Option<&K>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let uid = observed.and_then(|object| object.meta().uid.clone());
        let mut body = serde_json::to_value(wanted).expect("an object of Kubernetes is a value of JSON");
        if let Some(uid) = &uid {
            // The API server refuses the write when another object has come under this name.
            body["metadata"]["uid"] = Value::String(uid.clone());
        }
        Self { key: Key::of::<K>(wanted.name_any()), resource: ApiResource::erase::<K>(&()), uid, body }
    }

    /// The same, if `observed` lacks something of `wanted`.
    pub fn change<K>(wanted: &K, observed: Option<&K>) -> Option<Self>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        differs(wanted, observed).then(|| Self::of(wanted, observed))
    }

    /// Kind and name.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The kind as the API server needs it.
    pub const fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// The object that is to be changed; without it the object is to be created.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// What is to be written.
    pub const fn body(&self) -> &Value {
        &self.body
    }

    /// A number that differs for anything else that could be written.
    pub fn wish(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.body.to_string().hash(&mut hasher);
        hasher.finish()
    }
}

/// An object of the fleet that is to be deleted: this very object, and no other of its name.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Kind and name.
    pub key: Key,
    /// The kind as the API server needs it.
    pub resource: ApiResource,
    /// The UID.
    pub uid: String,
}

impl Deletion {
    /// The deletion of an object that was observed; `None` for one that no API server has stored.
    pub fn of<K: Resource<DynamicType = ()>>(observed: &K) -> Option<Self> {
        let key = Key::of::<K>(observed.name_any());
        Some(Self { key, resource: ApiResource::erase::<K>(&()), uid: observed.meta().uid.clone()? })
    }
}

/// Whether something that is wanted of an object is not there; what others set beside it does not count.
pub fn differs<K: Serialize>(wanted: &K, observed: Option<&K>) -> bool {
    let Some(observed) = observed else { return true };
    match (serde_json::to_value(wanted), serde_json::to_value(observed)) {
        (Ok(wanted), Ok(observed)) => !is_contained(&wanted, &observed),
        _ => true,
    }
}

fn is_contained(wanted: &Value, observed: &Value) -> bool {
    match (wanted, observed) {
        (Value::Object(wanted), Value::Object(observed)) => wanted.iter().all(|(key, value)| {
            let other = observed.get(key);
            let is_there = |other: &Value| match key.as_str() {
                "requests" | "limits" => are_quantities_contained(value, other),
                _ => is_contained(value, other),
            };
            other.is_some_and(is_there) || is_empty(value)
        }),
        (Value::Array(wanted), Value::Array(observed)) => {
            wanted.len() == observed.len() && wanted.iter().zip(observed).all(|(one, other)| is_contained(one, other))
        }
        (wanted, observed) => wanted == observed,
    }
}

/// The API server rewrites quantities: `1000m` is read back as `1`, `1024Mi` as `1Gi`.
fn are_quantities_contained(wanted: &Value, observed: &Value) -> bool {
    let (Value::Object(wanted), Value::Object(observed)) = (wanted, observed) else {
        return is_contained(wanted, observed);
    };
    wanted.iter().all(|(name, value)| match (value, observed.get(name)) {
        (Value::String(one), Some(Value::String(other))) => quantity::is_same(one, other),
        (one, Some(other)) => is_contained(one, other),
        (one, None) => is_empty(one),
    })
}

/// The API server leaves empty lists and maps out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};
    use serde_json::json;

    use super::*;
    use crate::resource::{
        broker::{self, Broker},
        fixture,
    };

    #[test]
    fn what_others_add_to_an_object_is_no_difference_and_what_they_change_is() {
        let wanted = PodSpec { enable_service_links: Some(false), ..PodSpec::default() };
        let mut observed = PodSpec { node_name: Some("n".into()), ..wanted.clone() };
        assert!(!differs(&wanted, Some(&observed)) && differs(&wanted, None));
        observed.enable_service_links = Some(true);
        assert!(differs(&wanted, Some(&observed)));
    }

    #[test]
    fn quantities_are_compared_by_their_amount() {
        let pod = |cpu: &str, memory: &str| -> Pod {
            let resources = json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}});
            let spec = json!({"containers": [{"name": "c", "resources": resources}]});
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        assert!(!differs(&pod("1000m", "1024Mi"), Some(&pod("1", "1Gi"))));
        assert!(differs(&pod("1000m", "1024Mi"), Some(&pod("1", "1G"))));
    }

    #[test]
    fn a_change_names_the_very_object_that_was_observed() {
        let pod = |uid: Option<&str>| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}})).unwrap()
        };
        let object = Object::of(&pod(None), Some(&pod(Some("u1"))));
        assert_eq!((object.uid(), object.body()["metadata"]["uid"].as_str()), (Some("u1"), Some("u1")));
        assert_eq!(object.key().to_string(), "Pod p");
        assert_eq!(Object::of(&pod(None), None).uid(), None);
        assert!(Object::change(&pod(None), Some(&pod(Some("u1")))).is_none());
        assert_eq!(Deletion::of(&pod(Some("u1"))).unwrap().uid, "u1");
        assert!(Deletion::of(&pod(None)).is_none());
    }

    #[test]
    fn a_broker_differs_when_its_document_says_less() {
        let broker = Broker { image: "broker", pull_policy: None, memory: broker::memory_for(10), storage: None };
        let build = |more: &str| broker::build(&fixture::owner(), &fixture::spec(more).pod, &broker);
        let (more, less) = (build("devices: 1\npod: {priorityClassName: low}"), build("devices: 1"));
        assert!(differs(&less, Some(&more)), "the priority class has to go");
        assert!(!differs(&less, Some(&build("devices: 1"))));
    }
}
