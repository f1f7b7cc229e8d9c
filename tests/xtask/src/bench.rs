//! `cargo xtask bench`: what the generator costs, beside the same fleet on rumqttc's client.
//!
//! Generator and sink are processes of their own, each on its core; the sink only acknowledges. CPU time comes from
//! the kernel, summed over the generator's processes, over a window after a warm-up. Engines take turns, so that a
//! noisy neighbour hits both, and the median of the rounds counts. CPU seconds are what to trust on a shared machine;
//! wall time is not.

mod lab;
mod table;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use lab::{Cost, Engine, Lab, Load, Observe};
use table::{Row, Table, Target};

/// Devices and messages of the rows that compare engines.
const BUSY_DEVICES: u32 = 1_000;
/// As many as fit into one process with 20,000 open files.
const IDLE_DEVICES: u32 = 15_000;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Times that each engine is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    window: u64,
    /// Shows only that everything runs: one short round, whose figures are not to be trusted and fail nothing
    #[arg(long)]
    quick: bool,
}

/// Measures, prints the table, and fails when a target is missed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (rounds, warm_up, window) = if args.quick { (1, 1, 2) } else { (args.rounds, 5, args.window) };
    let lab = Lab::new(Duration::from_secs(warm_up), Duration::from_secs(window))?;
    let mut table = Table::new(lab.conditions()?);
    for qos in [0, 1] {
        let load =
            Load { devices: BUSY_DEVICES, interval: "100ms", qos, observe: Observe::None, engine: Engine::Native };
        let [native, rumqttc] = interleaved(&lab, rounds, [load, Load { engine: Engine::Rumqttc, ..load }])?;
        table.push(compared(qos, &native, &rumqttc));
        let [silent, observed] = interleaved(&lab, rounds, [load, Load { observe: Observe::All, ..load }])?;
        table.push(observing(qos, &silent, &observed));
    }
    let idle = lab.idle(IDLE_DEVICES)?;
    table.push(Row {
        what: format!("{IDLE_DEVICES} idle devices: memory of each over the base of {:.1} MiB, KiB", idle.base_mib),
        ours: format!("{:.2}", idle.kib_per_device),
        peer: String::new(),
        target: Some(Target::at_most(idle.kib_per_device, 2.0)),
    });
    table.push(Row {
        what: format!("{IDLE_DEVICES} devices connect: connects/s"),
        ours: format!("{:.0}", idle.connects_per_second),
        peer: String::new(),
        target: None,
    });
    print!("{}", table.render(&lab::load_average()?));
    let missed = table.has_missed() && !args.quick;
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Measures loads in turn, `rounds` times, and returns the median of each.
fn interleaved<const N: usize>(lab: &Lab, rounds: u32, loads: [Load; N]) -> Result<[Cost; N]> {
    let mut costs = [(); N].map(|()| Vec::new());
    for _ in 0..rounds {
        for (load, costs) in loads.iter().zip(&mut costs) {
            costs.push(lab.cost(*load)?);
        }
    }
    Ok(costs.map(median))
}

/// The cost in the middle by CPU time; of an even number the upper one.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|one, other| one.total().total_cmp(&other.total()));
    costs.swap_remove(costs.len() / 2)
}

fn compared(qos: u8, native: &Cost, rumqttc: &Cost) -> Row {
    let ratio = native.total() / rumqttc.total();
    Row {
        what: format!("{BUSY_DEVICES} devices × 10 msg/s, QoS {qos}: CPU-s per million messages (user + system)"),
        ours: native.to_string(),
        peer: rumqttc.to_string(),
        target: Some(Target::ratio_at_most(ratio, 0.7)),
    }
}

fn observing(qos: u8, silent: &Cost, observed: &Cost) -> Row {
    Row {
        what: format!("the same, QoS {qos}, all observed: CPU-s per million messages that observing adds"),
        ours: format!("{:+.1}: {observed}, not {silent}", observed.total() - silent.total()),
        peer: String::new(),
        target: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_by_total_time() {
        let cost = |user, system| Cost { user, system, messages_per_second: 0.0 };
        let found = median(vec![cost(9.0, 1.0), cost(0.0, 3.0), cost(5.0, 0.0)]);
        assert_eq!((found.user, found.system), (5.0, 0.0));
    }
}
