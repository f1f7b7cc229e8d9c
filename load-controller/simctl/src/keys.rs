//! One style of keys for all that simctl computes: those of the report, `snake_case`.
//!
//! Until release 0.1 some outputs had `camelCase`. They have both for one more release.

use serde_json::{Map, Value};

/// The same with each key in `snake_case`, and where it was another, that one, too.
pub(crate) fn styled(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(styled).collect(),
        Value::Object(map) => {
            let mut styled_map = Map::new();
            let mut former = Vec::new();
            for (key, value) in map {
                let (snake, camel, value) = (snake(&key), camel(&key), styled(value));
                if camel != snake {
                    former.push((camel, value.clone()));
                }
                styled_map.insert(snake, value);
            }
            styled_map.extend(former);
            styled_map.into()
        }
        other => other,
    }
}

/// A schema of the same, without the former keys.
pub(crate) fn styled_schema(schema: Value) -> Value {
    match schema {
        Value::Array(items) => items.into_iter().map(styled_schema).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let value = match (key.as_str(), styled_schema(value)) {
                    ("properties", Value::Object(properties)) => {
                        properties.into_iter().map(|(name, value)| (snake(&name), value)).collect::<Map<_, _>>().into()
                    }
                    ("required", Value::Array(names)) => {
                        names.iter().filter_map(Value::as_str).map(snake).collect::<Vec<_>>().into()
                    }
                    (_, value) => value,
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn camel(key: &str) -> String {
    let mut parts = key.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |camel, part| {
        let (head, tail) = part.split_at(usize::from(!part.is_empty()));
        camel + &head.to_ascii_uppercase() + tail
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_has_the_style_and_its_former_name() {
        let value = json!({"nextDue": 1, "streams": [{"cpu_cores": 2, "name": "inFlight"}]});
        let expected = json!({
            "next_due": 1,
            "streams": [{"cpu_cores": 2, "name": "inFlight", "cpuCores": 2}],
            "nextDue": 1,
        });
        assert_eq!(styled(value), expected);
        let schema = json!({"properties": {"nextDue": {"type": "string"}}, "required": ["nextDue"]});
        let expected = json!({"properties": {"next_due": {"type": "string"}}, "required": ["next_due"]});
        assert_eq!(styled_schema(schema), expected);
    }
}
