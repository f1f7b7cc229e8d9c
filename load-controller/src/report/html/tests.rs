use fleet_contract::{
    fleet::Qos,
    stats::{Messages, Stats, StreamStats},
    units::Span,
};

use super::*;
use crate::{
    fixture::{START, facts, stats_of},
    run::facts::RunFacts,
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

#[test]
fn each_stream_has_the_columns_that_tell_something() {
    let mut stats = stats_of(40);
    let mut event = StreamStats::of(Qos::AtMostOnce);
    event.messages = Messages { offered: 7, sent: 5, withheld: 2, unobserved: 5, ..Messages::default() };
    stats.add_stream("all", "event", &event);
    let page = render(&Report::new(&stats, &facts()), &stats.latency);
    let section = page.split("<h2>Messages by stream</h2>").nth(1).unwrap().split("</table>").next().unwrap();
    let row = |name: &str| {
        let row = section.split("<tr>").find(|row| row.contains(name)).unwrap();
        row.replace("</td>", " ").replace("</th>", " ").replace("<td>", "").replace("<th>", "").replace("</tr>", "")
    };
    let heading = row("offered");
    assert_eq!(heading.trim(), "QoS offered withheld sent acknowledged observed unobserved delivered lost");
    assert_eq!(row("all/event").trim(), "all/event 0 7 2 5 0 0 5 0 0");
    assert_eq!(row("<td>all</td>").trim(), "all – 47 2 45 40 40 5 40 0", "the sum of the group");
    let times = |page: &str| {
        let section = page.split("<h2>Latency by stream</h2>").nth(1).unwrap();
        section.split("</table>").next().unwrap().to_owned()
    };
    assert!(times(&page).contains("<tr><td>all</td><td>end to end</td>"), "{}", times(&page));
    let one = render(&Report::new(&stats_of(40), &facts()), &stats.latency);
    assert!(!times(&one).contains("<td>all</td>"), "a group of one stream is that stream");
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
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)") && page.contains("mqtt://&quot;&amp;"));
    assert!(!page.contains("<script"));
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
