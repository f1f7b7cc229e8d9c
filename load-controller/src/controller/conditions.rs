//! The conditions of a Fleet: Ready, Progressing, Degraded, Saturated, each with its reason. Pure.

use fleet_contract::{
    fleet::FleetSpec,
    plan::{Plan, Presence},
    stats::Devices,
    time::Micros,
    units::Span,
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The first connect round is over.
pub const READY: &str = "Ready";
/// Pods or devices are on their way.
pub const PROGRESSING: &str = "Progressing";
/// Something is missing beyond its time.
pub const DEGRADED: &str = "Degraded";
/// More is asked than there is room for.
pub const SATURATED: &str = "Saturated";

/// How long a pod may take to become ready before it counts as missing: pulling an image takes its time.
pub const POD_PATIENCE: Span = Span::from_secs(120);

/// How long devices may be missing beyond the end of their connect round.
const DEVICE_PATIENCE: Span = Span::from_secs(10);

/// What the conditions are made from.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// What is wrong with the document, if it is.
    pub problems: Vec<String>,
    /// Pods that there should be.
    pub replicas: u32,
    /// Pods that there are, without those that end.
    pub pods: u32,
    /// Of these: ready.
    pub pods_ready: u32,
    /// Pods that end.
    pub terminating: u32,
    /// Pods that run another template than the wanted one.
    pub outdated: u32,
    /// Workers that answer.
    pub answering: u32,
    /// Workers that were asked and do not answer.
    pub silent: u32,
    /// Workers that run the newest plan.
    pub loaded: u32,
    /// Pods on nodes that do not answer.
    pub unreachable: u32,
    /// Pods that are older than [`POD_PATIENCE`] and not ready.
    pub overdue: u32,
    /// Why a pod does not start.
    pub waits: Option<String>,
    /// Why the broker's pod does not start.
    pub broker_waits: Option<String>,
    /// Why no node takes a pod.
    pub unschedulable: Option<String>,
    /// Why the API server makes no more pods.
    pub quota: Option<String>,
    /// The devices of the workers that answer; those that the plan wants now.
    pub devices: Devices,
    /// Devices that the plan wants in the end.
    pub wanted: u32,
    /// Until when the last device has to have connected or left.
    pub round_end: Micros,
    /// The most frequent code of the broker's refusals.
    pub refusal: Option<String>,
    /// The most frequent reason of failures.
    pub failure: Option<String>,
    /// Messages a second of a full pod by the plan, and what it was sized for.
    pub rate: Option<(f64, f64)>,
    /// Devices that the broker of its own has room for.
    pub broker_devices_max: Option<u32>,
    /// Now.
    pub now: Micros,
}

/// One condition, before it has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its type.
    pub of: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

impl Word {
    fn yes(of: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { of, holds: true, reason, message: message.into() }
    }

    fn no(of: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { of, holds: false, reason, message: message.into() }
    }
}

/// When the last device that a plan lets come or go is due.
pub fn round_end(plan: &Plan, spec: &FleetSpec) -> Micros {
    let rate = spec.connect.rate;
    let wanted = plan.devices_wanted();
    let last_to_come = match wanted.checked_sub(1).map(|index| plan.presence(index, rate)) {
        Some(Presence::From(at)) => at,
        _ => plan.start,
    };
    let last_to_go = match plan.presence(wanted, rate) {
        Presence::Until(at) => at,
        Presence::From(_) => plan.start,
    };
    last_to_come.max(last_to_go).after(spec.connect.timeout)
}

/// All four conditions; `was_ready` says whether the fleet was ready with the same plan before.
pub fn judge(facts: &Facts, was_ready: bool) -> [Word; 4] {
    [ready(facts, was_ready), progressing(facts), degraded(facts), saturated(facts)]
}

fn is_round_over(facts: &Facts) -> bool {
    facts.devices.connected >= facts.wanted || facts.now >= facts.round_end
}

/// Plan loaded and first connect round finished; an outage of the broker does not revoke it.
fn ready(facts: &Facts, was_ready: bool) -> Word {
    let Facts { replicas, pods_ready, loaded, wanted, .. } = facts;
    if !facts.problems.is_empty() {
        return Word::no(READY, "InvalidDocument", facts.problems.join("\n"));
    }
    if *replicas == 0 {
        return Word::yes(READY, "NoDevices", "no devices are asked for");
    }
    if pods_ready < replicas {
        return Word::no(READY, "PodsNotReady", format!("{pods_ready} of {replicas} pods are ready"));
    }
    let over = |message: String| Word::yes(READY, "FirstRoundFinished", message);
    if was_ready {
        return over(format!("the first connect round of {wanted} devices is over"));
    }
    if loaded < replicas {
        return Word::no(READY, "PlanNotLoaded", format!("{loaded} of {replicas} workers have loaded the plan"));
    }
    if is_round_over(facts) {
        return over(format!("the first connect round of {wanted} devices is over"));
    }
    let connected = facts.devices.connected;
    Word::no(READY, "Connecting", format!("{connected} of {wanted} devices are connected"))
}

fn progressing(facts: &Facts) -> Word {
    let Facts { replicas, pods, pods_ready, terminating, outdated, .. } = facts;
    if *outdated > 0 && *replicas > 0 {
        return Word::yes(PROGRESSING, "RollingOut", format!("{outdated} of {replicas} pods are to be replaced"));
    }
    if pods != replicas || pods_ready < replicas {
        return Word::yes(PROGRESSING, "Scaling", format!("{pods_ready} of {replicas} pods are ready, {pods} exist"));
    }
    if *terminating > 0 {
        return Word::yes(PROGRESSING, "Draining", format!("{terminating} pods drain"));
    }
    if facts.now < facts.round_end && facts.devices.connected != facts.wanted && *replicas > 0 {
        let Facts { wanted, devices, .. } = facts;
        return Word::yes(
            PROGRESSING,
            "Connecting",
            format!("{} of {wanted} devices are connected", devices.connected),
        );
    }
    Word::no(PROGRESSING, "Settled", "nothing is on its way")
}

fn degraded(facts: &Facts) -> Word {
    let yes = |reason: &'static str, message: String| Word::yes(DEGRADED, reason, message);
    let Facts { replicas, pods, silent, answering, unreachable, overdue, wanted, devices, .. } = facts;
    if let Some(reason) = &facts.broker_waits {
        return yes("BrokerNotReady", format!("the pod of the fleet's own broker does not start: {reason}"));
    }
    if *unreachable > 0 {
        return yes("NodeLost", format!("{unreachable} pods are on nodes that do not answer"));
    }
    if let Some(reason) = &facts.waits {
        return yes("PodsMissing", format!("a pod does not start: {reason}"));
    }
    if *overdue > 0 {
        return yes("PodsMissing", format!("{overdue} of {replicas} pods are not ready after {POD_PATIENCE}"));
    }
    if *silent > 0 && *answering == 0 {
        return yes("NoWorkerAnswers", format!("none of {pods} workers answers the controller"));
    }
    if *silent > 0 {
        return yes("WorkersSilent", format!("{silent} of {pods} workers do not answer the controller"));
    }
    if devices.refused > 0 {
        let code = facts.refusal.as_deref().map_or(String::new(), |code| format!(": {code}"));
        return yes("DevicesRefused", format!("the broker refuses {} devices{code}", devices.refused));
    }
    let is_late = *replicas > 0 && facts.now >= facts.round_end.after(DEVICE_PATIENCE);
    // Of a worker that has not been heard yet nobody knows what is missing.
    if is_late && answering >= pods && devices.connected < *wanted {
        let why = facts.failure.as_deref().map_or(String::new(), |why| format!("; most failures: {why}"));
        let missing = wanted - devices.connected;
        return yes("DevicesMissing", format!("{missing} of {wanted} devices are not connected{why}"));
    }
    Word::no(DEGRADED, "AsExpected", "nothing is missing")
}

fn saturated(facts: &Facts) -> Word {
    let yes = |reason: &'static str, message: String| Word::yes(SATURATED, reason, message);
    if let Some(message) = &facts.quota {
        return yes("QuotaExceeded", message.clone());
    }
    if let Some(message) = &facts.unschedulable {
        return yes("Unschedulable", format!("no node takes a pod: {message}"));
    }
    if let Some((rate, sized)) = facts.rate.filter(|(rate, sized)| *rate > sized * 1.001) {
        let message = format!(
            "a pod is asked for up to {rate:.0} messages a second and was sized for {sized:.0}: set `pod.cpu` and \
             `pod.memory`, or fewer devicesPerPod"
        );
        return yes("RateBeyondSize", message);
    }
    if let Some(room) = facts.broker_devices_max.filter(|room| *room < facts.wanted) {
        let message = format!("the fleet's own broker has room for {room} devices: name a broker of yours");
        return yes("BrokerTooSmall", message);
    }
    Word::no(SATURATED, "RoomEnough", "pods and broker have room")
}

/// The conditions as Kubernetes has them: the time of the last change stays while the status does.
pub fn merge(previous: &[Condition], words: &[Word], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let merged = words.iter().map(|word| {
        let status = if word.holds { "True" } else { "False" };
        let before = previous.iter().find(|condition| condition.type_ == word.of);
        let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
        // Kubernetes allows 32,768 bytes; what a person can read is less.
        let message = word.message.chars().take(4_096).collect();
        Condition {
            type_: word.of.into(),
            status: status.into(),
            reason: word.reason.into(),
            message,
            observed_generation: generation,
            last_transition_time: since.unwrap_or_else(|| Time(seconds(now))),
        }
    });
    merged.collect()
}

/// Times of conditions have whole seconds, so that what is written is what will be read.
fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Whether the condition of that type holds.
pub fn holds(conditions: &[Condition], of: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == of && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use fleet_contract::{plan::Setting, units::Rate};

    use super::*;
    use crate::resource::fixture;

    fn settled() -> Facts {
        Facts {
            replicas: 5,
            pods: 5,
            pods_ready: 5,
            answering: 5,
            loaded: 5,
            wanted: 500,
            devices: Devices { desired: 500, connected: 500, ..Devices::default() },
            round_end: Micros(1_000),
            now: Micros(500),
            ..Facts::default()
        }
    }

    #[track_caller]
    fn check(facts: &Facts, was_ready: bool, expected: [&str; 4]) {
        assert_eq!(judge(facts, was_ready).map(|word| word.reason), expected);
    }

    const FINE: [&str; 4] = ["FirstRoundFinished", "Settled", "AsExpected", "RoomEnough"];

    #[test]
    fn a_settled_fleet_is_fine() {
        check(&settled(), false, FINE);
    }

    #[test]
    fn ready_outlives_an_outage_of_the_broker() {
        let mut facts = settled();
        facts.devices.connected = 0;
        facts.now = Micros(1_000);
        check(&facts, true, FINE);
        facts.now = facts.round_end.after(DEVICE_PATIENCE);
        check(&facts, true, ["FirstRoundFinished", "Settled", "DevicesMissing", "RoomEnough"]);
    }

    #[test]
    fn a_fleet_whose_pods_do_not_answer_is_degraded() {
        let facts = Facts { answering: 0, silent: 5, loaded: 0, devices: Devices::default(), ..settled() };
        check(&facts, false, ["PlanNotLoaded", "Connecting", "NoWorkerAnswers", "RoomEnough"]);
    }

    #[test]
    fn a_round_that_is_over_is_ready_though_devices_are_missing() {
        let mut facts = settled();
        facts.devices = Devices { connected: 450, refused: 50, ..facts.devices };
        facts.refusal = Some("not_authorized".into());
        check(&facts, false, ["Connecting", "Connecting", "DevicesRefused", "RoomEnough"]);
        facts.now = facts.round_end;
        check(&facts, false, ["FirstRoundFinished", "Settled", "DevicesRefused", "RoomEnough"]);
    }

    #[test]
    fn missing_pods_have_their_reasons() {
        let missing = Facts { pods: 3, pods_ready: 3, ..settled() };
        let quota = Facts { quota: Some("exceeded quota".into()), ..missing.clone() };
        check(&quota, true, ["PodsNotReady", "Scaling", "AsExpected", "QuotaExceeded"]);
        let unschedulable = Facts { unschedulable: Some("0/1 nodes".into()), ..missing.clone() };
        check(&unschedulable, true, ["PodsNotReady", "Scaling", "AsExpected", "Unschedulable"]);
        let waits = Facts { waits: Some("ImagePullBackOff".into()), ..missing };
        check(&waits, true, ["PodsNotReady", "Scaling", "PodsMissing", "RoomEnough"]);
    }

    #[test]
    fn an_invalid_document_is_not_ready_and_nothing_else_changes() {
        let facts = Facts { problems: vec!["spec.lossAfter: expected …".into()], ..settled() };
        check(&facts, true, ["InvalidDocument", "Settled", "AsExpected", "RoomEnough"]);
    }

    #[test]
    fn a_rate_beyond_the_size_is_told() {
        check(
            &Facts { rate: Some((101.0, 100.0)), ..settled() },
            true,
            ["FirstRoundFinished", "Settled", "AsExpected", "RateBeyondSize"],
        );
        check(
            &Facts { rate: Some((100.0, 100.0)), broker_devices_max: Some(499), ..settled() },
            true,
            ["FirstRoundFinished", "Settled", "AsExpected", "BrokerTooSmall"],
        );
    }

    #[test]
    fn a_round_ends_when_the_last_device_has_come_or_gone() {
        let mut spec = fixture::spec("devices: 100");
        spec.connect.rate = Rate::per_second(10.0).unwrap();
        let mut plan = Plan::new(1, Micros(0), 100);
        assert_eq!(round_end(&plan, &spec), Micros(9_900_000).after(spec.connect.timeout));
        plan.set(Micros(20_000_000), Setting::Devices(50));
        assert_eq!(round_end(&plan, &spec), Micros(24_900_000).after(spec.connect.timeout));
        plan.set(Micros(30_000_000), Setting::Devices(51));
        assert_eq!(round_end(&plan, &spec), Micros(30_000_000).after(spec.connect.timeout));
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let word = |holds| Word { of: READY, holds, reason: "R", message: String::new() };
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merge(&[], &[word(true)], Some(1), at(10));
        let same = merge(&first, &[word(true)], Some(2), at(20));
        let other = merge(&same, &[word(false)], Some(2), at(30));
        let times = [&first, &same, &other].map(|list| list[0].last_transition_time.0.as_second());
        assert_eq!(times, [10, 10, 30]);
        assert!(holds(&same, READY) && !holds(&other, READY));
    }
}
