//! The resolved document, with the load test if there is one: the file `fleet.yaml`. Running it again repeats the run.

use fleet_contract::{
    fleet::Metadata,
    load_test::{self, LoadTest, LoadTestSpec},
};

use super::format::{File, Format};
use crate::{
    run::{facts::RunFacts, verdict::FailOn},
    yaml,
};

/// The format of [`render`].
pub(super) struct Document;

impl Format for Document {
    const FILES: &'static [File] = &[File { name: "fleet.yaml", content: |of| render(of.facts) }];
}

/// The document, and in its first line how it is run again. A broker that was started for the run is started again, and what
/// flags have said of phases and thresholds is a load test of its own.
fn render(facts: &RunFacts) -> String {
    let mut fleet = facts.fleet.clone();
    if facts.at_broker.is_embedded {
        fleet.spec.broker = None;
    }
    let asked = &facts.asked;
    fleet.spec.devices = asked.devices.unwrap_or(fleet.spec.devices);
    let duration = asked.duration.filter(|_| asked.phases.is_empty());
    let duration = duration.map(|duration| format!(" --duration {duration}")).unwrap_or_default();
    let fail_on = if asked.fail_on.contains(&FailOn::Lost) { " --fail-on lost" } else { "" };
    let alone = asked.thresholds.iter().filter(|_| asked.phases.is_empty());
    let thresholds: String = alone.map(|criterion| format!(" --threshold '{}'", criterion.expect)).collect();
    let document = yaml::text(&fleet).expect("a document has string keys");
    let start = facts.started;
    let head = format!("# simctl run -f fleet.yaml --start {start}{duration}{thresholds}{fail_on}");
    if asked.phases.is_empty() {
        return format!("{head}\n{document}");
    }
    let name = asked.load_test.clone().unwrap_or_else(|| fleet.metadata.name.clone());
    let test = LoadTest {
        api_version: fleet.api_version,
        kind: load_test::Kind::LoadTest,
        metadata: Metadata { name, ..Metadata::default() },
        spec: LoadTestSpec::new(fleet.metadata.name, asked.phases.all().to_vec(), asked.thresholds.clone()),
    };
    format!("{head}\n{document}---\n{}", yaml::text(&test).expect("a document has string keys"))
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Fleet, units::Span};

    use super::*;
    use crate::{fixture::facts, run::facts::Asked};

    #[test]
    fn the_document_reads_back() {
        let mut fleet = facts().fleet;
        fleet.spec.broker = None;
        assert_eq!(serde_saphyr::from_str::<Fleet>(&render(&facts())).unwrap(), fleet);
        let embedded = RunFacts { asked: Asked { duration: Some(Span::from_secs(90)), ..Asked::default() }, ..facts() };
        let text = render(&embedded);
        let start = embedded.started;
        assert!(text.starts_with(&format!("# simctl run -f fleet.yaml --start {start} --duration 90s\n")), "{text}");
        assert!(!text.contains("broker:"), "{text}");
    }
}
