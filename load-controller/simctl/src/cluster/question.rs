//! Questions about a fleet's figures: a FleetQuery in the fleet's namespace, which the load controller answers in its
//! status.
//!
//! The API server decides who may ask. A view that goes on renews its query; one that ends deletes it, and the
//! controller deletes what is left of a program that was killed.

use std::{marker::PhantomData, time::Duration};

use fleet_contract::{model::payload::hex, worker::DeviceStatus};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use load_controller::{
    report::Report,
    resource::{
        FleetQuery,
        fleet_query::{PodsOfFleets, QueryReason, QuerySpec, QueryStatus, What},
        names::CONTROLLER,
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::{
    FIELD_MANAGER,
    client::{Cluster, ClusterError},
};

/// How long the controller may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause between two looks for the answer, doubled up to the last: most answers come at once.
const LOOKS: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(400)];

/// Bytes of randomness in the name of a query: who cannot guess it cannot read the answer.
const NAME_BYTES: usize = 16;

/// A question that can be asked again and again, and the type of its answer.
pub(crate) struct Question<T> {
    cluster: Cluster,
    spec: QuerySpec,
    /// The query's name, once it is made.
    name: Option<String>,
    answer: PhantomData<fn() -> T>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The figures.
    pub(crate) figures: T,
    /// What was left out of them.
    pub(crate) cut: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuestionError {
    /// The cluster knows no FleetQuery.
    #[error("the cluster of context {0} cannot be asked for figures; `simctl install` installs the load controller")]
    Unknown(String),
    /// The API server forbids it.
    #[error(
        "{message}; figures of a fleet are for those who may get it and create fleetqueries, \
         as the roles view, edit and admin may: `kubectl auth can-i create fleetqueries.simctl.io -n {namespace}`"
    )]
    Forbidden {
        /// Who may not do what.
        message: String,
        /// Where.
        namespace: String,
    },
    /// Nobody answers.
    #[error(
        "the load controller does not answer within {} s; \
         `kubectl get pods --all-namespaces -l app.kubernetes.io/name={CONTROLLER}` shows how it fares",
        TIMEOUT.as_secs()
    )]
    Silent,
    /// The controller has deleted the query.
    #[error("too many queries of namespace {0} wait for the load controller; try again later")]
    Crowded(String),
    /// The controller says why it gives no answer.
    #[error("{0}")]
    Refused(String),
    /// An answer of another version, most likely.
    #[error("an answer of the load controller makes no sense here: {0}; is it of the same version as simctl?")]
    Answer(#[source] serde_json::Error),
    /// The operating system gives no random numbers.
    #[error("no name for the query can be made: {0}")]
    Random(#[from] getrandom::Error),
    /// The API server says no for another reason, or cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// How far the answer is.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// The figures as JSON, and what was left out.
    Answered(String, Option<String>),
    /// There is no answer, and why.
    Refused(String),
    /// Not yet; why, if the controller says so.
    Waits(Option<String>),
}

impl Question<Report> {
    /// For the report of a fleet in the cluster's namespace.
    pub(crate) fn report(cluster: &Cluster, fleet: &str) -> Self {
        Self::new(cluster, QuerySpec { fleet: Some(fleet.into()), what: What::Report, ..QuerySpec::default() })
    }
}

impl Question<PodsOfFleets> {
    /// For the pods of a fleet in the cluster's namespace, or of all fleets there.
    pub(crate) fn pods(cluster: &Cluster, fleet: Option<&str>) -> Self {
        Self::new(cluster, QuerySpec { fleet: fleet.map(String::from), what: What::Pods, ..QuerySpec::default() })
    }
}

impl Question<DeviceStatus> {
    /// For a device of a fleet in the cluster's namespace.
    pub(crate) fn device(cluster: &Cluster, fleet: &str, index: u32) -> Self {
        let (fleet, device) = (Some(fleet.into()), Some(index));
        Self::new(cluster, QuerySpec { fleet, what: What::Device, device, ..QuerySpec::default() })
    }
}

impl<T: DeserializeOwned> Question<T> {
    fn new(cluster: &Cluster, spec: QuerySpec) -> Self {
        Self { cluster: cluster.clone(), spec, name: None, answer: PhantomData }
    }

    /// The figures as they are now; each call but the first renews the query.
    pub(crate) async fn ask(&mut self) -> Result<Answer<T>, QuestionError> {
        let deadline = Instant::now() + TIMEOUT;
        let name = self.renew().await?;
        let mut pause = LOOKS[0];
        loop {
            let query = match self.cluster.ask(self.api().get(&name)).await {
                Ok(query) => query,
                Err(error) if error.is_not_found() => {
                    self.name = None;
                    return Err(QuestionError::Crowded(self.cluster.namespace().to_owned()));
                }
                Err(error) => return Err(self.explain(error)),
            };
            let waits_for = match read(query.status.unwrap_or_default(), self.spec.renew) {
                Reading::Answered(json, cut) => {
                    let figures = serde_json::from_str(&json).map_err(QuestionError::Answer)?;
                    return Ok(Answer { figures, cut });
                }
                Reading::Refused(why) => return Err(QuestionError::Refused(why)),
                Reading::Waits(why) => why,
            };
            if Instant::now() >= deadline {
                return Err(waits_for.map_or(QuestionError::Silent, QuestionError::Refused));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS[1]);
        }
    }

    /// Makes the query, or renews it; its name.
    async fn renew(&mut self) -> Result<String, QuestionError> {
        if let Some(name) = &self.name {
            self.spec.renew += 1;
            let patch = Patch::Merge(json!({"spec": {"renew": self.spec.renew}}));
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            match self.cluster.ask(self.api().patch(name, &params, &patch)).await {
                Ok(_) => return Ok(name.clone()),
                // Its minute was over, such as while this machine slept.
                Err(error) if error.is_not_found() => self.name = None,
                Err(error) => return Err(self.explain(error)),
            }
        }
        let name = name()?;
        let query = FleetQuery::new(&name, self.spec.clone());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        self.cluster.ask(self.api().create(&params, &query)).await.map_err(|error| self.explain(error))?;
        self.name = Some(name.clone());
        Ok(name)
    }

    /// Deletes the query; what fails is left to the controller.
    pub(crate) async fn end(self) {
        if let Some(name) = &self.name {
            drop(self.cluster.ask(self.api().delete(name, &DeleteParams::default())).await);
        }
    }

    fn api(&self) -> Api<FleetQuery> {
        self.cluster.api()
    }

    fn explain(&self, error: ClusterError) -> QuestionError {
        explain(error, self.cluster.context(), self.cluster.namespace())
    }
}

/// What a refusal of the API server means.
fn explain(error: ClusterError, context: &str, namespace: &str) -> QuestionError {
    match error.status() {
        Some(status) if status.is_forbidden() => {
            QuestionError::Forbidden { message: status.message.clone(), namespace: namespace.to_owned() }
        }
        // Of a kind that it does not know, the API server names nothing.
        Some(status) if status.code == 404 && status.details.as_ref().is_none_or(|it| it.name.is_empty()) => {
            QuestionError::Unknown(context.to_owned())
        }
        _ => error.into(),
    }
}

fn read(status: QueryStatus, renewal: i64) -> Reading {
    let QueryStatus { observed_renewal, answer, cut, error, .. } = status;
    let is_observed = observed_renewal.is_some_and(|observed| observed >= renewal);
    match (answer, error) {
        (Some(json), _) if is_observed => Reading::Answered(json, cut),
        (None, Some(error)) if is_observed => Reading::Refused(error.message),
        (_, Some(error)) if error.reason == QueryReason::LimitExceeded => Reading::Waits(Some(error.message)),
        _ => Reading::Waits(None),
    }
}

/// `simctl-0123…`.
fn name() -> Result<String, getrandom::Error> {
    let mut bytes = [0; NAME_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("simctl-{}", hex(&bytes)))
}

#[cfg(test)]
mod tests {
    use load_controller::resource::fleet_query::QueryError;

    use super::*;

    fn status(observed: Option<i64>, answer: Option<&str>, error: Option<QueryReason>) -> QueryStatus {
        QueryStatus {
            observed_renewal: observed,
            answer: answer.map(String::from),
            error: error.map(|reason| QueryError::new(reason, "because")),
            ..QueryStatus::default()
        }
    }

    #[track_caller]
    fn check(status: QueryStatus, expected: &Reading) {
        assert_eq!(&read(status, 3), expected);
    }

    #[test]
    fn only_the_answer_to_the_last_renewal_counts() {
        check(QueryStatus::default(), &Reading::Waits(None));
        check(status(Some(2), Some("{}"), None), &Reading::Waits(None));
        check(status(Some(3), Some("{}"), None), &Reading::Answered("{}".into(), None));
        check(status(Some(2), None, Some(QueryReason::NotFound)), &Reading::Waits(None));
        check(status(Some(3), None, Some(QueryReason::NotFound)), &Reading::Refused("because".into()));
    }

    #[test]
    fn who_has_no_place_waits_for_one() {
        check(status(None, None, Some(QueryReason::LimitExceeded)), &Reading::Waits(Some("because".into())));
    }

    #[track_caller]
    fn explains(status: serde_json::Value, expected: &str) {
        let refused = ClusterError::Refused(serde_json::from_value(status).unwrap());
        let error = explain(refused, "dev", "load").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        explains(
            json!({"status": "Failure", "code": 404, "reason": "NotFound", "details": {},
                   "message": "the server could not find the requested resource"}),
            "the cluster of context dev cannot be asked for figures; `simctl install` installs",
        );
        explains(
            json!({"status": "Failure", "code": 403, "reason": "Forbidden",
                   "message": "User \"jane\" cannot create resource \"fleetqueries\""}),
            "User \"jane\" cannot create resource \"fleetqueries\"; figures of a fleet are for",
        );
        explains(
            json!({"status": "Failure", "code": 404, "reason": "NotFound", "details": {"name": "load"},
                   "message": "namespaces \"load\" not found"}),
            "namespaces \"load\" not found",
        );
    }

    #[test]
    fn names_cannot_be_guessed() {
        let names = [name().unwrap(), name().unwrap()];
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == "simctl-".len() + 32), "{names:?}");
    }
}
