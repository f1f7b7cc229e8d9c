use fleet_contract::{
    fault,
    fleet::Qos,
    stats::{Messages, Received, Stats, StreamStats, Wills},
    units::Span,
};

use super::*;
use crate::{
    fixture::{facts, stats_of},
    run::phase::Phases,
};

const PLAIN: Style = Style { width: Width::Table, paint: Palette::Plain };

#[test]
fn a_passed_run_reads_at_a_glance() {
    insta::assert_snapshot!(render(&Report::new(&stats_of(3_000), &facts()), PLAIN), @r"
    fleet demo, run 7f3a21c0, ended after 30.0 s
    broker mqtt://127.0.0.1:1883 (embedded)

    devices        100 of 100 connected
    connections    100 sessions, 0 reconnects

    messages          total  a second     QoS 1
    offered           3,000       100     3,000
    withheld              0         0         0
    sent              3,000       100     3,000
    acknowledged      3,000       100     3,000
    observed          3,000       100     3,000
    unobserved            0         0         0
    delivered         3,000       100     3,000
    lost                  0         0         0
    unknown               0         0         0
    late                  0         0         0
    duplicated            0         0         0
    reordered             0         0         0
    in flight             0         0         0

    latency              p50       p90       p99     p99.9       max     count
    connect          2.30 ms   2.30 ms   2.30 ms   2.30 ms   2.30 ms         1
    publish to ack    974 µs   1.30 ms   1.39 ms   1.40 ms   1.40 ms     3,000
    end to end       1.40 ms   1.85 ms   1.98 ms   2.00 ms   2.00 ms     3,000
    schedule lag      124 µs    160 µs    169 µs    169 µs    169 µs     3,000
    recovery               -         -         -         -         -         0

    generator      CPU 1.20 s (4.00 % of a core), memory 34.2 MiB, 0 missed ticks
    bytes          sent 674 KiB, received 0 B, observed 0 B

    verdict        passed
    ");
}

#[test]
fn several_streams_are_shown_one_by_one() {
    let mut stats = stats_of(3_000);
    let mut event = StreamStats::of(Qos::ExactlyOnce);
    event.messages = Messages { offered: 9, sent: 9, observed: 9, delivered: 7, lost: 2, ..Messages::default() };
    event.latency.end_to_end.record(Span(40_000));
    stats.add_stream("robotaxis", "event", &event);
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("stream")).take(4).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    stream               sent  delivered      lost       p50       p99       max
    all/state           3,000      3,000         0   1.40 ms   1.98 ms   2.00 ms
    robotaxis/event         9          7         2   40.0 ms   40.0 ms   40.0 ms
    p50, p99 and max: end to end
    ");
    let many = |width| {
        let mut stats = stats_of(1);
        (0..20).for_each(|number| stats.add_stream("all", &format!("s{number:02}"), &event));
        render(&Report::new(&stats, &facts()), Style { width, paint: Palette::Plain })
    };
    assert!(many(Width::Table).contains("and 9 streams more: -o wide"), "{}", many(Width::Table));
    assert!(many(Width::Wide).contains("all/state"));
}

#[test]
fn a_group_of_several_streams_has_their_sum_before_them() {
    let mut stats = stats_of(3_000);
    let mut event = StreamStats::of(Qos::ExactlyOnce);
    event.messages = Messages { offered: 9, sent: 9, observed: 9, delivered: 7, lost: 2, ..Messages::default() };
    event.latency.end_to_end.record(Span(1_000));
    stats.add_stream("all", "event", &event);
    stats.add_stream("robotaxis", "event", &event);
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("stream")).take(5).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    stream               sent  delivered      lost       p50       p99       max
    all                 3,009      3,007         2   1.40 ms   1.98 ms   2.00 ms
    all/event               9          7         2   1.00 ms   1.00 ms   1.00 ms
    all/state           3,000      3,000         0   1.40 ms   1.98 ms   2.00 ms
    robotaxis/event         9          7         2   1.00 ms   1.00 ms   1.00 ms
    ");
    // Of fourteen streams the two of the second group are left out, and with them their sum.
    let mut stats = stats_of(0);
    stats.groups = fleet_contract::stats::Groups::default();
    (0..12).for_each(|number| stats.add_stream("a", &format!("s{number:02}"), &event));
    (0..2).for_each(|number| stats.add_stream("b", &format!("s{number:02}"), &event));
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    let is_sum = |group: &str| text.lines().any(|line| line.split_whitespace().next() == Some(group));
    assert!(is_sum("a") && !is_sum("b") && text.contains("and 2 streams more"), "{text}");
}

#[test]
fn losses_stand_in_the_first_lines() {
    let mut stats = stats_of(1_000);
    stats.messages[0] =
        Messages { offered: 500, sent: 500, observed: 500, delivered: 95, lost: 405, ..Default::default() };
    let report = Report::new(&stats, &facts());
    assert_eq!(report.verdict, Verdict::Passed);
    let text = render(&report, PLAIN);
    assert_eq!(text.lines().nth(2), Some("lost 405 of 1,500 messages (27.0 %), 405 of QoS 0"));
    let note = "note           405 messages of QoS 0 were lost, which QoS 0 allows; `simctl run --fail-on lost` makes that a failure";
    assert!(text.contains(note), "{text}");
}

#[test]
fn what_a_broker_rejects_is_counted_by_its_reason() {
    let mut stats = stats_of(3_000);
    stats.rejected = [("quota_exceeded".to_owned(), 1_200), ("not_authorized".to_owned(), 3)].into();
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    let row = text.lines().find(|line| line.starts_with("rejected"));
    assert_eq!(row, Some("rejected       quota_exceeded 1,200, not_authorized 3"));
}

#[test]
fn acknowledgements_that_nobody_waited_for_are_shown() {
    let mut stats = stats_of(3_000);
    stats.connections.unsolicited = 1_234;
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    assert!(text.contains("reconnects\n               unsolicited acknowledgements: 1,234\n"), "{text}");
}

#[test]
fn a_fleet_that_subscribes_shows_what_it_received() {
    let mut stats = stats_of(3_000);
    let lines = |stats: &Stats| {
        let text = render(&Report::new(stats, &facts()), PLAIN);
        let is_shown = |line: &&str| line.starts_with("received") || line.starts_with("subscriptions");
        text.lines().filter(is_shown).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(lines(&stats), "");
    stats.received = Received { messages: [3, 0, 1_200], payload_bytes: 56_320, granted: 40, ..Received::default() };
    insta::assert_snapshot!(lines(&stats), @r"
    received       1,203 messages (55.0 KiB)
    subscriptions  40 granted
    ");
    stats.received.redelivered = 7;
    stats.received.refused = [("not_authorized".to_owned(), 20), ("quota_exceeded".to_owned(), 1)].into();
    insta::assert_snapshot!(lines(&stats), @r"
    received       1,203 messages (55.0 KiB), 7 again
    subscriptions  40 granted, refused: not_authorized 20, quota_exceeded 1
    ");
}

#[test]
fn a_wide_table_has_the_manifest() {
    let wide = Style { width: Width::Wide, paint: Palette::Plain };
    let all = render(&Report::new(&stats_of(3_000), &facts()), wide);
    let (_, manifest) = all.split_once("generator").unwrap();
    insta::assert_snapshot!(manifest, @r"
          CPU 1.20 s (4.00 % of a core), memory 34.2 MiB, 0 missed ticks
    bytes          sent 674 KiB, received 0 B, observed 0 B
                   400 CPU-s a million messages, throttled 0 %
                   1 worker, 2 threads, 119 open files, 0 full buffers

    version        0.1.0, engine own
    command        simctl run
    document       sha256 9f86d081884c7d65, seed 7
    observe        all
    started        2026-03-01T12:00:00.000000Z
    machine        linux x86_64, kernel 6.8.0, 2 processors, 8.00 GiB
    file limit     1,048,576

    verdict        passed
    ");
}

#[test]
fn colours_are_only_added() {
    let report = Report::new(&stats_of(10), &facts());
    let coloured = render(&report, Style { paint: Palette::Coloured, ..PLAIN });
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert!(coloured.contains("\x1b[32mpassed\x1b[0m"), "{coloured}");
    assert_eq!(plain, render(&report, PLAIN));
}

#[test]
fn a_million_devices_still_fit_into_80_columns() {
    let mut stats = stats_of(10);
    stats.messages =
        [fleet_contract::stats::Messages { offered: 987_654_321, sent: 987_654_321, ..stats.messages[1] }; 3];
    let text = render(&Report::new(&stats, &facts()), PLAIN);
    let (table, _) = text.split_once("verdict").unwrap();
    let longest = table.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(longest.chars().count() <= 80, "{longest}");
}

#[test]
fn each_fault_has_a_line() {
    let (mut stats, mut facts) = (stats_of(3_000), facts());
    let phases = "[{name: a, duration: 10s}, {name: b, duration: 20s, faults: [{kind: disconnect, share: 30%}, {kind: blackhole, name: \
                  tunnel, after: 5s, lasts: 5s}]}]";
    facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
    facts.asked.thresholds = serde_saphyr::from_str("['end_to_end.p99 < 1s']").unwrap();
    let cut = stats.faults.of(fault::number(1, 0));
    (cut.devices, cut.effects) = (30, 30);
    let begins = facts.started.after(Span::from_secs(10));
    (0..30).for_each(|_| cut.sessions.lost(begins));
    (0..15).for_each(|device| cut.sessions.back(begins.after(Span::from_millis(100 * device))));
    cut.wills = Wills { expected: 30, seen: 28, missing: 2, retained_right: 28, ..Wills::default() };
    (1..=28).for_each(|millis| cut.offline_detection.record(Span::from_millis(millis)));
    stats.wills = Wills { unexpected: 1, retained_wrong: 1, ..cut.wills };
    stats.latency.offline_detection = cut.offline_detection.clone();
    facts.timeline.push(facts.started.after(Span::from_secs(12)), &stats, Stage::Running);
    facts.timeline.push(facts.started.after(Span::from_secs(30)), &stats, Stage::Running);
    let report = Report::new(&stats, &facts);
    let text = render(&report, PLAIN);
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("fault")).take(4).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    fault            at   lasts     hit  effects    50 %     95 %      all     p99
    disconnect   10.0 s       -      30       30  1.40 s  not yet  not yet     0 s
    tunnel       15.0 s  5.00 s       0        0       -        -        -     0 s
    50 %, 95 % and all: sessions back; p99: latency back; since the fault let go
    ");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("wills")).collect();
    assert_eq!(lines.len(), 2, "of the run and by fault: {text}");
    let lines = text.lines().skip_while(|line| !line.starts_with("wills")).take(3);
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!(words.collect::<Vec<_>>().join("\n"), @r"
    wills expected seen missing p50 p99 max
    whole run 30 28 2 14.0 ms 28.0 ms 28.0 ms
    1 unexpected, 28 retained right, 1 retained wrong
    ");
    for written in [crate::report::markdown::render(&report), crate::report::csv::faults(&report)] {
        assert!(written.contains("tunnel") && written.contains("disconnect"), "{written}");
        assert!(written.contains("missing"), "{written}");
    }
    let page = crate::report::html::render(&report, &stats.latency);
    assert!(page.contains("<h2>Offline detection</h2>"), "{page}");
    assert!(page.contains("<h2>Faults</h2>") && page.contains("class=\"fault\"") && page.contains("tunnel"));
}

#[test]
fn a_line_of_a_fault_of_which_nobody_is_back_fits_into_80_columns() {
    let mut facts = facts();
    let phases = "[{name: a, duration: 10s}, {name: b, duration: 20s, faults: [{kind: credentials, share: 30%}]}]";
    facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
    let report = Report::new(&stats_of(3_000), &facts);
    let mut figures = report.faults[0].clone();
    (figures.at_seconds, figures.seconds, figures.devices, figures.effects) = (86.4, 12.3, 99_999, 999_999);
    (figures.sessions_lost, figures.latency_bound_seconds) = (99_999, Some(1.0));
    let text = render(&Report { faults: vec![figures], ..report }, PLAIN);
    let line = text.lines().find(|line| line.starts_with("credentials")).unwrap();
    assert!(line.chars().count() <= 80 && line.matches("not yet").count() == 4, "{line}");
}

#[test]
fn faults_of_models_have_a_line_a_stream() {
    use fleet_contract::{fleet::Qos, stats::ModelFault};
    let mut stats = stats_of(3_000);
    let count = |stats: &mut fleet_contract::stats::Stats, stream: &str, what: ModelFault, count: usize| {
        (0..count).for_each(|_| stats.model_faults.note("all", stream, Qos::AtLeastOnce, what));
    };
    count(&mut stats, "state", ModelFault::Corrupt, 1_200);
    count(&mut stats, "state", ModelFault::Duplicate, 7);
    count(&mut stats, "event", ModelFault::Silent, 40);
    let report = Report::new(&stats, &facts());
    let text = render(&report, PLAIN);
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("model faults")).take(3).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    model faults    corrupt     twice     stale    silent     stuck     flood
    all/event             0         0         0        40         0         0
    all/state         1,200         7         0         0         0         0
    ");
    assert!(crate::report::markdown::render(&report).contains("| all/state | 1,200 | 7 |"));
    assert!(crate::report::html::render(&report, &stats.latency).contains("<h2>Faults of models</h2>"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["model_faults"][1]["corrupt"], &json["model_faults"][0]["silent"]), (&1_200.into(), &40.into()));
    assert!(!render(&Report::new(&stats_of(3_000), &facts()), PLAIN).contains("model faults"));
}
