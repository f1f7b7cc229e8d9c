use fleet_contract::{
    clock::Offset,
    fault,
    fleet::{Observe, Qos},
    stats::{Devices, Messages, ModelFault, Oversize, Received, Unwelcome},
    units::Span,
};

use super::*;
use crate::{
    fixture::{facts, stats_of},
    run::{
        act::{self, Target},
        facts::CutShort,
        phase::Phases,
        timeline::EventKind,
    },
};

/// What the rules make of a good run of 1,000 messages after a change.
#[track_caller]
fn check(change: impl FnOnce(&mut Stats, &mut RunFacts), verdict: Verdict, reasons: &[&str]) {
    let (mut stats, mut facts) = (stats_of(1_000), facts());
    change(&mut stats, &mut facts);
    let (found, because) = judge(&stats, &facts, &[]);
    let because: Vec<String> = because.iter().map(ToString::to_string).collect();
    assert_eq!((found, because), (verdict, reasons.iter().map(ToString::to_string).collect()));
}

/// `lost` of the delivered messages of QoS 1 were lost instead.
fn lose(stats: &mut Stats, lost: u64, acknowledged: u64) {
    let m = &mut stats.messages[1];
    m.delivered -= lost;
    m.lost += lost;
    m.lost_acknowledged += acknowledged;
    m.acknowledged -= lost - acknowledged;
}

#[test]
fn a_good_run_passes() {
    check(|_, _| {}, Verdict::Passed, &[]);
}

#[test]
fn lost_qos_1_fails() {
    check(
        |stats, _| lose(stats, 3, 0),
        Verdict::Failed,
        &[
            "lost: expected all 1,000 observed QoS 1 and 2 messages to be delivered, found 3 lost (0 of them acknowledged, 0 late)",
        ],
    );
}

#[test]
fn an_acknowledged_loss_is_a_fact_even_of_a_late_generator() {
    let late = |stats: &mut Stats, _: &mut RunFacts| {
        lose(stats, 3, 2);
        overdue(stats, 300, 100);
    };
    check(
        late,
        Verdict::Failed,
        &[
            "lost_acknowledged: expected every message that the broker acknowledged to be delivered, found 2 messages that never arrived",
            "schedule_lag: expected 99 % of the messages within 10 % of their interval, at least 5ms and at most 100ms; found 10.0 % later, with a schedule lag p99 of 300 ms",
            "lost: expected all 1,000 observed QoS 1 and 2 messages to be delivered, found 3 lost (2 of them acknowledged, 0 late)",
        ],
    );
}

#[test]
fn a_loss_that_a_late_generator_may_have_caused_proves_nothing() {
    let late = |stats: &mut Stats, _: &mut RunFacts| {
        lose(stats, 2, 2);
        stats.messages[1].late = 2;
        overdue(stats, 300, 100);
    };
    check(
        late,
        Verdict::Invalid,
        &[
            "schedule_lag: expected 99 % of the messages within 10 % of their interval, at least 5ms and at most 100ms; found 10.0 % later, with a schedule lag p99 of 300 ms",
            "lost: expected all 1,000 observed QoS 1 and 2 messages to be delivered, found 2 lost (2 of them acknowledged, 2 late)",
        ],
    );
}

#[test]
fn lost_qos_0_is_only_reported_unless_it_was_to_fail() {
    let lose = |stats: &mut Stats, _: &mut RunFacts| {
        stats.messages[0] = Messages { offered: 9, sent: 9, observed: 9, lost: 9, ..Messages::default() };
    };
    check(lose, Verdict::Passed, &[]);
    check(
        |stats, facts| {
            lose(stats, facts);
            facts.asked.fail_on = vec![FailOn::Lost];
        },
        Verdict::Failed,
        &["lost: expected all 1,009 observed messages to be delivered, found 9 lost (0 of them acknowledged, 0 late)"],
    );
}

#[test]
fn duplicates_count_at_qos_2_only() {
    check(|stats, _| stats.messages[1].duplicated = 5, Verdict::Passed, &[]);
    check(
        |stats, _| stats.messages[2].duplicated = 1,
        Verdict::Failed,
        &["duplicated_qos2: expected each QoS 2 message exactly once, found 1 duplicate"],
    );
}

#[test]
fn disorder_fails() {
    check(
        |stats, _| stats.messages[1].reordered = 2,
        Verdict::Failed,
        &["reordered: expected the messages of each stream in their order, found 2 messages after a later one"],
    );
}

#[test]
fn refused_devices_fail_with_the_brokers_code() {
    let refuse = |stats: &mut Stats, _: &mut RunFacts| {
        stats.devices = Devices { desired: 100, connected: 90, refused: 10, ..Devices::default() };
        stats.connections.refused = [("not_authorized".to_owned(), 30)].into();
    };
    check(
        refuse,
        Verdict::Failed,
        &["devices_refused: expected the broker to accept all 100 devices, found 10 refused (not_authorized 30)"],
    );
}

#[test]
fn refused_subscriptions_fail_with_the_brokers_code() {
    check(
        |stats, _| stats.received.refused = [("not_authorized".to_owned(), 2)].into(),
        Verdict::Failed,
        &[
            "subscriptions_refused: expected the broker to grant the devices all their subscriptions, found 2 refused (not_authorized 2)",
        ],
    );
}

#[test]
fn subscriptions_that_nobody_answered_fail() {
    check(
        |stats, _| stats.received = Received { granted: 3, unanswered: 2, ..Received::default() },
        Verdict::Failed,
        &[
            "subscriptions_unanswered: expected the broker to answer all subscriptions of the devices, found 2 without an answer (3 granted)",
        ],
    );
}

#[test]
fn a_limit_is_named_with_whose_it_is() {
    let above = |packets, largest, limit| Oversize { packets, largest, limit };
    check(
        |stats, _| stats.too_large = [("image".to_owned(), above(10, 4_160, 1_000))].into(),
        Verdict::Failed,
        &[
            "messages_too_large: expected messages of at most 1,000 bytes, which is all that the broker takes, found 10 messages of the stream image (up to 4,160 bytes); none was sent",
        ],
    );
    check(
        |stats, _| stats.received.too_large = above(29, 200_020, 65_536),
        Verdict::Invalid,
        &[
            "packets_too_large: expected packets of at most 65,536 bytes for the devices, found one of 200,020, which ended 29 connections; raise `connect.maxPacket`",
        ],
    );
}

#[test]
fn what_the_broker_closes_upon_and_what_was_changed_fail_by_name() {
    let unwelcome = Unwelcome { connections: 3, largest: 4_131 };
    check(
        |stats, _| stats.unwelcome = [("image".to_owned(), unwelcome)].into(),
        Verdict::Failed,
        &[
            "messages_unwelcome: expected the broker to take each message, found that it ended connections soon after they were made, again and again, most likely because of the largest message: one of the stream image (up to 4,131 bytes) in flight at the end of 3 connections; is it above the broker's limit?",
        ],
    );
    check(
        |stats, _| (stats.observer.compared, stats.observer.changed) = (5, 2),
        Verdict::Failed,
        &[
            "messages_changed: expected messages to arrive with the bodies that were sent, found 2 changed of 5 messages that were compared",
        ],
    );
}

#[test]
fn messages_that_found_no_room_fail_by_whose_limit_it_was() {
    let hold_back = |stats: &mut Stats, withheld: u64| {
        stats.messages[1].offered += withheld;
        stats.messages[1].withheld += withheld;
    };
    check(|stats, _| hold_back(stats, 50), Verdict::Passed, &[]);
    check(
        |stats, _| hold_back(stats, 250),
        Verdict::Failed,
        &[
            "withheld: expected at most 5.00 % of the 1,250 messages due on connected devices to be withheld, found 250: the broker took or acknowledged them too slowly for 32 in flight (`connect.inFlight`) and 32 in the queue (`connect.queue`)",
        ],
    );
    let narrow = |stats: &mut Stats, _: &mut RunFacts| {
        hold_back(stats, 250);
        stats.receive_maximum = Some(1);
    };
    check(
        narrow,
        Verdict::Failed,
        &[
            "withheld: expected at most 5.00 % of the 1,250 messages due on connected devices to be withheld, found 250: the broker lets a device have 1 message in flight (receive maximum), where `connect.inFlight` is 32",
        ],
    );
    let offline = |stats: &mut Stats, _: &mut RunFacts| {
        hold_back(stats, 250);
        stats.messages[1].withheld_offline = 250;
    };
    check(offline, Verdict::Passed, &[]);
}

#[test]
fn the_generators_own_failures_make_a_run_invalid() {
    let fail = |stats: &mut Stats, _: &mut RunFacts| {
        stats.devices = Devices { desired: 100, connected: 90, failed: 10, ..Devices::default() };
        stats.connections.failed = [("no_port".to_owned(), 10)].into();
    };
    check(
        fail,
        Verdict::Invalid,
        &["devices_failed: expected the generator to hold all 100 devices, found 10 that it cannot run (no_port 10)"],
    );
}

#[test]
fn missing_devices_never_pass() {
    let lose = |stats: &mut Stats, _: &mut RunFacts| {
        stats.devices.connected = 40;
        stats.connections.lost = [("reset".to_owned(), 60)].into();
    };
    check(
        lose,
        Verdict::Failed,
        &["devices_missing: expected 100 devices to be connected when the run ended, found 40 (reset 60)"],
    );
    check(
        |stats, _| stats.devices.connected = 40,
        Verdict::Invalid,
        &[
            "ramp_unfinished: expected all 100 devices to have connected when the run ended, found 40; let it run longer or raise the connect rate",
        ],
    );
}

/// So many messages were late by so many milliseconds.
fn overdue(stats: &mut Stats, millis: u64, messages: u64) {
    (0..messages).for_each(|_| stats.latency.schedule_lag.record(Span::from_millis(millis)));
    stats.generator.overdue += messages;
}

#[test]
fn one_message_in_a_hundred_may_be_late_for_its_interval() {
    check(|stats, _| overdue(stats, 6, 10), Verdict::Passed, &[]);
    check(
        |stats, _| overdue(stats, 300, 11),
        Verdict::Invalid,
        &[
            "schedule_lag: expected 99 % of the messages within 10 % of their interval, at least 5ms and at most 100ms; found 1.10 % later, with a schedule lag p99 of 300 ms",
        ],
    );
}

#[test]
fn an_interval_that_held_for_a_moment_is_no_measure_of_the_others() {
    let shortened = |stats: &mut Stats, facts: &mut RunFacts| {
        facts.shortest_interval = Some(Span(1));
        // Late for an interval of 50 ms, but these messages have one of a second.
        (0..1_000).for_each(|_| stats.latency.schedule_lag.record(Span::from_millis(20)));
    };
    check(shortened, Verdict::Passed, &[]);
}

#[test]
fn throttling_counts_beyond_one_period_in_twenty() {
    let throttle = |periods| {
        move |stats: &mut Stats, _: &mut RunFacts| {
            stats.generator.cpu_periods = 100;
            stats.generator.cpu_periods_throttled = periods;
        }
    };
    check(throttle(5), Verdict::Passed, &[]);
    check(
        throttle(6),
        Verdict::Invalid,
        &[
            "cpu_throttled: expected CPU throttling in at most 5.00 % of the scheduling periods, found 6.00 %; raise the CPU limit",
        ],
    );
}

#[test]
fn one_throttled_worker_makes_a_run_invalid_however_many_others_there_are() {
    check(
        |stats, facts| {
            (stats.generator.cpu_periods, stats.generator.cpu_periods_throttled) = (10_000, 60);
            facts.workers.culprits.insert(Rule::CpuThrottled, "the most by lab-7, in 30.0 %".into());
        },
        Verdict::Invalid,
        &[
            "cpu_throttled: expected CPU throttling in at most 5.00 % of the scheduling periods of each worker, found more, and 0.60 % in all; raise the CPU limit; the most by lab-7, in 30.0 %",
        ],
    );
}

#[test]
fn a_clock_that_was_set_or_a_machine_that_slept_makes_time_stamps_worthless() {
    let offset = |micros| move |stats: &mut Stats, _: &mut RunFacts| stats.generator.clock_offset_micros = micros;
    check(offset(-900_000), Verdict::Passed, &[]);
    check(
        offset(120_000_000),
        Verdict::Invalid,
        &[
            "clock_stepped: expected the machine's clock and the devices' to agree within 1s, found it 2m ahead of theirs: \
             the machine slept, or its clock was set; what they wrote into messages is too old by as much",
        ],
    );
    check(
        offset(-3_600_000_000),
        Verdict::Invalid,
        &[
            "clock_stepped: expected the machine's clock and the devices' to agree within 1s, found it 1h behind theirs: \
             the machine slept, or its clock was set; what they wrote into messages is too early by as much",
        ],
    );
}

#[test]
fn who_shares_client_ids_with_somebody_proves_nothing() {
    let disturbed = |taken: u64, foreign: u64, superseded: u32| {
        move |stats: &mut Stats, _: &mut RunFacts| {
            stats.observer.superseded = superseded;
            stats.connections.lost = [("session_taken_over".to_owned(), taken)].into();
            stats.observer.other_runs = (foreign > 0).then(|| ("10682977".to_owned(), foreign)).into_iter().collect();
        }
    };
    let taken =
        "session_taken_over: expected the devices to have their sessions to themselves, found 6 sessions taken over";
    check(disturbed(6, 0, 0), Verdict::Invalid, &[taken]);
    let by_another = format!("{taken} while two processes ran the same devices, until 1 worker left for the newer one");
    check(disturbed(6, 0, 1), Verdict::Invalid, &[&by_another]);
    check(disturbed(0, 17, 0), Verdict::Passed, &[]);
    // What the broker then seems to have lost is not its fault.
    let lossy = |stats: &mut Stats, facts: &mut RunFacts| {
        disturbed(6, 0, 0)(stats, facts);
        lose(stats, 1, 1);
    };
    check(
        lossy,
        Verdict::Invalid,
        &[
            taken,
            "lost_acknowledged: expected every message that the broker acknowledged to be delivered, found 1 message that never arrived",
            "lost: expected all 1,000 observed QoS 1 and 2 messages to be delivered, found 1 lost (1 of them acknowledged, 0 late)",
        ],
    );
    check(
        disturbed(6, 17, 0),
        Verdict::Invalid,
        &[
            "session_taken_over: expected the devices to have their sessions to themselves, found 6 sessions taken over while \
             another run (10682977) sent with their client ids",
        ],
    );
}

#[test]
fn no_data_is_never_a_pass() {
    check(
        |stats, _| stats.messages = Default::default(),
        Verdict::Invalid,
        &["nothing_offered: expected messages to fall due, found none in 30.0 s: nothing was measured"],
    );
    let withhold = |stats: &mut Stats, _: &mut RunFacts| {
        stats.messages[1] = Messages { offered: 8, withheld: 8, withheld_offline: 8, ..Messages::default() };
    };
    check(
        withhold,
        Verdict::Failed,
        &["nothing_sent: expected 8 messages to be sent, found all withheld, 8 because the device was offline"],
    );
    let blind = |stats: &mut Stats, _: &mut RunFacts| {
        stats.messages[1] = Messages { offered: 8, sent: 8, acknowledged: 8, unobserved: 8, ..Messages::default() };
        stats.observer.error = Some("not authorized".into());
    };
    check(
        blind,
        Verdict::Invalid,
        &[
            "nothing_observed: expected 8 messages to be observed, found that the observer never subscribed (not authorized)",
        ],
    );
}

#[test]
fn a_pass_needs_most_of_the_messages() {
    let blink = |stats: &mut Stats, _: &mut RunFacts| {
        let m = &mut stats.messages[1];
        (m.observed, m.unobserved, m.delivered) = (300, 700, 300);
    };
    check(
        blink,
        Verdict::Invalid,
        &["mostly_unobserved: expected all 1,000 messages to be followed to their end, found 300 that were"],
    );
}

#[test]
fn what_a_model_spoils_by_itself_is_not_to_be_followed_and_need_not_happen() {
    let spoilt = |stats: &mut Stats, _: &mut RunFacts| {
        let m = &mut stats.messages[1];
        (m.observed, m.unobserved, m.delivered) = (300, 700, 300);
        for _ in 0..350 {
            stats.model_faults.note("all", "state", Qos::AtLeastOnce, ModelFault::Duplicate);
        }
    };
    check(spoilt, Verdict::Passed, &[]);
}

#[test]
fn without_an_observer_acknowledgements_decide() {
    let none = |missing: u64| {
        move |stats: &mut Stats, facts: &mut RunFacts| {
            facts.fleet.spec.observe = Observe::None;
            let m = &mut stats.messages[1];
            (m.observed, m.unobserved, m.delivered) = (0, 1_000, 0);
            m.acknowledged -= missing;
        }
    };
    check(none(0), Verdict::Passed, &[]);
    check(
        none(4),
        Verdict::Failed,
        &["unacknowledged: expected all 1,000 sent QoS 1 and 2 messages to be acknowledged, found 4 without"],
    );
}

#[test]
fn a_quality_of_service_that_is_never_acknowledged_fails_although_all_arrives() {
    let of = |acknowledged: u64| {
        move |stats: &mut Stats, _: &mut RunFacts| {
            stats.messages[2] = Messages { acknowledged, ..stats.messages[1] };
        }
    };
    check(
        of(0),
        Verdict::Failed,
        &["never_acknowledged: expected messages of QoS 2 to be acknowledged, found none of 1,000 that was"],
    );
    // What a connection took along, and was delivered.
    check(of(1), Verdict::Passed, &[]);
}

#[test]
fn clocks_that_are_too_far_apart_for_phases_make_a_run_invalid_and_name_the_worker() {
    let offset = |ahead, bound| {
        move |_: &mut Stats, facts: &mut RunFacts| {
            let clocks =
                [("lab-0", Offset { ahead: 3, bound: Span(5) }), ("lab-7", Offset { ahead, bound: Span(bound) })];
            facts.workers.see_clocks(clocks);
            facts.workers.see_clocks([("lab-7", Offset { ahead: 1, bound: Span(1) })]);
        }
    };
    check(offset(-900_000, 20_000), Verdict::Passed, &[]);
    check(
        offset(-35_000_000, 2_000),
        Verdict::Invalid,
        &[
            "clocks_apart: expected the workers' clocks within 1s of the controller's, found that of lab-7 35.0 s behind it, give \
             or take 2.00 ms: phases begin by them; synchronize the clocks of their nodes",
        ],
    );
    let short = |stats: &mut Stats, facts: &mut RunFacts| {
        offset(250_000, 1_000)(stats, facts);
        facts.asked.phases = Phases::new(vec!["a:2s".parse().unwrap()]);
    };
    check(
        short,
        Verdict::Invalid,
        &[
            "clocks_apart: expected the workers' clocks within 200ms of the controller's, found that of lab-7 250 ms ahead of it, \
             give or take 1.00 ms: phases begin by them; synchronize the clocks of their nodes",
        ],
    );
}

#[test]
fn what_several_workers_may_have_broken_names_the_worst() {
    let (mut stats, mut facts) = (stats_of(1_000), facts());
    overdue(&mut stats, 300, 100);
    facts.workers.culprits.insert(Rule::ScheduleLag, "most of it by lab-1: 90 of 100".into());
    let (_, reasons) = judge(&stats, &facts, &[]);
    assert!(reasons[0].message.ends_with("p99 of 300 ms; most of it by lab-1: 90 of 100"), "{reasons:?}");
}

#[test]
fn a_lost_worker_says_what_is_unknown() {
    let kill = |stats: &mut Stats, facts: &mut RunFacts| {
        facts.workers.lost.count = 1;
        stats.messages[1].delivered -= 12;
        stats.messages[1].unknown += 12;
    };
    check(
        kill,
        Verdict::Invalid,
        &[
            "worker_lost: expected every worker to live to the end, found 1 that ended unasked; the fate of 12 messages is unknown",
        ],
    );
}

#[test]
fn lost_workers_are_named_but_for_those_that_the_run_has_ended() {
    let kill = |names: &'static [&'static str], asked: Option<&'static str>| {
        let pods = asked.map(|name| Target { name: name.into(), uid: "u".into() });
        move |_: &mut Stats, facts: &mut RunFacts| {
            facts.workers.lost.count = u32::try_from(names.len()).unwrap();
            for name in names {
                let message = format!("{name} ended unasked, with 10 devices connected when it was read last");
                facts.timeline.note(facts.now, EventKind::WorkerLost, message);
            }
            facts.acts.begin(0, pods.iter().cloned().collect());
            facts.acts.has_ended(0, pods.iter().map(|pod| pod.name.clone()).collect());
        }
    };
    let reason = |found: &str| {
        format!(
            "worker_lost: expected every worker to live to the end, found {found}; the fate of 0 messages is unknown"
        )
    };
    check(
        kill(&["lab-7", "lab-1", "lab-7"], Some("lab-7")),
        Verdict::Invalid,
        &[&reason("3 that ended unasked (lab-1, lab-7)")],
    );
    check(kill(&["lab-7", "lab-1"], Some("lab-7")), Verdict::Invalid, &[&reason("2 that ended unasked (lab-1)")]);
    check(
        kill(&["a", "b", "c", "d", "e", "f"], None),
        Verdict::Invalid,
        &[&reason("6 that ended unasked (a, b, c, d, e and others)")],
    );
    // What an act could not end has ended by itself.
    let in_vain = |stats: &mut Stats, facts: &mut RunFacts| {
        kill(&["lab-7", "lab-1"], Some("lab-7"))(stats, facts);
        facts.acts.has_ended(0, Vec::new());
        facts.acts.end(0, act::Outcome::Failed("a pod could not be deleted".into()));
    };
    check(in_vain, Verdict::Invalid, &[&reason("2 that ended unasked (lab-1, lab-7)")]);
}

#[test]
fn an_instrument_that_cannot_count_proves_nothing_at_all() {
    let miscount = |stats: &mut Stats, _: &mut RunFacts| {
        lose(stats, 2, 2);
        stats.messages[1].withheld = 1;
    };
    let (mut stats, mut facts) = (stats_of(1_000), facts());
    miscount(&mut stats, &mut facts);
    let (verdict, reasons) = judge(&stats, &facts, &[]);
    assert_eq!((verdict, reasons[0].name), (Verdict::Invalid, Rule::Conservation));
    check(
        |stats, _| stats.messages[1].delivered -= 5,
        Verdict::Invalid,
        &[
            "unsettled: expected every observed message to be judged when the run ended, found 5 messages still in flight",
        ],
    );
}

#[test]
fn an_aborted_run_is_aborted() {
    let abort = |stats: &mut Stats, facts: &mut RunFacts| {
        facts.cut_short = CutShort::Aborted;
        stats.messages[1].delivered -= 5;
    };
    check(
        abort,
        Verdict::Aborted,
        &["aborted: expected the run to drain to its end, found that it was cut short with 5 messages in flight"],
    );
}

#[test]
fn scripts_see_the_documented_numbers() {
    let codes = [Verdict::Passed, Verdict::Failed, Verdict::Invalid, Verdict::Aborted].map(|v| v.exit_code().code());
    assert_eq!(codes, [0, 99, 96, 105]);
    assert_eq!([ExitCode::Document, ExitCode::Usage, ExitCode::Other].map(ExitCode::code), [104, 2, 1]);
}

#[test]
fn a_fault_that_did_nothing_proves_nothing() {
    let asked = |facts: &mut RunFacts| {
        let phases = "[{name: calm, duration: 20s}, {name: dark, duration: 10s, faults: [{kind: blackhole, name: tunnel, share: 30%}, \
                      {kind: storm, group: vans, share: 1%}]}]";
        facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
    };
    check(
        |stats, facts| {
            asked(facts);
            stats.faults.of(fault::number(1, 0)).devices = 7;
        },
        Verdict::Invalid,
        &[
            "fault_without_effect: expected the fault tunnel of phase dark to do something, found 7 devices hit and nothing done to them; there was no session, nothing fell due, or nothing changed (a broker that takes any password, payloads without the time), and 1 fault more without an effect",
        ],
    );
    check(
        |stats, facts| {
            asked(facts);
            stats.faults.of(fault::number(1, 0)).effects = 1;
        },
        Verdict::Invalid,
        &[
            "fault_without_effect: expected the fault storm of phase dark to do something, found no device hit (1% of those of group vans that there were); let it hit more",
        ],
    );
    check(
        |stats, facts| {
            asked(facts);
            (0..2).for_each(|position| stats.faults.of(fault::number(1, position)).effects = 1);
        },
        Verdict::Passed,
        &[],
    );
    check(
        |_, facts| {
            asked(facts);
            // It was skipped before the phase with the faults began.
            facts.now = facts.started.after(Span::from_secs(20));
        },
        Verdict::Passed,
        &[],
    );
}
