//! Bodies: JSON and CBOR by mapping, text by template, raw bytes piece by piece.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::template::{self, Piece};

/// The body of a message.
///
/// In texts, `{name}` is a signal, and `{timestamp}` (RFC 3339 in UTC), `{timestamp:s}`, `{timestamp:ms}`,
/// `{timestamp:us}` (since 1970), `{seq}`, `{index}`, `{index:05}`, `{id}`, `{uuid}`, `{fleet}`, `{group}` and `{stream}`
/// say what they say. `{name:.1}` writes a number with one decimal, `{{` is a brace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Payload {
    /// A JSON object. A text that is one placeholder takes that value's type; `{name:string}` keeps it a text.
    Json(Map<String, Value>),
    /// A CBOR map, written as the JSON object that it corresponds to.
    Cbor(Map<String, Value>),
    /// A text; `{stamp}` is where the stamp goes.
    Text(String),
    /// Bytes, piece by piece.
    Raw(Vec<RawPart>),
}

/// The format of a body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object.
    Json,
    /// A CBOR map.
    Cbor,
    /// A text.
    #[default]
    Text,
    /// Bytes.
    Raw,
}

/// A piece of a raw body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RawPart {
    /// Bytes in hexadecimal, blanks allowed: `01 ff`.
    Hex(String),
    /// A text, as in a text body; `{stamp}` is where the stamp goes.
    Text(String),
    /// A number in binary.
    Number(RawNumber),
}

/// A number in binary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawNumber {
    /// One placeholder, such as `{temperature}`, `{seq}`, `{index}` or `{timestamp:ms}`; truth values are 0 and 1.
    pub value: String,
    /// How it is written.
    #[serde(rename = "as")]
    pub form: RawForm,
    /// What it is multiplied with before an integer is made of it.
    #[serde(default = "one")]
    pub scale: f64,
}

/// Width, sign and byte order of a number in binary; what does not fit becomes the nearest that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "unsigned, signed or float, bits, little or big endian")]
pub enum RawForm {
    U8,
    I8,
    U16le,
    U16be,
    I16le,
    I16be,
    U32le,
    U32be,
    I32le,
    I32be,
    U64le,
    U64be,
    I64le,
    I64be,
    F32le,
    F32be,
    F64le,
    F64be,
}

fn one() -> f64 {
    1.0
}

/// Bytes from hexadecimal digits, blanks between them ignored.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        [high, low] => Some(u8::try_from(high.to_digit(16)? << 4 | low.to_digit(16)?).unwrap_or_default()),
        _ => None,
    };
    digits
        .chunks(2)
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| format!("`{text}` is not pairs of hexadecimal digits"))
}

/// A text of a body, and where it is: a JSON pointer into the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedText<'a> {
    /// Where.
    pub path: String,
    /// The text.
    pub text: &'a str,
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Format {
    /// A body as text: JSON and text as they are, CBOR and raw bytes in hexadecimal.
    pub fn show(self, body: &[u8]) -> String {
        match self {
            Self::Json | Self::Text => String::from_utf8_lossy(body).into_owned(),
            Self::Cbor | Self::Raw => hex(body),
        }
    }
}

impl Payload {
    /// Its format.
    pub const fn format(&self) -> Format {
        match self {
            Self::Json(_) => Format::Json,
            Self::Cbor(_) => Format::Cbor,
            Self::Text(_) => Format::Text,
            Self::Raw(_) => Format::Raw,
        }
    }

    /// All texts in which there may be placeholders.
    pub fn texts(&self) -> Vec<PlacedText<'_>> {
        let mut texts = Vec::new();
        match self {
            Self::Json(members) => collect_members(members, "/json", &mut texts),
            Self::Cbor(entries) => collect_members(entries, "/cbor", &mut texts),
            Self::Text(text) => texts.push(PlacedText { path: "/text".into(), text }),
            Self::Raw(parts) => texts.extend(parts.iter().enumerate().filter_map(|(number, part)| match part {
                RawPart::Hex(_) => None,
                RawPart::Text(text) => Some(PlacedText { path: format!("/raw/{number}/text"), text }),
                RawPart::Number(part) => {
                    Some(PlacedText { path: format!("/raw/{number}/number/value"), text: &part.value })
                }
            })),
        }
        texts
    }

    /// The members of a JSON object or CBOR map.
    pub fn members(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Json(members) | Self::Cbor(members) => Some(members),
            Self::Text(_) | Self::Raw(_) => None,
        }
    }
}

fn collect_members<'a>(members: &'a Map<String, Value>, path: &str, texts: &mut Vec<PlacedText<'a>>) {
    for (name, member) in members {
        collect(member, &format!("{path}/{}", pointer_token(name)), texts);
    }
}

fn collect<'a>(value: &'a Value, path: &str, texts: &mut Vec<PlacedText<'a>>) {
    match value {
        Value::String(text) => texts.push(PlacedText { path: path.into(), text }),
        Value::Object(members) => collect_members(members, path, texts),
        Value::Array(elements) => {
            for (number, element) in elements.iter().enumerate() {
                collect(element, &format!("{path}/{number}"), texts);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A name as a JSON pointer (RFC 6901) writes it.
pub fn pointer_token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A placeholder in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot<'a> {
    /// A signal; `decimals` instead of its own, `string` to keep it a text in JSON and CBOR.
    Signal {
        /// Its name.
        name: &'a str,
        /// Digits after the decimal point.
        decimals: Option<u8>,
        /// Whether it was written `{name:string}`.
        is_string: bool,
    },
    /// When the message was meant to be sent.
    Timestamp(TimeForm),
    /// The sequence of the message.
    Sequence,
    /// The stamp's text form.
    Stamp,
    /// The device's index with leading zeros up to a width; a number when the width is 0.
    Index {
        /// The least number of digits.
        width: u8,
    },
    /// The client id.
    Id,
    /// The device's UUID.
    Uuid,
    /// The fleet's name.
    Fleet,
    /// The group's name.
    Group,
    /// The stream's name.
    Stream,
}

/// How an instant is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeForm {
    /// RFC 3339 in UTC with milliseconds: 24 bytes.
    Rfc3339,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
}

/// Names that a signal must not have, because bodies use them for something else.
pub const RESERVED: [&str; 9] = ["timestamp", "seq", "stamp", "index", "id", "uuid", "fleet", "group", "stream"];

/// A piece of a text in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPiece<'a> {
    /// Plain text.
    Literal(std::borrow::Cow<'a, str>),
    /// A placeholder.
    Slot(Slot<'a>),
}

/// Splits a text of a body; an error says what is allowed. Whether a signal exists is not looked at.
pub fn split(text: &str) -> Result<Vec<TextPiece<'_>>, String> {
    let piece = |piece| match piece {
        Piece::Literal(text) => Ok(TextPiece::Literal(text)),
        Piece::Placeholder { name, format } => slot(name, format).map(TextPiece::Slot),
    };
    template::split(text).map_err(|error| error.to_string())?.into_iter().map(piece).collect()
}

fn slot<'a>(name: &'a str, format: Option<&str>) -> Result<Slot<'a>, String> {
    let wrong = |allowed: &str| Err(format!("`{{{name}:{}}}`: {allowed}", format.unwrap_or_default()));
    match (name, format) {
        ("timestamp", None) => Ok(Slot::Timestamp(TimeForm::Rfc3339)),
        ("timestamp", Some("s")) => Ok(Slot::Timestamp(TimeForm::Seconds)),
        ("timestamp", Some("ms")) => Ok(Slot::Timestamp(TimeForm::Millis)),
        ("timestamp", Some("us")) => Ok(Slot::Timestamp(TimeForm::Micros)),
        ("timestamp", Some(_)) => wrong("an instant is written as `s`, `ms`, `us` or RFC 3339"),
        ("index", None) => Ok(Slot::Index { width: 0 }),
        ("index", Some(format)) => match template::width(format) {
            Some(width) => Ok(Slot::Index { width }),
            None => wrong("the index takes a width with leading zeros from `01` to `010`"),
        },
        ("seq", None) => Ok(Slot::Sequence),
        ("stamp", None) => Ok(Slot::Stamp),
        ("id", None) => Ok(Slot::Id),
        ("uuid", None) => Ok(Slot::Uuid),
        ("fleet", None) => Ok(Slot::Fleet),
        ("group", None) => Ok(Slot::Group),
        ("stream", None) => Ok(Slot::Stream),
        (_, Some(_)) if RESERVED.contains(&name) => wrong("it takes no format"),
        (_, None) => Ok(Slot::Signal { name, decimals: None, is_string: false }),
        (_, Some("string")) => Ok(Slot::Signal { name, decimals: None, is_string: true }),
        (_, Some(format)) => match format.strip_prefix('.').and_then(|digits| digits.parse().ok()) {
            Some(decimals @ 0..=9) => Ok(Slot::Signal { name, decimals: Some(decimals), is_string: false }),
            _ => wrong("a signal takes `string`, or its decimals from `.0` to `.9`"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_by_its_format_and_not_by_its_bytes() {
        // A CBOR text, which is UTF-8 by accident.
        let body = b"\x62hi";
        assert_eq!(Format::Cbor.show(body), "626869");
        assert_eq!(Format::Raw.show(body), "626869");
        assert_eq!(Format::Text.show(body), "bhi");
        assert_eq!(unhex(&hex(&[0, 9, 0xff])), Ok(vec![0, 9, 0xff]));
    }
}
