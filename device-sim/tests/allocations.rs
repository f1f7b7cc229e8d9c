//! No message costs an allocation once buffers have grown.

use std::collections::BTreeMap;

use device_sim::{
    index::DeviceIndex,
    model::{Context, Model, Scratch},
};
use fleet_contract::{builtin, model::Files, stamp::Stamp, template::Template, time::Micros, units::Span};

const START: Micros = Micros(1_700_000_000_000_000);

fn compile(document: &str) -> Model {
    let document = serde_saphyr::from_str(document).expect("a document that reads");
    let (client_id, files) = (Template::default_client_id(), Files::new());
    let context = Context { fleet: "lab", group: "all", seed: 7, first_index: 0, client_id: &client_id, files: &files };
    Model::compile(&document, &BTreeMap::new(), &context).expect("a sound document")
}

/// Each stream of some devices at some instants: timetable, rule, topic and whose that is, payload.
fn send(models: &[Model], round: u64, scratch: &mut Scratch, out: &mut Vec<u8>) -> usize {
    let mut bytes = 0;
    for model in models {
        for device in (0..50).map(DeviceIndex::new) {
            for (index, stream) in model.indexed_streams() {
                let from = START.after(Span::from_secs(round * 7));
                let due = stream.due_at_or_after(device, START, stream.tick(), from);
                let stamp = Stamp { run: 1, epoch: START, seq: 3, due };
                out.clear();
                model.is_due(index, device, due, START, scratch);
                model.write_topic(index, device, out);
                let recognised = model.recognise(out);
                assert_eq!(recognised, Some((index, device)), "what its own observer makes of the topic");
                model.write_payload(index, device, START, &stamp, scratch, out);
                bytes += out.len();
            }
        }
    }
    bytes
}

const OTHERS: &str = r#"
signals:
  flow: {kind: noise, mean: 3, amplitude: 2, period: 1m}
  walk: {kind: randomWalk, step: 1, every: 1s, range: [0, 20]}
  recorded: {kind: replay, format: csv, text: "v\n1\n2\n4\n", column: v, interpolate: true}
  total: {kind: counter, of: flow}
  word: {kind: step, levels: [{value: a, hold: 1s}, {value: b, hold: 1s}]}
streams:
  cbor: {topic: "{index}/cbor", interval: 1s, size: 300B, payload: {cbor: {flow: "{flow}", who: "{id} {word}", uuid: "{uuid}", t: "{timestamp}"}}}
  text: {topic: "{index}/text", interval: 1s, payload: {text: "{walk} {recorded} {total} {stamp}"}}
  raw: {topic: "{index}/raw", interval: 1s, size: 64B, payload: {raw: [{hex: "01"}, {text: "{stamp}"}, {number: {value: "{flow}", as: i16be, scale: 10}}]}}
"#;

#[test]
fn messages_allocate_nothing_in_steady_state() {
    let mut models: Vec<Model> = builtin::ALL.iter().map(|builtin| compile(builtin.document)).collect();
    models.push(compile(OTHERS));
    let (mut scratch, mut out) = (Scratch::default(), Vec::with_capacity(4_096));
    // The first tick of a rule has none before it: only the second uses all of the scratch.
    send(&models, 0, &mut scratch, &mut out);
    send(&models, 1, &mut scratch, &mut out);
    let mut bytes = 0;
    let allocations = allocation_counter::measure(|| bytes = send(&models, 2, &mut scratch, &mut out));
    assert!(bytes > 100_000);
    assert_eq!(allocations.count_total, 0);
}
