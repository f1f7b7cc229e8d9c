//! What a word of a command line can be, by the command line's own definition. Pure.
//!
//! A word is a verb, a flag or a value. Some values are known here, such as the formats of `-o`; for others the line
//! says where they are found, and in which cluster.

use std::path::PathBuf;

use clap::{Arg, Command, ValueHint};
use fleet_contract::builtin;

use crate::{cluster::fleets::is_kind, flags::ClusterFlags, library};

/// A word, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// The word.
    pub(crate) word: String,
    /// In a few words, for shells that show it; may be empty.
    pub(crate) about: String,
}

/// Where the values of a flag or of a position are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// These, and no others.
    Known(Vec<Candidate>),
    /// Names of fleets, as `NAME` or `fleet/NAME`.
    Fleets,
    /// Namespaces of the cluster.
    Namespaces,
    /// Contexts of the kubeconfig.
    Contexts,
    /// Runs of this machine.
    Runs,
    /// Files.
    Files,
}

/// The last word of a command line, which is to be completed.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What stands before the value in the same word, such as `--namespace=`.
    pub(crate) before: String,
    /// What is typed of the value so far.
    pub(crate) typed: String,
    /// What it can be.
    pub(crate) source: Source,
    /// Which cluster the words before mean.
    pub(crate) cluster: ClusterFlags,
    /// The words before that are no flags, after the verb.
    pub(crate) words: Vec<String>,
}

impl Line {
    /// Reads the words after the program's name; the last one, which may be empty, is to be completed.
    pub(crate) fn read(mut whole: Command, words: &[String]) -> Self {
        // Makes the flags of the whole command line flags of each verb.
        whole.build();
        let (typed, before) = words.split_last().map_or((String::new(), &[][..]), |(it, rest)| (it.clone(), rest));
        let mut line = Walk {
            command: &whole,
            is_over: false,
            wants_value: None,
            words: Vec::new(),
            cluster: ClusterFlags::default(),
        };
        before.iter().for_each(|word| line.step(word));
        line.end(typed)
    }
}

/// What is known after some words.
struct Walk<'a> {
    command: &'a Command,
    /// Whether there was a `--`, after which nothing is a flag.
    is_over: bool,
    /// The flag whose value is the next word.
    wants_value: Option<&'a Arg>,
    words: Vec<String>,
    cluster: ClusterFlags,
}

impl<'a> Walk<'a> {
    fn step(&mut self, word: &str) {
        if let Some(flag) = self.wants_value.take() {
            self.note(flag, word);
        } else if self.is_over {
            self.words.push(word.to_owned());
        } else if word == "--" {
            self.is_over = true;
        } else if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            self.flag(self.long(name), value);
        } else if let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) {
            self.short(flags);
        } else if let Some(verb) = self.command.find_subcommand(word).filter(|_| self.words.is_empty()) {
            self.command = verb;
        } else {
            self.words.push(word.to_owned());
        }
    }

    /// `-n load` leaves the value to the next word, `-nload` and `-n=load` do not, and `-qn load` is two flags.
    fn short(&mut self, flags: &str) {
        for (at, name) in flags.char_indices() {
            let flag = self.command.get_arguments().find(|flag| flag.get_short() == Some(name));
            if flag.is_some_and(takes_value) {
                let rest = &flags[at + name.len_utf8()..];
                let value = rest.strip_prefix('=').unwrap_or(rest);
                return self.flag(flag, Some(value).filter(|_| !rest.is_empty()));
            }
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|flag| {
            flag.get_long() == Some(name) || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        })
    }

    fn flag(&mut self, flag: Option<&'a Arg>, value: Option<&str>) {
        let Some(flag) = flag.filter(|flag| takes_value(flag)) else { return };
        match value {
            Some(value) => self.note(flag, value),
            None => self.wants_value = Some(flag),
        }
    }

    /// Remembers what a flag says of the cluster.
    fn note(&mut self, flag: &Arg, value: &str) {
        match flag.get_id().as_str() {
            "namespace" => self.cluster.namespace = Some(value.to_owned()),
            "context" => self.cluster.context = Some(value.to_owned()),
            "kubeconfig" => self.cluster.kubeconfig = Some(PathBuf::from(value)),
            _ => {}
        }
    }

    fn end(self, typed: String) -> Line {
        let (before, typed, source) = match self.wants_value {
            Some(flag) => (String::new(), typed, values(flag)),
            None if self.is_over || !typed.starts_with('-') => {
                let source = self.position();
                (String::new(), typed, source)
            }
            None => match typed.split_once('=') {
                Some((flag, value)) => {
                    let source = flag.strip_prefix("--").and_then(|name| self.long(name)).map_or_else(nothing, values);
                    (format!("{flag}="), value.to_owned(), source)
                }
                None => (String::new(), typed, self.flags()),
            },
        };
        Line { before, typed, source, cluster: self.cluster, words: self.words }
    }

    /// What can stand here that is no flag: a verb, or what the verb is about.
    fn position(&self) -> Source {
        let verbs = self.command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<Candidate> =
            verbs.map(|verb| candidate(verb.get_name(), verb.get_about().map(ToString::to_string))).collect();
        if self.words.is_empty() && !verbs.is_empty() && !self.is_over {
            return Source::Known(verbs);
        }
        let positions: Vec<&Arg> = self.command.get_positionals().collect();
        let Some(position) = positions.get(self.words.len()).or(positions.last()) else { return nothing() };
        let is_list = position.get_num_args().is_some_and(|number| number.max_values() > 1);
        // `[FLEET] DEVICES`: a fleet comes first, as `NAME` or as `fleet NAME`, and something else after it.
        let of_fleet = match self.words.as_slice() {
            [] => true,
            [kind] if is_kind(kind) => is_list,
            _ => is_list && !names_value(position, "["),
        };
        if of_fleet || self.words.len() < positions.len() { values(position) } else { nothing() }
    }

    fn flags(&self) -> Source {
        let flags = self.command.get_arguments().filter(|flag| !flag.is_hide_set());
        let known = flags.filter_map(|flag| {
            Some(candidate(&format!("--{}", flag.get_long()?), flag.get_help().map(ToString::to_string)))
        });
        Source::Known(known.collect())
    }
}

fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values()
}

fn names_value(flag: &Arg, part: &str) -> bool {
    flag.get_value_names().is_some_and(|names| names.iter().any(|name| name.contains(part)))
}

/// Where the values of a flag or position are found: by its name, because that means the same for each verb.
fn values(flag: &Arg) -> Source {
    let possible = flag.get_possible_values();
    let possible = possible.iter().filter(|value| !value.is_hide_set());
    let known: Vec<Candidate> =
        possible.map(|value| candidate(value.get_name(), value.get_help().map(ToString::to_string))).collect();
    match flag.get_id().as_str() {
        _ if !known.is_empty() => Source::Known(known),
        "namespace" | "grafana_namespace" => Source::Namespaces,
        "context" => Source::Contexts,
        "run" => Source::Runs,
        _ if names_value(flag, "FLEET") => Source::Fleets,
        "model" => Source::Known(models()),
        "example" => Source::Known(examples()),
        _ if matches!(flag.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath) => {
            Source::Files
        }
        _ => nothing(),
    }
}

fn models() -> Vec<Candidate> {
    builtin::ALL.iter().map(|model| candidate(model.name, None)).collect()
}

fn examples() -> Vec<Candidate> {
    let about = |text| Some(library::headline(text).to_owned());
    library::EXAMPLES.iter().map(|(name, text)| candidate(name, about(text))).collect()
}

fn candidate(word: &str, about: Option<String>) -> Candidate {
    let about = about.unwrap_or_default();
    Candidate { word: word.to_owned(), about: about.lines().next().unwrap_or_default().to_owned() }
}

const fn nothing() -> Source {
    Source::Known(Vec::new())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn read(words: &[&str]) -> Line {
        Line::read(Cli::command(), &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn known(words: &[&str]) -> Vec<String> {
        match read(words).source {
            Source::Known(known) => known.into_iter().map(|candidate| candidate.word).collect(),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn check(words: &[&str], expected: &Source) {
        assert_eq!(read(words).source, *expected, "{words:?}");
    }

    #[test]
    fn the_first_word_is_a_verb_with_what_it_does() {
        let Source::Known(verbs) = read(&[""]).source else { panic!("no verbs") };
        let scale = verbs.iter().find(|verb| verb.word == "scale").unwrap();
        assert_eq!(scale.about, "Change the number of devices");
        assert!(!verbs.iter().any(|verb| verb.word == "worker"), "hidden verbs are no candidates");
        assert!(known(&["-q", "rollout", ""]).contains(&"undo".to_owned()));
    }

    #[test]
    fn fleets_stand_where_a_verb_is_about_them() {
        for words in [
            &["get", ""][..],
            &["get", "a", "b", ""],
            &["delete", "fleet", ""],
            &["scale", "fl"],
            &["scale", "fleet", ""],
            &["set", ""],
            &["device", "-n", "load", ""],
            &["pause", ""],
            &["rollout", "undo", ""],
            &["wait", "--for", "deleted", ""],
            &["status", "--", ""],
        ] {
            check(words, &Source::Fleets);
        }
        for words in [&["scale", "robotaxis", ""][..], &["pause", "robotaxis", ""], &["install", ""], &["stop", ""]] {
            check(words, &nothing());
        }
    }

    #[test]
    fn values_are_found_by_the_flag() {
        check(&["get", "-n", ""], &Source::Namespaces);
        check(&["get", "--namespace=lo"], &Source::Namespaces);
        check(&["get", "--context", "ki"], &Source::Contexts);
        check(&["stop", "--run", ""], &Source::Runs);
        check(&["apply", "-f", ""], &Source::Files);
        check(&["apply", "--filename", ""], &Source::Files);
        assert!(known(&["run", "--model", ""]).contains(&"robotaxi".to_owned()));
        assert!(known(&["models", "show", ""]).contains(&"robotaxi".to_owned()));
        assert!(known(&["example", ""]).contains(&"street-lights".to_owned()));
        assert_eq!(known(&["get", "-o", ""]), ["table", "wide", "json", "yaml", "name"]);
        assert_eq!(known(&["scale", "--timeout", ""]), [] as [&str; 0]);
    }

    #[test]
    fn a_word_that_begins_with_a_dash_is_a_flag() {
        let flags = known(&["scale", "--"]);
        assert!(["--namespace", "--by", "--quiet"].iter().all(|flag| flags.contains(&(*flag).to_owned())), "{flags:?}");
    }

    #[test]
    fn the_flags_before_say_which_cluster_is_meant() {
        let line =
            read(&["-q", "get", "-nload", "--context=kind", "--kubeconfig", "x.yaml", "-o", "json", "a", "fleet/r"]);
        assert_eq!(line.cluster.namespace.as_deref(), Some("load"));
        assert_eq!(line.cluster.context.as_deref(), Some("kind"));
        assert_eq!(line.cluster.kubeconfig, Some("x.yaml".into()));
        assert_eq!((line.typed.as_str(), line.words), ("fleet/r", vec!["a".to_owned()]));
        let line = read(&["get", "--namespace=lo"]);
        assert_eq!((line.before.as_str(), line.typed.as_str()), ("--namespace=", "lo"));
    }
}
