//! What may be a topic, a filter, or any string (§1.5.3, §4.7).

use fleet_contract::topic_filter;

use super::FrameError;

/// Checks that `topic` may be published to.
pub fn check_topic(topic: &str) -> Result<(), FrameError> {
    check_topic_bytes(topic.as_bytes(), "topic").map(|_| ())
}

/// Checks that `filter` may be subscribed to.
pub fn check_filter(filter: &str) -> Result<(), FrameError> {
    if filter.is_empty() {
        return Err(FrameError::Empty("filter"));
    }
    check_string(filter, "filter")?;
    if topic_filter::has_right_wildcards(filter) { Ok(()) } else { Err(FrameError::InvalidFilter) }
}

/// The topic in `bytes`; `field` names it in the error.
pub(super) fn check_topic_bytes<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, FrameError> {
    if bytes.is_empty() {
        return Err(FrameError::Empty(field));
    }
    check_length(bytes, field)?;
    if let Some(at) = memchr::memchr3(0, b'+', b'#', bytes) {
        let error = if bytes[at] == 0 { FrameError::NullCharacter } else { FrameError::Wildcard };
        return Err(error(field));
    }
    std::str::from_utf8(bytes).map_err(|_| FrameError::NotUtf8(field))
}

pub(super) fn check_string(string: &str, field: &'static str) -> Result<(), FrameError> {
    check_length(string.as_bytes(), field)?;
    match memchr::memchr(0, string.as_bytes()) {
        Some(_) => Err(FrameError::NullCharacter(field)),
        None => Ok(()),
    }
}

/// The length of `bytes` as the wire says it.
pub(super) fn check_length(bytes: &[u8], field: &'static str) -> Result<u16, FrameError> {
    u16::try_from(bytes.len()).map_err(|_| FrameError::TooLong { field, length: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_any_name_without_wildcards() {
        for topic in ["a", "/", "a//b", " ", "$SYS/x", "größe"] {
            assert_eq!(check_topic(topic), Ok(()), "{topic}");
        }
        assert_eq!(check_topic(""), Err(FrameError::Empty("topic")));
        assert_eq!(check_topic("a/+"), Err(FrameError::Wildcard("topic")));
        assert_eq!(check_topic("a#"), Err(FrameError::Wildcard("topic")));
        assert_eq!(check_topic("a\0"), Err(FrameError::NullCharacter("topic")));
        assert_eq!(check_topic(&"a".repeat(65_535)), Ok(()));
        let length = 65_536;
        assert_eq!(check_topic(&"a".repeat(length)), Err(FrameError::TooLong { field: "topic", length }));
        assert_eq!(check_topic_bytes(b"\xff", "topic"), Err(FrameError::NotUtf8("topic")));
    }

    #[test]
    fn a_wildcard_fills_its_level_and_the_multi_level_one_is_last() {
        for filter in ["#", "+", "a/#", "+/+/b", "/+", "a//#", "$share/g/+"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["a#", "#/a", "a+", "+a/b", "a/#/b", "a/b#"] {
            assert_eq!(check_filter(filter), Err(FrameError::InvalidFilter), "{filter}");
        }
        assert_eq!(check_filter(""), Err(FrameError::Empty("filter")));
        assert_eq!(check_filter("\0"), Err(FrameError::NullCharacter("filter")));
    }
}
