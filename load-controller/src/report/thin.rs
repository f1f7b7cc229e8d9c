//! A report for where there is little room: first its timeline gets coarser, then streams stand together, and only then are files
//! left out. No sum changes, and the report's notes say what has become of it.

use std::collections::BTreeMap;

use fleet_contract::{
    fleet::Qos,
    series::FOLDED,
    stats::{Groups, Stats},
};

use super::{GroupFigures, Report, TimelineInReport};
use crate::run::{facts::RunFacts, timeline::Point};

/// The fewest rows that a timeline is left with: coarser ones show nothing, and are no longer what takes room.
const ROWS_MIN: usize = 64;

/// How thin a report is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thinning {
    /// How many rows of the whole timeline are one row.
    rows_joined: u32,
    /// Whether streams of a group stand together, by quality of service.
    are_streams_folded: bool,
    /// The files that are left out.
    left_out: Vec<&'static str>,
}

impl Thinning {
    /// Nothing is missing.
    pub(super) const NONE: Self = Self { rows_joined: 1, are_streams_folded: false, left_out: Vec::new() };

    /// The least that is thinner, of a report that was thinned so far and whose largest file is this one of those that may be left
    /// out; `None` where nothing more can be done.
    pub(super) fn next(self, thinned: &Report, largest: Option<&'static str>) -> Option<Self> {
        if thinned.timeline.points.len() > ROWS_MIN {
            return Some(Self { rows_joined: self.rows_joined.saturating_mul(2), ..self });
        }
        let by_phase = thinned.phases.iter().map(|phase| &phase.groups);
        if !self.are_streams_folded && by_phase.chain([&thinned.groups]).any(can_be_folded) {
            return Some(Self { are_streams_folded: true, ..self });
        }
        let left_out = self.left_out.iter().copied().chain([largest?]).collect();
        Some(Self { left_out, ..self })
    }

    /// Whether there is room for a file.
    pub(super) fn has(&self, file: &str) -> bool {
        !self.left_out.contains(&file)
    }

    /// The report of this, as thin as that.
    pub(super) fn of(&self, report: &Report, stats: &Stats, facts: &RunFacts) -> Report {
        let mut thinned = report.clone();
        let mut missing = Vec::new();
        if self.rows_joined > 1 {
            thinned.timeline = joined(&report.timeline, self.rows_joined);
            missing.push(format!("a row of the timeline holds {} readings", thinned.timeline.readings_per_point));
        }
        if self.are_streams_folded {
            thinned.groups = GroupFigures::by_name(&folded(&stats.groups), facts.observe());
            for (figures, phase) in thinned.phases.iter_mut().zip(facts.asked.phases.spanned()) {
                if let Some(measured) = stats.phases.get(&phase.number) {
                    figures.groups = GroupFigures::by_name(&folded(&measured.groups), facts.observe());
                }
            }
            missing.push("streams of a group stand together, by quality of service".into());
        }
        if !self.left_out.is_empty() {
            missing.push(format!("there is no {}", self.left_out.join(", ")));
        }
        if !missing.is_empty() {
            thinned.notes.push(format!("the report is larger than there is room to keep: {}", missing.join("; ")));
        }
        thinned
    }
}

/// A timeline with so many neighbours in a row: counters are added, of percentiles the worst is kept.
fn joined(timeline: &TimelineInReport, rows: u32) -> TimelineInReport {
    let each = usize::try_from(rows).unwrap_or(usize::MAX);
    TimelineInReport {
        readings_per_point: timeline.readings_per_point.saturating_mul(rows),
        points: timeline.points.chunks(each).map(Point::joined).collect(),
    }
}

/// Groups whose streams of a quality of service are one, where there are several.
fn folded(groups: &Groups) -> Groups {
    let mut folded = Groups::default();
    for (group, streams) in groups.iter() {
        for (name, stream) in streams {
            let alike = streams.values().filter(|other| other.qos == stream.qos).count();
            let name = if alike > 1 { FOLDED[stream.qos as usize] } else { name.as_str() };
            folded.add(group, name, stream);
        }
    }
    folded
}

/// Whether a group has several streams of a quality of service.
fn can_be_folded(groups: &BTreeMap<String, GroupFigures>) -> bool {
    let are_several =
        |group: &GroupFigures, qos: Qos| group.streams.values().filter(|stream| stream.qos == qos).count() > 1;
    let all = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
    groups.values().any(|group| all.into_iter().any(|qos| are_several(group, qos)))
}

#[cfg(test)]
mod tests {
    use fleet_contract::{series::SENT, stats::StreamStats, units::Span};

    use super::*;
    use crate::{
        fixture::{START, facts, stats_of},
        run::{facts::Asked, phase::Phases, stage::Stage, timeline::Timeline},
    };

    /// A run with a reading a second for so many seconds, and two groups of which one has several streams; all of it in a phase.
    fn run(seconds: u64) -> (Stats, RunFacts) {
        let mut timeline = Timeline::new(START);
        for second in 1..=seconds {
            timeline.push(START.after(Span::from_secs(second)), &stats_of(7 * second), Stage::Running);
        }
        let mut stats = stats_of(70);
        for (stream, qos) in [("event", Qos::AtMostOnce), ("trace", Qos::AtLeastOnce), ("video", Qos::AtLeastOnce)] {
            let mut counted = StreamStats::of(qos);
            counted.messages.sent = 5;
            counted.latency.publish_ack.record(Span(900_000));
            stats.add_stream("all", stream, &counted);
            stats.add_stream(&format!("cars with {stream}"), stream, &counted);
        }
        stats.phases.entry(0).or_default().groups = stats.groups.clone();
        let phases = Phases::new(vec!["steady:30s".parse().unwrap()]);
        (stats, RunFacts { timeline, asked: Asked { phases, ..Asked::default() }, ..facts() })
    }

    /// What becomes of a report that is too large however thin it is, step by step; the files are the largest one after the other.
    fn steps(seconds: u64, mut files: Vec<&'static str>) -> Vec<(Thinning, Report)> {
        let (stats, facts) = run(seconds);
        let report = Report::new(&stats, &facts);
        let mut steps = vec![(Thinning::NONE, Thinning::NONE.of(&report, &stats, &facts))];
        assert_eq!(steps[0].1, report, "what is not thinned is as it was");
        loop {
            let (thinning, thinned) = steps.last().unwrap();
            let largest = files.first().copied();
            let Some(next) = thinning.clone().next(thinned, largest) else { return steps };
            if next.left_out.len() > thinning.left_out.len() {
                files.remove(0);
            }
            let thinned = next.of(&report, &stats, &facts);
            steps.push((next, thinned));
        }
    }

    #[test]
    fn rows_are_joined_first_then_streams_and_files_go_last_and_the_notes_say_so() {
        let notes: Vec<_> = steps(200, vec!["report.html", "latency.hlog"])
            .into_iter()
            .skip(1)
            .map(|(_, report)| {
                report
                    .notes
                    .last()
                    .unwrap()
                    .strip_prefix("the report is larger than there is room to keep: ")
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let [rows, streams] =
            ["a row of the timeline holds 4 readings", "streams of a group stand together, by quality of service"];
        let expected = [
            "a row of the timeline holds 2 readings".to_owned(),
            rows.to_owned(),
            format!("{rows}; {streams}"),
            format!("{rows}; {streams}; there is no report.html"),
            format!("{rows}; {streams}; there is no report.html, latency.hlog"),
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn no_sum_changes_however_thin_it_is() {
        let steps = steps(130, vec!["report.html"]);
        let sums = |report: &Report| {
            let points = &report.timeline.points;
            let sent: u64 = points.iter().map(|point| point.messages.sent).sum();
            let worst = points.iter().filter_map(|point| point.end_to_end.max).reduce(f64::max);
            let seconds: f64 = points.iter().map(|point| point.seconds).sum();
            let groups = |groups: &BTreeMap<String, GroupFigures>| {
                let of = |(name, group): (&String, &GroupFigures)| {
                    let streams = group.streams.values().map(|stream| stream.counts.get(&SENT).unwrap()).sum::<u64>();
                    (name.clone(), group.counts, group.latency.clone(), streams)
                };
                groups.iter().map(of).collect::<Vec<_>>()
            };
            (sent, worst, seconds.round(), groups(&report.groups), groups(&report.phases[0].groups))
        };
        for (thinning, report) in &steps[1..] {
            assert_eq!(sums(report), sums(&steps[0].1), "{thinning:?}");
            assert_eq!((&report.thresholds, report.verdict), (&steps[0].1.thresholds, steps[0].1.verdict));
        }
        let rows: Vec<_> = steps.iter().map(|(_, report)| report.timeline.points.len()).collect();
        assert_eq!(rows, [130, 65, 33, 33, 33]);
    }

    #[test]
    fn a_stream_keeps_its_name_where_it_is_the_only_one_of_its_quality() {
        let (stats, _) = run(1);
        let folded = folded(&stats.groups);
        let names: Vec<_> = folded.streams().map(|(group, name, it)| (group, name, it.messages.sent)).collect();
        let expected = [
            ("all", "all of QoS 1", 80),
            ("all", "event", 5),
            ("cars with event", "event", 5),
            ("cars with trace", "trace", 5),
            ("cars with video", "video", 5),
        ];
        assert_eq!(names, expected);
    }
}
