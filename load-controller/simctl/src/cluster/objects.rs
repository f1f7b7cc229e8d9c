//! Objects of any kind: applied by the server (server-side apply), read, and removed.

use clap::ValueEnum;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy},
    core::{GroupVersionKind, Status, TypeMeta},
    discovery::{self, Scope},
};
use serde_json::Value;

use super::{
    FIELD_MANAGER,
    client::{Cluster, ClusterError},
    fleets::TEACH,
};

/// How far a change goes that is only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// Nothing is sent
    Client,
    /// The server checks and keeps nothing
    Server,
}

/// What a line says of a change that was only tried.
pub(crate) const fn trial(dry_run: Option<DryRun>) -> &'static str {
    match dry_run {
        None => "",
        Some(DryRun::Client) => " (dry run)",
        Some(DryRun::Server) => " (server dry run)",
    }
}

/// What became of an object that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    /// As kubectl says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How objects are applied.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Manner {
    /// Whether it is only tried.
    pub(crate) dry_run: Option<DryRun>,
    /// Whether fields of other owners are taken.
    pub(crate) force: bool,
}

/// One object, as the cluster addresses it.
pub(crate) struct Place {
    /// Where it is.
    pub(crate) api: Api<DynamicObject>,
    /// Its kind.
    pub(crate) resource: ApiResource,
    /// Its name.
    pub(crate) name: String,
}

impl Place {
    /// `fleet.simctl.io/robotaxis`, as kubectl names objects.
    pub(crate) fn title(&self) -> String {
        title(&self.resource.kind, &self.resource.group, &self.name)
    }
}

/// `fleet.simctl.io/robotaxis` or `configmap/x`.
pub(crate) fn title(kind: &str, group: &str, name: &str) -> String {
    let kind = kind.to_lowercase();
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

impl Cluster {
    /// How the cluster addresses an object that somebody has written down; one without a namespace gets ours.
    pub(crate) async fn place(&self, object: &Value) -> Result<Place, ClusterError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let types = TypeMeta { api_version: text("/apiVersion").into(), kind: text("/kind").into() };
        let kind = GroupVersionKind::try_from(&types).map_err(|error| ClusterError::Answer(error.to_string()))?;
        let (resource, capabilities) =
            self.ask(discovery::pinned_kind(self.client(), &kind)).await.map_err(|error| {
                let is_unknown = error.is_not_found() || matches!(error, ClusterError::Answer(_));
                if is_unknown { self.unknown_kind(&types) } else { error }
            })?;
        let namespace = text("/metadata/namespace");
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client().clone(), &resource),
            Scope::Namespaced => {
                let namespace = if namespace.is_empty() { self.namespace() } else { namespace };
                Api::namespaced_with(self.client().clone(), namespace, &resource)
            }
        };
        Ok(Place { api, resource, name: text("/metadata/name").into() })
    }

    fn unknown_kind(&self, types: &TypeMeta) -> ClusterError {
        let is_ours = types.api_version == fleet_contract::fleet::API_VERSION;
        let what = if is_ours { "Fleets".into() } else { format!("{} of {}", types.kind, types.api_version) };
        ClusterError::Unknown { context: self.context().into(), what, remedy: if is_ours { TEACH } else { "" } }
    }

    /// Makes an object what `wanted` says, and leaves what it does not speak of.
    pub(crate) async fn apply(
        &self,
        place: &Place,
        wanted: &Value,
        manner: Manner,
    ) -> Result<(Outcome, DynamicObject), ClusterError> {
        let before = self.ask_for(place.api.get(&place.name)).await?;
        let mut params = PatchParams::apply(FIELD_MANAGER);
        (params.dry_run, params.force) = (manner.dry_run == Some(DryRun::Server), manner.force);
        let patch = Patch::Apply(wanted);
        let after = match self.ask(place.api.patch(&place.name, &params, &patch)).await {
            // What another verb of ours wrote is ours to write again.
            Err(error) if error.status().is_some_and(is_with_ourselves) => {
                self.ask(place.api.patch(&place.name, &params.force(), &patch)).await
            }
            answer => answer,
        };
        let after = after.map_err(explain_conflict)?;
        let outcome = match before {
            None => Outcome::Created,
            Some(before) if applied_alike(&before, &after) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        };
        Ok((outcome, after))
    }

    /// Removes an object and all that it owns; whether there was one.
    pub(crate) async fn remove(&self, place: &Place, dry_run: Option<DryRun>) -> Result<bool, ClusterError> {
        if dry_run == Some(DryRun::Client) {
            return Ok(self.ask_for(place.api.get_metadata(&place.name)).await?.is_some());
        }
        let params = DeleteParams {
            dry_run: dry_run == Some(DryRun::Server),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        Ok(self.ask_for(place.api.delete(&place.name, &params)).await?.is_some())
    }
}

/// Whether two states of an object differ in nothing that an apply writes.
///
/// Their versions tell less: a controller may have written the status in between, and a trial changes no version.
fn applied_alike(before: &DynamicObject, after: &DynamicObject) -> bool {
    let contents = |object: &DynamicObject| {
        let mut data = object.data.clone();
        data.as_object_mut().and_then(|fields| fields.remove("status"));
        data
    };
    contents(before) == contents(after)
        && before.labels() == after.labels()
        && before.annotations() == after.annotations()
        && before.owner_references() == after.owner_references()
}

/// Whether all conflicts are with fields that simctl itself wrote.
fn is_with_ourselves(status: &Status) -> bool {
    let causes: Vec<_> = status.details.iter().flat_map(|details| &details.causes).collect();
    let ours = format!("conflict with \"{FIELD_MANAGER}\"");
    status.is_conflict() && !causes.is_empty() && causes.iter().all(|cause| cause.message.starts_with(&ours))
}

/// A conflict over fields, with what to do about it.
fn explain_conflict(error: ClusterError) -> ClusterError {
    match error {
        ClusterError::Refused(mut status)
            if status.is_conflict() && status.details.as_ref().is_some_and(|it| !it.causes.is_empty()) =>
        {
            status.message.push_str("; --force-conflicts takes these fields");
            ClusterError::Refused(status)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(with: &[&str]) -> Status {
        let causes: Vec<_> = with
            .iter()
            .map(|manager| serde_json::json!({"reason": "FieldManagerConflict", "message": manager, "field": ".spec.seed"}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "m", "details": {"causes": causes},
        }))
        .unwrap()
    }

    #[test]
    fn a_status_that_was_written_meanwhile_is_no_change() {
        let object = |devices: u32, connected: u32, team: &str| -> DynamicObject {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "f", "resourceVersion": connected.to_string(), "labels": {"team": team}},
                "spec": {"devices": devices},
                "status": {"connected": connected},
            }))
            .unwrap()
        };
        assert!(applied_alike(&object(5, 0, "a"), &object(5, 3, "a")));
        assert!(!applied_alike(&object(5, 0, "a"), &object(6, 0, "a")));
        assert!(!applied_alike(&object(5, 0, "a"), &object(5, 0, "b")));
    }

    #[test]
    fn conflicts_with_other_verbs_of_simctl_are_none() {
        let (ours, theirs) = ("conflict with \"simctl\" using simctl.io/v1alpha1", "conflict with \"kubectl\"");
        assert!(is_with_ourselves(&conflict(&[ours, ours])));
        assert!(!is_with_ourselves(&conflict(&[ours, theirs])) && !is_with_ourselves(&conflict(&[])));
    }

    #[test]
    fn objects_are_named_as_kubectl_does() {
        assert_eq!(title("Fleet", "simctl.io", "a"), "fleet.simctl.io/a");
        assert_eq!(title("ConfigMap", "", "b"), "configmap/b");
    }
}
