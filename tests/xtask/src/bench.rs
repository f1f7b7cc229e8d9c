//! `cargo xtask bench`: what the generator costs, beside rumqttc's client and beside other generators.
//!
//! Generator and sink are processes of their own, each on its core; the sink only acknowledges. CPU time comes from
//! the kernel, summed over the generator's processes, over a window after a warm-up. What is compared takes turns, so
//! that a noisy neighbour hits both, and the median of the rounds counts. CPU seconds are what to trust on a shared
//! machine; wall time is not.

mod full_speed;
mod growth;
mod idle;
mod lab;
mod large;
mod load;
mod peers;
mod report;
mod steady;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;

use lab::{Cost, Lab, Timing};
use load::Load;
use report::Report;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: everything]
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Times that each load is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    window: u64,
    /// Shows only that everything runs: one short round, whose figures are not to be trusted and fail nothing
    #[arg(long)]
    quick: bool,
    /// Write the tables into this file, too, as a page of their own
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// A group of rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// 1,000 devices that send 10 messages a second each
    Steady,
    /// 100 devices that fill a core
    FullSpeed,
    /// Devices that only stay connected, plain and over TLS, and how fast they connect
    Idle,
    /// 50,000 devices that send a message a second each
    Large,
    /// Other generators at the same load
    Peers,
    /// 10,000 messages a second from 1,000 to 100,000 devices
    Growth,
}

const ALL: [Part; 6] = [Part::Steady, Part::FullSpeed, Part::Idle, Part::Large, Part::Peers, Part::Growth];

/// Measures, prints the tables, and fails when a target is missed or something could not be measured.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let timing = if args.quick {
        Timing { rounds: 1, warm_up: Duration::from_secs(1), window: Duration::from_secs(2) }
    } else {
        Timing { rounds: args.rounds, warm_up: Duration::from_secs(3), window: Duration::from_secs(args.window) }
    };
    let lab = Lab::new(timing)?;
    let mut report = Report::new(lab.conditions()?);
    let parts = if args.parts.is_empty() { &ALL[..] } else { &args.parts };
    for &part in parts {
        // What cannot be measured must not cost what was.
        if let Err(error) = part.measure(&lab, &mut report) {
            let text = format!("{} was not measured: {error:#}", part.name());
            lab.say(&text);
            report.failed(report::one_line(&text));
        }
    }
    let text = report.render(&lab::load_average()?, lab.elapsed());
    print!("\n{text}");
    if let Some(file) = &args.markdown {
        fs::write(file, &text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let passed = report.has_passed() || args.quick;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Part {
    /// As it is called on the command line.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn measure(self, lab: &Lab, report: &mut Report) -> Result<()> {
        match self {
            Part::Steady => steady::measure(lab, report),
            Part::FullSpeed => full_speed::measure(lab, report),
            Part::Idle => idle::measure(lab, report),
            Part::Large => large::measure(lab, report),
            Part::Peers => {
                peers::measure(lab, report);
                Ok(())
            }
            Part::Growth => {
                growth::measure(lab, report);
                Ok(())
            }
        }
    }
}

/// Measures loads in turn, as often as there are rounds, and returns the median of each.
fn interleaved<const N: usize>(lab: &Lab, loads: [Load; N]) -> Result<[Cost; N]> {
    let mut costs = [(); N].map(|()| Vec::new());
    for _ in 0..lab.rounds() {
        for (load, costs) in loads.iter().zip(&mut costs) {
            costs.push(lab.cost(load)?);
        }
    }
    Ok(costs.map(median))
}

/// The cost in the middle by CPU time; of an even number the upper one.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|one, other| one.total().total_cmp(&other.total()));
    costs.swap_remove(costs.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_by_total_time() {
        let cost = |user, system| Cost { user, system, ..Cost::default() };
        let found = median(vec![cost(9.0, 1.0), cost(0.0, 3.0), cost(5.0, 0.0)]);
        assert_eq!((found.user, found.system), (5.0, 0.0));
    }
}
