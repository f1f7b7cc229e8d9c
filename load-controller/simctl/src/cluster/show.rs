//! Objects in every format that kubectl has.

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::objects::title;
use crate::printer::{Format, Output, Printer};

/// One object or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// The object itself, as it was asked for by name.
    One,
    /// A `List`, of one object too.
    List,
}

/// Prints objects; `table` is for people, wide or not.
pub(crate) fn objects<K: Resource<DynamicType = ()> + Serialize>(
    printer: Printer,
    output: Output,
    number: Number,
    objects: &[K],
    table: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let format = match output {
        Output::Table | Output::Wide => return Ok(printer.data(table())?),
        Output::Name => {
            let title = |object: &K| title(&K::kind(&()), &K::group(&()), &object.name_any());
            return Ok(printer.data(objects.iter().map(title).collect::<Vec<_>>().join("\n"))?);
        }
        Output::Json => Format::Json,
        Output::Yaml => Format::Yaml,
    };
    let mut values = objects.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    values.iter_mut().for_each(without_noise);
    let value = match (number, values.as_mut_slice()) {
        (Number::One, [value]) => value.take(),
        _ => json!({ "apiVersion": "v1", "kind": "List", "items": values }),
    };
    printer.value(format, &value, String::new)
}

/// An object without what only the API server reads.
pub(crate) fn without_noise(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}
