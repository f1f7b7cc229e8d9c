//! What the streams of an absolute rate send by themselves: the factor that brings them there follows from it.

use super::{LoadTestSpec, Phase, RateChange, check::FACTOR_MAX, phase::Rates};
use crate::{
    fleet::{FleetSpec, Group},
    model::Stream,
    share::Membership,
    units::{Rate, Span},
};

/// A phase that asks for more messages a second than its streams can be made to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreachable<'a> {
    /// The phase.
    pub phase: &'a str,
    /// What it asks for.
    pub wanted: Rate,
    /// How many messages a second there are at the largest factor.
    pub most: f64,
    /// With so many devices, the most that there are in the phase.
    pub devices: u32,
}

/// How many messages a second the periodic streams for which `change` counts make by their intervals, with so many devices.
pub fn timetable(spec: &FleetSpec, rates: &Rates, change: &RateChange, devices: u32) -> f64 {
    let shares: Vec<_> = spec.groups.iter().map(|group| group.share).collect();
    let Ok(membership) = Membership::new(&shares) else { return 0.0 };
    let per_second = streams(spec, rates, change).filter_map(|(position, group, name, stream)| {
        let own = group.stream(name, stream).interval?;
        let set = spec.intervals.get(name).or(spec.intervals.get(FleetSpec::ALL_STREAMS)).copied();
        let seconds = set.unwrap_or(own).as_secs_f64();
        (seconds > 0.0).then(|| f64::from(membership.count(position, devices)) / seconds)
    });
    per_second.sum()
}

/// Whether a stream for which `change` counts follows a rule: what it sends nobody knows before.
pub fn follows_rules(spec: &FleetSpec, rates: &Rates, change: &RateChange) -> bool {
    streams(spec, rates, change).any(|(_, _, _, stream)| stream.trigger.is_some())
}

/// The absolute rates that cannot be reached with as many devices as their phase has at most. Where rules send, too, nobody
/// knows, nor where the document leaves the number of devices to others.
pub fn unreachable<'a>(test: &'a LoadTestSpec, spec: &FleetSpec) -> Vec<Unreachable<'a>> {
    let mut unreachable = Vec::new();
    for (phase, devices) in with_most_devices(test, spec) {
        let Some(rates) = &phase.rate else { continue };
        for change in rates.as_written() {
            let most = FACTOR_MAX * timetable(spec, rates, change, devices);
            let Some(wanted) = change.messages.filter(|wanted| most > 0.0 && wanted.get() > most) else { continue };
            if !follows_rules(spec, rates, change) {
                unreachable.push(Unreachable { phase: &phase.name, wanted, most, devices });
            }
        }
    }
    unreachable
}

/// The phases, each with the most devices that there are in it.
fn with_most_devices<'a>(test: &'a LoadTestSpec, spec: &FleetSpec) -> Vec<(&'a Phase, u32)> {
    let mut before = f64::from(spec.devices);
    let mut phases = Vec::new();
    for phase in &test.phases {
        let mut most = before;
        if let Some(curve) = &phase.devices {
            let segments = curve.segments(before, phase.duration);
            let jumps = segments.first().is_some_and(|first| (first.after, first.over) == (Span::ZERO, Span::ZERO));
            let first = if jumps { 0.0 } else { before };
            most = segments.iter().map(|segment| segment.to).fold(first, f64::max);
            before = segments.last().map_or(before, |segment| segment.to);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most ten million")]
        let most = most.round() as u32;
        phases.push((phase, most));
    }
    phases
}

/// The streams for which `change` counts, with the position of their group: those that it means, but for what a more specific
/// rate of the same phase takes.
fn streams<'a>(
    spec: &'a FleetSpec,
    rates: &'a Rates,
    change: &'a RateChange,
) -> impl Iterator<Item = (usize, &'a Group, &'a str, &'a Stream)> {
    let all = spec.groups.iter().enumerate().flat_map(move |(position, group)| {
        let streams = spec.models.get(&group.model).into_iter().flat_map(|model| &model.streams);
        streams.map(move |(name, stream)| (position, group, name.as_str(), stream))
    });
    all.filter(move |(_, group, name, _)| rates.of(&group.name, name) == Some(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FleetSpec {
        serde_saphyr::from_str(
            "{devices: 10, groups: [{name: taxi, share: 50%, model: m}, {name: van, share: 50%, model: m}], models: {m: {signals: {x: \
             {kind: counter, rate: 1}}, streams: {fast: {topic: t, interval: 1s, qos: 0, payload: {json: {x: '{x}'}}}, slow: {topic: \
             u, interval: 10s, qos: 0, payload: {json: {x: '{x}'}}}, event: {topic: v, trigger: {change: {signal: x}}, qos: 0, \
             payload: {json: {x: '{x}'}}}}}}}",
        )
        .unwrap()
    }

    fn rates(text: &str) -> Rates {
        serde_saphyr::from_str(text).unwrap()
    }

    /// What the streams of each rate make by their intervals, with ten devices.
    #[track_caller]
    fn check(spec: &FleetSpec, text: &str, expected: &[f64]) {
        let rates = rates(text);
        let found: Vec<f64> = rates.as_written().iter().map(|change| timetable(spec, &rates, change, 10)).collect();
        let is_same = |(found, expected): (&f64, &f64)| (found - expected).abs() < 1e-9;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(is_same),
            "{text}: expected {expected:?}, found {found:?}"
        );
    }

    #[test]
    fn a_timetable_counts_the_periodic_streams_that_are_meant() {
        // Five devices of each group, with 1 + 0.1 messages a second.
        check(&spec(), "{messages: 1/s}", &[11.0]);
        check(&spec(), "{group: van, messages: 1/s}", &[5.5]);
        check(&spec(), "{group: van, stream: slow, messages: 1/s}", &[0.5]);
        let mut spec = spec();
        spec.intervals.insert(FleetSpec::ALL_STREAMS.into(), Span::from_secs(2));
        check(&spec, "{messages: 1/s}", &[10.0]);
    }

    #[test]
    fn what_a_more_specific_rate_takes_is_left_out_of_the_general_one() {
        check(&spec(), "[{messages: 1/s}, {stream: fast, messages: 1/s}]", &[1.0, 10.0]);
        check(&spec(), "[{stream: fast, factor: 3}, {messages: 1/s}]", &[10.0, 1.0]);
        check(&spec(), "[{messages: 1/s}, {group: van, messages: 1/s}]", &[5.5, 5.5]);
        // What names a stream goes before what names a group.
        check(
            &spec(),
            "[{messages: 1/s}, {group: van, messages: 1/s}, {stream: fast, messages: 1/s}]",
            &[0.5, 0.5, 10.0],
        );
        check(&spec(), "[{stream: fast, messages: 1/s}, {group: van, stream: fast, messages: 1/s}]", &[5.0, 5.0]);
    }

    #[test]
    fn rules_are_those_of_the_streams_that_are_left() {
        let follow = |text: &str| {
            let rates = rates(text);
            rates.as_written().iter().map(|change| follows_rules(&spec(), &rates, change)).collect::<Vec<_>>()
        };
        assert_eq!(follow("[{messages: 1/s}, {stream: fast, messages: 1/s}]"), [true, false]);
        assert_eq!(follow("[{messages: 1/s}, {group: van, messages: 1/s}]"), [true, true]);
        assert_eq!(
            follow("[{group: taxi, messages: 1/s}, {group: taxi, stream: event, messages: 1/s}]"),
            [false, true]
        );
    }

    #[test]
    fn a_rate_beyond_the_largest_factor_is_named_with_what_can_be_reached() {
        let found = |phases: &str, devices: u32| {
            let test: LoadTestSpec = serde_saphyr::from_str(&format!("{{fleet: f, phases: [{phases}]}}")).unwrap();
            let spec = FleetSpec { devices, ..spec() };
            let found = unreachable(&test, &spec).into_iter();
            found.map(|it| (it.phase.to_owned(), it.wanted.get(), it.most.round(), it.devices)).collect::<Vec<_>>()
        };
        let fast = |devices: &str, messages: &str| {
            format!("{{name: a, duration: 10s{devices}, rate: {{stream: fast, messages: {messages}}}}}")
        };
        assert_eq!(found(&fast("", "10000/s"), 10), []);
        assert_eq!(found(&fast("", "10001/s"), 10), [("a".into(), 10_001.0, 10_000.0, 10)]);
        assert_eq!(found(&fast(", devices: {from: 0, to: 11}", "10001/s"), 10), []);
        assert_eq!(found(&fast(", devices: {to: 0}", "10001/s"), 11), []);
        assert_eq!(found(&fast(", devices: 3", "10001/s"), 11), [("a".into(), 10_001.0, 3_000.0, 3)]);
        let before = "{name: b, duration: 1s, devices: {from: 4, to: 2}}";
        assert_eq!(found(&format!("{before}, {}", fast("", "10001/s")), 10), [("a".into(), 10_001.0, 2_000.0, 2)]);
        // Who scales the fleet says how many devices there are, and what rules send nobody knows.
        assert_eq!(found(&fast("", "10001/s"), 0), []);
        assert_eq!(found("{name: a, duration: 10s, rate: {messages: 50000/s}}", 10), []);
    }
}
