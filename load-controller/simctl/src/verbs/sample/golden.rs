//! A seed gives what it has always given, to the byte: what devices would send in ten minutes, as digests.
//!
//! `golden.txt` never changes for what it holds; a new model or example adds lines. Who changes what a seed gives breaks
//! the comparison of each run with an earlier one.

use std::{fs, path::Path, thread};

use device_sim::model::Stream;
use fleet_contract::{
    builtin,
    plan::{Plan, Setting},
    units::Factor,
};
use sha2::{Digest as _, Sha256};

use super::*;

const GOLDEN: &str = include_str!("golden.txt");

const DEVICES: u32 = 5;
/// Of examples with several groups, the smallest of which has a tenth of the devices.
const DEVICES_OF_GROUPS: u32 = 20;
const SEEDS: [u64; 3] = [1, 7, 20_260_101];
const DURATION: Span = Span::from_secs(600);
/// 2026-01-01T12:00:00Z, the default of `simctl sample`.
const START: Micros = Micros(1_767_268_800_000_000);

/// The intervals of the document, and one for all streams.
const INTERVALS: [Option<Span>; 2] = [None, Some(Span::from_secs(2))];

/// A change of the rate in the midst of the ten minutes, by its name in the table and by the plan that has it.
type Change = (&'static str, fn(&mut Plan));

/// The timetables begin anew, and the rate of each periodic stream goes up in a line and back at once.
const CHANGES: [Change; 2] = [
    ("interval 2s after 5m", |plan| {
        let interval = Some(Span::from_secs(2));
        plan.set(START.after(Span::from_secs(300)), Setting::Interval { stream: None, interval });
    }),
    ("4 times as fast from 3m to 7m, reached after 2m", |plan| {
        let rate = |factor, over| Setting::Rate { group: None, stream: None, factor, over: Span::from_secs(over) };
        plan.set(START.after(Span::from_secs(180)), rate(Some(Factor(4_000_000)), 120));
        plan.set(START.after(Span::from_secs(420)), rate(None, 0));
    }),
];

/// The flags that choose each built-in model and each example, by its name in the table.
fn fleets() -> Vec<(String, FleetFlags)> {
    let model = |model: &builtin::Builtin| {
        let flags = FleetFlags { model: Some(model.name.into()), ..FleetFlags::default() };
        (format!("model {}", model.name), flags)
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/examples");
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Others scale what a Fleet elsewhere describes.
    files.retain(|file| file.is_file() && fs::read_to_string(file).unwrap().contains("kind: Fleet\n"));
    files.sort();
    let example = |file: std::path::PathBuf| {
        let name = format!("example {}", file.file_stem().unwrap().display());
        (name, FleetFlags { file: Some(file), ..FleetFlags::default() })
    };
    builtin::ALL.iter().map(model).chain(files.into_iter().map(example)).collect()
}

/// Those with several groups, by names of their own; each group has a device.
fn fleets_of_groups() -> Vec<(String, FleetFlags)> {
    let has_groups = |flags: &FleetFlags| {
        let flags = FleetFlags { devices: Some(DEVICES_OF_GROUPS.into()), ..flags.clone() };
        let settings = Settings::new(&flags).unwrap();
        let groups = settings.fleet().spec.groups.len();
        let membership = membership(settings.fleet()).unwrap();
        assert!((0..groups).all(|group| membership.count(group, DEVICES_OF_GROUPS) > 0), "{:?}", flags.file);
        groups > 1
    };
    let several = fleets().into_iter().filter(|(_, flags)| has_groups(flags));
    several.map(|(name, flags)| (format!("{name}, {DEVICES_OF_GROUPS} devices"), flags)).collect()
}

/// `model thermometer, seed 1, intervals of the document: 3,000 messages, 2f0c…`
fn line(name: &str, flags: FleetFlags, devices: u32, seed: u64, interval: Option<Span>) -> String {
    let rate = interval.map_or("intervals of the document".into(), |interval| format!("interval {interval}"));
    let settings = settings(FleetFlags { interval, ..flags }, devices, seed);
    line_under(&format!("{name}, seed {seed}, {rate}"), &settings, devices, |_| ())
}

/// `model thermometer, seed 1, interval 2s after 5m: 900 messages, 6a1b…`
fn line_of_change(name: &str, flags: FleetFlags, seed: u64, (what, change): Change) -> String {
    let settings = settings(flags, DEVICES, seed);
    line_under(&format!("{name}, seed {seed}, {what}"), &settings, DEVICES, change)
}

fn settings(flags: FleetFlags, devices: u32, seed: u64) -> Settings {
    Settings::new(&FleetFlags { seed: Some(seed), devices: Some(devices.into()), ..flags }).unwrap()
}

/// What these devices send under a plan with these changes.
fn line_under(name: &str, settings: &Settings, devices: u32, change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = Plan::new(0, START, devices);
    change(&mut plan);
    let membership = membership(settings.fleet()).unwrap();
    let groups = &settings.fleet().spec.groups;
    let models: Vec<_> = (0..groups.len()).map(|position| compile(&settings.document, position).unwrap()).collect();
    let (mut digest, mut messages) = (Sha256::new(), 0);
    for device in 0..devices {
        let group = membership.group_of(device);
        let pace = |stream: &Stream| plan.pace(&groups[group].name, stream.name(), stream.tick());
        for sample in sample::sample_at(&models[group], pace, device..device + 1, START, DURATION) {
            messages += 1;
            let about = (sample.due, device, sample.stream.number(), &sample.topic, sample.qos, sample.is_retained);
            digest.update(format!("{about:?} {:?} {}\n", sample.properties, sample.payload.len()));
            digest.update(&sample.payload);
        }
    }
    format!("{name}: {messages} messages, {}\n", hex(&digest.finalize()))
}

#[test]
fn a_seed_gives_what_it_has_always_given() {
    let of_seed = |fleets: Vec<(String, FleetFlags)>, devices: u32, seed: u64| {
        let all = fleets
            .into_iter()
            .flat_map(|(name, flags)| INTERVALS.map(|interval| line(&name, flags.clone(), devices, seed, interval)));
        all.collect::<String>()
    };
    let changed_of_seed = |seed: u64| {
        let changed = |(name, flags): (String, FleetFlags)| {
            CHANGES.map(|change| line_of_change(&name, flags.clone(), seed, change))
        };
        fleets().into_iter().flat_map(changed).collect::<String>()
    };
    // Those of groups have come later, and those with a change later still: they stand behind all others.
    let found = thread::scope(|scope| {
        let few = SEEDS.map(|seed| scope.spawn(move || of_seed(fleets(), DEVICES, seed)));
        let more = SEEDS.map(|seed| scope.spawn(move || of_seed(fleets_of_groups(), DEVICES_OF_GROUPS, seed)));
        let changed = SEEDS.map(|seed| scope.spawn(move || changed_of_seed(seed)));
        few.into_iter().chain(more).chain(changed).map(|seed| seed.join().unwrap()).collect::<String>()
    });
    if found != GOLDEN {
        let is_new = |line: &&str| !GOLDEN.lines().any(|golden| golden == *line);
        let new: Vec<_> = found.lines().filter(is_new).collect();
        let gone: Vec<_> = GOLDEN.lines().filter(|line| !found.lines().any(|found| found == *line)).collect();
        panic!("expected golden.txt, found\n{}\ninstead of\n{}", new.join("\n"), gone.join("\n"));
    }
}
