//! `simctl assignment`: what workers without a controller read, such as those of Docker Compose.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use device_sim::clock::Clock;
use fleet_contract::{plan::Plan, time::Micros, units::Span};
use load_controller::run::verdict::ExitCode;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::sample::instant;
use crate::{exit::Failure, flags::FleetFlags, printer::Printer, settings::Settings};

const EXAMPLES: &str = "\
Examples:
  simctl assignment -f fleet.yaml --directory /etc/simctl
  device-sim --assignment /etc/simctl/assignment.json --plan /etc/simctl/plan.json --ordinal 0
  simctl assignment -f fleet.yaml --directory /etc/simctl --devices 500     while workers run";

/// How far ahead a change takes effect: longer than a worker takes to see that its plan has changed.
const LEAD: Span = Span::from_secs(15);

/// Write what workers without a controller read
///
/// Writes `assignment.json`, the document with its models and files, and `plan.json`. A plan that is there already goes
/// on: it gets a new version with the devices, intervals and pause that have changed, and running workers follow it
/// within seconds. What else has changed takes effect when workers start again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// Where the two files are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// What the timetable of a new plan counts from (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", env = "SIMCTL_START", value_parser = instant)]
    start: Option<Micros>,
}

impl Args {
    /// Writes the files.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let settings = Settings::new(&self.fleet)?;
        let fleet = settings.fleet();
        if fleet.spec.broker.is_none() {
            return Err(Failure::usage("expected `broker:` in the document or --broker: workers bring none").into());
        }
        let now = Clock::new().now();
        let path = self.directory.join("plan.json");
        let plan = if let Ok(text) = fs::read_to_string(&path) {
            let mut plan: Plan =
                serde_json::from_str(&text).with_context(|| format!("expected a plan in {}", path.display()))?;
            plan.follow(now.after(LEAD), &fleet.spec);
            plan
        } else {
            let start = self.start.unwrap_or(now);
            Plan::of(run(&fleet.metadata.name, start), start, &fleet.spec)
        };
        let document = json!({"fleet": fleet, "files": settings.document.files});
        for (name, text) in [
            ("assignment.json", serde_json::to_string_pretty(&document)?),
            ("plan.json", serde_json::to_string_pretty(&plan)?),
        ] {
            let path = self.directory.join(name);
            fs::write(&path, text + "\n").with_context(|| format!("failed to write {}", path.display()))?;
            printer.say(format_args!("{}", path.display()));
        }
        let (devices, each) = (fleet.spec.devices, fleet.spec.devices_per_pod);
        printer.say(format_args!(
            "plan version {}: {devices} devices, for workers of the ordinals 0 to {}",
            plan.version,
            devices.div_ceil(each).saturating_sub(1)
        ));
        Ok(ExitCode::Passed)
    }
}

/// Tells the messages of this run from those of another fleet or another start; the same whoever computes it.
fn run(fleet: &str, start: Micros) -> u32 {
    let [a, b, c, d, ..] = Sha256::digest(format!("{fleet} {start}")).0;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_by_its_fleet_and_its_start() {
        assert_eq!(run("a", Micros(1)), run("a", Micros(1)));
        assert_ne!(run("a", Micros(1)), run("b", Micros(1)));
        assert_ne!(run("a", Micros(1)), run("a", Micros(2)));
    }
}
