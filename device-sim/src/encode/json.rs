//! JSON objects, compact.

use fleet_contract::{model::payload::pointer_token, stamp::JSON_FIELD};
use serde_json::{Map, Value};

use super::{Builder, Format, Padding, Piece};

pub(super) struct Json;

impl Format for Json {
    type Document = Map<String, Value>;

    const PATH: &'static str = "/json";

    fn compile(members: &Map<String, Value>, builder: &mut Builder<'_>) {
        builder.literal(b"{");
        object_members(builder, members, Self::PATH);
    }

    fn close(members: &Map<String, Value>, builder: &mut Builder<'_>) {
        if builder.context.has_stamp_field {
            let comma = if members.is_empty() { "" } else { "," };
            builder.literal(format!("{comma}\"{JSON_FIELD}\":\"").as_bytes());
            builder.pieces.push(Piece::Stamp);
            builder.literal(b"\"");
        }
        builder.literal(b"}");
    }

    fn padding(members: &Map<String, Value>) -> Padding {
        if members.is_empty() { Padding::Blanks } else { Padding::Json }
    }

    /// As it stands between quotes.
    fn escape(text: &str) -> Vec<u8> {
        let quoted = Value::from(text).to_string();
        quoted[1..quoted.len() - 1].into()
    }
}

fn object_members(builder: &mut Builder<'_>, members: &Map<String, Value>, path: &str) {
    for (number, (name, member)) in members.iter().enumerate() {
        builder.literal(if number == 0 { b"\"" } else { b",\"" });
        builder.escaped(name);
        builder.literal(b"\":");
        value(builder, member, &format!("{path}/{}", pointer_token(name)));
    }
}

fn value(builder: &mut Builder<'_>, value_: &Value, path: &str) {
    match value_ {
        Value::Object(members) => {
            builder.literal(b"{");
            object_members(builder, members, path);
            builder.literal(b"}");
        }
        Value::Array(elements) => {
            builder.literal(b"[");
            for (number, element) in elements.iter().enumerate() {
                builder.literal(if number == 0 { b"" } else { b"," });
                value(builder, element, &format!("{path}/{number}"));
            }
            builder.literal(b"]");
        }
        Value::String(text) => string(builder, text, path),
        literal => builder.literal(literal.to_string().as_bytes()),
    }
}

/// A text that is one placeholder takes that value's type.
fn string(builder: &mut Builder<'_>, text: &str, path: &str) {
    let pieces = builder.split(text, path);
    if let Some(source) = builder.typed_source(&pieces, path) {
        builder.pieces.push(Piece::Text(source));
    } else {
        builder.literal(b"\"");
        builder.text(&pieces, path);
        builder.literal(b"\"");
    }
}

/// Fills up after at least one member: `,"pad":"xxx"`, or blanks when fewer bytes are missing than that takes.
pub(super) fn pad(missing: usize, out: &mut Vec<u8>) {
    const OPEN: &[u8] = br#","pad":""#;
    match missing.checked_sub(OPEN.len() + 1) {
        None => out.resize(out.len() + missing, b' '),
        Some(filling) => {
            out.extend_from_slice(OPEN);
            out.resize(out.len() + filling, b'x');
            out.push(b'"');
        }
    }
}
