//! `simctl scale`: how many devices there are, while the fleet runs.

use std::time::Duration;

use fleet_contract::units::Span;
use kube::ResourceExt as _;
use load_controller::{
    report::Report,
    resource::Fleet,
    run::{change::Change, verdict::ExitCode},
    words,
};
use tokio::time::Instant;

use crate::{
    cluster::{
        client::Cluster,
        fleets::{self, FleetName},
        objects::DryRun,
        target::Target,
    },
    exit::Failure,
    flags::{DEVICES_MAX, TargetFlags, interval},
    local::control::Remote,
    printer::Printer,
    screen::Screen,
    view,
};

const EXAMPLES: &str = "\
Examples:
  simctl scale 500                    waits until 500 are connected
  simctl scale fleet/robotaxis 500    one of several
  simctl scale +100                   so many more; -100 so many fewer
  simctl scale 500 --over 2m          in a straight line, on this machine
  simctl scale 50 --no-wait
  simctl scale 2000 --timeout 5m -n load";

/// Change the number of devices
///
/// Only the devices that come or go are touched; all others stay connected and keep their timetable. Waits until as many
/// are connected as were asked for, and says what hinders. In a cluster the scale subresource is used, as `kubectl
/// scale` does.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many devices, and of which fleet if there are several: `500` or `fleet/robotaxis 500`
    ///
    /// `+5` and `-5` are steps from the number there is, as with --by.
    #[arg(value_name = "[FLEET] [DEVICES]", num_args = 0..=3, allow_negative_numbers = true)]
    words: Vec<String>,
    /// So many more, or fewer, than now
    #[arg(long, value_name = "±N", allow_hyphen_values = true)]
    by: Option<i64>,
    /// How long it takes, in a straight line, of a run on this machine [default: as fast as they may connect]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    over: Option<Span>,
    /// How long to wait [default: 1m more than connecting takes, 3m in a cluster]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Do not wait until they are connected
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Only try, in a cluster: would it be allowed?
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    target: TargetFlags,
}

/// Beyond the time that connecting takes.
const PATIENCE: Span = Span::from_secs(60);
/// The same where pods must be scheduled and images pulled before.
const PATIENCE_IN_CLUSTER: Span = Span::from_secs(180);

/// A new number of devices, or a step from the one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    To(u32),
    By(i64),
}

impl Wanted {
    /// The number that is meant when there are `now`.
    fn from(self, now: u32) -> Result<u32, Failure> {
        match self {
            Self::To(devices) => Ok(devices),
            Self::By(step) => {
                let devices = i64::from(now).saturating_add(step);
                u32::try_from(devices).ok().filter(|devices| *devices <= DEVICES_MAX).ok_or_else(|| {
                    Failure::usage(format!(
                        "expected 0 to {DEVICES_MAX} devices, found {devices}, which is {step:+} from {now}"
                    ))
                })
            }
        }
    }
}

/// What was typed: `500`, `fleet/robotaxis 500`, `fleet robotaxis 500`, or a fleet and a step.
fn parse(words: &[String], by: Option<i64>) -> Result<(Option<FleetName>, Wanted), Failure> {
    let (fleet, wanted) = match (words, by) {
        (words, Some(step)) => (words, Wanted::By(step)),
        ([fleet @ .., devices], None) => (fleet, wish(devices)?),
        ([], None) => {
            return Err(Failure::usage("expected a number of devices such as `simctl scale 500`, or --by, found none"));
        }
    };
    let mut names = fleets::names(fleet)?;
    match (names.pop(), names.is_empty()) {
        (fleet, true) => Ok((fleet, wanted)),
        _ => Err(Failure::usage(format!("expected one fleet and one number of devices, found `{}`", words.join(" ")))),
    }
}

/// `500`, or a step such as `+5`.
fn wish(text: &str) -> Result<Wanted, Failure> {
    if !text.starts_with(['+', '-']) {
        return count(text).map(Wanted::To);
    }
    let expected = || Failure::usage(format!("expected a step such as +5 or -5, found `{text}`"));
    text.parse().map(Wanted::By).map_err(|_| expected())
}

fn count(text: &str) -> Result<u32, Failure> {
    text.parse()
        .ok()
        .filter(|devices| *devices <= DEVICES_MAX)
        .ok_or_else(|| Failure::usage(format!("expected a number of devices from 0 to {DEVICES_MAX}, found `{text}`")))
}

impl Args {
    /// Scales, and waits until *connected* equals asked.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let (fleet, wanted) = parse(&self.words, self.by)?;
        match Target::find(&self.target, fleet.as_ref().map(|fleet| fleet.0.as_str()), printer).await? {
            Target::Local(remote) => self.scale_run(&remote, wanted, printer).await,
            Target::Cluster(cluster) => self.scale_fleet(&cluster, fleet.as_ref(), wanted, printer).await,
        }
    }

    async fn scale_fleet(
        self,
        cluster: &Cluster,
        name: Option<&FleetName>,
        wanted: Wanted,
        printer: Printer,
    ) -> anyhow::Result<ExitCode> {
        if self.over.is_some() {
            return Err(Failure::usage("expected --over with a run on this machine, found a cluster").into());
        }
        let fleet = cluster.fleet(name).await?;
        let name = fleet.name_any();
        let before = fleet.devices();
        let devices = wanted.from(before)?;
        cluster.scale(&name, devices, self.dry_run).await?;
        let document = fleet.document().ok();
        let expected = document
            .map_or(Span::ZERO, |document| document.spec.connect.rate.time_for(u64::from(before.abs_diff(devices))));
        printer.say(format_args!("fleet {name}: {}", growth(&fleet, before, devices, expected)));
        if self.dry_run.is_some() {
            printer.say("nothing was changed (dry run)");
            return Ok(ExitCode::Passed);
        }
        if !self.no_wait {
            let timeout = self.timeout.unwrap_or(Span(expected.0.saturating_add(PATIENCE_IN_CLUSTER.0)));
            cluster.until_connected(&name, devices, timeout, printer).await?;
        }
        Ok(ExitCode::Passed)
    }

    async fn scale_run(self, remote: &Remote, wanted: Wanted, printer: Printer) -> anyhow::Result<ExitCode> {
        if self.dry_run.is_some() {
            return Err(Failure::usage("expected --dry-run with a cluster, found a run on this machine").into());
        }
        let before = remote.report().await?.devices.desired;
        let devices = wanted.from(before)?;
        let plan = remote.change(&Change::Devices { devices, over: self.over }).await?;
        let expected = remote.connects_within(before.abs_diff(devices)).await?.max(self.over.unwrap_or_default());
        printer.say(format_args!(
            "fleet {}: {} now, {} then, in about {}",
            remote.fleet(),
            words::devices(before),
            words::count(devices.into()),
            words::time(expected.as_secs_f64())
        ));
        if self.no_wait {
            return Ok(ExitCode::Passed);
        }
        let timeout = self.timeout.unwrap_or(Span(expected.0.saturating_add(PATIENCE.0)));
        wait(remote, devices, plan.version, timeout, printer).await
    }
}

/// `100 devices in 1 pod now, 500 in 5 then, in about 2.00 s`.
fn growth(fleet: &Fleet, before: u32, devices: u32, expected: Span) -> String {
    let per_pod = fleet.document().map_or(1_000, |document| document.spec.devices_per_pod.max(1));
    let pods = |devices: u32| words::counted(devices.div_ceil(per_pod).into(), "pod", "pods");
    format!(
        "{} in {} now, {} in {} then, in about {}",
        words::devices(before),
        pods(before),
        words::count(devices.into()),
        pods(devices),
        words::time(expected.as_secs_f64())
    )
}

/// Waits until the run has as many devices as were asked for.
async fn wait(remote: &Remote, wanted: u32, version: u64, timeout: Span, printer: Printer) -> anyhow::Result<ExitCode> {
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
            current.version == version || current.devices_wanted() == wanted,
            "the fleet was scaled to {} meanwhile",
            words::count(current.devices_wanted().into())
        );
        let is_fresh = report.elapsed_seconds > before;
        if is_fresh && devices.connected == wanted && devices.desired == wanted {
            if let Some(mut screen) = screen.take() {
                screen.clear();
            }
            let took = words::time(started.elapsed().as_secs_f64());
            printer.say(format_args!("{} connected after {took}", words::devices(wanted)));
            return Ok(ExitCode::Passed);
        }
        let line = view::progress(devices.connected, wanted);
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
                words::devices(wanted),
                hindrances(&report)
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], by: Option<i64>, expected: Result<(Option<&str>, Wanted), &str>) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let found = parse(&words, by).map_err(|failure| failure.to_string());
        let expected = expected.map(|(fleet, wanted)| (fleet.map(|name| FleetName(name.into())), wanted));
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn a_number_alone_is_of_the_only_fleet() {
        check(&["500"], None, Ok((None, Wanted::To(500))));
        check(&[], Some(100), Ok((None, Wanted::By(100))));
        check(&["+5"], None, Ok((None, Wanted::By(5))));
        check(&["fleet/a", "-5"], None, Ok((Some("a"), Wanted::By(-5))));
    }

    #[test]
    fn a_fleet_is_named_as_kubectl_names_it() {
        for words in [&["fleet/a", "500"][..], &["fleet", "a", "500"], &["a", "500"]] {
            check(words, None, Ok((Some("a"), Wanted::To(500))));
        }
        check(&["fleet/a"], Some(-5), Ok((Some("a"), Wanted::By(-5))));
    }

    #[test]
    fn what_is_no_number_of_devices_is_said() {
        check(&["a", "many"], None, Err("expected a number of devices from 0 to 10000000, found `many`"));
        check(&["10000001"], None, Err("expected a number of devices from 0 to 10000000, found `10000001`"));
        check(&["+many"], None, Err("expected a step such as +5 or -5, found `+many`"));
        check(&[], None, Err("expected a number of devices such as `simctl scale 500`, or --by, found none"));
        check(&["a", "b", "5"], None, Err("expected one fleet and one number of devices, found `a b 5`"));
    }

    #[test]
    fn a_step_stays_within_what_can_be() {
        assert_eq!(Wanted::By(-100).from(500).unwrap(), 400);
        let failure = Wanted::By(-501).from(500).unwrap_err();
        assert_eq!(failure.to_string(), "expected 0 to 10000000 devices, found -1, which is -501 from 500");
        assert_eq!(Wanted::By(i64::MAX).from(500).unwrap_err().code, ExitCode::Usage);
    }

    #[test]
    fn growth_is_told_in_devices_and_pods() {
        let spec =
            serde_json::json!({"devices": 100, "devicesPerPod": 100, "groups": [{"name": "a", "model": "robotaxi"}]});
        let fleet = Fleet::new("a", spec.as_object().unwrap().clone());
        insta::assert_snapshot!(growth(&fleet, 100, 500, Span::from_secs(2)), @"100 devices in 1 pod now, 500 in 5 pods then, in about 2.00 s");
        insta::assert_snapshot!(growth(&fleet, 1, 0, Span::ZERO), @"1 device in 1 pod now, 0 in 0 pods then, in about 0 s");
    }
}
