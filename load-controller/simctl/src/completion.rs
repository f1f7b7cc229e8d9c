//! Completion: what the last word of a command line can be, in the format of cobra, which kubectl reads, too.
//!
//! A line is a word, or a word, a tab and what it means; the last line is `:0` where files may follow, or `:4` where
//! none do. Shells ask by `simctl __complete WORD…`, kubectl by a program named `kubectl_complete-simctl`
//! (<https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>). A cluster that does not answer soon, or says
//! no, has no candidates: whoever types waits, and can do nothing with a message.

mod line;

use std::{ffi::OsString, fmt::Debug, path::Path, process::ExitCode, time::Duration};

use clap::CommandFactory as _;
use clap_complete::Shell;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, ResourceExt, api::ListParams};
use line::{Candidate, Line, Source};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    args::Cli,
    cluster::{
        client::{self, Cluster},
        fleets::is_kind,
    },
    flags::ClusterFlags,
    local::socket,
    printer::Printer,
};

/// The name by which kubectl asks.
const PROGRAM: &str = "kubectl_complete-simctl";
/// The first word by which shells ask.
const VERB: &str = "__complete";
/// How long somebody who has pressed a key waits at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// More names than that help nobody.
const NAMES_MAX: u32 = 500;

/// The words to complete, if that is what this process was started for.
pub(crate) fn asked(mut args: impl Iterator<Item = OsString>) -> Option<Vec<String>> {
    let program = args.next()?;
    let is_kubectls = Path::new(&program).file_stem().is_some_and(|name| name == PROGRAM);
    if !is_kubectls && args.next().is_none_or(|verb| verb != VERB) {
        return None;
    }
    Some(args.map(|word| word.to_string_lossy().into_owned()).collect())
}

/// What a shell reads to ask; `None` for shells that know verbs and flags alone.
pub(crate) const fn script(shell: Shell) -> Option<&'static str> {
    match shell {
        Shell::Bash => Some(include_str!("completion/simctl.bash")),
        Shell::Zsh => Some(include_str!("completion/simctl.zsh")),
        Shell::Fish => Some(include_str!("completion/simctl.fish")),
        _ => None,
    }
}

/// Prints what the last word can be.
pub(crate) fn answer(words: &[String]) -> ExitCode {
    let line = Line::read(Cli::command(), words);
    // A task of its own: a program that the kubeconfig names for credentials blocks its thread, and not the deadline's.
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let search = runtime.spawn(find(line.clone()));
    let found = runtime.block_on(async { timeout(PATIENCE, search).await.ok()?.ok() });
    runtime.shutdown_background();
    // The shell shows no error.
    drop(Printer::new(true).data(text(&line, &found.unwrap_or_default())));
    ExitCode::SUCCESS
}

/// The lines of an answer.
fn text(line: &Line, candidates: &[Candidate]) -> String {
    let mut text = String::new();
    for Candidate { word, about } in candidates.iter().filter(|it| it.word.starts_with(&line.typed)) {
        let tab = if about.is_empty() { "" } else { "\t" };
        text.push_str(&format!("{}{word}{tab}{about}\n", line.before));
    }
    text.push_str(if line.source == Source::Files { ":0\n" } else { ":4\n" });
    text
}

async fn find(line: Line) -> Vec<Candidate> {
    let names = match &line.source {
        Source::Known(known) => return known.clone(),
        Source::Files => Vec::new(),
        Source::Contexts => client::contexts(&line.cluster),
        Source::Runs => runs().await,
        Source::Namespaces => match Cluster::new(&line.cluster).await {
            Ok(cluster) => names(&cluster, &cluster.everywhere::<Namespace>()).await,
            Err(_) => Vec::new(),
        },
        Source::Fleets => written(&fleets(&line.cluster).await, &line),
    };
    names.into_iter().map(|word| Candidate { word, about: String::new() }).collect()
}

/// The fleets that verbs would find: those of a run on this machine, unless the line names a cluster, and the cluster's.
async fn fleets(flags: &ClusterFlags) -> Vec<String> {
    let mut fleets = if flags.is_given() { Vec::new() } else { runs().await };
    if let Ok(cluster) = Cluster::new(flags).await {
        fleets.extend(names(&cluster, &cluster.fleets()).await);
    }
    fleets.sort();
    fleets.dedup();
    fleets
}

/// Fleets as the last word names them, without those that the line names already.
fn written(fleets: &[String], line: &Line) -> Vec<String> {
    let kind = match line.typed.split_once('/') {
        Some((kind, _)) => Some(kind).filter(|kind| is_kind(kind)),
        // Who types the kind is offered it, beside fleets whose names begin alike.
        None => Some("fleet").filter(|kind| !line.typed.is_empty() && kind.starts_with(&line.typed)),
    };
    let is_new = |fleet: &&String| !line.words.iter().any(|word| word.rsplit('/').next() == Some(fleet));
    let names = fleets.iter().filter(is_new);
    names.flat_map(|name| [Some(name.clone()), kind.map(|kind| format!("{kind}/{name}"))]).flatten().collect()
}

async fn runs() -> Vec<String> {
    socket::list().await.into_iter().map(|run| run.fleet).collect()
}

async fn names<K: Resource + Clone + DeserializeOwned + Debug>(cluster: &Cluster, api: &Api<K>) -> Vec<String> {
    let found = cluster.ask(api.list_metadata(&ListParams::default().limit(NAMES_MAX))).await;
    found.map(|list| list.items.iter().map(ResourceExt::name_any).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(typed: &str) -> Line {
        Line {
            before: String::new(),
            typed: typed.into(),
            source: Source::Fleets,
            cluster: ClusterFlags::default(),
            words: vec!["fleet/a".into()],
        }
    }

    fn asked(args: &[&str]) -> Option<Vec<String>> {
        super::asked(args.iter().map(OsString::from))
    }

    #[test]
    fn shells_ask_by_a_word_and_kubectl_by_the_programs_name() {
        let words = Some(vec!["scale".to_owned(), String::new()]);
        assert_eq!(asked(&["/usr/bin/simctl", "__complete", "scale", ""]), words);
        assert_eq!(asked(&["/usr/bin/kubectl_complete-simctl", "scale", ""]), words);
        assert_eq!(asked(&["simctl", "scale", ""]), None);
        assert_eq!(asked(&["simctl"]), None);
    }

    #[test]
    fn an_answer_is_what_cobra_prints() {
        let candidate = |word: &str, about: &str| Candidate { word: word.into(), about: about.into() };
        let found = vec![candidate("load", ""), candidate("lab", ""), candidate("low", "a test")];
        let line = Line { before: "--namespace=".into(), ..line("lo") };
        assert_eq!(text(&line, &found), "--namespace=load\n--namespace=low\ta test\n:4\n");
        assert_eq!(text(&Line { source: Source::Files, ..line }, &[]), ":0\n");
    }

    #[test]
    fn fleets_are_named_as_they_are_typed_and_once() {
        let fleets = ["a", "b"].map(String::from);
        assert_eq!(written(&fleets, &line("")), ["b"]);
        assert_eq!(written(&fleets, &line("fl")), ["b", "fleet/b"]);
        assert_eq!(written(&fleets, &line("fleets/")), ["b", "fleets/b"]);
        assert_eq!(written(&fleets, &line("pod/")), ["b"]);
    }
}
