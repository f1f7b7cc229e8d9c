//! Figures as comma-separated values.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `timeline.csv` | the run second by second |
//! | `phases.csv` | messages and times by phase |
//! | `faults.csv` | what went wrong on purpose, and how long it took until all was well again |
//! | `groups.csv` | messages and times by group |
//! | `streams.csv` | messages and times by group and stream |

use fleet_contract::{
    series::{COUNTERS, DELIVERED, DISTRIBUTIONS, Distribution, OFFERED, OFFLINE_DETECTION, SENT, Scope},
    stats::WILLS,
};

use super::{
    Counts, Report, TimelineInReport, Times,
    format::{File, Format},
};
use crate::run::timeline::{BackSeconds, Point, Quantiles, flow};

/// The format of all of them.
pub(super) struct Csv;

impl Format for Csv {
    const FILES: &'static [File] = &[
        File { name: "timeline.csv", content: |of| timeline(&of.report.timeline) },
        File { name: "phases.csv", content: |of| phases(of.report) },
        File { name: "faults.csv", content: |of| faults(of.report) },
        File { name: "groups.csv", content: |of| groups(of.report) },
        File { name: "streams.csv", content: |of| streams(of.report) },
    ];
}

/// A row for each point; a cell is empty where nothing was measured.
pub fn timeline(timeline: &TimelineInReport) -> String {
    let nothing = cells(&Point::default());
    table(nothing.iter().map(|(column, _)| column.clone()), timeline.points.iter().map(|point| values(cells(point))))
}

/// A row for each stream; a cell is empty where nothing was measured.
pub fn streams(report: &Report) -> String {
    let rows = report.streams().map(|(group, stream, figures)| {
        let begin = [quoted(group), quoted(stream), figures.qos.to_string()];
        begin.into_iter().chain(figures_of(&figures.counts, &figures.latency, is_by_stream)).collect()
    });
    table(["group", "stream", "qos"].into_iter().map(str::to_owned).chain(columns(is_by_stream)), rows)
}

/// A row for each group, all of its streams together; a cell is empty where nothing was measured. They are no rows of
/// [`streams`], where a sum over a column would count each message twice.
pub fn groups(report: &Report) -> String {
    let rows = report.groups.iter().map(|(group, figures)| {
        std::iter::once(quoted(group)).chain(figures_of(&figures.counts, &figures.latency, is_by_stream)).collect()
    });
    table(std::iter::once("group".to_owned()).chain(columns(is_by_stream)), rows)
}

/// A row for each phase, all of its streams together; a cell is empty where nothing was measured.
pub fn phases(report: &Report) -> String {
    let rows = report.phases.iter().map(|phase| {
        let begin = [quoted(&phase.name), format!("{:.3}", phase.at_seconds), format!("{:.3}", phase.lasted_seconds)];
        begin.into_iter().chain(figures_of(&phase.counts, &phase.latency, |_| true)).collect()
    });
    table(["phase", "at_seconds", "length_seconds"].into_iter().map(str::to_owned).chain(columns(|_| true)), rows)
}

/// A row for each fault that has begun; a cell is empty where nothing is known.
pub fn faults(report: &Report) -> String {
    let columns = [
        "fault",
        "kind",
        "phase",
        "at_seconds",
        "length_seconds",
        "devices",
        "effects",
        "sessions_lost",
        "sessions_back",
        "lets_go_seconds",
        "back_p50_seconds",
        "back_p90_seconds",
        "back_p95_seconds",
        "back_all_seconds",
        "recovery_p50_seconds",
        "recovery_p99_seconds",
        "recovery_max_seconds",
        "latency_back_seconds",
    ];
    let wills = WILLS.iter().map(|counter| counter.key.to_owned());
    let detected = ["p50", "p95", "p99", "max"].map(|quantile| format!("{}_{quantile}_seconds", OFFLINE_DETECTION.key));
    let rows = report.faults.iter().map(|fault| {
        let BackSeconds { p50, p90, p95, p100 } = fault.back_seconds;
        let mut cells = vec![quoted(&fault.name), fault.kind.clone(), quoted(&fault.phase)];
        cells.extend([fault.at_seconds, fault.seconds].map(|seconds| format!("{seconds:.3}")));
        let counts = [fault.devices, fault.effects, fault.sessions_lost, fault.sessions_back];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(format!("{:.3}", fault.lets_go_seconds));
        let recovery = [fault.recovery.p50, fault.recovery.p99, fault.recovery.max];
        cells.extend([p50, p90, p95, p100].into_iter().chain(recovery).map(seconds));
        cells.push(seconds(fault.latency_back_seconds));
        match &fault.offline_detection {
            Some(found) => {
                cells.extend(found.counts().iter().map(|(_, count)| count.to_string()));
                cells.extend(found.times().map(seconds));
            }
            None => cells.extend(vec![String::new(); WILLS.len() + detected.len()]),
        }
        cells
    });
    let columns = columns.into_iter().map(str::to_owned).chain(wills);
    table(columns.chain(detected.clone()), rows)
}

fn is_by_stream(row: &Distribution) -> bool {
    row.scope == Scope::Stream
}

/// The columns of all counters, and of the distributions that are wanted.
fn columns(is_wanted: fn(&Distribution) -> bool) -> impl Iterator<Item = String> {
    let quantiles = ["p50", "p90", "p99", "p999", "max"];
    let times = DISTRIBUTIONS.iter().filter(move |row| is_wanted(row));
    let times = times.flat_map(move |row| quantiles.map(|quantile| format!("{}_{quantile}_seconds", row.key)));
    COUNTERS.iter().map(|counter| counter.key.to_owned()).chain(times)
}

/// Their values.
fn figures_of(counts: &Counts, latency: &Times, is_wanted: fn(&Distribution) -> bool) -> impl Iterator<Item = String> {
    let counts = counts.rows().map(|(_, count)| count.map_or_else(String::new, |count| count.to_string()));
    let times = DISTRIBUTIONS.iter().filter(move |row| is_wanted(row));
    counts.chain(times.flat_map(|row| latency.of(row).values().map(seconds)))
}

fn table(columns: impl Iterator<Item = String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = columns.collect::<Vec<_>>();
    std::iter::once(heading).chain(rows).map(|cells| cells.join(",") + "\n").collect()
}

/// A name as a cell (RFC 4180, section 2).
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

fn values(cells: Vec<(String, String)>) -> Vec<String> {
    cells.into_iter().map(|(_, value)| value).collect()
}

/// The columns and values of a point.
fn cells(point: &Point) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    let mut cell = |column: &str, value: String| cells.push((column.to_owned(), value));
    cell("at_seconds", format!("{:.3}", point.at));
    cell("length_seconds", format!("{:.3}", point.seconds));
    cell("devices_desired", point.desired.to_string());
    cell("devices_connected", point.connected.to_string());
    for counter in flow::rows() {
        cell(counter.key, (counter.get)(&point.messages).to_string());
    }
    cell("bytes_sent", point.bytes_sent.to_string());
    cell("reconnects", point.reconnects.to_string());
    cell("connections_lost", point.connections_lost.to_string());
    for (row, Quantiles { p50, p99, max }) in point.times() {
        for (quantile, value) in [("p50", p50), ("p99", p99), ("max", max)] {
            cell(&format!("{}_{quantile}_seconds", row.key), seconds(value));
        }
    }
    cell("cpu_seconds", format!("{:.3}", point.cpu_seconds));
    cell("memory_bytes", point.memory_bytes.to_string());
    for counter in [OFFERED, SENT, DELIVERED] {
        cell(&format!("{}_per_second", counter.key), format!("{:.1}", point.rate((counter.get)(&point.messages))));
    }
    cell("paused_seconds", format!("{:.3}", point.paused_seconds));
    cells
}

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(String::new, |seconds| format!("{seconds:.6}"))
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Qos, stats::StreamStats, units::Span};

    use super::*;
    use crate::{
        fixture::{START, facts, stats_of},
        run::{stage::Stage, timeline::Timeline},
    };

    #[test]
    fn each_stream_is_a_line() {
        let mut stats = stats_of(10);
        stats.add_stream("a \"big\", fleet", "event", &StreamStats::of(Qos::AtMostOnce));
        let text = streams(&Report::new(&stats, &facts()));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let cell = |row: usize, name: &str| &rows[row][columns.iter().position(|column| column == name).unwrap()];
        assert_eq!(["group", "stream", "qos", "sent"].map(|name| cell(1, name)), ["all", "state", "1", "10"]);
        assert_eq!(cell(1, "end_to_end_max_seconds"), "0.000909");
        assert_eq!(["group", "publish_ack_p99_seconds"].map(|name| cell(0, name)), ["a \"big\", fleet", ""]);
    }

    #[test]
    fn each_group_is_a_line_that_sums_its_streams_up() {
        let mut stats = stats_of(10);
        let mut event = StreamStats::of(Qos::AtMostOnce);
        (event.messages.offered, event.messages.sent) = (7, 5);
        event.latency.end_to_end.record(Span(1_500));
        stats.add_stream("all", "event", &event);
        stats.add_stream("taxis", "event", &event);
        let report = Report::new(&stats, &facts());
        let sums = |text: &str| {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let columns = reader.headers().unwrap().clone();
            let place = |name: &str| columns.iter().position(|column| column == name).unwrap();
            let [group, sent, most] = ["group", "sent", "end_to_end_max_seconds"].map(place);
            let rows = reader.records().map(Result::unwrap);
            let cells = |row: csv::StringRecord| [group, sent, most].map(|column| row[column].to_owned());
            rows.map(cells).collect::<Vec<_>>()
        };
        let groups = sums(&super::groups(&report));
        assert_eq!(groups, [["all", "15", "0.001500"], ["taxis", "5", "0.001500"]]);
        let sent = |rows: &[[String; 3]]| rows.iter().map(|row| row[1].parse::<u64>().unwrap()).sum::<u64>();
        assert_eq!((sent(&groups), sent(&sums(&streams(&report)))), (20, 20), "each file has each message once");
    }

    #[test]
    fn each_point_is_a_line() {
        let mut timeline = Timeline::new(START);
        timeline.push(START.after(Span::from_secs(1)), &stats_of(10), Stage::Running);
        let text = super::timeline(&TimelineInReport::new(&timeline));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().clone();
        let row = reader.records().next().unwrap().unwrap();
        let cell = |name: &str| &row[columns.iter().position(|column| column == name).unwrap()];
        assert_eq!((cell("sent"), cell("end_to_end_max_seconds"), cell("sent_per_second")), ("10", "0.000909", "10.0"));
    }
}
