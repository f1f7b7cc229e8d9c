//! What keeps a fleet from having the devices that were asked for. Pure: objects in, sentences out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt as _;
use load_controller::{resource::Fleet, words};

use super::settle;

/// What was found of a fleet in its cluster.
#[derive(Debug, Default, Clone)]
pub(crate) struct Observed {
    /// The fleet.
    pub(crate) fleet: Fleet,
    /// Its pods, those of its broker included.
    pub(crate) pods: Vec<Pod>,
    /// The events about the fleet and its StatefulSet, which have the same name.
    pub(crate) events: Vec<Event>,
    /// When it was found.
    pub(crate) now: Timestamp,
}

/// How long the controller may take to look at a change, in seconds.
const ATTENTION_SECONDS: i64 = 3;

/// How many hindrances are worth reading.
const SHOWN_MAX: usize = 5;

/// All that hinders, the most fundamental first; nothing when all seems to be well.
pub(crate) fn find(observed: &Observed) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(controller(&observed.fleet, observed.now));
    found.extend(creation(&observed.events));
    found.extend(pods(&observed.pods));
    for word in fleet(&observed.fleet) {
        // The controller sees the same pods; what was said once needs no second sentence.
        let is_known =
            found.iter().any(|known: &String| known.split_once(": ").is_some_and(|(_, why)| word.contains(why)));
        if !is_known {
            found.push(word);
        }
    }
    found.truncate(SHOWN_MAX);
    found
}

/// A fleet that the controller has not looked at, though there was time.
fn controller(fleet: &Fleet, now: Timestamp) -> Option<String> {
    let generation = fleet.metadata.generation.unwrap_or_default();
    let seen = fleet.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
    let changes = fleet.managed_fields().iter().filter(|entry| entry.subresource.as_deref() != Some("status"));
    let changed = changes.filter_map(|entry| entry.time.as_ref()).map(|time| time.0.as_second()).max();
    let is_recent = changed.is_some_and(|changed| now.as_second() - changed < ATTENTION_SECONDS);
    if seen < generation && settle::is_tested(&fleet.status.clone().unwrap_or_default()) {
        return Some(settle::TESTED.into());
    }
    (seen < generation && !is_recent).then(|| {
        "the load controller has not looked at the change; is it running? `simctl install` installs it, \
         `kubectl get pods -A -l app.kubernetes.io/name=load-controller` shows it"
            .into()
    })
}

/// Pods that may not even be made: a quota, or a policy of the namespace.
fn creation(events: &[Event]) -> Option<String> {
    let failed = events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate"));
    let last = failed.max_by_key(|event| last_seen(event))?;
    let message = last.message.as_deref().unwrap_or_default();
    let why = message.rsplit_once("error: ").map_or(message, |(_, why)| why);
    let hint = if why.contains("exceeded quota") { "; `kubectl describe quota` shows what is left" } else { "" };
    Some(format!("pods cannot be created: {why}{hint}"))
}

/// When an event happened last.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series
        .or(last)
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Pods that wait or fail, counted by what they wait for.
fn pods(pods: &[Pod]) -> Vec<String> {
    let mut counts: BTreeMap<(u8, String), (u64, String)> = BTreeMap::new();
    for pod in pods {
        if let Some(Trouble { rank, what, detail }) = trouble(pod) {
            counts.entry((rank, what)).or_insert_with(|| (0, detail)).0 += 1;
        }
    }
    let sentence = |((_, what), (count, detail)): ((u8, String), (u64, String))| {
        format!("{} {what}: {detail}", words::counted(count, "pod", "pods"))
    };
    counts.into_iter().map(sentence).collect()
}

/// What is the matter with a pod.
struct Trouble {
    /// What keeps a pod from existing comes before what goes wrong in it.
    rank: u8,
    what: String,
    detail: String,
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled" && it.status == "False");
    if let Some(condition) = unscheduled {
        let detail = condition.message.clone().unwrap_or_else(|| "nobody schedules it".into());
        return Some(Trouble { rank: 0, what: "cannot be scheduled".into(), detail });
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    containers.filter_map(container).min_by_key(|trouble| trouble.rank)
}

fn container(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = || waiting.message.clone().unwrap_or_else(|| reason.to_owned());
    let trouble = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => Trouble {
            rank: 1,
            what: format!("cannot get the image {}", container.image),
            detail: format!("{reason}; `simctl images load` brings it to the nodes, spec.pod.image names another"),
        },
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let why = last.map_or_else(message, |last| {
                format!("{}, exit code {}", last.reason.as_deref().unwrap_or("ended"), last.exit_code)
            });
            let count = words::counted(u64::try_from(container.restart_count).unwrap_or(0), "restart", "restarts");
            Trouble { rank: 3, what: "crash".into(), detail: format!("{why}, {count} so far; `simctl logs` shows why") }
        }
        "ContainerCreating" | "PodInitializing" => return None,
        other => Trouble { rank: 2, what: format!("wait ({other})"), detail: message() },
    };
    Some(trouble)
}

/// What the controller itself says.
fn fleet(fleet: &Fleet) -> Vec<String> {
    let Some(status) = &fleet.status else { return Vec::new() };
    let mut found: Vec<String> = Vec::new();
    let bad = |kind: &str| {
        let condition =
            status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")?;
        Some(if condition.message.is_empty() { condition.reason.clone() } else { condition.message.clone() })
    };
    found.extend(bad("Stalled").map(|message| format!("stalled: {message}")));
    found.extend(bad("Degraded").map(|message| format!("degraded: {message}")));
    found.extend(bad("Saturated").map(|message| format!("saturated: {message}")));
    if let Some(error) = status.last_error.as_ref().filter(|error| !found.iter().any(|text| text.contains(*error))) {
        found.push(error.clone());
    }
    if let Some(worst) = status.worst_pods.first() {
        let more = status.worst_pods.len() - 1;
        let others = if more > 0 { format!(", and {more} more like it") } else { String::new() };
        found.push(format!("{} has {} of {}: {}{others}", worst.pod, worst.connected, worst.desired, worst.reason));
    }
    found
}

/// A pod's trouble in a word, for tables.
pub(crate) fn word(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".into();
    }
    let mut containers = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let waiting = containers.find_map(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.or_else(|| status?.phase.clone()).unwrap_or_else(|| "Unknown".into())
}

/// The position of a pod among its fellows: `fleet-12` is 12.
pub(crate) fn ordinal(pod: &Pod) -> Option<u32> {
    pod.name_any().rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(fleet: &Value, pods: &[Value], events: &[Value], expected: &[&str]) {
        let mut object = json!({"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "spec": {}});
        object.as_object_mut().unwrap().extend(fleet.as_object().unwrap().clone());
        let observed = Observed {
            fleet: serde_json::from_value(object).unwrap(),
            pods: pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect(),
            events: events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect(),
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        assert_eq!(find(&observed), expected);
    }

    fn pod(name: &str, status: &Value) -> Value {
        json!({"metadata": {"name": name}, "status": status})
    }

    fn waiting(reason: &str) -> Value {
        json!({"containerStatuses": [{
            "name": "device-sim", "image": "simctl/device-sim:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": reason, "message": "m"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]})
    }

    #[test]
    fn a_fleet_that_nobody_looks_at_wants_a_controller() {
        let fleet = json!({"metadata": {"name": "a", "generation": 2}, "status": {"observedGeneration": 1}});
        check(
            &fleet,
            &[],
            &[],
            &["the load controller has not looked at the change; is it running? `simctl install` installs it, \
               `kubectl get pods -A -l app.kubernetes.io/name=load-controller` shows it"],
        );
    }

    #[test]
    fn a_change_of_this_moment_may_not_have_been_seen_yet() {
        let fleet = json!({"metadata": {"name": "a", "generation": 2, "managedFields": [
            {"manager": "simctl", "operation": "Update", "time": "2026-01-02T03:04:03Z"},
        ]}});
        check(&fleet, &[], &[], &[]);
    }

    #[test]
    fn a_quota_is_named_as_the_server_says_it() {
        let event = json!({
            "metadata": {"name": "e"}, "involvedObject": {}, "reason": "FailedCreate",
            "message": "create Pod a-3 in StatefulSet a failed error: pods \"a-3\" is forbidden: exceeded quota: small",
        });
        let expected = "pods cannot be created: pods \"a-3\" is forbidden: exceeded quota: small; \
                        `kubectl describe quota` shows what is left";
        check(&json!({"metadata": {"name": "a"}}), &[], &[event], &[expected]);
    }

    #[test]
    fn pods_in_the_same_trouble_are_counted() {
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
        ]});
        let pods = [
            pod("a-0", &unscheduled),
            pod("a-1", &unscheduled),
            pod("a-2", &waiting("ImagePullBackOff")),
            pod("a-3", &waiting("CrashLoopBackOff")),
            pod("a-4", &waiting("ContainerCreating")),
        ];
        check(
            &json!({"metadata": {"name": "a"}}),
            &pods,
            &[],
            &[
                "2 pods cannot be scheduled: 0/3 nodes are available",
                "1 pod cannot get the image simctl/device-sim:1: ImagePullBackOff; `simctl images load` brings it to \
                 the nodes, spec.pod.image names another",
                "1 pod crash: OOMKilled, exit code 137, 3 restarts so far; `simctl logs` shows why",
            ],
        );
    }

    #[test]
    fn what_the_controller_says_comes_last() {
        let fleet = json!({"metadata": {"name": "a"}, "status": {
            "lastError": "bad user name or password",
            "worstPods": [{"pod": "a-1", "desired": 100, "connected": 3, "reason": "refused"}, {"pod": "a-0"}],
        }});
        check(&fleet, &[], &[], &["bad user name or password", "a-1 has 3 of 100: refused, and 1 more like it"]);
    }

    #[test]
    fn what_pods_say_already_the_controller_need_not_repeat() {
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]});
        let saturated = json!({"type": "Saturated", "status": "True", "reason": "r", "message": "no node takes a pod: no room",
                               "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let fleet = json!({"metadata": {"name": "a"}, "status": {"conditions": [saturated]}});
        check(&fleet, &[pod("a-0", &unscheduled)], &[], &["1 pod cannot be scheduled: no room"]);
    }

    #[test]
    fn a_fleet_that_is_well_has_no_hindrance() {
        check(&json!({"metadata": {"name": "a"}}), &[pod("a-0", &json!({"phase": "Running"}))], &[], &[]);
    }
}
