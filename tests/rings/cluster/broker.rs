//! The broker of a fleet's own: whom it admits, and how a fleet of an earlier release comes to its credentials.

use std::{fs, time::Instant};

use serde_json::{Value, json};
use tests::eventually;

use super::{
    PATIENCE, TURNS, admin,
    fleet::{Fleet, NAME, PER_POD, document, name, uid},
    own_nodes,
    product::NAMESPACE,
};

/// The devices of the upgrade.
const DEVICES: u32 = 200;

/// The status and the reason of a condition.
fn condition(fleet: &Fleet, of: &str) -> String {
    let object = fleet.object();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == of);
    found.map_or(String::new(), |found| format!("{} {}", found["status"], found["reason"]).replace('"', ""))
}

#[test]
fn pods_of_another_namespace_are_refused_by_the_broker() {
    let _turn = TURNS.shared();
    let fleet = Fleet::apply("broker", &document(5, PER_POD));
    assert_eq!(condition(&fleet, "BrokerOpen"), "False CredentialsNeeded");
    // The network of this cluster enforces no policy, so it is the broker that refuses them.
    let url = format!("mqtt://{NAME}-broker.{}.svc:1883", fleet.namespace.name());
    let stranger = admin().namespace("stranger").unwrap();
    let theirs = document(2, PER_POD).replace("spec:\n", &format!("spec:\n  broker: {{url: '{url}'}}\n"));
    stranger.apply(&theirs).unwrap();
    let refused = "{.status.conditions[?(@.type==\"Degraded\")].message}";
    let is_told = |message: &str| message.contains("refuses 2 devices: not_authorized");
    stranger.wait_for(&format!("fleet/{NAME}"), refused, PATIENCE, is_told).unwrap();
    fleet.expect_devices(5, PER_POD, 0);
}

/// Makes of the fleet's objects what an earlier release has made: a token in another Secret, and no credentials.
fn put_back(fleet: &Fleet) {
    let namespace = &fleet.namespace;
    let owner = json!({"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "name": NAME,
                       "uid": fleet.object()["metadata"]["uid"], "controller": true});
    let token = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"token": "random"},
                       "metadata": {"name": format!("{NAME}-token"), "ownerReferences": [owner]}});
    namespace.apply(&token.to_string()).unwrap();
    let mut workers = namespace.get([&format!("statefulset/{NAME}")]).unwrap();
    let known =
        workers["spec"]["template"]["metadata"]["annotations"]["simctl.io/document"].as_str().unwrap().to_owned();
    let mut old = namespace.get([&format!("configmap/{known}")]).unwrap();
    let mut assignment: Value = serde_json::from_str(old["data"]["assignment.json"].as_str().unwrap()).unwrap();
    let spec = assignment["fleet"]["spec"].as_object_mut().unwrap();
    spec["broker"].as_object_mut().unwrap().remove("credentials");
    spec.remove("observer");
    old["data"]["assignment.json"] = Value::String(assignment.to_string());
    old["metadata"] = json!({"name": format!("{NAME}-0ld"), "labels": old["metadata"]["labels"],
                             "annotations": old["metadata"]["annotations"],
                             "ownerReferences": old["metadata"]["ownerReferences"]});
    namespace.apply(&old.to_string()).unwrap();
    namespace.kubectl(["delete", "configmap", &known]).unwrap();

    let template = &mut workers["spec"]["template"];
    template["metadata"]["annotations"].as_object_mut().unwrap().remove("simctl.io/secrets");
    template["metadata"]["annotations"]["simctl.io/document"] = json!(format!("{NAME}-0ld"));
    without(template, &["credentials", "observer"]);
    for volume in template["spec"]["volumes"].as_array_mut().unwrap() {
        match volume["name"].as_str().unwrap() {
            "token" => volume["secret"]["secretName"] = json!(format!("{NAME}-token")),
            "document" => volume["configMap"]["name"] = json!(format!("{NAME}-0ld")),
            _ => {}
        }
    }
    let mut broker = namespace.get([&format!("statefulset/{NAME}-broker")]).unwrap();
    let template = &mut broker["spec"]["template"];
    without(template, &["users", "access"]);
    let variables = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    variables
        .retain(|one| !["SIMCTL_BROKER_USERS", "SIMCTL_BROKER_ANONYMOUS"].contains(&one["name"].as_str().unwrap()));
    for mut set in [broker, workers] {
        set["metadata"]
            .as_object_mut()
            .unwrap()
            .retain(|field, _| ["name", "labels", "ownerReferences"].contains(&field.as_str()));
        set.as_object_mut().unwrap().remove("status");
        let file = fleet.dir().join("set.json");
        fs::write(&file, set.to_string()).unwrap();
        namespace.kubectl(["replace", "-f", file.to_str().unwrap()]).unwrap();
        let set = format!("statefulset/{}", set["metadata"]["name"].as_str().unwrap());
        namespace.kubectl(["rollout", "status", &set, "--timeout=180s"]).unwrap();
    }
    namespace.kubectl(["delete", "secret", &format!("{NAME}-secrets")]).unwrap();
    namespace.kubectl(["delete", "configmap", &format!("{NAME}-broker")]).unwrap();
}

/// Takes these volumes and their mounts out of a pod template.
fn without(template: &mut Value, names: &[&str]) {
    let is_kept = |one: &Value| !names.contains(&one["name"].as_str().unwrap());
    template["spec"]["volumes"].as_array_mut().unwrap().retain(is_kept);
    template["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().retain(is_kept);
}

fn controllers(replicas: u32) {
    let replicas = format!("--replicas={replicas}");
    admin().kubectl(["-n", NAMESPACE, "scale", "deployment/load-controller", &replicas]).unwrap();
    if replicas.ends_with("=0") {
        let is_gone = || {
            let pods = admin().get(["pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=load-controller"])?;
            Ok(pods["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        };
        eventually("no controller runs", PATIENCE, is_gone).unwrap();
    }
}

#[test]
fn an_upgrade_closes_the_broker_and_takes_no_more_than_a_pods_share_away() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("a fleet of an earlier release") else { return };
    let fleet = Fleet::apply("upgrade", &document(DEVICES, PER_POD));
    controllers(0);
    put_back(&fleet);
    let all = u64::from(DEVICES + DEVICES / PER_POD);
    fleet.until("all devices of the earlier release", |fleet| fleet.clients() == Some(all));
    let (broker, workers) = (fleet.pods_of("broker"), fleet.pods());

    let start = Instant::now();
    controllers(2);
    fleet.until("the broker is another pod", |fleet| {
        let now = fleet.pods_of("broker");
        now.first().is_some_and(|pod| uid(pod) != uid(&broker[0])) && fleet.clients().is_some()
    });
    assert_eq!(condition(&fleet, "BrokerOpen"), "True OldWorkers");
    let share = u64::from(PER_POD + 1);
    fleet.until("all but one pod's share is back", |fleet| fleet.clients().is_some_and(|now| now + share >= all));
    println!(
        "FIGURE an upgrade: the broker's restart took {:.1} s until the devices were back",
        start.elapsed().as_secs_f64()
    );
    let broker = fleet.pods_of("broker");

    let missing = fleet.rolls(&workers, all);
    println!("FIGURE an upgrade: at most {missing} of {all} clients were missing at a time while the workers rolled");
    // A pod is ready when each of its devices has tried to connect; one whose first attempt failed tries again later,
    // while the next pod leaves.
    let stragglers = share / 10;
    assert!(missing <= share + stragglers, "{missing} of {all} clients were missing at a time");
    fleet.until("the broker is closed", |fleet| condition(fleet, "BrokerOpen") == "False CredentialsNeeded");
    assert_eq!(uid(&broker[0]), uid(&fleet.pods_of("broker")[0]), "{} was not restarted to close it", name(&broker[0]));
    // A stranger is refused as soon as kubelet has brought the change.
    let stranger = admin().namespace("stranger").unwrap();
    let url = format!("mqtt://{NAME}-broker.{}.svc:1883", fleet.namespace.name());
    let theirs = document(1, PER_POD).replace("spec:\n", &format!("spec:\n  broker: {{url: '{url}'}}\n"));
    let refused =
        || Ok(fleet.broker("simctl_broker_refused_total{reason=\"not_authorized\"}").filter(|count| *count > 0));
    // Until then a device of theirs may be admitted, and is dismissed.
    stranger.apply(&theirs).unwrap();
    eventually("a stranger is refused", PATIENCE, refused).unwrap();
    // It may have taken the session of one of ours, for it has the same client id.
    fleet.until("all devices are connected, and nobody else", |fleet| fleet.clients() == Some(all));
    fleet.scale(0);
    // Those that were replaced while nobody led took along what nobody had read; the upgrade has lost none.
    fleet.report().expect("generator.workers_lost", DEVICES / PER_POD);
}
