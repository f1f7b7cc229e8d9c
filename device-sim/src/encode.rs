//! Encoding: a body's document is compiled once to a list of pieces, literal bytes and slots, and written from then on
//! without parsing, formatting machinery or allocation.
//!
//! One payload format a file, behind the trait `Format`, which makes pieces of a document. Pieces are written by one match for all
//! formats, because that is done for each message.

use fleet_contract::{
    expression::Type,
    model::{
        Payload, Problem,
        payload::{RawForm, Slot, TextPiece, TimeForm, split},
    },
    stamp::{LENGTH, Stamp},
    template::{Bound, Names, PerDevice, Template},
    time::Micros,
};

use crate::{
    index::DeviceIndex,
    signal::{Reader, Signals, Value},
};

mod cbor;
mod json;
mod number;
mod raw;
mod text;
mod time;

use cbor::Cbor;
use json::Json;
use number::Fixed;
use raw::Raw;
use text::Text;

/// A compiled body.
#[derive(Debug)]
pub struct Program {
    /// All literal bytes, one after the other.
    literals: Vec<u8>,
    /// The body up to where padding goes.
    head: Vec<Piece>,
    /// What follows the padding.
    tail: Vec<Piece>,
    /// The length that a shorter body is padded to, and how.
    padding: Option<(usize, Padding)>,
    /// Texts of symbols, escaped where the format wants it.
    symbols: Vec<Box<[u8]>>,
    /// The client id, which knows how to write what differs from device to device.
    names: Bound,
}

/// A piece of a body.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece {
    /// So many of the literal bytes.
    Literal { begin: u32, end: u32 },
    /// In decimal, `true` or `false`, or a text.
    Text(Source),
    /// A CBOR data item.
    Cbor(Source),
    /// In binary.
    Binary { source: Source, form: RawForm, scale: f64 },
    /// The next so many pieces are one CBOR text.
    CborText { pieces: u32 },
    /// Index with leading zeros, or UUID.
    PerDevice(PerDevice),
    /// The stamp.
    Stamp,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Signal { index: usize, fixed: Fixed },
    Timestamp(TimeForm),
    Sequence,
    Index,
}

/// How a format fills up a body that is too short.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Padding {
    /// A member `pad` after others; blanks where that would be too long.
    Json,
    /// An entry `pad`.
    Cbor,
    /// Blanks.
    Blanks,
    /// Zeros.
    Zeros,
}

/// What a body is made for.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The device.
    pub device: DeviceIndex,
    /// Instants, sequence and run.
    pub stamp: &'a Stamp,
    /// What the device's clock shows.
    pub clock: Micros,
}

/// What a body is compiled with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The signals that it may use.
    pub signals: &'a Signals,
    /// The names that are the same for all devices.
    pub names: Names<'a>,
    /// The template of the client id.
    pub client_id: &'a Template,
    /// The length that a shorter body is padded to.
    pub size: Option<usize>,
    /// Whether a member `stamp` closes a JSON or CBOR body.
    pub has_stamp_field: bool,
}

/// A payload format.
trait Format {
    /// What a document says of a body in this format.
    type Document: ?Sized;

    /// Where that stands in the payload, as a JSON pointer.
    const PATH: &'static str;

    /// Adds the pieces of a body, up to where padding goes.
    fn compile(document: &Self::Document, builder: &mut Builder<'_>);

    /// Adds the pieces that follow the padding.
    fn close(_document: &Self::Document, _builder: &mut Builder<'_>) {}

    /// How a body that is too short is filled up.
    fn padding(document: &Self::Document) -> Padding;

    /// A text as it stands in a body.
    fn escape(text: &str) -> Vec<u8> {
        text.into()
    }
}

impl Program {
    /// Compiles a body; paths of problems count from the payload.
    pub fn compile(payload: &Payload, context: &Context<'_>) -> Result<Self, Vec<Problem>> {
        match payload {
            Payload::Json(members) => Self::of::<Json>(members, context),
            Payload::Cbor(entries) => Self::of::<Cbor>(entries, context),
            Payload::Text(text) => Self::of::<Text>(text, context),
            Payload::Raw(parts) => Self::of::<Raw>(parts, context),
        }
    }

    fn of<F: Format>(document: &F::Document, context: &Context<'_>) -> Result<Self, Vec<Problem>> {
        let mut builder = Builder::new(context, F::escape);
        F::compile(document, &mut builder);
        let head = builder.take_head();
        F::close(document, &mut builder);
        builder.finish(head, F::padding(document))
    }

    /// Appends a body.
    pub fn write(&self, message: &Message<'_>, reader: &mut Reader<'_>, out: &mut Vec<u8>) {
        let begin = out.len();
        self.write_pieces(&self.head, message, reader, out);
        if let Some((size, padding)) = self.padding {
            let so_far = out.len() - begin + length(&self.tail);
            padding.write(size.saturating_sub(so_far), out);
        }
        self.write_pieces(&self.tail, message, reader, out);
    }

    fn write_pieces(&self, pieces: &[Piece], message: &Message<'_>, reader: &mut Reader<'_>, out: &mut Vec<u8>) {
        let mut pieces = pieces.iter();
        while let Some(piece) = pieces.next() {
            match *piece {
                Piece::Literal { begin, end } => out.extend_from_slice(&self.literals[begin as usize..end as usize]),
                Piece::Text(source) => self.write_text(source, message, reader, out),
                Piece::Cbor(source) => self.write_cbor(source, message, reader, out),
                Piece::Binary { source, form, scale } => {
                    raw::write(self.number(source, message, reader), form, scale, out);
                }
                Piece::CborText { pieces: count } => {
                    let (inner, rest) = pieces.as_slice().split_at(count as usize);
                    cbor::write_text(out, |out| self.write_pieces(inner, message, reader, out));
                    pieces = rest.iter();
                }
                Piece::PerDevice(field) => self.names.write_field(field, message.device.number(), out),
                Piece::Stamp => {
                    let mut text = [0; LENGTH];
                    message.stamp.write(&mut text);
                    out.extend_from_slice(&text);
                }
            }
        }
    }

    fn write_text(&self, source: Source, message: &Message<'_>, reader: &mut Reader<'_>, out: &mut Vec<u8>) {
        match source {
            Source::Signal { index, fixed } => match reader.value(index) {
                Value::Number(number) => number::write(fixed.round(number), fixed.decimals, out),
                Value::Bool(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
                Value::Text(symbol) => out.extend_from_slice(&self.symbols[symbol.number()]),
            },
            Source::Timestamp(form) => time::write(message.clock, form, out),
            Source::Sequence => number::write_unsigned(message.stamp.seq.into(), out),
            Source::Index => number::write_unsigned(self.names.number(message.device.number()), out),
        }
    }

    fn write_cbor(&self, source: Source, message: &Message<'_>, reader: &mut Reader<'_>, out: &mut Vec<u8>) {
        match source {
            Source::Signal { index, fixed } => match reader.value(index) {
                Value::Number(number) => cbor::write_number(fixed.round(number), fixed.decimals, out),
                Value::Bool(truth) => cbor::write_bool(truth, out),
                Value::Text(symbol) => {
                    cbor::write_text(out, |out| out.extend_from_slice(&self.symbols[symbol.number()]));
                }
            },
            Source::Timestamp(TimeForm::Rfc3339) => {
                cbor::write_text(out, |out| time::write(message.clock, TimeForm::Rfc3339, out));
            }
            Source::Timestamp(form) => cbor::write_head(cbor::UNSIGNED, time::since_1970(message.clock, form), out),
            Source::Sequence => cbor::write_head(cbor::UNSIGNED, message.stamp.seq.into(), out),
            Source::Index => cbor::write_head(cbor::UNSIGNED, self.names.number(message.device.number()), out),
        }
    }

    /// A value as a number, for binary forms.
    fn number(&self, source: Source, message: &Message<'_>, reader: &mut Reader<'_>) -> f64 {
        match source {
            Source::Signal { index, .. } => reader.value(index).number(),
            Source::Timestamp(form) => time::since_1970(message.clock, form) as f64,
            Source::Sequence => message.stamp.seq.into(),
            Source::Index => self.names.number(message.device.number()) as f64,
        }
    }
}

/// The length of pieces that always have the same.
fn length(pieces: &[Piece]) -> usize {
    let length = |piece: &Piece| match piece {
        Piece::Literal { begin, end } => (end - begin) as usize,
        Piece::Stamp => LENGTH,
        _ => 0,
    };
    pieces.iter().map(length).sum()
}

impl Padding {
    fn write(self, missing: usize, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::pad(missing, out),
            Self::Cbor => cbor::pad(missing, out),
            Self::Blanks => out.resize(out.len() + missing, b' '),
            Self::Zeros => out.resize(out.len() + missing, 0),
        }
    }
}

/// Collects the pieces of a body; neighbouring literals become one.
struct Builder<'a> {
    context: &'a Context<'a>,
    /// A text as it stands in the body.
    escape: fn(&str) -> Vec<u8>,
    literals: Vec<u8>,
    pieces: Vec<Piece>,
    names: Bound,
    problems: Vec<Problem>,
    /// The last literal must not grow: it belongs to a text whose pieces are counted.
    is_sealed: bool,
}

impl<'a> Builder<'a> {
    fn new(context: &'a Context<'a>, escape: fn(&str) -> Vec<u8>) -> Self {
        let names = context.client_id.bind(&Names { stream: "", ..context.names }, context.client_id);
        Self {
            context,
            escape,
            literals: Vec::new(),
            pieces: Vec::new(),
            names,
            problems: Vec::new(),
            is_sealed: false,
        }
    }

    fn literal(&mut self, bytes: &[u8]) {
        let begin = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        self.literals.extend_from_slice(bytes);
        let end = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        match self.pieces.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Piece::Literal { end: last, .. }) if *last == begin && !self.is_sealed => *last = end,
            _ => {
                self.is_sealed = false;
                self.pieces.push(Piece::Literal { begin, end });
            }
        }
    }

    /// Keeps the last literal from growing.
    fn seal(&mut self) {
        self.is_sealed = true;
    }

    fn problem(&mut self, path: &str, message: String) {
        self.problems.push(Problem { path: path.into(), message });
    }

    /// Splits a text, or notes what is wrong with it.
    fn split<'t>(&mut self, text: &'t str, path: &str) -> Vec<TextPiece<'t>> {
        split(text).unwrap_or_else(|message| {
            self.problem(path, message);
            Vec::new()
        })
    }

    /// Adds the pieces of a text.
    fn text(&mut self, pieces: &[TextPiece<'_>], path: &str) {
        for piece in pieces {
            match piece {
                TextPiece::Literal(text) => self.escaped(text),
                TextPiece::Slot(slot) => self.slot(slot, path),
            }
        }
    }

    fn escaped(&mut self, text: &str) {
        let bytes = (self.escape)(text);
        self.literal(&bytes);
    }

    fn slot(&mut self, slot: &Slot<'_>, path: &str) {
        let names = self.context.names;
        match slot {
            Slot::Fleet => self.escaped(names.fleet),
            Slot::Group => self.escaped(names.group),
            Slot::Stream => self.escaped(names.stream),
            Slot::Stamp => self.pieces.push(Piece::Stamp),
            Slot::Uuid => self.pieces.push(Piece::PerDevice(PerDevice::Uuid)),
            Slot::Index { width } => self.pieces.push(Piece::PerDevice(PerDevice::Index { width: *width })),
            Slot::Id => {
                for piece in self.names.clone().pieces() {
                    match piece {
                        Ok(text) => self.escaped(text),
                        Err(field) => self.pieces.push(Piece::PerDevice(field)),
                    }
                }
            }
            Slot::Signal { .. } | Slot::Timestamp(_) | Slot::Sequence => {
                if let Some(source) = self.source(slot, path) {
                    self.pieces.push(Piece::Text(source));
                }
            }
        }
    }

    /// Where the value of a slot comes from, if it has a type of its own; notes unknown signals.
    fn source(&mut self, slot: &Slot<'_>, path: &str) -> Option<Source> {
        match slot {
            Slot::Signal { name, decimals, .. } => {
                let signals = self.context.signals;
                let Some(index) = signals.index(name) else {
                    self.problem(path, format!("there is no signal `{name}`"));
                    return None;
                };
                let decimals = decimals.unwrap_or_else(|| signals.decimals(index));
                Some(Source::Signal { index, fixed: Fixed::new(decimals, signals.range(index)) })
            }
            Slot::Timestamp(form) => Some(Source::Timestamp(*form)),
            Slot::Sequence => Some(Source::Sequence),
            Slot::Index { width: 0 } => Some(Source::Index),
            _ => None,
        }
    }

    /// Where the value of a text comes from that is one placeholder for a number or a truth value, which keeps its type.
    fn typed_source(&mut self, pieces: &[TextPiece<'_>], path: &str) -> Option<Source> {
        match pieces {
            [TextPiece::Slot(slot)] if !matches!(slot, Slot::Signal { is_string: true, .. }) => {
                self.source(slot, path).filter(|source| !self.is_text(*source))
            }
            _ => None,
        }
    }

    /// Whether the value is a text.
    fn is_text(&self, source: Source) -> bool {
        match source {
            Source::Signal { index, .. } => self.context.signals.type_of(index) == Type::Text,
            Source::Timestamp(form) => form == TimeForm::Rfc3339,
            Source::Sequence | Source::Index => false,
        }
    }

    /// What was added so far; what is added from now on follows the padding.
    fn take_head(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Ends the body.
    fn finish(self, head: Vec<Piece>, padding: Padding) -> Result<Program, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let symbols = self.context.signals.symbols().iter().map(|text| (self.escape)(text).into()).collect();
        let padding = self.context.size.map(|size| (size, padding));
        Ok(Program { literals: self.literals, head, tail: self.pieces, padding, symbols, names: self.names })
    }
}

#[cfg(test)]
mod tests;
