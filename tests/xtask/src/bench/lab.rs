//! One measurement: a generator on one core, a sink on another, and the kernel's account of both.

use std::{
    fmt, fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::{
    cores::{self, Core},
    eventually,
    null_broker::{self, NullBroker, Routing},
    process::Process,
    project,
    simctl::Simctl,
};

use crate::cargo;

/// How long a fleet may take to connect, and to drain.
const PATIENCE: Duration = Duration::from_mins(2);
/// The share of the asked messages below which a measurement says nothing about its load.
const KEPT_UP: f64 = 0.95;

pub(super) struct Lab {
    binaries: PathBuf,
    /// The generator's and the sink's, where there are two.
    cores: Option<[Core; 2]>,
    warm_up: Duration,
    window: Duration,
}

/// What a generator is asked to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) devices: u32,
    pub(super) interval: &'static str,
    pub(super) qos: u8,
    pub(super) observe: Observe,
    pub(super) engine: Engine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observe {
    None,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Native,
    Rumqttc,
}

/// CPU seconds per million messages of the generator and its worker processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) messages_per_second: f64,
}

/// What a fleet that only stays connected takes.
pub(super) struct Idle {
    pub(super) base_mib: f64,
    pub(super) kib_per_device: f64,
    pub(super) connects_per_second: f64,
}

/// A generator and its sink, at work; both end when this is dropped.
struct Run {
    generator: Process,
    sink: NullBroker,
    /// Their logs and the run-time directory.
    _place: (Simctl, TempDir),
}

impl Cost {
    pub(super) fn total(&self) -> f64 {
        self.user + self.system
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({:.1} + {:.1})", self.total(), self.user, self.system)
    }
}

impl Lab {
    /// Builds what is measured, optimized.
    pub(super) fn new(warm_up: Duration, window: Duration) -> Result<Lab> {
        let cores = match cores::available()?[..] {
            [first, .., last] => Some([first, last]),
            _ => None,
        };
        Ok(Lab { binaries: cargo::build_release()?, cores, warm_up, window })
    }

    /// Under what a figure was measured, one fact a line.
    pub(super) fn conditions(&self) -> Result<Vec<String>> {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let pinned = if self.cores.is_some() {
            "generator and sink each on a core of its own"
        } else {
            "generator and sink SHARE the only core: CPU time is not to be trusted"
        };
        Ok(vec![
            format!("{:.0}", jiff::Timestamp::now()),
            format!(
                "{} cores, {}; Linux {}",
                cores::available()?.len(),
                model.unwrap_or("of unknown make"),
                kernel.trim()
            ),
            pinned.to_owned(),
            format!("window {:?} after {:?}; load average {}", self.window, self.warm_up, load_average()?),
        ])
    }

    /// What a load costs the generator.
    pub(super) fn cost(&self, load: Load) -> Result<Cost> {
        let run = self.start(load)?;
        // Time that is to pass, not a condition that is waited for.
        thread::sleep(self.warm_up);
        let (start, cpu, messages) = (Instant::now(), run.generator.cpu()?, run.sink.counters()?.messages());
        thread::sleep(self.window);
        let cpu = run.generator.cpu()?.since(cpu);
        let (seconds, messages) = (start.elapsed().as_secs_f64(), run.sink.counters()?.messages() - messages);
        run.stop()?;
        ensure!(messages > 0, "{load:?}: no message arrived in {seconds:.1} s");
        let per_million = 1e6 / messages as f64;
        let cost = Cost {
            user: cpu.user.as_secs_f64() * per_million,
            system: cpu.system.as_secs_f64() * per_million,
            messages_per_second: messages as f64 / seconds,
        };
        println!("{load:?}: {cost} CPU-s per million, {:.0} msg/s", cost.messages_per_second);
        let asked = load.messages_per_second()?;
        ensure!(
            cost.messages_per_second >= KEPT_UP * asked,
            "{load:?}: {:.0} msg/s of {asked:.0} arrived, so the load was not what is compared",
            cost.messages_per_second
        );
        Ok(cost)
    }

    /// What idle devices take, against a fleet of one.
    pub(super) fn idle(&self, devices: u32) -> Result<Idle> {
        let load = Load { devices: 1, interval: "24h", qos: 0, observe: Observe::None, engine: Engine::Native };
        let base = self.settled_memory(load)?.0;
        let (memory, connects_per_second) = self.settled_memory(Load { devices, ..load })?;
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        Ok(Idle {
            base_mib: kib(base) / 1024.0,
            kib_per_device: kib(memory.saturating_sub(base)) / f64::from(devices - 1),
            connects_per_second,
        })
    }

    /// Proportional memory in bytes of a connected fleet after the warm-up, and its connects per second.
    fn settled_memory(&self, load: Load) -> Result<(u64, f64)> {
        let run = self.start(load)?;
        thread::sleep(self.warm_up);
        let memory = run.generator.memory()?;
        let counters = run.sink.counters()?;
        run.stop()?;
        println!("{load:?}: {memory:?}, {:.0} connects/s", counters.connects_per_second());
        Ok((memory.pss, counters.connects_per_second()))
    }

    /// Starts both and awaits that every device is connected.
    fn start(&self, load: Load) -> Result<Run> {
        let logs = tempfile::tempdir()?;
        let routing = if load.observe == Observe::All { Routing::Echo } else { Routing::Discard };
        let [generator_core, sink_core] = self.cores.map_or([None, None], |cores| cores.map(Some));
        let binary = Some(self.binaries.join("null-broker"));
        let sink = NullBroker::start(null_broker::Settings { binary, core: sink_core, routing }, logs.path())?;
        let simctl = Simctl::at(self.binaries.join("simctl"))?;
        let mut command = simctl.command(&[]);
        command.arg("run").arg("-f").arg(project::root().join("tests/bench/fleet.yaml"));
        command.args(load.flags(&sink.url(), self.warm_up + self.window + 2 * PATIENCE));
        let generator = match generator_core {
            Some(core) => Process::spawn_on(core, "simctl", &mut command, logs.path())?,
            None => Process::spawn("simctl", &mut command, logs.path())?,
        };
        let devices = u64::from(load.devices);
        let connected = || {
            generator.ensure_running()?;
            Ok((sink.counters()?.get("connected") >= devices).then_some(()))
        };
        eventually(&format!("{load:?}: every device is connected"), PATIENCE, connected)?;
        Ok(Run { generator, sink, _place: (simctl, logs) })
    }
}

/// The kernel's average number of runnable processes over 1, 5 and 15 minutes.
pub(super) fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("/proc/loadavg is not readable")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

impl Run {
    /// Ends the generator as a person would, so that a worker process of it ends too.
    fn stop(mut self) -> Result<()> {
        self.generator.terminate(PATIENCE).map(drop)
    }
}

impl Load {
    /// The flags of `simctl run`; `at_most` ends it should we not.
    fn flags(&self, url: &str, at_most: Duration) -> Vec<String> {
        let observe = match self.observe {
            Observe::None => "none",
            Observe::All => "all",
        };
        let engine = match self.engine {
            Engine::Native => "native",
            Engine::Rumqttc => "rumqttc",
        };
        let flags = [
            ("--devices", self.devices.to_string()),
            ("--interval", self.interval.to_owned()),
            ("--qos", self.qos.to_string()),
            ("--broker", url.to_owned()),
            ("--observe", observe.to_owned()),
            ("--engine", engine.to_owned()),
            // Faster than any engine connects: the engine is the limit.
            ("--connect-rate", "100000/s".to_owned()),
            ("--duration", format!("{}s", at_most.as_secs())),
            ("-o", "json".to_owned()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags.chain(["--yes".to_owned()]).collect()
    }

    fn messages_per_second(&self) -> Result<f64> {
        let milliseconds: f64 = self.interval.strip_suffix("ms").context("a busy load says milliseconds")?.parse()?;
        Ok(f64::from(self.devices) * 1e3 / milliseconds)
    }
}
