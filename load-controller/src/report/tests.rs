use fleet_contract::{
    fleet::Qos,
    model::Model,
    series::{
        COUNTERS, Counter, DELIVERED, DISTRIBUTIONS, DUPLICATED, IN_FLIGHT, LOST, OBSERVED, OFFERED, SENT, Scope,
        UNKNOWN, UNOBSERVED, WITHHELD,
    },
    stats::{Devices, LostMessage, Messages, StreamStats},
    time::Micros,
    units::Span,
};
use proptest::prelude::*;

use super::*;
use crate::fixture::{START, any_stats, facts, stats_of};

#[test]
fn the_keys_are_those_that_scripts_rely_on() {
    let mut stats = stats_of(5);
    stats.received.granted = 100;
    let value = serde_json::to_value(Report::new(&stats, &facts())).unwrap();
    let keys = |pointer: &str| {
        let object = value.pointer(pointer).unwrap().as_object().unwrap();
        object.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!(keys(""), @"verdict reasons phase elapsed_seconds running_seconds paused_seconds devices messages groups received latency offline_detection reconnects connections outages bytes observer generator lost_messages notes manifest timeline");
    insta::assert_snapshot!(keys("/devices"), @"desired connected missing refused failed leaving");
    insta::assert_snapshot!(keys("/messages"), @"offered withheld withheld_offline sent payload_bytes acknowledged abandoned resent observed unobserved delivered lost lost_acknowledged unknown unrecorded late duplicated reordered in_flight by_qos rejected too_large unwelcome retained_topics");
    insta::assert_snapshot!(keys("/groups/all"), @"offered withheld withheld_offline sent payload_bytes acknowledged abandoned resent observed unobserved delivered lost lost_acknowledged unknown unrecorded late duplicated reordered in_flight latency streams");
    insta::assert_snapshot!(keys("/groups/all/streams/state"), @"qos offered withheld withheld_offline sent payload_bytes acknowledged abandoned resent observed unobserved delivered lost lost_acknowledged unknown unrecorded late duplicated reordered in_flight latency");
    insta::assert_snapshot!(keys("/groups/all/streams/state/latency"), @"publish_ack end_to_end");
    insta::assert_snapshot!(keys("/received"), @"messages by_qos payload_bytes redelivered subscriptions_granted subscriptions_refused subscriptions_unanswered");
    insta::assert_snapshot!(keys("/latency"), @"connect publish_ack end_to_end schedule_lag recovery offline_detection");
    insta::assert_snapshot!(keys("/latency/end_to_end"), @"p50 p90 p99 p999 max count");
    insta::assert_snapshot!(keys("/generator"), @"workers workers_lost shards shards_silent cpu_user_seconds cpu_system_seconds cpu_cores cpu_seconds_per_million memory_bytes memory_bytes_max open_files missed_ticks overdue buffer_full cpu_throttled_share clock_offset_seconds");
    insta::assert_snapshot!(keys("/manifest"), @"fleet document_sha256 seed run started at duration_seconds broker embedded_broker engine version command host open_files_limit observe loss_after_seconds shortest_interval_seconds clock_bound_seconds clocks fail_on");
}

#[test]
fn without_an_observer_nobody_knows_what_arrived() {
    let mut stats = stats_of(5);
    stats.messages[1] = Messages { observed: 0, unobserved: 5, delivered: 0, ..stats.messages[1] };
    let mut facts = facts();
    facts.fleet.spec.observe = Observe::None;
    let report = Report::new(&stats, &facts);
    let all = report.messages.all;
    let seen = [DELIVERED, LOST, DUPLICATED].map(|counter| all.get(&counter));
    assert_eq!((report.verdict, seen), (Verdict::Passed, [None; 3]));
    let value = serde_json::to_value(&report).unwrap();
    assert!(value["messages"]["delivered"].is_null() && value["messages"]["lost"].is_null());
}

#[test]
fn only_a_fleet_that_subscribes_tells_what_it_received() {
    let received = |facts: &RunFacts| Report::new(&stats_of(5), facts).received;
    let mut facts = facts();
    assert_eq!(received(&facts), None);
    let subscriptions = serde_json::from_value(serde_json::json!([{"topic": "commands/{id}"}])).unwrap();
    facts.fleet.spec.groups[0].subscriptions = subscriptions;
    assert_eq!(received(&facts).map(|received| (received.messages, received.subscriptions_granted)), Some((0, 0)));
}

#[test]
fn an_ended_run_shows_the_devices_that_it_had() {
    let mut facts = facts();
    facts.timeline.push(START.after(Span::from_secs(1)), &stats_of(5), Stage::Running);
    let mut left = stats_of(5);
    left.devices = Devices::default();
    let report = Report::new(&left, &facts);
    assert_eq!((report.verdict, report.devices.desired, report.devices.connected), (Verdict::Passed, 100, 100));
}

#[test]
fn a_running_fleet_shows_the_devices_of_now_and_not_those_of_its_last_round_of_readings() {
    let mut facts = RunFacts { stage: Stage::Running, ..facts() };
    facts.timeline.push(START.after(Span::from_secs(1)), &stats_of(5), Stage::Running);
    let mut scaled = stats_of(5);
    scaled.devices = Devices { desired: 50, connected: 50, ..Devices::default() };
    let report = Report::new(&scaled, &facts);
    assert_eq!((report.devices.desired, report.devices.connected), (50, 50));
}

#[test]
fn a_running_fleet_has_no_verdict_but_its_reasons() {
    let mut stats = stats_of(5);
    stats.messages[1].reordered = 1;
    let report = Report::new(&stats, &RunFacts { stage: Stage::Running, ..facts() });
    assert_eq!((report.verdict, report.reasons.len()), (Verdict::Pending, 1));
}

#[test]
fn a_report_names_some_of_the_lost() {
    let mut stats = stats_of(5);
    let lost = |device| LostMessage {
        sent: Micros(START.0 + 250_000),
        device,
        stream: "state".into(),
        seq: 3,
        qos: 1.try_into().unwrap(),
        acknowledged: true,
        phase: None,
    };
    stats.lost = (0..50).map(lost).collect();
    let report = Report::new(&stats, &facts());
    assert_eq!(report.lost_messages.len(), Report::LOST_MAX);
    assert_eq!(report.lost_messages[0].sent, "2026-03-01T12:00:00.250000Z");
}

#[test]
fn other_runs_and_lost_qos_0_are_noted_and_do_not_fail() {
    let mut stats = stats_of(5);
    stats.messages[0] = Messages { offered: 2, sent: 2, observed: 2, lost: 2, ..Messages::default() };
    stats.observer.other_runs = [("00c0ffee".to_owned(), 7)].into();
    let report = Report::new(&stats, &facts());
    assert_eq!(report.verdict, Verdict::Passed);
    insta::assert_snapshot!(report.notes.join("\n"), @r"
    2 messages of QoS 0 were lost, which QoS 0 allows; `simctl run --fail-on lost` makes that a failure
    7 messages of another run (00c0ffee) arrived from the same devices: are two runs using this fleet's name?
    ");
}

#[test]
fn times_that_a_lost_worker_took_along_are_noted_with_their_number() {
    let notes = |change: &dyn Fn(&mut RunFacts)| {
        let mut stats = stats_of(5);
        let mut untimed = StreamStats::of(Qos::AtLeastOnce);
        untimed.messages =
            Messages { offered: 3, sent: 3, acknowledged: 3, observed: 3, delivered: 3, ..Messages::default() };
        stats.add_stream("all", "state", &untimed);
        let mut facts = facts();
        change(&mut facts);
        Report::new(&stats, &facts).notes
    };
    assert!(notes(&|_| {}).is_empty(), "nobody was lost");
    let killed = |facts: &mut RunFacts| facts.workers.lost.count = 1;
    let told = "workers that were lost took the end-to-end times of 3 delivered messages along: percentiles and thresholds are about \
                the other 5";
    assert_eq!(notes(&killed), [told]);
    let going_on = |facts: &mut RunFacts| {
        killed(facts);
        (facts.stage, facts.asked.load_test) = (Stage::Running, Some("rush-hour".into()));
    };
    assert!(notes(&going_on).is_empty(), "the others have not told all of theirs");
    // One that is known by a counter in its body is delivered without a time.
    let counting = |facts: &mut RunFacts| {
        killed(facts);
        let stream = "{topic: '{id}', interval: 1s, payload: {json: {n: '{seq}'}}, stamp: {counter: n}}";
        let model: Model = serde_saphyr::from_str(&format!("{{streams: {{state: {stream}}}}}")).unwrap();
        facts.fleet.spec.models = [("thermometer".to_owned(), model)].into();
    };
    assert!(notes(&counting).is_empty());
}

proptest! {
    #[test]
    fn the_order_of_merging_does_not_show(
        parts in prop::collection::vec(any_stats(), 0..6), seed in any::<prop::sample::Index>()
    ) {
        let merged = |parts: &[Stats]| {
            let mut sum = Stats::default();
            for part in parts {
                sum.merge(part);
            }
            sum
        };
        let mut shuffled = parts.clone();
        if !shuffled.is_empty() {
            let middle = seed.index(shuffled.len());
            shuffled.rotate_left(middle);
            shuffled.reverse();
        }
        prop_assert_eq!(Report::new(&merged(&parts), &facts()), Report::new(&merged(&shuffled), &facts()));
    }

    #[test]
    fn what_was_written_reads_back_as_the_same_report(stats in any_stats()) {
        let report = Report::new(&stats, &facts());
        let from_json: Report = serde_json::from_str(&json::render(&report)).unwrap();
        let from_yaml: Report = serde_saphyr::from_str(&crate::yaml::text(&report).unwrap()).unwrap();
        prop_assert_eq!(&from_json, &report);
        prop_assert_eq!(&from_yaml, &report);
    }

    #[test]
    fn streams_and_groups_add_up_to_the_whole(stats in any_stats()) {
        let report = Report::new(&stats, &facts());
        for counter in COUNTERS {
            let of = |counts: &Counts| counts.get(counter).unwrap();
            let whole = of(&report.messages.all);
            prop_assert_eq!(report.groups.values().map(|group| of(&group.counts)).sum::<u64>(), whole);
            prop_assert_eq!(report.streams().map(|(_, _, stream)| of(&stream.counts)).sum::<u64>(), whole);
        }
        for scope in DISTRIBUTIONS.iter().filter(|row| row.scope == Scope::Stream) {
            let count = report.groups.values().map(|group| group.latency.of(scope).count).sum::<u64>();
            prop_assert_eq!(count, report.latency.of(scope).count);
        }
    }

    #[test]
    fn the_laws_hold_in_the_report(stats in any_stats()) {
        let all = Report::new(&stats, &facts()).messages.all;
        let count = |counter: Counter| all.get(&counter).unwrap();
        prop_assert_eq!(count(OFFERED), count(WITHHELD) + count(SENT));
        prop_assert_eq!(count(SENT), count(OBSERVED) + count(UNOBSERVED));
        prop_assert_eq!(count(OBSERVED), count(DELIVERED) + count(LOST) + count(UNKNOWN) + count(IN_FLIGHT));
    }
}
