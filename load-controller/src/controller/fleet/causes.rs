//! Why pods are missing or do not run, as far as only events tell: asked for while something is missing.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use tokio::time::Instant;

use super::Task;
use crate::{
    controller::{
        diagnosis::Diagnosis,
        observe::{Observed, WorkerPod},
        refusal::Refusal,
    },
    resource::{Owner, names},
};

/// How often events are asked for while something is missing.
const PAUSE: Duration = Duration::from_secs(3);

/// What events tell.
#[derive(Debug, Default)]
pub(super) struct Causes {
    asked: Option<Instant>,
    /// Why a StatefulSet has too few pods.
    pub(super) refused: Vec<Refusal>,
    /// Why a worker's pod stays in `ContainerCreating`.
    pub(super) worker: Option<Diagnosis>,
    /// Why the broker's pod does.
    pub(super) broker: Option<Diagnosis>,
}

/// What is missing, and may be explained by events.
struct Missing<'a> {
    workers: bool,
    broker: bool,
    worker_pod: Option<&'a WorkerPod>,
    broker_pod: Option<&'a WorkerPod>,
}

impl Missing<'_> {
    const fn is_nothing(&self) -> bool {
        !self.workers && !self.broker && self.worker_pod.is_none() && self.broker_pod.is_none()
    }
}

impl Task {
    /// Asks for the causes of what is missing. What was asked for a moment ago is not missing yet.
    pub(super) async fn ask_for_causes(&mut self, owner: &Owner, observed: &Observed) {
        let missing = self.missing(observed);
        if missing.is_nothing() {
            self.causes = Causes::default();
            return;
        }
        let asked = self.causes.asked;
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let mut causes = Causes { asked: Some(Instant::now()), ..Causes::default() };
        if asked.is_some() {
            for (is_missing, name) in
                [(missing.workers, names::workers(&owner.name)), (missing.broker, names::broker(&owner.name))]
            {
                if is_missing {
                    causes.refused.extend(self.refusal_of_pods(owner, &name).await);
                }
            }
            causes.worker = self.diagnosis_of(owner, missing.worker_pod).await;
            causes.broker = self.diagnosis_of(owner, missing.broker_pod).await;
        }
        self.causes = causes;
    }

    fn missing<'a>(&self, observed: &'a Observed) -> Missing<'a> {
        let wanted = self.wish.decided.map_or(0, |decided| decided.replicas as usize);
        let has_broker = self.wish.decided.is_some_and(|decided| decided.broker_devices_max.is_some());
        let needs_events = |pod: &&WorkerPod| {
            !pod.is_ready
                && !pod.has_run
                && !pod.is_terminating
                && pod.diagnosis.is_none()
                && pod.unschedulable.is_none()
        };
        Missing {
            workers: observed.pods.len() < wanted,
            broker: has_broker && observed.broker.pod.is_none(),
            worker_pod: observed.pods.iter().find(needs_events),
            broker_pod: observed.broker.pod.as_ref().filter(needs_events),
        }
    }

    /// Why a StatefulSet can create no pod, by its newest event.
    async fn refusal_of_pods(&self, owner: &Owner, stateful_set: &str) -> Option<Refusal> {
        let mut events = self.context.writer.warnings(owner, "StatefulSet", stateful_set).await.ok()?;
        events.retain(|event| event.reason.as_deref() == Some("FailedCreate"));
        let newest = events.into_iter().max_by_key(last_seen)?;
        Some(Refusal::of_pod(&newest.message?))
    }

    /// Why a pod does not start, by its newest event that says so.
    async fn diagnosis_of(&self, owner: &Owner, pod: Option<&WorkerPod>) -> Option<Diagnosis> {
        let pod = pod?;
        let mut events = self.context.writer.warnings(owner, "Pod", &pod.name).await.ok()?;
        events.retain(|event| event.involved_object.uid.as_deref() == Some(&pod.uid));
        events.sort_by_key(last_seen);
        events.iter().rev().find_map(Diagnosis::of_event)
    }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    series.or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
}
