//! The control plane that the other tests of this ring rely on does what they assume of it.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{PATIENCE, PLANE, admin, site::TURNS};

/// A set whose pods go to fake nodes.
fn stateful_set(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  serviceName: {name}
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      tolerations: [{{key: kwok.x-k8s.io/node, operator: Exists}}]
      containers: [{{name: nothing, image: localhost/nothing:1}}]
"
    )
}

fn pods(namespace: &tests::kubernetes::Namespace) -> Vec<Value> {
    namespace.get(["pods"]).unwrap()["items"].as_array().unwrap().clone()
}

#[test]
fn five_hundred_fake_pods_are_ready_in_seconds_and_gone_again() {
    let _turn = TURNS.shared();
    let namespace = admin().namespace("five-hundred").unwrap();
    namespace.apply(&stateful_set("fleet", 0)).unwrap();
    let start = Instant::now();
    namespace.kubectl(["scale", "statefulset/fleet", "--replicas=500"]).unwrap();
    namespace.wait_for_ready("statefulset/fleet", 500, PATIENCE).unwrap();
    println!("500 fake pods are ready after {:.1} s", start.elapsed().as_secs_f64());
    let pods = pods(&namespace);
    assert_eq!(pods.len(), 500);
    assert!(pods.iter().all(|pod| pod["spec"]["nodeName"].as_str().unwrap().starts_with("fake-")));

    let start = Instant::now();
    namespace.kubectl(["scale", "statefulset/fleet", "--replicas=0"]).unwrap();
    namespace.wait_for_ready("statefulset/fleet", 0, PATIENCE).unwrap();
    println!("they are gone after {:.1} s", start.elapsed().as_secs_f64());
}

#[test]
fn nobody_answers_at_a_fake_pods_address_and_that_is_known_at_once() {
    let namespace = admin().namespace("silence").unwrap();
    namespace.apply(&stateful_set("one", 1)).unwrap();
    namespace.wait_for_ready("statefulset/one", 1, PATIENCE).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/one-0:9464/proxy/", namespace.name());
    let start = Instant::now();
    let error = admin().kubectl(["get", "--raw", &path]).unwrap_err().to_string();
    assert!(error.contains("no route to host"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn the_control_planes_network_has_no_way_out_and_the_machine_has_none_in() {
    let inside = |args: &[&str]| PLANE.network().enter(Command::new("ip").args(args)).output().unwrap();
    let links = String::from_utf8(inside(&["-brief", "link"]).stdout).unwrap();
    let names: Vec<&str> = links.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["lo", "wire"]);
    let route = inside(&["route", "get", "198.51.100.1"]);
    assert!(String::from_utf8_lossy(&route.stderr).contains("No route to host"), "{route:?}");
    assert!(!Path::new("/sys/class/net/wire").exists());
}

#[test]
fn a_service_account_has_the_rights_of_its_roles_alone() {
    let namespace = admin().namespace("rights").unwrap();
    namespace.kubectl(["create", "serviceaccount", "reader"]).unwrap();
    namespace.kubectl(["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]).unwrap();
    let subject = format!("--serviceaccount={}:reader", namespace.name());
    namespace.kubectl(["create", "rolebinding", "reader", "--role=reader", &subject]).unwrap();

    let reader = PLANE.service_account(namespace.name(), "reader").unwrap();
    reader.kubectl(["get", "configmaps", "-n", namespace.name()]).unwrap();
    let error = reader.kubectl(["get", "secrets", "-n", namespace.name()]).unwrap_err().to_string();
    assert!(error.contains("Forbidden"), "{error}");
}

#[test]
fn a_user_of_a_group_is_who_the_certificate_says() {
    let user = PLANE.user("ada", "engineers").unwrap();
    let review = user.kubectl(["auth", "whoami", "-o", "json"]).unwrap();
    assert!(review.contains("\"ada\"") && review.contains("\"engineers\""), "{review}");
}

#[test]
fn a_field_that_the_api_server_does_not_know_is_an_error() {
    let namespace = admin().namespace("strict").unwrap();
    let error = namespace.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dta: {}}").unwrap_err();
    assert!(error.to_string().contains("dta"), "{error}");
}

#[test]
fn a_namespace_that_enforces_restricted_refuses_a_privileged_pod() {
    let namespace = admin().namespace("restricted").unwrap();
    admin().kubectl(["label", "namespace", namespace.name(), "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: x, image: x}]}}";
    let error = namespace.apply(pod).unwrap_err().to_string();
    assert!(error.contains("PodSecurity"), "{error}");
}

#[test]
fn the_release_is_the_one_that_go_mod_names() {
    let versions: Value = serde_json::from_str(&admin().kubectl(["version", "-o", "json"]).unwrap()).unwrap();
    let server = versions["serverVersion"]["gitVersion"].as_str().unwrap();
    assert_eq!(versions["clientVersion"]["gitVersion"].as_str().unwrap(), server);
    assert!(server.starts_with("v1."), "{server}");
    let helm = admin().command("helm").args(["version", "--short"]).output().unwrap();
    assert!(String::from_utf8_lossy(&helm.stdout).starts_with("v3."), "{helm:?}");
}
