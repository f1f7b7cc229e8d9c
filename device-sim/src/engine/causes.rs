//! Counters by the name of a cause, or by a text.

use std::collections::BTreeMap;

/// Texts that are counted by themselves; a broker that says something new each time is counted together.
const TEXTS_MAX: usize = 16;

/// What the texts beyond [`TEXTS_MAX`] are counted as.
const OTHERS: &str = "something else";

/// Adds to the counter of that name; only the first time of a name takes memory.
pub(super) fn add(counts: &mut BTreeMap<String, u64>, name: &str, number: u64) {
    match counts.get_mut(name) {
        Some(count) => *count += number,
        None => drop(counts.insert(name.into(), number)),
    }
}

/// Counts a text that somebody else has chosen.
pub(super) fn add_text(counts: &mut BTreeMap<String, u64>, text: &str) {
    let is_new = !counts.contains_key(text);
    add(counts, if is_new && counts.len() >= TEXTS_MAX { OTHERS } else { text }, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_says_something_new_each_time_takes_no_memory() {
        let mut counts = BTreeMap::new();
        (0..1_000).for_each(|number| add_text(&mut counts, &format!("text {number}")));
        assert_eq!((counts.len(), counts[OTHERS]), (TEXTS_MAX + 1, 984));
    }
}
