//! The status of a Fleet: what people read with `kubectl get`. Pure; small whatever the fleet's size.

use fleet_contract::{plan::Plan, time::Micros};
use k8s_openapi::{api::apps::v1::StatefulSet, jiff::Timestamp};

use super::{
    conditions::{self, Facts, POD_PATIENCE, READY, Word},
    document::Document,
    metrics::FleetFigures,
    note::Note,
    observe::{Observed, WorkerPod},
};
use crate::{
    resource::{
        Fleet, FleetStatus, Size,
        fleet::WorstPod,
        names::{self, Component},
        size,
    },
    workers::{Member, Workers, share_of},
};

/// How many of the worst pods are named.
const WORST_MAX: usize = 10;

/// What a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The Fleet.
    pub fleet: &'a Fleet,
    /// The newest generation of it that was carried out or found wrong; `None` before the first.
    pub seen: Option<i64>,
    /// Its last status.
    pub previous: &'a FleetStatus,
    /// The last document that was right.
    pub document: Option<&'a Document>,
    /// What is wrong with the present one.
    pub problems: &'a [String],
    /// What there is.
    pub observed: &'a Observed,
    /// What was decided last.
    pub decided: Option<&'a Decided>,
    /// The plan.
    pub plan: Option<&'a Plan>,
    /// The workers.
    pub workers: &'a Workers,
    /// Why the API server makes no more pods.
    pub quota: Option<&'a str>,
    /// Now.
    pub now: Micros,
}

/// What of a decision the status tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decided {
    /// The generation of the Fleet that it was for.
    pub generation: Option<i64>,
    /// Pods that there should be.
    pub replicas: u32,
    /// The number of the document in the history.
    pub revision: u64,
    /// What a pod was sized for.
    pub size: Size,
    /// Devices that the broker of its own has room for.
    pub broker_devices_max: Option<u32>,
}

/// The status now.
pub fn status(view: &View<'_>) -> FleetStatus {
    let facts = facts(view);
    let previous = view.previous;
    let words = conditions::judge(&facts, was_ready(view));
    let generation = view.seen.or(previous.observed_generation);
    let now = i64::try_from(view.now.0).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or_default();
    let name = view.fleet.metadata.name.clone().unwrap_or_default();
    let selector: Vec<String> =
        names::selector(&name, Component::Worker).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let figures = figures(view);
    let rate = |of: fn(&Member) -> f64| rounded(view.workers.members().map(of).sum());
    FleetStatus {
        observed_generation: generation,
        devices: figures.assigned,
        desired: figures.desired,
        connected: figures.connected,
        pods: figures.pods_present,
        pods_ready: figures.pods_ready,
        selector: selector.join(","),
        start: view.plan.map(|plan| plan.start.to_string()).or_else(|| previous.start.clone()),
        run: view.plan.map(|plan| plan.run).or(previous.run),
        plan_version: view.plan.map_or(previous.plan_version, |plan| plan.version),
        revision: view.decided.map_or(previous.revision, |decided| decided.revision),
        messages_per_second: rate(|member| if member.answers() { member.messages_per_second } else { 0.0 }),
        bytes_per_second: rate(|member| if member.answers() { member.bytes_per_second } else { 0.0 }),
        conditions: conditions::merge(&previous.conditions, &words, generation, now),
        last_error: last_error(&facts, &words),
        worst_pods: worst_pods(view),
    }
}

/// Whether it was ready with this very plan, so that only a missing pod makes it unready.
fn was_ready(view: &View<'_>) -> bool {
    let previous = view.previous;
    view.plan.is_some_and(|plan| plan.version == previous.plan_version)
        && conditions::holds(&previous.conditions, READY)
}

/// The fleet's figures, for status and metrics.
pub fn figures(view: &View<'_>) -> FleetFigures {
    let present = || view.observed.pods.iter().filter(|pod| !pod.is_terminating);
    let wanted = view.plan.map_or(0, Plan::devices_wanted);
    let per_pod = view.document.map_or(1, |document| document.fleet.spec.devices_per_pod);
    FleetFigures {
        desired: view.plan.map_or(0, |plan| plan.devices(view.now)),
        assigned: present().map(|pod| share_of(pod.ordinal, per_pod, wanted)).sum(),
        connected: view.workers.devices().connected,
        pods_desired: view.decided.map_or(0, |decided| decided.replicas),
        pods_present: count(present()),
        pods_ready: count(present().filter(|pod| pod.is_ready)),
        pods_answering: count(view.workers.members().filter(|member| member.answers())),
    }
}

fn facts(view: &View<'_>) -> Facts {
    let View { observed, workers, now, .. } = *view;
    let figures = figures(view);
    let version = view.plan.map_or(0, |plan| plan.version);
    let present = || observed.pods.iter().filter(|pod| !pod.is_terminating);
    let spec = view.document.map(|document| &document.fleet.spec);
    let (refusal, failure) = workers.causes();
    let mut devices = workers.devices();
    devices.desired = figures.desired;
    Facts {
        problems: view.problems.to_vec(),
        replicas: figures.pods_desired,
        pods: figures.pods_present,
        pods_ready: figures.pods_ready,
        terminating: count(observed.pods.iter().filter(|pod| pod.is_terminating)),
        outdated: observed.stateful_set.as_deref().map_or(0, outdated),
        answering: figures.pods_answering,
        silent: count(workers.members().filter(|member| is_missed(member))),
        loaded: count(workers.members().filter(|member| member.plan_version.is_some_and(|running| running >= version))),
        unreachable: count(observed.pods.iter().filter(|pod| pod.unreachable_since.is_some())),
        overdue: count(present().filter(|pod| is_overdue(pod, now))),
        waits: present().find_map(|pod| pod.waits.clone()),
        broker_waits: observed.broker_waits.clone(),
        unschedulable: present().find_map(|pod| pod.unschedulable.clone()),
        quota: view.quota.map(Into::into),
        devices,
        wanted: view.plan.map_or(0, Plan::devices_wanted),
        round_end: view.plan.zip(spec).map_or(now, |(plan, spec)| conditions::round_end(plan, spec)),
        refusal,
        failure,
        rate: view
            .plan
            .zip(spec)
            .zip(view.decided)
            .map(|((plan, spec), decided)| (size::messages_per_second(spec, plan), decided.size.messages_per_second)),
        broker_devices_max: view.decided.and_then(|decided| decided.broker_devices_max),
        now,
    }
}

/// Whether a worker should answer and does not: one that is starting or ending need not.
fn is_missed(member: &Member) -> bool {
    let should_answer = member.pod.is_ready || member.epoch().is_some();
    member.is_silent() && should_answer && !member.pod.is_terminating
}

/// Pods of an older template.
fn outdated(stateful_set: &StatefulSet) -> u32 {
    let Some(status) = &stateful_set.status else { return 0 };
    if status.current_revision == status.update_revision {
        return 0;
    }
    let outdated = status.replicas.saturating_sub(status.updated_replicas.unwrap_or(0));
    u32::try_from(outdated).unwrap_or(0)
}

fn is_overdue(pod: &WorkerPod, now: Micros) -> bool {
    let created = pod.created.and_then(|created| u64::try_from(created.as_microsecond()).ok()).map(Micros);
    !pod.is_ready && created.is_some_and(|created| now.since(created) > POD_PATIENCE)
}

/// The first thing that a person should look at.
fn last_error(facts: &Facts, words: &[Word; 4]) -> Option<String> {
    let [ready, _, degraded, saturated] = words;
    if !facts.problems.is_empty() {
        return Some(ready.message.clone());
    }
    [saturated, degraded].into_iter().find(|word| word.holds).map(|word| word.message.clone())
}

/// The pods that lack the most devices.
fn worst_pods(view: &View<'_>) -> Vec<WorstPod> {
    let per_pod = view.document.map_or(1, |document| document.fleet.spec.devices_per_pod);
    let wanted = view.plan.map_or(0, |plan| plan.devices(view.now));
    let mut worst: Vec<WorstPod> = view
        .observed
        .pods
        .iter()
        .filter(|pod| !pod.is_terminating)
        .map(|pod| {
            let member = view.workers.member(pod.ordinal).filter(|member| member.pod.uid == pod.uid);
            let answers = member.is_some_and(Member::answers);
            let connected = member.filter(|_| answers).map_or(0, |member| member.devices.connected);
            let desired = share_of(pod.ordinal, per_pod, wanted);
            let refused = member.map_or(0, |member| member.devices.refused);
            WorstPod { pod: pod.name.clone(), desired, connected, reason: reason(pod, answers, refused) }
        })
        .filter(|pod| pod.connected < pod.desired)
        .collect();
    worst.sort_by_key(|pod| std::cmp::Reverse(pod.desired - pod.connected));
    worst.truncate(WORST_MAX);
    worst
}

fn reason(pod: &WorkerPod, answers: bool, refused: u32) -> String {
    let known = if pod.unreachable_since.is_some() {
        "NodeLost"
    } else if pod.unschedulable.is_some() {
        "Unschedulable"
    } else if let Some(waits) = &pod.waits {
        waits
    } else if !answers && pod.is_ready {
        "Silent"
    } else if !answers {
        "Starting"
    } else if refused > 0 {
        "Refused"
    } else {
        "Connecting"
    };
    known.into()
}

/// What has changed from one status to the next that people would ask about.
pub fn notes(before: &FleetStatus, after: &FleetStatus) -> Vec<Note> {
    let find =
        |status: &FleetStatus, of: &str| status.conditions.iter().find(|condition| condition.type_ == of).cloned();
    let mut notes = Vec::new();
    let ready = find(after, READY);
    let was = find(before, READY);
    let invalid = |found: &Option<_>| {
        let found: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> = found;
        found
            .as_ref()
            .filter(|condition| condition.reason == "InvalidDocument")
            .map(|condition| condition.message.clone())
    };
    if let Some(message) = invalid(&ready).filter(|message| invalid(&was).as_ref() != Some(message)) {
        notes.push(Note::condition(true, "InvalidDocument", "Check", &message));
    }
    if conditions::holds(&after.conditions, READY) && !conditions::holds(&before.conditions, READY) {
        let message = ready.map(|condition| condition.message).unwrap_or_default();
        notes.push(Note::condition(false, "Ready", "Connect", &message));
    }
    for (of, action) in [(conditions::DEGRADED, "Watch"), (conditions::SATURATED, "Fit")] {
        let (was, is) = (find(before, of), find(after, of));
        let Some(is) = is.filter(|is| is.status == "True") else { continue };
        // The figures in a message change each second; its reason is what is new.
        let is_known = was.is_some_and(|was| was.status == "True" && was.reason == is.reason);
        if let Some(reason) = reason_word(&is.reason).filter(|_| !is_known) {
            notes.push(Note::condition(true, reason, action, &is.message));
        }
    }
    notes
}

/// The reasons of conditions that are told as events, as the words that they are.
fn reason_word(reason: &str) -> Option<&'static str> {
    const TOLD: [&str; 11] = [
        "BrokerNotReady",
        "NodeLost",
        "PodsMissing",
        "NoWorkerAnswers",
        "WorkersSilent",
        "DevicesRefused",
        "DevicesMissing",
        "QuotaExceeded",
        "Unschedulable",
        "RateBeyondSize",
        "BrokerTooSmall",
    ];
    TOLD.into_iter().find(|told| *told == reason)
}

/// Whether only figures differ: those may wait for a second.
pub fn differs_in_figures_only(before: &FleetStatus, after: &FleetStatus) -> bool {
    let gist = |status: &FleetStatus| {
        let conditions: Vec<_> = status.conditions.iter().map(|c| (c.status.clone(), c.reason.clone())).collect();
        (status.observed_generation, status.revision, conditions)
    };
    gist(before) == gist(after)
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and rates are positive")]
fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of a fleet of ten devices of which nothing exists yet, at its fifth generation.
    fn with_view<T>(previous: &FleetStatus, look: impl FnOnce(View<'_>) -> T) -> T {
        let mut fleet = crate::resource::fixture::fleet("devices: 10");
        fleet.metadata.generation = Some(5);
        let (observed, workers) = (Observed::default(), Workers::default());
        look(View {
            fleet: &fleet,
            seen: Some(5),
            previous,
            document: None,
            problems: &[],
            observed: &observed,
            decided: None,
            plan: None,
            workers: &workers,
            quota: None,
            now: Micros(1_700_000_000_000_000),
        })
    }

    #[test]
    fn a_status_of_nothing_is_small_and_invalid_documents_are_told_once() {
        let problems = ["spec.lossAfter: expected more than no time, found `0s`".to_owned()];
        let none = FleetStatus::default();
        let first = with_view(&none, |view| status(&View { problems: &problems, ..view }));
        assert_eq!(first.last_error.as_deref(), Some(problems[0].as_str()));
        let reasons = |before: &FleetStatus, after: &FleetStatus| {
            notes(before, after).into_iter().map(|note| note.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&none, &first), ["InvalidDocument"]);
        assert_eq!(reasons(&first, &first), [""; 0]);
        let healed = with_view(&first, |view| status(&view));
        assert_eq!(reasons(&first, &healed), ["Ready"]);
        assert!(!differs_in_figures_only(&first, &healed) && differs_in_figures_only(&healed, &healed));
    }

    #[test]
    fn a_change_that_was_not_carried_out_is_not_observed() {
        let previous = FleetStatus { observed_generation: Some(3), ..FleetStatus::default() };
        let of = |seen| {
            let status = with_view(&previous, |view| status(&View { seen, ..view }));
            (status.observed_generation, status.conditions[0].observed_generation)
        };
        assert_eq!(of(Some(4)), (Some(4), Some(4)));
        assert_eq!(of(None), (Some(3), Some(3)), "who has just taken over has done nothing yet");
    }
}
