//! Which objects the words of a command line mean: fleets where they say nothing else.

use super::{
    fleets::{self, FleetName},
    load_tests::{self, TestName},
};
use crate::exit::Failure;

/// What is meant, by name; no names mean all of the kind, or the only one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// Fleets.
    Fleets(Vec<FleetName>),
    /// Load tests.
    LoadTests(Vec<TestName>),
}

/// Reads them as kubectl does: `loadtest a b`, `loadtest/a`, `fleet/a`, `a`.
pub(crate) fn read(words: &[String]) -> Result<Meant, Failure> {
    let is_test = |word: &String| load_tests::is_kind(word.split_once('/').map_or("", |(kind, _)| kind));
    let (kind, names) = match words {
        [kind, rest @ ..] if load_tests::is_kind(kind) => (true, rest),
        all => (all.first().is_some_and(is_test), all),
    };
    if !kind {
        return fleets::names(words).map(Meant::Fleets);
    }
    let names = names.iter().map(|word| word.parse().map_err(|error: String| Failure::usage(error)));
    names.collect::<Result<_, _>>().map(Meant::LoadTests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(words: &[&str]) -> Result<Meant, String> {
        read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_word_before_the_names_or_before_each_says_the_kind() {
        let tests = |names: &[&str]| Ok(Meant::LoadTests(names.iter().map(|name| TestName((*name).into())).collect()));
        let fleets = |names: &[&str]| Ok(Meant::Fleets(names.iter().map(|name| FleetName((*name).into())).collect()));
        assert_eq!(meant(&[]), fleets(&[]));
        assert_eq!(meant(&["a", "fleet/b"]), fleets(&["a", "b"]));
        assert_eq!(meant(&["loadtests"]), tests(&[]));
        assert_eq!(meant(&["lt", "a", "b"]), tests(&["a", "b"]));
        assert_eq!(meant(&["loadtest/a", "loadtest/b"]), tests(&["a", "b"]));
        let mixed = meant(&["fleet/b", "loadtest/a"]).unwrap_err();
        assert!(mixed.starts_with("expected the name of a fleet"), "{mixed}");
    }
}
