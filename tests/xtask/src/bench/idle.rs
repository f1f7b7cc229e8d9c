//! Devices that only stay connected: what each of them takes, plain and over TLS, and how fast they connect.

use std::{fs, path::Path};

use anyhow::Result;
use tests::{
    mosquitto::{AUTHORITY, Mosquitto, Settings},
    run,
    simctl::Simctl,
    unavailable::Unavailable,
};

use super::{
    lab::{Lab, open_files},
    load::{self, Load},
    report::{Figure, Report, Target, thousands},
};

/// As many devices as fit into one process with 20,000 open files; fewer where fewer are allowed.
const DEVICES: u32 = 19_000;
/// Enough to see what one takes, and few enough for handshakes of some seconds.
const TLS_DEVICES: u32 = 5_000;
/// How many devices shake hands a second, which Mosquitto keeps up with on a part of a core.
const TLS_CONNECT_RATE: &str = "1000/s";

/// KiB of a device over the base.
const KIB_MOST: f64 = 0.4;
const TLS_KIB_MOST: f64 = 10.0;
const CONNECTS_LEAST: f64 = 20_000.0;

pub(super) fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let devices = DEVICES.min(u32::try_from(open_files().saturating_sub(1_000)).unwrap_or(DEVICES)).max(2);
    let base = settled(lab, &Load::idle(1))?.memory;
    let mut fleets = Vec::new();
    for _ in 0..lab.rounds() {
        fleets.push(settled(lab, &Load::idle(devices))?);
    }
    let memory = median(fleets.iter().map(|fleet| fleet.memory));
    let connects = median(fleets.iter().map(|fleet| fleet.connects_per_second));
    let plain = kib_of_one(memory, base, devices);
    report.figure(Figure {
        what: format!("{} idle devices with model and ledger: KiB of each over the base", thousands(devices.into())),
        ours: format!("{plain:.2}"),
        beside: format!("base {:.1} MiB, in all {:.1} MiB", mib(base), mib(memory)),
        value: plain,
        target: Some(Target::AtMost(KIB_MOST)),
    });
    report.figure(Figure {
        what: format!("{} devices connect: connects per second", thousands(devices.into())),
        ours: thousands(connects),
        beside: format!("{:.0} µs of CPU time each", median(fleets.iter().map(|fleet| fleet.cpu_us_of_one))),
        value: connects,
        target: Some(Target::AtLeast(CONNECTS_LEAST)),
    });
    match over_tls(lab) {
        Ok(tls) => report.figure(Figure {
            what: format!("{} idle devices over TLS: KiB of each more than plain", thousands(TLS_DEVICES.into())),
            ours: format!("{:.2}", tls - plain),
            beside: format!("{tls:.2} KiB over the base, against Mosquitto"),
            value: tls - plain,
            target: Some(Target::AtMost(TLS_KIB_MOST)),
        }),
        Err(error) => match error.downcast_ref::<Unavailable>() {
            Some(missing) => report.note(format!("TLS was left out: it {}", missing.reason())),
            None => return Err(error),
        },
    }
    Ok(())
}

/// What a fleet that only stays connected takes.
struct Settled {
    /// Proportional memory in bytes.
    memory: f64,
    connects_per_second: f64,
    /// CPU time up to the last connect, the start of the processes included, by device, in microseconds.
    cpu_us_of_one: f64,
}

fn settled(lab: &Lab, load: &Load) -> Result<Settled> {
    let run = lab.start(load)?;
    let cpu_us_of_one = run.cpu()?.total().as_secs_f64() * 1e6 / f64::from(load.devices);
    lab.warm_up();
    let (memory, connects_per_second) = (run.memory()?.pss as f64, run.connects_per_second()?);
    let settled = Settled { memory, connects_per_second, cpu_us_of_one };
    run.stop()?;
    lab.say(&format!("{load}: {:.1} MiB, {:.0} connects/s", mib(settled.memory), settled.connects_per_second));
    Ok(settled)
}

/// What a device over TLS takes over a fleet of one, in KiB.
fn over_tls(lab: &Lab) -> Result<f64> {
    let certificates = tempfile::tempdir()?;
    let broker = Mosquitto::start(Settings::new()?.over_tls(certificates.path())?)?;
    let base = settled_over_tls(lab, &broker, certificates.path(), 1)?;
    let memory = settled_over_tls(lab, &broker, certificates.path(), TLS_DEVICES)?;
    Ok(kib_of_one(memory, base, TLS_DEVICES))
}

/// Proportional memory of a connected fleet in bytes.
fn settled_over_tls(lab: &Lab, broker: &Mosquitto, certificates: &Path, devices: u32) -> Result<f64> {
    let place = Simctl::at(lab.binary("simctl"))?;
    fs::copy(certificates.join(AUTHORITY), place.dir().join(AUTHORITY))?;
    let (url, count) = (format!("mqtts://127.0.0.1:{}", broker.port()), devices.to_string());
    let document = load::folder().join("tls.yaml").display().to_string();
    let what = ["-f", &document, "--broker", &url, "--devices", &count];
    let how = ["--connect-rate", TLS_CONNECT_RATE, "--interval", "24h", "--observe", "none"];
    let run = run::Run::start_at(place, &[what, how].concat())?;
    run.wait_for_devices(devices.into())?;
    lab.warm_up();
    let memory = run.process().memory()?.pss as f64;
    run.stop()?;
    lab.say(&format!("{devices} idle devices over TLS: {:.1} MiB", mib(memory)));
    Ok(memory)
}

/// Of a fleet beside a fleet of one.
fn kib_of_one(memory: f64, base: f64, devices: u32) -> f64 {
    (memory - base) / 1024.0 / f64::from(devices - 1)
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The value in the middle; of an even number the upper one.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.swap_remove(values.len() / 2)
}
