//! The report as one page with charts: the file `report.html`.
//!
//! It needs nothing from elsewhere: style and drawings are inside, and there is no script.

mod chart;
mod section;

use fleet_contract::{
    series::{
        ACKNOWLEDGED, CONNECT, Counter, DELIVERED, Distribution, END_TO_END, OFFERED, PUBLISH_ACK, SCHEDULE_LAG, SENT,
    },
    stats::Latencies,
    units::Span,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report,
    format::{File, Format},
};
use crate::{run::stage::Stage, words};
use chart::{Chart, Marks, Scale, Series, Stretch, Ticks};

/// The format of [`render`].
pub(super) struct Html;

impl Format for Html {
    const FILES: &'static [File] = &[File { name: "report.html", content: |of| render(of.report, &of.stats.latency) }];
}

/// The page; the distributions give the chart of percentiles its detail.
pub fn render(report: &Report, latencies: &Latencies) -> String {
    let manifest = &report.manifest;
    let name = manifest.load_test.as_ref().unwrap_or(&manifest.fleet);
    let stage = if report.stage == Stage::Ended { "ended after" } else { "has lasted" };
    let pause = match (report.stage, report.paused_seconds) {
        (_, seconds) if seconds > 0.0 => format!(", paused for {}", words::time(seconds)),
        (Stage::Paused, _) => " (paused)".into(),
        _ => String::new(),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (name) " " (report.verdict) }
                style { (PreEscaped(include_str!("html/style.css"))) }
            }
            body {
                header {
                    h1 { (name) " " span.verdict.(report.verdict) { (report.verdict) } }
                    p {
                        @if manifest.load_test.is_some() { "fleet " (manifest.fleet) ", " }
                        "run " (manifest.run) " " (stage) " " (words::time(report.elapsed_seconds)) (pause)
                        ", broker " (manifest.broker)
                        @if manifest.embedded_broker { " (embedded)" }
                    }
                    p { (manifest.started) " · simctl " (manifest.version) }
                }
                main { (sections(report, latencies)) }
                footer { "simctl " (manifest.version) }
            }
        }
    };
    page.into_string() + "\n"
}

/// All that stands below the heading; what has nothing to say is empty.
fn sections(report: &Report, latencies: &Latencies) -> Markup {
    let sections = [
        section::reasons(report),
        section::thresholds(report),
        section::tiles(report),
        charts(report, latencies),
        section::messages(report),
        section::received(report),
        section::latencies(report),
        section::phases(report),
        section::streams(report),
        section::faults(report),
        section::model_faults(report),
        section::wills(report),
        section::outages(report),
        section::events(report),
        section::connections(report),
        section::lost(report),
        section::generator(report),
        section::notes(report),
        section::manifest(report),
    ];
    html! {
        @for section in sections { (section) }
    }
}

fn charts(report: &Report, latencies: &Latencies) -> Markup {
    html! {
        (messages_chart(report))
        (devices_chart(report))
        (latency_chart(report))
        (distribution_chart(latencies))
    }
}

/// A value of every point, at the middle of the point.
fn over_time(
    report: &Report,
    name: &'static str,
    class: &'static str,
    of: impl Fn(&crate::run::timeline::Point) -> Option<f64>,
) -> Series {
    let points = report.timeline.points.iter().map(|point| (point.at + point.seconds / 2.0, of(point))).collect();
    Series { name, help: None, class, points }
}

/// What all charts over time show beside their lines.
fn marks(report: &Report) -> Marks {
    Marks {
        until: ends(report),
        bands: bands(report),
        phases: phases(report),
        faults: faults(report),
        events: events(report),
    }
}

/// From and until of each outage, in seconds since the start.
fn bands(report: &Report) -> Vec<(f64, f64)> {
    report.outages.list.iter().map(|outage| (outage.at_seconds, outage.at_seconds + outage.seconds)).collect()
}

/// The phases of the run.
fn phases(report: &Report) -> Vec<Stretch> {
    let stretch = |phase: &super::PhaseFigures| Stretch {
        name: phase.name.clone(),
        from: phase.at_seconds,
        until: phase.at_seconds + phase.seconds,
        is_measured: phase.measured,
    };
    report.phases.iter().map(stretch).collect()
}

/// What else happened, each with when and what.
fn events(report: &Report) -> Vec<(f64, String)> {
    let mark = |event: &super::Event| (event.at_seconds, format!("{}: {}", event.what(), event.words()));
    report.events.iter().map(mark).collect()
}

/// When the last of what is drawn over time ends, in seconds since the start: all these charts have one axis.
fn ends(report: &Report) -> f64 {
    report.timeline.points.last().map_or(0.0, |point| point.at + point.seconds)
}

/// What went wrong on purpose.
fn faults(report: &Report) -> Vec<Stretch> {
    let stretch = |fault: &super::FaultFigures| Stretch {
        name: fault.name.clone(),
        from: fault.at_seconds,
        until: fault.at_seconds + fault.seconds,
        is_measured: false,
    };
    report.faults.iter().map(stretch).collect()
}

fn messages_chart(report: &Report) -> Chart {
    let drawn = [(OFFERED, "area"), (SENT, "one"), (ACKNOWLEDGED, "two"), (DELIVERED, "three")];
    let known = drawn.into_iter().filter(|(counter, _)| report.messages.all.get(counter).is_some());
    let line = |(counter, class): (Counter, &'static str)| {
        let series = over_time(report, counter.key, class, |point| Some(point.rate((counter.get)(&point.messages))));
        Series { help: Some(counter.metric.help), ..series }
    };
    let series = known.map(line).collect();
    Chart {
        title: "Messages a second",
        class: "nested",
        x: Ticks::Time,
        y: Ticks::Number,
        scale: Scale::Linear,
        series,
        marks: marks(report),
    }
}

fn devices_chart(report: &Report) -> Chart {
    let series = vec![
        over_time(report, "desired", "area", |point| Some(point.desired.into())),
        over_time(report, "connected", "one", |point| Some(point.connected.into())),
    ];
    Chart {
        title: "Devices",
        class: "",
        x: Ticks::Time,
        y: Ticks::Number,
        scale: Scale::Linear,
        series,
        marks: marks(report),
    }
}

fn latency_chart(report: &Report) -> Chart {
    let is_observed = report.latency.of(&END_TO_END).count > 0;
    let of = move |point: &crate::run::timeline::Point| if is_observed { point.end_to_end } else { point.publish_ack };
    let lag = over_time(report, "schedule lag p99", "four", |point| point.schedule_lag.p99);
    let series = vec![
        over_time(report, "max", "three", move |point| of(point).max),
        over_time(report, "p99", "one", move |point| of(point).p99),
        over_time(report, "p50", "two", move |point| of(point).p50),
        Series { help: Some(SCHEDULE_LAG.metric.help), ..lag },
    ];
    let title =
        if is_observed { "Latency from due to the observer" } else { "Latency from due to the acknowledgement" };
    Chart { title, class: "", x: Ticks::Time, y: Ticks::Time, scale: Scale::Logarithmic, series, marks: marks(report) }
}

/// The share of values beyond on a logarithmic axis: as much room for 99 % to 99.9 % as for 90 % to 99 %.
fn distribution_chart(latencies: &Latencies) -> Chart {
    let line = |(row, class): (Distribution, &'static str)| {
        let latency = (row.get)(latencies);
        let place = |quantile: f64| -(1.0 - quantile).log10();
        let quantiles = super::hgrm::quantiles(latency.count()).into_iter();
        let points = quantiles.map(|it| (place(it), latency.quantile(it).map(Span::as_secs_f64)));
        Series { name: row.title, help: Some(row.metric.help), class, points: points.collect() }
    };
    let drawn = [(CONNECT, "four"), (PUBLISH_ACK, "two"), (END_TO_END, "one"), (SCHEDULE_LAG, "three")];
    let series = drawn.map(line).into();
    Chart {
        title: "Latency by percentile",
        class: "",
        x: Ticks::Nines,
        y: Ticks::Time,
        scale: Scale::Logarithmic,
        series,
        marks: Marks::default(),
    }
}

#[cfg(test)]
mod tests;
