//! Tokens and passwords: derived from the controller's key, written and never read.

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use load_controller::resource::names::CONTROLLER_KEY;
use serde_json::json;

use super::{
    PATIENCE,
    kubelet::Kubelet,
    site::Site,
    workers::{Broker, connects},
};

#[test]
fn a_secret_of_that_name_that_is_not_the_fleets_stays_as_it_is() {
    let site = Site::new("foreign-secret");
    site.namespace
        .apply("{apiVersion: v1, kind: Secret, metadata: {name: f-secrets}, stringData: {token: mine}}")
        .unwrap();
    let before = site.field("secret/f-secrets", "{.metadata.resourceVersion}");
    let _controller = site.controller("only");
    site.fleet("f", 2, 1, "");
    let told = site.condition("f", "Stalled", "True NameTaken");
    assert!(told.contains("Secret f-secrets exists and is not this fleet's"), "{told}");
    assert_eq!(site.field("secret/f-secrets", "{.metadata.resourceVersion}"), before);
    assert!(site.pods("f").is_empty(), "no pod gets a Secret that is not its fleet's");
    site.namespace.kubectl(["delete", "secret/f-secrets"]).unwrap();
    site.settles("f", 2, 2);
    site.condition("f", "Stalled", "False NothingRefused");
}

#[test]
fn a_key_that_is_lost_costs_no_pod() {
    let site = Site::new("lost-key");
    let broker = Broker::start(&site);
    let mut controller = site.controller("first");
    site.namespace.apply(&broker.fleet("f", 20, 10)).unwrap();
    site.settles("f", 20, 2);
    let mut workers = Kubelet::run(&site, "f");
    connects(&site, "f", 20);
    let token = site.field("secret/f-secrets", "{.data.token}");
    assert!(controller.process.terminate(PATIENCE).unwrap().success());

    site.namespace.kubectl(["delete", "secret", CONTROLLER_KEY]).unwrap();
    let _second = site.controller("second");
    let field = "{.data.token}";
    site.namespace.wait_for("secret/f-secrets", field, PATIENCE, |it| !it.is_empty() && it != token).unwrap();
    site.condition("f", "Degraded", "True NoWorkerAnswers");
    workers.update(&site, "f");
    connects(&site, "f", 20);
    site.condition("f", "Degraded", "False AsExpected");
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());
}

#[test]
fn workers_of_an_earlier_release_are_read_until_they_are_replaced() {
    let site = Site::new("earlier");
    let broker = Broker::start(&site);
    let mut controller = site.controller("first");
    site.namespace.apply(&broker.fleet("f", 20, 10)).unwrap();
    site.settles("f", 20, 2);
    assert!(controller.process.terminate(PATIENCE).unwrap().success());
    // Such a release makes a random token, in a Secret of another name, which its workers read once.
    let owner = json!({"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "name": "f",
                       "uid": site.field("fleet/f", "{.metadata.uid}"), "controller": true});
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
                        "metadata": {"name": "f-token", "ownerReferences": [owner]},
                        "data": {"token": BASE64_STANDARD.encode("random")}});
    site.namespace.apply(&secret.to_string()).unwrap();
    let workers = Kubelet::run(&site, "f");
    for pod in site.pods("f") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        site.namespace.kubectl(["annotate", "pod", name, "simctl.io/secrets-"]).unwrap();
        workers.write(name, "token", "token", "random");
    }
    let _second = site.controller("second");
    connects(&site, "f", 20);
    site.condition("f", "Degraded", "False AsExpected");
    assert_eq!(site.field("secret/f-token", "{.data.token}"), BASE64_STANDARD.encode("random"), "it stays as it is");
}
