use fleet_contract::{
    model::{self as document, Files},
    time::Micros,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::signal::{Memo, Moment};

const START: Micros = Micros(1_700_000_000_000_000);
const STAMP: Stamp = Stamp { run: 42, epoch: START, seq: 7, due: Micros(1_700_000_001_234_567) };

const SIGNALS: &str = r#"
  temperature: {kind: constant, value: -3.456, decimals: 2}
  count: {kind: constant, value: 300}
  on: {kind: constant, value: true}
  mode: {kind: constant, value: "say \"hi\"\n"}
"#;

/// Writes a body of a document's payload for device 5, which goes by the number 105.
#[track_caller]
fn body(payload: &str, size: Option<usize>, has_stamp_field: bool) -> Vec<u8> {
    let text = format!("signals:{SIGNALS}\nstreams: {{s: {{topic: '{{id}}', interval: 1s, payload: {payload}}}}}");
    let model: document::Model = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let signals = Signals::compile(&model, 7, &Files::new()).unwrap();
    let names = Names { fleet: "lab \"1\"", group: "all", stream: "s", seed: 7, first: 100 };
    let client_id = Template::default_client_id();
    let context = Context { signals: &signals, names, client_id: &client_id, size, has_stamp_field };
    let program = Program::compile(&model.streams["s"].payload, &context).unwrap();
    let moment = Moment { device: DeviceIndex::new(5), start: START, now: STAMP.due };
    let mut out = b"before".to_vec();
    program.write(
        &Message { device: DeviceIndex::new(5), stamp: &STAMP, clock: STAMP.due },
        &mut signals.read(moment, &mut Memo::default()),
        &mut out,
    );
    out.split_off(6)
}

fn text(payload: &str) -> String {
    String::from_utf8(body(payload, None, false)).unwrap()
}

#[test]
fn json_keeps_types_and_escapes_texts() {
    let written = text(
        r#"{json: {"a\"b": "{temperature}", f: "{temperature:.0}", c: ["{count}", "{on}", null, {}], m: "{mode}",
            t: "{id}: {mode}", q: "{seq}", i: "{index}", w: "{index:05}", s: "{count:string}", b: "{{}}", e: "",
            at: "{timestamp}", ms: "{timestamp:ms}", g: "{fleet}/{group}/{stream}", n: -1.5e3}}"#,
    );
    insta::assert_snapshot!(written, @r#"{"a\"b":-3.46,"f":-3,"c":[300,true,null,{}],"m":"say \"hi\"\n","t":"lab \"1\"-105: say \"hi\"\n","q":7,"i":105,"w":"00105","s":"300","b":"{}","e":"","at":"2023-11-14T22:13:21.234Z","ms":1700000001234,"g":"lab \"1\"/all/s","n":-1500.0}"#);
    let json: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(json["m"], "say \"hi\"\n");
}

#[test]
fn text_and_raw_bodies_are_what_they_say() {
    assert_eq!(text(r#"{text: "t={temperature} {{x}} {mode}"}"#), "t=-3.46 {x} say \"hi\"\n");
    let stamped = body(
        r#"{raw: [{hex: "01 ff"}, {number: {value: "{temperature}", as: i16be, scale: 100}}, {number: {value: "{count}", as: u8}}, {number: {value: "{on}", as: u16le}}, {number: {value: "{seq}", as: u32be}}, {number: {value: "{index}", as: u8}}, {number: {value: "{temperature}", as: f64le}}, {text: "{stamp}"}]}"#,
        None,
        false,
    );
    let mut expected = vec![1, 0xff];
    expected.extend((-346i16).to_be_bytes());
    expected.extend([255, 1, 0, 0, 0, 0, 7, 105]);
    expected.extend((-3.456f64).to_le_bytes());
    assert_eq!(stamped[..expected.len()], expected);
    assert_eq!(Stamp::find(&stamped), Some(STAMP));
    assert_eq!(stamped.len(), expected.len() + LENGTH);
}

#[test]
fn cbor_reads_back_with_another_library() {
    let written = body(
        r#"{cbor: {t: "{temperature}", c: ["{count}", "{on}", null, {x: -700}], m: "{id} {mode}", i: "{index}", f: "{count:.1}", at: "{timestamp:ms}", d: 0.5, who: "plain", long: "{uuid}"}}"#,
        Some(300),
        true,
    );
    assert_eq!(written.len(), 300);
    assert_eq!(Stamp::find(&written), Some(STAMP));
    let value: serde_json::Value = ciborium::from_reader(written.as_slice()).unwrap();
    assert_eq!(value["t"], -3.46);
    assert_eq!(value["c"], json!([300, true, null, {"x": -700}]));
    assert_eq!((&value["m"], &value["i"]), (&json!("lab \"1\"-105 say \"hi\"\n"), &json!(105)));
    assert_eq!(value["f"], 300.0);
    assert_eq!(value["at"], 1_700_000_001_234u64);
    assert_eq!(value["long"].as_str().map(str::len), Some(36));
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys.last().unwrap().as_str(), "stamp");
}

#[test]
fn counters_are_found_in_json_and_cbor() {
    for payload in [r#"{json: {headerId: "{seq}"}}"#, r#"{cbor: {headerId: "{seq}"}}"#] {
        assert_eq!(fleet_contract::stamp::find_counter(&body(payload, None, false), "headerId"), Some(7));
    }
}

#[test]
fn an_empty_object_can_be_stamped_and_padded() {
    for (size, has_stamp_field) in [(None, true), (Some(100), true), (Some(100), false), (None, false)] {
        let written = body("{json: {}}", size, has_stamp_field);
        serde_json::from_slice::<serde_json::Value>(&written).unwrap();
        assert_eq!(Stamp::find(&written), has_stamp_field.then_some(STAMP));
        assert!(size.is_none_or(|size| written.len() == size));
    }
}

#[test]
fn instants_are_written_as_the_calendar_has_them() {
    let at = |micros| {
        let mut out = Vec::new();
        time::write(Micros(micros), TimeForm::Rfc3339, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(951_782_399_999_999), "2000-02-28T23:59:59.999Z");
    assert_eq!(at(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
}

proptest! {
    #[test]
    fn any_size_is_met_exactly_unless_the_body_is_larger(size in 60..400usize, kind in 0..4usize) {
        let payload = [
            r#"{json: {a: "{temperature}", b: "{mode}"}}"#,
            r#"{cbor: {a: "{temperature}", b: "{mode}"}}"#,
            r#"{text: "{temperature} {stamp}"}"#,
            r#"{raw: [{hex: "00"}, {text: "{stamp}"}]}"#,
        ][kind];
        let written = body(payload, Some(size), kind < 2);
        let natural = body(payload, None, kind < 2).len() + if kind == 1 { 7 } else { 0 };
        prop_assert_eq!(written.len(), size.max(natural));
        prop_assert_eq!(Stamp::find(&written), Some(STAMP));
        match kind {
            0 => drop(serde_json::from_slice::<serde_json::Value>(&written).unwrap()),
            1 => drop(ciborium::from_reader::<ciborium::Value, _>(written.as_slice()).unwrap()),
            _ => {}
        }
    }

    #[test]
    fn numbers_are_written_exactly_and_in_range(number in -1e6..1e6f64, decimals in 0..10u8, low in -1e3..0f64, high in 0.1..1e3f64) {
        let fixed = Fixed::new(decimals, [low, high]);
        let mut out = Vec::new();
        number::write(fixed.round(number), decimals, &mut out);
        let text = String::from_utf8(out).unwrap();
        let read: f64 = serde_json::from_str(&text).unwrap();
        let step = 0.1f64.powi(i32::from(decimals));
        let clamped = number.clamp(low, high);
        prop_assert!((read - clamped).abs() <= step * 1.0001, "{number} in [{low}, {high}] is written {text}");
        if (low / step).ceil() <= (high / step).floor() {
            prop_assert!(read >= low - 1e-9 && read <= high + 1e-9, "{text} is not in [{low}, {high}]");
        }
        prop_assert_eq!(text.split_once('.').map_or(0, |(_, digits)| digits.len()), usize::from(decimals));
        prop_assert!(!text.starts_with("-0") || read < 0.0);
    }

    #[test]
    fn instants_agree_with_a_calendar_library(micros in 0..250_000_000_000_000_000u64) {
        let mut out = Vec::new();
        time::write(Micros(micros), TimeForm::Rfc3339, &mut out);
        let timestamp = jiff::Timestamp::from_millisecond((micros / 1_000).cast_signed()).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{timestamp:.3}"));
    }
}
