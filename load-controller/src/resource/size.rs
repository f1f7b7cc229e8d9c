//! How much CPU and memory a pod asks for: decided once, from its devices at the document's highest rate, so that no
//! scale and no live change rolls pods. Going past it is told (`Saturated`), not answered by a restart.
//!
//! Costs are those of [`fleet_contract::cost`], with room for bursts.
//!
//! How often a rule fires is taken from its kind alone. `simctl plan` tries devices for that and is nearer to what they will do,
//! but only the engine can: the controller knows neither MQTT nor compiled models. It would take 9,600 looks for each stream that
//! is looked at once a second, and a hundred times as many at a look in 10 ms, in the task that decides about the fleet.

use std::collections::BTreeMap;

use fleet_contract::{
    cost::{self, POD_DEVICE_BYTES, POD_LEDGER_ROW_BYTES, POD_WORKER_BYTES, StreamLoad},
    fleet::FleetSpec,
    model::{Rule, Stream, fault::RateEffect},
    plan::Plan,
    share::Membership,
    units::Span,
};

/// Room for bursts: connecting, a broker that comes back, a node that is shared.
const CPU_HEADROOM: f64 = 2.0;
const CPU_MILLIS_MIN: u32 = 50;

const MEMORY_STEP: u64 = 16 << 20;

/// A rule looks so often unless it says otherwise.
const CHECK_DEFAULT: Span = Span::from_secs(1);

/// The share of its looks at which a rule is taken to fire that does not hold for long: rules are for what is rare.
const RULE_SHARE: f64 = 0.1;

/// What a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// CPU in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in bytes; request and limit are the same.
    pub memory_bytes: u64,
    /// Engine threads.
    pub threads: u16,
    /// The messages a second that this is enough for.
    pub messages_per_second: f64,
}

impl Size {
    /// What the pods of a fleet ask for whose models are all in `spec.models`.
    pub fn of(spec: &FleetSpec) -> Self {
        let loads = loads(spec, |_, _, interval| interval);
        let messages_per_second = messages(&loads);
        let observed = cost::observed_share(spec);
        // One thread, as long as it does not need more: what threads add is small where there is work for them.
        let cores = cost::cpu_cores(loads, observed, 1) * CPU_HEADROOM;
        let rows = messages_per_second * observed * spec.loss_after.as_secs_f64();
        let bytes = POD_WORKER_BYTES
            + u64::from(spec.devices_per_pod) * POD_DEVICE_BYTES
            + whole(rows).saturating_mul(POD_LEDGER_ROW_BYTES);
        let cpu_millis = u32::try_from(whole(cores * 100.0) * 10).unwrap_or(u32::MAX).max(CPU_MILLIS_MIN);
        let threads = spec.pod.threads.unwrap_or_else(|| u16::try_from(cpu_millis / 1_000).unwrap_or(64).clamp(1, 64));
        Self { cpu_millis, memory_bytes: bytes.next_multiple_of(MEMORY_STEP), threads, messages_per_second }
    }
}

/// Messages a second of one pod that is full, by the intervals that the plan sets.
pub fn messages_per_second(spec: &FleetSpec, plan: &Plan) -> f64 {
    let interval = |group: &str, stream: &str, interval| plan.pace(group, stream, interval).last();
    messages(&loads(spec, interval))
}

fn messages(loads: &[StreamLoad]) -> f64 {
    loads.iter().map(|load| load.messages).sum()
}

/// What the streams of a full pod do; `interval_of` says how the interval of a stream differs from the document's.
fn loads(spec: &FleetSpec, interval_of: impl Fn(&str, &str, Span) -> Span) -> Vec<StreamLoad> {
    let shares: Vec<_> = spec.groups.iter().map(|group| group.share).collect();
    let membership = Membership::new(&shares).ok();
    let weight = |position| membership.as_ref().map_or(1.0, |m| f64::from(m.count(position, 10_000)) / 10_000.0);
    let nothing = BTreeMap::new();
    let mut loads = Vec::new();
    for (position, group) in spec.groups.iter().enumerate() {
        let devices = weight(position) * f64::from(spec.devices_per_pod);
        for (name, stream) in spec.models.get(&group.model).map_or(&nothing, |model| &model.streams) {
            let stream = group.stream(name, stream);
            let interval_of = |interval| interval_of(&group.name, name, interval);
            loads.push(StreamLoad {
                qos: stream.qos,
                messages: devices * RateEffect::of(&stream.faults).rate(rate(&stream, interval_of)),
                looks: if stream.interval.is_some() { 0.0 } else { devices * looks(&stream) },
                interval: stream.interval.map(interval_of),
            });
        }
    }
    loads
}

/// Messages a second of a stream.
fn rate(stream: &Stream, interval_of: impl Fn(Span) -> Span) -> f64 {
    if let Some(interval) = stream.interval {
        return per_second(interval_of(interval));
    }
    let Some(rule) = &stream.trigger else { return 0.0 };
    let share = if is_constant(rule) { 1.0 } else { RULE_SHARE };
    let least = stream.at_least_every.map_or(0.0, per_second);
    let most = stream.at_most_every.map_or(f64::INFINITY, per_second);
    (looks(stream) * share).min(most).max(least)
}

/// How often a second a stream that follows a rule is looked at.
fn looks(stream: &Stream) -> f64 {
    per_second(stream.check.unwrap_or(CHECK_DEFAULT))
}

/// Whether a rule may hold for long: then it fires at each look.
fn is_constant(rule: &Rule) -> bool {
    match rule {
        Rule::When(_) => true,
        Rule::AnyOf(rules) => rules.iter().any(is_constant),
        Rule::Rising(_) | Rule::Falling(_) | Rule::Change(_) => false,
    }
}

fn per_second(interval: Span) -> f64 {
    1.0 / interval.as_secs_f64().max(1e-6)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and what comes is positive")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

/// A quantity of CPU as the API server writes it: `250m`, `2`.
pub fn cpu_text(millis: u32) -> String {
    if millis.is_multiple_of(1_000) { (millis / 1_000).to_string() } else { format!("{millis}m") }
}

/// A quantity of memory in whole mebibytes as the API server writes it: `64Mi`, `1Gi`.
pub fn memory_text(bytes: u64) -> String {
    let mebibytes = bytes.div_ceil(1 << 20);
    if mebibytes.is_multiple_of(1_024) && mebibytes > 0 {
        format!("{}Gi", mebibytes / 1_024)
    } else {
        format!("{mebibytes}Mi")
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        plan::{Plan, Setting},
        time::Micros,
    };

    use super::*;
    use crate::resource::fixture;

    #[test]
    fn a_pod_is_sized_by_its_devices_and_not_by_the_fleet() {
        let spec = fixture::spec("devices: 10");
        let many = FleetSpec { devices: 1_000_000, ..spec.clone() };
        assert_eq!(Size::of(&spec), Size::of(&many));
        let fuller = FleetSpec { devices_per_pod: 20_000, ..spec.clone() };
        assert!(Size::of(&fuller).memory_bytes > Size::of(&spec).memory_bytes);
        assert!(Size::of(&fuller).cpu_millis > Size::of(&spec).cpu_millis);
    }

    #[test]
    fn floods_and_duplicates_are_more_than_the_timetable() {
        let spec = fixture::spec("devices: 10");
        let mut faulty = spec.clone();
        let faults = "[{kind: duplicate}, {kind: flood, every: 10s, lasts: 1s, interval: 1ms}]";
        let streams = faulty.models.values_mut().flat_map(|model| model.streams.values_mut());
        streams.for_each(|stream| stream.faults = serde_saphyr::from_str(faults).unwrap());
        let (sound, faulty) = (Size::of(&spec), Size::of(&faulty));
        assert!(faulty.messages_per_second > 2.0 * sound.messages_per_second);
        assert!(faulty.cpu_millis > sound.cpu_millis);
    }

    #[test]
    fn a_shorter_interval_is_more_than_the_pod_was_sized_for() {
        let spec = fixture::spec("devices: 10");
        let mut plan = Plan::new(1, Micros(1), 10);
        let sized = Size::of(&spec).messages_per_second;
        assert!((messages_per_second(&spec, &plan) - sized).abs() < 1e-9);
        let setting = Setting::Interval { stream: None, interval: Some(Span::from_millis(100)) };
        plan.set(Micros(2), setting);
        assert!(messages_per_second(&spec, &plan) > 10.0 * sized);
    }

    #[test]
    fn quantities_are_written_as_the_api_server_does() {
        assert_eq!([50, 1_000, 2_500].map(cpu_text), ["50m", "1", "2500m"]);
        assert_eq!([64 << 20, 1 << 30, 1_536 << 20].map(memory_text), ["64Mi", "1Gi", "1536Mi"]);
    }
}
