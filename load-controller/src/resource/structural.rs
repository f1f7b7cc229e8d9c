//! From the JSON Schema of a type to the structural schema that Kubernetes wants: no references, no types beside
//! `null`, nothing outside of `properties`, defaults only where a rule needs them.

use serde_json::{Map, Value, json};

/// Annotations of the JSON Schema that Kubernetes has no use for, and `additionalProperties: false`, which pruning does.
const DROPPED: [&str; 5] = ["$schema", "$defs", "title", "examples", "default"];

/// Formats that Kubernetes knows; it warns of others.
const FORMATS: [&str; 3] = ["int32", "int64", "double"];

/// The structural form of `schema`, whose `$defs` hold what it refers to.
pub(super) fn structural(schema: &Value) -> Value {
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    convert(schema, &definitions)
}

fn convert(schema: &Value, definitions: &Value) -> Value {
    let Value::Object(schema) = schema else { return json!({"x-kubernetes-preserve-unknown-fields": true}) };
    let schema = resolve(schema, definitions);
    if let Some(variants) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        return choice(&schema, variants, definitions);
    }
    let mut out = Map::new();
    for (key, value) in &schema {
        match (key.as_str(), value) {
            (dropped, _) if DROPPED.contains(&dropped) => {}
            ("type", Value::Array(types)) => {
                let known = types.iter().find(|known| *known != "null").cloned().unwrap_or_default();
                out.insert(key.clone(), known);
            }
            ("properties", Value::Object(properties)) => {
                let converted = properties.iter().map(|(name, value)| (name.clone(), convert(value, definitions)));
                out.insert(key.clone(), Value::Object(converted.collect()));
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                out.insert(key.clone(), convert(value, definitions));
            }
            ("additionalProperties", _) => {}
            ("format", Value::String(format)) if !FORMATS.contains(&format.as_str()) => {}
            ("const", value) => drop(out.insert("enum".into(), json!([value]))),
            _ => drop(out.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(out)
}

/// A schema without its reference; what stands beside a reference comes first.
fn resolve(schema: &Map<String, Value>, definitions: &Value) -> Map<String, Value> {
    let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return schema.clone() };
    let name = reference.trim_start_matches("#/$defs/");
    let mut resolved = match definitions.get(name) {
        Some(Value::Object(definition)) => resolve(definition, definitions),
        _ => Map::new(),
    };
    resolved.extend(schema.iter().filter(|(key, _)| *key != "$ref").map(|(key, value)| (key.clone(), value.clone())));
    resolved
}

/// One of several: words become an enumeration, "or null" disappears, and what has several types stays unchecked here.
fn choice(schema: &Map<String, Value>, variants: &[Value], definitions: &Value) -> Value {
    let description = schema.get("description").cloned();
    let real: Vec<&Value> = variants.iter().filter(|variant| variant["type"] != "null").collect();
    let words: Option<Vec<&Value>> =
        real.iter().map(|variant| variant.get("const").filter(|word| word.is_string())).collect();
    let mut chosen = match (words, real.as_slice()) {
        (Some(words), _) => json!({"type": "string", "enum": words}),
        (None, [only]) => convert(only, definitions),
        (None, _) => json!({"x-kubernetes-preserve-unknown-fields": true}),
    };
    if let (Some(description), Some(chosen)) = (description, chosen.as_object_mut()) {
        chosen.insert("description".into(), description);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &Value, expected: &Value) {
        assert_eq!(&structural(schema), expected);
    }

    #[test]
    fn references_are_written_out_with_their_own_descriptions_first() {
        check(
            &json!({"properties": {"a": {"$ref": "#/$defs/A", "description": "here"}}, "$defs": {"A": {"type": "string", "description": "there"}}}),
            &json!({"properties": {"a": {"type": "string", "description": "here"}}}),
        );
    }

    #[test]
    fn what_may_be_absent_is_not_null() {
        check(&json!({"type": ["string", "null"]}), &json!({"type": "string"}));
        check(&json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), &json!({"type": "integer"}));
    }

    #[test]
    fn words_are_an_enumeration_and_mixtures_are_free() {
        check(
            &json!({"oneOf": [{"const": "a", "type": "string"}, {"const": "b", "type": "string"}]}),
            &json!({"type": "string", "enum": ["a", "b"]}),
        );
        check(
            &json!({"oneOf": [{"const": "a", "type": "string"}, {"type": "object"}]}),
            &json!({"x-kubernetes-preserve-unknown-fields": true}),
        );
    }

    #[test]
    fn what_kubernetes_does_not_know_is_left_out() {
        check(
            &json!({"type": "integer", "format": "uint32", "default": 1, "examples": [2], "minimum": 0}),
            &json!({"type": "integer", "minimum": 0}),
        );
    }
}
