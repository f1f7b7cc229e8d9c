//! What Kubernetes reads where YAML has a word without quotes: the table that simctl's reader is tested with, held to the
//! real kubectl and API server.

use std::{fs, sync::LazyLock};

use fleet_contract::document::Tree;
use serde_json::Value;
use tests::{kubernetes::Namespace, project};

use super::{
    admin,
    simctl::Hand,
    site::{self, Site, fleet},
};

static WORDS: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(project::root().join("device-sim/contract/src/document/words.txt")).unwrap());

/// The words, and what Kubernetes reads; `None` where it refuses the document.
fn words() -> Vec<(&'static str, Option<Value>)> {
    let lines = WORDS.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns[0], serde_json::from_str(columns[1]).ok())
    };
    lines.map(read).collect()
}

/// A Fleet that carries `fields` where the API server takes everything as it is.
fn carrier(fields: &str) -> String {
    format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  groups: [{{name: a, model: m}}]\n  \
         models:\n    m:\n{fields}"
    )
}

fn entry(number: usize, word: &str) -> String {
    format!("      w{number}: {word}\n")
}

/// Those of the words that `object` has otherwise than the table.
fn differences(object: &Value, words: &[(&str, Option<Value>)]) -> Vec<String> {
    let found = &object["spec"]["models"]["m"];
    let read =
        words.iter().enumerate().map(|(number, (word, expected))| (word, expected, &found[format!("w{number}")]));
    read.filter(|(_, expected, found)| expected.as_ref() != Some(found))
        .map(|(word, expected, found)| format!("{word}: expected {expected:?}, found {found}"))
        .collect()
}

fn kubectl(namespace: &Namespace, text: &str) -> anyhow::Result<Value> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, text)?;
    let path = file.path().to_str().unwrap();
    Ok(serde_json::from_str(&namespace.kubectl(["create", "--dry-run=server", "-o", "json", "-f", path])?)?)
}

#[test]
fn kubectl_and_the_api_server_read_every_word_as_the_table_says() {
    site::install();
    let namespace = admin().namespace("words").unwrap();
    let api = admin().api().unwrap();
    let path = format!("/apis/simctl.io/v1alpha1/namespaces/{}/fleets?dryRun=All", namespace.name());
    let (readable, refused): (Vec<_>, Vec<_>) = words().into_iter().partition(|(_, read)| read.is_some());
    assert!(readable.len() > 60 && refused.len() > 3, "{} {}", readable.len(), refused.len());
    let fields: Vec<_> = readable.iter().enumerate().map(|(number, (word, _))| entry(number, word)).collect();
    let text = carrier(&fields.concat());
    let differences = [
        ("the API server", differences(&api.post_yaml(&path, &text).unwrap(), &readable)),
        ("kubectl", differences(&kubectl(&namespace, &text).unwrap(), &readable)),
        ("simctl", differences(Tree::parse("f", &text).unwrap().value(), &readable)),
    ];
    assert!(differences.iter().all(|(_, found)| found.is_empty()), "{differences:#?}");
    for (word, _) in refused {
        let text = carrier(&entry(0, word));
        assert!(api.post_yaml(&path, &text).is_err(), "the API server takes {word}");
        assert!(kubectl(&namespace, &text).is_err(), "kubectl takes {word}");
    }
}

#[test]
fn names_of_fields_are_read_alike_too() {
    site::install();
    let namespace = admin().namespace("names").unwrap();
    for (plain, expected) in [("no", "false"), ("on", "true"), ("012", "10"), ("state", "state"), ("'no'", "no")] {
        let text = carrier(&format!("      {plain}: 1\n"));
        for (reader, object) in [
            ("kubectl", kubectl(&namespace, &text).unwrap()),
            ("simctl", Tree::parse("f", &text).unwrap().value().clone()),
        ] {
            assert_eq!(object["spec"]["models"]["m"], serde_json::json!({expected: 1}), "{reader}: {plain}");
        }
    }
    assert!(kubectl(&namespace, &carrier("      ~: 1\n")).is_err());
}

#[test]
fn merges_are_done_in_the_order_of_kubernetes() {
    site::install();
    let namespace = admin().namespace("merges").unwrap();
    for merge in ["{<<: {a: 2, b: 3}, a: 1}", "{a: 1, <<: {a: 2, b: 3}}", "{<<: [{a: 1}, {a: 2, b: 3}]}"] {
        let text = carrier(&entry(0, merge));
        let read = kubectl(&namespace, &text).unwrap();
        assert_eq!(read["spec"]["models"], Tree::parse("f", &text).unwrap().value()["spec"]["models"], "{merge}");
    }
}

#[test]
fn a_word_that_is_another_to_kubernetes_is_refused_by_simctl_too() {
    let site = Site::new("norway");
    let hand = Hand::of(&site);
    let text = fleet("f", 1, 1, "").replace("name: all", "name: no");
    let by_kubectl = site.namespace.apply(&text).unwrap_err().to_string();
    assert!(by_kubectl.contains(".spec.groups[name=false].name: expected string"), "{by_kubectl}");
    let path = hand.document("fleet.yaml", &text);
    let refused = hand.call(&["apply", "-f", &path]);
    assert!(
        refused.code == Some(104) && refused.stderr.contains("fleet.yaml:9:13: spec.groups[0].name"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("found `no`, which Kubernetes reads as `false`"), "{refused:?}");
    let path = hand.document("fleet.yaml", &text.replace("name: no", "name: 'no'"));
    hand.does(&["apply", "-f", &path]);
    assert_eq!(site.field("fleet/f", "{.spec.groups[0].name}"), "no");
}
