//! What `simctl install --monitoring` and `simctl dashboard` find in a cluster, and what they say where it is absent.

use serde_json::json;
use tests::simctl::{Finished, Simctl};

use super::{
    admin,
    simctl::Hand,
    site::{Site, install},
};

/// Calls simctl as the administrator.
fn call(args: &[&str]) -> Finished {
    let simctl = Simctl::new().unwrap();
    let output = admin().run_in(&simctl.command(args)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A kind of the Prometheus Operator, without a schema of its own.
fn definition(kind: &str, plural: &str) -> String {
    let group = "monitoring.coreos.com";
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
    .to_string()
}

#[test]
fn monitors_come_where_the_prometheus_operator_is_and_carry_what_it_selects_by() {
    install();
    let namespace = admin().namespace("monitored").unwrap();
    let args = ["install", "-n", namespace.name(), "--monitoring", "--no-wait"];
    let tried = call(&[&args[..], &["--dry-run=server"]].concat());
    assert_eq!(tried.code, Some(0), "{tried:?}");
    let absent = "the cluster knows no PodMonitor, PrometheusRule, ServiceMonitor of monitoring.coreos.com/v1";
    assert!(tried.stderr.contains(absent) && tried.stderr.contains("kube-prometheus-stack"), "{tried:?}");
    assert!(
        tried.stdout.contains("configmap/simctl-dashboard-fleet-overview"),
        "dashboards need no operator: {tried:?}"
    );

    let kinds = [
        ("PodMonitor", "podmonitors"),
        ("ServiceMonitor", "servicemonitors"),
        ("PrometheusRule", "prometheusrules"),
        ("Prometheus", "prometheuses"),
    ];
    for (kind, plural) in kinds {
        admin().apply(&definition(kind, plural)).unwrap();
        let name = format!("crd/{plural}.monitoring.coreos.com");
        admin().kubectl(["wait", "--for=condition=Established", &name, "--timeout=60s"]).unwrap();
    }
    let prometheus = "{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, metadata: {name: stack}, \
                      spec: {serviceMonitorSelector: {matchLabels: {release: stack}}}}";
    namespace.apply(prometheus).unwrap();
    let installed = call(&args);
    assert!(installed.code == Some(0) && !installed.stderr.contains("knows no"), "{installed:?}");
    for (_, plural) in &kinds[..3] {
        let label = "release=stack,app.kubernetes.io/part-of=simctl";
        let found = namespace.get([plural, "-l", label]).unwrap();
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "{plural}");
    }
    let again = call(&args);
    assert!(again.stdout.lines().all(|line| line.ends_with("unchanged")), "{again:?}");
}

#[test]
fn a_dashboard_says_what_it_lacks() {
    let site = Site::new("grafana");
    let hand = Hand::of(&site);
    let dashboard = |args: &[&str]| hand.call(&[&["dashboard"][..], args].concat());
    let none = dashboard(&[]);
    assert!(none.code == Some(1) && none.stderr.contains("has the label app.kubernetes.io/name=grafana"), "{none:?}");
    assert!(none.stderr.contains("helm install") && none.stderr.contains("--monitoring"), "{none:?}");

    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "grafana"}},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 3000}]},
        })
        .to_string()
    };
    site.namespace.apply(&service("one")).unwrap();
    let unready = dashboard(&[]);
    let expected = format!("service/one in namespace {} has no pod that is ready", site.namespace.name());
    assert!(unready.code == Some(1) && unready.stderr.contains(&expected), "{unready:?}");
    site.namespace.apply(&service("two")).unwrap();
    let several = dashboard(&[]);
    assert!(several.code == Some(2) && several.stderr.contains("choose one with --grafana-namespace"), "{several:?}");
    let chosen = dashboard(&["--grafana-service", "two"]);
    assert!(chosen.stderr.contains("service/two"), "{chosen:?}");
    let strange = dashboard(&["fleet/none"]);
    assert!(strange.code == Some(1) && strange.stderr.contains("\"none\" not found"), "{strange:?}");
}
