//! Topic filters: where their wildcards may stand (MQTT 5 and 3.1.1, section 4.7.1).

/// Whether each wildcard of the filter fills its level, and `#` is in the last one.
pub fn has_right_wildcards(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let is_right = match level {
            "+" => true,
            "#" => is_last,
            literal => !literal.contains(['+', '#']),
        };
        if !is_right {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_fills_its_level_and_the_multi_level_one_is_last() {
        for filter in ["#", "+", "a/#", "+/+/b", "/+", "a//#", "$share/g/+", "a"] {
            assert!(has_right_wildcards(filter), "{filter}");
        }
        for filter in ["a#", "#/a", "a+", "+a/b", "a/#/b", "a/b#"] {
            assert!(!has_right_wildcards(filter), "{filter}");
        }
    }
}
