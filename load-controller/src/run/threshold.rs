//! Thresholds: what somebody wants of a run, held against what it measured.
//!
//! A threshold without a phase looks at all measured phases together if it is about rates or times, and at the whole run if it
//! is a promise about messages or wills, or about recovery or offline detection. A figure of which nothing was measured fails: no data is no pass.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fleet_contract::{
    fleet::{Observe, Qos},
    load_test::{AbortOnFail, Criterion, EACH},
    series::{
        CONNECT, Distribution, END_TO_END, Known, OFFERED, OFFLINE_DETECTION, PUBLISH_ACK, RECOVERY, SCHEDULE_LAG,
        Scope, total,
    },
    stats::{
        Groups, Latencies, Latency, Messages, RETAINED_RIGHT, RETAINED_WRONG, Stats, SumOf, WILLS_DELETED,
        WILLS_EXPECTED, WILLS_UNEXPECTED, WillCounter, Wills,
    },
    threshold::{Bound, Column, Operator, Statistic, Threshold},
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SETTLING, facts::RunFacts, fault, phase::Spanned, stage::Stage};
use crate::words;

/// What was measured of what a threshold looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// A count, so many a second, or microseconds.
    Figure(f64),
    /// Messages that have no answer reach so far into the distribution that it has no such time.
    Unbounded,
    /// Nothing.
    Nothing,
}

/// How far a threshold is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Not yet: it is met, or not, as far as it has come.
    Pending,
    /// It is met.
    Passed,
    /// It is not.
    Failed,
}

/// A threshold of one phase, or of several together, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement<'a> {
    /// The threshold.
    pub criterion: &'a Criterion,
    /// The phase; `None` where it is about several of them, or about the whole run.
    pub phase: Option<&'a str>,
    /// What was measured.
    pub found: Found,
    /// Of how many messages, or other things.
    pub samples: u64,
    /// How many of these have no answer, and take longer than any bound.
    pub unanswered: u64,
    /// How far it is judged.
    pub outcome: Outcome,
}

/// Holds all thresholds of a run against what it has measured by now.
pub fn judge<'a>(stats: &Stats, facts: &'a RunFacts) -> Vec<Judgement<'a>> {
    let judged = facts.asked.thresholds.iter().flat_map(|criterion| {
        places(criterion, facts).into_iter().map(|place| place.judge(criterion, stats, facts)).collect::<Vec<_>>()
    });
    judged.collect()
}

/// A threshold that fails now and is to end the run. A time reads what is settled, and what has been under way for longer than
/// its bound already. The times of streams are in `sums`, as fresh as the counters in `stats`; of which there are none, no threshold
/// is judged that reads them.
pub fn to_abort(stats: &Stats, sums: &Sums, facts: &RunFacts, recent: &mut Recent) -> Option<String> {
    let elapsed = facts.elapsed();
    facts.asked.thresholds.iter().enumerate().find_map(|(number, criterion)| {
        let AbortOnFail { after } = criterion.abort_on_fail?;
        let mut is_failing = |(place_number, place): (usize, &Place<'_>)| {
            let overdue = recent.overdue((number, place_number), place, criterion, stats, facts);
            if !place.is_due(after, elapsed) {
                return None;
            }
            let measured = place.measured_now(criterion, stats, sums, facts)?;
            let judged = place.judge_with(criterion, &measured, stats, facts, overdue);
            // Nothing yet is no failure.
            let is_failing = judged.found != Found::Nothing && !judged.is_met() && !judged.may_still_be_met();
            is_failing.then(|| judged.to_string())
        };
        places(criterion, facts).iter().enumerate().find_map(&mut is_failing)
    })
}

/// Sums of times of streams, over all workers.
pub type Sums = BTreeMap<SumOf, Latency>;

/// The sums of times of streams that thresholds read which may end a run, when so much of it has passed. The fleet's own times are
/// in each reading. They are read from the beginning on, so that one who falls silent before a threshold is judged has told one.
pub fn sums_read(facts: &RunFacts, elapsed: Span) -> BTreeSet<SumOf> {
    let mut sums = BTreeSet::new();
    for criterion in &facts.asked.thresholds {
        if criterion.abort_on_fail.is_none() {
            continue;
        }
        for place in places(criterion, facts).iter().filter(|place| place.is_due(Span::ZERO, elapsed)) {
            sums.extend(place.sums(criterion, elapsed));
        }
    }
    sums
}

/// How many messages had been sent at each of the last readings, for each threshold that may end a run and each place of it.
///
/// Of those that had been sent by an instant, at least as many are still under way as there are more of them than answers by now.
#[derive(Debug, Default)]
pub struct Recent(BTreeMap<(usize, usize), VecDeque<(Span, u64)>>);

impl Recent {
    /// How many messages, at least, have been under way for longer than the bound of a time.
    fn overdue(
        &mut self,
        key: (usize, usize),
        place: &Place<'_>,
        criterion: &Criterion,
        stats: &Stats,
        facts: &RunFacts,
    ) -> u64 {
        let (Column::Distribution(distribution), Bound::Time(bound)) =
            (criterion.expect.column, criterion.expect.bound)
        else {
            return 0;
        };
        let measured = place.measured(criterion, stats, facts);
        let Messages { observed, delivered, lost, unknown, .. } = measured.messages;
        let (sent, answered) = if *distribution == END_TO_END {
            (observed, delivered + lost + unknown)
        } else if *distribution == PUBLISH_ACK {
            (measured.acknowledgeable.sent, measured.acknowledgeable.acknowledged)
        } else {
            return 0;
        };
        let (seen, now) = (self.0.entry(key).or_default(), facts.elapsed());
        seen.push_back((now, sent));
        let is_older = |(at, _): &(Span, u64)| at.0.saturating_add(bound.0) <= now.0;
        // The last of those that are old enough says what had been sent by then.
        while seen.get(1).is_some_and(is_older) {
            seen.pop_front();
        }
        seen.front().filter(|first| is_older(first)).map_or(0, |(_, sent)| sent.saturating_sub(answered))
    }
}

/// Where a threshold looks.
struct Place<'a> {
    /// Those phases; none is the whole run.
    phases: Vec<Spanned<'a>>,
    /// The name, where it is a single one.
    name: Option<&'a str>,
    /// Those faults alone, where it is about what they did.
    faults: Option<Vec<fault::Spanned<'a>>>,
}

/// The places of a threshold: one, or one for each measured phase.
fn places<'a>(criterion: &Criterion, facts: &'a RunFacts) -> Vec<Place<'a>> {
    let faults_in = |phase: Option<&str>| {
        let name = criterion.fault.as_deref()?;
        let mut faults = fault::spanned(&facts.asked.phases);
        faults.retain(|fault| fault.fault.name() == name && phase.is_none_or(|phase| phase == fault.phase));
        Some(faults)
    };
    let one = |phase: Spanned<'a>| {
        let name = &phase.phase.name;
        Place { phases: vec![phase], name: Some(name), faults: faults_in(Some(name)) }
    };
    let measured = || facts.asked.phases.spanned().filter(|it| it.phase.measure);
    match criterion.phase.as_deref() {
        Some(EACH) => measured().map(one).collect(),
        Some(name) => facts.asked.phases.spanned().filter(|it| it.phase.name == name).map(one).collect(),
        None if criterion.expect.is_of_whole_run() || criterion.fault.is_some() => {
            vec![Place { phases: Vec::new(), name: None, faults: faults_in(None) }]
        }
        None => vec![Place { phases: measured().collect(), name: None, faults: None }],
    }
}

/// What was counted and timed at a place.
struct Measured {
    messages: Messages,
    /// Of these: those that a broker acknowledges.
    acknowledgeable: Messages,
    latency: Latencies,
    wills: Wills,
    /// How long it was measured.
    seconds: f64,
}

impl<'a> Place<'a> {
    fn judge<'c>(&self, criterion: &'c Criterion, stats: &Stats, facts: &'c RunFacts) -> Judgement<'c>
    where
        'a: 'c,
    {
        self.judge_with(criterion, &self.measured(criterion, stats, facts), stats, facts, 0)
    }

    /// The same of what was measured there, where so many messages that are under way have been so for longer than the bound.
    fn judge_with<'c>(
        &self,
        criterion: &'c Criterion,
        measured: &Measured,
        stats: &Stats,
        facts: &'c RunFacts,
        overdue: u64,
    ) -> Judgement<'c>
    where
        'a: 'c,
    {
        let is_final = self.is_final(facts);
        let unanswered = match criterion.expect.column {
            Column::Distribution(distribution) => overdue + self.unanswered(distribution, measured, stats, facts),
            Column::Counter(_) | Column::Will(_) => 0,
        };
        let (found, samples) = measured.figure(&criterion.expect, unanswered, facts);
        let (phase, outcome) = (self.name, Outcome::Pending);
        let mut judgement = Judgement { criterion, phase, found, samples, unanswered, outcome };
        if is_final {
            judgement.outcome = if judgement.is_met() { Outcome::Passed } else { Outcome::Failed };
        }
        judgement
    }

    /// When it begins, from the start of the run on.
    fn begins(&self) -> Span {
        let begins = match &self.faults {
            Some(faults) => faults.first().map(|fault| fault.after),
            None => self.phases.first().map(|phase| phase.after),
        };
        begins.unwrap_or_default()
    }

    /// Whether so much of the run has passed that a threshold of this place may end it, `after` it has begun.
    fn is_due(&self, after: Span, elapsed: Span) -> bool {
        elapsed.0 >= self.begins().0.saturating_add(after.0)
    }

    /// The sums of times of streams that a threshold reads here, of the phases that have begun by now; none where it reads the
    /// fleet's own times.
    fn sums(&self, criterion: &Criterion, elapsed: Span) -> Vec<SumOf> {
        let Criterion { group, stream, qos, .. } = criterion;
        let is_all = group.is_none() && stream.is_none() && qos.is_none();
        let Column::Distribution(row) = criterion.expect.column else { return Vec::new() };
        if row.scope == Scope::Fleet || self.faults.is_some() || self.phases.is_empty() && is_all {
            return Vec::new();
        }
        let of = |phase: Option<u32>| SumOf {
            distribution: row.key.to_owned(),
            phase,
            group: group.clone(),
            stream: stream.clone(),
            qos: *qos,
        };
        if self.phases.is_empty() {
            return vec![of(None)];
        }
        self.phases.iter().filter(|phase| phase.after <= elapsed).map(|phase| of(Some(phase.number))).collect()
    }

    /// Whether nothing of it can change any more.
    fn is_final(&self, facts: &RunFacts) -> bool {
        let settling = facts.fleet.spec.loss_after.0.saturating_add(SETTLING.0);
        let is_settled = |phase: &Spanned<'_>| facts.elapsed().0 >= phase.until().0.saturating_add(settling);
        // Devices come back when they can, if they do.
        let is_of_phases = !self.phases.is_empty() && self.faults.is_none();
        facts.stage == Stage::Ended || is_of_phases && self.phases.iter().all(is_settled)
    }

    /// As [`Place::measured`], with the times of streams from their sums; `None` where one is not known.
    fn measured_now(&self, criterion: &Criterion, stats: &Stats, sums: &Sums, facts: &RunFacts) -> Option<Measured> {
        let measured = self.measured(criterion, stats, facts);
        let read = self.sums(criterion, facts.elapsed());
        let Column::Distribution(row) = criterion.expect.column else { return Some(measured) };
        if read.is_empty() {
            return Some(measured);
        }
        let mut times = Latency::default();
        for of in &read {
            times.merge(sums.get(of)?);
        }
        Some(Measured { latency: row.alone(times), ..measured })
    }

    fn measured(&self, criterion: &Criterion, stats: &Stats, facts: &RunFacts) -> Measured {
        if let Some(faults) = &self.faults {
            let mut sum = selected(&Groups::default(), criterion);
            for fault in faults.iter().filter_map(|fault| stats.faults.get(fault.number)) {
                sum.latency.recovery.merge(&fault.recovery);
                sum.latency.offline_detection.merge(&fault.offline_detection);
                sum.wills.merge(&fault.wills);
            }
            return Measured { seconds: facts.running().as_secs_f64(), ..sum };
        }
        if self.phases.is_empty() {
            let mut measured = Measured { wills: stats.wills, ..selected(&stats.groups, criterion) };
            let is_all = criterion.group.is_none() && criterion.stream.is_none() && criterion.qos.is_none();
            if is_all {
                // Workers of an earlier release tell nothing of streams.
                measured.messages = stats.all_messages();
                measured.acknowledgeable = stats.messages[1];
                measured.acknowledgeable.merge(&stats.messages[2]);
                measured.latency = stats.latency.clone();
            }
            return Measured { seconds: facts.running().as_secs_f64(), ..measured };
        }
        let mut sum = selected(&Groups::default(), criterion);
        for phase in &self.phases {
            sum.seconds += facts.offered_within(phase.after, phase.until());
            let Some(counted) = stats.phases.get(&phase.number) else { continue };
            let mut of_phase = selected(&counted.groups, criterion);
            of_phase.latency.merge(&counted.latency);
            sum.messages.merge(&of_phase.messages);
            sum.acknowledgeable.merge(&of_phase.acknowledgeable);
            sum.latency.merge(&of_phase.latency);
        }
        sum
    }

    /// How many times of a distribution have no end, by now: those of messages without an answer, and of devices that have not
    /// come or come back.
    fn unanswered(&self, distribution: &Distribution, measured: &Measured, stats: &Stats, facts: &RunFacts) -> u64 {
        let is_final = self.is_final(facts);
        let in_flight = |open: u64| if is_final { open } else { 0 };
        // Whoever is missing in the end is missing in what ends last.
        let last = facts.asked.phases.last();
        let ends_last = self.phases.is_empty() || self.phases.iter().any(|phase| Some(phase.until()) == last);
        let missing = || {
            let devices = facts.devices(stats);
            let missing = u64::from(devices.desired.saturating_sub(devices.connected));
            if is_final && ends_last { missing } else { 0 }
        };
        let lost_for_good = || {
            let lost: u64 = stats.connections.lost.values().sum();
            lost.saturating_sub(stats.connections.reconnects).min(missing())
        };
        if *distribution == OFFLINE_DETECTION {
            let Wills { missing, .. } = measured.wills;
            missing + in_flight(measured.wills.pending())
        } else if let Some(faults) = &self.faults {
            let away =
                faults.iter().filter_map(|fault| stats.faults.get(fault.number)).map(|fault| fault.sessions.away);
            in_flight(away.map(u64::from).sum())
        } else if *distribution == END_TO_END {
            measured.messages.lost + in_flight(measured.messages.in_flight())
        } else if *distribution == PUBLISH_ACK {
            let Messages { sent, acknowledged, .. } = measured.acknowledgeable;
            in_flight(sent.saturating_sub(acknowledged))
        } else if *distribution == RECOVERY {
            lost_for_good()
        } else if *distribution == CONNECT {
            missing().saturating_sub(lost_for_good())
        } else {
            0
        }
    }
}

/// What the streams that a threshold is about have counted.
fn selected(groups: &Groups, criterion: &Criterion) -> Measured {
    let is_meant = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let streams = || {
        groups.streams().filter(|(group, stream, stats)| {
            is_meant(&criterion.group, group)
                && is_meant(&criterion.stream, stream)
                && criterion.qos.is_none_or(|qos| qos == stats.qos)
        })
    };
    let (messages, latency) = total(streams().map(|(_, _, stats)| stats));
    let mut acknowledgeable = Messages::default();
    for (_, _, stats) in streams().filter(|(_, _, stats)| stats.qos != Qos::AtMostOnce) {
        acknowledgeable.merge(&stats.messages);
    }
    Measured { messages, acknowledgeable, latency, wills: Wills::default(), seconds: 0.0 }
}

impl Measured {
    /// How many messages have no time of a distribution yet, or never get one: that none of them has is a figure, too.
    fn without_time(&self, distribution: &Distribution) -> u64 {
        if *distribution == END_TO_END {
            self.messages.lost + self.messages.in_flight()
        } else if *distribution == PUBLISH_ACK {
            self.acknowledgeable.sent.saturating_sub(self.acknowledgeable.acknowledged)
        } else {
            0
        }
    }

    /// The figure that a threshold asks for, and of how many things it is; `open` times of a distribution have no end.
    fn figure(&self, wanted: &Threshold, open: u64, facts: &RunFacts) -> (Found, u64) {
        let per_second = |count: u64| {
            if self.seconds > 0.0 { Found::Figure(count as f64 / self.seconds) } else { Found::Nothing }
        };
        match wanted.column {
            Column::Counter(counter) => {
                let is_known = counter.known == Known::Always || facts.observe() != Observe::None;
                // Where nothing was to be sent, nothing was lost, and that proves nothing.
                let is_counted = self.messages.offered > 0 || *counter == OFFERED;
                let count = (counter.get)(&self.messages);
                let found = match wanted.statistic {
                    _ if !is_known || !is_counted => Found::Nothing,
                    Statistic::Rate => per_second(count),
                    _ => Found::Figure(count as f64),
                };
                (found, self.messages.offered)
            }
            Column::Will(counter) => {
                let samples = samples_of(counter, &self.wills);
                let is_known = facts.observe() != Observe::None && samples > 0;
                (if is_known { Found::Figure((counter.get)(&self.wills) as f64) } else { Found::Nothing }, samples)
            }
            Column::Distribution(distribution) => {
                let latency = (distribution.get)(&self.latency);
                let count = latency.count();
                let is_known = *distribution != END_TO_END || facts.observe() != Observe::None;
                // That nobody had to come back is a finding; where no message was to be timed, nothing was looked at.
                let is_of_messages = [PUBLISH_ACK, END_TO_END, SCHEDULE_LAG].contains(distribution);
                let is_timed = !is_of_messages || count + open + self.without_time(distribution) > 0;
                let found = match wanted.statistic {
                    _ if !is_known => Found::Nothing,
                    Statistic::Count | Statistic::Rate if !is_timed => Found::Nothing,
                    Statistic::Count => Found::Figure(count as f64),
                    Statistic::Rate => per_second(count),
                    _ if count + open == 0 => Found::Nothing,
                    Statistic::Mean if open == 0 => Found::Figure(latency.sum_seconds() * 1e6 / count as f64),
                    Statistic::Max if open == 0 => time(latency.max()),
                    Statistic::Percentile(hundredths) => percentile(latency, count, open, hundredths),
                    Statistic::Mean | Statistic::Max => Found::Unbounded,
                };
                (found, count + open)
            }
        }
    }
}

/// Of how many sessions, or looks, a counter of wills says something: where there is none, zero proves nothing.
fn samples_of(counter: &WillCounter, wills: &Wills) -> u64 {
    if [RETAINED_RIGHT, RETAINED_WRONG].contains(counter) {
        wills.looks()
    } else if [WILLS_EXPECTED, WILLS_UNEXPECTED, WILLS_DELETED].contains(counter) {
        wills.expected + wills.deleted + wills.unexpected
    } else {
        wills.expected.saturating_sub(wills.unknown)
    }
}

fn time(time: Option<Span>) -> Found {
    time.map_or(Found::Nothing, |time| Found::Figure(time.0 as f64))
}

/// The percentile of `count` times and of `open` ones that are longer than any of them, by the nearest rank.
fn percentile(latency: &Latency, count: u64, open: u64, hundredths: u16) -> Found {
    let rank = (u128::from(hundredths) * u128::from(count + open)).div_ceil(10_000);
    if rank > u128::from(count) {
        return Found::Unbounded;
    }
    // In the middle of the rank, so that no rounding leads to the next one.
    time(latency.quantile((rank as f64 - 0.5) / count as f64))
}

impl Judgement<'_> {
    /// Whether what was found is what is wanted.
    pub fn is_met(&self) -> bool {
        let Threshold { operator, bound, .. } = &self.criterion.expect;
        match self.found {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time that was recorded")]
            Found::Figure(figure) if let Bound::Time(bound) = bound => {
                // A distribution knows no finer difference.
                let [figure, bound] = [Span(figure as u64), *bound].map(|time| Latency::told_apart(time).0 as f64);
                operator.holds(figure, bound)
            }
            Found::Figure(figure) => operator.holds(figure, bound.get()),
            Found::Unbounded => operator.holds(f64::INFINITY, bound.get()),
            Found::Nothing => false,
        }
    }

    /// Whether a count that is too low may still grow to what is wanted.
    fn may_still_be_met(&self) -> bool {
        let Threshold { statistic, operator, bound, .. } = &self.criterion.expect;
        let is_open = self.outcome == Outcome::Pending && *statistic == Statistic::Count;
        let is_low = matches!(self.found, Found::Figure(figure) if figure <= bound.get());
        is_open && is_low && matches!(operator, Operator::More | Operator::AtLeast | Operator::Equal)
    }

    /// Where it looks, as [`place`] has it.
    pub fn place(&self) -> String {
        let Criterion { fault, group, stream, qos, .. } = self.criterion;
        place([self.phase, fault.as_deref(), group.as_deref(), stream.as_deref()], *qos)
    }

    /// What was found, in words.
    pub fn shown(&self) -> String {
        match (self.found, &self.criterion.expect.bound) {
            (Found::Nothing, _) => "nothing measured".into(),
            (Found::Unbounded, _) => {
                format!("no end: {} of {} have no answer", words::count(self.unanswered), words::count(self.samples))
            }
            (Found::Figure(figure), Bound::Time(_)) => words::time(figure / 1e6),
            (Found::Figure(figure), Bound::PerSecond(_)) => format!("{}/s", words::number(figure)),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            (Found::Figure(figure), Bound::Count(_)) => words::count(figure as u64),
        }
    }
}

/// Where a threshold looks, in words, by the names of phase, fault, group and stream: `in phase steady, group taxi`; empty for the
/// whole of everything.
pub fn place(names: [Option<&str>; 4], qos: Option<Qos>) -> String {
    let named = ["phase", "fault", "group", "stream"].into_iter().zip(names);
    let names = named.filter_map(|(what, name)| Some(format!("{what} {}", name?)));
    let parts: Vec<_> = names.chain(qos.map(|qos| format!("QoS {}", u8::from(qos)))).collect();
    if parts.is_empty() { String::new() } else { format!("in {}", parts.join(", ")) }
}

impl std::fmt::Display for Judgement<'_> {
    /// `expected end_to_end.p99 < 250ms in phase steady, found 312 ms (of 60,000)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let subject = format!("{} {}", self.criterion.expect, self.place());
        write!(f, "expected {}, found {}", subject.trim_end(), self.shown())?;
        if matches!(self.found, Found::Figure(_)) && matches!(self.criterion.expect.column, Column::Distribution(_)) {
            write!(f, " (of {})", words::count(self.samples))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        stats::{Connections, Devices, PhaseStats, StreamStats},
        time::Micros,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        fixture::{START, facts, stats_of},
        run::{facts::Asked, phase::Phases},
    };

    fn criterion(text: &str) -> Criterion {
        serde_saphyr::from_str(text).unwrap()
    }

    /// A run of 60 s that has ended, with `ramp` of 20 s, `steady` of 30 s and `peak` of 10 s, the last two measured.
    fn asking(thresholds: &[&str]) -> RunFacts {
        let phases = "[{name: ramp, duration: 20s}, {name: steady, duration: 30s, measure: true}, {name: peak, duration: 10s, \
                      measure: true}]";
        let phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
        let thresholds = thresholds.iter().map(|text| criterion(text)).collect();
        RunFacts { asked: Asked { phases, thresholds, ..Asked::default() }, now: at(80), ..facts() }
    }

    fn at(seconds: u64) -> Micros {
        START.after(Span::from_secs(seconds))
    }

    /// A stream with deliveries after 1 ms, 2 ms, … and others that were lost.
    fn stream(delivered: u64, lost: u64) -> StreamStats {
        let mut stream = StreamStats::of(Qos::AtLeastOnce);
        let sent = delivered + lost;
        stream.messages = Messages {
            offered: sent,
            sent,
            acknowledged: delivered,
            observed: sent,
            delivered,
            lost,
            ..Messages::default()
        };
        (1..=delivered).for_each(|millis| stream.latency.end_to_end.record(Span::from_millis(millis)));
        stream
    }

    fn stats(phases: [(u64, u64); 3]) -> Stats {
        let mut stats =
            Stats { devices: Devices { desired: 9, connected: 9, ..Devices::default() }, ..Stats::default() };
        for (number, (delivered, lost)) in (0..).zip(phases) {
            let mut phase = PhaseStats::default();
            for (group, stream) in [("taxi", stream(delivered, lost)), ("van", stream(delivered, 0))] {
                phase.groups.add(group, "state", &stream);
                stats.add_stream(group, "state", &stream);
            }
            stats.phases.insert(number, phase);
        }
        stats
    }

    /// All sums that thresholds read, told with the counters.
    fn told(stats: &Stats, facts: &RunFacts) -> Sums {
        sums_read(facts, facts.elapsed()).into_iter().map(|of| (of.clone(), of.within(stats))).collect()
    }

    #[track_caller]
    fn check(text: &str, stats: &Stats, expected: &str, outcome: Outcome) {
        let facts = asking(&[text]);
        let [judged] = &judge(stats, &facts)[..] else { panic!("one place") };
        assert_eq!((judged.to_string().as_str(), judged.outcome), (expected, outcome));
    }

    #[test]
    fn a_threshold_looks_where_it_says() {
        let stats = stats([(1_000, 0), (100, 0), (10, 0)]);
        for (text, expected, outcome) in [
            ("end_to_end.p50 < 60ms", "expected end_to_end.p50 < 60ms, found 45.0 ms (of 220)", Outcome::Passed),
            (
                "{expect: end_to_end.max <= 10ms, phase: peak}",
                "expected end_to_end.max <= 10ms in phase peak, found 10.0 ms (of 20)",
                Outcome::Passed,
            ),
            (
                "{expect: end_to_end.max < 10ms, phase: peak, group: van}",
                "expected end_to_end.max < 10ms in phase peak, group van, found 10.0 ms (of 10)",
                Outcome::Failed,
            ),
            (
                "{expect: sent.rate == 2/s, phase: peak}",
                "expected sent.rate == 2/s in phase peak, found 2.00/s",
                Outcome::Passed,
            ),
            ("sent.rate > 6/s", "expected sent.rate > 6/s, found 5.50/s", Outcome::Failed),
            ("sent == 2220", "expected sent == 2220, found 2,220", Outcome::Passed),
            (
                "{expect: sent == 1110, stream: state, qos: 1, group: taxi}",
                "expected sent == 1110 in group taxi, stream state, QoS 1, found 1,110",
                Outcome::Passed,
            ),
            ("{expect: sent == 0, qos: 2}", "expected sent == 0 in QoS 2, found nothing measured", Outcome::Failed),
            ("connect.p99 < 1s", "expected connect.p99 < 1s, found nothing measured", Outcome::Failed),
        ] {
            check(text, &stats, expected, outcome);
        }
        let facts = asking(&["{expect: 'end_to_end.mean < 1s', phase: each}"]);
        let places: Vec<_> = judge(&stats, &facts).iter().map(Judgement::place).collect();
        assert_eq!(places, ["in phase steady", "in phase peak"]);
    }

    #[test]
    fn how_many_messages_were_timed_is_no_figure_where_there_were_none_and_how_many_recovered_is() {
        let nothing = stats([(0, 0); 3]);
        for text in ["end_to_end.rate < 100/s", "publish_ack.count < 5", "schedule_lag.count < 5"] {
            check(text, &nothing, &format!("expected {text}, found nothing measured"), Outcome::Failed);
        }
        for text in ["recovery.count == 0", "offline_detection.count == 0"] {
            check(text, &nothing, &format!("expected {text}, found 0 (of 0)"), Outcome::Passed);
        }
        let mut blind = asking(&["end_to_end.rate < 100/s"]);
        blind.fleet.spec.observe = Observe::None;
        assert_eq!(judge(&stats([(9, 0); 3]), &blind)[0].found, Found::Nothing, "nobody looks");
        // What was sent and has no answer is not nothing.
        let text = "{expect: 'publish_ack.rate > 5/s', phase: steady, abortOnFail: {}}";
        let going_on = RunFacts { now: at(30), stage: Stage::Running, ..asking(&[text]) };
        let sums = sums_read(&going_on, going_on.elapsed()).into_iter().map(|of| (of, Latency::default())).collect();
        assert!(to_abort(&stats([(0, 0), (0, 3), (0, 0)]), &sums, &going_on, &mut Recent::default()).is_some());
    }

    #[test]
    fn what_has_no_answer_takes_longer_than_any_bound() {
        // Of 100 and 100, one was lost: the last of 200 has no end, the 199th is 100 ms.
        let stats = stats([(0, 0), (100, 0), (0, 1)]);
        check("end_to_end.p99 < 1h", &stats, "expected end_to_end.p99 < 1h, found 100 ms (of 201)", Outcome::Passed);
        check(
            "end_to_end.p99.9 < 1h",
            &stats,
            "expected end_to_end.p99.9 < 1h, found no end: 1 of 201 have no answer",
            Outcome::Failed,
        );
        check(
            "end_to_end.max < 1h",
            &stats,
            "expected end_to_end.max < 1h, found no end: 1 of 201 have no answer",
            Outcome::Failed,
        );
        check(
            "{expect: 'publish_ack.p50 < 1h', phase: peak}",
            &stats,
            "expected publish_ack.p50 < 1h in phase peak, found no end: 1 of 1 have no answer",
            Outcome::Failed,
        );
        check("lost == 0", &stats, "expected lost == 0, found 1", Outcome::Failed);
        check("{expect: lost == 0, group: van}", &stats, "expected lost == 0 in group van, found 0", Outcome::Passed);
    }

    #[test]
    fn devices_that_do_not_come_back_recover_never() {
        let mut stats = stats([(1, 0), (1, 0), (1, 0)]);
        stats.devices.connected = 7;
        stats.connections =
            Connections { reconnects: 3, lost: [("closed".into(), 5)].into(), ..Connections::default() };
        for latency in [&mut stats.phases.get_mut(&1).unwrap().latency, &mut stats.latency] {
            (0..3).for_each(|_| latency.recovery.record(Span::from_millis(5)));
        }
        check(
            "recovery.p95 < 30s",
            &stats,
            "expected recovery.p95 < 30s, found no end: 2 of 5 have no answer",
            Outcome::Failed,
        );
        check(
            "{expect: 'recovery.p95 < 30s', phase: steady}",
            &stats,
            "expected recovery.p95 < 30s in phase steady, found 5.00 ms (of 3)",
            Outcome::Passed,
        );
    }

    #[test]
    fn a_phase_is_judged_when_its_last_messages_are() {
        let stats = stats([(10, 0), (10, 0), (10, 0)]);
        let outcome = |elapsed: u64| {
            let facts = RunFacts {
                now: at(elapsed),
                stage: Stage::Running,
                ..asking(&["{expect: 'end_to_end.p99 < 1s', phase: steady}", "lost == 0"])
            };
            judge(&stats, &facts).iter().map(|judged| judged.outcome).collect::<Vec<_>>()
        };
        // It lasts until 50 s; a message is lost after 10 s.
        assert_eq!(outcome(60), [Outcome::Pending, Outcome::Pending]);
        assert_eq!(outcome(61), [Outcome::Passed, Outcome::Pending]);
    }

    #[test]
    fn a_run_ends_for_a_threshold_that_says_so_once_it_is_time() {
        let stats = stats([(10, 0), (10, 5), (0, 0)]);
        let ends = |text: &str, elapsed: u64| {
            let facts = RunFacts { now: at(elapsed), stage: Stage::Running, ..asking(&[text]) };
            to_abort(&stats, &told(&stats, &facts), &facts, &mut Recent::default())
        };
        let steady = "{expect: lost < 3, phase: steady, abortOnFail: {after: 10s}}";
        assert_eq!(ends(steady, 29), None);
        assert_eq!(ends(steady, 30).as_deref(), Some("expected lost < 3 in phase steady, found 5"));
        assert_eq!(ends("{expect: lost < 3, phase: steady}", 30), None, "it does not say so");
        assert_eq!(ends("{expect: lost < 6, abortOnFail: {}}", 30), None, "it is met");
        // Of a count that grows, too little is no failure before the end.
        assert_eq!(ends("{expect: sent > 99, abortOnFail: {}}", 30), None);
        assert_eq!(ends("{expect: sent == 99, abortOnFail: {}}", 30), None);
        assert!(ends("{expect: sent == 9, abortOnFail: {}}", 30).is_some());
        assert!(ends("{expect: sent > 99, phase: ramp, abortOnFail: {}}", 31).is_some(), "that is over");
        assert_eq!(
            ends("{expect: 'end_to_end.p99 < 1ms', phase: peak, abortOnFail: {}}", 51),
            None,
            "nothing was measured yet"
        );
    }

    #[test]
    fn of_times_those_are_read_that_may_end_the_run_now() {
        // `ramp` until 20 s, `steady` until 50 s, `peak` until 60 s.
        let read = |text: &str, elapsed: u64| {
            let sums = sums_read(&asking(&[text]), Span::from_secs(elapsed));
            let of = |sum: SumOf| {
                let SumOf { distribution, phase, group, stream, qos } = sum;
                let qos = qos.map(|qos| u8::from(qos).to_string());
                let phase = phase.map_or_else(|| "run".into(), |number| number.to_string());
                [Some(distribution), Some(phase), group, stream, qos]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            sums.into_iter().map(of).collect::<Vec<_>>()
        };
        let of_measured = "{expect: 'end_to_end.p99 < 1s', abortOnFail: {}}";
        assert_eq!(read(of_measured, 19), [""; 0]);
        assert_eq!(read(of_measured, 20), ["end_to_end 1"]);
        assert_eq!(read(of_measured, 55), ["end_to_end 1", "end_to_end 2"]);
        assert_eq!(read("{expect: 'end_to_end.p99 < 1s', phase: peak}", 55), [""; 0], "it ends nothing");
        assert_eq!(read("{expect: 'publish_ack.p50 < 1s', phase: each, abortOnFail: {}}", 30), ["publish_ack 1"]);
        let of_stream = "{expect: 'end_to_end.p99 < 1s', phase: peak, group: taxi, stream: state, qos: 1, abortOnFail: {after: 5s}}";
        assert_eq!(read(of_stream, 49), [""; 0], "it has not begun");
        assert_eq!(read(of_stream, 50), ["end_to_end 2 taxi state 1"], "before it may end the run");
        // Nothing of streams, and what each reading tells.
        assert_eq!(read("{expect: lost == 0, stream: state, abortOnFail: {}}", 55), [""; 0]);
        assert_eq!(read("{expect: 'connect.p99 < 1s', phase: steady, abortOnFail: {}}", 55), [""; 0]);
        assert_eq!(read("{expect: 'recovery.p99 < 1s', abortOnFail: {}}", 55), [""; 0]);
        let undivided = |text: &str| {
            let thresholds = vec![criterion(text)];
            let facts = RunFacts { asked: Asked { thresholds, ..Asked::default() }, ..facts() };
            sums_read(&facts, Span::from_secs(9)).into_iter().map(|of| (of.phase, of.group)).collect::<Vec<_>>()
        };
        assert!(undivided(of_measured).is_empty());
        assert_eq!(
            undivided("{expect: 'end_to_end.p99 < 1s', group: taxi, abortOnFail: {}}"),
            [(None, Some("taxi".into()))]
        );
    }

    #[test]
    fn a_time_that_was_not_told_with_the_counters_ends_nothing() {
        let stats = stats([(10, 0), (10, 5), (0, 0)]);
        let facts = RunFacts {
            now: at(30),
            stage: Stage::Running,
            ..asking(&["{expect: 'end_to_end.p99 < 1s', phase: steady, group: taxi, abortOnFail: {}}"])
        };
        assert_eq!(to_abort(&stats, &Sums::new(), &facts, &mut Recent::default()), None);
        assert_eq!(
            to_abort(&stats, &told(&stats, &facts), &facts, &mut Recent::default()).as_deref(),
            Some("expected end_to_end.p99 < 1s in phase steady, group taxi, found no end: 5 of 15 have no answer")
        );
    }

    #[test]
    fn what_has_been_under_way_for_longer_than_the_bound_fails_before_it_is_lost() {
        let text = "{expect: 'end_to_end.p90 < 3s', phase: steady, abortOnFail: {}}";
        let mut recent = Recent::default();
        let mut at_second = |elapsed: u64, sent: u64, delivered: u64| {
            let mut stats = stats([(1, 0), (1, 0), (1, 0)]);
            let mut counted = StreamStats::of(Qos::AtLeastOnce);
            counted.messages = Messages { offered: sent, sent, observed: sent, delivered, ..Messages::default() };
            (0..delivered).for_each(|_| counted.latency.end_to_end.record(Span::from_millis(5)));
            let mut phase = PhaseStats::default();
            phase.groups.add("taxi", "state", &counted);
            stats.phases.insert(1, phase);
            let facts = RunFacts { now: at(elapsed), stage: Stage::Running, ..asking(&[text]) };
            to_abort(&stats, &told(&stats, &facts), &facts, &mut recent)
        };
        // A hundred a second, and from 24 s on no answer comes.
        assert_eq!(at_second(22, 200, 200), None);
        assert_eq!(at_second(23, 300, 300), None);
        assert_eq!(at_second(24, 400, 300), None, "for two seconds nobody knows");
        assert_eq!(at_second(26, 600, 300), None);
        assert_eq!(
            at_second(27, 700, 300).as_deref(),
            Some("expected end_to_end.p90 < 3s in phase steady, found no end: 100 of 400 have no answer")
        );
    }

    /// Phases with the times of what was delivered in them, in microseconds, how many were lost, and whether they are measured.
    fn any_phases() -> impl Strategy<Value = Vec<(Vec<u64>, u64, bool)>> {
        let times = prop::collection::vec(1_u64..3_000_000, 0..30);
        prop::collection::vec((times, 0_u64..3, any::<bool>()), 1..6)
    }

    proptest! {
        /// Who has all times in one list comes to the same.
        #[test]
        fn a_naive_judge_agrees(
            phases in any_phases(),
            hundredths in 1_u16..10_000,
            bound in 1_u64..3_000_000,
            (operator, symbol) in prop::sample::select(vec![(Operator::Less, "<"), (Operator::AtMost, "<="), (Operator::More, ">"), (Operator::AtLeast, ">="), (Operator::Equal, "==")]),
            place in 0_usize..8,
        ) {
            let mut stats = Stats::default();
            for (number, (times, lost, _)) in (0..).zip(&phases) {
                let mut counted = StreamStats::of(Qos::AtLeastOnce);
                let delivered = times.len() as u64;
                counted.messages = Messages { offered: delivered + lost, sent: delivered + lost, observed: delivered + lost, delivered, lost: *lost, ..Messages::default() };
                times.iter().for_each(|time| counted.latency.end_to_end.record(Span(*time)));
                let mut phase = PhaseStats::default();
                phase.groups.add("taxi", "state", &counted);
                stats.phases.insert(number, phase);
            }
            let written: Vec<_> = phases.iter().enumerate().map(|(number, (_, _, measure))| format!("{{name: p{number}, duration: 1s, measure: {measure}}}")).collect();
            let asked = Phases::new(serde_saphyr::from_str(&format!("[{}]", written.join(", "))).unwrap());
            // A place is a phase, each of the measured ones, or all of them together.
            let text = format!("end_to_end.p{} {symbol} {bound}us", f64::from(hundredths) / 100.0);
            let mut wanted = Criterion::of(text.parse().unwrap());
            wanted.phase = (place > 0).then(|| if place == 1 { EACH.into() } else { format!("p{}", (place - 2) % phases.len()) });
            let facts = RunFacts { asked: Asked { phases: asked, thresholds: vec![wanted], ..Asked::default() }, now: at(80), ..facts() };

            let naive = |of: &[&(Vec<u64>, u64, bool)]| {
                let mut times: Vec<u64> = of.iter().flat_map(|(times, _, _)| times.iter().map(|time| Latency::told_apart(Span(*time)).0)).collect();
                times.sort_unstable();
                times.extend(of.iter().flat_map(|(_, lost, _)| std::iter::repeat_n(u64::MAX, usize::try_from(*lost).unwrap())));
                let rank = (usize::from(hundredths) * times.len()).div_ceil(10_000);
                let bound = Latency::told_apart(Span(bound)).0;
                rank > 0 && operator.holds(times[rank - 1] as f64, bound as f64)
            };
            let measured: Vec<_> = phases.iter().filter(|(_, _, measure)| *measure).collect();
            let expected: Vec<bool> = match place {
                0 if measured.is_empty() => vec![false],
                0 => vec![naive(&measured)],
                1 => measured.iter().map(|phase| naive(&[phase])).collect(),
                _ => vec![naive(&[&phases[(place - 2) % phases.len()]])],
            };
            let found: Vec<bool> = judge(&stats, &facts).iter().map(Judgement::is_met).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_threshold_of_a_fault_looks_at_what_that_did() {
        let phases = "[{name: ramp, duration: 20s}, {name: steady, duration: 30s, measure: true, faults: [{kind: storm}, {kind: \
                      disconnect, after: 5s}]}, {name: peak, duration: 10s, faults: [{kind: storm}]}]";
        let facts = |text: &str, elapsed: u64, stage: Stage| {
            let mut facts = RunFacts { now: at(elapsed), stage, ..asking(&[text]) };
            facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
            facts
        };
        let mut stats = stats([(10, 0), (10, 0), (10, 0)]);
        for (phase, position, millis) in [(1, 0, 300), (1, 1, 9_000), (2, 0, 700)] {
            let fault = stats.faults.of(fleet_contract::fault::number(phase, position));
            (1..=10).for_each(|device| fault.recovery.record(Span::from_millis(millis / 10 * device)));
        }
        let judged = |text: &str, stats: &Stats| {
            judge(stats, &facts(text, 80, Stage::Ended)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let all = "{expect: 'recovery.max < 1s', fault: storm}";
        assert_eq!(judged(all, &stats), ["expected recovery.max < 1s in fault storm, found 700 ms (of 20)"]);
        assert_eq!(
            judged("{expect: 'recovery.max < 1s', fault: storm, phase: steady}", &stats),
            ["expected recovery.max < 1s in phase steady, fault storm, found 300 ms (of 10)"]
        );
        assert_eq!(
            judged("{expect: 'recovery.p50 < 1s', fault: disconnect}", &stats),
            ["expected recovery.p50 < 1s in fault disconnect, found 4.50 s (of 10)"]
        );
        // Whoever is still away takes longer than any bound, once that is all.
        stats.faults.of(fleet_contract::fault::number(2, 0)).sessions.lost(at(51));
        let early = judge(&stats, &facts(all, 70, Stage::Running))[0].to_string();
        assert!(early.ends_with("found 700 ms (of 20)"), "{early}");
        assert_eq!(
            judged(all, &stats),
            ["expected recovery.max < 1s in fault storm, found no end: 1 of 21 have no answer"]
        );
    }

    /// A run with a fault that has cut ten devices off; of their wills so many were seen, missing and not yet come.
    fn with_wills(seen: u64, missing: u64, pending: u64) -> Stats {
        let mut stats = stats([(9, 0); 3]);
        let fault = stats.faults.of(fleet_contract::fault::number(1, 0));
        fault.wills = Wills { expected: seen + missing + pending, seen, missing, ..Wills::default() };
        (1..=seen).for_each(|millis| fault.offline_detection.record(Span::from_millis(millis)));
        // Of the run there are others.
        stats.wills = Wills { expected: fault.wills.expected + 5, seen: seen + 5, missing, ..Wills::default() };
        stats.latency.offline_detection.merge(&fault.offline_detection.clone());
        (0..5).for_each(|_| stats.latency.offline_detection.record(Span::from_secs(1)));
        stats
    }

    #[test]
    fn wills_are_judged_for_the_run_and_by_fault_and_no_data_is_no_pass() {
        let judged = |text: &str, stats: &Stats| {
            let mut facts = asking(&[text]);
            let phases =
                "[{name: ramp, duration: 20s}, {name: steady, duration: 30s, faults: [{kind: disconnect, name: cut}]}]";
            facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
            let [judged] = &judge(stats, &facts)[..] else { panic!("one place") };
            (judged.to_string(), judged.outcome == Outcome::Passed)
        };
        let (all, few) = (with_wills(10, 0, 0), with_wills(8, 2, 0));
        let p50 = "{expect: 'offline_detection.p50 < 1s', fault: cut}";
        assert_eq!(
            judged(p50, &all),
            ("expected offline_detection.p50 < 1s in fault cut, found 5.00 ms (of 10)".into(), true)
        );
        let found = "expected offline_detection.max < 2s, found 1.00 s (of 15)";
        assert_eq!(judged("offline_detection.max < 2s", &all), (found.into(), true));
        // A will that never came takes longer than any time.
        let found = "expected offline_detection.p95 < 1s in fault cut, found no end: 2 of 10 have no answer";
        assert_eq!(judged("{expect: 'offline_detection.p95 < 1s', fault: cut}", &few), (found.into(), false));
        assert_eq!(judged("{expect: 'offline_detection.p95 < 1s', fault: cut}", &with_wills(8, 0, 2)).0, found);
        assert_eq!(judged("wills_missing == 0", &few), ("expected wills_missing == 0, found 2".into(), false));
        assert_eq!(
            judged("{expect: wills_missing == 0, fault: cut}", &all),
            ("expected wills_missing == 0 in fault cut, found 0".into(), true)
        );
        let nothing = Stats { wills: Wills { deleted: 10, ..Wills::default() }, ..stats([(9, 0); 3]) };
        for text in ["wills_missing == 0", p50, "offline_detection.max < 2s", "retained_wrong == 0"] {
            let (message, is_passed) = judged(text, &nothing);
            assert!(message.ends_with("found nothing measured") && !is_passed, "{message}");
        }
        assert_eq!(judged("wills_unexpected == 0", &nothing).0, "expected wills_unexpected == 0, found 0");
        let unknown = Stats { wills: Wills { expected: 9, unknown: 9, ..Wills::default() }, ..nothing };
        assert!(!judged("wills_missing == 0", &unknown).1, "nobody knows whether any is missing");
    }

    #[test]
    fn a_run_without_phases_is_one_place() {
        let stats = stats_of(50);
        let facts = RunFacts {
            asked: Asked {
                thresholds: vec![criterion("end_to_end.p99 < 250ms"), criterion("sent.rate < 9/s")],
                ..Asked::default()
            },
            ..facts()
        };
        let outcomes: Vec<_> = judge(&stats, &facts).iter().map(|judged| (judged.outcome, judged.phase)).collect();
        assert_eq!(outcomes, [(Outcome::Passed, None), (Outcome::Passed, None)]);
    }
}
