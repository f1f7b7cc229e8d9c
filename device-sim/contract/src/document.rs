//! Reads documents, and says all that is wrong with one: file, line, column, field, what is allowed.
//!
//! A document passes three gates, and each reports everything it finds before the next one is tried:
//! YAML (`tree`), the JSON Schema that the types generate (`shape`), and the laws across fields
//! ([`crate::fleet::check`]).

mod shape;
mod tree;

use std::fmt;

use serde::de::DeserializeOwned;

pub use tree::{Position, Tree};

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field, as a JSON pointer into the document: `/spec/groups/0/share`.
    pub path: String,
    /// What was expected and what was found.
    pub message: String,
}

impl Problem {
    /// A problem of the field at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    /// `spec.groups[0].share: expected …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match dotted(&self.path).as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

/// All that is wrong with a document, with the places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    file: String,
    located: Vec<(Option<Position>, Problem)>,
}

impl Problems {
    /// How many there are; at least one.
    pub const fn count(&self) -> usize {
        self.located.len()
    }

    /// Those of `problems` in the order of the file; `None` when there are none.
    pub fn locate(file: &str, tree: &Tree, problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        let mut located: Vec<_> = problems.into_iter().map(|problem| (tree.position(&problem.path), problem)).collect();
        located.sort_by_key(|(position, _)| position.map(|at| (at.line, at.column)));
        located.dedup();
        Err(Self { file: file.into(), located })
    }

    fn syntax(file: &str, position: Option<Position>, message: String) -> Self {
        Self { file: file.into(), located: vec![(position, Problem::new("", message))] }
    }
}

impl fmt::Display for Problems {
    /// One line a problem: `file:line:column: field: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (position, problem)) in self.located.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file)?;
            if let Some(at) = position {
                write!(f, "{}:{}:", at.line, at.column)?;
            }
            write!(f, " {problem}")?;
        }
        Ok(())
    }
}

/// `/spec/groups/0/share` as people write it: `spec.groups[0].share`.
fn dotted(pointer: &str) -> String {
    let mut field = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|byte| byte.is_ascii_digit()) && !step.is_empty() {
            field.extend(["[", step, "]"]);
        } else {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(&step.replace("~1", "/").replace("~0", "~"));
        }
    }
    field
}

/// One step of a JSON pointer, escaped (RFC 6901).
pub fn pointer_step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Reads `text` as a `T` that fits the schema of `T`; the tree says where each field stands.
pub fn read<T: DeserializeOwned + schemars::JsonSchema>(file: &str, text: &str) -> Result<(T, Tree), Problems> {
    let tree = Tree::parse(text).map_err(|(position, message)| Problems::syntax(file, position, message))?;
    Problems::locate(file, &tree, shape::check(&schemars::schema_for!(T), tree.value()))?;
    match T::deserialize(tree.value()) {
        Ok(document) => Ok((document, tree)),
        Err(error) => Err(Problems::syntax(file, None, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;
    use crate::units::Span;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading is of interest")]
    struct Kettle {
        name: String,
        #[serde(default)]
        every: Span,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading is of interest")]
    enum Part {
        Lid,
        Spout { length: u8 },
    }

    fn complaints(text: &str) -> String {
        read::<Kettle>("kettle.yaml", text).map_or_else(|problems| problems.to_string(), |_| "none".into())
    }

    #[test]
    fn a_right_document_is_read() {
        assert_eq!(complaints("name: k\nevery: 5s\nparts: [{kind: spout, length: 3}, {kind: lid}]\n"), "none");
    }

    #[test]
    fn all_problems_come_at_once_with_their_places() {
        insta::assert_snapshot!(complaints("nmae: k\nevery: soon\nparts:\n  - kind: spout\n    length: 999\n  - kind: handle\n"), @r"
        kettle.yaml:1:1: nmae: unknown field, did you mean `name`? (allowed: name, every, parts)
        kettle.yaml:1:1: expected the field `name`, found none
        kettle.yaml:2:1: every: expected a length of time such as `200ms`, `1.5s` or `5m`, found `soon`
        kettle.yaml:5:5: parts[0].length: expected at most 255, found `999`
        kettle.yaml:6:5: parts[1].kind: expected one of `lid`, `spout`, found `handle`
        ");
    }

    #[test]
    fn words_of_yaml_1_1_stay_words() {
        assert_eq!(complaints("name: on\n"), "none");
    }

    #[test]
    fn broken_yaml_has_a_place() {
        insta::assert_snapshot!(complaints("name: [1, 2\nevery: 5s\n"), @"kettle.yaml:2:6: expected YAML, found a mistake: illegal placement of ':' indicator");
    }
}
