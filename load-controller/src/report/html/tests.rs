use std::collections::BTreeMap;

use fleet_contract::{
    fleet::Qos,
    series::{COUNTERS, DISTRIBUTIONS},
    stats::{LostMessage, Messages, ModelFault, Stats, StreamStats, Wills},
    units::Span,
};
use serde::Deserialize as _;
use serde_json::Value;

use super::*;
use crate::{
    fixture::{START, facts, stats_of},
    run::{facts::RunFacts, phase::Phases, timeline::EventKind},
};

/// A minute with an outage of ten seconds in its middle.
fn eventful() -> (Stats, RunFacts) {
    let (mut stats, mut facts) = (stats_of(0), facts());
    for second in 1..=60_u64 {
        let is_out = (30..40).contains(&second);
        let sent = if is_out { 0 } else { 100 };
        let m = &mut stats.messages[1];
        m.offered += 100;
        m.withheld += 100 - sent;
        m.sent += sent;
        m.acknowledged += sent;
        m.observed += sent;
        m.delivered += sent;
        for message in 0..sent {
            stats.latency.end_to_end.record(Span(900 + message * message + second % 7 * 400));
            stats.latency.publish_ack.record(Span(600 + message * 9));
            stats.latency.schedule_lag.record(Span(60 + message));
        }
        stats.devices.connected = match second {
            30..36 => 0,
            36..40 => 25 * u32::try_from(second - 35).unwrap(),
            1..4 => 33 * u32::try_from(second).unwrap(),
            _ => 100,
        };
        facts.timeline.push(START.after(Span::from_secs(second)), &stats, Stage::Running);
    }
    facts.now = START.after(Span::from_secs(60));
    (stats, facts)
}

/// What people read of a part of a page, with a space in the place of each tag.
fn text_of(html: &str) -> String {
    let text = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_stream_has_the_columns_that_tell_something() {
    let mut stats = stats_of(40);
    let mut event = StreamStats::of(Qos::AtMostOnce);
    event.messages = Messages { offered: 7, sent: 5, withheld: 2, unobserved: 5, ..Messages::default() };
    stats.add_stream("all", "event", &event);
    let page = render(&Report::new(&stats, &facts()), &stats.latency);
    let section = page.split("<h2>Messages by stream</h2>").nth(1).unwrap().split("</table>").next().unwrap();
    let row = |name: &str| text_of(section.split("<tr>").find(|row| row.contains(name)).unwrap());
    let heading = row(">offered<");
    assert_eq!(heading, "QoS offered withheld sent acknowledged observed unobserved delivered lost");
    assert_eq!(row("all/event"), "all/event 0 7 2 5 0 0 5 0 0");
    assert_eq!(row("<td>all</td>"), "all – 47 2 45 40 40 5 40 0", "the sum of the group");
    let times = |page: &str| {
        let section = page.split("<h2>Latency by stream</h2>").nth(1).unwrap();
        section.split("</table>").next().unwrap().to_owned()
    };
    assert!(text_of(&times(&page)).contains("count all publish to ack"), "{}", times(&page));
    let one = render(&Report::new(&stats_of(40), &facts()), &stats.latency);
    assert!(!times(&one).contains("<td>all</td>"), "a group of one stream is that stream");
}

#[test]
fn the_names_of_figures_say_what_they_mean() {
    let (stats, facts) = complete("x");
    let page = render(&Report::new(&stats, &facts), &stats.latency);
    for counter in COUNTERS {
        let row = format!("<td title=\"{}\">{}</td>", counter.metric.help, counter.title());
        assert!(page.contains(&row), "{row}");
    }
    for distribution in DISTRIBUTIONS {
        let row = format!("<td title=\"{}\">{}</td>", distribution.metric.help, distribution.title);
        assert!(page.contains(&row), "{row}");
    }
    let offered = "title=\"Messages that fell due.\">offered<";
    assert!(page.contains(&format!("<th {offered}")), "the heading of a column");
    assert!(page.contains(&format!("<span class=\"key area\" {offered}")), "the legend of a chart");
    assert!(page.contains("<div title=\"Messages that did not arrive in time.\"><b>"));
    assert!(page.contains("<td>x</td>"), "a name that somebody chose is no figure");
}

#[test]
fn the_page_stands_alone() {
    let (stats, facts) = eventful();
    let page = render(&Report::new(&stats, &facts), &stats.latency);
    for outside in ["http:", "https:", "<script", "<link", "<img", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // For whoever wants to look at it.
    if let Some(path) = std::env::var_os("REPORT_HTML") {
        std::fs::write(path, page).unwrap();
    }
}

#[test]
fn outages_are_marked_in_the_charts() {
    let (stats, facts) = eventful();
    let page = render(&Report::new(&stats, &facts), &stats.latency);
    assert_eq!(page.matches("<rect class=\"band\"").count(), 3);
    assert_eq!(page.matches("<svg").count(), 4);
}

#[test]
fn names_cannot_break_out_of_the_page() {
    let mut facts = facts();
    facts.program.command = vec!["<script>alert('x')</script>".into(), "mqtt://\"&".into()];
    let page = render(&Report::new(&stats_of(1), &facts), &stats_of(1).latency);
    assert!(page.contains("&lt;script&gt;alert('x')") && page.contains("mqtt://&quot;&amp;"));
    assert!(!page.contains("<script"));
}

/// The same with something for every section of a page, and `text` as the name of all that is counted by name.
fn complete(text: &str) -> (Stats, RunFacts) {
    let (mut stats, mut facts) = eventful();
    stats.add_stream(text, text, &StreamStats::of(Qos::AtLeastOnce));
    stats.add_stream(text, "state", &StreamStats::of(Qos::AtLeastOnce));
    stats.model_faults.note(text, text, Qos::AtLeastOnce, ModelFault::Stale);
    stats.lost = vec![LostMessage {
        sent: START,
        device: 1,
        stream: text.into(),
        seq: 1,
        qos: Qos::AtLeastOnce,
        acknowledged: false,
        phase: None,
    }];
    let by_name = || BTreeMap::from([(text.to_owned(), 1)]);
    (stats.rejected, stats.received.refused, stats.observer.other_runs) = (by_name(), by_name(), by_name());
    let connections = &mut stats.connections;
    (connections.lost, connections.failed) = (by_name(), by_name());
    (connections.refused, connections.said) = (by_name(), by_name());
    stats.wills = Wills { expected: 1, missing: 1, unexpected: 1, ..Wills::default() };
    stats.sessions.away_micros = 1;
    let phases = "[{name: a, duration: 10s}, {name: b, duration: 50s, faults: [{kind: disconnect, share: 30%}]}]";
    facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
    facts.asked.thresholds = serde_saphyr::from_str("[sent < 9]").unwrap();
    facts.asked.load_test = Some(text.into());
    facts.timeline.note(START, EventKind::Pause, text);
    (stats, facts)
}

/// The report with `text` in the place of each string that may be any.
fn with_every_text(report: &Report, text: &str) -> Report {
    let mut value = serde_json::to_value(report).unwrap();
    let mut places = Vec::new();
    find_strings(&value, "", &mut places);
    for place in places {
        let was = std::mem::replace(value.pointer_mut(&place).unwrap(), text.into());
        if Report::deserialize(&value).is_err() {
            *value.pointer_mut(&place).unwrap() = was;
        }
    }
    Report::deserialize(&value).unwrap()
}

/// The places of all strings (RFC 6901).
fn find_strings(value: &Value, place: &str, places: &mut Vec<String>) {
    match value {
        Value::String(_) => places.push(place.to_owned()),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                find_strings(value, &format!("{place}/{index}"), places);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                find_strings(value, &format!("{place}/{key}"), places);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn no_text_of_a_report_is_markup() {
    const TEXT: &str = "<i>&\"";
    let (stats, facts) = complete(TEXT);
    let page = render(&with_every_text(&Report::new(&stats, &facts), TEXT), &stats.latency);
    let headings: Vec<_> = page.split("<h2>").skip(1).filter_map(|rest| rest.split("</h2>").next()).collect();
    let all = "Thresholds, Messages, Received, Latency, Messages by phase, Latency by phase, Messages by stream, Latency by stream, \
               Faults, Faults of models, Offline detection, Outages, Events, Connections, First lost messages, Generator, Manifest";
    assert_eq!(headings.join(", "), all);
    assert!(page.contains("<ul class=\"reasons\">") && page.contains("<ul class=\"notes\">"));
    assert!(page.contains("<title>&lt;i&gt;&amp;&quot; "), "{page}");
    assert!(!page.contains("<i>") && !page.contains("&\""), "{page}");
}

#[test]
fn what_devices_received_has_a_table_of_its_own() {
    let mut stats = stats_of(1);
    let page = |stats: &Stats| render(&Report::new(stats, &facts()), &stats.latency);
    assert!(!page(&stats).contains("<h2>Received</h2>"));
    stats.received.messages = [0, 5, 0];
    stats.received.refused = [("not_authorized".to_owned(), 2)].into();
    let page = page(&stats);
    assert!(page.contains("<h2>Received</h2>") && page.contains("<td>of these QoS 1</td><td>5</td>"));
    assert!(page.contains("<td>subscriptions refused: not_authorized</td><td>2</td>"));
}

#[test]
fn acknowledgements_that_nobody_waited_for_are_shown() {
    let mut stats = stats_of(1);
    let page = |stats: &Stats| render(&Report::new(stats, &facts()), &stats.latency);
    assert!(!page(&stats).contains("unsolicited"));
    stats.connections.unsolicited = 1_234;
    assert!(page(&stats).contains("<td>unsolicited acknowledgements</td><td>1,234</td>"));
}

#[test]
fn a_page_without_readings_says_so() {
    let stats = Stats::default();
    let page = render(&Report::new(&stats, &facts()), &stats.latency);
    assert_eq!(page.matches("Nothing was measured.").count(), 4);
}
