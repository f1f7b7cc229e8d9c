//! Counters by the name of a cause.

use std::collections::BTreeMap;

/// Adds to the counter of that name; only the first time of a name takes memory.
pub(super) fn add(counts: &mut BTreeMap<String, u64>, name: &str, number: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += number,
        None => drop(counts.insert(name.into(), number)),
    }
}
