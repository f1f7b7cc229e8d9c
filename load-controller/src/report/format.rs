//! The formats of a report's files: one file a format, and the one list of them.
//!
//! A new format is a file beside this one and a line in [`FORMATS`]. What its files hold stands at the head of its own file.

use fleet_contract::stats::Stats;

use super::{
    Report, csv::Csv, document::Document, hgrm::Hgrm, hlog::Hlog, html::Html, json::Json, junit::Junit, lost::Lost,
    markdown::Markdown, text::Text,
};
use crate::run::facts::RunFacts;

/// What files of a report are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) report: &'a Report,
    pub(super) stats: &'a Stats,
    pub(super) facts: &'a RunFacts,
}

/// A file of a report.
#[derive(Debug)]
pub(super) struct File {
    /// Its name in the directory of the report.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) content: fn(&Source<'_>) -> String,
}

/// A format of a report.
pub(super) trait Format {
    /// Its files, in the order in which they are written.
    const FILES: &'static [File];
}

/// All formats, in the order in which they are written. JSON comes last: where its file is, all others are.
const FORMATS: [&[File]; 10] = [
    Text::FILES,
    Html::FILES,
    Markdown::FILES,
    Junit::FILES,
    Csv::FILES,
    Lost::FILES,
    Document::FILES,
    Hgrm::FILES,
    Hlog::FILES,
    Json::FILES,
];

/// The file that says that all others are there.
pub(super) const LAST: &str = Json::FILES[0].name;

/// All files, in the order in which they are written.
pub(super) fn files() -> impl Iterator<Item = &'static File> {
    FORMATS.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_file_has_a_name_of_its_own_and_the_last_one_comes_last() {
        let names: Vec<_> = files().map(|file| file.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert_eq!(names.last(), Some(&LAST));
    }
}
