//! Releases of Helm among the load controllers of a cluster.
//!
//! simctl never marks an object as Helm's: Helm adopts what `simctl install` has made with `--take-ownership`. In the
//! other direction simctl refuses, because the next `helm upgrade` would undo what is applied beside it.

use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{ResourceExt as _, api::ListParams};
use load_controller::resource::names::CONTROLLER;

use super::client::{Cluster, ClusterError};

/// A release of Helm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// Its name.
    pub(crate) name: String,
    /// The namespace that Helm keeps it in.
    pub(crate) namespace: String,
}

impl Release {
    /// The release that an installed load controller is part of, by the label and annotations that Helm goes by, too.
    pub(crate) fn of(controller: &Deployment) -> Option<Self> {
        if controller.labels().get("app.kubernetes.io/managed-by").is_none_or(|manager| manager != "Helm") {
            return None;
        }
        let annotation = |name: &str| controller.annotations().get(&format!("meta.helm.sh/release-{name}")).cloned();
        Some(Self {
            name: annotation("name").unwrap_or_default(),
            namespace: annotation("namespace").or_else(|| controller.namespace()).unwrap_or_default(),
        })
    }
}

/// `simctl --namespace load-testing`, as each verb of Helm takes it.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} --namespace {}", self.name, self.namespace)
    }
}

impl Cluster {
    /// The load controllers of all namespaces.
    pub(crate) async fn controllers(&self) -> Result<Vec<Deployment>, ClusterError> {
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={CONTROLLER}"));
        Ok(self.ask(self.everywhere::<Deployment>().list(&params)).await?.items)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_release_is_known_by_what_helm_goes_by() {
        let deployment = |manager: &str| {
            let object = json!({"metadata": {
                "namespace": "load", "labels": {"app.kubernetes.io/managed-by": manager},
                "annotations": {"meta.helm.sh/release-name": "simctl", "meta.helm.sh/release-namespace": "load"},
            }});
            serde_json::from_value::<Deployment>(object).unwrap()
        };
        assert_eq!(Release::of(&deployment("Helm")).unwrap().to_string(), "simctl --namespace load");
        assert_eq!(Release::of(&deployment("kustomize")), None);
        assert_eq!(Release::of(&Deployment::default()), None);
    }
}
