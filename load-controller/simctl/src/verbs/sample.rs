//! `simctl sample`: what devices would send, as JSON lines, without a broker.

use device_sim::sample;
use fleet_contract::{
    fleet::Protocol,
    model::payload::{Format, hex},
    time::Micros,
    units::Span,
};
use load_controller::run::verdict::ExitCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    cbor,
    estimate::{compile, membership},
    exit::Failure,
    flags::FleetFlags,
    printer::Printer,
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  simctl sample --model robotaxi --devices 2 --duration 10s
  simctl sample -f fleet.yaml --devices 100 --duration 1m | wc -l
  simctl sample --model smart-meter --devices 1 --start 2026-06-21T12:00:00Z | jq .payload";

/// Print what devices would send, as JSON lines
///
/// One object a message with `due`, `device`, `topic`, `qos`, `retain` and `payload`, where the fleet speaks MQTT 5
/// with `properties`, and of a body in CBOR with `decoded`. The same seed, document and start give the same lines.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// How much of the timetable
    #[arg(long, value_name = "TIME", env = "SIMCTL_DURATION", default_value = "10s")]
    duration: Span,
    /// The start of the run (RFC 3339)
    #[arg(long, value_name = "TIME", env = "SIMCTL_START", default_value = "2026-01-01T12:00:00Z", value_parser = instant)]
    start: Micros,
}

/// A message that a device would send: a line of the output.
#[derive(JsonSchema, Serialize)]
#[serde(rename = "Sample")]
pub(super) struct Line<'a> {
    /// When it falls due (RFC 3339).
    due: String,
    /// The index of its device.
    device: u32,
    topic: &'a str,
    /// Its quality of service.
    qos: u8,
    /// Whether the broker would keep it.
    retain: bool,
    /// In MQTT 5 only, where a message may still have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
    /// The body: JSON as JSON, text as text, CBOR and raw bytes in hexadecimal.
    payload: Value,
    /// What a body in CBOR says, as the JSON that it corresponds to; none where a fault has spoilt it.
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Value>,
}

/// What a message has of the properties of MQTT 5, by the names that documents have for them.
#[derive(JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    /// What the body is.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// For how long the message is worth delivering, such as `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<String>,
    /// Where an answer goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<&'a str>,
    /// What an answer refers to: text as text, anything else in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    /// Properties of one's own, the stamp among them if it is one.
    #[serde(skip_serializing_if = "Map::is_empty")]
    user: Map<String, Value>,
}

impl Args {
    /// Prints the messages of all devices in the order of their due times.
    pub(super) fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let mut fleet = self.fleet;
        // Two devices show a model better than a hundred do.
        if fleet.file.is_none() {
            fleet.devices = fleet.devices.or(Some(2.into()));
        }
        let settings = Settings::new(&fleet)?;
        let spec = &settings.fleet().spec;
        let membership = membership(settings.fleet())?;
        let models = (0..spec.groups.len())
            .map(|position| compile(&settings.document, position))
            .collect::<Result<Vec<_>, Failure>>()?;
        // The samples of a device come in order; those of many are merged by always taking the earliest.
        let mut devices: Vec<_> = (0..spec.devices)
            .map(|index| {
                sample::sample(&models[membership.group_of(index)], index..index + 1, self.start, self.duration)
                    .peekable()
            })
            .collect();
        let mut queue: std::collections::BinaryHeap<_> = devices
            .iter_mut()
            .enumerate()
            .filter_map(|(index, samples)| samples.peek().map(|sample| std::cmp::Reverse((sample.due, index))))
            .collect();
        while let Some(std::cmp::Reverse((_, index))) = queue.pop() {
            let samples = &mut devices[index];
            if let Some(sample) = samples.next() {
                printer.data(serde_json::to_string(&Line::new(&sample, spec.protocol()))?)?;
            }
            if let Some(next) = samples.peek() {
                queue.push(std::cmp::Reverse((next.due, index)));
            }
        }
        Ok(ExitCode::Passed)
    }
}

impl<'a> Line<'a> {
    fn new(sample: &'a sample::Sample, protocol: Protocol) -> Self {
        Self {
            due: sample.due.to_string(),
            device: sample.device.number(),
            topic: &sample.topic,
            qos: sample.qos.into(),
            retain: sample.is_retained,
            properties: (protocol == Protocol::V5).then(|| Properties::new(&sample.properties)),
            payload: payload(sample.format, &sample.payload),
            decoded: (sample.format == Format::Cbor).then(|| cbor::decode(&sample.payload)).flatten(),
        }
    }
}

/// The body as it is best read: JSON as JSON, text as text, CBOR and raw bytes in hexadecimal, whatever they look like.
fn payload(format: Format, body: &[u8]) -> Value {
    match format {
        Format::Json | Format::Text => serde_json::from_slice(body).unwrap_or_else(|_| text(body).into()),
        Format::Cbor | Format::Raw => hex(body).into(),
    }
}

/// Text as it is, anything else in hexadecimal.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => hex(bytes),
    }
}

impl<'a> Properties<'a> {
    fn new(properties: &'a sample::Properties) -> Self {
        // Destructured, so that a new property cannot be forgotten.
        let sample::Properties { content_type, expiry, response_topic, correlation_data, user } = properties;
        Self {
            content_type: content_type.as_deref(),
            expiry: expiry.map(|expiry| expiry.to_string()),
            response_topic: response_topic.as_deref(),
            correlation_data: correlation_data.as_deref().map(text),
            user: user.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
        }
    }
}

/// An instant in RFC 3339.
pub(super) fn instant(text: &str) -> Result<Micros, String> {
    let wrong = || format!("expected an instant such as `2026-01-01T12:00:00Z`, found `{text}`");
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(timestamp.as_microsecond()).map(Micros).map_err(|_| wrong())
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_shown_as_what_they_are() {
        assert_eq!(payload(Format::Json, br#"{"a": 1}"#), serde_json::json!({"a": 1}));
        assert_eq!(payload(Format::Text, b"21.5 C"), serde_json::json!("21.5 C"));
        assert_eq!(payload(Format::Text, &[0xff, 1]), serde_json::json!("ff01"));
        // Digits, and so JSON and text by accident.
        assert_eq!(payload(Format::Raw, b"42"), serde_json::json!("3432"));
        assert_eq!(payload(Format::Cbor, b"42"), serde_json::json!("3432"));
    }

    #[test]
    fn properties_have_the_names_of_documents_and_only_those_that_a_message_has() {
        let some = sample::Properties {
            content_type: Some("text/plain".into()),
            expiry: Some(Span::from_secs(60)),
            response_topic: Some("lab/7/answer".into()),
            correlation_data: Some(b"lab-7".into()),
            user: vec![("site".into(), "north".into())],
        };
        let shown = serde_json::to_string(&Properties::new(&some)).unwrap();
        let expected = r#"{"contentType":"text/plain","expiry":"1m","responseTopic":"lab/7/answer","correlationData":"lab-7","user":{"site":"north"}}"#;
        assert_eq!(shown, expected);
        let none = sample::Properties::default();
        assert_eq!(serde_json::to_string(&Properties::new(&none)).unwrap(), "{}");
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(instant("1970-01-01T00:00:01Z"), Ok(Micros(1_000_000)));
        assert!(instant("noon").is_err() && instant("1960-01-01T00:00:00Z").is_err());
    }
}
