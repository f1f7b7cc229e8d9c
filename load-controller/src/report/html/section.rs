//! The sections of the page beside the charts; each is empty where there is nothing to say.

use fleet_contract::{
    series::{COUNTERS, Counter, DELIVERED, LOST, OFFERED, SCHEDULE_LAG, SENT},
    stats::Summary,
};

use super::{Report, escape};
use crate::{
    report::{Counts, Times, text},
    words,
};

pub(super) fn reasons(report: &Report) -> String {
    let item = |reason: &crate::run::verdict::Reason| {
        format!("<li class=\"{}\"><b>{}</b> {}</li>\n", reason.verdict, reason.name, escape(&reason.message))
    };
    list("reasons", report.reasons.iter().map(item))
}

pub(super) fn notes(report: &Report) -> String {
    list("notes", report.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))))
}

fn list(class: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.collect();
    if items.is_empty() { items } else { format!("<ul class=\"{class}\">\n{items}</ul>\n") }
}

/// What must come of the run, and what came of it.
pub(super) fn thresholds(report: &Report) -> String {
    if report.thresholds.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<section class=\"thresholds\">\n<h2>Thresholds</h2>\n<table>\n<tr><th>expected</th><th>found</th><th></th></tr>\n",
    );
    for threshold in &report.thresholds {
        let outcome: &str = threshold.outcome.into();
        html.push_str(&format!(
            "<tr class=\"{outcome}\"><td>{}</td><td>{}</td><td><b>{outcome}</b></td></tr>\n",
            escape(&threshold.name()),
            escape(threshold.shown())
        ));
    }
    html + "</table>\n</section>\n"
}

/// The figures that are looked for first.
pub(super) fn tiles(report: &Report) -> String {
    let all = report.messages.all;
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "–".into(), words::time);
    let shown_first = report.shown_latency();
    let latency = (format!("{} p99", shown_first.title), report.latency.of(&shown_first).p99);
    let tiles = [
        (
            "devices connected",
            format!(
                "{} / {}",
                words::count(report.devices.connected.into()),
                words::count(report.devices.desired.into())
            ),
        ),
        ("messages sent", words::count(all.raw().sent)),
        ("sent a second", words::number(report.rate(all.raw().sent))),
        ("lost", shown(all.get(&LOST))),
        (&latency.0, time(latency.1)),
        ("schedule lag p99", time(report.latency.of(&SCHEDULE_LAG).p99)),
    ];
    let mut html = String::from("<div class=\"tiles\">\n");
    for (name, value) in tiles {
        html.push_str(&format!("<div><b>{value}</b>{name}</div>\n"));
    }
    html + "</div>\n"
}

/// A table with a heading; the first column names the row, all others are numbers.
fn table(title: &str, heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = format!("<section>\n<h2>{title}</h2>\n<table>\n<tr>");
    for name in heading {
        html.push_str(&format!("<th>{name}</th>"));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            html.push_str(&format!("<td>{}</td>", escape(&cell)));
        }
        html.push_str("</tr>\n");
    }
    html + "</table>\n</section>\n"
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "–".into(), words::count)
}

pub(super) fn messages(report: &Report) -> String {
    let rows = report.messages.all.rows().map(|(counter, all)| {
        let mut row = vec![counter.title(), shown(all)];
        row.extend(report.messages.by_qos.iter().map(|counts| shown(counts.get(counter))));
        row
    });
    let rejected = report.messages.rejected.iter().map(|(reason, number)| {
        let mut row = vec![format!("rejected: {reason}"), words::count(*number)];
        row.extend(report.messages.by_qos.map(|_| shown(None)));
        row
    });
    table("Messages", &["", "all", "QoS 0", "QoS 1", "QoS 2"], rows.chain(rejected))
}

pub(super) fn received(report: &Report) -> String {
    let Some(received) = &report.received else { return String::new() };
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
    table("Received", &["", "count"], rows.into_iter())
}

pub(super) fn latencies(report: &Report) -> String {
    let rows = report.latency.rows().map(|(distribution, summary)| {
        let mut row = vec![distribution.title.to_owned()];
        row.extend(times(summary));
        row.push(words::count(summary.count));
        row
    });
    table("Latency", &["", "p50", "p90", "p99", "p99.9", "max", "count"], rows)
}

fn times(summary: &Summary) -> [String; 5] {
    summary.values().map(|value| value.map_or_else(|| "–".into(), words::time))
}

/// The counters that are shown of these: a column of zeros tells nothing, unless it is one that everybody looks for.
fn columns(counts: &[&Counts]) -> Vec<&'static Counter> {
    let is_counted = |counter: &Counter| counts.iter().any(|it| it.get(counter).is_some_and(|n| n > 0));
    let is_shown = |counter: &&Counter| [OFFERED, SENT, DELIVERED, LOST].contains(counter) || is_counted(counter);
    COUNTERS.iter().filter(is_shown).collect()
}

/// The distributions of which something was measured, each with a row that begins with `name` and its title.
fn measured<'a>(name: &'a str, latency: &'a Times) -> impl Iterator<Item = Vec<String>> + 'a {
    latency.rows().filter(|(_, summary)| summary.count > 0).map(move |(distribution, summary)| {
        let mut row = vec![name.to_owned(), distribution.title.to_owned()];
        row.extend(times(summary));
        row.push(words::count(summary.count));
        row
    })
}

/// The headings of a table of [`measured`] rows.
const MEASURED: [&str; 8] = ["", "", "p50", "p90", "p99", "p99.9", "max", "count"];

/// The counters and the times of each phase.
pub(super) fn phases(report: &Report) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let columns = columns(&report.phases.iter().map(|phase| &phase.counts).collect::<Vec<_>>());
    let titles: Vec<String> = columns.iter().map(|counter| counter.title()).collect();
    let mut heading = vec!["", "at", "lasts"];
    heading.extend(titles.iter().map(String::as_str));
    let counts = report.phases.iter().map(|phase| {
        let mut row = vec![phase.name.clone(), words::time(phase.at_seconds), words::time(phase.seconds)];
        row.extend(columns.iter().map(|counter| shown(phase.counts.get(counter))));
        row
    });
    let latencies = report.phases.iter().flat_map(|phase| measured(&phase.name, &phase.latency));
    table("Messages by phase", &heading, counts) + &table("Latency by phase", &MEASURED, latencies)
}

/// The counters and the times of each stream, and before them those of a group that has several.
pub(super) fn streams(report: &Report) -> String {
    if report.groups.is_empty() {
        return String::new();
    }
    let columns = columns(&report.streams().map(|(_, _, figures)| &figures.counts).collect::<Vec<_>>());
    let titles: Vec<String> = columns.iter().map(|counter| counter.title()).collect();
    let mut heading = vec!["", "QoS"];
    heading.extend(titles.iter().map(String::as_str));
    let (mut counts, mut latencies) = (Vec::new(), Vec::new());
    for row in report.rows() {
        let name = row.name();
        latencies.extend(measured(&name, row.latency));
        let mut cells = vec![name, row.stream.map_or_else(|| shown(None), |(_, qos)| qos.to_string())];
        cells.extend(columns.iter().map(|counter| shown(row.counts.get(counter))));
        counts.push(cells);
    }
    table("Messages by stream", &heading, counts.into_iter())
        + &table("Latency by stream", &MEASURED, latencies.into_iter())
}

/// What went wrong on purpose, and how long it took until all was well again.
pub(super) fn faults(report: &Report) -> String {
    if report.faults.is_empty() {
        return String::new();
    }
    let rows = report.faults.iter().map(|fault| text::fault(fault).into());
    let bound = report.faults.iter().find_map(|fault| fault.latency_bound_seconds);
    let bound = bound.map(|bound| format!(", of which {} is asked", words::time(bound))).unwrap_or_default();
    let what = "<p>Counted from when a fault let go of its devices: until half, 95 % and all of the sessions that it ended were back, \
                and until the end-to-end latency's p99";
    table("Faults", &text::FAULT, rows) + &format!("{what}{bound} was within its threshold again.</p>\n")
}

/// What the faults that streams have by themselves did to their messages.
pub(super) fn model_faults(report: &Report) -> String {
    if report.model_faults.is_empty() {
        return String::new();
    }
    let rows = report.model_faults.iter().map(|figures| text::model_fault(figures).into());
    table("Faults of models", &text::MODEL_FAULT, rows)
}

/// What became of the wills of the run, and of the devices that each fault hit.
pub(super) fn wills(report: &Report) -> String {
    let Some(found) = &report.offline_detection else { return String::new() };
    let beside = text::wills_beside(found).map(|line| format!("<p>{line}.</p>\n")).unwrap_or_default();
    table(
        "Offline detection",
        &text::WILLS,
        report.detections().map(|(name, found)| text::wills_of(name, found).into()),
    ) + &beside
}

pub(super) fn outages(report: &Report) -> String {
    if report.outages.list.is_empty() {
        return String::new();
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
    let backoff = text::backoff(&report.outages).map(|line| format!("<p>{}</p>", escape(&line))).unwrap_or_default();
    table("Outages", &headings, rows) + &backoff
}

pub(super) fn events(report: &Report) -> String {
    if report.events.is_empty() {
        return String::new();
    }
    table("Events", &text::EVENT, report.events.iter().map(|event| text::event(event).into()))
}

pub(super) fn connections(report: &Report) -> String {
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
    table("Connections", &["", "count"], rows.into_iter())
}

pub(super) fn lost(report: &Report) -> String {
    if report.lost_messages.is_empty() {
        return String::new();
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
    table("First lost messages", &["due", "device", "stream", "number", "QoS", "acknowledged"], rows)
}

pub(super) fn generator(report: &Report) -> String {
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
    table("Generator", &["", ""], rows.into_iter().map(|(name, value)| vec![name.into(), value]))
}

pub(super) fn manifest(report: &Report) -> String {
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
    let table = table("Manifest", &["", ""], rows.into_iter().map(|(name, value)| vec![name.into(), value]));
    table.replacen("<table>", "<table class=\"text\">", 1)
}
