//! 1,000 devices that send 10 messages a second each: simctl's engine beside rumqttc's client, and what observing adds.

use anyhow::Result;
use fleet_contract::units::Span;

use super::{
    interleaved,
    lab::{Cost, Lab},
    load::{Engine, Load, Observe},
    report::{Figure, Report, Target},
};

/// What the native engine may cost at most, beside rumqttc's, by QoS.
const RATIOS: [f64; 2] = [0.55, 0.65];
/// What a message may cost in user space at most, its model, payload and accounting included.
const USER_MOST: f64 = 1.5;

/// The load that other generators are held against, too.
pub(super) fn load(qos: u8) -> Load {
    Load { qos, ..Load::of(1_000, Span::from_millis(100)) }
}

pub(super) fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    for (qos, ratio) in (0..).zip(RATIOS) {
        let native = load(qos);
        let rumqttc = Load { engine: Engine::Rumqttc, ..native };
        let observed = Load { observe: Observe::All, ..native };
        let [native, rumqttc, observed] = interleaved(lab, [native, rumqttc, observed])?;
        report.figure(compared(qos, &native, &rumqttc, ratio));
        report.figure(in_user_space(qos, &native, &rumqttc));
        report.figure(observing(qos, &native, &observed));
    }
    Ok(())
}

fn compared(qos: u8, native: &Cost, rumqttc: &Cost, ratio: f64) -> Figure {
    Figure {
        what: format!("1,000 devices × 10 msg/s, QoS {qos}: CPU-s per million messages"),
        ours: native.to_string(),
        beside: format!("rumqttc's client: {rumqttc}"),
        value: native.total() / rumqttc.total(),
        target: Some(Target::RatioAtMost(ratio)),
    }
}

fn in_user_space(qos: u8, native: &Cost, rumqttc: &Cost) -> Figure {
    Figure {
        what: format!("the same, QoS {qos}: in user space"),
        ours: format!("{:.2}", native.user),
        beside: format!("rumqttc's client: {:.2}", rumqttc.user),
        value: native.user,
        target: Some(Target::AtMost(USER_MOST)),
    }
}

fn observing(qos: u8, native: &Cost, observed: &Cost) -> Figure {
    let added = observed.total() - native.total();
    Figure {
        what: format!("the same, QoS {qos}: what following each message to its delivery adds"),
        ours: format!("{added:+.1}"),
        beside: format!("with a sink that echoes: {observed}"),
        value: added,
        target: None,
    }
}
