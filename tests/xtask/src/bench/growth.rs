//! The same 10,000 messages a second from more and more devices: what a message and a device cost in a larger fleet.

use fleet_contract::units::Span;

use super::{
    lab::{Cost, Lab},
    load::Load,
    report::{Report, Table, one_line, thousands},
};

const DEVICES: [u32; 4] = [1_000, 10_000, 50_000, 100_000];
const MESSAGES_PER_SECOND: u32 = 10_000;

pub(super) fn measure(lab: &Lab, report: &mut Report) {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for devices in DEVICES {
        let interval = Span::from_millis(u64::from(devices) * 1_000 / u64::from(MESSAGES_PER_SECOND));
        // What a larger fleet needs (worker processes, ports, memory) a machine may lack; the smaller ones count.
        match lab.cost(&Load { connect_rate: 10_000, ..Load::of(devices, interval) }) {
            Ok(cost) => rows.push(row(devices, interval, &cost)),
            Err(error) => {
                let text = format!("{} devices were not measured: {error:#}", thousands(devices.into()));
                lab.say(&text);
                notes.push(one_line(&text));
            }
        }
    }
    report.table(Table {
        title: "10,000 messages a second, QoS 0, from more and more devices",
        columns: &[
            "devices",
            "interval",
            "CPU-s per million messages",
            "cores",
            "memory, MiB",
            "KiB a device, base included",
            "lag p99, ms",
        ],
        rows,
        notes,
    });
}

fn row(devices: u32, interval: Span, cost: &Cost) -> Vec<String> {
    let kib = cost.memory as f64 / 1024.0;
    vec![
        thousands(devices.into()),
        interval.to_string(),
        cost.to_string(),
        format!("{:.3}", cost.cores),
        format!("{:.1}", kib / 1024.0),
        format!("{:.2}", kib / f64::from(devices)),
        cost.lag_p99.map_or_else(String::new, |seconds| format!("{:.1}", seconds * 1e3)),
    ]
}
