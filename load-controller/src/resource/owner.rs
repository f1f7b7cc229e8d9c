//! The fleet that an object belongs to, and what all of its objects have in common.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;

use super::{
    Fleet,
    names::{self, Component},
};

/// A fleet that exists in a cluster: it has a namespace and a UID.
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
        // Without blockOwnerDeletion, which would need the right to change finalizers of fleets.
        let reference = OwnerReference { block_owner_deletion: None, ..fleet.controller_owner_ref(&())? };
        let namespace = fleet.metadata.namespace.clone()?;
        Some(Self { name: reference.name.clone(), namespace, uid: reference.uid.clone(), reference })
    }

    /// Name, labels and owner of an object; deleting the fleet deletes it.
    pub fn metadata(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(names::labels(&self.name, component)),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }
}
