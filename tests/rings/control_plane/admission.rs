//! Rights on fleets are no rights on what they name, and fields of pods are rights to make pods.

use tests::kubernetes::Client;

use super::{
    admin,
    site::{self, Site},
};

/// All that a fleet can name, and what its author must be allowed to get.
const REFERENCES: [(&str, &str); 6] = [
    ("broker: {url: b, credentials: {username: u, secretName: prod}}", "spec.broker.credentials.secretName"),
    ("broker: {url: 'mqtts://b', tls: {secretName: prod}}", "spec.broker.tls.secretName"),
    ("broker: {url: 'mqtts://b', tls: {caSecretName: prod}}", "spec.broker.tls.caSecretName"),
    ("observer: {credentials: {username: u, secretName: prod}}", "spec.observer.credentials.secretName"),
    ("pod: {imagePullSecrets: [mine, mine, mine, mine, mine, mine, mine, prod]}", "spec.pod.imagePullSecrets[7]"),
    ("modelsFrom: {configMap: prod}", "spec.modelsFrom.configMap"),
];

/// A fleet with the password of another.
const WITH_PASSWORD: &str = "broker: {url: one.example, credentials: {username: u, secretName: prod}}";

/// Fields that are as good as the right to make pods.
const FIELDS_OF_PODS: [&str; 14] = [
    "image: elsewhere.example/worker",
    "imagePullPolicy: Always",
    "imagePullSecrets: [mine]",
    "nodeSelector: {a: b}",
    "tolerations: [{operator: Exists}]",
    "affinity: {nodeAffinity: {}}",
    "priorityClassName: system-node-critical",
    "runtimeClassName: other",
    "serviceAccountName: deployer",
    "runAsUser: 1000",
    "runAsGroup: 0",
    "fsGroup: 0",
    "omitIds: true",
    "sysctls: [{name: net.ipv4.tcp_keepalive_time, value: '60'}]",
];

/// Those that are not.
const OTHER_FIELDS: &str = "labels: {team: taxi}, annotations: {note: hello}, cpu: 10m, cpuLimit: '1', memory: 16Mi, \
                            ephemeralStorage: 32Mi, threads: 1, broker: {cpu: 10m}";

/// A namespace with somebody who may write fleets, may get the Secret and the `ConfigMap` `mine`, and nothing else.
struct Place {
    site: Site,
    author: Client,
}

impl Place {
    fn new(purpose: &str) -> Place {
        let site = Site::new(purpose);
        let author = site.person("simctl-fleets-view");
        let place = Place { site, author };
        place.grant("fleets", &["--clusterrole=simctl-fleets-edit"], ["create", "fleets.simctl.io"]);
        place.allow("mine", "get", "secrets,configmaps", &["--resource-name=mine"], "secrets/mine");
        // The API server goes by a new policy some moments after it has stored it.
        let mut attempts = 0;
        let is_refused = || {
            attempts += 1;
            Ok(place.write(&format!("attempt-{attempts}"), "modelsFrom: {configMap: prod}").err())
        };
        tests::eventually("the policy holds", super::PATIENCE, is_refused).unwrap();
        place
    }

    fn name(&self) -> &str {
        self.site.namespace.name()
    }

    /// Gives the author a right more, on things of the namespace.
    fn allow(&self, name: &str, verb: &str, resource: &str, only: &[&str], asked: &str) {
        let role = ["create", "role", name, "--verb", verb, "--resource", resource];
        self.site.namespace.kubectl([&role[..], only].concat()).unwrap();
        self.grant(name, &[&format!("--role={name}")], [verb, asked]);
    }

    fn grant(&self, name: &str, role: &[&str], asked: [&str; 2]) {
        let user = format!("--user=simctl-fleets-view-of-{}", self.name());
        let binding = ["create", "rolebinding", name, &user];
        self.site.namespace.kubectl([&binding[..], role].concat()).unwrap();
        self.site.await_right(&self.author, asked);
    }

    /// Writes a fleet as its author.
    fn write(&self, name: &str, more: &str) -> anyhow::Result<String> {
        self.author.apply(&document(self.name(), name, more))
    }

    /// Writes a fleet as an administrator.
    fn has(&self, name: &str, more: &str) {
        self.site.namespace.apply(&document(self.name(), name, more)).unwrap();
    }

    fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.author.kubectl([&["-n", self.name()], args].concat())
    }

    /// What the author is told who writes this.
    #[track_caller]
    fn refused(&self, name: &str, more: &str) -> String {
        let error = self.write(name, more).map_or_else(|error| error.to_string(), |_| "it is taken".into());
        assert!(error.contains("denied request") && error.contains("simctl-fleets-view-of-"), "{more}: {error}");
        error
    }
}

fn document(namespace: &str, name: &str, more: &str) -> String {
    let groups = if more.contains("groups:") { "" } else { "  groups: [{name: all, model: thermometer}]\n" };
    format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  devices: 1\n{groups}  {more}\n"
    )
}

#[test]
fn kubernetes_finds_no_fault_in_the_expressions() {
    site::install();
    let policy = ["validatingadmissionpolicy", "simctl-system.fleets.simctl.io"];
    let field = "{.status.observedGeneration} {.status.typeChecking.expressionWarnings}";
    let checked = admin().wait_for(&policy, field, super::PATIENCE, |seen| !seen.is_empty()).unwrap();
    assert!(checked.parse::<u32>().is_ok(), "the generation, and no warning beside it: {checked}");
}

#[test]
fn who_may_not_read_a_secret_or_config_map_may_not_name_it() {
    let place = Place::new("names");
    for (more, field) in REFERENCES {
        let error = place.refused("f", more);
        let kind = if field.contains("configMap") { "ConfigMap" } else { "Secret" };
        let says = format!("{field}: user \"simctl-fleets-view-of-{0}\" cannot get {kind} \"prod\"", place.name());
        assert!(error.contains(&says), "expected {says}, found {error}");
    }
}

#[test]
fn who_may_read_a_secret_or_config_map_may_name_it() {
    let place = Place::new("readers");
    place.allow("pods", "create", "pods", &[], "pods");
    for (number, (more, _)) in REFERENCES.iter().enumerate() {
        place.write(&format!("f{number}"), &more.replace("prod", "mine")).unwrap();
    }
}

#[test]
fn a_fleet_that_names_all_that_it_can_is_judged_within_the_budget() {
    let place = Place::new("budget");
    place.allow("pods", "create", "pods", &[], "pods");
    let all = "broker: {url: 'mqtts://b', credentials: {username: u, secretName: mine}, \
               tls: {secretName: mine, caSecretName: mine}}
  observer: {credentials: {username: u, secretName: mine}}
  modelsFrom: {configMap: mine}
  pod: {imagePullSecrets: [mine, mine, mine, mine, mine, mine, mine, mine], priorityClassName: low}";
    place.write("f", all).unwrap();
    let error = place.refused("g", &all.replace("configMap: mine", "configMap: prod"));
    assert!(error.contains("spec.modelsFrom.configMap"), "{error}");
}

#[test]
fn a_password_goes_to_no_other_address() {
    let place = Place::new("address");
    place.has("f", WITH_PASSWORD);
    let error = place.refused("f", &WITH_PASSWORD.replace("one.example", "mine.example"));
    assert!(error.contains("spec.broker.credentials.secretName"), "{error}");
    let patch = r#"{"spec":{"broker":{"url":"mine.example"}}}"#;
    assert!(place.kubectl(&["patch", "fleet/f", "--type=merge", "-p", patch]).is_err());
}

#[test]
fn a_password_reaches_no_other_image() {
    let place = Place::new("image");
    place.allow("pods", "create", "pods", &[], "pods");
    place.has("f", WITH_PASSWORD);
    let error = place.refused("f", &format!("{WITH_PASSWORD}\n  pod: {{image: mine.example/worker}}"));
    assert!(error.contains("spec.broker.credentials.secretName"), "{error}");
}

#[test]
fn a_config_map_is_published_by_no_other_model() {
    let place = Place::new("models");
    let model = |file: &str| {
        format!("modelsFrom: {{configMap: prod}}\n  models: {{m: {{signals: {{s: {{kind: replay, file: {file}}}}}}}}}")
    };
    place.has("f", &model("a.csv"));
    assert!(place.refused("f", &model("b.csv")).contains("spec.modelsFrom.configMap"));
}

#[test]
fn who_may_not_read_what_a_fleet_names_may_scale_label_and_apply_it_again() {
    let place = Place::new("others");
    place.has("f", WITH_PASSWORD);
    place.write("f", WITH_PASSWORD).unwrap();
    place.kubectl(&["scale", "fleet/f", "--replicas=3"]).unwrap();
    place.kubectl(&["label", "fleet/f", "team=taxi"]).unwrap();
    let pause = r#"{"spec":{"paused":true,"devices":4}}"#;
    place.kubectl(&["patch", "fleet/f", "--type=merge", "-p", pause]).unwrap();
    let model = r#"{"spec":{"groups":[{"name":"all","model":"smart-meter"}]}}"#;
    place.kubectl(&["patch", "fleet/f", "--type=merge", "-p", model]).unwrap();
    let status = r#"{"status":{"pods":9}}"#;
    place.site.namespace.kubectl(["patch", "fleet/f", "--subresource=status", "--type=merge", "-p", status]).unwrap();
}

#[test]
fn who_may_not_make_pods_may_not_say_what_is_special_about_them() {
    let place = Place::new("pods");
    place.has("f", "pod: {cpu: 10m}");
    for field in FIELDS_OF_PODS {
        let name = field.split(':').next().unwrap();
        let says = format!("spec.pod.{name}: user \"simctl-fleets-view-of-{0}\" cannot create pods", place.name());
        for fleet in ["f", "new"] {
            let error = place.refused(fleet, &format!("pod: {{cpu: 10m, {field}}}"));
            assert!(error.contains(&says), "expected {says}, found {error}");
        }
    }
}

#[test]
fn who_may_not_make_pods_may_not_take_away_what_is_special_about_them() {
    let place = Place::new("less");
    place.has("f", "pod: {cpu: 10m, runtimeClassName: sandbox}");
    let patch = r#"{"spec":{"pod":{"runtimeClassName":null}}}"#;
    let error = place.kubectl(&["patch", "fleet/f", "--type=merge", "-p", patch]).unwrap_err().to_string();
    assert!(error.contains("spec.pod.runtimeClassName") && error.contains("cannot create pods"), "{error}");
}

#[test]
fn who_may_not_make_pods_may_label_and_size_them() {
    let place = Place::new("sizes");
    place.write("f", &format!("pod: {{{OTHER_FIELDS}}}")).unwrap();
    // Also where somebody else has set what only others may set.
    place.has("g", "pod: {cpu: 10m, priorityClassName: low}");
    let patch = r#"{"spec":{"pod":{"cpu":"20m"}}}"#;
    place.kubectl(&["patch", "fleet/g", "--type=merge", "-p", patch]).unwrap();
}

#[test]
fn who_may_make_pods_may_say_what_is_special_about_them() {
    let place = Place::new("makers");
    place.allow("pods", "create", "pods", &[], "pods");
    place.write("f", &format!("pod: {{{}}}", FIELDS_OF_PODS[..12].join(", "))).unwrap();
    place.write("g", &format!("pod: {{{}}}", FIELDS_OF_PODS[12..].join(", "))).unwrap();
}

#[test]
fn an_editor_of_kubernetes_writes_fleets_as_before() {
    let place = Place::new("editor");
    let editor = place.site.person("edit");
    for (number, (more, _)) in REFERENCES.iter().enumerate() {
        editor.apply(&document(place.name(), &format!("f{number}"), more)).unwrap();
    }
}
#[test]
fn what_pod_security_refuses_is_a_condition() {
    let site = Site::new("baseline");
    let label = "pod-security.kubernetes.io/enforce=baseline";
    admin().kubectl(["label", "namespace", site.namespace.name(), label]).unwrap();
    let _controller = site.controller("only");
    site.namespace
        .apply(&document(site.namespace.name(), "f", "pod: {sysctls: [{name: kernel.msgmax, value: '65536'}]}"))
        .unwrap();
    let field = "{.status.conditions[?(@.status==\"True\")].message}";
    let is_told = |seen: &str| seen.contains("violates PodSecurity") && seen.contains("kernel.msgmax");
    site.namespace.wait_for("fleet/f", field, super::PATIENCE, is_told).unwrap();
}
