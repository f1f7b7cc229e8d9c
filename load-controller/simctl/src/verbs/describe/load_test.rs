//! A load test, its phases and thresholds, and what has become of it, as text.

use std::fmt::Write as _;

use fleet_contract::{
    fault::Fault,
    load_test::{Criterion, LoadTestSpec, Phase, curve::Curve},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use load_controller::{
    resource::{LoadTest, LoadTestStatus},
    run::threshold,
    words,
};

use super::{condition_rows, event_rows, row, write_section};
use crate::{
    cluster::{load_tests::state, table::age},
    printer::{Palette, Tone},
};

/// A load test with its events.
pub(super) fn text(test: &LoadTest, events: &[Event], now: Timestamp, palette: Palette) -> String {
    let status = test.status.clone().unwrap_or_default();
    let mut text = String::new();
    for (name, fact) in facts(test, &status, now) {
        let _ = writeln!(text, "{} {fact}", palette.paint(Tone::Faint, format_args!("{name:<14}")));
    }
    if let Some(spec) = test.spec.typed() {
        write_section(&mut text, palette, "phases", &phases(spec));
        write_section(&mut text, palette, "thresholds", &thresholds(spec));
    }
    write_section(&mut text, palette, "conditions", &condition_rows(&status.conditions, now));
    write_section(&mut text, palette, "events", &event_rows(events, now));
    if !status.reasons.is_empty() {
        let _ = write!(text, "\n{}\n", palette.paint(Tone::Warning, "why it did not pass, or would not"));
        status.reasons.iter().for_each(|reason| text.push_str(&format!("  {reason}\n")));
    }
    text
}

fn facts(test: &LoadTest, status: &LoadTestStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let (word, why) = state(status);
    let mut facts = vec![
        ("name", test.name_any()),
        ("namespace", test.namespace().unwrap_or_default()),
        ("fleet", test.fleet().unwrap_or("-").to_owned()),
        ("age", age(test.metadata.creation_timestamp.as_ref(), now)),
        ("state", format!("{word}: {}", why.lines().next().unwrap_or_default())),
    ];
    facts.extend(status.phase.clone().map(|phase| ("phase", phase)));
    facts.extend(status.start.clone().map(|start| ("started", start)));
    facts.extend(status.end.clone().map(|end| ("ended", end)));
    facts.extend(status.revision.map(|revision| ("revision", revision.to_string())));
    if let Some(counts) = &status.messages {
        let [offered, sent, delivered, lost] =
            [counts.offered, counts.sent, counts.delivered, counts.lost].map(words::count);
        facts.push(("messages", format!("{offered} offered, {sent} sent, {delivered} delivered, {lost} lost")));
    }
    if let Some(judged) = &status.thresholds {
        let [passed, failed, pending] = [judged.passed, judged.failed, judged.pending].map(|n| words::count(n.into()));
        facts.push(("thresholds", format!("{passed} met, {failed} not met, {pending} to be judged")));
    }
    if !status.reports.is_empty() {
        let (name, namespace) = (test.name_any(), test.namespace().unwrap_or_default());
        facts.push(("report", format!("`simctl report loadtest/{name} -n {namespace}`")));
    }
    facts
}

fn phases(spec: &LoadTestSpec) -> Vec<Vec<String>> {
    let mut rows = vec![row(["NAME", "LASTS", "DEVICES", "RATE", "FAULTS", "MEASURED"])];
    rows.extend(spec.phases.iter().map(|phase: &Phase| {
        let devices = phase.devices.as_ref().map_or_else(
            || "-".into(),
            |curve| match curve {
                Curve::Hold(devices) => devices.to_string(),
                Curve::Course(_) => format!("up to {}", curve.most(0.0, phase.duration)),
            },
        );
        let rates = phase.rate.as_ref().map_or(0, |rates| rates.all().len());
        row([
            &phase.name,
            &phase.duration.to_string(),
            &devices,
            &if rates == 0 { "-".into() } else { words::counted(rates as u64, "change", "changes") },
            &if phase.faults.is_empty() { "-".into() } else { names_of(&phase.faults) },
            if phase.measure { "yes" } else { "no" },
        ])
    }));
    rows
}

fn names_of(faults: &[Fault]) -> String {
    faults.iter().map(Fault::name).collect::<Vec<_>>().join(", ")
}

fn thresholds(spec: &LoadTestSpec) -> Vec<Vec<String>> {
    let mut rows = vec![row(["EXPECTED", "WHERE", "ENDS THE TEST"])];
    rows.extend(spec.thresholds.iter().map(|criterion| {
        let Criterion { expect, phase, fault, group, stream, qos, abort_on_fail } = criterion;
        let place = threshold::place([phase, fault, group, stream].map(Option::as_deref), *qos);
        let ends = abort_on_fail.map_or_else(|| "no".into(), |abort| format!("after {}", abort.after));
        row([&expect.to_string(), place.trim(), &ends])
    }));
    rows
}
