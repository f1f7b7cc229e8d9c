//! 50,000 devices that send a message a second each, on one core, from as many processes as open files demand.

use anyhow::Result;
use fleet_contract::units::Span;

use super::{
    lab::Lab,
    load::Load,
    report::{Figure, Report, Target},
};

/// How late 99 of 100 messages may be at most, in milliseconds.
const LAG_MS_MOST: f64 = 50.0;

pub(super) fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    // The lag is that of the whole run, so the fleet comes as a large one does: not all at once.
    let load = Load { connect_rate: 5_000, ..Load::of(50_000, Span::from_secs(1)) };
    let cost = lab.cost(&load)?;
    let lag = cost.lag_p99.map_or(f64::NAN, |seconds| seconds * 1e3);
    report.figure(Figure {
        what: "50,000 devices × 1 msg/s, QoS 0: 99 of 100 messages are late by at most, ms".to_owned(),
        ours: format!("{lag:.1}"),
        beside: format!("{:.2} cores, CPU-s per million {cost}", cost.cores),
        value: lag,
        target: Some(Target::AtMost(LAG_MS_MOST)),
    });
    Ok(())
}
