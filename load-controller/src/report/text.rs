//! The report as a table for people: the end of a run, `simctl status` and, wide, the file `report.txt`.
//!
//! Nothing is wider than 80 columns but a name that somebody chose, a reason or a note.

#![expect(clippy::format_push_string, reason = "a report is put together once, and reads best so")]

mod table;

use fleet_contract::{
    series::{ACKNOWLEDGED, Counter, DELIVERED, Distribution, LOST, Meaning, OFFERED, OFFLINE_DETECTION, SENT},
    stats,
};

use super::{
    Event, FaultFigures, ModelFaultFigures, OfflineDetection, Report,
    figures::OutageList,
    format::{File, Format},
};
use crate::{
    paint::{Palette, Tone},
    run::{stage::Stage, threshold::Outcome, timeline::BackSeconds, verdict::Verdict},
    table::Align,
    words,
};

/// The format of [`render`].
pub(super) struct Text;

impl Format for Text {
    const FILES: &'static [File] = &[File {
        name: "report.txt",
        content: |of| render(of.report, Style { width: Width::Wide, paint: Palette::Plain }),
    }];
}

/// How the table looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// How much it shows.
    pub width: Width,
    /// Whether it is coloured.
    pub paint: Palette,
}

/// How much a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// What decides the verdict.
    Table,
    /// That, each quality of service, and what is needed to repeat the run.
    Wide,
}

impl Verdict {
    const fn tone(self) -> Tone {
        match self {
            Self::Passed => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Invalid | Self::Aborted => Tone::Warning,
            Self::Pending => Tone::Strong,
        }
    }
}

/// The report as a table, with a line feed at its end.
pub fn render(report: &Report, style: Style) -> String {
    let mut sections = vec![heading(report, style), devices(report, style.paint)];
    sections.push(messages(report, style));
    sections.extend(received(report, style.paint));
    sections.push(latencies(report, style.paint));
    sections.extend(wills(report, style.paint));
    sections.extend(phases(report, style.paint));
    sections.extend(streams(report, style));
    sections.extend(faults(report, style.paint));
    sections.extend(model_faults(report, style));
    sections.extend(wills_by_fault(report, style.paint));
    sections.extend(outages(report, style.paint));
    sections.extend(events(report, style.paint));
    sections.push(generator(report, style));
    if style.width == Width::Wide {
        sections.push(manifest(report, style.paint));
    }
    sections.extend(notes(report, style.paint));
    sections.extend(thresholds(report, style.paint));
    sections.push(verdict(report, style.paint));
    sections.join("\n")
}

fn heading(report: &Report, style: Style) -> String {
    let manifest = &report.manifest;
    let broker = if manifest.embedded_broker { " (embedded)" } else { "" };
    let stage: &str = if report.stage.follows_plan() { Stage::Running } else { report.stage }.into();
    let pause = pause(report, style.paint);
    let name = style.paint.paint(Tone::Strong, &manifest.fleet);
    let test =
        manifest.load_test.as_ref().map(|test| format!("load test {} of ", style.paint.paint(Tone::Strong, test)));
    let test = test.unwrap_or_default();
    let losses = losses(report, style.paint);
    format!(
        "{test}fleet {name}, run {}, {stage} {} {}{pause}\nbroker {}{broker}\n{losses}",
        manifest.run,
        if report.stage == Stage::Ended { "after" } else { "for" },
        words::time(report.elapsed_seconds),
        manifest.broker,
    )
}

/// Whether it is paused, and how long it has been; nothing of a run without a pause.
fn pause(report: &Report, paint: Palette) -> String {
    let is_paused =
        if report.stage == Stage::Paused { paint.paint(Tone::Warning, " (paused)").to_string() } else { String::new() };
    match report.paused_seconds {
        seconds if seconds > 0.0 => format!("{is_paused}, paused for {}", words::time(seconds)),
        _ => is_paused,
    }
}

/// How much was lost, of any quality of service, where nobody overlooks it; nothing if nothing was.
fn losses(report: &Report, paint: Palette) -> String {
    let &stats::Messages { lost: lost @ 1.., observed, .. } = report.messages.all.raw() else { return String::new() };
    let share = words::share(lost as f64 / observed.max(1) as f64);
    let found = format!("lost {} of {} ({share})", words::count(lost), words::messages(observed));
    let by_qos = |qos: usize| {
        let lost = report.messages.by_qos[qos].raw().lost;
        (lost > 0).then(|| format!(", {} of QoS {qos}", words::count(lost)))
    };
    let parts: String = (0..3).filter_map(by_qos).collect();
    format!("{}{parts}\n", paint.paint(Tone::Bad, &found))
}

fn devices(report: &Report, paint: Palette) -> String {
    let devices = report.devices;
    let tone = if devices.missing == 0 { Tone::Good } else { Tone::Bad };
    let connected =
        format!("{} of {} connected", words::count(devices.connected.into()), words::count(devices.desired.into()));
    let mut lines = format!("{}  {}", label("devices", paint), paint.paint(tone, &connected));
    for (state, number) in devices.in_other_states() {
        lines.push_str(&format!(", {} {state}", words::count(number.into())));
    }
    let connections = &report.connections;
    let sessions = words::counted(connections.accepted, "session", "sessions");
    lines.push_str(&format!(
        "\n{}  {sessions}, {}",
        label("connections", paint),
        words::counted(report.reconnects, "reconnect", "reconnects")
    ));
    for (what, causes) in connections.by_cause() {
        if !causes.is_empty() {
            lines.push_str(&format!("\n{}  {what}: {}", label("", paint), words::causes(causes)));
        }
    }
    if connections.unsolicited_acknowledgements > 0 {
        let number = words::count(connections.unsolicited_acknowledgements);
        lines.push_str(&format!("\n{}  unsolicited acknowledgements: {number}", label("", paint)));
    }
    lines.push('\n');
    lines
}

fn label(text: &str, paint: Palette) -> String {
    paint.paint(Tone::Faint, format_args!("{text:<13}")).to_string()
}

/// How a counter looks that is not zero.
const fn tone(counter: &Counter) -> Option<Tone> {
    match counter.meaning {
        Meaning::Usual | Meaning::Detail => None,
        Meaning::Doubtful => Some(Tone::Warning),
        Meaning::Bad => Some(Tone::Bad),
    }
}

fn messages(report: &Report, style: Style) -> String {
    let used: Vec<usize> = (0..3).filter(|qos| report.messages.by_qos[*qos].raw().offered > 0).collect();
    let mut columns =
        vec![("messages".to_owned(), Align::Left), ("total".into(), Align::Right), ("a second".into(), Align::Right)];
    columns.extend(used.iter().map(|qos| (format!("QoS {qos}"), Align::Right)));
    let mut table = table::of(columns);
    let is_shown = |counter: &Counter| counter.meaning != Meaning::Detail || style.width == Width::Wide;
    for (counter, all) in report.messages.all.rows().filter(|(counter, _)| is_shown(counter)) {
        let rate = all.map_or_else(|| "-".into(), |count| words::number(report.rate(count)));
        let mut cells = vec![counter.title(), shown(all), rate];
        // QoS 0 knows no acknowledgement, so that none is missing.
        let is_known = |qos: usize| qos > 0 || *counter != ACKNOWLEDGED;
        let of_qos = |qos: &usize| shown(report.messages.by_qos[*qos].get(counter).filter(|_| is_known(*qos)));
        cells.extend(used.iter().map(of_qos));
        table.row(cells, tone(counter).filter(|_| all.is_some_and(|count| count > 0)));
    }
    let rejected = &report.messages.rejected;
    let mut text = table.render(style.paint);
    if !rejected.is_empty() {
        text.push_str(&format!("{}  {}\n", label("rejected", style.paint), words::causes(rejected)));
    }
    text
}

/// What the devices' own subscriptions brought; nothing of a fleet that does not subscribe.
fn received(report: &Report, paint: Palette) -> Option<String> {
    let received = report.received.as_ref()?;
    let again = match received.redelivered {
        0 => String::new(),
        number => format!(", {} again", words::count(number)),
    };
    let refused = match &received.subscriptions_refused {
        refused if refused.is_empty() => String::new(),
        refused => format!(", refused: {}", words::causes(refused)),
    };
    let unanswered = match received.subscriptions_unanswered {
        0 => String::new(),
        number => format!(", {} never answered", words::count(number)),
    };
    Some(format!(
        "{}  {} ({}){again}\n{}  {} granted{refused}{unanswered}\n",
        label("received", paint),
        words::messages(received.messages),
        words::bytes(received.payload_bytes as f64),
        label("subscriptions", paint),
        words::count(received.subscriptions_granted),
    ))
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), words::count)
}

fn latencies(report: &Report, paint: Palette) -> String {
    let mut table = table::of_figures(&["latency", "p50", "p90", "p99", "p99.9", "max", "count"]);
    // Few fleets have wills.
    let is_shown = |row: &Distribution, count: u64| *row != OFFLINE_DETECTION || count > 0;
    for (distribution, summary) in report.latency.rows().filter(|(row, summary)| is_shown(row, summary.count)) {
        let values = summary.values().map(shown_time);
        let mut cells = vec![distribution.title.to_owned()];
        cells.extend(values);
        cells.push(words::count(summary.count));
        table.row(cells, None);
    }
    table.render(paint)
}

/// Each phase with its messages, and how late they were; nothing of a run without.
fn phases(report: &Report, paint: Palette) -> Option<String> {
    let mut table = table::of_figures(&["phase", "at", "offered", "delivered", "lost", "p50", "p99"]);
    for phase in &report.phases {
        let mut cells = vec![phase.name.clone(), words::time(phase.at_seconds)];
        cells.extend([OFFERED, DELIVERED, LOST].map(|counter| shown(phase.counts.get(&counter))));
        let summary = phase.latency.of(&report.shown_latency());
        cells.extend([summary.p50, summary.p99].map(shown_time));
        table.row(cells, tone(&LOST).filter(|_| phase.counts.raw().lost > 0));
    }
    let text = || table.render(paint) + &format!("p50 and p99: {}\n", report.shown_latency().title);
    (!report.phases.is_empty()).then(text)
}

/// What must come of the run, and what came of it; nothing where nothing was asked for.
fn thresholds(report: &Report, paint: Palette) -> Option<String> {
    let columns = [("threshold", Align::Left), ("found", Align::Right), ("", Align::Left)];
    let mut table = table::of(columns.map(|(name, align)| (name.to_owned(), align)));
    for threshold in &report.thresholds {
        let outcome: &str = threshold.outcome.into();
        let tone = match threshold.outcome {
            Outcome::Passed => Some(Tone::Good),
            Outcome::Failed => Some(Tone::Bad),
            Outcome::Pending => None,
        };
        table.row(vec![threshold.name(), threshold.shown().to_owned(), outcome.to_owned()], tone);
    }
    (!report.thresholds.is_empty()).then(|| table.render(paint))
}

pub(super) fn shown_time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".into(), words::time)
}

/// Each stream with its messages, and how late they were, and before them the sum of a group that has several; nothing where there is
/// only one stream.
fn streams(report: &Report, style: Style) -> Option<String> {
    const SHOWN: usize = 12;
    let number = report.streams().count();
    if number < 2 {
        return None;
    }
    let most = if style.width == Width::Wide { number } else { SHOWN };
    let mut table = table::of_figures(&["stream", "sent", "delivered", "lost", "p50", "p99", "max"]);
    let mut left = most;
    for row in report.rows() {
        // Before streams that are left out no sum stands either.
        if left == 0 {
            break;
        }
        left -= usize::from(row.stream.is_some());
        let summary = row.latency.of(&report.shown_latency());
        let mut cells = vec![row.name()];
        cells.extend([SENT, DELIVERED, LOST].map(|counter| shown(row.counts.get(&counter))));
        cells.extend([summary.p50, summary.p99, summary.max].map(shown_time));
        table.row(cells, tone(&LOST).filter(|_| row.counts.raw().lost > 0));
    }
    let mut text = table.render(style.paint);
    text.push_str(&format!("p50, p99 and max: {}\n", report.shown_latency().title));
    if number > most {
        text.push_str(&format!("and {} more: -o wide\n", words::counted((number - most) as u64, "stream", "streams")));
    }
    Some(text)
}

/// The columns of a table of faults; the last four count from when the fault let go of its devices.
pub(super) const FAULT: [&str; 9] =
    ["fault", "at", "lasts", "devices", "effects", "50 % back", "95 % back", "all back", "p99 back"];

/// The same in 80 columns.
const FAULT_NARROW: [&str; 9] = ["fault", "at", "lasts", "hit", "effects", "50 %", "95 %", "all", "p99"];

/// What a fault did, in these columns.
pub(super) fn fault(fault: &FaultFigures) -> [String; 9] {
    let devices = |seconds: Option<f64>| match seconds {
        _ if fault.sessions_lost == 0 => "-".into(),
        Some(seconds) => words::time(seconds),
        None => "not yet".into(),
    };
    let latency = match (fault.latency_bound_seconds, fault.latency_back_seconds) {
        (None, _) => "-".into(),
        (_, Some(seconds)) => words::time(seconds),
        (_, None) => "not yet".into(),
    };
    [
        fault.name.clone(),
        words::time(fault.at_seconds),
        if fault.seconds > 0.0 { words::time(fault.seconds) } else { "-".into() },
        words::count(fault.devices),
        words::count(fault.effects),
        devices(fault.back_seconds.p50),
        devices(fault.back_seconds.p95),
        devices(fault.back_seconds.p100),
        latency,
    ]
}

/// Each fault, and how long it took until all was well again; nothing of a run without.
fn faults(report: &Report, paint: Palette) -> Option<String> {
    let mut table = table::narrow(&FAULT_NARROW);
    for figures in &report.faults {
        table.row(fault(figures).into(), (figures.effects == 0).then_some(Tone::Bad));
    }
    let told = "50 %, 95 % and all: sessions back; p99: latency back; since the fault let go\n";
    (!report.faults.is_empty()).then(|| table.render(paint) + told)
}

/// The columns of a table of faults that streams have by themselves.
pub(super) const MODEL_FAULT: [&str; 7] = ["model faults", "corrupt", "twice", "stale", "silent", "stuck", "flood"];

/// What such faults did to the messages of a stream, in these columns.
pub(super) fn model_fault(figures: &ModelFaultFigures) -> [String; 7] {
    let [corrupt, duplicate, stale, silent, stuck, flood] = figures.counts().map(words::count);
    [format!("{}/{}", figures.group, figures.stream), corrupt, duplicate, stale, silent, stuck, flood]
}

/// What the faults of models did, by stream; nothing of a run in which they did nothing.
fn model_faults(report: &Report, style: Style) -> Option<String> {
    const SHOWN: usize = 20;
    let mut table = table::of_figures(&MODEL_FAULT);
    let number = report.model_faults.len();
    let most = if style.width == Width::Wide { number } else { SHOWN };
    for figures in report.model_faults.iter().take(most) {
        table.row(model_fault(figures).into(), None);
    }
    let mut text = table.render(style.paint);
    if number > most {
        text.push_str(&format!("and {} more: -o wide\n", words::counted((number - most) as u64, "stream", "streams")));
    }
    (number > 0).then_some(text)
}

/// The columns of a table of what became of wills.
pub(super) const WILLS: [&str; 7] = ["wills", "expected", "seen", "missing", "p50", "p99", "max"];

/// What became of wills, in these columns behind a name.
pub(super) fn wills_of(name: &str, found: &OfflineDetection) -> [String; 7] {
    let [p50, _, p99, max] = found.times().map(shown_time);
    let [expected, seen, missing] = [found.wills_expected, found.wills_seen, found.wills_missing].map(words::count);
    [name.to_owned(), expected, seen, missing, p50, p99, max]
}

/// What else became of them and of the retained state, in one line; nothing if there is nothing to say.
pub(super) fn wills_beside(found: &OfflineDetection) -> Option<String> {
    let counts = [
        (found.wills_unexpected, "unexpected"),
        (found.wills_unknown, "unknown"),
        (found.wills_late, "late"),
        (found.wills_by_broker, "of sessions that the broker ended"),
        (found.retained_right, "retained right"),
        (found.retained_wrong, "retained wrong"),
    ];
    let told = counts.into_iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told.map(|(count, what)| format!("{} {what}", words::count(count))).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Whether the broker has done with wills and retained messages what it should not.
pub(super) const fn is_bad(found: &OfflineDetection) -> bool {
    found.wills_missing + found.wills_unexpected + found.retained_wrong > 0
}

/// What became of the wills of the run; nothing where no session ended that has one.
fn wills(report: &Report, paint: Palette) -> Option<String> {
    let found = report.offline_detection.as_ref()?;
    let mut text = wills_table(report.detections().take(1), paint)?;
    text.extend(wills_beside(found).map(|line| format!("{}  {line}\n", label("", paint))));
    Some(text)
}

/// The same of the devices that each fault has hit.
fn wills_by_fault(report: &Report, paint: Palette) -> Option<String> {
    wills_table(report.detections().skip(1), paint)
}

fn wills_table<'a>(rows: impl Iterator<Item = (&'a str, &'a OfflineDetection)>, paint: Palette) -> Option<String> {
    let mut rows = rows.peekable();
    rows.peek()?;
    let mut table = table::of_figures(&WILLS);
    rows.for_each(|(name, found)| table.row(wills_of(name, found).into(), is_bad(found).then_some(Tone::Bad)));
    Some(table.render(paint))
}

/// When half, 90 %, 95 % and all of those that fell away were back.
pub(super) fn back(BackSeconds { p50, p90, p95, p100 }: BackSeconds) -> [String; 4] {
    [p50, p90, p95, p100].map(|seconds| seconds.map_or_else(|| "not yet".into(), words::time))
}

/// What of the time away was the fleet's own doing.
pub(super) fn backoff(outages: &OutageList) -> Option<String> {
    let (share, away) = (words::share(outages.backoff_share()?), words::time(outages.away_seconds));
    Some(format!("devices were away {away} in all, {share} of it by their own backoff"))
}

/// The most recent outages; nothing when there was none.
fn outages(report: &Report, paint: Palette) -> Option<String> {
    const SHOWN: usize = 10;
    let list = &report.outages.list;
    (!list.is_empty()).then(|| {
        let columns = ["outage at", "lasted", "gap", "devices lost", "50 % back", "90 %", "95 %", "all"];
        let mut table = table::of(columns.map(|name| (name.to_owned(), Align::Right)));
        for outage in &list[list.len().saturating_sub(SHOWN)..] {
            let mut cells = vec![
                words::time(outage.at_seconds),
                words::time(outage.seconds),
                words::time(outage.gap_seconds),
                words::count(outage.devices_lost.into()),
            ];
            cells.extend(back(outage.back_seconds));
            table.row(cells, Some(Tone::Warning));
        }
        let mut text = table.render(paint);
        let earlier = report.outages.count.saturating_sub(SHOWN as u64);
        if earlier > 0 {
            text.push_str(&format!("and {} earlier\n", words::count(earlier)));
        }
        text.extend(backoff(&report.outages).map(|line| line + "\n"));
        text
    })
}

/// The columns of a table of what else happened.
pub(super) const EVENT: [&str; 3] = ["event at", "what", ""];

/// What else happened, in these columns.
pub(super) fn event(event: &Event) -> [String; 3] {
    [words::time(event.at_seconds), event.what(), event.words()]
}

fn events(report: &Report, paint: Palette) -> Option<String> {
    const SHOWN: usize = 10;
    let [at, what, message] = EVENT.map(str::to_owned);
    let mut table = table::of([(at, Align::Right), (what, Align::Left), (message, Align::Left)]);
    let earlier = report.events.len().saturating_sub(SHOWN);
    report.events.iter().skip(earlier).for_each(|it| table.row(event(it).into(), None));
    let mut text = table.render(paint);
    if earlier > 0 {
        text.push_str(&format!("and {} earlier\n", words::count(earlier as u64)));
    }
    (!report.events.is_empty()).then_some(text)
}

fn generator(report: &Report, style: Style) -> String {
    let generator = report.generator;
    let cpu = generator.cpu_user_seconds + generator.cpu_system_seconds;
    let mut lines = format!(
        "{}  CPU {} ({} of a core), memory {}, {}\n",
        label("generator", style.paint),
        words::time(cpu),
        words::share(generator.cpu_cores),
        words::bytes(generator.memory_bytes_max as f64),
        words::counted(generator.missed_ticks, "missed tick", "missed ticks"),
    );
    lines.push_str(&format!(
        "{}  sent {}, received {}, observed {}\n",
        label("bytes", style.paint),
        words::bytes(report.bytes.sent as f64),
        words::bytes(report.bytes.received as f64),
        words::bytes(report.bytes.observed as f64)
    ));
    if style.width == Width::Wide {
        let per_million = generator.cpu_seconds_per_million.map_or_else(|| "-".into(), words::number);
        lines.push_str(&format!(
            "{}  {per_million} CPU-s a million messages, throttled {}\n",
            label("", style.paint),
            words::share(generator.cpu_throttled_share)
        ));
        lines.push_str(&format!(
            "{}  {}, {}, {}, {} full buffers\n",
            label("", style.paint),
            words::counted(generator.workers.into(), "worker", "workers"),
            words::counted(generator.shards.into(), "thread", "threads"),
            words::counted(generator.open_files, "open file", "open files"),
            words::count(generator.buffer_full)
        ));
    }
    lines
}

fn manifest(report: &Report, paint: Palette) -> String {
    let manifest = &report.manifest;
    let host = &manifest.host;
    let machine = format!(
        "{}, kernel {}, {}, {}",
        host.os,
        host.kernel,
        words::counted(host.cpus.into(), "processor", "processors"),
        words::bytes(host.memory_bytes as f64)
    );
    let observe = serde_json::to_value(manifest.observe).ok().and_then(|value| value.as_str().map(str::to_owned));
    let rows = [
        ("version", format!("{}, engine {}", manifest.version, manifest.engine)),
        ("command", manifest.command.join(" ")),
        (
            "document",
            format!("sha256 {}, seed {}", manifest.document_sha256.get(..16).unwrap_or_default(), manifest.seed),
        ),
        ("observe", observe.unwrap_or_default()),
        ("started", manifest.started.clone()),
        ("machine", machine),
        ("file limit", words::count(manifest.open_files_limit)),
    ];
    let lines = rows.map(|(name, value)| format!("{}  {value}\n", label(name, paint)));
    lines.concat()
}

fn notes(report: &Report, paint: Palette) -> Option<String> {
    (!report.notes.is_empty()).then(|| {
        let note = |text: &String| format!("{}  {text}", label("note", paint));
        report.notes.iter().map(note).collect::<Vec<_>>().join("\n") + "\n"
    })
}

fn verdict(report: &Report, paint: Palette) -> String {
    let mut text =
        format!("{}  {}\n", label("verdict", paint), paint.paint(report.verdict.tone(), <&str>::from(report.verdict)));
    for reason in &report.reasons {
        let name = paint.paint(reason.verdict.tone(), <&str>::from(reason.name));
        text.push_str(&format!("  {name}: {}\n", reason.message));
    }
    text
}

#[cfg(test)]
mod tests;
