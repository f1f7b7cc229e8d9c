//! How long a reader holds the devices up.

use fleet_contract::{plan::Setting, time::Micros, units::Span};
use rustix::time::{ClockId, clock_gettime};

use super::{START, Stage};
use crate::index::SeriesAt;

/// The most that a reading may take of the shard's thread.
const STALL_MAX: Span = Span(200);

/// Begins long before the last of so many devices is to connect.
const SPEC: &str = "  connect: {rate: 10/s}\n";

/// Five groups of five streams, in two phases whose messages are still judged.
fn stage(devices: u32) -> Stage {
    let groups: Vec<_> = (0..5).map(|group| format!("{{name: g{group}, share: 20%, model: m}}")).collect();
    let stream = |number| {
        format!(
            "  s{number}: {{topic: '{{fleet}}/{{index}}/{number}', interval: 1h, qos: 1, payload: {{json: {{x: '{{x}}'}}}}}}\n"
        )
    };
    let streams: String = (0..5).map(stream).collect();
    let model = format!("signals: {{x: {{kind: counter, rate: 1}}}}\nstreams:\n{streams}");
    let mut stage = Stage::of(devices, SPEC, &groups.join(", "), &[("m", &model)]);
    for phase in 0..2 {
        stage.change(|plan, _| plan.set(begin(phase), Setting::Phase(phase)));
    }
    stage.run(Span::from_secs(2));
    stage
}

fn begin(phase: u32) -> Micros {
    START.after(Span::from_secs(u64::from(phase)))
}

/// As after a second with times from 100 µs to 7 ms in each stream and phase.
fn count(stage: &mut Stage) {
    for phase in 0..2 {
        for (place, micros) in (0..25).flat_map(|place| (100..7_000).step_by(50).map(move |micros| (place, micros))) {
            let stream = stage.shard.counted.by_stream.at(SeriesAt::new(place), begin(phase));
            stream.messages.sent += 1;
            stream.latency.end_to_end.record(Span(micros));
            stream.latency.publish_ack.record(Span(micros));
        }
    }
}

/// Of this thread, whatever else the machine does.
pub(super) fn cpu_time() -> Span {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Span(u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap())
}

/// Reads so often, and returns the median of what that took of the shard's thread.
fn median_stall(stage: &mut Stage, between: impl Fn(&mut Stage)) -> Span {
    let mut stalls: Vec<Span> = (0..21)
        .map(|_| {
            count(stage);
            let (now, begun) = (stage.shard.world.time(), cpu_time());
            let _reading = stage.shard.reading(now);
            let stall = Span(cpu_time().0 - begun.0);
            between(stage);
            stall
        })
        .collect();
    stalls.sort_unstable();
    stalls[stalls.len() / 2]
}

#[test]
fn a_reader_holds_a_hundred_thousand_devices_up_for_no_time_that_counts() {
    let mut stage = stage(100_000);
    let take = |stage: &mut Stage| stage.shard.counted.exchange.take_into(&mut stage.read);
    let stall = median_stall(&mut stage, take);
    assert!(stall <= STALL_MAX, "{stall}");
    let stats = stage.measured();
    assert_eq!((stats.devices.desired, stats.devices.leaving), (100_000, 0));
    assert_eq!(stats.all_messages().sent, 21 * 2 * 25 * 138, "{:?}", stats.all_messages());
}

#[test]
fn neither_does_one_that_takes_nothing() {
    let mut stage = stage(1_000);
    let stall = median_stall(&mut stage, |_| {});
    assert!(stall <= STALL_MAX, "{stall}");
    assert_eq!(stage.measured().all_messages().sent, 21 * 2 * 25 * 138);
}

#[test]
fn whoever_the_plan_does_not_want_leaves_until_it_is_gone() {
    let mut stage = Stage::new(100, "  connect: {rate: 100/s}\n");
    let leaving = |stage: &mut Stage| {
        let devices = stage.measured().devices;
        (devices.desired, devices.connected, devices.leaving)
    };
    stage.run(Span::from_secs(3));
    assert_eq!(leaving(&mut stage), (100, 100, 0));
    stage.change(|plan, now| plan.set(now, Setting::Ramp { to: 10, over: Span::ZERO }));
    stage.run(Span::from_millis(100));
    // They go at the pace at which they came.
    let (desired, connected, left) = leaving(&mut stage);
    assert_eq!(desired, 10);
    // Those that have said DISCONNECT are not gone before the broker has closed.
    assert!((60..90).contains(&left) && left >= connected - desired, "{left} of {connected}");
    stage.run(Span::from_secs(2));
    assert_eq!(leaving(&mut stage), (10, 10, 0));
    stage.change(|plan, now| plan.set(now, Setting::Ramp { to: 100, over: Span::ZERO }));
    stage.run(Span::from_secs(3));
    assert_eq!(leaving(&mut stage), (100, 100, 0));
}
