//! CBOR (RFC 8949): a map, with definite lengths.

use fleet_contract::{
    model::payload::{TextPiece, pointer_token},
    stamp::{JSON_FIELD, LENGTH},
};
use serde_json::{Map, Value};

use super::{Builder, Format, Padding, Piece, number::power};

/// Major types, in the high bits of an item's first byte.
pub(super) const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
/// Where an item's argument is, in the low bits of its first byte.
const ONE_BYTE: u8 = 0x18;
const TWO_BYTES: u8 = 0x19;
const FOUR_BYTES: u8 = 0x1a;
const EIGHT_BYTES: u8 = 0x1b;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const DOUBLE: u8 = 0xfb;

/// The entry that fills up: its key, and the head of a text with its length in two bytes.
const PAD_KEY: &[u8] = b"\x63pad\x79";

pub(super) struct Cbor;

impl Format for Cbor {
    type Document = Map<String, Value>;

    const PATH: &'static str = "/cbor";

    fn compile(entries: &Map<String, Value>, builder: &mut Builder<'_>) {
        let context = builder.context;
        let count = entries.len() + usize::from(context.size.is_some()) + usize::from(context.has_stamp_field);
        head(builder, MAP, count);
        map_entries(builder, entries, Self::PATH);
    }

    fn close(_entries: &Map<String, Value>, builder: &mut Builder<'_>) {
        if builder.context.has_stamp_field {
            literal_text(builder, JSON_FIELD);
            head(builder, TEXT, LENGTH);
            builder.pieces.push(Piece::Stamp);
        }
    }

    fn padding(_entries: &Map<String, Value>) -> Padding {
        Padding::Cbor
    }
}

fn map_entries(builder: &mut Builder<'_>, entries: &Map<String, Value>, path: &str) {
    for (key, entry) in entries {
        literal_text(builder, key);
        value(builder, entry, &format!("{path}/{}", pointer_token(key)));
    }
}

fn value(builder: &mut Builder<'_>, value_: &Value, path: &str) {
    match value_ {
        Value::Object(entries) => {
            head(builder, MAP, entries.len());
            map_entries(builder, entries, path);
        }
        Value::Array(elements) => {
            head(builder, ARRAY, elements.len());
            for (number, element) in elements.iter().enumerate() {
                value(builder, element, &format!("{path}/{number}"));
            }
        }
        Value::String(text) => string(builder, text, path),
        Value::Null => builder.literal(&[NULL]),
        Value::Bool(truth) => builder.literal(&[if *truth { TRUE } else { FALSE }]),
        Value::Number(number) => {
            let mut item = Vec::new();
            match (number.as_i64(), number.as_u64()) {
                (Some(whole), _) => write_number(whole, 0, &mut item),
                (None, Some(whole)) => write_head(UNSIGNED, whole, &mut item),
                (None, None) => write_double(number.as_f64().unwrap_or_default(), &mut item),
            }
            builder.literal(&item);
        }
    }
}

/// A text that is one placeholder takes that value's type.
fn string(builder: &mut Builder<'_>, text: &str, path: &str) {
    let pieces = builder.split(text, path);
    match pieces.as_slice() {
        [] => literal_text(builder, ""),
        [TextPiece::Literal(text)] => literal_text(builder, text),
        pieces => match builder.typed_source(pieces, path) {
            Some(source) => builder.pieces.push(Piece::Cbor(source)),
            None => mixed_text(builder, pieces, path),
        },
    }
}

/// A text whose length is known only when it is written.
fn mixed_text(builder: &mut Builder<'_>, pieces: &[TextPiece<'_>], path: &str) {
    let begin = builder.pieces.len();
    builder.pieces.push(Piece::CborText { pieces: 0 });
    builder.text(pieces, path);
    let count = builder.pieces.len() - begin - 1;
    builder.pieces[begin] = Piece::CborText { pieces: u32::try_from(count).unwrap_or(u32::MAX) };
    builder.seal();
}

fn literal_text(builder: &mut Builder<'_>, text: &str) {
    head(builder, TEXT, text.len());
    builder.literal(text.as_bytes());
}

fn head(builder: &mut Builder<'_>, major: u8, length: usize) {
    let mut item = Vec::new();
    write_head(major, length as u64, &mut item);
    builder.literal(&item);
}

/// Writes an item's head: the shortest form.
pub(super) fn write_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend_from_slice(&[major | ONE_BYTE, bytes[7]]),
        0x100..0x1_0000 => out.extend_from_slice(&[major | TWO_BYTES, bytes[6], bytes[7]]),
        0x1_0000..0x1_0000_0000 => {
            out.push(major | FOUR_BYTES);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | EIGHT_BYTES);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Writes `scaled` / 10^`decimals`: a whole number where there are no decimals, else a double.
pub(super) fn write_number(scaled: i64, decimals: u8, out: &mut Vec<u8>) {
    match decimals {
        0 if scaled < 0 => write_head(NEGATIVE, !scaled.cast_unsigned(), out),
        0 => write_head(UNSIGNED, scaled.cast_unsigned(), out),
        _ => write_double(scaled as f64 / power(decimals) as f64, out),
    }
}

fn write_double(number: f64, out: &mut Vec<u8>) {
    out.push(DOUBLE);
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn write_bool(truth: bool, out: &mut Vec<u8>) {
    out.push(if truth { TRUE } else { FALSE });
}

/// Writes a text of a length that is known afterwards; the head is put in front of it then.
pub(super) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    write(out);
    let length = out.len() - begin;
    write_head(TEXT, length as u64, out);
    let head = out.len() - begin - length;
    out[begin..].rotate_right(head);
}

/// Writes the entry that fills up. It is always there, so that the map's length does not depend on values; a body
/// that is already longer gets an empty one.
pub(super) fn pad(missing: usize, out: &mut Vec<u8>) {
    let filling = missing.saturating_sub(PAD_KEY.len() + 2);
    let length = u16::try_from(filling).unwrap_or(u16::MAX);
    out.extend_from_slice(PAD_KEY);
    out.extend_from_slice(&length.to_be_bytes());
    out.resize(out.len() + usize::from(length), b'x');
}
