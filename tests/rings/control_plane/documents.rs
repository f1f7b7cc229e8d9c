//! Files of several documents and kinds, as simctl applies and deletes them.

use super::{
    simctl::Hand,
    site::{Site, fleet},
};

const MODEL: &str = "streams: {state: {topic: '{fleet}/{index}', interval: 1s, payload: {json: {level: 1}}}}";

/// A Secret, a ConfigMap with a model, a Fleet of that model, and another Fleet in a List.
fn file() -> String {
    let own = fleet("own", 2, 1, "modelsFrom: {configMap: models}").replace("thermometer", "mine");
    let listed = fleet("listed", 3, 1, "").trim_end().replace('\n', "\n    ");
    format!(
        "# all of it
---
apiVersion: v1
kind: Secret
metadata: {{name: password}}
immutable: yes
stringData: {{password: a}}
---
# nothing
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: models}}
data:
  mine.yaml: |
    {MODEL}
---
{own}---
apiVersion: v1
kind: List
items:
  - {listed}
"
    )
}

#[test]
fn a_file_is_applied_in_its_order_and_deleted_in_the_reverse_one() {
    let site = Site::new("documents");
    let _controller = site.controller("only");
    let hand = Hand::of(&site);
    let path = hand.document("all.yaml", &file());
    let titles = ["secret/password", "configmap/models", "fleet.simctl.io/own", "fleet.simctl.io/listed"];
    let lines = |outcome: &str| titles.map(|title| format!("{title} {outcome}\n")).concat();
    assert_eq!(hand.does(&["apply", "-f", &path, "--dry-run=client"]), lines("created (dry run)"));
    assert_eq!(hand.does(&["apply", "-f", &path]), lines("created"));
    assert_eq!(hand.does(&["apply", "-f", &path]), lines("unchanged"));
    site.settles("own", 2, 2);
    site.settles("listed", 3, 3);
    // The word is what it is to kubectl.
    assert_eq!(site.field("secret/password", "{.immutable}"), "true");
    assert_eq!(site.field("fleet/own", "{.spec.models}"), "", "the model stays in the ConfigMap");
    let deleted = hand.does(&["delete", "-f", &path]);
    let first: Vec<&str> = deleted.lines().collect();
    assert_eq!(first[..2], ["fleet.simctl.io/listed deleted", "fleet.simctl.io/own deleted"], "{deleted}");
    assert_eq!(first.len(), 4, "{deleted}");
}

#[test]
fn nothing_is_applied_of_a_file_in_which_anything_is_wrong() {
    let site = Site::new("half");
    let hand = Hand::of(&site);
    let text = file().replace("devicesPerPod", "devicePerPod").replace("interval: 1s", "interval: soon");
    let path = hand.document("wrong.yaml", &text);
    let refused = hand.call(&["apply", "-f", &path]);
    assert_eq!(refused.code, Some(104), "{refused:?}");
    let line = |wanted: &str, nth: usize| {
        let lines = text.lines().enumerate().filter(|(_, line)| line.contains(wanted));
        lines.map(|(number, _)| number + 1).nth(nth).unwrap()
    };
    for expected in [
        format!("wrong.yaml:{}:3: spec.devicePerPod: unknown field", line("devicePerPod", 0)),
        format!("wrong.yaml:{}:7: spec.devicePerPod: unknown field", line("devicePerPod", 1)),
    ] {
        assert!(refused.stderr.contains(&expected), "{expected} is not in {refused:?}");
    }
    let found = site.namespace.kubectl(["get", "secrets,configmaps,fleets", "-o", "name"]).unwrap();
    assert!(!found.contains("password") && !found.contains("models"), "{found}");
}
