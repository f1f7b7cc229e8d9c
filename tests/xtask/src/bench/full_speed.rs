//! 100 devices that are asked for more than a core can send: how many messages a second of CPU time makes.

use anyhow::Result;
use fleet_contract::units::Span;

use super::{
    interleaved,
    lab::{Cost, Lab},
    load::{Demand, Load, Model},
    report::{Figure, Report, Target, thousands},
};

/// Messages per second of CPU time that are wanted at least, by QoS.
const CONSTANT_LEAST: [f64; 2] = [1_500_000.0, 1_200_000.0];
const SENSOR_LEAST: f64 = 700_000.0;

/// Asks for several times what is wanted: four million messages a second of the constant body, two million of the
/// model's. That is near what the sink's core takes in, and enough to fill the writes; the figure is per second of CPU
/// time, so that a core which is not quite full does not change it.
pub(super) fn load(model: Model, devices: u32, qos: u8) -> Load {
    let messages_per_second = match model {
        Model::Constant => 4_000_000,
        Model::Sensor => 2_000_000,
    };
    let interval = Span((u64::from(devices) * 1_000_000 / messages_per_second).max(1));
    Load { model, qos, demand: Demand::Saturating, ..Load::of(devices, interval) }
}

pub(super) fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let constant = |qos| load(Model::Constant, 100, qos);
    let sensor = |qos| load(Model::Sensor, 100, qos);
    let costs = interleaved(lab, [constant(0), constant(1), sensor(0), sensor(1)])?;
    let names = ["constant, QoS 0", "constant, QoS 1", "made by a model, QoS 0", "made by a model, QoS 1"];
    let targets = [CONSTANT_LEAST[0], CONSTANT_LEAST[1], SENSOR_LEAST, SENSOR_LEAST];
    for ((name, cost), least) in names.into_iter().zip(&costs).zip(targets) {
        report.figure(figure(name, cost, least));
    }
    Ok(())
}

fn figure(name: &str, cost: &Cost, least: f64) -> Figure {
    let rate = cost.messages_per_cpu_second();
    let arrived = thousands(cost.messages_per_second);
    Figure {
        what: format!("100 devices at full speed, {name}: messages per second of CPU time"),
        ours: thousands(rate),
        beside: format!("{arrived} msg/s arrived, {:.2} cores, CPU-s per million {cost}", cost.cores),
        value: rate,
        target: Some(Target::AtLeast(least)),
    }
}
