//! JSON objects, compact.

use fleet_contract::{
    model::{
        Problem,
        payload::{Slot, TextPiece, pointer_token},
    },
    stamp::JSON_FIELD,
};
use serde_json::{Map, Value};

use super::{Builder, Context, Padding, Piece, Program, Source};

/// Compiles an object.
pub(super) fn compile(members: &Map<String, Value>, context: &Context<'_>) -> Result<Program, Vec<Problem>> {
    let mut builder = Builder::new(context);
    builder.literal(b"{");
    object_members(&mut builder, members, "/json");
    let head = builder.take_head();
    if context.has_stamp_field {
        let comma = if members.is_empty() { "" } else { "," };
        builder.literal(format!("{comma}\"{JSON_FIELD}\":\"").as_bytes());
        builder.pieces.push(Piece::Stamp);
        builder.literal(b"\"");
    }
    builder.literal(b"}");
    builder.finish(head, if members.is_empty() { Padding::Blanks } else { Padding::Json }, escape)
}

fn object_members(builder: &mut Builder<'_>, members: &Map<String, Value>, path: &str) {
    for (number, (name, member)) in members.iter().enumerate() {
        builder.literal(if number == 0 { b"\"" } else { b",\"" });
        builder.literal(&escape(name));
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
    let source = match pieces.as_slice() {
        [TextPiece::Slot(slot)] if is_typed(slot) => builder.source(slot, path),
        _ => None,
    };
    match source {
        Some(source) if !is_text(builder, source) => builder.pieces.push(Piece::Text(source)),
        _ => {
            builder.literal(b"\"");
            builder.text(&pieces, path, escape);
            builder.literal(b"\"");
        }
    }
}

/// Whether a placeholder on its own keeps the type of its value.
pub(super) fn is_typed(slot: &Slot<'_>) -> bool {
    !matches!(slot, Slot::Signal { is_string: true, .. })
}

/// Whether the value is a text, which needs quotes.
pub(super) fn is_text(builder: &Builder<'_>, source: Source) -> bool {
    use fleet_contract::{expression::Type, model::payload::TimeForm};
    match source {
        Source::Signal { index, .. } => builder.context.signals.type_of(index) == Type::Text,
        Source::Timestamp(form) => form == TimeForm::Rfc3339,
        Source::Sequence | Source::Index => false,
    }
}

/// A text as it stands between quotes.
fn escape(text: &str) -> Vec<u8> {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].into()
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
