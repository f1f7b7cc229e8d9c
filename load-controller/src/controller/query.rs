//! Answers FleetQueries, while this controller leads: the only way to a fleet's figures.
//!
//! Who may ask is not decided here. RBAC and the chart's ValidatingAdmissionPolicy `simctl-fleetqueries` let nobody make
//! or renew a query of a fleet that they may not `get`.
//!
//! | module | idea |
//! | --- | --- |
//! | [`schedule`] | which query is answered, refused, deleted, and when; pure |
//! | [`answer`] | figures as JSON within its limit; pure |

pub mod answer;
pub mod schedule;

use std::{sync::Arc, time::Duration};

use fleet_contract::worker_api::device_path;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::{reflector::ObjectRef, watcher},
};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;

use super::{
    fleet::{Context, Request},
    observe::Stores,
    run::{Fleets, listed},
    watch::watch,
};
use crate::{
    api::CallError,
    kube_error::told,
    resource::{
        FleetQuery,
        fleet_query::{LIVE_MAX, PodsOfFleets, QueryError, QueryReason, QuerySpec, QueryStatus, What},
        names::{FIELD_MANAGER, GROUP, VERSION},
    },
};
use answer::Answer;
use schedule::{Key, Schedule, Step};

/// Steps that are under way at a time; others wait.
const UNDER_WAY_MAX: usize = 64;

/// How long a fleet's task may take for its answer: it may be waiting for the API server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the API server may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before a fleet's task is asked again that is not there yet, or has too many questions.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What answers are made from.
#[derive(Clone)]
struct Desk {
    context: Context,
    fleets: Fleets,
    stores: Arc<Stores>,
}

/// How a step ended.
enum Done {
    /// An answer of so many bytes was written to this renewal.
    Answered(Key, i64, usize),
    /// It is to be tried again.
    Failed(Key),
    /// The watch shows the rest.
    Nothing,
}

/// Answers the queries of one namespace, or of all of them, for ever.
pub(super) async fn serve(context: Context, fleets: Fleets, stores: Arc<Stores>, namespace: Option<String>) {
    // Before all fleets are listed, one that is there would look as if it were missing.
    if listed(&stores.fleets).await.is_err() {
        return;
    }
    let config = watcher::Config::default().page_size(PAGE);
    let events = watch(&context.client, namespace.as_deref(), config, &context.metrics);
    let desk = Desk { context, fleets, stores };
    tokio::pin!(events);
    let (mut schedule, mut under_way) = (Schedule::default(), JoinSet::new());
    loop {
        for step in schedule.steps(Instant::now(), UNDER_WAY_MAX - under_way.len()) {
            under_way.spawn(desk.clone().take(step));
        }
        let next = schedule.next().filter(|_| under_way.len() < UNDER_WAY_MAX);
        tokio::select! {
            event = events.next() => match event {
                Some(event) => note(&mut schedule, &event),
                None => return,
            },
            Some(done) = under_way.join_next() => match done {
                Ok(Done::Answered(key, renewal, bytes)) => schedule.answered(&key, renewal, bytes, Instant::now()),
                Ok(Done::Failed(key)) => schedule.failed(&key, Instant::now()),
                Ok(Done::Nothing) => {}
                Err(error) => tracing::error!(%error, "a query is not answered"),
            },
            () = until(next) => {}
        }
    }
}

/// Queries that a page of the list holds: each may have a large answer.
const PAGE: u32 = 20;

fn note(schedule: &mut Schedule, event: &watcher::Event<FleetQuery>) {
    let now = Instant::now();
    match event {
        watcher::Event::Init => schedule.relist(),
        watcher::Event::InitApply(query) | watcher::Event::Apply(query) => schedule.observe(query, now),
        watcher::Event::InitDone => schedule.listed(now),
        watcher::Event::Delete(query) => schedule.forget(query, now),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Desk {
    async fn take(self, step: Step) -> Done {
        match step {
            Step::Answer(key, spec) => {
                let late = |_| Err(QueryError::new(QueryReason::Busy, "the fleet has too much to do; try again later"));
                let made = timeout(ANSWER_TIMEOUT, self.make(&key.namespace, &spec)).await.unwrap_or_else(late);
                let bytes = made.as_ref().map_or(0, |answer| answer.json.len());
                if self.write(&key, &status(made, spec.renew)).await {
                    Done::Answered(key, spec.renew, bytes)
                } else {
                    Done::Failed(key)
                }
            }
            Step::Refuse(key) => {
                let message = format!(
                    "{LIVE_MAX} queries of namespace {} are live; this one is answered when one of them ends",
                    key.namespace
                );
                let error = Some(QueryError::new(QueryReason::LimitExceeded, message));
                self.write(&key, &QueryStatus { error, ..QueryStatus::default() }).await;
                Done::Nothing
            }
            Step::Delete(key) if self.delete(&key).await => Done::Nothing,
            Step::Delete(key) => Done::Failed(key),
        }
    }

    async fn make(&self, namespace: &str, spec: &QuerySpec) -> Result<Answer, QueryError> {
        let fleet = match (&spec.fleet, spec.what) {
            (_, What::Unknown) => {
                return Err(QueryError::new(
                    QueryReason::Unknown,
                    "the load controller does not know what is asked; is it of an earlier version?",
                ));
            }
            (None, What::Pods) => return answer::pods(&self.pods_of_all(namespace).await),
            (fleet, _) => fleet.as_deref().unwrap_or_default(),
        };
        let key = ObjectRef::new(fleet).within(namespace);
        if self.stores.fleets.get(&key).is_none() {
            let message = format!("there is no fleet {fleet} in namespace {namespace}");
            return Err(QueryError::new(QueryReason::NotFound, message));
        }
        let not_started = || {
            let message = format!("fleet {fleet} has no plan yet; its condition Ready says why");
            QueryError::new(QueryReason::NotStarted, message)
        };
        match spec.what {
            What::Report => {
                let report = self.ask(namespace, fleet, Request::Report).await.ok_or_else(not_started)?;
                answer::report(*report)
            }
            What::Plan => {
                answer::whole(&self.ask(namespace, fleet, Request::Plan).await.ok_or_else(not_started)?, None)
            }
            What::Device => answer::device(self.device(namespace, fleet, spec.device.unwrap_or_default()).await?),
            What::Pods | What::Unknown => {
                let pods = self.ask(namespace, fleet, Request::Pods).await;
                answer::pods(&[(fleet.to_owned(), pods)].into())
            }
        }
    }

    async fn pods_of_all(&self, namespace: &str) -> PodsOfFleets {
        let fleets = self.stores.fleets.state();
        let mut pods = PodsOfFleets::new();
        for fleet in fleets.iter().filter(|fleet| fleet.namespace().as_deref() == Some(namespace)) {
            let name = fleet.name_any();
            // One whose task is not there yet has no pods that it knows of.
            let known = self.fleets.ask(namespace, &name, Request::Pods).await.unwrap_or_default();
            pods.insert(name, known);
        }
        pods
    }

    async fn device(
        &self,
        namespace: &str,
        fleet: &str,
        index: u32,
    ) -> Result<fleet_contract::worker::DeviceStatus, QueryError> {
        let worker = self.ask(namespace, fleet, |answer| Request::Owner(index, answer)).await;
        let silent = |message: String| QueryError::new(QueryReason::WorkerSilent, message);
        let worker = worker.ok_or_else(|| silent(format!("no pod runs device {index}")))?;
        let device = self.context.workers.get(&worker, &device_path(index)).await;
        device.map_err(|error| match error {
            CallError::Refused { message, .. } => silent(message),
            other => silent(format!("the worker of device {index} does not answer: {other}")),
        })
    }

    /// Asks the task of a fleet that there is, until it answers.
    async fn ask<T>(&self, namespace: &str, fleet: &str, make: impl Fn(oneshot::Sender<T>) -> Request) -> T {
        loop {
            if let Some(answer) = self.fleets.ask(namespace, fleet, &make).await {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Writes the status of this very query; whether that is done, or there is none any more.
    async fn write(&self, key: &Key, status: &QueryStatus) -> bool {
        let patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "FleetQuery",
            // One of the same name that somebody else has made meanwhile gets no answer that is not its own.
            "metadata": {"name": key.name, "uid": key.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(patch);
        self.call("answer", key, self.api(key).patch_status(&key.name, &parameters, &patch)).await
    }

    /// Deletes this very query; whether it is gone.
    async fn delete(&self, key: &Key) -> bool {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(key.uid.clone()), ..Preconditions::default() }),
            ..DeleteParams::background()
        };
        self.call("delete", key, self.api(key).delete(&key.name, &parameters)).await
    }

    fn api(&self, key: &Key) -> Api<FleetQuery> {
        Api::namespaced(self.context.client.clone(), &key.namespace)
    }

    async fn call<T>(&self, verb: &str, key: &Key, call: impl Future<Output = Result<T, kube::Error>>) -> bool {
        let start = Instant::now();
        let outcome = timeout(CALL_TIMEOUT, call).await;
        self.context.metrics.called(verb, start.elapsed());
        match outcome {
            Ok(Ok(_)) => true,
            // It is gone, or another one has its name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => true,
            Ok(Err(error)) => {
                tracing::warn!(
                    namespace = key.namespace,
                    query = key.name,
                    verb,
                    error = told(&error),
                    "a query is left"
                );
                false
            }
            Err(_) => {
                tracing::warn!(namespace = key.namespace, query = key.name, verb, "the API server does not answer");
                false
            }
        }
    }
}

fn status(made: Result<Answer, QueryError>, renewal: i64) -> QueryStatus {
    let status = QueryStatus {
        observed_renewal: Some(renewal),
        answered_at: Some(Timestamp::now().to_string()),
        ..QueryStatus::default()
    };
    match made {
        Ok(Answer { json, cut }) => QueryStatus { answer: Some(json), cut, ..status },
        Err(error) => QueryStatus { error: Some(error), ..status },
    }
}

#[cfg(test)]
mod tests;
