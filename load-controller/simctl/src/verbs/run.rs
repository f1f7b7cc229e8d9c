//! `simctl run`: a fleet on this machine, from pre-flight to verdict.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use broker::{BindError, Broker};
use device_sim::{
    clock::Clock,
    engine::{self, Kind},
    transport::make_room,
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, Fleet, FleetSpec, Observe},
    format,
    load_test::{Criterion, LoadTest, LoadTestSpec, Phase, check},
    model::{BODY_MAX, payload::hex},
    plan::{Plan, Setting, Shard},
    split::{Split, devices_per_process},
    threshold::Threshold,
    time::Micros,
    units::Span,
    worker::Assignment,
};
use load_controller::{
    report::{
        Report,
        files::{self, Present},
        text::{self, Style, Width},
    },
    run::{
        facts::{Asked, Program, RunFacts},
        phase::Phases,
        verdict::{ExitCode, FailOn},
    },
    words,
};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    clean::{self, Cleaned, Request},
    estimate::Estimate,
    exit::Failure,
    flags::{FleetFlags, Ramp, interval},
    local::{
        control,
        processes::{Launch, Processes},
        run::{Guard, Outcome, Run},
        signals::Signals,
        socket::Claim,
    },
    preflight::{
        self, Outcome as Found, Target,
        machine::{self, Machine},
    },
    printer::{Format, Printer},
    screen::Screen,
    settings::{Settings, guard},
    verbs::sample::instant,
    view::{self, Hint},
};

const EXAMPLES: &str = "\
Examples:
  simctl run                                   100 mixed devices, a broker of its own
  simctl run --model thermometer --devices 500 --interval 1s
  simctl run --devices 0..500/1m               they come over a minute
  simctl run -f fleet.yaml --duration 5m --report out
  simctl run --phase ramp:0..500/1m --phase steady:5m --threshold 'end_to_end.p99 < 250ms'
  simctl run -f rush-hour.yaml --report out    a load test: phases, thresholds, verdict
  simctl run -f all.yaml --fleet robotaxis     one of several fleets of a file
  simctl run -f fleet.yaml --clean             its sessions and retained messages go when it ends
  simctl run --qos 0 --duration 1m --fail-on lost
  simctl run --broker mqtt://127.0.0.1:1884 --devices 2000 --qos 1 -o json > report.json
  simctl run --devices 40000 --broker mqtt://10.0.0.7 --broker mqtt://10.0.0.8 --yes

While it runs, in another terminal: simctl scale 500, simctl pause, simctl status -w.";

/// The port that MQTT has; the next free one after it is as good.
const PORT: u16 = 1883;
const PORTS_TRIED: u16 = 100;

/// How far in the future a run starts, so that all workers know of it in time.
const START_LEAD: Span = Span::from_millis(200);

/// Requests of other terminals that may wait; then whoever asks waits.
const REQUESTS_MAX: usize = 16;

/// Run a fleet on this machine
///
/// Without arguments: a broker on loopback and 100 devices of a small mixed fleet. The first Ctrl-C (or SIGTERM, or
/// `simctl stop`, or the end of --duration) drains, prints a summary and exits by the verdict; a second one aborts.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// The load test that is meant, where the file holds several
    #[arg(long, value_name = "NAME", env = "SIMCTL_LOAD_TEST", requires = "file", conflicts_with = "fleet")]
    load_test: Option<String>,
    /// How long, such as `5m`; without it until it is stopped
    #[arg(long, value_name = "TIME", env = "SIMCTL_DURATION", value_parser = interval)]
    duration: Option<Span>,
    /// A part of the run that is measured apart, such as `steady:10m`, or `ramp:0..500/2m` if devices come in it; may be given
    /// several times, for one after the other, and the run ends with the last one
    #[arg(
        long = "phase",
        value_name = "NAME:[A..B/]TIME",
        env = "SIMCTL_PHASE",
        value_delimiter = ',',
        conflicts_with = "duration"
    )]
    phase: Vec<Phase>,
    /// The instant that the run's clock shows at its start (RFC 3339): payloads, signals of the time of day and reports have
    /// it, so that a run sends what an earlier one has sent [default: now]
    #[arg(long, value_name = "TIME", env = "SIMCTL_START", value_parser = instant)]
    start: Option<Micros>,
    /// Each device sends so many messages of each stream; then the run ends
    #[arg(long, value_name = "N", env = "SIMCTL_MESSAGES", value_parser = clap::value_parser!(u32).range(1..))]
    messages: Option<u32>,
    /// Write the report's files into this directory
    #[arg(long, value_name = "DIR", env = "SIMCTL_REPORT")]
    report: Option<PathBuf>,
    /// Replace a report that is in that directory already
    #[arg(long, env = "SIMCTL_FORCE", requires = "report", value_parser = clap::builder::FalseyValueParser::new())]
    force: bool,
    /// What must come of the run, such as `end_to_end.p99 < 200ms` or `lost == 0`; may be given several times, beside those of a
    /// load test
    ///
    /// Counters of messages have `count` (the default) and `rate`, times `p50` to `p99.99`, `mean`, `max`, `count` and `rate`.
    /// Rates and times are those of all phases in which no devices come or leave.
    #[arg(long = "threshold", value_name = "EXPRESSION", env = "SIMCTL_THRESHOLD", value_delimiter = ',')]
    threshold: Vec<Threshold>,
    /// What makes the run fail beside the default rules; may be given several times
    ///
    /// QoS 0 promises nothing, so its losses are shown and do not count. With `lost` they do.
    #[arg(long, value_name = "WHAT", env = "SIMCTL_FAIL_ON", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    /// Remove what the run has left at the broker, as `simctl clean` does: sessions and retained messages
    #[arg(long, env = "SIMCTL_CLEAN", value_parser = clap::builder::FalseyValueParser::new())]
    clean: bool,
    /// Let the load test run the commands of its hooks on this machine, as the user that runs simctl
    #[arg(long, env = "SIMCTL_ALLOW_COMMANDS", value_parser = clap::builder::FalseyValueParser::new())]
    allow_commands: bool,
    /// How to print the report; `json` and `yaml` print nothing else on standard output
    #[arg(short, long, value_name = "FORMAT", env = "SIMCTL_OUTPUT", default_value = "table")]
    output: Format,
    /// Load a broker that is not on this machine as much as is asked for
    #[arg(short, long, env = "SIMCTL_YES", value_parser = clap::builder::FalseyValueParser::new())]
    yes: bool,
    /// The most devices of a worker process [default: as many as it may open files]
    #[arg(long, value_name = "N", env = "SIMCTL_DEVICES_PER_WORKER", value_parser = clap::value_parser!(u32).range(1..))]
    devices_per_worker: Option<u32>,
    /// What runs the devices: simctl's own engine, or rumqttc's client to compare with (then nothing is observed)
    #[arg(long, value_name = "KIND", env = "SIMCTL_ENGINE", default_value_t = Kind::Native)]
    engine: Kind,
    /// An address of this machine that devices connect from; may be given several times, or be a list with commas
    ///
    /// Devices are spread over the addresses by their index. Each address has some 28,000 ports of its own.
    #[arg(long, value_name = "ADDRESS", env = "SIMCTL_SOURCE_ADDRESS", value_delimiter = ',')]
    source_address: Vec<IpAddr>,
    /// Where `/metrics`, `/healthz` and `/readyz` of the whole run are served; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "SIMCTL_METRICS", value_parser = fleet_contract::listen::parse)]
    metrics: Option<SocketAddr>,
    /// How often a line is logged where there is no terminal
    #[arg(long, value_name = "TIME", env = "SIMCTL_LOG_INTERVAL", default_value = "5s", value_parser = interval)]
    log_interval: Span,
}

impl Args {
    /// Checks, starts, drives, reports.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        // From here on, so that Ctrl-C during a start cleans up as well.
        let signals = Signals::listen()?;
        let mut settings = Settings::to_run(&self.fleet, self.load_test.as_deref(), self.allow_commands)?;
        let (phases, thresholds) = self.test(&settings)?;
        settings.divide(phases);
        settings.thresholds = thresholds;
        settings.check_passwords()?;
        if self.engine == Kind::Rumqttc {
            settings.observe_nothing();
        }
        if let Some(messages) = self.messages {
            settings.send_each(messages);
        }
        self.check_losses(&settings)?;
        let report = self.claim_report()?;
        let machine = Machine::read(self.source_address.len())?;
        let estimate = Estimate::new(&settings.document, self.per_process(&machine), engine::threads(0))?;
        let guard = self.guard(&settings, &estimate, &machine);
        preflight(&settings, &estimate, &machine, printer).await?;
        let metrics = self.listen_for_metrics(printer).await?;
        let embedded = match settings.broker() {
            Some(_) => None,
            None => Some(Embedded::start(&mut settings, printer)?),
        };
        let outcome = Box::pin(self.start_and_drive(&settings, &machine, guard, metrics, &signals, printer)).await;
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
        let mut outcome = outcome?;
        let is_clean = !self.clean || self.remove_leftovers(&settings, &mut outcome, &signals, printer).await;
        self.conclude(&outcome, report.as_ref(), is_clean, printer)
    }

    /// What is done, and what must come of it: by the load test of the document, and by flags.
    fn test(&self, settings: &Settings) -> Result<(Phases, Vec<Criterion>), Failure> {
        let thresholds = self.threshold.iter().cloned().map(Criterion::of);
        let Some(LoadTest { metadata, spec, .. }) = &settings.load_test else {
            let thresholds: Vec<_> = thresholds.collect();
            let phases = Phases::new(self.phase.clone());
            if !phases.is_empty() {
                let fleet = settings.fleet();
                let name = fleet.metadata.name.clone();
                let spec = LoadTestSpec::new(name, self.phase.clone(), thresholds.clone());
                let problems = check(&spec, Some(&fleet.spec)).into_iter().map(|problem| problem.message);
                if let Some(all) = problems.reduce(|all, next| format!("{all}; {next}")) {
                    return Err(Failure::usage(format!("--phase, --threshold: {all}")));
                }
            }
            if phases.devices_most(0).is_some() && self.fleet.devices.is_some_and(|devices| devices.ramp.is_some()) {
                return Err(Failure::usage(
                    "expected devices to come by --devices A..B/TIME or in a --phase, found both",
                ));
            }
            return Ok((phases, thresholds));
        };
        let said = [("--phase", !self.phase.is_empty()), ("--duration", self.duration.is_some())];
        if let Some((flag, _)) = said.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::usage(format!(
                "expected the phases of the load test {} alone, found {flag} as well; --fleet {} runs its fleet without it",
                metadata.name, spec.fleet
            )));
        }
        let phases = Phases::new(spec.phases.clone());
        Ok((phases, spec.thresholds.iter().cloned().chain(thresholds).collect()))
    }

    /// Takes the directory of the report before there is anything to report.
    fn claim_report(&self) -> Result<Option<files::Claim>, Failure> {
        let present = if self.force { Present::Replace } else { Present::Keep };
        let claim = |directory: &PathBuf| files::Claim::new(directory, present);
        self.report.as_ref().map(claim).transpose().map_err(|error| Failure::usage(format!("--report: {error}")))
    }

    /// Refuses to judge by losses that nobody sees.
    fn check_losses(&self, settings: &Settings) -> Result<(), Failure> {
        if self.fail_on.contains(&FailOn::Lost) && settings.fleet().spec.observe == Observe::None {
            return Err(Failure::usage("expected `observe: all` or `sample` beside --fail-on lost, found `none`"));
        }
        Ok(())
    }

    /// How each worker is started, but for its socket.
    fn worker_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["worker", "--with-parent", "--engine", self.engine.into()].map(OsString::from).into();
        for source in &self.source_address {
            arguments.extend(["--source-address".into(), source.to_string().into()]);
        }
        arguments
    }

    /// The most devices of a worker process.
    fn per_process(&self, machine: &Machine) -> u32 {
        devices_per_process(machine.open_files).min(self.devices_per_worker.unwrap_or(u32::MAX))
    }

    /// Says in how many workers a fleet runs that does not fit one, and why; and when all of its devices will be there.
    fn say_split(&self, split: Split, spec: &FleetSpec, machine: &Machine, printer: Printer) {
        let workers = split.workers(spec.devices);
        if workers == 1 {
            return;
        }
        let why = match self.devices_per_worker {
            Some(most) if most <= devices_per_process(machine.open_files) => format!("--devices-per-worker is {most}"),
            _ => format!("a process may open {} files", words::count(machine.open_files)),
        };
        printer.say(format_args!(
            "{} in {workers} worker processes of up to {}, since {why}; all have connected after {} at {} (--connect-rate)",
            words::devices(spec.devices),
            words::count(split.shard(0).share_of(spec.devices).into()),
            words::time(spec.connect.rate.time_for(spec.devices.saturating_sub(1).into()).as_secs_f64()),
            spec.connect.rate,
        ));
    }

    /// Takes the port of `--metrics`, before anything starts that would have to be stopped again.
    async fn listen_for_metrics(&self, printer: Printer) -> anyhow::Result<Option<TcpListener>> {
        let Some(address) = self.metrics else { return Ok(None) };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("expected a free port for --metrics, found {address} in use or not ours"))?;
        printer.say(format_args!("metrics http://{}/metrics", listener.local_addr()?));
        Ok(Some(listener))
    }

    /// What the run, and each change of it, must keep to.
    fn guard(&self, settings: &Settings, estimate: &Estimate, machine: &Machine) -> Guard {
        let broker = settings.broker().map(<[BrokerUrl]>::to_vec);
        let is_asked_for = self.yes || settings.has_document;
        let is_overload_asked_for = self.yes;
        let estimate = estimate.clone();
        let machine = machine.clone();
        Box::new(move |before, plan, now| {
            let asked = estimate.under(plan, now);
            guard(broker.as_deref(), is_asked_for, asked.devices, asked.messages_per_second)?;
            let target = broker.as_deref().map_or(Target::Embedded, Target::At);
            if let Some(failures) = preflight::failures(&preflight::check(&asked, &machine, target)) {
                return Err(failures);
            }
            let overload = |before| preflight::overload(&estimate.under(before, now), &asked, &machine);
            match before.filter(|_| !is_overload_asked_for).and_then(overload) {
                Some(refusal) => Err(refusal),
                None => Ok(()),
            }
        })
    }

    async fn start_and_drive(
        &self,
        settings: &Settings,
        machine: &Machine,
        guard: Guard,
        metrics: Option<TcpListener>,
        signals: &Signals,
        printer: Printer,
    ) -> anyhow::Result<Outcome> {
        let fleet = settings.fleet();
        let devices = fleet.spec.devices;
        let claim = Claim::new(&fleet.metadata.name)?;
        let listener = claim.listen()?;
        let clock = Clock::new();
        let run = random();
        let plan = self.plan(run, clock.now(), settings);
        guard(None, &plan, plan.start).map_err(Failure::usage)?;
        let split = Split::new(devices, self.per_process(machine));
        self.say_split(split, &fleet.spec, machine, printer);
        let assignment = Assignment {
            format: format::Format::FIRST,
            fleet: fleet.clone(),
            plan,
            shard: Shard::of(0, devices),
            files: settings.document.files.clone(),
        };
        let launch = Launch {
            program: std::env::current_exe().context("simctl cannot find its own program")?,
            arguments: self.worker_arguments(),
        };
        let start = async {
            let plan = || self.plan(run, clock.now().after(START_LEAD), settings);
            Processes::start(launch, claim, split, assignment, plan).await
        };
        let processes = tokio::select! {
            processes = start => processes?,
            () = signals.drain.cancelled() => return Err(Failure::aborted("stopped before the fleet had started").into()),
        };
        let facts = self.facts(settings, processes.plan(), machine);
        let clock = clock.ahead_by(processes.plan().ahead);
        let (sender, mut requests) = mpsc::channel(REQUESTS_MAX);
        let over = CancellationToken::new();
        let mut server = JoinSet::new();
        if let Some(metrics) = metrics {
            server.spawn(control::serve_metrics(metrics, sender.clone(), over.clone()));
        }
        server.spawn(control::serve(listener, sender, over.clone()));
        let mut live = Live::new(self.output, self.log_interval, printer);
        let run = Run::new(processes, Box::new(move || clock.now()), facts, guard);
        let outcome = Box::pin(run.drive(&mut requests, signals, |report| live.show(report))).await;
        drop(live);
        // Whoever still waits for an answer gets none: the run is over.
        drop(requests);
        over.cancel();
        drop(tokio::time::timeout(Duration::from_secs(1), server.join_all()).await);
        outcome
    }

    /// The plan of a run that begins at `now` by the wall clock, and shows `--start` if that is given.
    fn plan(&self, run: u32, now: Micros, settings: &Settings) -> Plan {
        let start = self.start.unwrap_or(now);
        let ahead = start.0.cast_signed() - now.0.cast_signed();
        let spec = FleetSpec { devices: settings.devices_first, ..settings.fleet().spec.clone() };
        let mut plan = Plan::of(run, start, &spec).ahead_by(ahead);
        if let Some(Ramp { to, over, .. }) = self.fleet.devices.and_then(|devices| devices.ramp) {
            plan.set(start, Setting::Ramp { to, over });
        }
        let start = plan.start;
        settings.phases.plan(&mut plan, &spec, start);
        plan
    }

    fn facts(&self, settings: &Settings, plan: &Plan, machine: &Machine) -> RunFacts {
        let fleet = settings.fleet();
        let mut notes = settings.notes();
        if self.start.is_some() {
            let began = Micros(plan.start.0.saturating_add_signed(-plan.ahead));
            notes.push(format!(
                "instants are those of a clock that showed {} at the start (--start), when it was {began}",
                plan.start
            ));
        }
        let asked = Asked {
            load_test: settings.load_test.as_ref().map(|test| test.metadata.name.clone()),
            duration: self.duration.or(settings.phases.last()),
            phases: settings.phases.clone(),
            devices: settings.devices_before,
            ends_when_sent: self.messages.is_some(),
            fail_on: self.fail_on.clone(),
            thresholds: settings.thresholds.clone(),
        };
        let program = Program {
            engine: self.engine.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            command: std::env::args().collect(),
            host: machine::host(),
            open_files_limit: machine.open_files,
        };
        let mut facts = RunFacts { notes, ..RunFacts::new(fleet.clone(), hash_of(fleet), plan, asked, program) };
        facts.at_broker.is_embedded = settings.is_embedded;
        facts.workers.devices_each = Split::new(fleet.spec.devices, self.per_process(machine)).shard(1).first;
        facts
    }

    /// Removes what the run has left at the broker; whether nothing stays.
    async fn remove_leftovers(
        &self,
        settings: &Settings,
        outcome: &mut Outcome,
        signals: &Signals,
        printer: Printer,
    ) -> bool {
        if settings.is_embedded {
            printer.say("nothing to remove: the broker has ended with the run");
            return true;
        }
        match self.removed(settings, outcome, signals, printer).await {
            Ok(cleaned) => {
                cleaned.removed().iter().for_each(|line| printer.say(line));
                cleaned.left().iter().for_each(|line| printer.warn(line));
                outcome.facts.at_broker.is_cleaned = cleaned.is_complete();
            }
            Err(error) => printer.warn(format_args!("what the run has left at the broker stays: {error:#}")),
        }
        outcome.report = Report::new(&outcome.stats, &outcome.facts);
        outcome.facts.at_broker.is_cleaned
    }

    async fn removed(
        &self,
        settings: &Settings,
        outcome: &Outcome,
        signals: &Signals,
        printer: Printer,
    ) -> anyhow::Result<Cleaned> {
        clean::check_not_running(&settings.fleet().metadata.name).await?;
        let mut document = settings.document.clone();
        document.fleet.spec.devices = outcome.devices_most;
        let observers = outcome.facts.observers_left();
        clean::clean(Request { document, observers, sources: self.source_address.clone() }, &signals.abort, printer)
            .await
    }

    /// Prints the report, writes its files, and says how the run ends.
    fn conclude(
        &self,
        outcome: &Outcome,
        claim: Option<&files::Claim>,
        is_clean: bool,
        printer: Printer,
    ) -> anyhow::Result<ExitCode> {
        let Outcome { stats, facts, report, .. } = outcome;
        let paint = printer.palette();
        let style = Style { width: Width::Table, paint };
        let shown = printer.value(self.output, report, || text::render(report, style));
        let mut exit_code = report.exit_code();
        if !is_clean {
            exit_code = exit_code.incomplete();
        }
        if let Some(claim) = claim {
            match claim.write(report, stats, facts) {
                Ok(()) => printer.say(format_args!("the report is in {}", claim.directory().display())),
                Err(error) => {
                    // What was measured stands above; only its files are missing.
                    printer.warn(format_args!("{error:#}"));
                    exit_code = exit_code.incomplete();
                }
            }
        }
        // A reader that went away does not change what the run proved.
        if let Err(error) = shown
            && !crate::exit::is_broken_pipe(&error)
        {
            return Err(error);
        }
        Ok(exit_code)
    }
}

/// Refuses what cannot work; says what may not.
async fn preflight(
    settings: &Settings,
    estimate: &Estimate,
    machine: &Machine,
    printer: Printer,
) -> anyhow::Result<()> {
    let target = settings.broker().map_or(Target::Embedded, Target::At);
    let mut checks = preflight::check(estimate, machine, target);
    checks.extend(preflight::broker::check(&settings.document).await);
    if let Some(failures) = preflight::failures(&checks) {
        return Err(Failure::preflight(preflight::exit_code(&checks), failures).into());
    }
    for check in checks.iter().filter(|check| check.outcome == Found::Warning) {
        printer.warn(format_args!("{}: {}; {}", check.name, check.found, check.remedy.as_deref().unwrap_or_default()));
    }
    Ok(())
}

/// SHA-256 of the resolved document, in hexadecimal.
fn hash_of(fleet: &Fleet) -> String {
    let text = serde_json::to_vec(fleet).expect("what was read from a document can be written as one");
    hex(&Sha256::digest(text))
}

/// A number that no other run has, most likely.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds its hashers from the operating system.
    let hash = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or(1).max(1)
}

/// The largest packet of the embedded broker: the largest body, and room for its topic.
const PACKET_BYTES: usize = BODY_MAX as usize + 128 * 1024;

/// The broker within this process.
struct Embedded {
    stop: CancellationToken,
    task: JoinSet<Result<(), broker::RunError>>,
}

impl Embedded {
    /// Starts it on loopback, at the usual port or the next free one, and enters its address into the document.
    fn start(settings: &mut Settings, printer: Printer) -> anyhow::Result<Self> {
        let broker = bind()?;
        // As many as it ever takes, so that a fleet that comes holds up none of those who are there.
        make_room(u32::try_from(preflight::embedded_devices_max()).unwrap_or_default());
        let address = broker.address();
        if address.port() != PORT {
            printer.say(format_args!("port {PORT} is taken, so the broker listens on port {}", address.port()));
        }
        printer.say(format_args!("broker mqtt://{address}, on this machine alone"));
        let url = BrokerUrl::tcp(address.ip().to_string(), address.port());
        settings.embed(BrokerSpec::at(vec![url]));
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(broker.run(stop.clone()));
        Ok(Self { stop, task })
    }

    async fn stop(mut self) {
        self.stop.cancel();
        drop(tokio::time::timeout(Duration::from_secs(5), self.task.join_next()).await);
    }
}

/// The first free port from the usual one on.
fn bind() -> anyhow::Result<Broker> {
    for port in PORT..PORT + PORTS_TRIED {
        let mut config =
            broker::Config { listen: SocketAddr::from(([127, 0, 0, 1], port)), ..broker::Config::default() };
        // Whatever the document may let a device send.
        config.limits.packet_bytes = PACKET_BYTES;
        match Broker::bind(config) {
            Err(BindError::InUse { .. }) => {}
            bound => return bound.context("the embedded broker did not start; name one with --broker"),
        }
    }
    anyhow::bail!("ports {PORT} to {} are all taken; name a broker with --broker", PORT + PORTS_TRIED - 1)
}

/// Where the live figures go: a terminal, or lines for a log.
struct Live {
    screen: Option<Screen>,
    format: Format,
    every: Duration,
    last: Option<Instant>,
    printer: Printer,
}

impl Live {
    fn new(format: Format, every: Span, printer: Printer) -> Self {
        let screen = (printer.is_terminal() && !printer.is_quiet() && format == Format::Table).then(Screen::take);
        Self { screen, format, every: every.as_duration(), last: None, printer }
    }

    fn show(&mut self, report: &Report) {
        if let Some(screen) = &mut self.screen {
            screen.draw(&view::lines(report, Hint::Run, self.printer.palette()));
            return;
        }
        let is_due = self.last.is_none_or(|last| last.elapsed() + Duration::from_millis(50) >= self.every);
        if !is_due || self.printer.is_quiet() {
            return;
        }
        self.last = Some(Instant::now());
        match self.format {
            // A reader that went away misses lines; the run goes on.
            Format::Table => drop(self.printer.data(view::line(report))),
            Format::Json | Format::Yaml => self.printer.say(view::line(report)),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.clear();
        }
    }
}
