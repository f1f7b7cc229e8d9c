//! The status of a Fleet: what people read with `kubectl get`. Pure; small whatever the fleet's size.

use fleet_contract::{fleet::BrokerSpec, plan::Plan, time::Micros};
use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};

use super::{
    conditions::{self, Causes, Facts, POD_TIMEOUT, Pods, READY, Word},
    diagnosis::Diagnosis,
    document::Document,
    metrics::FleetFigures,
    note::Note,
    observe::{Observed, Reply, WorkerPod},
    plan,
    reason::Reason,
    refusal::Refusal,
    shortage::Shortage,
};
use crate::{
    resource::{
        Fleet, FleetStatus, Size,
        fleet::WorstPod,
        names::{self, Component},
        size,
    },
    run::workers::{Member, Trouble, Workers, share_of},
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
    /// Writes of objects and pods that the API server refuses.
    pub refusals: &'a [Refusal],
    /// Why a worker's pod does not start, as far as only events tell.
    pub worker_cause: Option<&'a Diagnosis>,
    /// The same of the broker's pod.
    pub broker_cause: Option<&'a Diagnosis>,
    /// Whether devices are missing, over time.
    pub shortage: Shortage,
    /// Devices that there are to be in the end; where a load test goes on, now.
    pub wanted: u32,
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
    /// Whether it waits for another fleet to take the new release over.
    pub waits_for_turn: bool,
    /// Whether a load test goes on, and edits wait.
    pub is_tested: bool,
}

/// The status now, and the conditions in it.
pub fn status(view: &View<'_>) -> (FleetStatus, [Word; 6]) {
    let words = conditions::judge(&facts(view));
    let previous = view.previous;
    let generation = view.seen.or(previous.observed_generation);
    let now = timestamp(view.now);
    let name = view.fleet.metadata.name.clone().unwrap_or_default();
    let selector: Vec<String> =
        names::selector(&name, Component::Worker).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let figures = figures(view);
    let rate = |of: fn(&Member) -> f64| rounded(view.workers.members().map(of).sum());
    let status = FleetStatus {
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
        last_error: last_error(&words),
        worst_pods: worst_pods(view),
    };
    (status, words)
}

/// The status of a fleet of which something cannot be read: its figures stay as they were told last.
pub fn stalled(
    previous: &FleetStatus,
    refusal: &Refusal,
    generation: Option<i64>,
    now: Micros,
) -> (FleetStatus, [Word; 6]) {
    let words = conditions::judge(&Facts { refusals: vec![refusal.clone()], now, ..Facts::default() });
    let at = timestamp(now);
    let conditions = conditions::merge(&previous.conditions, &words, generation, at);
    (FleetStatus { conditions, last_error: last_error(&words), ..previous.clone() }, words)
}

/// An instant as conditions have it.
pub fn timestamp(now: Micros) -> Timestamp {
    i64::try_from(now.0).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or_default()
}

/// The fleet's figures, for status and metrics.
pub fn figures(view: &View<'_>) -> FleetFigures {
    let present = || view.observed.pods.iter().filter(|pod| !pod.is_terminating);
    let per_pod = view.document.map_or(1, |document| document.fleet.spec.devices_per_pod);
    FleetFigures {
        desired: view.plan.map_or(0, |plan| plan.devices(view.now)),
        assigned: present().map(|pod| share_of(pod.ordinal, per_pod, view.wanted)).sum(),
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
    let Trouble { refused: refusal, failed: failure, lost: loss } = workers.causes();
    let mut devices = workers.devices();
    devices.desired = figures.desired;
    Facts {
        problems: view.problems.to_vec(),
        refusals: view.refusals.to_vec(),
        pods: Pods {
            wanted: figures.pods_desired,
            present: figures.pods_present,
            ready: figures.pods_ready,
            terminating: count(observed.pods.iter().filter(|pod| pod.is_terminating)),
            outdated: observed.stateful_set.as_deref().map_or(0, outdated),
            answering: figures.pods_answering,
            silent: count(workers.members().filter(|member| is_missed(member))),
            loaded: count(
                workers.members().filter(|member| member.plan_version.is_some_and(|running| running >= version)),
            ),
            unreachable: count(observed.pods.iter().filter(|pod| pod.unreachable_since.is_some())),
            cut_off: count(
                observed.pods.iter().filter(|pod| pod.unreachable_since.is_some() && pod.reply == Reply::Runs),
            ),
            overdue: count(present().filter(|pod| is_overdue(pod, now))),
        },
        waits_for_turn: view.decided.is_some_and(|decided| decided.waits_for_turn),
        is_tested: view.decided.is_some_and(|decided| decided.is_tested),
        causes: Causes {
            pod: present().find_map(|pod| pod.diagnosis.clone()).or_else(|| view.worker_cause.cloned()),
            broker_pod: observed
                .broker
                .pod
                .as_ref()
                .and_then(diagnosis_of_broker)
                .or_else(|| view.broker_cause.cloned()),
            unschedulable: present().find_map(|pod| pod.unschedulable.clone()),
            refusal,
            loss,
            failure,
        },
        shortage: view.shortage,
        broker: spec.and_then(|spec| spec.broker.as_ref()).map(BrokerSpec::names).unwrap_or_default(),
        devices,
        wanted: view.wanted,
        round_end: view.plan.zip(spec).map_or(now, |(plan, spec)| conditions::round_end(plan, spec)),
        rate: view
            .plan
            .zip(spec)
            .zip(view.decided)
            .map(|((plan, spec), decided)| (size::messages_per_second(spec, plan), decided.size.messages_per_second)),
        broker_devices_max: view.decided.and_then(|decided| decided.broker_devices_max),
        old_workers: plan::old_workers(observed),
        now,
    }
}

/// Why the broker's pod does not run: its container waits, or no node takes it.
fn diagnosis_of_broker(pod: &WorkerPod) -> Option<Diagnosis> {
    let unschedulable = |message: &String| Diagnosis {
        reason: Reason::Unschedulable,
        word: Reason::Unschedulable.to_string(),
        message: format!("no node takes it: {message}"),
    };
    pod.diagnosis.clone().or_else(|| pod.unschedulable.as_ref().map(unschedulable))
}

/// Whether a worker should answer and does not: one that is starting or ending need not.
fn is_missed(member: &Member) -> bool {
    let should_answer = member.worker.is_ready || member.epoch().is_some();
    member.is_silent() && should_answer && !member.worker.is_ending
}

/// Pods of an older template.
pub fn outdated(stateful_set: &StatefulSet) -> u32 {
    let Some(status) = &stateful_set.status else { return 0 };
    if status.current_revision == status.update_revision {
        return 0;
    }
    let outdated = status.replicas.saturating_sub(status.updated_replicas.unwrap_or(0));
    u32::try_from(outdated).unwrap_or(0)
}

fn is_overdue(pod: &WorkerPod, now: Micros) -> bool {
    let created = pod.created.and_then(|created| u64::try_from(created.as_microsecond()).ok()).map(Micros);
    !pod.is_ready && created.is_some_and(|created| now.since(created) > POD_TIMEOUT)
}

/// The first thing that a person should look at.
fn last_error(words: &[Word; 6]) -> Option<String> {
    let [_, _, stalled, degraded, saturated, _] = words;
    [stalled, saturated, degraded].into_iter().find(|word| word.holds).map(|word| word.message.clone())
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
            let member = view.workers.member(pod.ordinal).filter(|member| member.worker.id == pod.uid);
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
    } else if let Some(diagnosis) = &pod.diagnosis {
        &diagnosis.word
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

/// What has changed from one judgement to the next that people would ask about; `before` are the conditions that were
/// told last.
///
/// A condition that goes on with the same reason is told once, though the figures in its message change.
pub fn notes(before: &[Condition], words: &[Word; 6]) -> Vec<Note> {
    let known = |of: &str| before.iter().find(|condition| condition.type_ == of);
    let is_new = |word: &&Word| {
        let is_same = |known: &Condition| {
            let has_same_text = word.of != conditions::STALLED || known.message == word.message;
            known.status == "True" && known.reason == word.reason.text() && has_same_text
        };
        word.holds && !known(word.of).is_some_and(is_same)
    };
    let [ready, _, stalled, degraded, saturated, broker_open] = words;
    let mut notes = Vec::new();
    if ready.holds && !conditions::holds(before, READY) {
        notes.push(Note::condition(false, Reason::Ready, "Connect", ready));
    }
    let warnings = [(stalled, "Write"), (degraded, "Watch"), (saturated, "Fit"), (broker_open, "Admit")];
    let new = warnings.into_iter().filter(|(word, _)| is_new(word));
    notes.extend(new.map(|(word, action)| Note::condition(true, word.reason, action, word)));
    notes
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
            refusals: &[],
            worker_cause: None,
            broker_cause: None,
            shortage: Shortage::default(),
            wanted: 0,
            now: Micros(1_700_000_000_000_000),
        })
    }

    #[test]
    fn a_status_of_nothing_is_small_and_invalid_documents_are_told_once() {
        let problems = ["spec.lossAfter: expected more than no time, found `0s`".to_owned()];
        let none = FleetStatus::default();
        let (first, words) = with_view(&none, |view| status(&View { problems: &problems, ..view }));
        assert_eq!(first.last_error.as_deref(), Some(problems[0].as_str()));
        let reasons = |before: &FleetStatus, words| {
            notes(&before.conditions, words).into_iter().map(|note| note.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&none, &words), [Reason::InvalidDocument]);
        assert!(reasons(&first, &words).is_empty());
        let (healed, words) = with_view(&first, |view| status(&view));
        assert_eq!(reasons(&first, &words), [Reason::Ready]);
        assert!(!differs_in_figures_only(&first, &healed) && differs_in_figures_only(&healed, &healed));
    }

    #[test]
    fn a_refused_write_is_told_anew_when_its_text_changes() {
        let none = FleetStatus::default();
        let refusal = |message: &str| [Refusal { reason: Reason::NameTaken, message: message.into() }];
        let (first, words) = with_view(&none, |view| status(&View { refusals: &refusal("Service db"), ..view }));
        assert_eq!(notes(&none.conditions, &words).len(), 1);
        assert_eq!(notes(&first.conditions, &words).len(), 0);
        let (_, words) = with_view(&first, |view| status(&View { refusals: &refusal("Service x"), ..view }));
        assert_eq!(notes(&first.conditions, &words)[0].text, "Service x");
    }

    #[test]
    fn a_change_that_was_not_carried_out_is_not_observed() {
        let previous = FleetStatus { observed_generation: Some(3), ..FleetStatus::default() };
        let of = |seen| {
            let (status, _) = with_view(&previous, |view| status(&View { seen, ..view }));
            (status.observed_generation, status.conditions[0].observed_generation)
        };
        assert_eq!(of(Some(4)), (Some(4), Some(4)));
        assert_eq!(of(None), (Some(3), Some(3)), "who has just taken over has done nothing yet");
    }
}
