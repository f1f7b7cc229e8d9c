//! The default rules, one function each: `None` when it is kept, else the reason.

use std::collections::{BTreeMap, BTreeSet};

use fleet_contract::{
    fleet::{Connect, Observe},
    lag,
    stats::{Devices, Messages, ObserverStats, Oversize, Received, Stats, Unwelcome},
    units::Span,
};

use super::{FailOn, Reason, Rule};
use crate::{
    run::{
        conservation::conservation,
        facts::{CutShort, RunFacts},
        fault,
        stage::Stage,
        timeline::EventKind,
        workers::ENDED_UNASKED,
    },
    words,
};

/// A run is invalid when more of its messages than this share were handed over later than [`lag::limit`] allows.
const OVERDUE_SHARE_MAX: f64 = 0.01;

/// More scheduling periods with throttling than this share make a run invalid.
pub const THROTTLED_SHARE_MAX: f64 = 0.05;

/// A wall clock that is farther than this from the devices' makes their time stamps worthless.
const CLOCK_OFFSET_MAX: Span = Span::from_secs(1);

/// Of messages that are all meant to be observed, more unobserved or unknown ones than this share prove nothing.
const UNOBSERVED_SHARE_MAX: f64 = 0.5;

/// Of the messages that fell due while their devices were connected, a larger share that was not sent is not the load
/// that was asked for.
const WITHHELD_SHARE_MAX: f64 = 0.05;

/// How many workers a reason names.
const NAMED_MAX: usize = 5;

/// What the rules look at.
struct Case<'a> {
    stats: &'a Stats,
    facts: &'a RunFacts,
    /// As they were when the drain began: a fleet that has left is not a fleet that is missing.
    devices: Devices,
    all: Messages,
    /// QoS 1 and 2 together: those that the broker promises something about.
    promised: Messages,
}

impl Case<'_> {
    fn has_ended(&self) -> bool {
        self.facts.stage == Stage::Ended
    }

    /// Ended and settled: what is missing now stays missing.
    fn is_complete(&self) -> bool {
        self.has_ended() && self.facts.cut_short != CutShort::Aborted
    }
}

/// The reasons of all broken rules.
pub(super) fn broken(stats: &Stats, facts: &RunFacts) -> Vec<Reason> {
    let mut promised = stats.messages[1];
    promised.merge(&stats.messages[2]);
    let case = Case { stats, facts, devices: facts.devices(stats), all: stats.all_messages(), promised };
    [
        aborted,
        counts,
        unsettled,
        lost_acknowledged,
        lost,
        duplicated_qos_2,
        reordered,
        devices_refused,
        subscriptions_refused,
        subscriptions_unanswered,
        messages_too_large,
        messages_unwelcome,
        messages_changed,
        packets_too_large,
        withheld,
        devices_missing,
        unacknowledged,
        never_acknowledged,
        nothing_sent,
        schedule_lag,
        cpu_throttled,
        clock_stepped,
        clocks_apart,
        session_taken_over,
        fault_without_effect,
        devices_failed,
        ramp_unfinished,
        nothing_offered,
        nothing_observed,
        mostly_unobserved,
        worker_lost,
    ]
    .into_iter()
    .filter_map(|rule| rule(&case))
    .map(|reason| match facts.workers.culprits.get(&reason.name) {
        Some(culprit) => Reason { message: format!("{}; {culprit}", reason.message), ..reason },
        None => reason,
    })
    .collect()
}

fn aborted(case: &Case<'_>) -> Option<Reason> {
    (case.facts.cut_short == CutShort::Aborted).then(|| {
        let found = format!("found that it was cut short with {} in flight", words::messages(case.all.in_flight()));
        Reason::new(Rule::Aborted, format!("expected the run to drain to its end, {found}"))
    })
}

fn counts(case: &Case<'_>) -> Option<Reason> {
    let violations = conservation(case.stats);
    let first = violations.first()?;
    let more = match violations.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Some(Reason::new(Rule::Conservation, format!("expected counters that add up, found {first}{more}")))
}

fn unsettled(case: &Case<'_>) -> Option<Reason> {
    let in_flight = case.all.in_flight();
    (case.is_complete() && in_flight > 0).then(|| {
        let found = format!("found {} still in flight", words::messages(in_flight));
        Reason::new(
            Rule::Unsettled,
            format!("expected every observed message to be judged when the run ended, {found}"),
        )
    })
}

fn lost_acknowledged(case: &Case<'_>) -> Option<Reason> {
    // A late arrival may be the generator's fault, one that never came is not.
    let Messages { lost_acknowledged, late, .. } = case.promised;
    let never = lost_acknowledged.saturating_sub(late);
    (never > 0).then(|| {
        let found = format!("found {} that never arrived", words::messages(never));
        Reason::new(
            Rule::LostAcknowledged,
            format!("expected every message that the broker acknowledged to be delivered, {found}"),
        )
    })
}

fn lost(case: &Case<'_>) -> Option<Reason> {
    let is_asked_for = case.facts.asked.fail_on.contains(&FailOn::Lost);
    let (judged, which) = if is_asked_for { (case.all, "messages") } else { (case.promised, "QoS 1 and 2 messages") };
    let Messages { lost, lost_acknowledged, late, observed, .. } = judged;
    (lost > 0).then(|| {
        let (lost, observed, acknowledged) =
            (words::count(lost), words::count(observed), words::count(lost_acknowledged));
        Reason::new(
            Rule::Lost,
            format!(
                "expected all {observed} observed {which} to be delivered, \
                 found {lost} lost ({acknowledged} of them acknowledged, {} late)",
                words::count(late)
            ),
        )
    })
}

fn duplicated_qos_2(case: &Case<'_>) -> Option<Reason> {
    let duplicated = case.stats.messages[2].duplicated;
    (duplicated > 0).then(|| {
        let found = format!("found {}", words::counted(duplicated, "duplicate", "duplicates"));
        Reason::new(Rule::DuplicatedQos2, format!("expected each QoS 2 message exactly once, {found}"))
    })
}

fn reordered(case: &Case<'_>) -> Option<Reason> {
    let reordered = case.all.reordered;
    (reordered > 0).then(|| {
        let found = format!("found {} after a later one", words::messages(reordered));
        Reason::new(Rule::Reordered, format!("expected the messages of each stream in their order, {found}"))
    })
}

fn devices_refused(case: &Case<'_>) -> Option<Reason> {
    let Devices { desired, refused, .. } = case.devices;
    (refused > 0).then(|| {
        let causes = causes(&case.stats.connections.refused);
        let found = format!("found {} refused{causes}", words::count(refused.into()));
        Reason::new(
            Rule::DevicesRefused,
            format!("expected the broker to accept all {}, {found}", words::devices(desired)),
        )
    })
}

fn subscriptions_refused(case: &Case<'_>) -> Option<Reason> {
    let refused = &case.stats.received.refused;
    (!refused.is_empty()).then(|| {
        let found = format!("found {} refused{}", words::count(refused.values().sum()), causes(refused));
        Reason::new(
            Rule::SubscriptionsRefused,
            format!("expected the broker to grant the devices all their subscriptions, {found}"),
        )
    })
}

fn subscriptions_unanswered(case: &Case<'_>) -> Option<Reason> {
    let Received { granted, unanswered, .. } = case.stats.received;
    (unanswered > 0).then(|| {
        let found = format!("found {} without an answer ({} granted)", words::count(unanswered), words::count(granted));
        Reason::new(
            Rule::SubscriptionsUnanswered,
            format!("expected the broker to answer all subscriptions of the devices, {found}"),
        )
    })
}

fn messages_too_large(case: &Case<'_>) -> Option<Reason> {
    let limit = case.stats.too_large.values().map(|above| above.limit).min()?;
    let streams: Vec<_> = case.stats.too_large.iter().map(|(stream, above)| of_stream(stream, above)).collect();
    Some(Reason::new(
        Rule::MessagesTooLarge,
        format!(
            "expected messages of at most {} bytes, which is all that the broker takes, found {}; none was sent",
            words::count(limit),
            streams.join(", ")
        ),
    ))
}

/// `10 messages of the stream image (up to 4,160 bytes)`.
fn of_stream(stream: &str, above: &Oversize) -> String {
    let Oversize { packets, largest, .. } = *above;
    format!("{} of the stream {stream} (up to {} bytes)", words::messages(packets), words::count(largest))
}

fn messages_unwelcome(case: &Case<'_>) -> Option<Reason> {
    let of_stream = |(stream, found): (&String, &Unwelcome)| {
        let times = words::counted(found.connections, "connection", "connections");
        format!(
            "one of the stream {stream} (up to {} bytes) in flight at the end of {times}",
            words::count(found.largest)
        )
    };
    let streams: Vec<_> = case.stats.unwelcome.iter().map(of_stream).collect();
    (!streams.is_empty()).then(|| {
        Reason::new(
            Rule::MessagesUnwelcome,
            format!(
                "expected the broker to take each message, found that it ended connections soon after they were made, \
                 again and again, most likely because of the largest message: {}; is it above the broker's limit?",
                streams.join(", ")
            ),
        )
    })
}

fn messages_changed(case: &Case<'_>) -> Option<Reason> {
    let ObserverStats { compared, changed, .. } = case.stats.observer;
    (changed > 0).then(|| {
        let (changed, compared) = (words::count(changed), words::messages(compared));
        Reason::new(
            Rule::MessagesChanged,
            format!(
                "expected messages to arrive with the bodies that were sent, found {changed} changed of {compared} \
                     that were compared"
            ),
        )
    })
}

fn packets_too_large(case: &Case<'_>) -> Option<Reason> {
    let Oversize { packets, largest, limit } = case.stats.received.too_large;
    (packets > 0).then(|| {
        let (found, times) = (words::count(largest), words::counted(packets, "connection", "connections"));
        Reason::new(
            Rule::PacketsTooLarge,
            format!(
                "expected packets of at most {} bytes for the devices, found one of {found}, which ended {times}; raise \
                 `connect.maxPacket`",
                words::count(limit)
            ),
        )
    })
}

/// Messages for which there was no room in flight, in the queue or in the socket.
fn withheld(case: &Case<'_>) -> Option<Reason> {
    let Messages { offered, withheld, withheld_offline, sent, .. } = case.all;
    let too_large: u64 = case.stats.too_large.values().map(|above| above.packets).sum();
    let crowded_out = withheld.saturating_sub(withheld_offline + too_large);
    let due = offered.saturating_sub(withheld_offline);
    let is_much = crowded_out as f64 > due as f64 * WITHHELD_SHARE_MAX;
    (case.has_ended() && sent > 0 && is_much).then(|| {
        let Connect { in_flight, queue, .. } = case.facts.fleet.spec.connect;
        let limit = match case.stats.receive_maximum {
            Some(allowed) => format!(
                "the broker lets a device have {} in flight (receive maximum), where `connect.inFlight` is {in_flight}",
                words::messages(allowed.into())
            ),
            None => format!(
                "the broker took or acknowledged them too slowly for {in_flight} in flight (`connect.inFlight`) and \
                 {queue} in the queue (`connect.queue`)"
            ),
        };
        Reason::new(
            Rule::Withheld,
            format!(
                "expected at most {} of the {} due on connected devices to be withheld, found {}: {limit}",
                words::share(WITHHELD_SHARE_MAX),
                words::messages(due),
                words::count(crowded_out)
            ),
        )
    })
}

/// Devices that are missing and neither refused nor failed for the generator's own reasons.
fn missing(case: &Case<'_>) -> u32 {
    let Devices { desired, connected, refused, failed, .. } = case.devices;
    if case.has_ended() { desired.saturating_sub(connected + refused + failed) } else { 0 }
}

fn devices_missing(case: &Case<'_>) -> Option<Reason> {
    let connections = &case.stats.connections;
    let trouble: BTreeMap<String, u64> =
        connections.lost.iter().chain(&connections.failed).map(|(cause, count)| (cause.clone(), *count)).collect();
    (missing(case) > 0 && !trouble.is_empty()).then(|| {
        let expected = format!("expected {} to be connected when the run ended", words::devices(case.devices.desired));
        let found = format!("found {}{}", words::count(case.devices.connected.into()), causes(&trouble));
        Reason::new(Rule::DevicesMissing, format!("{expected}, {found}"))
    })
}

fn ramp_unfinished(case: &Case<'_>) -> Option<Reason> {
    let connections = &case.stats.connections;
    let is_quiet = connections.lost.is_empty() && connections.failed.is_empty();
    (missing(case) > 0 && is_quiet).then(|| {
        let expected =
            format!("expected all {} to have connected when the run ended", words::devices(case.devices.desired));
        let found = format!(
            "found {}; let it run longer or raise the connect rate",
            words::count(case.devices.connected.into())
        );
        Reason::new(Rule::RampUnfinished, format!("{expected}, {found}"))
    })
}

fn unacknowledged(case: &Case<'_>) -> Option<Reason> {
    // Where every message is observed its delivery decides; else the acknowledgement is all there is.
    let Messages { sent, acknowledged, .. } = case.promised;
    let missing = sent.saturating_sub(acknowledged);
    (case.is_complete() && case.facts.observe() != Observe::All && missing > 0).then(|| {
        let expected = format!("expected all {} sent QoS 1 and 2 messages to be acknowledged", words::count(sent));
        let rejections = causes(&case.stats.rejected);
        Reason::new(Rule::Unacknowledged, format!("{expected}, found {} without{rejections}", words::count(missing)))
    })
}

/// A broker that delivers, and does not know the quality of service: nothing but its answer is missing.
fn never_acknowledged(case: &Case<'_>) -> Option<Reason> {
    let is_ignored = |qos: &usize| {
        let Messages { sent, acknowledged, .. } = case.stats.messages[*qos];
        sent > 0 && acknowledged == 0
    };
    let qos = [1, 2].into_iter().find(is_ignored)?;
    (case.is_complete() && case.facts.observe() == Observe::All).then(|| {
        let sent = words::count(case.stats.messages[qos].sent);
        let rejections = causes(&case.stats.rejected);
        let found = format!("found none of {sent} that was{rejections}");
        Reason::new(Rule::NeverAcknowledged, format!("expected messages of QoS {qos} to be acknowledged, {found}"))
    })
}

fn nothing_sent(case: &Case<'_>) -> Option<Reason> {
    let Messages { offered, sent, withheld_offline, .. } = case.all;
    (case.has_ended() && offered > 0 && sent == 0).then(|| {
        let found = format!("found all withheld, {} because the device was offline", words::count(withheld_offline));
        Reason::new(Rule::NothingSent, format!("expected {} to be sent, {found}", words::messages(offered)))
    })
}

fn schedule_lag(case: &Case<'_>) -> Option<Reason> {
    let lag = case.stats.latency.schedule_lag.quantile(0.99)?;
    let share = case.stats.generator.overdue as f64 / case.all.offered.max(1) as f64;
    (share > OVERDUE_SHARE_MAX).then(|| {
        let expected = format!(
            "expected 99 % of the messages within {} % of their interval, at least {} and at most {}",
            lag::SHARE_PERCENT,
            lag::ALLOWED,
            lag::LIMIT
        );
        let found = format!("found {} later, with a schedule lag p99 of", words::share(share));
        let missed = match case.stats.generator.missed_ticks {
            0 => String::new(),
            missed => format!(" and {} by 100 ms or more", words::counted(missed, "tick missed", "ticks missed")),
        };
        Reason::new(Rule::ScheduleLag, format!("{expected}; {found} {}{missed}", words::time(lag.as_secs_f64())))
    })
}

/// All workers together, and each by itself: one that is throttled among a hundred does not show in their sum.
fn cpu_throttled(case: &Case<'_>) -> Option<Reason> {
    let share = case.stats.generator.throttled_share();
    let is_one = case.facts.workers.culprits.contains_key(&Rule::CpuThrottled);
    let (of_whom, found) = if share > THROTTLED_SHARE_MAX {
        ("", words::share(share))
    } else if is_one {
        (" of each worker", format!("more, and {} in all", words::share(share)))
    } else {
        return None;
    };
    let most = words::share(THROTTLED_SHARE_MAX);
    Some(Reason::new(
        Rule::CpuThrottled,
        format!(
            "expected CPU throttling in at most {most} of the scheduling periods{of_whom}, found {found}; raise the CPU limit"
        ),
    ))
}

fn clock_stepped(case: &Case<'_>) -> Option<Reason> {
    let offset = case.stats.generator.clock_offset_micros;
    let by = Span(offset.unsigned_abs());
    (by > CLOCK_OFFSET_MAX).then(|| {
        let (clock, stamps) = if offset > 0 { ("ahead of", "old") } else { ("behind", "early") };
        Reason::new(
            Rule::ClockStepped,
            format!(
                "expected the machine's clock and the devices' to agree within {CLOCK_OFFSET_MAX}, found it {} {clock} \
                 theirs: the machine slept, or its clock was set; what they wrote into messages is too {stamps} by as much",
                Span(by.0 / 100_000 * 100_000)
            ),
        )
    })
}

/// Each time is between two instants of one clock; but by its own a worker knows when a phase begins and a ramp is due.
fn clocks_apart(case: &Case<'_>) -> Option<Reason> {
    let (name, offset) = case.facts.workers.clock_farthest.as_ref()?;
    let shortest = case.facts.asked.phases.all().iter().map(|phase| Span(phase.duration.0 / 10)).min();
    let allowed = shortest.unwrap_or(CLOCK_OFFSET_MAX).min(CLOCK_OFFSET_MAX);
    (offset.at_most() > allowed).then(|| {
        let by = words::time(Span(offset.ahead.unsigned_abs()).as_secs_f64());
        let side = if offset.ahead > 0 { "ahead of" } else { "behind" };
        let bound = words::time(offset.bound.as_secs_f64());
        let found = format!("found that of {name} {by} {side} it, give or take {bound}");
        Reason::new(
            Rule::ClocksApart,
            format!(
                "expected the workers' clocks within {allowed} of the controller's, {found}: phases begin by them; synchronize the \
                 clocks of their nodes"
            ),
        )
    })
}

fn session_taken_over(case: &Case<'_>) -> Option<Reason> {
    let taken = *case.stats.connections.lost.get("session_taken_over")?;
    let rivals = &case.stats.observer.other_runs;
    (taken > 0).then(|| {
        let ids = rivals.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let by = match (ids.is_empty(), case.stats.observer.superseded) {
            (false, _) => format!(" while another run ({ids}) sent with their client ids"),
            (true, 0) => String::new(),
            (true, superseded) => format!(
                " while two processes ran the same devices, until {} left for the newer one",
                words::counted(superseded.into(), "worker", "workers")
            ),
        };
        Reason::new(
            Rule::SessionTakenOver,
            format!(
                "expected the devices to have their sessions to themselves, found {} taken over{by}",
                words::counted(taken, "session", "sessions")
            ),
        )
    })
}

/// The first of the faults that have done nothing.
fn fault_without_effect(case: &Case<'_>) -> Option<Reason> {
    let begun = fault::begun(case.facts);
    let idle: Vec<_> = begun.iter().filter(|fault| fault::effects(case.stats, case.facts, fault) == 0).collect();
    let fault = idle.first().filter(|_| case.has_ended())?;
    let devices = case.stats.faults.get(fault.number).map_or(0, |fault| fault.devices);
    let found = match devices {
        _ if fault.fault.is_act() => match case.facts.acts.failure(fault.number) {
            Some(why) => format!("found that {why}"),
            None => "found that it had not ended when the run did".into(),
        },
        0 => {
            let (share, group) = (fault.fault.aim().share, fault.fault.aim().group);
            let of = group.map(|group| format!(" of group {group}")).unwrap_or_default();
            format!("found no device hit ({share} of those{of} that there were); let it hit more")
        }
        devices => {
            let hit = words::devices(u32::try_from(devices).unwrap_or(u32::MAX));
            format!(
                "found {hit} hit and nothing done to them; there was no session, nothing fell due, or nothing changed (a broker that \
                 takes any password, payloads without the time)"
            )
        }
    };
    let others = match idle.len() - 1 {
        0 => String::new(),
        more => format!(", and {} without an effect", words::counted(more as u64, "fault more", "faults more")),
    };
    let (name, phase) = (fault.fault.name(), fault.phase);
    Some(Reason::new(
        Rule::FaultWithoutEffect,
        format!("expected the fault {name} of phase {phase} to do something, {found}{others}"),
    ))
}

fn devices_failed(case: &Case<'_>) -> Option<Reason> {
    let Devices { desired, failed, .. } = case.devices;
    (failed > 0).then(|| {
        let causes = causes(&case.stats.connections.failed);
        let found = format!("found {} that it cannot run{causes}", words::count(failed.into()));
        Reason::new(
            Rule::DevicesFailed,
            format!("expected the generator to hold all {}, {found}", words::devices(desired)),
        )
    })
}

fn nothing_offered(case: &Case<'_>) -> Option<Reason> {
    // A fleet without periodic streams may have nothing to say, but it must at least have connected.
    let is_due = case.facts.shortest_interval.is_some() || case.stats.connections.accepted == 0;
    (case.has_ended() && case.all.offered == 0 && is_due).then(|| {
        let paused = match case.facts.timeline.paused() {
            Span::ZERO => String::new(),
            paused => format!(", of which it was paused for {}", words::time(paused.as_secs_f64())),
        };
        let found = format!("found none in {}{paused}", words::time(case.facts.elapsed().as_secs_f64()));
        Reason::new(Rule::NothingOffered, format!("expected messages to fall due, {found}: nothing was measured"))
    })
}

fn nothing_observed(case: &Case<'_>) -> Option<Reason> {
    let Messages { sent, delivered, lost, .. } = case.all;
    let is_wanted = case.facts.observe() != Observe::None && sent > 0;
    (case.has_ended() && is_wanted && delivered == 0 && lost == 0).then(|| {
        let found = match &case.stats.observer.error {
            Some(error) => format!("found that the observer never subscribed ({error})"),
            None => "found none that was followed to its end".into(),
        };
        Reason::new(Rule::NothingObserved, format!("expected {} to be observed, {found}", words::messages(sent)))
    })
}

fn mostly_unobserved(case: &Case<'_>) -> Option<Reason> {
    let Messages { sent, delivered, lost, .. } = case.all;
    let judged = delivered + lost;
    let is_wanted = case.facts.observe() == Observe::All && judged > 0;
    let meant = sent.saturating_sub(fault::spoilt(case.stats, case.facts));
    let share = meant.saturating_sub(judged) as f64 / meant.max(1) as f64;
    (case.has_ended() && is_wanted && share > UNOBSERVED_SHARE_MAX).then(|| {
        let expected = format!("expected all {} to be followed to their end", words::messages(meant));
        Reason::new(Rule::MostlyUnobserved, format!("{expected}, found {} that were", words::count(judged)))
    })
}

fn worker_lost(case: &Case<'_>) -> Option<Reason> {
    let acts = &case.facts.acts;
    let asked = acts.workers_ended(&fault::begun(case.facts));
    let lost = u64::from(case.facts.workers.lost.count).saturating_sub(asked);
    (lost > 0).then(|| {
        let found = format!("found {} that ended unasked{}", words::count(lost), names_of_lost(case));
        let unknown = match case.all.unrecorded {
            0 => format!("the fate of {} is unknown", words::messages(case.all.unknown)),
            more => {
                let (unknown, more) = (words::messages(case.all.unknown), words::count(more));
                format!("the fate of {unknown} is unknown, and up to {more} more may have been sent")
            }
        };
        Reason::new(Rule::WorkerLost, format!("expected every worker to live to the end, {found}; {unknown}"))
    })
}

/// ` (lab-1, lab-7 and others)`: who ended unasked, as far as the events of the run tell; nothing where they do not. Pods that the run
/// has ended itself are among the events, too.
fn names_of_lost(case: &Case<'_>) -> String {
    let events = case.facts.timeline.events();
    let lost = events.list().iter().filter(|event| event.kind == EventKind::WorkerLost);
    let mut names: Vec<&str> = lost.filter_map(|event| Some(event.message.split_once(ENDED_UNASKED)?.0)).collect();
    for asked in case.facts.acts.pods_ended() {
        if let Some(place) = names.iter().position(|name| *name == asked) {
            names.remove(place);
        }
    }
    // The same one may have ended several times.
    let names: BTreeSet<&str> = names.into_iter().collect();
    let named: Vec<&str> = names.iter().copied().take(NAMED_MAX).collect();
    match named.len() {
        0 => String::new(),
        count if count < names.len() || events.more() > 0 => format!(" ({} and others)", named.join(", ")),
        _ => format!(" ({})", named.join(", ")),
    }
}

/// ` (cause 12, other 3)`, the most frequent first; nothing without causes.
fn causes(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() { String::new() } else { format!(" ({})", words::causes(counts)) }
}
