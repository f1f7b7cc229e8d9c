//! Holds a document against the JSON Schema of its type, and says what is wrong in words.

use std::{
    any::TypeId,
    collections::HashMap,
    fmt::Display,
    str::FromStr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::JsonSchema;
use serde_json::Value;

use super::{Problem, pointer_step};
use crate::{
    broker_url::BrokerUrl,
    template::Template,
    threshold::Threshold,
    units::{Bytes, Rate, Share, Span},
    unknown,
};

/// What is wrong with a text of a type that reads itself from text.
type Reader = fn(&str) -> Option<String>;

/// The types that read themselves from text, by the `format` of their schemas: a pattern does not know all that they do.
const FORMATS: [(&str, Reader); 7] = [
    ("Span", complaint::<Span>),
    ("Bytes", complaint::<Bytes>),
    ("Rate", complaint::<Rate>),
    ("Share", complaint::<Share>),
    ("Template", complaint::<Template>),
    ("Threshold", complaint::<Threshold>),
    ("BrokerUrl", complaint::<BrokerUrl>),
];

fn complaint<T: FromStr<Err: Display>>(text: &str) -> Option<String> {
    text.parse::<T>().err().map(|error| error.to_string())
}

/// The shapes of the types that were read so far: making one compiles its patterns, which takes ten times as long as
/// holding a document against it.
static SHAPES: LazyLock<Mutex<HashMap<TypeId, Arc<Shape>>>> = LazyLock::new(Mutex::default);

/// What documents of a type look like.
struct Shape {
    schema: Value,
    validator: Validator,
}

impl Shape {
    fn of<T: JsonSchema + 'static>() -> Arc<Self> {
        let mut shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            shapes.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(Self::new(schemars::schema_for!(T).into()))),
        )
    }

    fn new(schema: Value) -> Self {
        let options = jsonschema::options().should_validate_formats(true);
        let options = FORMATS
            .iter()
            .fold(options, |options, (name, reader)| options.with_format(*name, |text| reader(text).is_none()));
        let validator = options.build(&schema).expect("generated schemas are valid");
        Self { schema, validator }
    }
}

/// All that is wrong with the shape of `value` as a `T`.
pub(super) fn check<T: JsonSchema + 'static>(value: &Value) -> Vec<Problem> {
    let shape = Shape::of::<T>();
    let mut problems = Vec::new();
    for error in shape.validator.iter_errors(value) {
        explain(&error, &shape.schema, &mut problems);
    }
    problems
}

fn explain(error: &ValidationError<'_>, schema: &Value, problems: &mut Vec<Problem>) {
    let pointer = error.instance_path().to_string();
    let found = shown(error.instance());
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let allowed = allowed_fields(error, schema);
            for field in unexpected {
                problems
                    .push(Problem::new(format!("{pointer}/{}", pointer_step(field)), unknown_field(field, &allowed)));
            }
            return;
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            return explain_alternatives(error, context, schema, problems);
        }
        ValidationErrorKind::Required { property } => {
            format!("expected the field `{}`, found none", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::Enum { options } => {
            format!("expected {}, found {found}{}", list(options), quotes(error.instance(), &list(options)))
        }
        ValidationErrorKind::Constant { expected_value } => {
            format!("expected {}, found {found}", shown(expected_value))
        }
        ValidationErrorKind::Type { kind } => {
            let expected = quantity(error, schema).unwrap_or_else(|| type_names(kind));
            format!("expected {expected}, found {}", named(error.instance()))
        }
        ValidationErrorKind::Format { format } => {
            let text = error.instance().as_str().unwrap_or_default();
            let reader = FORMATS.iter().find(|(name, _)| name == format);
            reader.and_then(|(_, reader)| reader(text)).unwrap_or_else(|| error.to_string())
        }
        ValidationErrorKind::Pattern { pattern } => {
            let expected = quantity(error, schema)
                .or_else(|| description(error, schema).as_deref().map(first_sentence))
                .unwrap_or_else(|| format!("text that matches `{pattern}`"));
            format!("expected {expected}, found {found}")
        }
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}, found {found}"),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}, found {found}"),
        ValidationErrorKind::MinItems { limit } => format!("expected at least {limit}, found fewer"),
        ValidationErrorKind::MaxItems { limit } => format!("expected at most {limit}, found more"),
        _ => error.to_string(),
    };
    problems.push(Problem::new(pointer, message));
}

/// Of several alternatives, the one that the document means: its tag fits, or else it has the fewest problems.
fn explain_alternatives(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    schema: &Value,
    problems: &mut Vec<Problem>,
) {
    let pointer = error.instance_path().to_string();
    let misfits = |branch: &[ValidationError<'static>]| {
        branch.iter().any(|inner| {
            matches!(inner.kind(), ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. })
                || (matches!(inner.kind(), ValidationErrorKind::Type { .. })
                    && inner.instance_path().to_string() == pointer)
        })
    };
    let mut fitting: Vec<_> = context.iter().filter(|branch| !misfits(branch)).collect();
    fitting.sort_by_key(|branch| branch.len());
    if let Some(branch) = fitting.first() {
        for inner in *branch {
            explain(inner, schema, problems);
        }
        return;
    }
    let tags: Vec<String> = context
        .iter()
        .flatten()
        .flat_map(|inner| match inner.kind() {
            ValidationErrorKind::Constant { expected_value } => vec![shown(expected_value)],
            ValidationErrorKind::Enum { options } => options.as_array().into_iter().flatten().map(shown).collect(),
            _ => Vec::new(),
        })
        .collect();
    let tagged = context.iter().flatten().find(|inner| matches!(inner.kind(), ValidationErrorKind::Constant { .. }));
    match tagged {
        Some(inner) => problems.push(Problem::new(
            inner.instance_path().to_string(),
            format!(
                "expected one of {}, found {}{}",
                tags.join(", "),
                shown(inner.instance()),
                quotes(inner.instance(), &tags.join(", "))
            ),
        )),
        None if tags.is_empty() => {
            let inner = || context.iter().flatten();
            let types = || inner().filter_map(|inner| type_of(inner)).collect::<Vec<_>>();
            let expected = quantity(error, schema)
                .or_else(|| inner().find_map(|inner| quantity(inner, schema)))
                .or_else(|| Some(types().join(" or ")).filter(|types| !types.is_empty()))
                .unwrap_or_else(|| "another kind of value".into());
            problems.push(Problem::new(pointer, format!("expected {expected}, found {}", named(error.instance()))));
        }
        None => problems.push(Problem::new(
            pointer,
            format!(
                "expected one of {}, found {}{}",
                tags.join(", "),
                shown(error.instance()),
                quotes(error.instance(), &tags.join(", "))
            ),
        )),
    }
}

/// What is allowed as text was written as a number: YAML takes `5` for one.
fn quotes(found: &Value, allowed: &str) -> &'static str {
    if found.is_number() && allowed.contains(&shown(found)) { " without quotes" } else { "" }
}

fn unknown_field(field: &str, allowed: &[String]) -> String {
    let hint = match field {
        "password" => "; passwords are never written in a document: use `passwordFile` or `passwordEnv`".into(),
        _ if field.starts_with("x-") => {
            "; put the anchor where the piece is first used, and name it from there on".into()
        }
        _ => unknown::meant(field, allowed.iter().map(String::as_str))
            .map(|meant| format!(", did you mean `{meant}`?"))
            .unwrap_or_default(),
    };
    match allowed {
        [] => format!("unknown field{hint}"),
        _ => format!("unknown field{hint} (allowed: {})", allowed.join(", ")),
    }
}

/// The fields that the schema node of an error allows.
fn allowed_fields(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    schema_node(error, schema)
        .and_then(|node| node.get("properties"))
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// What the schema says of the field, if it says it in one line.
fn description(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let text = schema_node(error, schema)?.get("description")?.as_str()?;
    (!text.contains('\n')).then(|| text.trim_end_matches('.').into())
}

/// What the schema says of the values of a type that reads itself from text: `a length of time such as …`.
///
/// Fields are described by sentences, which begin with a capital letter and say something else.
fn quantity(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    description(error, schema).filter(|text| text.starts_with(char::is_lowercase))
}

/// The first sentence of a description, to stand within another one.
fn first_sentence(description: &str) -> String {
    let sentence = description.split(". ").next().unwrap_or(description);
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The schema object whose keyword complained.
fn schema_node<'a>(error: &ValidationError<'_>, schema: &'a Value) -> Option<&'a Value> {
    let path = error.schema_path().to_string();
    let (parent, _keyword) = path.rsplit_once('/')?;
    schema.pointer(parent)
}

fn list(options: &Value) -> String {
    let names: Vec<String> = options.as_array().into_iter().flatten().map(shown).collect();
    if names.len() == 1 { names.join("") } else { format!("one of {}", names.join(", ")) }
}

fn type_names(kind: &jsonschema::error::TypeKind) -> String {
    match kind {
        jsonschema::error::TypeKind::Single(single) => type_name(&single.to_string()).into(),
        jsonschema::error::TypeKind::Multiple(set) => {
            let names = set.iter().map(|name| name.to_string()).filter(|name| name != "null");
            names.map(|name| type_name(&name)).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// The type that an error misses; that a field may be left out is no help.
fn type_of(error: &ValidationError<'_>) -> Option<String> {
    let ValidationErrorKind::Type { kind } = error.kind() else { return None };
    Some(type_names(kind)).filter(|name| name != type_name("null"))
}

/// A type of JSON in the words of people who write YAML.
fn type_name(name: &str) -> &'static str {
    match name {
        "object" => "a map of fields",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        _ => "nothing",
    }
}

/// A value of another type than was expected: a number in quotes is a text.
fn named(value: &Value) -> String {
    match value {
        Value::String(_) => format!("the text {}", shown(value)),
        other => shown(other),
    }
}

/// A value as a message shows it: short.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        Value::Object(_) => "a map".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "nothing".into(),
        other => format!("`{other}`"),
    }
}
