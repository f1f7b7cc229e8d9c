//! `simctl report`: what a run, or a load test of a cluster, has left, in another format.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use load_controller::{
    report::{
        self, Report, csv, json, junit, markdown,
        text::{self, Style, Width},
    },
    resource::{LoadTest, config_map},
    run::verdict::ExitCode,
    yaml,
};

use crate::{
    cluster::{
        client::Cluster,
        load_tests::{self, TestName},
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
    text as files,
};

const EXAMPLES: &str = "\
Examples:
  simctl report out
  simctl report out -o markdown >> \"$GITHUB_STEP_SUMMARY\"
  simctl report out -o junit --exit-code
  simctl run -o json | tee report.json | simctl report - -o markdown
  simctl report loadtest/rush-hour -n load -o html > rush-hour.html";

/// Print the report of a run that has ended
///
/// Reads the directory that `run --report` has written, a file `report.json`, or standard input; of a load test of a cluster, what
/// the load controller has kept. A name that no file has is looked for in the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory of a report, or its file `report.json`; `-` reads that from standard input; or a load test, such as
    /// `loadtest/rush-hour`
    #[arg(value_name = "DIR|FILE|LOADTEST")]
    path: PathBuf,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// End with the exit code of the run's verdict
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// The formats of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The same with all that there is
    Wide,
    /// One page with charts
    Html,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For pipelines: a test for the run and for each threshold
    Junit,
    /// The run second by second
    Csv,
    /// For summaries of pipelines, and comments
    Markdown,
}

impl Args {
    /// Reads the report and prints it.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let place = place(self.path.to_str().unwrap_or_default(), self.path.exists(), self.cluster.is_given());
        let found = match &place {
            Place::Here => None,
            Place::Cluster(name) => Some(self.find(name, printer).await?),
            Place::Open(name) => Some(self.find(name, printer).await.map_err(|error| neither(name, &error))?),
        };
        let kept = match &found {
            Some((cluster, test)) => Some(self.kept(cluster, test).await?),
            None => None,
        };
        let (text, place) = match &kept {
            Some(files) => (files.get("report.json").cloned().unwrap_or_default(), self.path.display().to_string()),
            None => self.read()?,
        };
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| Failure::document(format!("expected a report in {place}, found: {error}")))?;
        let paint = printer.palette();
        let table = |width| text::render(&report, Style { width, paint });
        let shown = match self.output {
            Format::Table => table(Width::Table),
            Format::Wide => table(Width::Wide),
            Format::Html => match &kept {
                Some(files) => files.get("report.html").cloned().ok_or_else(too_large)?,
                None => page(&self.path)?,
            },
            Format::Json => json::render(&report),
            Format::Yaml => yaml::text(&report).context("failed to write YAML")?,
            Format::Junit => junit::render(&report),
            Format::Csv => csv::timeline(&report.timeline),
            Format::Markdown => markdown::render(&report),
        };
        printer.data(shown.trim_end())?;
        Ok(if self.exit_code { report.exit_code() } else { ExitCode::Passed })
    }

    /// The text of a report, and where it was found.
    fn read(&self) -> anyhow::Result<(String, String)> {
        let file = if self.path.is_dir() { self.path.join("report.json") } else { self.path.clone() };
        let text = if file == Path::new("-") { files::read_stdin("stdin") } else { files::read(&file) };
        let text = text.map_err(|message| anyhow::anyhow!("{message}; {REMEDY}"))?;
        Ok((text, file.display().to_string()))
    }

    /// The load test of that name, and its cluster.
    async fn find(&self, name: &TestName, printer: Printer) -> anyhow::Result<(Cluster, LoadTest)> {
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let test = cluster.load_test(Some(name)).await?;
        Ok((cluster, test))
    }

    /// The files that are kept of a load test of a cluster.
    async fn kept(&self, cluster: &Cluster, test: &LoadTest) -> anyhow::Result<BTreeMap<String, String>> {
        let status = test.status.clone().unwrap_or_default();
        let (state, why) = load_tests::state(&status);
        let name = test.name_any();
        if status.reports.is_empty() {
            let remedy = if test.is_complete() { "" } else { "; `simctl wait loadtest/NAME` waits for its end" };
            let why = why.lines().next().unwrap_or_default().to_owned();
            let code = match state.as_str() {
                "Aborted" => ExitCode::Aborted,
                "CannotStart" => ExitCode::Document,
                _ => ExitCode::Other,
            };
            let code = if self.exit_code { code } else { ExitCode::Other };
            let message = format!("load test {name} has no report: {state}: {why}{remedy}");
            return Err(Failure::ended(code, message).into());
        }
        let mut packed = Vec::new();
        for part in &status.reports {
            let object = cluster.ask(cluster.api::<ConfigMap>().get(part)).await?;
            let is_its = object.owner_references().iter().any(|owner| Some(&owner.uid) == test.metadata.uid.as_ref());
            let bytes = config_map::read_report(&object).filter(|_| is_its);
            packed.extend_from_slice(
                bytes.with_context(|| format!("expected a part of the report in ConfigMap {part}"))?,
            );
        }
        report::files::unpack(&packed).with_context(|| format!("failed to read what is kept of load test {name}"))
    }
}

/// How somebody gets at a report.
const REMEDY: &str =
    "`simctl run --report DIR` writes one, `simctl report loadtest/NAME` reads that of a cluster's load test";

/// Where a report is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// On this machine, or nowhere.
    Here,
    /// In a cluster.
    Cluster(TestName),
    /// There is no such file, and a load test may have the name: the cluster knows.
    Open(TestName),
}

/// Where a report is that goes by `text`: `exists` if a file or a directory has that name, `names_cluster` if flags say which
/// cluster is meant.
fn place(text: &str, exists: bool, names_cluster: bool) -> Place {
    let is_kind = text.split_once('/').is_some_and(|(kind, _)| load_tests::is_kind(kind));
    let is_file = text == "-" || exists;
    match text.parse() {
        Ok(name) if is_kind || !is_file && names_cluster => Place::Cluster(name),
        Ok(name) if !is_file && is_name(text) => Place::Open(name),
        _ => Place::Here,
    }
}

/// Whether this may be the name of a load test; one with dots, which Kubernetes takes as well, is a file.
fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// There is neither a file nor a load test of that name.
fn neither(TestName(name): &TestName, error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("there is no file or directory {name}, nor was a load test of that name found: {error:#}; {REMEDY}")
}

/// Where a page was left out of what is kept.
fn too_large() -> Failure {
    Failure::refused("the page was too large to be kept in the cluster; -o json has all of its figures")
}

/// The page of a report, whose charts of percentiles need more than its figures: it was written with them.
fn page(directory: &Path) -> Result<String, Failure> {
    let file = directory.join("report.html");
    fs::read_to_string(&file).map_err(|error| {
        Failure::usage(format!("expected the directory of a report beside -o html, found {}: {error}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_file_has_is_looked_for_in_the_cluster() {
        let rush = || TestName("rush-hour".into());
        for (text, exists, names_cluster, expected) in [
            ("loadtest/rush-hour", false, false, Place::Cluster(rush())),
            ("loadtest/rush-hour", true, false, Place::Cluster(rush())),
            ("rush-hour", false, true, Place::Cluster(rush())),
            ("rush-hour", false, false, Place::Open(rush())),
            ("rush-hour", true, false, Place::Here),
            ("rush-hour", true, true, Place::Here),
            ("-", false, false, Place::Here),
            ("out/rush-hour", false, false, Place::Here),
            ("report.json", false, false, Place::Here),
            ("Rush", false, false, Place::Here),
            ("", false, false, Place::Here),
        ] {
            assert_eq!(place(text, exists, names_cluster), expected, "{text} {exists} {names_cluster}");
        }
        assert!(!is_name(&"a".repeat(64)) && !is_name("a-") && is_name("a1"));
    }

    #[test]
    fn who_finds_neither_is_told_both_ways() {
        let error = anyhow::anyhow!("there is no kubeconfig");
        insta::assert_snapshot!(neither(&TestName("out".into()), &error), @"there is no file or directory out, nor was a load test of that name found: there is no kubeconfig; `simctl run --report DIR` writes one, `simctl report loadtest/NAME` reads that of a cluster's load test");
    }
}
