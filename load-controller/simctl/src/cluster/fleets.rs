//! Which of a cluster's fleets is meant: by its name as kubectl writes it, or because there is no other.

use std::{fmt::Debug, str::FromStr};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt, api::ListParams};
use load_controller::resource::{Fleet, LoadTest};
use serde::de::DeserializeOwned;

use super::client::{Cluster, ClusterError};
use crate::exit::Failure;

/// The name of a fleet; `fleet/robotaxis` and `robotaxis` are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FleetName(pub(crate) String);

impl FromStr for FleetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Self(text.to_owned())),
            Some((kind, name)) if is_kind(kind) && !name.is_empty() => Ok(Self(name.to_owned())),
            _ => Err(format!("expected the name of a fleet such as `fleet/robotaxis`, found `{text}`")),
        }
    }
}

/// Whether kubectl would know this word as the kind of fleets.
pub(crate) fn is_kind(word: &str) -> bool {
    matches!(word, "fleet" | "fleets" | "fl" | "fleet.simctl.io" | "fleets.simctl.io")
}

/// Names as kubectl takes them: `fleet a b`, `fleet/a`, `a`.
pub(crate) fn names(words: &[String]) -> Result<Vec<FleetName>, Failure> {
    let words = match words {
        [kind, rest @ ..] if is_kind(kind) => rest,
        all => all,
    };
    words.iter().map(|word| word.parse().map_err(|error: String| Failure::usage(error))).collect()
}

/// A kind of ours.
pub(crate) trait Ours:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl Ours for Fleet {}
impl Ours for LoadTest {}

impl Cluster {
    /// The fleet of that name, or the only one of the namespace.
    pub(crate) async fn fleet(&self, name: Option<&FleetName>) -> anyhow::Result<Fleet> {
        if let Some(FleetName(name)) = name {
            return Ok(self.fleet_named(name).await?);
        }
        let fleets =
            self.ask(self.fleets().list(&ListParams::default())).await.map_err(|error| self.untaught(error))?;
        let names: Vec<String> = fleets.items.iter().map(ResourceExt::name_any).collect();
        let position = only(&names, self.namespace())?;
        Ok(fleets.items.into_iter().nth(position).expect("the position is one of the list"))
    }

    /// The fleet of that name.
    pub(crate) async fn fleet_named(&self, name: &str) -> Result<Fleet, ClusterError> {
        self.named(name).await
    }

    /// The object of a kind of ours with that name.
    pub(crate) async fn named<K: Ours>(&self, name: &str) -> Result<K, ClusterError> {
        self.ask(self.api::<K>().get(name)).await.map_err(|error| self.untaught(error))
    }

    /// The objects of a kind of ours that fit a label selector.
    pub(crate) async fn select<K: Ours>(
        &self,
        is_everywhere: bool,
        selector: Option<&str>,
    ) -> Result<Vec<K>, ClusterError> {
        let api: Api<K> = if is_everywhere { self.everywhere() } else { self.api() };
        let params = ListParams { label_selector: selector.map(String::from), ..ListParams::default() };
        Ok(self.ask(api.list(&params)).await.map_err(|error| self.untaught(error))?.items)
    }

    /// A cluster that knows no Fleets says "not found" of each; what to do about it helps more.
    pub(super) fn untaught(&self, error: ClusterError) -> ClusterError {
        match error.status() {
            Some(status) if status.code == 404 && status.details.as_ref().is_none_or(|it| it.name.is_empty()) => {
                ClusterError::Unknown { context: self.context().into(), what: "Fleets".into(), remedy: TEACH }
            }
            _ => error,
        }
    }
}

/// What makes a cluster know fleets.
pub(super) const TEACH: &str = "; `simctl install` teaches it";

/// The position of the only fleet; of several somebody must choose.
fn only(names: &[String], namespace: &str) -> Result<usize, Failure> {
    match names {
        [_] => Ok(0),
        [] => Err(Failure::refused(format!(
            "there is no fleet in namespace {namespace}; `simctl apply -f fleet.yaml` makes one, -n NAMESPACE looks elsewhere"
        ))),
        several => {
            let list: Vec<_> = several.iter().map(|name| format!("fleet/{name}")).collect();
            Err(Failure::usage(format!(
                "expected the name of a fleet, for there are {} in namespace {namespace}: {}",
                several.len(),
                list.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use load_controller::run::verdict::ExitCode;

    use super::*;

    #[test]
    fn names_are_written_as_kubectl_has_them() {
        let words = |words: &[&str]| names(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap();
        let expected = [FleetName("a".into()), FleetName("b".into())];
        assert_eq!(words(&["fleet", "a", "b"]), expected);
        assert_eq!(words(&["fleet/a", "b"]), expected);
        assert_eq!(words(&["fleets"]), []);
        assert!("pod/a".parse::<FleetName>().is_err() && "fleet/".parse::<FleetName>().is_err());
    }

    #[test]
    fn of_several_fleets_somebody_must_choose() {
        assert_eq!(only(&["a".into()], "load").unwrap(), 0);
        let failure = only(&["a".into(), "b".into()], "load").unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert_eq!(
            failure.to_string(),
            "expected the name of a fleet, for there are 2 in namespace load: fleet/a, fleet/b"
        );
        assert_eq!(only(&[], "load").unwrap_err().code, ExitCode::Other);
    }
}
