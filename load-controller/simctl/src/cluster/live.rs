//! What changes while a fleet runs: its devices through the scale subresource, its pause and its intervals.

use std::collections::BTreeSet;

use fleet_contract::{
    builtin,
    fleet::{self, FleetSpec},
    units::Span,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use load_controller::resource::{Fleet, names::GROUP};
use serde_json::{Map, Value, json};

use super::{
    FIELD_MANAGER,
    client::{Cluster, ClusterError},
    objects::DryRun,
    ownership,
};
use crate::exit::Failure;

/// How often a change is tried again that met another one.
const ATTEMPTS: usize = 5;

impl Cluster {
    /// Asks for that many devices; refused when an autoscaler owns their number.
    pub(crate) async fn scale(&self, name: &str, devices: u32, dry_run: Option<DryRun>) -> anyhow::Result<()> {
        if let Some(autoscaler) = self.autoscaler_of(name).await? {
            return Err(Failure::refused(autoscaler.refusal(name)).into());
        }
        if dry_run == Some(DryRun::Client) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "spec": { "replicas": devices } }));
        self.ask(self.fleets().patch_scale(name, &params(dry_run), &patch)).await?;
        Ok(())
    }

    /// The autoscaler whose target is the fleet; none is seen where they may not be listed.
    pub(crate) async fn autoscaler_of(&self, fleet: &str) -> Result<Option<Autoscaler>, ClusterError> {
        let listed = self.ask(self.api::<HorizontalPodAutoscaler>().list(&ListParams::default())).await;
        match listed {
            Ok(list) => Ok(list.items.iter().find_map(|autoscaler| Autoscaler::of(autoscaler, fleet))),
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives up the number of devices where `simctl apply` owns it; the number, which stays what it is.
    pub(crate) async fn give_up_devices(&self, name: &str) -> Result<u32, ClusterError> {
        let mut attempt = 1;
        loop {
            let fleet = self.fleet_named(name).await?;
            let Some(patch) = ownership::give_up_devices(&fleet) else { return Ok(fleet.devices()) };
            match self.ask(self.fleets().patch(name, &params(None), &Patch::Merge(patch))).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                answer => return answer.map(|fleet| fleet.devices()),
            }
        }
    }

    /// Changes fields of the specification, `null` removes one; `change` sees the fleet as it is at each attempt.
    pub(crate) async fn change(
        &self,
        name: &str,
        dry_run: Option<DryRun>,
        change: impl Fn(&Fleet) -> Result<Value, Failure>,
    ) -> anyhow::Result<Fleet> {
        let mut attempt = 1;
        loop {
            let fleet = self.fleet_named(name).await?;
            let spec = change(&fleet)?;
            if dry_run == Some(DryRun::Client) {
                return Ok(fleet);
            }
            // Of the version that was read, so that nobody's change between is lost.
            let patch =
                Patch::Merge(json!({ "metadata": { "resourceVersion": fleet.resource_version() }, "spec": spec }));
            match self.ask(self.fleets().patch(name, &params(dry_run), &patch)).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                answer => return answer.map_err(ClusterError::of_document),
            }
        }
    }
}

fn params(dry_run: Option<DryRun>) -> PatchParams {
    PatchParams {
        dry_run: dry_run == Some(DryRun::Server),
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

/// Whoever scales a fleet by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Autoscaler {
    name: String,
    min: i32,
    max: i32,
    /// The object that made it and would undo its changes, such as a `ScaledObject` of KEDA.
    maker: Option<Maker>,
}

/// What makes an autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Maker {
    kind: String,
    /// The API group of the kind.
    group: String,
    name: String,
}

impl Maker {
    /// The owner that controls the autoscaler.
    fn of(autoscaler: &HorizontalPodAutoscaler) -> Option<Self> {
        let owners = autoscaler.owner_references();
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        Some(Self { kind: owner.kind.clone(), group: group.to_owned(), name: owner.name.clone() })
    }

    /// As kubectl names it, whatever else has a kind of that name.
    fn title(&self) -> String {
        let Self { kind, group, name } = self;
        let kind = kind.to_lowercase();
        if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
    }
}

impl Autoscaler {
    fn of(autoscaler: &HorizontalPodAutoscaler, fleet: &str) -> Option<Self> {
        let spec = autoscaler.spec.as_ref()?;
        let target = &spec.scale_target_ref;
        let group = target.api_version.as_deref().and_then(|version| version.split_once('/')).map(|(group, _)| group);
        let is_ours = group == Some(GROUP) && target.kind == "Fleet" && target.name == fleet;
        is_ours.then(|| Self {
            name: autoscaler.name_any(),
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
            maker: Maker::of(autoscaler),
        })
    }

    /// `HorizontalPodAutoscaler f`
    pub(crate) fn title(&self) -> String {
        format!("HorizontalPodAutoscaler {}", self.name)
    }

    /// Why a scale by hand would not last, and what to do instead.
    fn refusal(&self, fleet: &str) -> String {
        let Self { name, min, max, maker } = self;
        let (who, what) = match maker {
            Some(maker) => {
                let Maker { kind, name: made_by, .. } = maker;
                (format!("{kind} {made_by}, by the HorizontalPodAutoscaler {name} that it makes,"), maker.title())
            }
            None => (format!("HorizontalPodAutoscaler {name}"), format!("hpa/{name}")),
        };
        format!(
            "the {who} scales fleet {fleet} between {min} and {max} devices, so another number would not last; change its \
             limits (`kubectl edit {what}`) or delete it"
        )
    }
}

/// The patch that pauses a fleet or lets it go on.
pub(crate) fn paused(is_paused: bool) -> Value {
    // To go on is the default, which is better not written down.
    json!({ "paused": if is_paused { Value::Bool(true) } else { Value::Null } })
}

/// The patch that sets the interval of a stream, or of each periodic one, which then forgets those of single ones.
pub(crate) fn interval(fleet: &Fleet, stream: Option<&str>, interval: Span) -> Result<Value, Failure> {
    let mut intervals = Map::new();
    if let Some(stream) = stream {
        check_stream(fleet, stream)?;
        intervals.insert(stream.to_owned(), json!(interval));
    } else {
        let before = fleet.spec.typed().into_iter().flat_map(|spec| spec.intervals.keys());
        intervals.extend(before.map(|stream| (stream.clone(), Value::Null)));
        intervals.insert(FleetSpec::ALL_STREAMS.to_owned(), json!(interval));
    }
    Ok(json!({ "intervals": intervals }))
}

/// Refuses a stream that no model of the fleet has, as far as its models are known here.
fn check_stream(fleet: &Fleet, stream: &str) -> Result<(), Failure> {
    let Ok(document) = fleet.document() else { return Ok(()) };
    let Some(streams) = streams(&document) else { return Ok(()) };
    if streams.contains(stream) {
        return Ok(());
    }
    let known: Vec<_> = streams.into_iter().collect();
    Err(Failure::refused(format!(
        "expected a periodic stream of the fleet, found `{stream}`; there are {}",
        known.join(", ")
    )))
}

/// The periodic streams of a fleet; nothing when a model is in the cluster alone.
fn streams(document: &fleet::Fleet) -> Option<BTreeSet<String>> {
    let mut streams = BTreeSet::new();
    for group in &document.spec.groups {
        let periodic = |model: &fleet_contract::model::Model| {
            let streams = model.streams.iter().filter(|(name, stream)| group.stream(name, stream).interval.is_some());
            streams.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let found = match document.spec.models.get(&group.model) {
            Some(model) => periodic(model),
            None => periodic(&built_in(&group.model)?),
        };
        streams.extend(found);
    }
    Some(streams)
}

fn built_in(name: &str) -> Option<fleet_contract::model::Model> {
    fleet_contract::document::read(name, builtin::find(name)?.document).ok().map(|(model, _)| model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(spec: &Value) -> Fleet {
        Fleet::new("demo", spec.as_object().unwrap().clone())
    }

    #[test]
    fn an_interval_of_all_streams_forgets_those_of_single_ones() {
        let groups = json!([{"name": "a", "model": "robotaxi"}]);
        let fleet = fleet(&json!({"groups": groups, "intervals": {"state": "1s"}}));
        assert_eq!(
            interval(&fleet, None, Span::from_millis(200)).unwrap(),
            json!({"intervals": {"state": null, "*": "200ms"}})
        );
    }

    #[test]
    fn a_stream_that_no_model_has_is_refused() {
        let fleet = fleet(&json!({"devices": 1, "groups": [{"name": "a", "model": "thermometer"}]}));
        assert_eq!(
            interval(&fleet, Some("reading"), Span::from_secs(1)).unwrap(),
            json!({"intervals": {"reading": "1s"}})
        );
        let refused = interval(&fleet, Some("speed"), Span::from_secs(1)).unwrap_err().to_string();
        assert!(refused.starts_with("expected a periodic stream of the fleet, found `speed`; there are"), "{refused}");
    }

    #[test]
    fn a_stream_of_a_model_in_the_cluster_is_believed() {
        let fleet = fleet(&json!({"devices": 1, "groups": [{"name": "a", "model": "mine"}]}));
        assert!(interval(&fleet, Some("speed"), Span::from_secs(1)).is_ok());
    }

    fn autoscaler(kind: &str, name: &str, owners: &Value) -> HorizontalPodAutoscaler {
        let target = json!({"apiVersion": "simctl.io/v1alpha1", "kind": kind, "name": name});
        let object = json!({
            "metadata": {"name": "taxis", "ownerReferences": owners},
            "spec": {"scaleTargetRef": target, "minReplicas": 10, "maxReplicas": 900},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_autoscaler_of_a_fleet_is_found_by_its_target() {
        let found = Autoscaler::of(&autoscaler("Fleet", "demo", &json!([])), "demo").unwrap();
        insta::assert_snapshot!(found.refusal("demo"), @"the HorizontalPodAutoscaler taxis scales fleet demo between 10 and 900 devices, so another number would not last; change its limits (`kubectl edit hpa/taxis`) or delete it");
        assert_eq!(Autoscaler::of(&autoscaler("Deployment", "demo", &json!([])), "demo"), None);
        assert_eq!(Autoscaler::of(&autoscaler("Fleet", "other", &json!([])), "demo"), None);
    }

    /// A change of the autoscaler itself would be undone.
    #[test]
    fn what_makes_an_autoscaler_is_what_is_to_be_changed() {
        let owner = |kind: &str, controller: bool| json!({"apiVersion": "keda.sh/v1alpha1", "kind": kind, "name": "keda", "uid": "u", "controller": controller});
        let made = autoscaler("Fleet", "demo", &json!([owner("Bystander", false), owner("ScaledObject", true)]));
        let found = Autoscaler::of(&made, "demo").unwrap();
        insta::assert_snapshot!(found.refusal("demo"), @"the ScaledObject keda, by the HorizontalPodAutoscaler taxis that it makes, scales fleet demo between 10 and 900 devices, so another number would not last; change its limits (`kubectl edit scaledobject.keda.sh/keda`) or delete it");
    }
}
