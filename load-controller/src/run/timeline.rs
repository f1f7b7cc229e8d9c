//! A run second by second, in bounded memory, and the outages that it shows.
//!
//! Points hold what happened between two readings of the cumulative statistics.
//! When there are more than [`Timeline::POINTS_MAX`] of them, neighbours are joined and the resolution halves:
//! counters are added, of percentiles the worst is kept and never an average, and of the connected devices the fewest,
//! so that an outage stays visible at any resolution.

mod events;
pub mod flow;
mod outages;
mod recoveries;
mod returns;

use fleet_contract::{
    series::{Distribution, END_TO_END, PUBLISH_ACK, SCHEDULE_LAG},
    stats::{Devices, Latency, Messages, Stats},
    time::Micros,
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use events::Shard;
pub use events::{Event, EventKind, Events};
pub use outages::{BackSeconds, OutageReport, Outages};
pub use recoveries::{Recovered, Recoveries};

use super::{stage::Stage, workers::Lost};

/// The readings of a run, condensed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    start: Micros,
    points_max: usize,
    /// How many readings a point holds.
    readings_per_point: u32,
    /// How many readings the last point holds already.
    readings_in_last: u32,
    points: Vec<Point>,
    last: Option<Reading>,
    /// When the last reading before the drain was taken, and the devices that it showed.
    running: Option<(Micros, Devices)>,
    /// How long it was paused, to a reading.
    paused: Span,
    memory_bytes_max: u64,
    /// How long devices were missing that had been connected, all together, in seconds, to a reading.
    missing_device_seconds: f64,
    outages: Outages,
    #[serde(default)]
    recoveries: Recoveries,
    #[serde(default)]
    events: Events,
}

/// What a point needs to know of the reading before.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reading {
    at: Micros,
    /// What [`Point::between`] looks at, and nothing else; packed, because it waits for seconds.
    stats: Stats,
}

/// What happened from `at` to `at + seconds`.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Point {
    /// Its beginning, in seconds since the start of the run.
    pub at: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// Devices that the plan wanted when the fewest were connected.
    pub desired: u32,
    /// The fewest connected devices of any reading.
    pub connected: u32,
    /// What became of messages; of the parts of other counters, nothing.
    #[serde(flatten, with = "flow")]
    #[schemars(with = "flow::Flow")]
    pub messages: Messages,
    /// Bytes of MQTT written by the devices.
    pub bytes_sent: u64,
    /// Sessions accepted after an earlier one was lost.
    pub reconnects: u64,
    /// Connections that were lost.
    pub connections_lost: u64,
    /// From due to the acknowledgement.
    pub publish_ack: Quantiles,
    /// From due to the observer.
    pub end_to_end: Quantiles,
    /// How late the generator was.
    pub schedule_lag: Quantiles,
    /// CPU time of the generator, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory of the generator, in bytes; the most of any reading.
    pub memory_bytes: u64,
    /// How long of it the fleet was paused, in seconds, to a reading.
    #[serde(default)]
    pub paused_seconds: f64,
}

/// Percentiles of one second, or the worst of several seconds; `None` where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median, in seconds.
    pub p50: Option<f64>,
    /// The 99th percentile, in seconds.
    pub p99: Option<f64>,
    /// The longest, in seconds.
    pub max: Option<f64>,
}

impl Timeline {
    /// How many points a timeline has at most: 17 minutes at one reading a second, then half as fine.
    pub const POINTS_MAX: usize = 1_024;

    /// An empty timeline of a run that starts at `start`.
    pub const fn new(start: Micros) -> Self {
        Self::bounded(start, Self::POINTS_MAX)
    }

    const fn bounded(start: Micros, points_max: usize) -> Self {
        Self {
            start,
            points_max,
            readings_per_point: 1,
            readings_in_last: 0,
            points: Vec::new(),
            last: None,
            running: None,
            paused: Span::ZERO,
            memory_bytes_max: 0,
            missing_device_seconds: 0.0,
            outages: Outages::new(),
            recoveries: Recoveries::new(),
            events: Events::new(),
        }
    }

    /// Notes that something happened at `at`.
    pub fn note(&mut self, at: Micros, kind: EventKind, message: impl Into<String>) {
        self.events.push(at.since(self.start).as_secs_f64(), kind, message.into());
    }

    /// Notes that a worker has ended unasked; how long its devices are missing is counted with it.
    pub(super) fn lose(&mut self, at: Micros, lost: &Lost) {
        self.events.lose(self.start, at, lost);
    }

    /// Counts the devices of workers that ended and are still missing at `at`, by what `of` tells of a shard.
    pub(super) fn count_missing(&mut self, at: Micros, of: impl Fn(u32) -> Shard) {
        self.events.count_missing(at, of);
    }

    /// What happened beside phases, faults and outages.
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// Takes the cumulative statistics of all workers at `at`; an instant that is not later than the last is ignored.
    ///
    /// Once the run is draining devices leave by intent, so that it shows no more outages.
    /// One reading belongs to the very moment at which the drain begins: rates count up to there.
    pub fn push(&mut self, at: Micros, stats: &Stats, stage: Stage) {
        let before = self.last.as_ref().map_or(self.start, |last| last.at);
        if at <= before {
            return;
        }
        let mut point = Point::between(self.start, before, self.last.as_ref().map(|last| &last.stats), at, stats);
        point.paused_seconds = if stage == Stage::Paused { point.seconds } else { 0.0 };
        self.add(&point);
        if stage == Stage::Paused {
            self.paused = Span(self.paused.0 + at.since(before).0);
        }
        if stage.follows_plan() {
            self.running = Some((at, stats.devices));
            self.outages.push(at, stats.devices, &stats.sessions);
            self.recoveries.push(at, &stats.faults);
            let missing = self.outages.missing(stats.devices);
            self.missing_device_seconds += f64::from(missing) * at.since(before).as_secs_f64();
        }
        self.memory_bytes_max = self.memory_bytes_max.max(stats.generator.memory_bytes);
        self.last = Some(Reading {
            at,
            stats: Stats {
                messages: stats.messages,
                bytes: stats.bytes,
                latency: stats.latency.clone(),
                connections: stats.connections.clone(),
                generator: stats.generator.clone(),
                ..Stats::default()
            }
            .packed(),
        });
    }

    /// The points, the oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// How many readings a point holds: 1 at first, doubled whenever there would be too many points.
    pub const fn readings_per_point(&self) -> u32 {
        self.readings_per_point
    }

    /// The devices of the last reading before the drain; `None` before the first.
    pub fn devices(&self) -> Option<Devices> {
        self.running.map(|(_, devices)| devices)
    }

    /// When the last reading before the drain was taken; `None` before the first.
    pub fn running_until(&self) -> Option<Micros> {
        self.running.map(|(until, _)| until)
    }

    /// How long it was paused before the drain, to a reading.
    pub const fn paused(&self) -> Span {
        self.paused
    }

    /// How long devices were missing that had been connected, all together, in seconds, to a reading: those of a worker that has
    /// died are counted by nobody else.
    pub const fn missing_device_seconds(&self) -> f64 {
        self.missing_device_seconds
    }

    /// The most resident memory of any reading, in bytes.
    pub const fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }

    /// The outages so far.
    pub const fn outages(&self) -> &Outages {
        &self.outages
    }

    /// What became of devices that lost their sessions by faults.
    pub const fn recoveries(&self) -> &Recoveries {
        &self.recoveries
    }

    fn add(&mut self, point: &Point) {
        match self.points.last_mut() {
            Some(last) if self.readings_in_last < self.readings_per_point => last.join(point),
            _ => {
                self.halve_if_full();
                self.readings_in_last = 0;
                self.points.push(*point);
            }
        }
        self.readings_in_last += 1;
    }

    fn halve_if_full(&mut self) {
        if self.points.len() < self.points_max {
            return;
        }
        self.points = self.points.chunks(2).map(Point::joined).collect();
        self.readings_per_point *= 2;
    }
}

impl Point {
    fn between(start: Micros, from: Micros, earlier: Option<&Stats>, at: Micros, stats: &Stats) -> Self {
        let nothing = Stats::default();
        let earlier = earlier.unwrap_or(&nothing);
        let lost = |stats: &Stats| stats.connections.lost.values().sum::<u64>();
        let mut point = Self {
            at: from.since(start).as_secs_f64(),
            seconds: at.since(from).as_secs_f64(),
            desired: stats.devices.desired,
            connected: stats.devices.connected,
            messages: stats.all_messages().since(&earlier.all_messages()),
            bytes_sent: stats.bytes.sent.saturating_sub(earlier.bytes.sent),
            reconnects: stats.connections.reconnects.saturating_sub(earlier.connections.reconnects),
            connections_lost: lost(stats).saturating_sub(lost(earlier)),
            cpu_seconds: (stats.generator.cpu_seconds() - earlier.generator.cpu_seconds()).max(0.0),
            memory_bytes: stats.generator.memory_bytes,
            ..Self::default()
        };
        for (row, quantiles) in point.times_mut() {
            *quantiles = Quantiles::of(&(row.get)(&stats.latency).since((row.get)(&earlier.latency)));
        }
        point
    }

    /// One point of one or more neighbours.
    pub(crate) fn joined(points: &[Self]) -> Self {
        let mut joined = points.first().copied().unwrap_or_default();
        points.iter().skip(1).for_each(|next| joined.join(next));
        joined
    }

    /// Takes in the point that follows.
    fn join(&mut self, next: &Self) {
        self.seconds = next.at + next.seconds - self.at;
        if next.connected <= self.connected {
            (self.desired, self.connected) = (next.desired, next.connected);
        }
        self.messages.merge(&next.messages);
        self.bytes_sent += next.bytes_sent;
        self.reconnects += next.reconnects;
        self.connections_lost += next.connections_lost;
        for ((_, mine), (_, next)) in self.times_mut().into_iter().zip(next.times()) {
            mine.worsen(&next);
        }
        self.cpu_seconds += next.cpu_seconds;
        self.memory_bytes = self.memory_bytes.max(next.memory_bytes);
        self.paused_seconds += next.paused_seconds;
    }

    /// The percentiles of a point, each with the distribution that they are of.
    pub fn times(&self) -> [(Distribution, Quantiles); 3] {
        [(PUBLISH_ACK, self.publish_ack), (END_TO_END, self.end_to_end), (SCHEDULE_LAG, self.schedule_lag)]
    }

    fn times_mut(&mut self) -> [(Distribution, &mut Quantiles); 3] {
        let Self { publish_ack, end_to_end, schedule_lag, .. } = self;
        [(PUBLISH_ACK, publish_ack), (END_TO_END, end_to_end), (SCHEDULE_LAG, schedule_lag)]
    }

    /// So many a second, of a count of this point.
    pub fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

impl Quantiles {
    fn of(latency: &Latency) -> Self {
        let summary = latency.summary();
        Self { p50: summary.p50, p99: summary.p99, max: summary.max }
    }

    fn worsen(&mut self, next: &Self) {
        let worse = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        *self = Self { p50: worse(self.p50, next.p50), p99: worse(self.p99, next.p99), max: worse(self.max, next.max) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::stats_of;

    const START: Micros = Micros(1_000_000_000);

    fn at(seconds: u64) -> Micros {
        START.after(Span::from_secs(seconds))
    }

    #[test]
    fn a_pause_is_counted_to_a_reading() {
        let mut timeline = Timeline::bounded(START, 2);
        let stages = [Stage::Running, Stage::Paused, Stage::Paused, Stage::Running, Stage::Draining];
        for (second, stage) in (1..).zip(stages) {
            timeline.push(at(second), &stats_of(second), stage);
        }
        assert_eq!((timeline.paused(), timeline.running_until()), (Span::from_secs(2), Some(at(4))));
        let paused: f64 = timeline.points().iter().map(|point| point.paused_seconds).sum();
        assert!((paused - 2.0).abs() < 1e-9, "{paused}");
    }

    #[test]
    fn a_point_holds_what_came_since_the_last_reading() {
        let mut timeline = Timeline::new(START);
        let mut stats = stats_of(10);
        timeline.push(at(1), &stats, Stage::Running);
        stats.messages[1].sent += 5;
        stats.latency.schedule_lag.record(Span(2_000));
        timeline.push(at(2), &stats, Stage::Running);
        let [first, second] = timeline.points() else { panic!("two readings make two points") };
        assert_eq!((first.messages.sent, second.messages.sent), (10, 5));
        assert_eq!((second.at, second.seconds, second.schedule_lag.max), (1.0, 1.0, Some(0.002)));
    }

    #[test]
    fn a_repeated_reading_changes_nothing() {
        let mut timeline = Timeline::new(START);
        timeline.push(at(1), &stats_of(10), Stage::Running);
        timeline.push(at(1), &stats_of(20), Stage::Running);
        assert_eq!(timeline.points().len(), 1);
    }

    #[test]
    fn the_devices_of_the_drain_are_not_those_of_the_run() {
        let mut timeline = Timeline::new(START);
        timeline.push(at(1), &stats_of(10), Stage::Running);
        let mut left = stats_of(10);
        left.devices = Devices::default();
        timeline.push(at(2), &left, Stage::Draining);
        assert_eq!(timeline.devices().map(|devices| devices.connected), Some(100));
        assert_eq!(timeline.outages().report(at(0), at(2)), (0, Vec::new()));
    }

    #[test]
    fn a_coarser_point_keeps_the_worst_second() {
        let mut timeline = Timeline::bounded(START, 2);
        let mut stats = Stats::default();
        for (second, lag, connected) in [(1, 500, 9), (2, 90_000, 3), (3, 100, 9)] {
            stats.latency.schedule_lag.record(Span(lag));
            stats.devices = Devices { desired: 9, connected, ..Devices::default() };
            timeline.push(at(second), &stats, Stage::Running);
        }
        let worst = timeline.points()[0];
        assert_eq!((worst.seconds, worst.connected, timeline.readings_per_point()), (2.0, 3, 2));
        assert!(worst.schedule_lag.p99.unwrap() > 0.089);
    }

    proptest! {
        #[test]
        fn no_resolution_loses_a_message(steps in prop::collection::vec(0_u64..1_000, 1..80), bound in 2_usize..9) {
            let mut timeline = Timeline::bounded(START, bound);
            let mut stats = Stats::default();
            for (second, step) in (1..).zip(&steps) {
                stats.messages[0].offered += step;
                timeline.push(at(second), &stats, Stage::Running);
            }
            let points = timeline.points();
            prop_assert!(points.len() <= bound);
            prop_assert_eq!(points.iter().map(|point| point.messages.offered).sum::<u64>(), steps.iter().sum::<u64>());
            prop_assert!((points.iter().map(|point| point.seconds).sum::<f64>() - steps.len() as f64).abs() < 1e-6);
        }
    }
}
