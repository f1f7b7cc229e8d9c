//! A YAML document as a tree that remembers where each node stands.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::{Location, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

use super::{Problem, Problems, kubernetes, pointer_step};

/// Line and column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A document: its value as Kubernetes reads it, and the position of each field.
#[derive(Debug, Clone)]
pub struct Tree {
    value: Value,
    positions: HashMap<String, Position>,
    doubts: Vec<Problem>,
}

impl Tree {
    /// Reads exactly one YAML document; `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        // YAML 1.2: `on` and `no` are words, not truth values. What JSON cannot say comes as text.
        // Merges are done here, in the order of Kubernetes.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            merge_keys: MergeKeyPolicy::AsOrdinary,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        };
        let node: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let position = error.location().map(|at| Position { line: at.line(), column: at.column() });
            Problems::syntax(file, position, first_line(&error.to_string()))
        })?;
        let at = position_of(&node.referenced);
        let mut reading = Reading { text, positions: HashMap::new(), doubts: Vec::new() };
        let value = reading.settle(node, "", at);
        Ok(Self { value, positions: reading.positions, doubts: reading.doubts })
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

    /// The part at a JSON pointer as a document of its own, whose fields stand where they stood.
    pub fn part(&self, pointer: &str) -> Option<Self> {
        let value = self.value.pointer(pointer)?.clone();
        let within = |path: &str| {
            path.strip_prefix(pointer).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(str::to_owned)
        };
        let positions = self.positions.iter().filter_map(|(path, position)| Some((within(path)?, *position)));
        let doubts =
            self.doubts.iter().filter_map(|doubt| Some(Problem { path: within(&doubt.path)?, ..doubt.clone() }));
        Some(Self { value, positions: positions.collect(), doubts: doubts.collect() })
    }

    /// What the versions of YAML do not read alike, or what JSON has no value for.
    pub(super) fn doubts(&self) -> &[Problem] {
        &self.doubts
    }
}

fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => line,
    };
    if let Some(name) = line.strip_prefix("duplicate mapping key: ") {
        let name = name.split(", set ").next().unwrap_or(name);
        return format!("expected each field once, found `{name}` again");
    }
    if line.contains("budget breached") {
        return "expected a document of a size that people write, found one that grows beyond all bounds: what `*` names \
                counts each time"
            .into();
    }
    format!("expected YAML, found a mistake: {line}")
}

fn position_of(location: &Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

/// A YAML node as the parser hands it over.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Entries),
}

type Entries = Vec<(Spanned<String>, Spanned<Node>)>;

/// The maps that `<<` merges, the one that holds last of all.
fn merged(node: Node) -> Vec<Entries> {
    match node {
        Node::Map(entries) => vec![entries],
        Node::List(items) => items.into_iter().rev().flat_map(|item| merged(item.value)).collect(),
        Node::Scalar(_) => Vec::new(),
    }
}

/// What is found while the nodes of a text are read.
struct Reading<'t> {
    text: &'t str,
    positions: HashMap<String, Position>,
    doubts: Vec<Problem>,
}

impl<'t> Reading<'t> {
    /// A node as a JSON value; notes the position of itself and of all below it.
    fn settle(&mut self, node: Spanned<Node>, pointer: &str, at: Position) -> Value {
        self.positions.insert(pointer.into(), at);
        match node.value {
            Node::Scalar(value) => self.scalar(value, &node.defined, pointer),
            Node::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let at = position_of(&item.referenced);
                    self.settle(item, &format!("{pointer}/{index}"), at)
                })
                .collect(),
            Node::Map(entries) => {
                let mut map = Map::new();
                self.fill(&mut map, entries, pointer, &[]);
                Value::Object(map)
            }
        }
    }

    /// Puts entries into a map in the order in which Kubernetes does; `before` names what stands before their merge.
    fn fill(&mut self, map: &mut Map<String, Value>, entries: Entries, pointer: &str, before: &[String]) {
        for (key, item) in entries {
            if self.plain(&key.defined) == Some("<<") {
                let before: Vec<String> = map.keys().cloned().collect();
                for entries in merged(item.value) {
                    self.fill(map, entries, pointer, &before);
                }
                continue;
            }
            let name = self.name(&key, pointer);
            let below = format!("{pointer}/{}", pointer_step(&name));
            if before.contains(&name) {
                let message = "expected the merge `<<` before this field: Kubernetes lets what comes last hold";
                self.doubts.push(Problem::new(&below, message));
            }
            // A field is where its name stands: that is what people look for.
            let value = self.settle(item, &below, position_of(&key.referenced));
            map.insert(name, value);
        }
    }

    /// What Kubernetes reads for a scalar that YAML 1.2 reads as `ours`.
    fn scalar(&mut self, ours: Value, location: &Location, pointer: &str) -> Value {
        let Some(plain) = self.plain(location) else { return ours };
        let message = match kubernetes::value(plain) {
            Some(theirs) if theirs == ours && !kubernetes::loses_digits(plain, &theirs) => return ours,
            Some(theirs) if theirs == ours => format!(
                "expected a whole number of at most 64 bits, found `{plain}`, which JSON readers round to `{theirs}`: \
                 write it in quotes, as text"
            ),
            Some(theirs) => {
                let message = format!(
                    "expected a value that YAML 1.1 and 1.2 read alike, found `{plain}`, which Kubernetes reads as \
                     `{theirs}`: write that, or write it in quotes"
                );
                self.doubts.push(Problem::new(pointer, message));
                return theirs;
            }
            None => format!("expected a number that JSON can hold, found `{plain}`: write text in quotes"),
        };
        self.doubts.push(Problem::new(pointer, message));
        ours
    }

    /// What Kubernetes reads for the name of a field.
    fn name(&mut self, key: &Spanned<String>, pointer: &str) -> String {
        let Some(plain) = self.plain(&key.defined) else { return key.value.clone() };
        let name = kubernetes::name(plain);
        if name.as_ref() == Some(&key.value) {
            return key.value.clone();
        }
        let as_what = name.as_ref().map_or_else(|| "nothing that is a name".into(), |name| format!("`{name}`"));
        let name = name.unwrap_or_else(|| key.value.clone());
        let message = format!(
            "expected a name that YAML 1.1 and 1.2 read alike, found `{plain}`, which Kubernetes reads as {as_what}: \
             write it in quotes"
        );
        self.doubts.push(Problem::new(format!("{pointer}/{}", pointer_step(&name)), message));
        name
    }

    /// The text of a scalar that is written without quotes, in one line.
    fn plain(&self, location: &Location) -> Option<&'t str> {
        let span = location.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        let text = self.text.get(start..end)?;
        (!text.starts_with(['"', '\'', '|', '>']) && !text.contains('\n')).then(|| text.trim_end())
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
                Ok(Node::Scalar(kubernetes::float(value).unwrap_or_default()))
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
