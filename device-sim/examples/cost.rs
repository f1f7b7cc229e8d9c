//! What a message costs: `cargo run --release -p device-sim --example cost` prints nanoseconds per message of each stream of
//! the built-in models, for timetable, rule, topic and payload together.

#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use anyhow::Context as _;
use device_sim::{
    index::{DeviceIndex, StreamIndex},
    model::{Context, Model, Scratch},
};
use fleet_contract::{builtin, model::Files, stamp::Stamp, template::Template, time::Micros, units::Span};

const START: Micros = Micros(1_700_000_000_000_000);
const MESSAGES: u32 = 200_000;
const DEVICES: u32 = 1_000;

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> anyhow::Result<()> {
    for builtin in builtin::ALL {
        let document = serde_saphyr::from_str(builtin.document).context(builtin.name)?;
        let (client_id, files) = (Template::default_client_id(), Files::new());
        let context =
            Context { fleet: "lab", group: "all", seed: 7, first_index: 0, client_id: &client_id, files: &files };
        let model = Model::compile(&document, &BTreeMap::new(), &context)
            .map_err(|problems| anyhow::anyhow!("{}: {problems:?}", builtin.name))?;
        for (index, stream) in model.indexed_streams() {
            let mut runs: Vec<(f64, usize)> = (0..5).map(|_| measure(&model, index)).collect();
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (nanoseconds, length) = runs[runs.len() / 2];
            println!("{:<14} {:<10} {length:>4} B {nanoseconds:>7.0} ns", builtin.name, stream.name());
        }
    }
    Ok(())
}

/// Nanoseconds per message, and the mean length of topic and payload.
fn measure(model: &Model, index: StreamIndex) -> (f64, usize) {
    let stream = model.stream(index);
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let mut bytes = 0;
    let begin = Instant::now();
    for number in 0..MESSAGES {
        let device = DeviceIndex::new(number % DEVICES);
        let from = START.after(Span(u64::from(number / DEVICES) * stream.tick().0));
        let due = stream.due_at_or_after(device, START, stream.tick(), from);
        let stamp = Stamp { run: 1, epoch: START, seq: number, due };
        out.clear();
        black_box(model.is_due(index, device, due, START, &mut scratch));
        model.write_topic(index, device, &mut out);
        model.write_payload(index, device, START, &stamp, &mut scratch, &mut out);
        bytes += black_box(&out).len();
    }
    (begin.elapsed().as_nanos() as f64 / f64::from(MESSAGES), bytes / MESSAGES as usize)
}
