//! The chart, rendered by the real Helm.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use load_controller::resource::{names, rbac};
use serde_json::{Value, json};
use tests::{
    command,
    helm::{Helm, NAMESPACE, chart, chart_copies},
    project,
};

fn helm() -> Helm {
    Helm::find_or_build().unwrap()
}

pub(super) fn objects(flags: &[&str]) -> Vec<Value> {
    read(&helm().template(flags).unwrap())
}

fn read(text: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).unwrap();
    documents.into_iter().filter(Value::is_object).collect()
}

#[track_caller]
pub(super) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found: Vec<&Value> =
        objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}

fn kinds(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
}

/// The values of the controller's environment that stand in the manifest.
fn environment<'a>(objects: &'a [Value], name: &str) -> Option<&'a str> {
    let container = &find(objects, "Deployment", names::CONTROLLER)["spec"]["template"]["spec"]["containers"][0];
    container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

#[test]
fn helm_has_nothing_against_the_chart() {
    let lint = |values: &[&str]| {
        let mut lint = helm().command();
        lint.args(["lint", "--strict", "--kube-version", "1.34.0"]).arg(chart()).args(values);
        let says = command::run(&mut lint).unwrap().stderr;
        assert_eq!(String::from_utf8_lossy(&says), "", "of a symbolic link, for example, Helm logs a line each time");
    };
    lint(&[]);
    lint(&["--values", chart().join("values-edge.yaml").to_str().unwrap()]);
}

/// Every file and link below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|it| if it.file_type().unwrap().is_dir() { files(&it.path()) } else { [it.path()].into() })
        .collect()
}

#[test]
fn the_chart_has_no_symbolic_links_and_its_copies_are_fresh() {
    let links: Vec<PathBuf> = files(&chart()).into_iter().filter(|path| path.is_symlink()).collect();
    assert_eq!(links, [] as [PathBuf; 0]);
    let copies = chart_copies().unwrap();
    for (path, wanted) in &copies {
        let is_fresh = fs::read_to_string(path).unwrap_or_default() == *wanted;
        assert!(is_fresh, "{} is stale; run `cargo xtask manifests`", path.display());
    }
    let copied: BTreeSet<PathBuf> = copies.into_iter().map(|(path, _)| path).collect();
    let present: BTreeSet<PathBuf> = ["crd", "dashboards"].iter().flat_map(|it| files(&chart().join(it))).collect();
    assert_eq!(present, copied, "a copy whose original is gone goes, too");
}

#[test]
fn the_committed_manifests_are_the_rendered_chart() {
    let check = |name: &str, rendered: &str| {
        let path = project::root().join("manifests").join(name);
        let is_fresh = fs::read_to_string(&path).unwrap_or_default() == rendered;
        assert!(is_fresh, "{} is stale; run `cargo xtask manifests`", path.display());
    };
    check("monitors.yaml", &helm().monitors_manifest().unwrap());
    let rendered = helm().install_manifest().unwrap();
    check("install.yaml", &rendered);
    let objects = read(&rendered);
    find(&objects, "Namespace", NAMESPACE);
    assert!(!rendered.contains("managed-by: Helm"), "nothing but a release may call itself Helm's");
}

#[test]
fn every_object_is_in_its_place_and_named_as_others_expect() {
    let objects = objects(&[]);
    for object in &objects {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let is_of_the_cluster = kind.starts_with("Cluster")
            || kind == "CustomResourceDefinition"
            || kind.starts_with("ValidatingAdmissionPolicy");
        assert_eq!(metadata["namespace"].is_null(), is_of_the_cluster, "{kind} {}", metadata["name"]);
        for label in ["app.kubernetes.io/name", "app.kubernetes.io/part-of"] {
            assert!(metadata["labels"][label].is_string(), "{kind} {} lacks {label}", metadata["name"]);
        }
    }
    let service = find(&objects, "Service", names::CONTROLLER);
    assert_eq!(service["spec"]["selector"][names::LEADER_LABEL], "true");
    assert_eq!(service["spec"]["ports"][0]["name"], "http");
    assert_eq!(service["spec"]["ports"][0]["port"], names::CONTROLLER_PORT);
    find(&objects, "ServiceAccount", names::CONTROLLER);
    find(&objects, "PodDisruptionBudget", names::CONTROLLER);
}

#[test]
fn the_controller_is_admitted_where_pod_security_is_restricted() {
    let objects = objects(&[]);
    let pod = &find(&objects, "Deployment", names::CONTROLLER)["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(container["resources"]["limits"]["memory"], "512Mi");
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "http", "{probe}");
        }
    }
    assert_eq!(environment(&objects, "SIMCTL_WATCH_NAMESPACES"), None);
}

/// The rules of a role, each value sorted, so that they can be compared.
fn rules(role: &Value) -> BTreeSet<String> {
    role["rules"].as_array().unwrap().iter().map(normal).collect()
}

fn normal(rule: &Value) -> String {
    let sorted = |field: &str| {
        let mut texts: Vec<&str> = rule[field].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        texts.sort_unstable();
        texts.join(",")
    };
    format!("{} {} {}", sorted("apiGroups"), sorted("resources"), sorted("verbs"))
}

#[track_caller]
fn check_rules(role: &Value, expected: serde_json::Result<Value>) {
    let expected = expected.unwrap().as_array().unwrap().iter().map(normal).collect();
    assert_eq!(rules(role), expected, "{}", role["metadata"]["name"]);
}

#[test]
fn the_controller_may_do_what_it_needs_and_no_more() {
    let whole = objects(&[]);
    check_rules(
        find(&whole, "ClusterRole", "simctl-system:load-controller-fleets"),
        serde_json::to_value(rbac::fleets()),
    );
    check_rules(
        find(&whole, "ClusterRole", "simctl-system:load-controller-nodes"),
        serde_json::to_value(rbac::nodes()),
    );
    check_rules(find(&whole, "Role", names::CONTROLLER), serde_json::to_value(rbac::own()));

    let narrow = objects(&["--set", "watchNamespaces={a,b},watchNodes=false"]);
    let of_the_cluster: Vec<&Value> = narrow.iter().filter(|object| object["kind"] == "ClusterRole").collect();
    let is_for_people = |role: &&Value| role["metadata"]["name"].as_str().unwrap().starts_with("simctl-fleets-");
    assert!(of_the_cluster.iter().all(is_for_people), "a controller of two namespaces has a ClusterRole");
    assert!(!kinds(&narrow).contains("ClusterRoleBinding"));
    for namespace in ["a", "b"] {
        let in_it = |object: &&Value| object["metadata"]["namespace"] == namespace;
        let roles: Vec<Value> = narrow.iter().filter(in_it).cloned().collect();
        check_rules(find(&roles, "Role", "load-controller-fleets"), serde_json::to_value(rbac::fleets()));
        let binding = find(&roles, "RoleBinding", "load-controller-fleets");
        assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
    }
    assert_eq!(environment(&narrow, "SIMCTL_WATCH_NAMESPACES"), Some("a,b"));
}

/// Helm writes 1.0 as 1; for Kubernetes they are the same.
fn with_plain_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(with_plain_numbers).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_plain_numbers(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn the_kinds_are_the_controllers_and_outlive_the_release() {
    let objects = objects(&[]);
    for kind in ["fleets", "loadtests", "fleetqueries"] {
        let rendered = find(&objects, "CustomResourceDefinition", &format!("{kind}.simctl.io"));
        let text = fs::read_to_string(project::root().join(format!("manifests/crd/{kind}.yaml"))).unwrap();
        let committed: Value = read(&text).remove(0);
        assert_eq!(with_plain_numbers(&rendered["spec"]), with_plain_numbers(&committed["spec"]));
        assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(!kinds(&self::objects(&["--set", "crds.install=false"])).contains("CustomResourceDefinition"));
}

#[test]
fn who_may_view_fleets_may_ask_for_their_figures_and_the_policy_comes_with_the_kind() {
    let objects = objects(&[]);
    let queries = |role: &str| {
        let rules = find(&objects, "ClusterRole", role)["rules"].as_array().unwrap().iter();
        rules.map(normal).filter(|rule| rule.contains("fleetqueries")).collect::<Vec<_>>()
    };
    // Neither list nor watch: nobody finds the answers to others.
    assert_eq!(queries("simctl-fleets-view"), ["simctl.io fleetqueries create,delete,get,patch"]);
    assert_eq!(queries("simctl-fleets-edit"), Vec::<String>::new());
    let policy = find(&objects, "ValidatingAdmissionPolicy", "simctl-fleetqueries");
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    let binding = find(&objects, "ValidatingAdmissionPolicyBinding", "simctl-fleetqueries");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
    let without = self::objects(&["--set", "crds.install=false"]);
    assert!(without.iter().all(|object| object["metadata"]["name"] != "simctl-fleetqueries"));
}

#[test]
fn dashboards_are_found_by_grafanas_sidecar() {
    let objects = objects(&[]);
    for name in ["fleet-overview", "controller"] {
        let map = find(&objects, "ConfigMap", &format!("simctl-dashboard-{name}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        let shipped: Value =
            serde_json::from_str(map["data"][format!("simctl-{name}.json")].as_str().unwrap()).unwrap();
        let text = fs::read_to_string(project::root().join(format!("dashboards/{name}.json"))).unwrap();
        let committed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shipped["uid"], committed["uid"]);
        assert_eq!(shipped["panels"].as_array().unwrap().len(), committed["panels"].as_array().unwrap().len());
    }
}

#[test]
fn monitors_are_an_option_and_name_what_exists() {
    let kinds_of_monitors = ["PodMonitor", "ServiceMonitor", "PrometheusRule"];
    assert!(objects(&[]).iter().all(|object| !kinds_of_monitors.contains(&object["kind"].as_str().unwrap())));
    let set = "metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true";
    let objects = objects(&["--set", set, "--set", "metrics.podMonitor.labels.release=prometheus"]);
    let pods = find(&objects, "PodMonitor", "simctl-fleets");
    assert_eq!(pods["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(pods["spec"]["namespaceSelector"], json!({"any": true}));
    assert_eq!(pods["spec"]["podMetricsEndpoints"][0]["port"], "http");
    assert_eq!(find(&objects, "ServiceMonitor", "load-controller")["spec"]["endpoints"][0]["honorLabels"], true);
    let rules = find(&objects, "PrometheusRule", "simctl");
    let text = fs::read_to_string(project::root().join("dashboards/rules.yaml")).unwrap();
    assert_eq!(rules["spec"], read(&text)[0]);
}

#[test]
fn an_image_is_named_by_its_digest_where_there_is_one() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let objects = objects(&["--set", &format!("image.registry=r.example/s,image.digests.deviceSim={digest}")]);
    assert_eq!(environment(&objects, "SIMCTL_WORKER_IMAGE"), Some(format!("r.example/s/device-sim@{digest}").as_str()));
    let version = env!("CARGO_PKG_VERSION");
    let deployment = find(&objects, "Deployment", names::CONTROLLER);
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, &format!("r.example/s/load-controller:{version}"));
    assert_eq!(environment(&objects, "SIMCTL_BROKER_IMAGE"), Some(format!("r.example/s/broker:{version}").as_str()));
}

#[test]
fn on_the_edge_one_small_controller_leads_without_an_election() {
    let objects = objects(&["--values", chart().join("values-edge.yaml").to_str().unwrap()]);
    let deployment = &find(&objects, "Deployment", names::CONTROLLER)["spec"];
    assert_eq!(deployment["replicas"], 1);
    assert_eq!(deployment["strategy"]["type"], "Recreate");
    let template = &deployment["template"];
    assert_eq!(template["metadata"]["labels"][names::LEADER_LABEL], "true");
    assert_eq!(template["spec"]["nodeSelector"]["kubernetes.io/arch"], "arm64");
    assert_eq!(template["spec"]["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    assert_eq!(environment(&objects, "SIMCTL_LEADER_ELECTION"), Some("false"));
    assert!(!kinds(&objects).contains("PodDisruptionBudget"));
}

#[test]
fn limits_reach_the_controller_as_they_are_written() {
    let limited = objects(&[
        "--set-json=limits.brokers=[\"10.0.0.0/8\",\"*.example\"]",
        "--set=limits.devicesPerNamespace=10000000,limits.messagesPerSecond=0",
    ]);
    assert_eq!(environment(&limited, "SIMCTL_LIMIT_BROKERS"), Some("10.0.0.0/8,*.example"));
    assert_eq!(environment(&limited, "SIMCTL_LIMIT_DEVICES_PER_NAMESPACE"), Some("10000000"));
    assert_eq!(environment(&limited, "SIMCTL_LIMIT_MESSAGES_PER_SECOND"), Some("0"));
    let by_default = objects(&[]);
    for name in ["BROKERS", "DEVICES_PER_NAMESPACE", "MESSAGES_PER_SECOND"] {
        assert_eq!(environment(&by_default, &format!("SIMCTL_LIMIT_{name}")), None);
    }
}

#[test]
fn values_that_nobody_can_mean_are_refused() {
    for (values, expected) in [
        ("image.tag=latest", "tag"),
        ("image.digests.broker=sha256:abc", "broker"),
        ("replica=3", "replica"),
        ("replicas=0", "replicas"),
        ("leaderElection=false", "replicas"),
        ("watchNamespaces={Not_a_name}", "watchNamespaces"),
        ("metrics.podMonitor.interval=often", "interval"),
        ("resources.limit.memory=1Gi", "limit"),
    ] {
        let refused = helm().template(&["--set", values]).unwrap_err().to_string();
        assert!(refused.contains("values") && refused.contains(expected), "{values}: {refused}");
    }
}

#[test]
fn every_value_is_documented_and_has_a_rule() {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = read(&text).remove(0);
    let schema: Value = serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap().validate(&values).unwrap();
    let mut is_after_a_comment = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let is_comment = line.trim_start().starts_with('#');
        // At the top level a comment stands above each value; below, one may speak for its neighbours.
        if !line.starts_with([' ', '#']) {
            let name = line.split(':').next().unwrap();
            assert!(is_after_a_comment, "{name} has no comment");
            assert!(!schema["properties"][name].is_null(), "{name} is not in the schema");
        }
        is_after_a_comment = is_comment;
    }
    for name in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
        assert!(!values[name].is_null(), "{name} is in the schema alone");
    }
}

#[test]
fn the_charts_version_is_the_products() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let chart: Value = read(&text).remove(0);
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}
