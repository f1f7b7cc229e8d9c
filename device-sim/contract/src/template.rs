//! Templates of the names a device goes by: `{fleet}-{index}`, `vehicles/{id}/state`.
//!
//! A [`Template`] is what a document says.
//! [`Template::bind`] folds in all that is the same for a whole group; the [`Bound`] rest is literals and what differs
//! from device to device, so that writing a name is a few copies and reading one back gives the device.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::unknown;

/// A name with placeholders, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part<Field>>,
}

/// A placeholder of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Fleet,
    Group,
    Stream,
    Id,
    Index { width: u8 },
    Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<F> {
    Literal(Box<str>),
    Field(F),
}

/// What is wrong with a template, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that does not exist.
    #[error(
        "`{{{placeholder}}}` is no placeholder here{meant}; there are `{{fleet}}`, `{{group}}`, `{{stream}}`, `{{index}}`, `{{index:05}}`, `{{id}}` and `{{uuid}}`{hint}",
        placeholder = .0,
        meant = meant(.0),
        hint = json_hint(.0)
    )]
    Unknown(String),
    /// A format that the placeholder does not take.
    #[error("`{{{name}:{format}}}`: only `{{index}}` takes a format, its width with leading zeros from `01` to `010`")]
    Format {
        /// The placeholder.
        name: String,
        /// Its format.
        format: String,
    },
    /// A brace without its partner.
    #[error("a brace without its partner at byte {0}; write `{{{{` or `}}}}` for a brace itself")]
    Brace(usize),
}

/// The placeholder that was probably meant.
fn meant(placeholder: &str) -> String {
    let known = ["fleet", "group", "stream", "index", "id", "uuid"];
    let meant = unknown::meant(placeholder, known);
    meant.map(|meant| format!(" (did you mean `{{{meant}}}`?)")).unwrap_or_default()
}

/// What to do where braces were meant to be JSON's: `{"online": false}` is no placeholder.
fn json_hint(placeholder: &str) -> &'static str {
    let is_json = placeholder.trim_start().starts_with(['"', '\'']) || placeholder.trim().is_empty();
    if is_json { "; write `{{` and `}}` for the braces of JSON" } else { "" }
}

/// A piece of a text with `{name}` and `{name:format}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Plain text; `{{` and `}}` have become single braces.
    Literal(Cow<'a, str>),
    /// A placeholder.
    Placeholder {
        /// What is before the colon.
        name: &'a str,
        /// What is after it.
        format: Option<&'a str>,
    },
}

/// Splits a text at its placeholders.
pub fn split(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let offset = text.len() - rest.len() + at;
        let (literal, tail) = rest.split_at(at);
        push_literal(&mut pieces, literal);
        if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
            push_literal(&mut pieces, &tail[..1]);
            rest = after;
            continue;
        }
        let (inside, after) =
            tail.strip_prefix('{').and_then(|tail| tail.split_once('}')).ok_or(TemplateError::Brace(offset))?;
        if inside.contains('{') {
            return Err(TemplateError::Brace(offset));
        }
        let (name, format) = match inside.split_once(':') {
            Some((name, format)) => (name, Some(format)),
            None => (inside, None),
        };
        pieces.push(Piece::Placeholder { name, format });
        rest = after;
    }
    push_literal(&mut pieces, rest);
    Ok(pieces)
}

fn push_literal<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Literal(last)) => last.to_mut().push_str(text),
        _ => pieces.push(Piece::Literal(Cow::Borrowed(text))),
    }
}

/// What is the same for every device of a group.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// The stream's name; empty for a client id or user name.
    pub stream: &'a str,
    /// The fleet's seed, which a device's UUID depends on.
    pub seed: u64,
    /// The number that the first device goes by in `{index}`.
    pub first: u32,
}

impl Template {
    /// The client id of a device unless its document says otherwise: `{fleet}-{index}`.
    pub fn default_client_id() -> Self {
        let parts = vec![Part::Field(Field::Fleet), Part::Literal("-".into()), Part::Field(Field::Index { width: 0 })];
        Self { text: "{fleet}-{index}".into(), parts }
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the index of a device can be read from the name, given the template of its client id.
    pub fn identifies_device(&self, client_id: &Self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Field(Field::Index { .. }) => true,
            Part::Field(Field::Id) => {
                client_id.parts.iter().any(|part| matches!(part, Part::Field(Field::Index { .. })))
            }
            _ => false,
        })
    }

    /// Whether the name says `{id}`, which a client id itself must not.
    pub fn uses_id(&self) -> bool {
        self.parts.contains(&Part::Field(Field::Id))
    }

    /// Whether names of two devices differ, given the template of the client id.
    pub fn is_unique(&self, client_id: &Self) -> bool {
        self.identifies_device(client_id)
            || self.parts.contains(&Part::Field(Field::Uuid))
            || self.uses_id() && client_id.parts.contains(&Part::Field(Field::Uuid))
    }

    /// The text outside of placeholders, piece by piece.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(&**text),
            Part::Field(_) => None,
        })
    }

    /// Whether the name says `{stream}`, which has no meaning where there is no stream.
    pub fn uses_stream(&self) -> bool {
        self.parts.contains(&Part::Field(Field::Stream))
    }

    /// Folds in what is the same for a whole group. `{id}` within a client id stands for nothing.
    pub fn bind(&self, names: &Names<'_>, client_id: &Self) -> Bound {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{}", names.fleet, names.seed).as_bytes());
        let mut bound = Bound { namespace, first: names.first, parts: Vec::new() };
        bound.extend(&self.parts, names, Some(&client_id.parts));
        bound
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let part = |piece| match piece {
            Piece::Literal(text) => Ok(Part::Literal(text.into())),
            Piece::Placeholder { name, format } => field(name, format).map(Part::Field),
        };
        Ok(Self { text: text.into(), parts: split(text)?.into_iter().map(part).collect::<Result<_, _>>()? })
    }
}

fn field(name: &str, format: Option<&str>) -> Result<Field, TemplateError> {
    Ok(match (name, format) {
        ("fleet", None) => Field::Fleet,
        ("group", None) => Field::Group,
        ("stream", None) => Field::Stream,
        ("id", None) => Field::Id,
        ("uuid", None) => Field::Uuid,
        ("index", None) => Field::Index { width: 0 },
        ("index", Some(format)) => Field::Index { width: width(format).ok_or_else(|| wrong_format(name, format))? },
        ("fleet" | "group" | "stream" | "id" | "uuid", Some(format)) => return Err(wrong_format(name, format)),
        _ => return Err(TemplateError::Unknown(name.into())),
    })
}

/// The width in `05`: a zero and a number from 1 to 10.
pub fn width(format: &str) -> Option<u8> {
    format.strip_prefix('0')?.parse().ok().filter(|width| (1..=10).contains(width))
}

fn wrong_format(name: &str, format: &str) -> TemplateError {
    TemplateError::Format { name: name.into(), format: format.into() }
}

/// A template with all but the device filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What a device's UUID (version 5) is derived from, with its index as the name.
    namespace: Uuid,
    /// See [`Names::first`].
    first: u32,
    parts: Vec<Part<PerDevice>>,
}

/// What differs from device to device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerDevice {
    /// The index in decimal, with leading zeros up to the width.
    Index {
        /// The least number of digits.
        width: u8,
    },
    /// The UUID, hyphenated.
    Uuid,
}

impl Bound {
    fn extend(&mut self, parts: &[Part<Field>], names: &Names<'_>, id: Option<&[Part<Field>]>) {
        for part in parts {
            match part {
                Part::Literal(text) => self.push(text),
                Part::Field(Field::Fleet) => self.push(names.fleet),
                Part::Field(Field::Group) => self.push(names.group),
                Part::Field(Field::Stream) => self.push(names.stream),
                Part::Field(Field::Index { width }) => self.parts.push(Part::Field(PerDevice::Index { width: *width })),
                Part::Field(Field::Uuid) => self.parts.push(Part::Field(PerDevice::Uuid)),
                Part::Field(Field::Id) => self.extend(id.unwrap_or_default(), &Names { stream: "", ..*names }, None),
            }
        }
    }

    fn push(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(last)) => *last = format!("{last}{text}").into(),
            _ => self.parts.push(Part::Literal(text.into())),
        }
    }

    /// Appends the name of a device.
    pub fn write(&self, index: u32, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(field) => self.write_field(*field, index, out),
            }
        }
    }

    /// The number that the device of an index goes by in `{index}`.
    pub const fn number(&self, index: u32) -> u64 {
        self.first as u64 + index as u64
    }

    /// Appends what is in one placeholder.
    pub fn write_field(&self, field: PerDevice, index: u32, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        match field {
            PerDevice::Index { width } => {
                let digits = digits.format(self.number(index)).as_bytes();
                out.extend(std::iter::repeat_n(b'0', usize::from(width).saturating_sub(digits.len())));
                out.extend_from_slice(digits);
            }
            PerDevice::Uuid => {
                let mut text = Uuid::encode_buffer();
                let uuid = Uuid::new_v5(&self.namespace, digits.format(index).as_bytes());
                out.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
            }
        }
    }

    /// The pieces in order: literal text (`Ok`) and what differs from device to device (`Err`).
    pub fn pieces(&self) -> impl Iterator<Item = Result<&str, PerDevice>> {
        self.parts.iter().map(|part| match part {
            Part::Literal(text) => Ok(&**text),
            Part::Field(field) => Err(*field),
        })
    }

    /// The name of a device as text.
    pub fn text(&self, index: u32) -> String {
        let mut out = Vec::new();
        self.write(index, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether [`Bound::invert`] can succeed.
    pub fn identifies_device(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(PerDevice::Index { .. })))
    }

    /// The device whose name this is; `None` when it is none of ours or the template does not say.
    pub fn invert(&self, name: &[u8]) -> Option<u32> {
        invert(&self.parts, name, None)?.checked_sub(self.first)
    }

    /// The wildcard filter that covers the topics of all devices: levels that differ become `+`.
    pub fn filter(&self) -> String {
        let marked: String = self.pieces().map(|piece| piece.unwrap_or("\0")).collect();
        let level = |level: &str| if level.contains('\0') { "+".to_owned() } else { level.to_owned() };
        marked.split('/').map(level).collect::<Vec<_>>().join("/")
    }
}

/// Tries each length that an index may have here, so that `{index}7` is understood too.
fn invert(parts: &[Part<PerDevice>], name: &[u8], known: Option<u32>) -> Option<u32> {
    match parts.split_first() {
        None => known.filter(|_| name.is_empty()),
        Some((Part::Literal(text), parts)) => invert(parts, name.strip_prefix(text.as_bytes())?, known),
        Some((Part::Field(PerDevice::Uuid), parts)) => invert(parts, name.get(36..)?, known),
        Some((Part::Field(PerDevice::Index { width }), parts)) => {
            let digits = name.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
            (1..=digits).rev().find_map(|length| {
                let index = index(&name[..length], usize::from(*width))?;
                (known.is_none_or(|known| known == index)).then(|| invert(parts, &name[length..], Some(index)))?
            })
        }
    }
}

/// The index in its one canonical form.
fn index(digits: &[u8], width: usize) -> Option<u32> {
    let is_canonical = digits.len() == width.max(1) || digits.len() > width && digits[0] != b'0';
    is_canonical.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "Template",
            "description": "a name with `{fleet}`, `{group}`, `{stream}`, `{index}`, `{index:05}`, `{id}` and `{uuid}` in it",
            "examples": ["{fleet}/{index}/state"],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names<'_> = Names { fleet: "lamps", group: "north", stream: "state", seed: 7, first: 0 };

    fn bound(text: &str) -> Bound {
        text.parse::<Template>().unwrap().bind(&NAMES, &Template::default_client_id())
    }

    #[track_caller]
    fn check(template: &str, index: u32, expected: &str) {
        let bound = bound(template);
        assert_eq!(bound.text(index), expected);
        assert_eq!(bound.invert(expected.as_bytes()), bound.identifies_device().then_some(index));
    }

    #[test]
    fn the_first_device_may_go_by_another_number_than_zero() {
        let id = Template::default_client_id();
        let bind = |text: &str, first| text.parse::<Template>().unwrap().bind(&Names { first, ..NAMES }, &id);
        let serial = bind("SN{index:06}", 1_001);
        assert_eq!([serial.text(0), serial.text(2)], ["SN001001", "SN001003"]);
        assert_eq!([&b"SN001003"[..], b"SN001000"].map(|name| serial.invert(name)), [Some(2), None]);
        let last = bind("{index}", u32::MAX - 1);
        assert_eq!((last.text(1), last.invert(b"4294967295")), (u32::MAX.to_string(), Some(1)));
        let uuids = [0, 1_001].map(|first| bind("{uuid}", first).text(5));
        assert_eq!(uuids[0], uuids[1], "a UUID is the device's, by whatever number it goes");
    }

    #[test]
    fn each_placeholder_writes_its_name() {
        check("{fleet}/{group}/{stream}/{index}", 12, "lamps/north/state/12");
        check("d{index:05}", 12, "d00012");
        check("d{index:02}", 123, "d123");
        check("x/{id}/y", 3, "x/lamps-3/y");
        check("{{{index}}}", 0, "{0}");
        check("{uuid}", 1, "23d4a720-3126-5b25-8e70-880c77ab1252");
        check("{uuid}/{index}", 1, "23d4a720-3126-5b25-8e70-880c77ab1252/1");
        check("{index}7/{index}", 17, "177/17");
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let topic = bound("a/{index}/b");
        for other in ["a/01/b", "a//b", "a/1/c", "a/1/bb", "a/4294967296/b", "a/x/b", ""] {
            assert_eq!(topic.invert(other.as_bytes()), None, "{other}");
        }
        assert_eq!(bound("{index}-{index}").invert(b"1-2"), None);
    }

    #[test]
    fn a_wrong_template_says_what_is_allowed() {
        let error = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        assert!(error("{device}").contains("`{index:05}`"), "{}", error("{device}"));
        assert!(error("{index:5}").contains("leading zeros"));
        assert!(error("{id:3}").contains("only `{index}`"));
        assert_eq!(error("a{b"), "a brace without its partner at byte 1; write `{{` or `}}` for a brace itself");
        assert!(error("a}b").contains("byte 1"));
    }

    #[test]
    fn json_in_a_template_is_told_how_to_write_its_braces() {
        let error = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        for text in [r#"{"online": false}"#, "{}"] {
            assert!(error(text).ends_with("write `{{` and `}}` for the braces of JSON"), "{}", error(text));
        }
        assert!(error(r#"{"id": "{id}"}"#).ends_with("write `{{` or `}}` for a brace itself"));
        assert!(!error("{device}").contains("JSON"));
        check(r#"{{"id": "{id}", "online": false}}"#, 3, r#"{"id": "lamps-3", "online": false}"#);
    }

    #[test]
    fn a_filter_covers_what_differs() {
        assert_eq!(bound("{fleet}/v{index}/state").filter(), "lamps/+/state");
        assert_eq!(bound("all/{stream}").filter(), "all/state");
    }

    proptest! {
        #[test]
        fn a_name_gives_its_device_back(
            index: u32,
            template in prop::sample::select(vec!["{index}", "{id}", "a{index:010}b", "{uuid}{index}", "{index:03}/{id}", "{index}0"]),
        ) {
            let bound = bound(template);
            let mut name = Vec::new();
            bound.write(index, &mut name);
            prop_assert_eq!(bound.invert(&name), Some(index));
        }
    }
}
