//! Which of the Fleets of a file is meant: the only one, the one that `--fleet` names, or the one that a person chooses; and
//! which of its load tests.

use std::io::{self, IsTerminal as _, Write as _};

use crate::{
    exit::Failure,
    sources::{Object, STDIN, Sources},
};

/// The Fleet that is meant; `file` is what the command line calls the file.
pub(crate) fn fleet<'s>(sources: &'s Sources, file: &str, wanted: Option<&str>) -> Result<&'s Object, Failure> {
    let fleets = sources.fleets();
    let names: Vec<&str> = fleets.iter().map(|fleet| fleet.name()).collect();
    let is_wanted = |fleet: &&&Object| wanted.is_none_or(|wanted| fleet.name() == wanted);
    match fleets.iter().filter(is_wanted).collect::<Vec<_>>().as_slice() {
        [only] => Ok(**only),
        [] if names.is_empty() => Err(Failure::document(none(sources, file))),
        [] => Err(Failure::usage(format!(
            "expected a fleet of {file}, found `{}` in --fleet; there are {}",
            wanted.unwrap_or_default(),
            names.join(", ")
        ))),
        _ if wanted.is_some() => {
            Err(Failure::usage(format!("{file} holds several fleets of that name: expected a file with one of them")))
        }
        _ if is_talk(file) => ask(file, &names).map(|position| fleets[position]),
        _ => {
            let (names, last) = (names[..names.len() - 1].join(", "), names[names.len() - 1]);
            Err(Failure::usage(format!("{file} holds the fleets {names} and {last}: expected --fleet NAME")))
        }
    }
}

/// The load test that is meant, if one is: the only one of the file, or the one that is named.
pub(crate) fn load_test<'s>(
    sources: &'s Sources,
    file: &str,
    wanted: Option<&str>,
) -> Result<Option<&'s Object>, Failure> {
    let tests = sources.load_tests();
    let names = || tests.iter().map(|test| test.name()).collect::<Vec<_>>().join(", ");
    let is_wanted = |test: &&&Object| wanted.is_none_or(|wanted| test.name() == wanted);
    match (tests.iter().filter(is_wanted).collect::<Vec<_>>().as_slice(), wanted) {
        ([only], _) => Ok(Some(**only)),
        ([], None) => Ok(None),
        ([], Some(wanted)) if tests.is_empty() => {
            Err(Failure::usage(format!("expected the load test `{wanted}` in {file}, found none")))
        }
        ([], Some(wanted)) => Err(Failure::usage(format!(
            "expected a load test of {file}, found `{wanted}` in --load-test; there are {}",
            names()
        ))),
        (_, Some(_)) => Err(Failure::usage(format!(
            "{file} holds several load tests of that name: expected a file with one of them"
        ))),
        (_, None) => Err(Failure::usage(format!(
            "{file} holds the load tests {}: expected --load-test NAME, or --fleet NAME for a run without one",
            names()
        ))),
    }
}

/// A file without a Fleet, and what it holds.
fn none(sources: &Sources, file: &str) -> String {
    let titles: Vec<_> = sources.objects.iter().map(Object::title).collect();
    let found = if titles.is_empty() { "nothing".into() } else { titles.join(", ") };
    format!("expected a Fleet in {file}, found {found}")
}

/// Whether a person is there to be asked: standard input holds no document, and both ends are a terminal.
fn is_talk(file: &str) -> bool {
    file != STDIN && io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask(file: &str, names: &[&str]) -> Result<usize, Failure> {
    let list: String =
        names.iter().enumerate().map(|(position, name)| format!("  {}  {name}\n", position + 1)).collect();
    let failed = |error: io::Error| Failure::usage(format!("expected --fleet NAME, found no answer: {error}"));
    write!(io::stderr(), "{file} holds several fleets:\n{list}which one? ").map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    understood(&answer, names)
        .ok_or_else(|| Failure::usage(format!("expected a number or a name of the list, found `{}`", answer.trim())))
}

/// The position that an answer means: a number of the list, or a name.
fn understood(answer: &str, names: &[&str]) -> Option<usize> {
    let answer = answer.trim();
    let by_name = || names.iter().position(|name| *name == answer);
    let number = answer.parse::<usize>().ok().filter(|number| (1..=names.len()).contains(number));
    by_name().or_else(|| number.map(|number| number - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(names: &[&str], wanted: Option<&str>) -> Result<String, String> {
        let texts: Vec<_> = names.iter().map(|name| format!("kind: Fleet\nmetadata: {{name: {name}}}\n")).collect();
        let sources = Sources::of_text(STDIN, &texts.join("---\n"), None);
        fleet(&sources, STDIN, wanted).map(Object::place).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_only_one_is_meant_and_of_several_the_one_that_is_named() {
        assert_eq!(choose(&["a"], None).as_deref(), Ok("stdin:1"));
        assert_eq!(choose(&["a", "b"], Some("b")).as_deref(), Ok("stdin:4"));
    }

    #[test]
    fn what_is_not_clear_is_told_with_what_there_is() {
        for (names, wanted, expected) in [
            (&["a", "b", "c"][..], None, "stdin holds the fleets a, b and c: expected --fleet NAME"),
            (&["a", "b"], Some("x"), "expected a fleet of stdin, found `x` in --fleet; there are a, b"),
            (&["a", "a"], Some("a"), "stdin holds several fleets of that name: expected a file with one of them"),
            (&[], None, "expected a Fleet in stdin, found nothing"),
        ] {
            assert_eq!(choose(names, wanted), Err(expected.into()));
        }
        let sources = Sources::of_text(STDIN, "{apiVersion: v1, kind: Secret, metadata: {name: s}}", None);
        let failure = fleet(&sources, STDIN, None).unwrap_err();
        assert_eq!(failure.to_string(), "expected a Fleet in stdin, found secret/s");
    }

    #[test]
    fn an_answer_is_a_number_or_a_name() {
        let names = ["lab", "2"];
        assert_eq!([" 1\n", "lab", "2"].map(|answer| understood(answer, &names)), [Some(0), Some(0), Some(1)]);
        assert_eq!(["0", "3", "x", ""].map(|answer| understood(answer, &names)), [None; 4]);
    }
}
