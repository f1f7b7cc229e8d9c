//! The StatefulSet of the workers: the ordinal of a pod is its shard, so that a pod that comes back runs the same
//! devices and shrinking takes the tail.

use k8s_openapi::{
    api::{
        apps::v1::{RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{
    Owner,
    names::{self, Component},
};

/// The StatefulSet of `replicas` workers.
pub fn build(owner: &Owner, replicas: u32, template: PodTemplateSpec) -> StatefulSet {
    spread(owner, names::workers(&owner.name), Component::Worker, replicas, template)
}

/// A StatefulSet whose pods start together and are rolled one by one.
pub(super) fn spread(
    owner: &Owner,
    name: String,
    component: Component,
    replicas: u32,
    template: PodTemplateSpec,
) -> StatefulSet {
    StatefulSet {
        metadata: owner.metadata(name.clone(), component),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            service_name: Some(name),
            selector: LabelSelector {
                match_labels: Some(names::selector(&owner.name, component)),
                ..LabelSelector::default()
            },
            template,
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            // Revisions are kept as documents; those of the StatefulSet are only in the way.
            revision_history_limit: Some(2),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}
