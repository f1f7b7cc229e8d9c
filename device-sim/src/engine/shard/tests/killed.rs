//! A shard that is killed in the middle: what its record says, and what the timetable says of the rest, bound what the
//! broker has got.

use fleet_contract::{
    plan::Setting,
    time::Micros,
    units::{Factor, Share, Span},
};

use super::{MODEL, START, Stage, faults::fault, played::Trouble};
use crate::{engine::unrecorded, index::DeviceIndex, random::Source, record};

const DEVICES: u32 = 30;

/// How many messages the record, the bound and the broker know of.
#[derive(Debug)]
struct Found {
    sent: u64,
    unrecorded: u64,
    arrived: u64,
}

/// Lets a shard run for some time, with troubles, and kills it.
fn kill(seed: u64, spec: &str, troubles: bool) -> Found {
    let source = Source::new(seed, "killed");
    let draw = |number: u32, below: u64| source.of(DeviceIndex::new(number)).at(0).below(below);
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::recorded(DEVICES, spec, "{name: all, model: m}", &[("m", MODEL)], folder.path());
    if troubles {
        stage.run(Span::from_millis(1 + draw(1, 2_000)));
        match draw(2, 6) {
            0 => stage.shard.world.trouble(Trouble::DropAll),
            1 => stage.shard.world.trouble(Trouble::Stall(Span::from_millis(draw(3, 800)))),
            2 => stage.change(|plan, now| plan.set(now, Setting::Paused(true))),
            kind @ (3 | 4) => {
                let name = if kind == 3 { "flood" } else { "duplicate" };
                let fault = fault(name, Share::from_basis_points(5_000).unwrap(), 0);
                let lasts = Span::from_millis(1 + draw(3, 3_000));
                stage.change(|plan, now| plan.strike(now, 9, &fault, lasts));
            }
            _ => {
                let set =
                    Setting::Rate { group: None, stream: None, factor: Some(Factor(8_000_000)), over: Span::ZERO };
                stage.change(|plan, now| plan.set(now, set));
            }
        }
    }
    stage.run(Span(1 + draw(4, 3_000_000)));
    let died = stage.shard.world.time();
    let arrived = (0..3).map(|qos| stage.shard.world.arrived(qos).distinct).sum();
    // A successor begins some time later.
    let successor = died.after(Span::from_millis(draw(5, 2_000)));
    let epochs = record::read(folder.path(), Micros(START.0 + 1)).unwrap();
    let Some([record]) = epochs.get(&START).map(Vec::as_slice) else {
        // It died before anything was recorded, and had sent nothing for as long.
        assert!(died <= START.after(Span::from_millis(120)), "seed {seed}: nothing is recorded at {died}");
        return Found { sent: 0, unrecorded: arrived, arrived };
    };
    let mut stats = record.stats.clone();
    stats.add_unrecorded(&unrecorded::after_record(&stage.blueprint, &stage.shard.course, record, successor));
    stats.end_epoch(record.at);
    let all = stats.all_messages();
    assert_eq!(all.offered, all.sent + all.withheld, "seed {seed}: {all:?}");
    Found { sent: all.sent, unrecorded: all.unrecorded, arrived }
}

#[test]
fn what_is_recorded_and_the_timetable_bound_what_a_killed_shard_has_sent() {
    let (mut all, mut open) = (0, 0);
    for seed in 0..300 {
        let found = kill(seed, "  connect: {rate: 1000/s, backoff: {base: 50ms, cap: 200ms}}\n", false);
        let Found { sent, unrecorded, arrived } = found;
        assert!(sent <= arrived && arrived <= sent + unrecorded, "seed {seed}: {found:?}");
        // 30 devices send 2, 2.5 and 1.1 messages a second.
        assert!(unrecorded <= 168 / 10 + 8, "seed {seed}: {found:?}");
        all += arrived;
        open += arrived - sent;
    }
    assert!(all > 50_000 && open > 300, "{open} of {all} messages were not recorded");
}

#[test]
fn troubles_leave_nothing_out() {
    for seed in 0..300 {
        let spec = "  offline: {catchUp: {max: 9}}\n  connect: {rate: 500/s, session: persistent, inFlight: 2, queue: 3, backoff: {base: 50ms, cap: 400ms}}\n";
        let Found { sent, unrecorded, arrived } = kill(seed, spec, true);
        assert!(arrived <= sent + unrecorded, "seed {seed}: {arrived} arrived, {sent} sent, {unrecorded} unrecorded");
    }
}

/// A fleet that says something once an hour, five seconds after it began, and the folder of its records.
fn quiet(connect: &str) -> (Stage, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let model = r#"
streams:
  rare: {topic: "{fleet}/{index}/rare", interval: 1h, payload: {text: "{stamp}"}}
"#;
    let spec = format!("  connect: {connect}\n");
    let mut stage = Stage::recorded(40, &spec, "{name: all, model: m}", &[("m", model)], folder.path());
    stage.run(Span::from_secs(5));
    (stage, folder)
}

#[test]
fn what_changes_without_a_message_is_recorded_soon() {
    let (mut stage, folder) = quiet("{rate: 1000/s, backoff: {base: 10s, cap: 20s}}");
    let at = stage.shard.world.time().after(Span::from_millis(100));
    let storm = fault("disconnect", Share::ALL, 1);
    stage.change(|plan, _| plan.strike(at, 9, &storm, Span::ZERO));
    stage.run(Span::from_millis(200));
    let epochs = record::read(folder.path(), Micros(START.0 + 1)).unwrap();
    let Some([record]) = epochs.get(&START).map(Vec::as_slice) else { panic!("one shard has a record") };
    assert!(record.at >= at && record.at <= at.after(Span::from_millis(60)), "{} and not soon after {at}", record.at);
    assert_eq!(record.stats.connections.lost.values().sum::<u64>(), 40);
}

#[test]
fn who_was_silent_for_long_may_have_died_at_any_time() {
    let (stage, folder) = quiet("{rate: 1000/s}");
    let epochs = record::read(folder.path(), Micros(START.0 + 1)).unwrap();
    let record = &epochs[&START][0];
    assert!(record.at < START.after(Span::from_secs(4)), "nothing has changed since");
    let after = |until: Span| {
        let stats = unrecorded::after_record(&stage.blueprint, &stage.shard.course, record, START.after(until));
        stats.all_messages().unrecorded
    };
    let first = (1..3_600).find(|seconds| after(Span::from_secs(*seconds)) > 0).unwrap();
    // By then the first message was due; a shard that had sent it would have recorded it soon.
    assert!(after(Span::from_secs(7_200)) <= 3, "at most some messages after {first} s");
}
