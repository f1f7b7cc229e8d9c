//! The live figures of a run as lines of text: a pure function of its report.
//!
//! The run shows them in place, `status --watch` in another terminal, and [`line()`] is what goes where no terminal is.
//! Nothing but a name that somebody chose makes a line wider than 79 columns: the last one stays free.

use std::fmt::Write as _;

use fleet_contract::{
    fleet::Observe,
    series::{
        DELIVERED, DUPLICATED, END_TO_END, IN_FLIGHT, LATE, LOST, PUBLISH_ACK, REORDERED, SCHEDULE_LAG, UNKNOWN,
        WITHHELD,
    },
    stats::Summary,
};
use load_controller::{
    report::{PhaseFigures, Report},
    run::{
        stage::Stage,
        threshold::Outcome,
        timeline::{Point, Quantiles},
    },
    words,
};

use crate::printer::{Palette, Tone};

/// What the reader can do, at the foot of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// The run's own terminal.
    Run,
    /// Another terminal.
    Watch,
    /// A fleet of a cluster.
    Cluster,
}

/// The live figures, line by line.
pub(crate) fn lines(report: &Report, hint: Hint, palette: Palette) -> Vec<String> {
    let last = report.timeline.points.last().copied().unwrap_or_default();
    let mut lines = vec![heading(report, palette), devices(report, palette)];
    lines.extend(phase(report).map(|phase| labelled("phase", phase, palette)));
    lines.extend(thresholds(report, palette));
    lines.push(String::new());
    lines.extend(messages(report, &last, palette));
    lines.push(String::new());
    lines.extend(latencies(report, &last, palette));
    lines.push(String::new());
    lines.extend(delivery(report, palette));
    lines.push(generator(report, &last, palette));
    lines.extend(outage(report, palette));
    lines.extend(observer_away(report, palette));
    for reason in &report.reasons {
        lines.extend(wrapped("so far", &reason.to_string(), Tone::Warning, palette));
    }
    for note in &report.notes {
        lines.extend(wrapped("note", note, Tone::Faint, palette));
    }
    lines.push(String::new());
    let foot = match (hint, report.stage) {
        (Hint::Run, Stage::Paused) => "paused: in another terminal, simctl resume goes on. Ctrl-C drains and ends",
        (Hint::Run, Stage::Running) => "Ctrl-C drains and ends. In another terminal: simctl scale 500, simctl pause",
        (Hint::Run, _) => "draining: messages settle, devices leave. Ctrl-C again aborts",
        (Hint::Watch, _) => "Ctrl-C ends this view; the run goes on. simctl stop ends the run",
        (Hint::Cluster, _) => "Ctrl-C ends this view; the fleet goes on. simctl delete removes it",
    };
    lines.push(palette.paint(Tone::Faint, foot).to_string());
    lines
}

/// One line for logs.
pub(crate) fn line(report: &Report) -> String {
    let last = report.timeline.points.last().copied().unwrap_or_default();
    let all = &report.messages.all;
    let (what, now, run) = match report.observer.observe {
        Observe::None => ("publish to ack", last.publish_ack.p99, report.latency.of(&PUBLISH_ACK).p99),
        Observe::All | Observe::Sample => ("end to end", last.end_to_end.p99, report.latency.of(&END_TO_END).p99),
    };
    let mut line = format!(
        "{}  {:>7}  {} of {} connected  {}/s sent  {} offered  {} sent  {} delivered  {} lost  {} reconnects  \
         {what} p99 {} now {} in all  lag p99 {}  {}",
        wall_clock(&report.manifest.at),
        words::time(report.elapsed_seconds),
        words::count(report.devices.connected.into()),
        words::count(report.devices.desired.into()),
        words::number(per_second(last.messages.sent, &last)),
        words::count(all.raw().offered),
        words::count(all.raw().sent),
        maybe(all.get(&DELIVERED)),
        maybe(all.get(&LOST)),
        words::count(report.reconnects),
        time(now),
        time(run),
        time(report.latency.of(&SCHEDULE_LAG).p99),
        observer(report),
    );
    if let Some((_, phase)) = phase_of(report) {
        let _ = write!(line, "  phase {}", phase.name);
    }
    line.push_str(match report.stage {
        Stage::Paused => "  paused",
        Stage::Draining => "  draining",
        Stage::Running | Stage::Ended => "",
    });
    line
}

/// What keeps the observer from seeing what arrives; nothing if it does.
fn observer_away(report: &Report, palette: Palette) -> Vec<String> {
    let observer = &report.observer;
    match &observer.error {
        Some(error) => wrapped("observer", error, Tone::Bad, palette),
        None if observer.subscribed < observer.wanted => {
            let found = format!("{} of {} subscribed", observer.subscribed, observer.wanted);
            vec![labelled("observer", palette.paint(Tone::Warning, found), palette)]
        }
        None => Vec::new(),
    }
}

/// An instant (RFC 3339) to the second.
fn wall_clock(instant: &str) -> String {
    instant.split_once('.').map_or_else(|| instant.into(), |(seconds, _)| format!("{seconds}Z"))
}

/// Whether anybody sees what arrives.
fn observer(report: &Report) -> String {
    let observer = &report.observer;
    match (observer.observe, &observer.error) {
        (Observe::None, _) => "not observed".into(),
        (_, Some(error)) => format!("observer: {error}"),
        (_, None) if observer.wanted == 0 || observer.subscribed < observer.wanted => {
            format!("observer away, {} of {} subscribed", observer.subscribed, observer.wanted)
        }
        (_, None) => "observer subscribed".into(),
    }
}

fn labelled(name: &str, text: impl std::fmt::Display, palette: Palette) -> String {
    format!("{} {text}", palette.paint(Tone::Faint, format_args!("{name:<13}")))
}

/// A sentence over as many lines as it needs, broken between words.
fn wrapped(name: &str, text: &str, tone: Tone, palette: Palette) -> Vec<String> {
    const WIDTH: usize = 65;
    let mut rows = vec![String::new()];
    for word in text.split_whitespace() {
        let row = rows.last_mut().expect("there is a row from the start");
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > WIDTH {
            rows.push(word.to_owned());
        } else {
            row.push_str(if row.is_empty() { "" } else { " " });
            row.push_str(word);
        }
    }
    let label = |position| if position == 0 { name } else { "" };
    rows.iter()
        .enumerate()
        .map(|(position, row)| labelled(label(position), palette.paint(tone, row), palette))
        .collect()
}

fn heading(report: &Report, palette: Palette) -> String {
    let manifest = &report.manifest;
    let stage = match report.stage {
        Stage::Running | Stage::Paused => "running",
        Stage::Draining => "draining",
        Stage::Ended => "ended",
    };
    let of = manifest.duration_seconds.map(|duration| format!(" of {}", words::time(duration))).unwrap_or_default();
    let embedded = if manifest.embedded_broker { " (embedded)" } else { "" };
    let paused = match report.stage {
        Stage::Paused => palette.paint(Tone::Warning, " (paused)").to_string(),
        _ => String::new(),
    };
    format!(
        "fleet {}  {stage} {}{of}{paused}  broker {}{embedded}",
        palette.paint(Tone::Strong, &manifest.fleet),
        words::time(report.elapsed_seconds),
        manifest.broker
    )
}

/// The phase that the run is in, and its place; none before the first and behind the last.
fn phase_of(report: &Report) -> Option<(usize, &PhaseFigures)> {
    let is_now = |phase: &PhaseFigures| (0.0..phase.seconds).contains(&(report.elapsed_seconds - phase.at_seconds));
    let mut phases = report.phases.iter().enumerate();
    phases.find(|(_, phase)| is_now(phase)).filter(|_| report.stage.follows_plan())
}

/// `steady (2 of 5)  40.0 s of 10 min`
fn phase(report: &Report) -> Option<String> {
    let (position, phase) = phase_of(report)?;
    let of = report.manifest.load_test.as_ref().map(|test| format!(" of {test}")).unwrap_or_default();
    Some(format!(
        "{} ({} of {}{of})  {} of {}",
        phase.name,
        position + 1,
        report.phases.len(),
        words::time(report.elapsed_seconds - phase.at_seconds),
        words::time(phase.seconds)
    ))
}

/// How far the thresholds are judged; nothing of a run without.
fn thresholds(report: &Report, palette: Palette) -> Option<String> {
    let counted = |outcome: Outcome, what: &str, tone: Tone| {
        let number = report.thresholds.iter().filter(|threshold| threshold.outcome == outcome).count();
        (number > 0).then(|| palette.paint(tone, format!("{number} {what}")).to_string())
    };
    let all = [
        counted(Outcome::Passed, "passed", Tone::Good),
        counted(Outcome::Failed, "failed", Tone::Bad),
        counted(Outcome::Pending, "to be judged", Tone::Faint),
    ];
    let text = all.into_iter().flatten().collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then(|| labelled("thresholds", text, palette))
}

/// The connected devices; with a bar as long as some are missing.
fn devices(report: &Report, palette: Palette) -> String {
    let devices = &report.devices;
    let is_complete = devices.connected == devices.desired;
    let count =
        format!("{} of {} connected", words::count(devices.connected.into()), words::count(devices.desired.into()));
    let tone = if is_complete { Tone::Good } else { Tone::Warning };
    let mut text = labelled("devices", palette.paint(tone, count), palette);
    if !is_complete {
        text.push_str("  ");
        text.push_str(&bar(devices.connected, devices.desired));
    }
    for (state, number) in devices.in_other_states() {
        let _ = write!(text, "  {} {state}", words::count(number.into()));
    }
    text
}

/// `part` of `whole` as a bar of 20 characters.
fn bar(part: u32, whole: u32) -> String {
    const WIDTH: usize = 20;
    let filled = (u64::from(part.min(whole)) * WIDTH as u64).checked_div(u64::from(whole)).unwrap_or(WIDTH as u64);
    let filled = usize::try_from(filled).unwrap_or(WIDTH);
    format!("{}{}", "█".repeat(filled), "░".repeat(WIDTH - filled))
}

/// How far the growth or the shrinkage of a fleet has come.
pub(crate) fn progress(connected: u32, wanted: u32) -> String {
    let (now, then) = (words::count(connected.into()), words::count(wanted.into()));
    if connected > wanted {
        format!("{now} connected, {then} wanted")
    } else {
        format!("{} {now} of {then} connected", bar(connected, wanted))
    }
}

fn per_second(count: u64, point: &Point) -> f64 {
    if point.seconds > 0.0 { count as f64 / point.seconds } else { 0.0 }
}

fn maybe(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), words::count)
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".into(), words::time)
}

fn messages(report: &Report, last: &Point, palette: Palette) -> Vec<String> {
    let all = &report.messages.all;
    let rate = |count| words::number(per_second(count, last));
    let row = |name: &str, cells: [String; 5]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>13}")).collect();
        format!("{}{cells}", palette.paint(Tone::Faint, format_args!("{name:<13}")))
    };
    let head: String =
        ["offered", "sent", "acknowledged", "delivered", "bytes"].iter().map(|name| format!("{name:>13}")).collect();
    let delivered = if all.get(&DELIVERED).is_some() { rate(last.messages.delivered) } else { "-".into() };
    let mut lines = vec![
        palette.paint(Tone::Strong, format_args!("{:<13}{head}", "messages")).to_string(),
        row(
            "a second",
            [
                rate(last.messages.offered),
                rate(last.messages.sent),
                rate(last.messages.acknowledged),
                delivered,
                words::bytes(per_second(last.bytes_sent, last)),
            ],
        ),
        row(
            "in all",
            [
                words::count(all.raw().offered),
                words::count(all.raw().sent),
                words::count(all.raw().acknowledged),
                maybe(all.get(&DELIVERED)),
                words::bytes(report.bytes.sent as f64),
            ],
        ),
    ];
    let unanswered = report.messages.by_qos[0].raw().sent;
    if unanswered > 0 {
        let told = format!("only QoS 1 and 2 are acknowledged; {} of QoS 0 were sent", words::count(unanswered));
        lines.push(labelled("", palette.paint(Tone::Faint, told), palette));
    }
    lines
}

fn latencies(report: &Report, last: &Point, palette: Palette) -> Vec<String> {
    let row = |name: &str, now: Quantiles, run: Summary| {
        let cells = [now.p50, now.p99, now.max, run.p50, run.p99, run.max].map(time);
        let cells: String = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| if at == 3 { format!("{cell:>13}") } else { format!("{cell:>10}") })
            .collect();
        format!("{}{cells}", palette.paint(Tone::Faint, format_args!("{name:<13}")))
    };
    let head = format!(
        "{:<13}{:>10}{:>10}{:>10}{:>13}{:>10}{:>10}",
        "latency", "now p50", "p99", "max", "run p50", "p99", "max"
    );
    vec![
        palette.paint(Tone::Strong, head).to_string(),
        row("publish→ack", last.publish_ack, report.latency.of(&PUBLISH_ACK)),
        row("end to end", last.end_to_end, report.latency.of(&END_TO_END)),
        row("schedule lag", last.schedule_lag, report.latency.of(&SCHEDULE_LAG)),
    ]
}

/// What went wrong with messages; zeros are faint, the rest is not.
fn delivery(report: &Report, palette: Palette) -> Vec<String> {
    let all = &report.messages.all;
    let row = |name: &str, counts: &[(Option<u64>, &str, Tone)]| {
        let cells: Vec<String> = counts
            .iter()
            .map(|(count, what, tone)| {
                let tone = if count.is_some_and(|count| count > 0) { *tone } else { Tone::Faint };
                palette.paint(tone, format_args!("{} {what}", maybe(*count))).to_string()
            })
            .collect();
        labelled(name, cells.join("  "), palette)
    };
    vec![
        row(
            "delivery",
            &[
                (all.get(&LOST), "lost", Tone::Bad),
                (all.get(&DUPLICATED), "duplicated", Tone::Warning),
                (all.get(&REORDERED), "reordered", Tone::Bad),
                (all.get(&LATE), "late", Tone::Warning),
                (all.get(&UNKNOWN), "unknown", Tone::Warning),
            ],
        ),
        row(
            "",
            &[
                (all.get(&IN_FLIGHT), "in flight", Tone::Faint),
                (all.get(&WITHHELD), "withheld", Tone::Warning),
                (Some(report.reconnects), "reconnects", Tone::Warning),
            ],
        ),
    ]
}

fn generator(report: &Report, last: &Point, palette: Palette) -> String {
    let generator = &report.generator;
    let cores = if last.seconds > 0.0 { last.cpu_seconds / last.seconds } else { 0.0 };
    let mut text = format!(
        "CPU {} of a core  memory {}  {}",
        words::share(cores),
        words::bytes(generator.memory_bytes as f64),
        words::counted(generator.workers.into(), "worker", "workers")
    );
    if generator.missed_ticks > 0 {
        let missed = words::counted(generator.missed_ticks, "missed tick", "missed ticks");
        let _ = write!(text, "  {}", palette.paint(Tone::Warning, missed));
    }
    if generator.workers_lost > 0 {
        let _ = write!(text, "  {}", palette.paint(Tone::Bad, format_args!("{} lost", generator.workers_lost)));
    }
    labelled("generator", text, palette)
}

/// The outage that goes on, else the last one.
fn outage(report: &Report, palette: Palette) -> Option<String> {
    let last = report.outages.list.last()?;
    let text = if last.until.is_none() {
        let (back, lost) = (words::count(last.devices_back.into()), words::devices(last.devices_lost));
        palette.paint(Tone::Bad, format!("since {}: {back} of {lost} back", words::time(last.seconds))).to_string()
    } else {
        let most = last.back_seconds.p95.map(|most| format!("95 % back after {}, ", words::time(most)));
        format!(
            "{} at {}: {}, {}all after {}",
            words::counted(report.outages.count, "outage, the last", "outages, the last"),
            words::time(last.at_seconds),
            words::devices(last.devices_lost),
            most.unwrap_or_default(),
            words::time(last.seconds)
        )
    };
    Some(labelled("outage", text, palette))
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        broker_url::BrokerUrl,
        fleet::BrokerSpec,
        plan::Plan,
        stats::{Devices, Messages, Stats},
        time::Micros,
        units::Span,
    };
    use load_controller::run::{
        facts::{Asked, Program, RunFacts},
        phase::Phases,
    };

    use super::*;
    use crate::document;

    const START: Micros = Micros(1_700_000_000_000_000);

    fn stats(seconds: u64) -> Stats {
        let mut stats =
            Stats { devices: Devices { desired: 100, connected: 100, ..Devices::default() }, ..Stats::default() };
        let sent = seconds * 66;
        stats.messages[1] = Messages {
            offered: sent,
            sent,
            acknowledged: sent,
            observed: sent,
            delivered: sent - 1,
            ..Messages::default()
        };
        stats.bytes.sent = sent * 180;
        stats.generator.cpu_user_seconds = seconds as f64 * 0.02;
        stats.generator.memory_bytes = 11 << 20;
        stats.generator.workers = 1;
        (stats.observer.wanted, stats.observer.subscribed) = (1, 1);
        for us in 1..=sent {
            stats.latency.publish_ack.record(Span(400 + us));
            stats.latency.end_to_end.record(Span(700 + us));
            stats.latency.schedule_lag.record(Span(60));
        }
        stats
    }

    fn report(change: impl FnOnce(&mut Stats)) -> Report {
        asking(Asked::default(), change)
    }

    fn asking(asked: Asked, change: impl FnOnce(&mut Stats)) -> Report {
        let document = document::from_text("demo", crate::library::example("demo").unwrap(), None).unwrap();
        let mut fleet = document.fleet;
        fleet.spec.broker = Some(BrokerSpec::at(vec![BrokerUrl::tcp("127.0.0.1", 1883)]));
        let plan = Plan::of(0, START, &fleet.spec);
        let mut facts = RunFacts::new(fleet, String::new(), &plan, asked, Program::default());
        facts.at_broker.is_embedded = true;
        facts.timeline.push(START.after(Span::from_secs(64)), &stats(64), Stage::Running);
        let mut now = stats(65);
        change(&mut now);
        facts.now = START.after(Span::from_secs(65));
        facts.timeline.push(facts.now, &now, Stage::Running);
        Report::new(&now, &facts)
    }

    fn drawn(report: &Report) -> String {
        let lines = lines(report, Hint::Run, Palette::Plain);
        assert!(lines.iter().all(|line| line.chars().count() <= 79), "a line is too wide: {lines:#?}");
        lines.join("\n")
    }

    #[test]
    fn a_pause_is_seen_in_the_view_and_in_the_line() {
        let report = Report { stage: Stage::Paused, ..report(|_| ()) };
        let view = drawn(&report);
        assert!(view.contains("running 65.0 s (paused)") && view.contains("simctl resume goes on"), "{view}");
        assert!(line(&report).ends_with("  paused"), "{}", line(&report));
    }

    #[test]
    fn a_load_test_shows_its_phase_and_what_is_judged() {
        let phases = ["ramp:0..100/20s", "steady:30s", "peak:1m"].map(|text| text.parse().unwrap());
        let thresholds = ["{expect: offered == 0, phase: steady}", "{expect: 'sent > 1', phase: ramp}", "lost == 0"];
        let report = asking(
            Asked {
                load_test: Some("rush-hour".into()),
                phases: Phases::new(phases.into()),
                thresholds: thresholds.map(|text| serde_saphyr::from_str(text).unwrap()).into(),
                ..Asked::default()
            },
            |_| (),
        );
        let view = drawn(&report);
        assert!(view.contains("\nphase         peak (3 of 3 of rush-hour)  15.0 s of 60.0 s\n"), "{view}");
        assert!(view.contains("\nthresholds    1 passed, 1 failed, 1 to be judged\n"), "{view}");
        assert!(line(&report).ends_with("  phase peak"), "{}", line(&report));
    }

    #[test]
    fn qos_0_is_said_to_have_no_acknowledgements() {
        let view = drawn(&report(|stats| {
            stats.messages[0] = std::mem::take(&mut stats.messages[1]);
            stats.messages[0].acknowledged = 0;
        }));
        assert!(
            view.contains("\n              only QoS 1 and 2 are acknowledged; 4,290 of QoS 0 were sent\n"),
            "{view}"
        );
        assert!(!drawn(&report(|_| ())).contains("only QoS"));
    }

    #[test]
    fn a_line_says_whether_anybody_observes() {
        let said = |change: fn(&mut Stats)| {
            let line = line(&report(change));
            line.split("lag p99 ").last().unwrap().split_once("  ").unwrap().1.to_owned()
        };
        assert_eq!(said(|_| ()), "observer subscribed");
        assert_eq!(said(|stats| stats.observer.subscribed = 0), "observer away, 0 of 1 subscribed");
        assert_eq!(said(|stats| stats.observer.error = Some("not authorized".into())), "observer: not authorized");
    }

    #[test]
    fn a_fleet_that_runs_well() {
        insta::assert_snapshot!(drawn(&report(|_| ())), @r"
        fleet demo  running 65.0 s  broker mqtt://127.0.0.1:1883 (embedded)
        devices       100 of 100 connected

        messages           offered         sent acknowledged    delivered        bytes
        a second              66.0         66.0         66.0         66.0     11.6 KiB
        in all               4,290        4,290        4,290        4,289      754 KiB

        latency         now p50       p99       max      run p50       p99       max
        publish→ack     4.66 ms   4.69 ms   4.69 ms      2.54 ms   4.65 ms   4.69 ms
        end to end      4.96 ms   4.99 ms   4.99 ms      2.84 ms   4.95 ms   4.99 ms
        schedule lag      60 µs     60 µs     60 µs        60 µs     60 µs     60 µs

        delivery      0 lost  0 duplicated  0 reordered  0 late  0 unknown
                      1 in flight  0 withheld  0 reconnects
        generator     CPU 2.00 % of a core  memory 11.0 MiB  1 worker

        Ctrl-C drains and ends. In another terminal: simctl scale 500, simctl pause
        ");
    }

    #[test]
    fn devices_that_connect_have_a_bar_and_an_outage_is_named() {
        let report = report(|stats| {
            stats.devices.connected = 31;
            stats.connections.reconnects = 12;
            stats.messages[1].lost = 3;
            stats.messages[1].delivered -= 3;
            stats.messages[1].withheld = 1_234;
            stats.messages[1].offered += 1_234;
        });
        insta::assert_snapshot!(drawn(&report), @r"
        fleet demo  running 65.0 s  broker mqtt://127.0.0.1:1883 (embedded)
        devices       31 of 100 connected  ██████░░░░░░░░░░░░░░

        messages           offered         sent acknowledged    delivered        bytes
        a second             1,300         66.0         66.0         63.0     11.6 KiB
        in all               5,524        4,290        4,290        4,286      754 KiB

        latency         now p50       p99       max      run p50       p99       max
        publish→ack     4.66 ms   4.69 ms   4.69 ms      2.54 ms   4.65 ms   4.69 ms
        end to end      4.96 ms   4.99 ms   4.99 ms      2.84 ms   4.95 ms   4.99 ms
        schedule lag      60 µs     60 µs     60 µs        60 µs     60 µs     60 µs

        delivery      3 lost  0 duplicated  0 reordered  0 late  0 unknown
                      1 in flight  1,234 withheld  12 reconnects
        generator     CPU 2.00 % of a core  memory 11.0 MiB  1 worker
        outage        since 0 s: 0 of 69 devices back
        so far        lost: expected all 4,290 observed QoS 1 and 2 messages to be
                      delivered, found 3 lost (0 of them acknowledged, 0 late)

        Ctrl-C drains and ends. In another terminal: simctl scale 500, simctl pause
        ");
    }

    #[test]
    fn logs_have_one_line() {
        insta::assert_snapshot!(line(&report(|_| ())), @"2023-11-14T22:14:25Z   65.0 s  100 of 100 connected  66.0/s sent  4,290 offered  4,290 sent  4,289 delivered  0 lost  0 reconnects  end to end p99 4.99 ms now 4.95 ms in all  lag p99 60 µs  observer subscribed");
    }

    #[test]
    fn a_bar_is_full_only_at_the_end() {
        assert_eq!(bar(99, 100), "███████████████████░");
        assert_eq!(bar(0, 0), "████████████████████");
    }
}
