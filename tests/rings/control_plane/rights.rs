//! Each account can do just what it must, and pods are admitted where Pod Security is `restricted`.

use load_controller::resource::names::{CONTROLLER, CONTROLLER_KEY};
use tests::kubernetes::Client;

use super::{
    admin,
    site::{Site, fleet},
};

/// Whether an account may do that to such objects of a namespace, by `kubectl auth can-i`.
fn may(account: &str, namespace: &str, verb: &str, resource: &str) -> bool {
    let mut review = admin().command("kubectl");
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    review.args(["auth", "can-i", verb, resource, "--subresource", subresource, "-n", namespace, "--as", account]);
    let output = review.output().unwrap();
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{verb} {resource}: {other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn the_controller_has_the_rights_that_it_needs_and_no_others() {
    let (site, elsewhere) = (Site::new("account"), admin().namespace("elsewhere").unwrap());
    let account = format!("system:serviceaccount:{}:{CONTROLLER}", site.namespace.name());
    let may_here = |verb: &str, resource: &str| may(&account, site.namespace.name(), verb, resource);
    for (verb, resource) in [
        ("patch", "fleets.simctl.io/status"),
        ("patch", "statefulsets.apps"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("delete", "pods"),
        ("update", "leases.coordination.k8s.io"),
        ("create", "events.events.k8s.io"),
    ] {
        assert!(may_here(verb, resource), "{verb} {resource}");
    }
    for (verb, resource) in [
        // Whoever scales owns the specification.
        ("patch", "fleets.simctl.io"),
        ("update", "fleets.simctl.io"),
        ("update", "fleets.simctl.io/scale"),
        ("delete", "fleets.simctl.io"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("update", "secrets"),
        ("delete", "secrets"),
        ("create", "serviceaccounts"),
        ("create", "serviceaccounts/token"),
        ("create", "roles.rbac.authorization.k8s.io"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("create", "deployments.apps"),
        ("patch", "nodes"),
        ("list", "nodes"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("delete", "leases.coordination.k8s.io"),
    ] {
        assert!(!may_here(verb, resource), "{verb} {resource}");
    }
    let may_read = |secret: &str| {
        let mut review = admin().command("kubectl");
        let secret = format!("secrets/{secret}");
        review.args(["auth", "can-i", "get", &secret, "-n", site.namespace.name(), "--as", &account]);
        String::from_utf8_lossy(&review.output().unwrap().stdout).trim() == "yes"
    };
    assert!(may_read(CONTROLLER_KEY) && !may_read("f-secrets") && !may_read("anybody-elses"));
    for resource in ["fleets.simctl.io", "secrets", "configmaps", "statefulsets.apps", "pods"] {
        assert!(!may(&account, elsewhere.name(), "list", resource), "{resource} of another namespace");
    }
}

#[test]
fn who_may_view_sees_fleets_and_who_may_edit_scales_them() {
    let site = Site::new("people");
    site.fleet("f", 2, 1, "");
    let namespace = site.namespace.name();
    let (viewer, editor) = (site.person("view"), site.person("edit"));
    let of = |client: &Client, args: &[&str]| client.kubectl([&["-n", namespace], args].concat());
    let status = r#"{"status":{"pods":9}}"#;
    let forge = ["patch", "fleet/f", "--subresource=status", "--type=merge", "-p", status];
    for client in [&viewer, &editor] {
        assert!(of(client, &["get", "fleets"]).unwrap().contains("f "));
        let error = of(client, &forge).unwrap_err().to_string();
        assert!(error.contains("forbidden"), "the status is the controller's alone: {error}");
        assert!(client.kubectl(["get", "fleets", "-n", "default"]).is_err(), "elsewhere there are no rights");
    }
    for change in [&["scale", "fleet/f", "--replicas=3"][..], &["delete", "fleet/f", "--wait=false"]] {
        let error = of(&viewer, change).unwrap_err().to_string();
        assert!(error.contains("forbidden"), "{change:?}: {error}");
        of(&editor, change).unwrap();
    }
}

#[test]
fn workers_and_brokers_have_no_credentials_of_kubernetes() {
    let site = Site::new("workers");
    let _controller = site.controller("only");
    let document = fleet("f", 2, 1, "").replace("  broker: {url: 'mqtt://broker.example:1883'}\n", "");
    site.namespace.apply(&document).unwrap();
    site.settles("f", 2, 2);
    site.namespace.wait_for_ready("statefulset/f-broker", 1, super::PATIENCE).unwrap();
    let pods = site.namespace.get(["pods", "-l", "simctl.io/fleet=f"]).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        let text = pod["spec"].to_string();
        assert!(!text.contains("kube-api-access") && !text.contains("serviceAccountToken"), "{text}");
    }
    assert_eq!(pods["items"].as_array().unwrap().len(), 3);
    // What they show each other is no object that a reader of ConfigMaps may read.
    let token = site.field("secret/f-secrets", "{.data.token}");
    assert!(token.len() > 40);
    let config_maps = site.namespace.get(["configmaps"]).unwrap().to_string();
    let pods = pods.to_string();
    let plain = String::from_utf8(base64(&token)).unwrap();
    assert!(!config_maps.contains(&plain) && !pods.contains(&plain));
}

fn base64(text: &str) -> Vec<u8> {
    use ::base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).unwrap()
}

#[test]
fn a_namespace_that_enforces_restricted_admits_all_that_is_made() {
    let site = Site::new("strict");
    let label = "pod-security.kubernetes.io/enforce=restricted";
    admin().kubectl(["label", "namespace", site.namespace.name(), label]).unwrap();
    let _controller = site.controller("only");
    let document = fleet("f", 3, 1, "").replace("  broker: {url: 'mqtt://broker.example:1883'}\n", "");
    site.namespace.apply(&document).unwrap();
    site.settles("f", 3, 3);
    site.namespace.wait_for_ready("statefulset/f-broker", 1, super::PATIENCE).unwrap();
}

#[test]
fn a_controller_without_a_right_says_which_and_goes_on() {
    let site = Site::new("less");
    // That of PodDisruptionBudgets.
    let account = site.account_without("policy");
    let mut controller = site.controller_as("less", &account);
    let says = |line: &str| line.contains("PodDisruptionBudget") && line.contains("forbidden");
    controller.process.wait_for_line(tests::process::Stream::Stderr, super::PATIENCE, says).unwrap();
    controller.process.ensure_running().unwrap();
    assert!(controller.process.terminate(super::PATIENCE).unwrap().success());
}
