//! A YAML document as a tree that remembers where each node stands.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::pointer_step;

/// Line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A document: its value and the position of each field.
#[derive(Debug, Clone)]
pub struct Tree {
    value: Value,
    positions: HashMap<String, Position>,
}

impl Tree {
    /// Reads exactly one YAML document.
    pub(super) fn parse(text: &str) -> Result<Self, (Option<Position>, String)> {
        // YAML 1.2: `on` and `no` are words, not truth values.
        let options = serde_saphyr::options! { strict_booleans: true };
        let node: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
            (position, first_line(&error.to_string()))
        })?;
        let mut positions = HashMap::new();
        let value = node.value.settle("", position_of(&node.referenced), &mut positions);
        Ok(Self { value, positions })
    }

    /// The document without its positions.
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Where the field at a JSON pointer stands; for a missing field its nearest parent.
    pub fn position(&self, pointer: &str) -> Option<Position> {
        let mut pointer = pointer;
        loop {
            if let Some(position) = self.positions.get(pointer) {
                return Some(*position);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => line,
    };
    format!("expected YAML, found a mistake: {line}")
}

fn position_of(location: &serde_saphyr::Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

/// A YAML node as the parser hands it over.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    /// The node as a JSON value; notes the position of itself and of all below it.
    fn settle(self, pointer: &str, at: Position, positions: &mut HashMap<String, Position>) -> Value {
        positions.insert(pointer.into(), at);
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let at = position_of(&item.referenced);
                    item.value.settle(&format!("{pointer}/{index}"), at, positions)
                })
                .collect(),
            Self::Map(entries) => {
                let settle = |(key, item): (Spanned<String>, Spanned<Self>)| {
                    let below = format!("{pointer}/{}", pointer_step(&key.value));
                    // A field is where its name stands: that is what people look for.
                    let value = item.value.settle(&below, position_of(&key.referenced), positions);
                    (key.value, value)
                };
                Value::Object(entries.into_iter().map(settle).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}
