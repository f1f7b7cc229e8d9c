//! Reads documents, and says all that is wrong with one: file, line, column, field, what is allowed.
//!
//! A document passes three gates, and each reports everything it finds before the next one is tried:
//! YAML (`tree`), the JSON Schema that the types generate (`shape`), and the laws across fields
//! ([`crate::fleet::check`]). A word that YAML 1.1 and 1.2 read differently (`kubernetes`) is reported by the second one.

mod kubernetes;
mod shape;
mod tree;

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

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

/// The field that could not be read.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(pointer_step(key)),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    steps.map(|step| format!("/{step}")).collect()
}

/// One step of a JSON pointer, escaped (RFC 6901).
pub fn pointer_step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Reads `text` as a `T` that fits the schema of `T`; the tree says where each field stands.
pub fn read<T: DeserializeOwned + JsonSchema + 'static>(file: &str, text: &str) -> Result<(T, Tree), Problems> {
    let tree = Tree::parse(file, text)?;
    Ok((understand(file, &tree)?, tree))
}

/// The document of a tree as a `T` that fits the schema of `T`.
pub fn understand<T: DeserializeOwned + JsonSchema + 'static>(file: &str, tree: &Tree) -> Result<T, Problems> {
    let mut problems = tree.doubts().to_vec();
    // What a field should be is no help where it is not clear what it is.
    let is_clear = |problem: &Problem| tree.doubts().iter().all(|doubt| doubt.path != problem.path);
    problems.extend(shape::check::<T>(tree.value()).into_iter().filter(is_clear));
    Problems::locate(file, tree, problems)?;
    serde_path_to_error::deserialize(tree.value()).map_err(|error| {
        let problem = Problem::new(pointer(error.path()), error.inner().to_string());
        Problems { file: file.into(), located: vec![(tree.position(&problem.path), problem)] }
    })
}

#[cfg(test)]
mod tests {
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
    fn words_of_yaml_1_1_are_refused_unless_in_quotes() {
        assert_eq!(complaints("name: 'on'\nevery: \"5s\"\nparts: [{kind: spout, length: 0x0F}]\n"), "none");
        insta::assert_snapshot!(complaints("name: on\nno: 5s\nparts:\n  - {kind: spout, length: 012}\n  - {kind: ~}\n"), @r"
        kettle.yaml:1:1: name: expected a value that YAML 1.1 and 1.2 read alike, found `on`, which Kubernetes reads as `true`: write that, or write it in quotes
        kettle.yaml:2:1: false: expected a name that YAML 1.1 and 1.2 read alike, found `no`, which Kubernetes reads as `false`: write it in quotes
        kettle.yaml:4:19: parts[0].length: expected a value that YAML 1.1 and 1.2 read alike, found `012`, which Kubernetes reads as `10`: write that, or write it in quotes
        kettle.yaml:5:6: parts[1].kind: expected one of `lid`, `spout`, found nothing
        ");
    }

    #[test]
    fn a_whole_number_that_would_be_rounded_is_refused() {
        let exact = Tree::parse("f", "a: 18446744073709551615\nb: '18446744073709551616'\nc: 1e30\n").unwrap();
        assert_eq!(exact.doubts(), []);
        let tree = Tree::parse("f", "a: {b: 18446744073709551616}\n").unwrap();
        let [doubt] = tree.doubts() else { panic!("{:?}", tree.doubts()) };
        assert!(doubt.path == "/a/b" && doubt.message.contains("which JSON readers round to"), "{doubt}");
    }

    #[test]
    fn what_is_written_once_and_named_twice_is_refused_twice() {
        let text = "a: &a off\nb: *a\nc: !!str off\nd: &d 'off'\ne: *d\nf: |-\n  off\n";
        let tree = Tree::parse("f", text).unwrap();
        let doubtful: Vec<_> = tree.doubts().iter().map(|doubt| doubt.path.as_str()).collect();
        assert_eq!(doubtful, ["/a", "/b", "/c"]);
    }

    #[test]
    fn a_merge_holds_for_what_comes_before_it_and_that_is_refused() {
        for (text, expected, doubtful) in [
            ("{<<: {a: 2, b: 3}, a: 1}", "{\"a\":1,\"b\":3}", &[][..]),
            ("{<<: [{a: 1}, {a: 2, b: 3}]}", "{\"a\":1,\"b\":3}", &[]),
            ("{a: 1, <<: {a: 2, b: 3}}", "{\"a\":2,\"b\":3}", &["/a"]),
            ("{'<<': 1}", "{\"<<\":1}", &[]),
        ] {
            let tree = Tree::parse("f", text).unwrap();
            assert_eq!(tree.value(), &serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{text}");
            let found: Vec<_> = tree.doubts().iter().map(|doubt| doubt.path.as_str()).collect();
            assert_eq!(found, doubtful, "{text}");
        }
    }

    #[test]
    fn what_is_written_as_yaml_is_read_as_it_was() {
        for word in WORDS.lines().filter_map(|line| line.split_whitespace().next()) {
            let value = serde_json::json!({"a": word, word: 1});
            let tree = Tree::parse("f", &serde_saphyr::to_string(&value).unwrap()).unwrap();
            assert_eq!((tree.value(), tree.doubts()), (&value, &[][..]));
        }
    }

    #[test]
    fn a_part_of_a_document_keeps_its_places() {
        let tree = Tree::parse("f", "items:\n  - name: k\n    every: soon\n  - name: no\n").unwrap();
        let complaints = |pointer: &str| {
            let part = tree.part(pointer).unwrap();
            understand::<Kettle>("f", &part).map_or_else(|problems| problems.to_string(), |_| "none".into())
        };
        assert!(
            complaints("/items/0").starts_with("f:3:5: every: expected a length of time"),
            "{}",
            complaints("/items/0")
        );
        assert!(complaints("/items/1").starts_with("f:4:5: name: expected a value"), "{}", complaints("/items/1"));
    }

    /// Words, what Kubernetes reads, and what this reader does; the ring `control_plane` asks a real API server.
    const WORDS: &str = include_str!("document/words.txt");

    #[test]
    fn every_word_is_read_as_kubernetes_does_or_refused() {
        let mut wrong = Vec::new();
        for line in WORDS.lines().filter(|line| !line.starts_with('#')) {
            let [word, theirs, ours]: [&str; 3] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            let tree = Tree::parse("f", &format!("a: {{b: {word}}}\n")).unwrap();
            let doubtful: Vec<_> = tree.doubts().iter().map(|doubt| doubt.path.as_str()).collect();
            let expected: &[&str] = if ours == "same" { &[] } else { &["/a/b"] };
            let value = tree.value()["a"]["b"].to_string();
            if doubtful != expected || (theirs != "error" && value != theirs) {
                wrong.push(format!("{line}: {value} {doubtful:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn broken_yaml_has_a_place() {
        insta::assert_snapshot!(complaints("name: [1, 2\nevery: 5s\n"), @"kettle.yaml:2:6: expected YAML, found a mistake: illegal placement of ':' indicator");
    }
}
