//! One measurement: a generator on one core, its sinks on another, and the kernel's account of both.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::{
    cores::{self, Core},
    eventually,
    null_broker::{self, Counters, NullBroker, Routing},
    process::{Process, Signal},
    project,
    report::Report,
    simctl::{self, Simctl},
    usage::{Cpu, Memory},
};

use super::load::{Demand, Load, Observe};
use crate::cargo;

/// How long a fleet may take to connect, and to drain.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// The share of the asked messages below which a measurement says nothing about its load.
const KEPT_UP: f64 = 0.95;
/// Open files of a process that are not a device's connection.
const FILES_BESIDE_DEVICES: u64 = 100;

/// How often and how long is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) rounds: u32,
    /// Between the last connect and the window.
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

pub(super) struct Lab {
    binaries: PathBuf,
    /// The generator's and the sink's, where there are two.
    cores: Option<[Core; 2]>,
    timing: Timing,
    start: Instant,
}

/// What a load cost the generator and its worker processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// CPU seconds per million messages in its own code.
    pub(super) user: f64,
    /// CPU seconds per million messages in the kernel on its behalf.
    pub(super) system: f64,
    pub(super) messages_per_second: f64,
    /// The share of one core that it took.
    pub(super) cores: f64,
    /// Proportional memory in bytes at the end of the window.
    pub(super) memory: u64,
    /// How late 99 of 100 messages of the whole run were at most, in seconds; `None` where the generator does not say.
    pub(super) lag_p99: Option<f64>,
}

/// Sinks that a generator is started against.
pub(super) struct Sinks {
    brokers: Vec<NullBroker>,
}

/// A generator at work; it ends when this is dropped.
pub(super) struct Run {
    generator: Process,
    sinks: Sinks,
    /// The logs and the run-time directory.
    _place: (Simctl, TempDir),
}

impl Cost {
    pub(super) fn total(&self) -> f64 {
        self.user + self.system
    }

    /// How many messages a second of CPU time makes.
    pub(super) fn messages_per_cpu_second(&self) -> f64 {
        1e6 / self.total()
    }
}

/// User and system time apart, in CPU seconds per million messages.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Costs below one second would vanish in one decimal.
        let decimals = if self.total() < 3.0 { 2 } else { 1 };
        write!(f, "{:.decimals$} ({:.decimals$} + {:.decimals$})", self.total(), self.user, self.system)
    }
}

impl Lab {
    /// Builds what is measured, optimized; or takes what lies in `SIMCTL_BIN_DIR`, as the rings do.
    pub(super) fn new(timing: Timing) -> Result<Lab> {
        let cores = match cores::available()?[..] {
            [first, .., last] => Some([first, last]),
            _ => None,
        };
        // A sink inherits the limit that its connections count against.
        rlimit::increase_nofile_limit(u64::MAX).context("the open-file limit cannot be raised")?;
        let binaries = match env::var_os(project::BIN_DIR) {
            Some(dir) => PathBuf::from(dir),
            None => cargo::build_release()?,
        };
        Ok(Lab { binaries, cores, timing, start: Instant::now() })
    }

    pub(super) fn rounds(&self) -> u32 {
        self.timing.rounds
    }

    /// Since the first measurement could begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Where the release binaries are.
    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Prints a line of progress with the time since the start.
    pub(super) fn say(&self, text: &str) {
        let seconds = self.elapsed().as_secs();
        println!("{:3}:{:02} {text}", seconds / 60, seconds % 60);
    }

    /// Under what the figures are measured, one fact a line.
    pub(super) fn conditions(&self) -> Result<Vec<String>> {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = cores::available()?.len();
        let pinned = if self.cores.is_some() {
            "generator and sink each on a core of its own"
        } else {
            "generator and sink SHARE the only core: CPU time is not to be trusted"
        };
        let Timing { rounds, warm_up, window } = self.timing;
        Ok(vec![
            format!("{:.0}", jiff::Timestamp::now()),
            format!("{cores} cores, {}; Linux {}", model.unwrap_or("of unknown make"), kernel.trim()),
            format!("{} open files a process", open_files()),
            pinned.to_owned(),
            format!(
                "{rounds} {}, window {window:?} after {warm_up:?}; load average {}",
                if rounds == 1 { "round" } else { "rounds" },
                load_average()?
            ),
        ])
    }

    /// Lets the warm-up pass: time that is to pass, not a condition that is waited for.
    pub(super) fn warm_up(&self) {
        thread::sleep(self.timing.warm_up);
    }

    /// What a load costs the generator.
    pub(super) fn cost(&self, load: &Load) -> Result<Cost> {
        let run = self.start(load)?;
        self.warm_up();
        let cost = self.window(&run.generator, &run.sinks)?;
        let report = run.stop()?;
        let lag_p99 = report.get("latency.schedule_lag.p99").ok().and_then(serde_json::Value::as_f64);
        let cost = Cost { lag_p99, ..cost };
        let rate = cost.messages_per_second;
        self.say(&format!("{load}: {cost} CPU-s per million, {rate:.0} msg/s, {:.2} cores", cost.cores));
        let asked = load.messages_per_second();
        ensure!(
            load.demand == Demand::Saturating || rate >= KEPT_UP * asked,
            "{load}: {rate:.0} msg/s of {asked:.0} arrived, so the load was not what is compared"
        );
        Ok(cost)
    }

    /// What a generator uses while its sinks receive, over one window.
    pub(super) fn window(&self, generator: &Process, sinks: &Sinks) -> Result<Cost> {
        let (start, cpu, messages) = (Instant::now(), generator.cpu()?, sinks.messages()?);
        thread::sleep(self.timing.window);
        let cpu = generator.cpu()?.since(cpu);
        let (seconds, messages) = (start.elapsed().as_secs_f64(), sinks.messages()? - messages);
        ensure!(messages > 0, "no message arrived in {seconds:.1} s");
        let per_million = 1e6 / messages as f64;
        Ok(Cost {
            user: cpu.user.as_secs_f64() * per_million,
            system: cpu.system.as_secs_f64() * per_million,
            messages_per_second: messages as f64 / seconds,
            cores: cpu.total().as_secs_f64() / seconds,
            memory: generator.memory()?.pss,
            lag_p99: None,
        })
    }

    /// Starts a fleet and awaits that every device is connected.
    pub(super) fn start(&self, load: &Load) -> Result<Run> {
        let logs = tempfile::tempdir()?;
        let routing = if load.observe == Observe::All { Routing::Echo } else { Routing::Discard };
        let sinks = self.sinks(load.devices, routing, logs.path())?;
        let simctl = Simctl::at(self.binary("simctl"))?;
        let mut command = simctl.command(&["run"]);
        command.args(load.flags(self.timing.warm_up + self.timing.window + 2 * PATIENCE));
        // Devices are spread over the addresses.
        command.args(sinks.urls().flat_map(|url| ["--broker".to_owned(), url]));
        let generator = self.spawn_generator("simctl", &mut command, logs.path())?;
        sinks.wait_for(load.devices.into(), &generator).with_context(|| load.to_string())?;
        Ok(Run { generator, sinks, _place: (simctl, logs) })
    }

    /// As many sinks as open files demand for so many connections, all on the sinks' core.
    pub(super) fn sinks(&self, connections: u32, routing: Routing, logs: &Path) -> Result<Sinks> {
        let count = u64::from(connections).div_ceil(open_files().saturating_sub(FILES_BESIDE_DEVICES).max(1));
        let brokers = (0..count.max(1)).map(|number| {
            let binary = Some(self.binary("null-broker"));
            let core = self.cores.map(|[_, sink]| sink);
            NullBroker::start(null_broker::Settings { binary, core, routing }, &logs.join(number.to_string()))
        });
        Ok(Sinks { brokers: brokers.collect::<Result<_>>()? })
    }

    /// Starts a generator on its core.
    pub(super) fn spawn_generator(&self, name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
        match self.cores {
            Some([generator, _]) => Process::spawn_on(generator, name, command, logs),
            None => Process::spawn(name, command, logs),
        }
    }
}

impl Sinks {
    /// Their addresses as `simctl --broker` takes them.
    pub(super) fn urls(&self) -> impl Iterator<Item = String> {
        self.brokers.iter().map(NullBroker::url)
    }

    /// The port of the first one.
    pub(super) fn port(&self) -> u16 {
        self.brokers[0].port()
    }

    /// Messages received up to now.
    fn messages(&self) -> Result<u64> {
        Ok(self.counters()?.iter().map(Counters::messages).sum())
    }

    /// Awaits that so many sessions are open.
    pub(super) fn wait_for(&self, sessions: u64, generator: &Process) -> Result<()> {
        eventually(&format!("{sessions} sessions are open"), PATIENCE, || {
            generator.ensure_running()?;
            let open: u64 = self.counters()?.iter().map(|counters| counters.get("sessions")).sum();
            Ok((open >= sessions).then_some(()))
        })
    }

    fn counters(&self) -> Result<Vec<Counters>> {
        self.brokers.iter().map(NullBroker::counters).collect()
    }
}

impl Run {
    pub(super) fn cpu(&self) -> Result<Cpu> {
        self.generator.cpu()
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        self.generator.memory()
    }

    /// How fast the fleet connected: devices are spread evenly, so each sink has its part of the rate.
    pub(super) fn connects_per_second(&self) -> Result<f64> {
        Ok(self.sinks.counters()?.iter().map(Counters::connects_per_second).sum())
    }

    /// Ends the generator as a person would, so that its worker processes end too; returns its own report.
    pub(super) fn stop(self) -> Result<Report> {
        let Run { generator, sinks: _sinks, _place } = self;
        generator.signal(Signal::TERM)?;
        Report::of(&simctl::finish(generator, PATIENCE)?)
    }
}

/// The kernel's average number of runnable processes over 1, 5 and 15 minutes.
pub(super) fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("/proc/loadavg is not readable")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// How many files one process may open.
pub(super) fn open_files() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or(1_024)
}
