//! The sections of the page beside the charts; each is empty where there is nothing to say.

use std::iter;

use fleet_contract::{
    metric::Metric,
    series::{COUNTERS, Counter, DELIVERED, Distribution, LOST, OFFERED, SCHEDULE_LAG, SENT},
    stats::Summary,
};
use maud::{Markup, html};

use crate::{
    report::{Counts, Report, Times, text},
    words,
};

/// A cell of a table, or the name of a figure.
struct Label {
    text: String,
    /// What the figure of this name says; browsers show it when the pointer is over the name.
    help: Option<&'static str>,
}

impl Label {
    fn of(metric: &Metric, text: impl Into<String>) -> Self {
        Self { text: text.into(), help: Some(metric.help) }
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self { text, help: None }
    }
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<&Counter> for Label {
    fn from(counter: &Counter) -> Self {
        Self::of(&counter.metric, counter.title())
    }
}

impl From<&Distribution> for Label {
    fn from(distribution: &Distribution) -> Self {
        Self::of(&distribution.metric, distribution.title)
    }
}

pub(super) fn reasons(report: &Report) -> Markup {
    html! {
        @if !report.reasons.is_empty() {
            ul.reasons {
                @for reason in &report.reasons {
                    li.(reason.verdict) { b { (reason.name) } " " (reason.message) }
                }
            }
        }
    }
}

pub(super) fn notes(report: &Report) -> Markup {
    html! {
        @if !report.notes.is_empty() {
            ul.notes {
                @for note in &report.notes { li { (note) } }
            }
        }
    }
}

/// What must come of the run, and what came of it.
pub(super) fn thresholds(report: &Report) -> Markup {
    html! {
        @if !report.thresholds.is_empty() {
            section.thresholds {
                h2 { "Thresholds" }
                table {
                    tr { th { "expected" } th { "found" } th {} }
                    @for threshold in &report.thresholds {
                        @let outcome: &str = threshold.outcome.into();
                        tr.(outcome) {
                            td { (threshold.name()) }
                            td { (threshold.shown()) }
                            td { b { (outcome) } }
                        }
                    }
                }
            }
        }
    }
}

/// The figures that are looked for first.
pub(super) fn tiles(report: &Report) -> Markup {
    let all = report.messages.all;
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "–".into(), words::time);
    let latency = report.shown_latency();
    let p99 =
        |row: &Distribution| (Label::of(&row.metric, format!("{} p99", row.title)), time(report.latency.of(row).p99));
    let devices = report.devices;
    let connected = format!("{} / {}", words::count(devices.connected.into()), words::count(devices.desired.into()));
    let tiles = [
        ("devices connected".into(), connected),
        (Label::of(&SENT.metric, "messages sent"), words::count(all.raw().sent)),
        (Label::of(&SENT.metric, "sent a second"), words::number(report.rate(all.raw().sent))),
        ((&LOST).into(), shown(all.get(&LOST))),
        p99(&latency),
        p99(&SCHEDULE_LAG),
    ];
    html! {
        div.tiles {
            @for (name, value) in tiles {
                div title=[name.help] { b { (value) } (name.text) }
            }
        }
    }
}

/// A table with a heading; the first column names the row, all others are numbers.
fn table(
    title: &str,
    heading: impl IntoIterator<Item: Into<Label>>,
    rows: impl Iterator<Item: IntoIterator<Item: Into<Label>>>,
) -> Markup {
    classed_table(None, title, heading, rows)
}

/// The same with a class in the style sheet.
fn classed_table(
    class: Option<&str>,
    title: &str,
    heading: impl IntoIterator<Item: Into<Label>>,
    rows: impl Iterator<Item: IntoIterator<Item: Into<Label>>>,
) -> Markup {
    html! {
        section {
            h2 { (title) }
            table class=[class] {
                tr {
                    @for name in heading.into_iter().map(Into::<Label>::into) { th title=[name.help] { (name.text) } }
                }
                @for row in rows {
                    tr {
                        @for cell in row.into_iter().map(Into::<Label>::into) { td title=[cell.help] { (cell.text) } }
                    }
                }
            }
        }
    }
}

/// A row of figures behind their name.
fn named(name: impl Into<Label>, figures: impl Iterator<Item = String>) -> Vec<Label> {
    iter::once(name.into()).chain(figures.map(Label::from)).collect()
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "–".into(), words::count)
}

pub(super) fn messages(report: &Report) -> Markup {
    let rows = report.messages.all.rows().map(|(counter, all)| {
        let by_qos = report.messages.by_qos.iter().map(|counts| shown(counts.get(counter)));
        named(counter, iter::once(shown(all)).chain(by_qos))
    });
    let rejected = report.messages.rejected.iter().map(|(reason, number)| {
        let by_qos = report.messages.by_qos.iter().map(|_| shown(None));
        named(format!("rejected: {reason}"), iter::once(words::count(*number)).chain(by_qos))
    });
    table("Messages", ["", "all", "QoS 0", "QoS 1", "QoS 2"], rows.chain(rejected))
}

pub(super) fn received(report: &Report) -> Markup {
    let Some(received) = &report.received else { return Markup::default() };
    let mut rows = vec![vec!["messages".to_owned(), words::count(received.messages)]];
    let by_qos = received.by_qos.iter().enumerate();
    rows.extend(by_qos.map(|(qos, number)| vec![format!("of these QoS {qos}"), words::count(*number)]));
    rows.push(vec!["payloads".into(), words::bytes(received.payload_bytes as f64)]);
    rows.push(vec!["came again".into(), words::count(received.redelivered)]);
    rows.push(vec!["subscriptions granted".into(), words::count(received.subscriptions_granted)]);
    let refused = received.subscriptions_refused.iter();
    rows.extend(
        refused.map(|(reason, number)| vec![format!("subscriptions refused: {reason}"), words::count(*number)]),
    );
    rows.push(vec!["subscriptions never answered".into(), words::count(received.subscriptions_unanswered)]);
    table("Received", ["", "count"], rows.into_iter())
}

pub(super) fn latencies(report: &Report) -> Markup {
    let rows = report.latency.rows().map(|(distribution, summary)| named(distribution, times(summary)));
    table("Latency", ["", "p50", "p90", "p99", "p99.9", "max", "count"], rows)
}

/// The times of a distribution, and how many there are.
fn times(summary: &Summary) -> impl Iterator<Item = String> {
    let times = summary.values().map(|value| value.map_or_else(|| "–".into(), words::time));
    times.into_iter().chain([words::count(summary.count)])
}

/// The counters that are shown of these: a column of zeros tells nothing, unless it is one that everybody looks for.
fn columns(counts: &[&Counts]) -> Vec<&'static Counter> {
    let is_counted = |counter: &Counter| counts.iter().any(|it| it.get(counter).is_some_and(|n| n > 0));
    let is_shown = |counter: &&Counter| [OFFERED, SENT, DELIVERED, LOST].contains(counter) || is_counted(counter);
    COUNTERS.iter().filter(is_shown).collect()
}

/// The distributions of which something was measured, each with a row that begins with `name` and its title.
fn measured<'a>(name: &'a str, latency: &'a Times) -> impl Iterator<Item = Vec<Label>> + 'a {
    let is_measured = |(_, summary): &(&Distribution, &Summary)| summary.count > 0;
    latency.rows().filter(is_measured).map(move |(distribution, summary)| {
        iter::once(name.into()).chain(named(distribution, times(summary))).collect()
    })
}

/// The headings of a table of [`measured`] rows.
const MEASURED: [&str; 8] = ["", "", "p50", "p90", "p99", "p99.9", "max", "count"];

/// The counters and the times of each phase.
pub(super) fn phases(report: &Report) -> Markup {
    if report.phases.is_empty() {
        return Markup::default();
    }
    let columns = columns(&report.phases.iter().map(|phase| &phase.counts).collect::<Vec<_>>());
    let heading = ["", "at", "lasts"].map(Label::from).into_iter().chain(columns.iter().copied().map(Label::from));
    let counts = report.phases.iter().map(|phase| {
        let mut row = vec![phase.name.clone(), words::time(phase.at_seconds), words::time(phase.seconds)];
        row.extend(columns.iter().map(|counter| shown(phase.counts.get(counter))));
        row
    });
    let latencies = report.phases.iter().flat_map(|phase| measured(&phase.name, &phase.latency));
    html! {
        (table("Messages by phase", heading, counts))
        (table("Latency by phase", MEASURED, latencies))
    }
}

/// The counters and the times of each stream, and before them those of a group that has several.
pub(super) fn streams(report: &Report) -> Markup {
    if report.groups.is_empty() {
        return Markup::default();
    }
    let columns = columns(&report.streams().map(|(_, _, figures)| &figures.counts).collect::<Vec<_>>());
    let heading = ["", "QoS"].map(Label::from).into_iter().chain(columns.iter().copied().map(Label::from));
    let (mut counts, mut latencies) = (Vec::new(), Vec::new());
    for row in report.rows() {
        let name = row.name();
        latencies.extend(measured(&name, row.latency));
        let mut cells = vec![name, row.stream.map_or_else(|| shown(None), |(_, qos)| qos.to_string())];
        cells.extend(columns.iter().map(|counter| shown(row.counts.get(counter))));
        counts.push(cells);
    }
    html! {
        (table("Messages by stream", heading, counts.into_iter()))
        (table("Latency by stream", MEASURED, latencies.into_iter()))
    }
}

/// What went wrong on purpose, and how long it took until all was well again.
pub(super) fn faults(report: &Report) -> Markup {
    if report.faults.is_empty() {
        return Markup::default();
    }
    let rows = report.faults.iter().map(text::fault);
    let bound = report.faults.iter().find_map(|fault| fault.latency_bound_seconds);
    html! {
        (table("Faults", text::FAULT, rows))
        p {
            "Counted from when a fault let go of its devices: until half, 95 % and all of the sessions that it ended were back, "
            "and until the end-to-end latency's p99"
            @if let Some(bound) = bound { ", of which " (words::time(bound)) " is asked" }
            " was within its threshold again."
        }
    }
}

/// What the faults that streams have by themselves did to their messages.
pub(super) fn model_faults(report: &Report) -> Markup {
    if report.model_faults.is_empty() {
        return Markup::default();
    }
    let rows = report.model_faults.iter().map(text::model_fault);
    table("Faults of models", text::MODEL_FAULT, rows)
}

/// What became of the wills of the run, and of the devices that each fault hit.
pub(super) fn wills(report: &Report) -> Markup {
    let Some(found) = &report.offline_detection else { return Markup::default() };
    let rows = report.detections().map(|(name, found)| text::wills_of(name, found));
    html! {
        (table("Offline detection", text::WILLS, rows))
        @if let Some(beside) = text::wills_beside(found) { p { (beside) "." } }
    }
}

pub(super) fn outages(report: &Report) -> Markup {
    if report.outages.list.is_empty() {
        return Markup::default();
    }
    let rows = report.outages.list.iter().map(|outage| {
        let mut row = vec![
            outage.from.clone(),
            words::time(outage.at_seconds),
            words::time(outage.seconds),
            words::time(outage.gap_seconds),
            words::count(outage.devices_lost.into()),
        ];
        row.extend(text::back(outage.back_seconds));
        row
    });
    let headings = ["from", "after", "lasted", "gap", "devices lost", "50 % back", "90 %", "95 %", "all"];
    html! {
        (table("Outages", headings, rows))
        @if let Some(backoff) = text::backoff(&report.outages) { p { (backoff) } }
    }
}

pub(super) fn events(report: &Report) -> Markup {
    if report.events.is_empty() {
        return Markup::default();
    }
    table("Events", text::EVENT, report.events.iter().map(text::event))
}

pub(super) fn connections(report: &Report) -> Markup {
    let connections = &report.connections;
    let mut rows = vec![
        vec!["accepted".to_owned(), words::count(connections.accepted)],
        vec!["of these reconnects".into(), words::count(report.reconnects)],
    ];
    for (what, causes) in connections.by_cause() {
        rows.extend(causes.iter().map(|(cause, count)| vec![format!("{what}: {cause}"), words::count(*count)]));
    }
    if connections.unsolicited_acknowledgements > 0 {
        let number = words::count(connections.unsolicited_acknowledgements);
        rows.push(vec!["unsolicited acknowledgements".into(), number]);
    }
    table("Connections", ["", "count"], rows.into_iter())
}

pub(super) fn lost(report: &Report) -> Markup {
    if report.lost_messages.is_empty() {
        return Markup::default();
    }
    let rows = report.lost_messages.iter().map(|lost| {
        vec![
            lost.sent.clone(),
            lost.device.to_string(),
            lost.stream.clone(),
            lost.seq.to_string(),
            lost.qos.to_string(),
            if lost.acknowledged { "yes".into() } else { "no".into() },
        ]
    });
    table("First lost messages", ["due", "device", "stream", "number", "QoS", "acknowledged"], rows)
}

pub(super) fn generator(report: &Report) -> Markup {
    let generator = report.generator;
    let rows = [
        ("CPU, user", words::time(generator.cpu_user_seconds)),
        ("CPU, system", words::time(generator.cpu_system_seconds)),
        ("CPU of a core", words::share(generator.cpu_cores)),
        ("CPU-s a million messages", generator.cpu_seconds_per_million.map_or_else(|| "–".into(), words::number)),
        ("throttled periods", words::share(generator.cpu_throttled_share)),
        ("memory at most", words::bytes(generator.memory_bytes_max as f64)),
        ("missed ticks", words::count(generator.missed_ticks)),
        ("full buffers", words::count(generator.buffer_full)),
        ("bytes sent", words::bytes(report.bytes.sent as f64)),
        ("bytes received", words::bytes(report.bytes.received as f64)),
        ("bytes observed", words::bytes(report.bytes.observed as f64)),
    ];
    table("Generator", ["", ""], rows.into_iter().map(|(name, value)| vec![name.into(), value]))
}

pub(super) fn manifest(report: &Report) -> Markup {
    let manifest = &report.manifest;
    let host = &manifest.host;
    let cpus = words::counted(host.cpus.into(), "processor", "processors");
    let rows = [
        ("fleet", manifest.fleet.clone()),
        ("document", format!("sha256 {}", manifest.document_sha256)),
        ("seed", manifest.seed.to_string()),
        ("run", manifest.run.clone()),
        ("started", manifest.started.clone()),
        ("ended", manifest.at.clone()),
        ("command", manifest.command.join(" ")),
        ("engine", format!("{} of version {}", manifest.engine, manifest.version)),
        ("machine", format!("{}, kernel {}, {cpus}, {}", host.os, host.kernel, words::bytes(host.memory_bytes as f64))),
        ("open files at most", words::count(manifest.open_files_limit)),
        ("lost after", words::time(manifest.loss_after_seconds)),
        ("clocks differ by at most", words::time(manifest.clock_bound_seconds)),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.into(), value]);
    classed_table(Some("text"), "Manifest", ["", ""], rows)
}
