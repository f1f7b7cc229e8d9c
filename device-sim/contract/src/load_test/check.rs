//! The laws of a load test across its fields, and with its fleet.

use std::collections::BTreeSet;

use super::{
    Criterion, EACH, LASTS_MAX, LoadTestSpec, PHASES_MAX, Phase, SEGMENTS_MAX, THRESHOLDS_MAX,
    curve::{Course, Curve, Shape},
    phase::{RateChange, Rates},
};
use crate::{
    document::Problem,
    expression::{Expression, Type},
    fault::{Aim, Corrupt, Corruption, Duplicate, FAULTS_MAX, Fault, Hook},
    fleet::FleetSpec,
    model::{Model, Payload, StampMode, Stream, fault::FLOOD_MIN, types},
    series::{OFFLINE_DETECTION, RECOVERY, Scope},
    threshold::{Column, Statistic, Threshold},
    units::{Rate, Share, Span},
    unknown,
};

/// The most devices of a fleet.
const DEVICES_MAX: f64 = 10_000_000.0;

/// The shortest time from one end of a session to the next, by `churn`.
const CHURN_MIN: Span = Span::from_millis(100);

/// The longest delay of a link, each way.
const DELAY_MAX: Span = Span::from_secs(60);

/// The largest factor of a rate.
pub const FACTOR_MAX: f64 = 1_000.0;

/// All that is wrong with a load test, and with it beside its fleet where that is known; of the fleet's models only those
/// that stand in it are looked at.
pub fn check(test: &LoadTestSpec, fleet: Option<&FleetSpec>) -> Vec<Problem> {
    let mut check = Check { test, fleet, problems: Vec::new() };
    check.limits();
    check.names();
    for (position, phase) in test.phases.iter().enumerate() {
        check.phase(&format!("/spec/phases/{position}"), phase);
    }
    if let Some(skip) = test.skip.as_ref().filter(|skip| test.phases.iter().all(|phase| phase.name != **skip)) {
        let message = unknown::message("phase", skip, test.phases.iter().map(|phase| phase.name.as_str()));
        check.wrong("/spec/skip", message);
    }
    for (position, criterion) in test.thresholds.iter().enumerate() {
        check.criterion(&format!("/spec/thresholds/{position}"), criterion);
    }
    check.problems
}

/// The phases in which devices are to come faster than a fleet connects them: the phase, how long the document gives them,
/// and how long they take.
pub fn steep(test: &LoadTestSpec, devices: u32, connect: Rate) -> Vec<(&str, Span, Span)> {
    let mut before = f64::from(devices);
    let mut steep = Vec::new();
    for phase in &test.phases {
        let Some(curve) = &phase.devices else { continue };
        for segment in curve.segments(before, phase.duration) {
            let coming = (segment.to - before).max(0.0).round();
            before = segment.to;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most ten million")]
            let needed = connect.time_for((coming as u64).saturating_sub(1));
            // A jump is meant to be as fast as devices connect.
            if segment.over > Span::ZERO && needed > segment.over {
                steep.push((phase.name.as_str(), segment.over, needed));
                break;
            }
        }
    }
    steep
}

struct Check<'a> {
    test: &'a LoadTestSpec,
    fleet: Option<&'a FleetSpec>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn limits(&mut self) {
        let phases = &self.test.phases;
        let faults: usize = phases.iter().map(|phase| phase.faults.len()).sum();
        let segments: usize = phases.iter().map(segments_of).sum();
        for (path, most, what, found) in [
            ("/spec/phases", PHASES_MAX, "phases", phases.len()),
            ("/spec/phases", FAULTS_MAX, "faults", faults),
            ("/spec/phases", SEGMENTS_MAX, "straight lines in all curves", segments),
            ("/spec/thresholds", THRESHOLDS_MAX, "thresholds", self.test.thresholds.len()),
        ] {
            if found > most {
                self.wrong(path, format!("expected at most {most} {what}, found {found}"));
            }
        }
    }

    fn names(&mut self) {
        let mut seen = BTreeSet::new();
        for (position, phase) in self.test.phases.iter().enumerate() {
            let path = format!("/spec/phases/{position}/name");
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if phase.name.is_empty() || phase.name.len() > 40 || !phase.name.chars().all(is_name) {
                self.wrong(
                    path,
                    format!("expected up to 40 lower-case letters, digits and `-`, found `{}`", phase.name),
                );
            } else if phase.name == EACH {
                self.wrong(path, format!("expected another name than `{EACH}`, which thresholds use for each phase"));
            } else if !seen.insert(&phase.name) {
                self.wrong(
                    path,
                    format!("expected each phase to have a name of its own, found `{}` twice", phase.name),
                );
            }
        }
    }

    fn phase(&mut self, path: &str, phase: &Phase) {
        if phase.duration == Span::ZERO || phase.duration > LASTS_MAX {
            self.wrong(
                format!("{path}/duration"),
                format!("expected more than no time and at most {LASTS_MAX}, found `{}`", phase.duration),
            );
        }
        if let Some(curve) = &phase.devices {
            self.curve(&format!("{path}/devices"), curve, phase.duration, DEVICES_MAX);
        }
        if let Some(rates) = &phase.rate {
            let (is_one, changes) = (matches!(rates, Rates::One(_)), rates.as_written());
            for (position, change) in changes.iter().enumerate() {
                let is_same = |other: &RateChange| (&other.group, &other.stream) == (&change.group, &change.stream);
                if let Some(earlier) = changes[..position].iter().position(is_same) {
                    self.wrong(
                        format!("{path}/rate/{position}"),
                        format!("expected another group or stream than that of `rate[{earlier}]`, found the same"),
                    );
                }
                let path = if is_one { format!("{path}/rate") } else { format!("{path}/rate/{position}") };
                self.rate(&path, change, phase);
            }
        }
        for (position, fault) in phase.faults.iter().enumerate() {
            self.fault(&format!("{path}/faults/{position}"), fault, phase);
        }
    }

    fn fault(&mut self, path: &str, fault: &Fault, phase: &Phase) {
        let Aim { share, group, condition, after, lasts, .. } = fault.aim();
        if share == Share::NONE {
            self.wrong(format!("{path}/share"), "expected more than nobody, found `0%`");
        }
        if after >= phase.duration {
            let lasts = phase.duration;
            self.wrong(
                format!("{path}/after"),
                format!("expected less than the phase lasts ({lasts}), found `{after}`"),
            );
        } else if let Some(lasts) = lasts {
            let rest = Span(phase.duration.0 - after.0);
            if lasts == Span::ZERO || lasts > rest {
                let what = format!("expected more than no time and no more than is left of the phase ({rest})");
                self.wrong(format!("{path}/lasts"), format!("{what}, found `{lasts}`"));
            }
        }
        self.group(&format!("{path}/group"), group);
        if let Some(condition) = condition {
            self.condition(&format!("{path}/where"), group, condition);
        }
        match fault {
            Fault::Churn(churn) if churn.every < CHURN_MIN => {
                let (least, found) = (CHURN_MIN, churn.every);
                self.wrong(format!("{path}/every"), format!("expected at least {least}, found `{found}`"));
            }
            Fault::Latency(latency) if latency.delay > DELAY_MAX || latency.jitter > DELAY_MAX => {
                for (field, found) in [("delay", latency.delay), ("jitter", latency.jitter)] {
                    if found > DELAY_MAX {
                        self.wrong(format!("{path}/{field}"), format!("expected at most {DELAY_MAX}, found `{found}`"));
                    }
                }
            }
            Fault::Latency(latency) if latency.delay == Span::ZERO && latency.jitter == Span::ZERO => {
                self.wrong(format!("{path}/delay"), "expected more than no time, or a `jitter`, found none");
            }
            Fault::Clock(clock) if (clock.ahead > Span::ZERO) == (clock.behind > Span::ZERO) && clock.drift == 0 => {
                let found = if clock.ahead > Span::ZERO { "both" } else { "none" };
                self.wrong(path, format!("expected one of `ahead` and `behind`, or `drift`, found {found}"));
            }
            Fault::Stale(stale) if stale.age == Span::ZERO => {
                self.wrong(format!("{path}/age"), "expected more than no time, found `0s`");
            }
            Fault::Flood(flood) if flood.every < FLOOD_MIN => {
                let found = flood.every;
                self.wrong(format!("{path}/every"), format!("expected at least {FLOOD_MIN}, found `{found}`"));
            }
            Fault::Corrupt(Corrupt { messages, .. }) | Fault::Duplicate(Duplicate { messages, .. })
                if *messages == Share::NONE =>
            {
                self.wrong(format!("{path}/messages"), "expected more than none, found `0%`");
            }
            Fault::Hook(hook) => self.hook(path, hook),
            _ => {}
        }
        for (field, is_given) in [("group", group.is_some()), ("where", condition.is_some())] {
            if fault.is_act() && is_given {
                self.wrong(format!("{path}/{field}"), format!("expected none, {} is not about devices", fault.kind()));
            }
        }
        if let Fault::Corrupt(corrupt) = fault {
            self.corruption(path, group, corrupt);
        }
        self.stream(&format!("{path}/stream"), group, fault.stream());
    }

    /// At least one of the streams that are meant can be spoilt in that way, as far as its document tells; the others stay as they
    /// are.
    fn corruption(&mut self, path: &str, group: Option<&str>, Corrupt { how, stream, .. }: &Corrupt) {
        let models = self.models(group);
        let streams = models.iter().flat_map(|model| &model.streams);
        let meant = streams.filter(|(name, _)| stream.as_ref().is_none_or(|stream| stream == *name));
        let meant: Vec<&Stream> = meant.map(|(_, stream)| stream).collect();
        let needs_json = matches!(how, Corruption::Type | Corruption::Range);
        let is_counted = |stream: &&Stream| matches!(stream.stamp, StampMode::Counter(_));
        // A text may be JSON.
        let is_possible = |stream: &&Stream| !needs_json || !matches!(stream.payload, Payload::Cbor(_));
        let uncounted: Vec<&Stream> = meant.iter().copied().filter(|stream| !is_counted(stream)).collect();
        let (is_any_meant, is_any_possible) = (!meant.is_empty(), uncounted.iter().any(is_possible));
        if is_any_meant && uncounted.is_empty() {
            let why = "with another counter a message would pass for another one";
            self.wrong(path, format!("expected a stream that is not stamped by a counter: {why}"));
        } else if is_any_meant && !is_any_possible {
            let why = "only numbers of JSON become text or too large, and no stream that is meant has any";
            self.wrong(format!("{path}/how"), format!("expected `bits` or `truncation`: {why}"));
        }
    }

    fn hook(&mut self, path: &str, hook: &Hook) {
        if hook.command.first().is_none_or(String::is_empty) {
            self.wrong(format!("{path}/command"), "expected a program and its arguments, found none");
        }
        if hook.share != Share::ALL {
            self.wrong(format!("{path}/share"), "expected none, a command is not about devices");
        }
        if hook.timeout() == Span::ZERO {
            self.wrong(format!("{path}/timeout"), "expected more than no time, found `0s`");
        }
    }

    fn rate(&mut self, path: &str, change: &RateChange, phase: &Phase) {
        match (&change.factor, change.messages) {
            (Some(curve), None) => {
                self.curve(&format!("{path}/factor"), curve, phase.duration, FACTOR_MAX);
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) => self.wrong(path, "expected one of `factor` and `messages`, found both"),
            (None, None) => self.wrong(path, "expected one of `factor` and `messages`, found none"),
        }
        self.group(&format!("{path}/group"), change.group.as_deref());
        self.stream(&format!("{path}/stream"), change.group.as_deref(), change.stream.as_deref());
        self.periodic(path, change);
    }

    /// A rate is that of streams with an interval: those that follow rules alone send when their rules say so.
    fn periodic(&mut self, path: &str, change: &RateChange) {
        let models = self.models(change.group.as_deref());
        let streams: Vec<_> = models.into_iter().flat_map(|model| &model.streams).collect();
        let is_meant = |name: &str| change.stream.as_deref().is_none_or(|wanted| wanted == name);
        let mut meant = streams.iter().filter(|(name, _)| is_meant(name)).peekable();
        if meant.peek().is_none() || meant.any(|(_, stream)| stream.trigger.is_none()) {
            return;
        }
        let periodic = streams.iter().filter(|(_, stream)| stream.trigger.is_none());
        let periodic: BTreeSet<&str> = periodic.map(|(name, _)| name.as_str()).collect();
        let (field, found) = match (&change.stream, &change.group) {
            (Some(stream), _) => ("/stream", format!("`{stream}`, which follows a rule")),
            (None, Some(group)) => ("/group", format!("`{group}`, whose streams all follow rules")),
            (None, None) => ("", "a fleet whose streams all follow rules".into()),
        };
        let expected = if periodic.is_empty() {
            "no `rate` where no stream has an `interval`".into()
        } else {
            let list = periodic.into_iter().collect::<Vec<_>>().join("`, `");
            format!("a stream with an `interval` (`{list}`), whose rate can change")
        };
        self.wrong(format!("{path}{field}"), format!("expected {expected}; found {found}"));
    }

    fn curve<T: Copy + Into<f64>>(&mut self, path: &str, curve: &Curve<T>, lasts: Span, most: f64) {
        if let Curve::Course(course) = curve {
            self.course(path, course, lasts);
        }
        for segment in curve.segments(0.0, lasts) {
            if !(0.0..=most).contains(&segment.to) {
                return self.wrong(path, format!("expected values from 0 to {most}, found {}", segment.to));
            }
        }
    }

    fn course<T: Copy + Into<f64>>(&mut self, path: &str, course: &Course<T>, lasts: Span) {
        let kinds = [
            ("to", course.to.is_some()),
            ("spike", course.spike.is_some()),
            ("wave", course.wave.is_some()),
            ("points", !course.points.is_empty()),
        ];
        let given: Vec<_> = kinds.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".into() } else { given.join(" and ") };
            return self.wrong(path, format!("expected one of `to`, `spike`, `wave` and `points`, found {found}"));
        }
        let ramps = course.to.is_some();
        for (field, is_given) in [
            ("from", course.from.is_some()),
            ("steps", course.steps.is_some()),
            ("shape", course.shape != Shape::default()),
        ] {
            if is_given && !ramps {
                self.wrong(format!("{path}/{field}"), format!("expected `to` beside it, found `{}`", given[0]));
            }
        }
        if course.steps.is_some() && course.shape != Shape::default() {
            self.wrong(format!("{path}/steps"), "expected `steps` or `shape`, found both");
        }
        if course.wave.as_ref().is_some_and(|wave| wave.period == Span::ZERO) {
            self.wrong(format!("{path}/wave/period"), "expected more than no time, found `0s`");
        }
        let mut last = Span::ZERO;
        for (position, point) in course.points.iter().enumerate() {
            let path = format!("{path}/points/{position}/at");
            if point.at < last {
                self.wrong(
                    path,
                    format!("expected at least that of the point before (`{last}`), found `{}`", point.at),
                );
            } else if point.at > lasts {
                self.wrong(path, format!("expected at most what the phase lasts (`{lasts}`), found `{}`", point.at));
            }
            last = point.at;
        }
    }

    fn criterion(&mut self, path: &str, criterion: &Criterion) {
        let Criterion { expect, phase, group, stream, qos, .. } = criterion;
        let names = || self.test.phases.iter().map(|phase| phase.name.as_str());
        match phase.as_deref() {
            Some(EACH) | None => {
                let is_of_measured = phase.is_some() || !expect.is_of_whole_run();
                if is_of_measured && !self.test.phases.iter().any(|phase| phase.measure) {
                    let path = if phase.is_some() { format!("{path}/phase") } else { path.into() };
                    self.wrong(path, "expected a phase with `measure: true`, or `phase: NAME` here; found neither");
                }
            }
            Some(name) if !names().any(|known| known == name) => {
                let message = unknown::message("phase", name, names());
                self.wrong(format!("{path}/phase"), message);
            }
            Some(_) => {}
        }
        let phases = &self.test.phases;
        let lasts = match phase.as_deref() {
            Some(name) if name != EACH => {
                phases.iter().find(|phase| phase.name == name).map_or(LASTS_MAX, |phase| phase.duration)
            }
            _ => Span(phases.iter().map(|phase| phase.duration.0).fold(0, u64::saturating_add)),
        };
        if let Some(abort) = criterion.abort_on_fail.filter(|abort| abort.after >= lasts) {
            let what = if phase.as_deref().is_some_and(|name| name != EACH) { "phase" } else { "test" };
            self.wrong(
                format!("{path}/abortOnFail/after"),
                format!("expected less than the {what} lasts ({lasts}), found `{}`", abort.after),
            );
        }
        let is_of_fleet = match expect.column {
            Column::Counter(_) => false,
            Column::Will(_) => true,
            Column::Distribution(row) => row.scope == Scope::Fleet,
        };
        for (field, is_given) in [("group", group.is_some()), ("stream", stream.is_some()), ("qos", qos.is_some())] {
            if is_of_fleet && is_given {
                let key = expect.column.key();
                self.wrong(format!("{path}/{field}"), format!("expected none: {key} is measured for the fleet alone"));
            }
        }
        if let Some(name) = criterion.fault.as_deref() {
            self.fault_of(path, expect, phase.as_deref(), name);
        } else if phase.is_some() && expect.is_of_wills() {
            let key = expect.column.key();
            self.wrong(
                format!("{path}/phase"),
                format!("expected none, or `fault: NAME` beside it: {key} is measured for the test and by fault"),
            );
        }
        self.wills(&format!("{path}/expect"), expect);
        let is_acknowledged = expect.column.key() == "publish_ack" && expect.statistic != Statistic::Rate;
        if is_acknowledged && *qos == Some(crate::fleet::Qos::AtMostOnce) {
            self.wrong(format!("{path}/qos"), "expected 1 or 2: nothing of QoS 0 is acknowledged");
        }
        self.group(&format!("{path}/group"), group.as_deref());
        self.stream(&format!("{path}/stream"), group.as_deref(), stream.as_deref());
    }

    /// The fault that a threshold is about.
    fn fault_of(&mut self, path: &str, expect: &Threshold, phase: Option<&str>, name: &str) {
        let is_meant = |it: &&Phase| phase.is_none_or(|phase| phase == EACH && it.measure || phase == it.name);
        let phases = self.test.phases.iter().filter(is_meant);
        let names: BTreeSet<&str> = phases.flat_map(|phase| &phase.faults).map(Fault::name).collect();
        if !names.contains(name) {
            self.wrong(format!("{path}/fault"), unknown::message("fault", name, names));
        }
        if !expect.is_by_fault() {
            let (key, recovery, detection) = (expect.column.key(), RECOVERY.key, OFFLINE_DETECTION.key);
            self.wrong(
                format!("{path}/fault"),
                format!("expected `{recovery}`, `{detection}` or a counter of wills, which are measured by fault, found `{key}`"),
            );
        }
    }

    /// A threshold about wills needs some that tell their device.
    fn wills(&mut self, path: &str, expect: &Threshold) {
        let Some(fleet) = self.fleet.filter(|_| expect.is_of_wills()) else { return };
        let key = expect.column.key();
        match &fleet.connect.will {
            None => {
                self.wrong(path, format!("expected `spec.connect.will` in the fleet, without which there is no {key}"));
            }
            Some(will) if !will.names_device(&fleet.client_id) => {
                let what = "expected `{index}`, or an `{id}` that has it, in the topic or the payload of `spec.connect.will` of the fleet";
                self.wrong(path, format!("{what}: no will tells its device, so that {key} is not known"));
            }
            Some(_) => {}
        }
    }

    fn group(&mut self, path: &str, group: Option<&str>) {
        let (Some(group), Some(fleet)) = (group, self.fleet) else { return };
        let names = || fleet.groups.iter().map(|group| group.name.as_str());
        if !names().any(|name| name == group) {
            self.wrong(path, unknown::message("group", group, names()));
        }
    }

    /// The models of the groups that are meant; none where there is no such group, or one of them is found elsewhere.
    fn models(&self, group: Option<&str>) -> Vec<&Model> {
        let Some(fleet) = self.fleet else { return Vec::new() };
        let is_meant = |name: &str| group.is_none_or(|group| name == group);
        let groups = fleet.groups.iter().filter(|group| is_meant(&group.name));
        groups.map(|group| fleet.models.get(&group.model)).collect::<Option<_>>().unwrap_or_default()
    }

    /// What the signals of a device have to meet. The model of at least one of the groups that are meant has all of them.
    fn condition(&mut self, path: &str, group: Option<&str>, text: &str) {
        let expression = match Expression::parse(text) {
            Ok(expression) => expression,
            Err(error) => return self.wrong(path, error.to_string()),
        };
        let mut names = BTreeSet::new();
        expression.for_each_name(&mut |name| {
            names.insert(name.as_str());
        });
        let models = self.models(group);
        let has_all = |model: &&Model| names.iter().all(|name| model.signals.contains_key(*name));
        let (whole, lacking): (Vec<&Model>, Vec<&Model>) = models.into_iter().partition(has_all);
        if whole.is_empty() && !lacking.is_empty() {
            let known: BTreeSet<&str> =
                lacking.iter().flat_map(|model| model.signals.keys().map(String::as_str)).collect();
            let unknown = names.iter().find(|name| !known.contains(**name)).copied();
            let message = match unknown {
                Some(name) => unknown::message("signal", name, known),
                None => "expected a group whose model has all of these signals, found none".into(),
            };
            return self.wrong(path, message);
        }
        for model in whole {
            let types = types(model);
            let message = match expression.type_of(&|name| types.get(name).copied().unwrap_or(Type::Number)) {
                Ok(Type::Bool | Type::Number) => continue,
                Ok(Type::Text) => "expected a truth value or a number, found a text".into(),
                Err(message) => message,
            };
            return self.wrong(path, message);
        }
    }

    fn stream(&mut self, path: &str, group: Option<&str>, stream: Option<&str>) {
        let Some(stream) = stream else { return };
        let models = self.models(group);
        if models.is_empty() {
            return;
        }
        let names: BTreeSet<&str> =
            models.into_iter().flat_map(|model| model.streams.keys().map(String::as_str)).collect();
        if !names.contains(stream) {
            self.wrong(path, unknown::message("stream", stream, names));
        }
    }
}

/// How many straight lines the curves of a phase have.
fn segments_of(phase: &Phase) -> usize {
    let devices = phase.devices.as_ref().map_or(0, |curve| curve.segments(0.0, phase.duration).len());
    let rates = phase.rate.iter().flat_map(|rates| rates.all());
    let factors = rates.filter_map(|change| change.factor.as_ref());
    devices + factors.map(|curve| curve.segments(0.0, phase.duration).len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document, load_test::LoadTest};

    /// What is wrong with a test that has these phases and thresholds.
    fn wrong(phases: &str, thresholds: &str) -> String {
        let text = format!(
            "apiVersion: simctl.io/v1alpha1\nkind: LoadTest\nmetadata: {{name: t}}\nspec: {{fleet: f, phases: [{phases}], \
             thresholds: [{thresholds}]}}\n"
        );
        let (test, _) = document::read::<LoadTest>("t.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let fleet = serde_saphyr::from_str::<FleetSpec>(
            "{groups: [{name: taxi, model: m}, {name: van, model: elsewhere}], models: {m: {signals: {x: {kind: counter, rate: 1}}, \
             streams: {state: {topic: t, interval: 1s, qos: 0, payload: {json: {x: '{x}'}}}}}}}",
        )
        .unwrap();
        check(&test.spec, Some(&fleet)).iter().map(|problem| format!("{problem}\n")).collect()
    }

    const STEADY: &str = "{name: steady, duration: 1m, measure: true}";

    #[test]
    fn what_is_right_is_right() {
        let phases = format!(
            "{{name: ramp, duration: 1m, devices: 7, rate: [{{group: taxi, stream: state, factor: 2}}, {{messages: 50/s}}]}}, {STEADY}"
        );
        let thresholds = "lost == 0, {expect: 'sent.rate > 1/s', phase: each, group: van, stream: any}";
        assert_eq!(wrong(&phases, thresholds), "");
    }

    #[test]
    fn each_law_is_told_with_its_place() {
        let phases = "{name: A, duration: 8d}, {name: each, duration: 1s}, {name: b, duration: 1s, devices: {from: 1}, \
                      rate: {factor: {spike: 2000}}}, {name: b, duration: 1s, devices: {to: 3, wave: {mean: 1, amplitude: 1, \
                      period: 1s}}, rate: {group: texi, stream: stat, messages: 3/s, factor: 2}, faults: [{kind: disconnect, \
                      share: 1%, after: 2s}]}, {name: c, duration: 1s, devices: {points: [{at: 2s, value: 1}, {at: 1s, \
                      value: 2}]}, rate: {}}, {name: d, duration: 1s, devices: {wave: {mean: 1, amplitude: 2, period: 0s}}}, \
                      {name: e, duration: 1s, devices: {spike: 2, from: 1, steps: 2}}";
        let thresholds = "end_to_end.p99 < 1s, {expect: lost == 0, phase: d2}, {expect: 'connect.p50 < 1s', group: taxi, \
                          phase: each}, {expect: 'publish_ack.p50 < 1s', qos: 0, stream: stat, group: taxi, phase: b}";
        insta::assert_snapshot!(wrong(phases, thresholds), @r"
        spec.phases[0].name: expected up to 40 lower-case letters, digits and `-`, found `A`
        spec.phases[1].name: expected another name than `each`, which thresholds use for each phase
        spec.phases[3].name: expected each phase to have a name of its own, found `b` twice
        spec.phases[0].duration: expected more than no time and at most 168h, found `192h`
        spec.phases[2].devices: expected one of `to`, `spike`, `wave` and `points`, found none
        spec.phases[2].rate.factor: expected values from 0 to 1000, found 2000
        spec.phases[3].devices: expected one of `to`, `spike`, `wave` and `points`, found to and wave
        spec.phases[3].rate: expected one of `factor` and `messages`, found both
        spec.phases[3].rate.group: there is no group `texi`, did you mean `taxi`? (there are `taxi`, `van`)
        spec.phases[3].faults[0].after: expected less than the phase lasts (1s), found `2s`
        spec.phases[4].devices.points[0].at: expected at most what the phase lasts (`1s`), found `2s`
        spec.phases[4].devices.points[1].at: expected at least that of the point before (`2s`), found `1s`
        spec.phases[4].rate: expected one of `factor` and `messages`, found none
        spec.phases[5].devices.wave.period: expected more than no time, found `0s`
        spec.phases[6].devices.from: expected `to` beside it, found `spike`
        spec.phases[6].devices.steps: expected `to` beside it, found `spike`
        spec.thresholds[0]: expected a phase with `measure: true`, or `phase: NAME` here; found neither
        spec.thresholds[1].phase: there is no phase `d2`; there are `A`, `each`, `b`, `b`, `c`, `d`, `e`
        spec.thresholds[2].phase: expected a phase with `measure: true`, or `phase: NAME` here; found neither
        spec.thresholds[2].group: expected none: connect is measured for the fleet alone
        spec.thresholds[3].qos: expected 1 or 2: nothing of QoS 0 is acknowledged
        spec.thresholds[3].stream: there is no stream `stat`, did you mean `state`? (there are `state`)
        ");
    }

    #[test]
    fn a_rate_needs_a_stream_with_an_interval() {
        let told = |groups: &str, rate: &str| {
            let test = format!("{{fleet: f, phases: [{{name: a, duration: 10s, rate: {rate}}}]}}");
            let rule = |name: &str| {
                format!(
                    "{name}: {{topic: u, trigger: {{change: {{signal: x}}}}, qos: 0, payload: {{json: {{x: '{{x}}'}}}}}}"
                )
            };
            let signals = "signals: {x: {kind: counter, rate: 1}}";
            let fleet = format!(
                "{{groups: [{groups}], models: {{both: {{{signals}, streams: {{state: {{topic: t, interval: 1s, qos: 0, payload: {{json: \
                 {{}}}}}}, {}}}}}, rules: {{{signals}, streams: {{{}, {}}}}}}}}}",
                rule("event"),
                rule("event"),
                rule("alarm")
            );
            let (test, fleet) = (serde_saphyr::from_str(&test).unwrap(), serde_saphyr::from_str(&fleet).unwrap());
            check(&test, Some(&fleet)).iter().map(|problem| format!("{problem}\n")).collect::<String>()
        };
        let groups = "{name: car, share: 50%, model: both}, {name: lamp, share: 50%, model: rules}";
        for right in ["{factor: 2}", "{messages: 9/s}", "{stream: state, factor: 2}", "{group: car, messages: 9/s}"] {
            assert_eq!(told(groups, right), "", "{right}");
        }
        // A model that is found elsewhere may have an interval for it.
        assert_eq!(told("{name: car, model: elsewhere}", "{stream: event, factor: 2}"), "");
        let all = [
            (groups, "{stream: event, factor: 2}"),
            (groups, "[{factor: 2}, {group: lamp, stream: alarm, messages: 9/s}]"),
            (groups, "{group: lamp, messages: 9/s}"),
            ("{name: lamp, model: rules}", "{messages: 9/s}"),
        ];
        insta::assert_snapshot!(all.map(|(groups, rate)| told(groups, rate)).concat(), @r"
        spec.phases[0].rate.stream: expected a stream with an `interval` (`state`), whose rate can change; found `event`, which follows a rule
        spec.phases[0].rate[1].stream: expected no `rate` where no stream has an `interval`; found `alarm`, which follows a rule
        spec.phases[0].rate.group: expected no `rate` where no stream has an `interval`; found `lamp`, whose streams all follow rules
        spec.phases[0].rate: expected no `rate` where no stream has an `interval`; found a fleet whose streams all follow rules
        ");
    }

    #[test]
    fn a_region_is_checked_against_the_signals_of_the_models() {
        let wrong = |groups: &str, fault: &str| {
            let spec: LoadTestSpec = serde_saphyr::from_str(&format!(
                "{{fleet: f, phases: [{{name: a, duration: 10s, faults: [{{kind: blackhole, {fault}}}]}}]}}"
            ))
            .unwrap();
            let streams = "streams: {state: {topic: t, interval: 1s, qos: 0, payload: {json: {}}}}";
            let fleet: FleetSpec = serde_saphyr::from_str(&format!(
                "{{groups: [{groups}], models: {{car: {{signals: {{lat: {{kind: counter, rate: 1}}, mode: {{kind: constant, value: \
                 parked}}}}, {streams}}}, lamp: {{signals: {{lux: {{kind: counter, rate: 1}}}}, {streams}}}}}}}"
            ))
            .unwrap();
            check(&spec, Some(&fleet)).iter().map(|problem| format!("{problem}\n")).collect::<String>()
        };
        let both = "{name: cars, model: car}, {name: lamps, model: lamp}";
        for sound in
            ["where: 'lat > 48.1'", "where: lat", "group: cars, where: 'mode == \"parked\" && lat < 1'", "where: lux"]
        {
            assert_eq!(wrong(both, sound), "", "{sound}");
        }
        // A model that is found elsewhere may have it.
        assert_eq!(wrong("{name: cars, model: elsewhere}", "where: lon"), "");
        let all = [
            (both, "where: 'lat >'"),
            (both, "where: 'lon > 1'"),
            (both, "where: 'lat > lux'"),
            (both, "group: lamps, where: 'lat > 1'"),
            (both, "where: mode"),
            (both, "where: 'lat && true'"),
        ];
        insta::assert_snapshot!(all.map(|(groups, fault)| wrong(groups, fault)).concat(), @r"
        spec.phases[0].faults[0].where: expected a number, a text, a signal or a function at character 6 of `lat >`
        spec.phases[0].faults[0].where: there is no signal `lon`, did you mean `lat`? (there are `lat`, `lux`, `mode`)
        spec.phases[0].faults[0].where: expected a group whose model has all of these signals, found none
        spec.phases[0].faults[0].where: there is no signal `lat`, did you mean `lux`? (there are `lux`)
        spec.phases[0].faults[0].where: expected a truth value or a number, found a text
        spec.phases[0].faults[0].where: `&&` needs a bool, not a number
        ");
    }

    #[test]
    fn a_corruption_needs_a_payload_that_it_can_spoil() {
        let wrong = |fault: &str| {
            let spec: LoadTestSpec = serde_saphyr::from_str(&format!(
                "{{fleet: f, phases: [{{name: a, duration: 10s, faults: [{{kind: corrupt, {fault}}}]}}]}}"
            ))
            .unwrap();
            let fleet: FleetSpec = serde_saphyr::from_str(
                "{groups: [{name: cars, model: car}], models: {car: {signals: {}, streams: {cbor: {topic: a, interval: 1s, qos: 0, \
                 payload: {cbor: {}}}, json: {topic: b, interval: 1s, qos: 0, payload: {json: {}}}, counted: {topic: c, \
                 interval: 1s, qos: 0, stamp: {counter: n}, payload: {json: {n: '{seq}'}}}}}}}",
            )
            .unwrap();
            check(&spec, Some(&fleet)).iter().map(|problem| format!("{problem}\n")).collect::<String>()
        };
        for sound in ["how: type", "how: range, stream: json", "how: bits, stream: cbor", "how: truncation"] {
            assert_eq!(wrong(sound), "", "{sound}");
        }
        let all = ["how: type, stream: cbor", "how: bits, stream: counted"];
        insta::assert_snapshot!(all.map(wrong).concat(), @r"
        spec.phases[0].faults[0].how: expected `bits` or `truncation`: only numbers of JSON become text or too large, and no stream that is meant has any
        spec.phases[0].faults[0]: expected a stream that is not stamped by a counter: with another counter a message would pass for another one
        ");
    }

    #[test]
    fn acts_are_not_about_devices() {
        let phases = "{name: a, duration: 1m, measure: true, faults: [{kind: kill-pods, group: taxi, where: 'x > 1'}, {kind: hook, \
                      command: [], share: 5%, timeout: 0s}, {kind: hook, command: [restart]}]}";
        insta::assert_snapshot!(wrong(phases, ""), @r"
        spec.phases[0].faults[0].group: expected none, kill-pods is not about devices
        spec.phases[0].faults[0].where: expected none, kill-pods is not about devices
        spec.phases[0].faults[1].command: expected a program and its arguments, found none
        spec.phases[0].faults[1].share: expected none, a command is not about devices
        spec.phases[0].faults[1].timeout: expected more than no time, found `0s`
        ");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field_and_what_was_found() {
        let phases = format!(
            "{{name: a, duration: 10s, rate: [{{factor: 2}}, {{factor: 3}}], faults: [{{kind: latency, delay: 1s, jitter: 2m}}, \
             {{kind: clock}}, {{kind: clock, ahead: 1s, behind: 1s}}]}}, {STEADY}"
        );
        let thresholds =
            "{expect: lost == 0, phase: a, abortOnFail: {after: 10s}}, {expect: lost == 0, abortOnFail: {after: 2m}}";
        insta::assert_snapshot!(wrong(&phases, thresholds), @r"
        spec.phases[0].rate[1]: expected another group or stream than that of `rate[0]`, found the same
        spec.phases[0].faults[0].jitter: expected at most 1m, found `2m`
        spec.phases[0].faults[1]: expected one of `ahead` and `behind`, or `drift`, found none
        spec.phases[0].faults[2]: expected one of `ahead` and `behind`, or `drift`, found both
        spec.thresholds[0].abortOnFail.after: expected less than the phase lasts (10s), found `10s`
        spec.thresholds[1].abortOnFail.after: expected less than the test lasts (70s), found `2m`
        ");
    }

    #[test]
    fn thresholds_of_wills_need_wills_that_tell_their_device() {
        let phases = format!("{STEADY}, {{name: cut, duration: 9s, faults: [{{kind: disconnect}}]}}");
        let told = |will: &str, threshold: &str| {
            let text = format!("{{fleet: f, phases: [{phases}], thresholds: [{threshold}]}}");
            let fleet = format!("{{groups: [{{name: taxi, model: m}}], connect: {{will: {will}}}}}");
            let (test, fleet) = (serde_saphyr::from_str(&text).unwrap(), serde_saphyr::from_str(&fleet).unwrap());
            check(&test, Some(&fleet)).iter().map(|problem| format!("{problem}\n")).collect::<String>()
        };
        let (named, dumb) = ("{topic: 'w/{index}', payload: gone}", "{topic: w, payload: gone}");
        let both = "{expect: 'offline_detection.p99 < 2s', fault: disconnect}, {expect: wills_missing == 0, fault: disconnect}";
        assert_eq!(told(named, &format!("wills_missing == 0, {both}")), "");
        assert_eq!(told("{topic: w, payload: '{id}'}", both), "");
        insta::assert_snapshot!(told("null", "retained_wrong == 0"), @"spec.thresholds[0].expect: expected `spec.connect.will` in the fleet, without which there is no retained_wrong");
        insta::assert_snapshot!(told(dumb, "offline_detection.max < 2s"), @"spec.thresholds[0].expect: expected `{index}`, or an `{id}` that has it, in the topic or the payload of `spec.connect.will` of the fleet: no will tells its device, so that offline_detection is not known");
        insta::assert_snapshot!(told(named, "{expect: wills_missing == 0, phase: cut}, {expect: lost == 0, fault: disconnect}"), @"
        spec.thresholds[0].phase: expected none, or `fault: NAME` beside it: wills_missing is measured for the test and by fault
        spec.thresholds[1].fault: expected `recovery`, `offline_detection` or a counter of wills, which are measured by fault, found `lost`
        ");
    }

    #[test]
    fn limits_are_told_with_the_number() {
        let many: Vec<_> = (0..65).map(|number| format!("{{name: p{number}, duration: 1s}}")).collect();
        let text = |faults: usize| {
            let fault = "{kind: disconnect, share: 1%}, ".repeat(faults);
            format!(
                "{{name: a, duration: 7d, devices: {{wave: {{mean: 5, amplitude: 5, period: 1h}}}}, faults: [{fault}]}}, {STEADY}"
            )
        };
        let spec = |phases: &str| {
            let text = format!("{{fleet: f, phases: [{phases}], thresholds: [{}]}}", "lost == 0, ".repeat(257));
            check(&serde_saphyr::from_str::<LoadTestSpec>(&text).unwrap(), None)
        };
        let messages = |problems: Vec<Problem>| problems.into_iter().map(|it| it.message).collect::<Vec<_>>();
        let thresholds = "expected at most 256 thresholds, found 257".to_owned();
        assert_eq!(
            messages(spec(&many.join(", "))),
            ["expected at most 64 phases, found 65".into(), thresholds.clone()]
        );
        let [faults, lines, _] = messages(spec(&text(65))).try_into().unwrap();
        assert_eq!(faults, "expected at most 64 faults, found 65");
        assert!(lines.starts_with("expected at most 4096 straight lines in all curves, found "), "{lines}");
    }

    #[test]
    fn who_connects_slower_than_a_curve_rises_is_named() {
        let text = "{fleet: f, phases: [{name: slow, duration: 10s, devices: {from: 0, to: 100}}, {name: jump, duration: 1s, \
                    devices: 200}, {name: fast, duration: 1s, devices: 400}, {name: quick, duration: 2s, devices: {to: 501}}]}";
        let test: LoadTestSpec = serde_saphyr::from_str(text).unwrap();
        assert_eq!(steep(&test, 0, "20/s".parse().unwrap()), [("quick", Span::from_secs(2), Span::from_secs(5))]);
    }
}
