//! `simctl plan`: what a fleet will take, and whether this machine and the broker can, without starting it.

use std::fmt::Write as _;

use load_controller::{report::words, verdict::ExitCode};
use serde::Serialize;

use crate::{
    args::FleetFlags,
    estimate::Estimate,
    local::split::devices_per_process,
    preflight::{self, Check, Outcome, Target, machine::Machine},
    printer::{Format, Palette, Printer, Tone, columns},
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  simctl plan -f fleet.yaml
  simctl plan --model robotaxi --devices 5000 --broker mqtt://broker.example
  simctl plan -f fleet.yaml --offline -o json";

/// Show what a fleet will take, and run the pre-flight
///
/// Expected messages, bytes, CPU, memory, ports and worker processes; then whether this machine allows it and the
/// broker answers. Nothing is started. The exit code is 1 if the run would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// Do not ask the broker
    #[arg(long)]
    offline: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Plan {
    #[serde(flatten)]
    estimate: Estimate,
    preflight: Vec<Check>,
}

impl Args {
    /// Prints estimate and pre-flight.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let settings = Settings::new(&self.fleet)?;
        let machine = Machine::read()?;
        let estimate = Estimate::new(&settings.document, devices_per_process(machine.open_files))?;
        let target = settings.broker().map_or(Target::Embedded, Target::At);
        let mut preflight = preflight::check(&estimate, &machine, target);
        if let (Target::At(url), false) = (target, self.offline) {
            preflight.push(preflight::broker::check(settings.fleet(), url).await);
        }
        let is_possible = preflight.iter().all(|check| check.outcome != Outcome::Failed);
        let plan = Plan { estimate, preflight };
        printer.value(self.output, &plan, || table(&plan, printer.palette()))?;
        Ok(if is_possible { ExitCode::Passed } else { ExitCode::Other })
    }
}

fn table(plan: &Plan, palette: Palette) -> String {
    let Plan { estimate, preflight } = plan;
    let mut rows = vec![
        ["GROUP", "MODEL", "DEVICES", "STREAM", "QOS", "INTERVAL", "MSG/S", "BYTES EACH"].map(String::from).to_vec(),
    ];
    for group in &estimate.groups {
        for (position, stream) in group.streams.iter().enumerate() {
            let first = |text: String| if position == 0 { text } else { String::new() };
            rows.push(vec![
                first(group.name.clone()),
                first(group.model.clone()),
                first(words::count(group.devices.into())),
                stream.name.clone(),
                stream.qos.to_string(),
                stream.interval_seconds.map_or_else(|| "by rule".into(), words::time),
                words::number(stream.messages_per_second),
                words::number(stream.message_bytes),
            ]);
        }
    }
    let mut text = columns(palette, &[2, 4, 5, 6, 7], &rows);
    let label = |name: &str| palette.paint(Tone::Faint, format_args!("{name:<16}")).to_string();
    let facts = [
        (
            "devices",
            format!(
                "{}, all connected after {}",
                words::count(estimate.devices.into()),
                words::time(estimate.connect_seconds)
            ),
        ),
        ("messages", format!("{}/s", words::number(estimate.messages_per_second))),
        ("bytes", format!("{}/s", words::bytes(estimate.bytes_per_second))),
        ("cpu", format!("about {:.2} cores", estimate.cpu_cores)),
        ("memory", format!("about {}, sockets of the kernel included", words::bytes(estimate.memory_bytes as f64))),
        ("ports", words::count(estimate.ports)),
        ("workers", words::counted(estimate.workers.into(), "process", "processes")),
    ];
    text.push('\n');
    for (name, fact) in facts {
        let _ = writeln!(text, "{} {fact}", label(name));
    }
    let _ = write!(text, "\n{}\n", palette.paint(Tone::Strong, "pre-flight"));
    for check in preflight {
        text.push_str(&line(check, palette, &label(check.name)));
    }
    text
}

/// A check as one line, and a second one with its remedy.
fn line(check: &Check, palette: Palette, label: &str) -> String {
    let outcome = match check.outcome {
        Outcome::Ok => palette.paint(Tone::Good, "ok     "),
        Outcome::Warning => palette.paint(Tone::Warning, "warning"),
        Outcome::Failed => palette.paint(Tone::Bad, "failed "),
    };
    let remedy = check.remedy.as_ref().map(|remedy| format!("\n{:25}remedy: {remedy}", "")).unwrap_or_default();
    format!("{label} {outcome} {}{remedy}\n", check.found)
}
