//! The PodDisruptionBudget of the workers: a drain of nodes takes one pod's share of the fleet at a time.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    Owner,
    names::{self, Component},
};

/// The budget of the workers of a fleet.
pub fn build(owner: &Owner) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owner.metadata(names::workers(&owner.name), Component::Worker),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&owner.name, Component::Worker)),
                ..LabelSelector::default()
            }),
            // A pod that is not ready has just begun or is broken; neither holds up a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
