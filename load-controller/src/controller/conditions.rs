//! The conditions of a Fleet: Ready, Reconciling, Stalled, Degraded, Saturated, `BrokerOpen`, each with its reason. Pure.
//!
//! Ready, Reconciling and Stalled are those of kstatus
//! (<https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>), so that tools which wait for any
//! kind of object can wait for a Fleet.

use fleet_contract::{fleet::FleetSpec, plan::Plan, stats::Devices, time::Micros, units::Span};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{diagnosis::Diagnosis, reason::Reason, refusal::Refusal, shortage::Shortage};

/// Every object is written, and all but one or one percent of the devices are connected.
pub const READY: &str = "Ready";
/// Pods or devices are on their way.
pub const RECONCILING: &str = "Reconciling";
/// A person has to change something: the API server refuses a write, or the document is wrong.
pub const STALLED: &str = "Stalled";
/// Something is missing beyond its time.
pub const DEGRADED: &str = "Degraded";
/// More is asked than there is room for.
pub const SATURATED: &str = "Saturated";
/// The fleet's own broker admits clients without credentials.
pub const BROKER_OPEN: &str = "BrokerOpen";

/// How long a pod may take to become ready before it counts as missing: pulling an image takes its time.
pub const POD_TIMEOUT: Span = Span::from_secs(120);

/// What the conditions are made from.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// What is wrong with the document, if it is.
    pub problems: Vec<String>,
    /// Writes of the fleet's objects and pods that the API server refuses.
    pub refusals: Vec<Refusal>,
    /// Its pods.
    pub pods: Pods,
    /// Whether another fleet takes a new release over first.
    pub waits_for_turn: bool,
    /// Whether a load test goes on, and edits wait.
    pub is_tested: bool,
    /// What keeps pods and devices away, as far as that is known.
    pub causes: Causes,
    /// The devices of the workers that answer; those that the plan wants now.
    pub devices: Devices,
    /// Devices that the plan wants in the end.
    pub wanted: u32,
    /// Whether devices are missing, over time.
    pub shortage: Shortage,
    /// Until when the last device has to have connected or left.
    pub round_end: Micros,
    /// Where the broker is, for people.
    pub broker: String,
    /// Messages a second of a full pod by the plan, and what it was sized for.
    pub rate: Option<(f64, f64)>,
    /// Devices that the broker of its own has room for.
    pub broker_devices_max: Option<u32>,
    /// Workers of an earlier release, for which the broker of its own admits clients without credentials.
    pub old_workers: u32,
    /// Now.
    pub now: Micros,
}

/// How many pods of the workers there are, and what they do.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pods {
    /// Pods that there should be.
    pub wanted: u32,
    /// Pods that there are, without those that end.
    pub present: u32,
    /// Of these: ready.
    pub ready: u32,
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
    /// Of these: pods whose workers answer, and run on.
    pub cut_off: u32,
    /// Pods that are older than [`POD_TIMEOUT`] and not ready.
    pub overdue: u32,
}

/// What keeps pods and devices away.
#[derive(Debug, Default, Clone)]
pub struct Causes {
    /// Why a pod does not run.
    pub pod: Option<Diagnosis>,
    /// Why the broker's pod does not run.
    pub broker_pod: Option<Diagnosis>,
    /// Why no node takes a pod.
    pub unschedulable: Option<String>,
    /// The most frequent code of the broker's refusals.
    pub refusal: Option<String>,
    /// Why devices that are missing have mostly lost their sessions.
    pub loss: Option<String>,
    /// The most frequent reason of failures.
    pub failure: Option<String>,
}

/// One condition, before it has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its type.
    pub of: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
    /// The same for an event, without figures where they change: equal events are counted instead of repeated.
    pub event: Option<String>,
}

impl Word {
    pub(super) fn yes(of: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self { of, holds: true, reason, message: message.into(), event: None }
    }

    pub(super) fn no(of: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self { holds: false, ..Self::yes(of, reason, message) }
    }

    fn with_event(self, event: impl Into<String>) -> Self {
        Self { event: Some(event.into()), ..self }
    }
}

/// When the last device that a plan lets come or go is due.
pub fn round_end(plan: &Plan, spec: &FleetSpec) -> Micros {
    plan.population(spec.connect.rate).settles().after(spec.connect.timeout)
}

/// All conditions.
pub fn judge(facts: &Facts) -> [Word; 6] {
    [ready(facts), reconciling(facts), stalled(facts), degraded(facts), saturated(facts), broker_open(facts)]
}

/// Whether all objects are written and enough devices are connected. A dip of some seconds does not count.
fn ready(facts: &Facts) -> Word {
    let no = |reason, message: String| Word::no(READY, reason, message);
    let Facts { pods: Pods { wanted: replicas, ready: pods_ready, loaded, .. }, wanted, devices, .. } = facts;
    let stalled = stalled(facts);
    if stalled.holds {
        return no(stalled.reason, stalled.message);
    }
    if *replicas == 0 {
        return Word::yes(READY, Reason::NoDevices, "no devices are asked for");
    }
    let connected = devices.connected;
    if facts.shortage.is_short() == Some(false) {
        let message = format!("{connected} of {wanted} devices are connected");
        return Word::yes(READY, Reason::DevicesConnected, message).with_event("the devices are connected");
    }
    if let Some(Diagnosis { reason, message, .. }) = facts.causes.broker_pod.as_ref().or(facts.causes.pod.as_ref()) {
        return no(*reason, message.clone());
    }
    if pods_ready < replicas {
        return no(Reason::PodsNotReady, format!("{pods_ready} of {replicas} pods are ready"));
    }
    if loaded < replicas {
        return no(Reason::PlanNotLoaded, format!("{loaded} of {replicas} workers have loaded the plan"));
    }
    let reason = match () {
        () if devices.refused > 0 => Reason::DevicesRefused,
        () if facts.now < facts.round_end => Reason::Connecting,
        () => connection_trouble(facts).map_or(Reason::DevicesMissing, |(reason, _)| reason),
    };
    no(reason, format!("{connected} of {wanted} devices are connected{}", why(facts)))
}

fn reconciling(facts: &Facts) -> Word {
    let Pods { wanted: replicas, present: pods, ready: pods_ready, terminating, outdated, .. } = &facts.pods;
    let yes = |reason, message: String| Word::yes(RECONCILING, reason, message);
    let stalled = stalled(facts);
    if stalled.holds {
        return Word::no(RECONCILING, stalled.reason, "nothing is under way; see the condition Stalled");
    }
    if facts.is_tested {
        return yes(
            Reason::LoadTestGoesOn,
            "a load test goes on: a scale and other edits wait until it is over".into(),
        );
    }
    if *outdated > 0 && *replicas > 0 {
        return yes(Reason::RollingOut, format!("{outdated} of {replicas} pods are to be replaced"));
    }
    if facts.waits_for_turn {
        return yes(Reason::RolloutQueued, "another fleet takes the new release over first".into());
    }
    if pods != replicas || pods_ready < replicas {
        return yes(Reason::Scaling, format!("{pods_ready} of {replicas} pods are ready, {pods} exist"));
    }
    if *terminating > 0 {
        return yes(Reason::Draining, format!("{terminating} pods drain"));
    }
    if facts.now < facts.round_end && facts.devices.connected != facts.wanted && *replicas > 0 {
        let Facts { wanted, devices, .. } = facts;
        return yes(Reason::Connecting, format!("{} of {wanted} devices are connected", devices.connected));
    }
    Word::no(RECONCILING, Reason::Settled, "nothing is under way")
}

/// What waits for a person. A wrong document comes first: its objects are not even written.
fn stalled(facts: &Facts) -> Word {
    if !facts.problems.is_empty() {
        return Word::yes(STALLED, Reason::InvalidDocument, facts.problems.join("\n"));
    }
    match facts.refusals.first() {
        Some(first) => {
            let messages: Vec<_> = facts.refusals.iter().map(|refusal| refusal.message.as_str()).collect();
            Word::yes(STALLED, first.reason, messages.join("\n"))
        }
        None => Word::no(STALLED, Reason::NothingRefused, "no write is refused"),
    }
}

fn degraded(facts: &Facts) -> Word {
    let yes = |reason, message: String| Word::yes(DEGRADED, reason, message);
    let Facts { wanted, devices, causes, .. } = facts;
    let Pods { wanted: replicas, present: pods, silent, answering, unreachable, cut_off, overdue, .. } = &facts.pods;
    if let Some(Diagnosis { message, .. }) = &causes.broker_pod {
        return yes(Reason::BrokerNotReady, format!("the pod of the fleet's own broker does not run: {message}"));
    }
    if *unreachable > 0 && unreachable == cut_off {
        let message = format!("{unreachable} pods are on nodes that do not answer; their workers do, and run on");
        return yes(Reason::NodeUnreachable, message).with_event("pods on nodes that do not answer run on");
    }
    if *unreachable > 0 {
        return yes(Reason::NodeLost, format!("{unreachable} pods are on nodes that do not answer"))
            .with_event("pods are on nodes that do not answer");
    }
    if let Some(Diagnosis { reason, message, .. }) = &causes.pod {
        return yes(*reason, format!("a pod does not run: {message}"));
    }
    if *overdue > 0 {
        return yes(Reason::PodsMissing, format!("{overdue} of {replicas} pods are not ready after {POD_TIMEOUT}"))
            .with_event(format!("pods are not ready after {POD_TIMEOUT}"));
    }
    // In a roll-out the devices of the pod that is replaced are away, and workers come and go.
    let is_rolling = facts.pods.outdated > 0 || facts.pods.terminating > 0;
    if *silent > 0 && *answering == 0 {
        return yes(Reason::NoWorkerAnswers, format!("none of {pods} workers answers the controller"));
    }
    if *silent > 0 && !is_rolling {
        return yes(Reason::WorkersSilent, format!("{silent} of {pods} workers do not answer the controller"))
            .with_event("workers do not answer the controller");
    }
    if devices.refused > 0 {
        let code = causes.refusal.as_deref().map_or(String::new(), |code| format!(": {code}"));
        return yes(Reason::DevicesRefused, format!("the broker refuses {} devices{code}", devices.refused))
            .with_event(format!("the broker refuses devices{code}"));
    }
    let trouble = connection_trouble(facts);
    if let Some((reason, message)) = trouble.filter(|_| devices.connected == 0 && *wanted > 0) {
        return yes(reason, message);
    }
    // Of a worker that has not been heard yet nobody knows what is missing.
    let is_late = *replicas > 0 && facts.now >= facts.round_end && facts.shortage.is_missing();
    if is_late && !is_rolling && answering >= pods && devices.connected < *wanted {
        let missing = wanted - devices.connected;
        if causes.loss.as_deref() == Some("session_taken_over") {
            let found = "others connect with their client ids and take their sessions over";
            let message = format!("{missing} of {wanted} devices are not connected: {found}");
            return yes(Reason::SessionsTakenOver, message).with_event(found);
        }
        let why = why(facts);
        return yes(Reason::DevicesMissing, format!("{missing} of {wanted} devices are not connected{why}"))
            .with_event(format!("devices are not connected{why}"));
    }
    Word::no(DEGRADED, Reason::AsExpected, "nothing is missing")
}

/// What keeps devices from reaching the broker, where the workers' own reports name it.
fn connection_trouble(facts: &Facts) -> Option<(Reason, String)> {
    let broker = &facts.broker;
    match facts.causes.failure.as_deref()? {
        "address_not_allowed" => Some((Reason::LimitExceeded, format!("the broker {broker} is not allowed here"))),
        "unresolved" => Some((Reason::BrokerNotResolved, format!("the name of the broker {broker} does not resolve"))),
        cause @ ("connection_refused"
        | "connect_timeout"
        | "timed_out"
        | "host_unreachable"
        | "network_unreachable") => {
            Some((Reason::BrokerUnreachable, format!("the broker {broker} does not take connections: {cause}")))
        }
        _ => None,
    }
}

/// The most frequent cause as the end of a sentence.
fn why(facts: &Facts) -> String {
    match connection_trouble(facts) {
        Some((_, message)) => format!("; {message}"),
        None => facts.causes.failure.as_deref().map_or(String::new(), |why| format!("; most failures: {why}")),
    }
}

fn saturated(facts: &Facts) -> Word {
    let yes = |reason, message: String| Word::yes(SATURATED, reason, message);
    if let Some(message) = &facts.causes.unschedulable {
        return yes(Reason::Unschedulable, format!("no node takes a pod: {message}"));
    }
    if let Some((rate, sized)) = facts.rate.filter(|(rate, sized)| *rate > sized * 1.001) {
        let message = format!(
            "a pod is asked for up to {rate:.0} messages a second and was sized for {sized:.0}: set `pod.cpu` and \
             `pod.memory`, or fewer devicesPerPod"
        );
        return yes(Reason::RateBeyondSize, message);
    }
    if let Some(room) = facts.broker_devices_max.filter(|room| *room < facts.wanted) {
        let message = format!("the fleet's own broker has room for {room} devices: name a broker of yours");
        return yes(Reason::BrokerTooSmall, message);
    }
    Word::no(SATURATED, Reason::RoomEnough, "pods and broker have room")
}

/// Whether anybody may use the fleet's own broker. Only while workers of an earlier release need that.
fn broker_open(facts: &Facts) -> Word {
    let old = facts.old_workers;
    if facts.broker_devices_max.is_some() && old > 0 {
        let message = format!(
            "the broker admits clients without credentials until {old} workers of an earlier release are replaced"
        );
        return Word::yes(BROKER_OPEN, Reason::OldWorkers, message).with_event(
            "the broker admits clients without credentials until workers of an earlier release are replaced",
        );
    }
    Word::no(BROKER_OPEN, Reason::CredentialsNeeded, "no broker of the fleet's own admits clients without credentials")
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
            reason: word.reason.text().into(),
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
            pods: Pods { wanted: 5, present: 5, ready: 5, answering: 5, loaded: 5, ..Pods::default() },
            wanted: 500,
            devices: Devices { desired: 500, connected: 500, ..Devices::default() },
            shortage: Shortage::default().seen(500, 500, Micros(0)),
            round_end: Micros(1_000),
            now: Micros(500),
            ..Facts::default()
        }
    }

    /// A shortage that holds since long ago.
    fn short(connected: u32, wanted: u32) -> Shortage {
        let start = Shortage::default().seen(wanted, wanted, Micros(0)).seen(connected, wanted, Micros(0));
        start.seen(connected, wanted, Micros(10_000_000))
    }

    #[track_caller]
    fn check(facts: &Facts, expected: [&str; 5]) {
        let [rest @ .., open] = judge(facts).map(|word| word.reason.text());
        assert_eq!((rest, open), (expected, "CredentialsNeeded"));
    }

    const FINE: [&str; 5] = ["DevicesConnected", "Settled", "NothingRefused", "AsExpected", "RoomEnough"];

    #[test]
    fn a_settled_fleet_is_fine() {
        check(&settled(), FINE);
        let nothing = Facts { pods: Pods::default(), ..settled() };
        check(&nothing, ["NoDevices", FINE[1], FINE[2], FINE[3], FINE[4]]);
    }

    #[test]
    fn a_broker_of_its_own_is_open_while_old_workers_are_left() {
        let of = |broker_devices_max, old_workers| {
            let [.., open] = judge(&Facts { broker_devices_max, old_workers, ..settled() });
            (open.holds, open.reason)
        };
        assert_eq!(of(Some(1_000), 2), (true, Reason::OldWorkers));
        assert_eq!(of(Some(1_000), 0), (false, Reason::CredentialsNeeded));
        assert_eq!(of(None, 2), (false, Reason::CredentialsNeeded), "another broker is none of ours");
    }

    #[test]
    fn an_outage_of_the_broker_ends_ready_after_its_time_and_names_the_cause() {
        let devices = Devices { desired: 500, ..Devices::default() };
        let causes = |failure: &str| Causes { failure: Some(failure.into()), ..Causes::default() };
        let dip =
            Facts { devices, now: Micros(2_000), causes: causes("unresolved"), broker: "mqtt://b".into(), ..settled() };
        let [ready, ..] = judge(&dip);
        assert!(ready.holds, "a dip of some seconds");
        let outage = Facts { shortage: short(0, 500), ..dip };
        check(&outage, ["BrokerNotResolved", "Settled", "NothingRefused", "BrokerNotResolved", "RoomEnough"]);
        let [ready, ..] = judge(&outage);
        assert_eq!(
            (ready.holds, ready.message.as_str()),
            (false, "0 of 500 devices are connected; the name of the broker mqtt://b does not resolve")
        );
        let refused = Facts { causes: causes("connection_refused"), ..outage.clone() };
        assert_eq!(judge(&refused)[0].reason, Reason::BrokerUnreachable);
        let other = Facts { causes: causes("tls_alert"), ..outage };
        check(&other, ["DevicesMissing", "Settled", "NothingRefused", "DevicesMissing", "RoomEnough"]);
    }

    #[test]
    fn sessions_that_others_take_over_are_told_as_such() {
        let devices = Devices { connected: 450, ..settled().devices };
        let causes = |loss: &str| Causes { loss: Some(loss.into()), ..Causes::default() };
        let facts = |loss: &str| {
            let (causes, shortage) = (causes(loss), short(450, 500));
            judge(&Facts { devices, causes, shortage, now: Micros(2_000), ..settled() })
        };
        let degraded = |loss: &str| facts(loss).into_iter().find(|word| word.of == DEGRADED).unwrap();
        assert_eq!(degraded("session_taken_over").reason, Reason::SessionsTakenOver);
        let message =
            "50 of 500 devices are not connected: others connect with their client ids and take their sessions over";
        assert_eq!(degraded("session_taken_over").message, message);
        assert_eq!(degraded("closed_by_broker").reason, Reason::DevicesMissing);
    }

    #[test]
    fn one_percent_may_be_missing_of_a_ready_fleet_and_is_told() {
        let devices = Devices { connected: 495, ..settled().devices };
        let facts = Facts { devices, shortage: short(495, 500), now: Micros(2_000), ..settled() };
        check(&facts, [FINE[0], FINE[1], FINE[2], "DevicesMissing", FINE[4]]);
        let rolling = Facts { pods: Pods { outdated: 2, ..facts.pods }, ..facts };
        check(&rolling, [FINE[0], "RollingOut", FINE[2], FINE[3], FINE[4]]);
    }

    #[test]
    fn a_fleet_whose_pods_do_not_answer_is_degraded() {
        let facts = Facts {
            pods: Pods { answering: 0, silent: 5, loaded: 0, ..settled().pods },
            devices: Devices::default(),
            shortage: Shortage::default(),
            ..settled()
        };
        check(&facts, ["PlanNotLoaded", "Connecting", "NothingRefused", "NoWorkerAnswers", "RoomEnough"]);
    }

    #[test]
    fn a_fleet_whose_devices_are_refused_is_not_ready() {
        let devices = Devices { connected: 450, refused: 50, ..settled().devices };
        let causes = Causes { refusal: Some("not_authorized".into()), ..Causes::default() };
        let facts = Facts { devices, causes, shortage: short(450, 500), ..settled() };
        check(&facts, ["DevicesRefused", "Connecting", "NothingRefused", "DevicesRefused", "RoomEnough"]);
    }

    #[test]
    fn what_is_refused_stalls_the_fleet_with_all_causes() {
        let refusal = |reason, message: &str| Refusal { reason, message: message.into() };
        let refusals =
            vec![refusal(Reason::NameTaken, "Service db exists"), refusal(Reason::QuotaExceeded, "exceeded quota")];
        let facts = Facts { refusals, ..settled() };
        check(&facts, ["NameTaken", "NameTaken", "NameTaken", "AsExpected", "RoomEnough"]);
        let [ready, reconciling, stalled, ..] = judge(&facts);
        assert_eq!([ready.holds, reconciling.holds, stalled.holds], [false, false, true]);
        assert_eq!(stalled.message, "Service db exists\nexceeded quota");
    }

    #[test]
    fn missing_pods_have_their_reasons() {
        let shortage = short(300, 500);
        let missing = Facts { pods: Pods { present: 3, ready: 3, ..settled().pods }, shortage, ..settled() };
        let unschedulable = Facts {
            causes: Causes { unschedulable: Some("0/1 nodes".into()), ..Causes::default() },
            ..missing.clone()
        };
        check(&unschedulable, ["PodsNotReady", "Scaling", "NothingRefused", "AsExpected", "Unschedulable"]);
        let diagnosis = |reason| {
            Some(Diagnosis {
                reason,
                word: "CreateContainerConfigError".into(),
                message: "secret \"x\" not found".into(),
            })
        };
        let waits =
            Facts { causes: Causes { pod: diagnosis(Reason::SecretMissing), ..Causes::default() }, ..missing.clone() };
        check(&waits, ["SecretMissing", "Scaling", "NothingRefused", "SecretMissing", "RoomEnough"]);
        let broker =
            Facts { causes: Causes { broker_pod: diagnosis(Reason::PodCrashing), ..Causes::default() }, ..missing };
        check(&broker, ["PodCrashing", "Scaling", "NothingRefused", "BrokerNotReady", "RoomEnough"]);
    }

    #[test]
    fn an_invalid_document_is_not_ready_and_nothing_else_changes() {
        let facts = Facts { problems: vec!["spec.lossAfter: expected …".into()], ..settled() };
        check(&facts, ["InvalidDocument", "InvalidDocument", "InvalidDocument", "AsExpected", "RoomEnough"]);
    }

    #[test]
    fn a_rate_beyond_the_size_is_told() {
        let rate = Facts { rate: Some((101.0, 100.0)), ..settled() };
        check(&rate, [FINE[0], FINE[1], FINE[2], FINE[3], "RateBeyondSize"]);
        let small = Facts { rate: Some((100.0, 100.0)), broker_devices_max: Some(499), ..settled() };
        check(&small, [FINE[0], FINE[1], FINE[2], FINE[3], "BrokerTooSmall"]);
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
        let word = |holds| Word { holds, ..Word::yes(READY, Reason::Ready, "") };
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merge(&[], &[word(true)], Some(1), at(10));
        let same = merge(&first, &[word(true)], Some(2), at(20));
        let other = merge(&same, &[word(false)], Some(2), at(30));
        let times = [&first, &same, &other].map(|list| list[0].last_transition_time.0.as_second());
        assert_eq!(times, [10, 10, 30]);
        assert!(holds(&same, READY) && !holds(&other, READY));
    }
}
