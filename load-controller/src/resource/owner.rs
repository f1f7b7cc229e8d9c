//! The fleet, or the load test, that an object belongs to, and what all of its objects have in common.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

use super::{
    Fleet, LoadTest,
    names::{self, Component, LOAD_TEST_LABEL},
};

/// A fleet or a load test that exists in a cluster: it has a namespace and a UID.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID, which no other object ever had or will have.
    pub uid: String,
    reference: OwnerReference,
}

impl Owner {
    /// The fleet as an owner; `None` when it has not been stored by an API server yet.
    pub fn of(fleet: &Fleet) -> Option<Self> {
        Self::of_object(fleet)
    }

    /// A load test as the owner of what is kept of it.
    pub fn of_test(test: &LoadTest) -> Option<Self> {
        Self::of_object(test)
    }

    fn of_object(object: &impl Resource<DynamicType = ()>) -> Option<Self> {
        // Without blockOwnerDeletion, which would need the right to change finalizers of its kind.
        let reference = OwnerReference { block_owner_deletion: None, ..object.controller_owner_ref(&())? };
        let namespace = object.meta().namespace.clone()?;
        Some(Self { name: reference.name.clone(), namespace, uid: reference.uid.clone(), reference })
    }

    /// Its kind: `Fleet` or `LoadTest`.
    pub fn kind(&self) -> &str {
        &self.reference.kind
    }

    /// Name, labels and owner of an object; deleting the fleet deletes it.
    pub fn metadata(&self, name: String, component: Component) -> ObjectMeta {
        self.owned(name, names::labels(&self.name, component))
    }

    /// The same of an object of a load test of the fleet of that name; deleting the test deletes it.
    pub fn metadata_of_test(&self, name: String, fleet: &str) -> ObjectMeta {
        let mut labels = names::labels(fleet, Component::LoadTest);
        labels.insert(LOAD_TEST_LABEL.into(), self.name.clone());
        self.owned(name, labels)
    }

    fn owned(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }
}
