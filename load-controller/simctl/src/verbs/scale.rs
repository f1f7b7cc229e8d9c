//! `simctl scale`: how many devices there are, while the fleet runs.

use std::time::Duration;

use fleet_contract::units::Span;
use load_controller::{
    report::{Report, words},
    verdict::ExitCode,
};
use tokio::time::Instant;

use crate::{
    args::RunFlag,
    local::control::{Change, Remote},
    printer::Printer,
    screen::Screen,
    view,
};

const EXAMPLES: &str = "\
Examples:
  simctl scale 500                    waits until 500 are connected
  simctl scale 50 --no-wait
  simctl scale 2000 --timeout 5m";

/// Change the number of devices
///
/// Only the devices that come or go are touched; all others stay connected and keep their timetable. Waits until as many
/// are connected as were asked for, and says what hinders.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many devices
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    devices: u32,
    /// How long to wait [default: 1m more than connecting takes]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Do not wait until they are connected
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    #[command(flatten)]
    run: RunFlag,
}

/// Beyond the time that connecting takes.
const PATIENCE: Span = Span::from_secs(60);

impl Args {
    /// Scales, and waits until *connected* equals asked.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        let before = remote.plan().await?.devices_wanted();
        let plan = remote.change(&Change::Devices { devices: self.devices }).await?;
        let expected = remote.connects_within(before.abs_diff(self.devices)).await?;
        printer.say(format_args!(
            "fleet {}: {} now, {} then, in about {}",
            remote.fleet(),
            words::devices(before),
            words::count(self.devices.into()),
            words::time(expected.as_secs_f64())
        ));
        if self.no_wait {
            return Ok(ExitCode::Passed);
        }
        let timeout = self.timeout.unwrap_or(Span(expected.0.saturating_add(PATIENCE.0)));
        self.wait(&remote, plan.version, timeout, printer).await
    }

    async fn wait(&self, remote: &Remote, version: u64, timeout: Span, printer: Printer) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let mut screen = (printer.is_terminal() && !printer.is_quiet()).then(Screen::take);
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        let mut said = None;
        // A run is read once a second: a reading from before the change may show by chance what was asked for.
        let before = remote.report().await?.elapsed_seconds;
        loop {
            ticks.tick().await;
            let report = remote.report().await?;
            let devices = &report.devices;
            // Another terminal may have scaled meanwhile; then this one's wish is void.
            let current = remote.plan().await?;
            anyhow::ensure!(
                current.version == version || current.devices_wanted() == self.devices,
                "the fleet was scaled to {} meanwhile",
                words::count(current.devices_wanted().into())
            );
            let is_fresh = report.elapsed_seconds > before;
            if is_fresh && devices.connected == self.devices && devices.desired == self.devices {
                if let Some(mut screen) = screen.take() {
                    screen.clear();
                }
                let took = words::time(started.elapsed().as_secs_f64());
                printer.say(format_args!("{} connected after {took}", words::devices(self.devices)));
                return Ok(ExitCode::Passed);
            }
            let line = progress(devices.connected, self.devices);
            match &mut screen {
                Some(screen) => screen.draw(&[line]),
                None if said != Some(started.elapsed().as_secs() / 5) => {
                    said = Some(started.elapsed().as_secs() / 5);
                    printer.say(line);
                }
                None => {}
            }
            if started.elapsed() >= timeout.as_duration() {
                if let Some(mut screen) = screen.take() {
                    screen.clear();
                }
                anyhow::bail!(
                    "{} of {} are connected after {timeout}{}",
                    words::count(devices.connected.into()),
                    words::devices(self.devices),
                    hindrances(&report)
                );
            }
        }
    }
}

/// How far the growth or the shrinkage has come.
fn progress(connected: u32, wanted: u32) -> String {
    let (now, then) = (words::count(connected.into()), words::count(wanted.into()));
    if connected > wanted {
        format!("{now} connected, {then} wanted")
    } else {
        format!("{} {now} of {then} connected", view::bar(connected, wanted))
    }
}

/// What keeps devices from connecting, as the end of a sentence.
fn hindrances(report: &Report) -> String {
    let mut found = Vec::new();
    for (number, what) in [
        (report.devices.refused, "refused by the broker"),
        (report.devices.failed, "without a port or file of their own"),
    ] {
        if number > 0 {
            found.push(format!("{} {what}", words::count(number.into())));
        }
    }
    for (what, causes) in [("refusals", &report.connections.refused), ("failures", &report.connections.failed)] {
        if !causes.is_empty() {
            found.push(format!("{what} so far: {}", words::causes(causes)));
        }
    }
    if found.is_empty() {
        "; nothing failed, so the broker is slow or --timeout too short".into()
    } else {
        format!("; {}", found.join("; "))
    }
}
