//! What an image is called.

use std::{fmt, str::FromStr};

/// Where images are called after by default; the names of `simctl install` begin with it.
pub const REGISTRY: &str = "ghcr.io/simctl";

/// The tag of this version's images.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// The name of an image: `ghcr.io/simctl/broker:0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Registry and path.
    pub registry: String,
    /// The last part of the path: the program.
    pub program: String,
    /// The tag.
    pub tag: String,
}

impl Reference {
    /// The image of a program.
    pub fn new(registry: &str, program: &str, tag: &str) -> Self {
        Self { registry: registry.trim_end_matches('/').into(), program: program.into(), tag: tag.into() }
    }

    /// Whether no node can pull it, since nobody serves that name.
    pub fn is_local(&self) -> bool {
        self.registry == "localhost" || self.registry.starts_with("localhost/")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, program, tag } = self;
        write!(f, "{registry}/{program}:{tag}")
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected an image such as `{REGISTRY}/broker:{TAG}`, found `{text}`");
        let (registry, name) = text.rsplit_once('/').filter(|(registry, _)| !registry.is_empty()).ok_or_else(wrong)?;
        let (program, tag) = name.split_once(':').ok_or_else(wrong)?;
        let is_plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        if is_plain(program) && is_plain(tag) { Ok(Self::new(registry, program, tag)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_as_they_are_written() {
        for text in ["ghcr.io/simctl/broker:0.1.0", "localhost:5000/broker:dev", "localhost/simctl/broker:dev"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        assert!("broker".parse::<Reference>().is_err() && "ghcr.io/simctl/broker".parse::<Reference>().is_err());
    }

    #[test]
    fn a_name_that_nobody_serves_is_local() {
        assert!("localhost/simctl/broker:dev".parse::<Reference>().unwrap().is_local());
        assert!(!"localhost:5000/broker:dev".parse::<Reference>().unwrap().is_local());
    }
}
