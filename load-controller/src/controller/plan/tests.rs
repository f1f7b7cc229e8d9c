//! What is decided in which situation.

use std::sync::Arc;

use fleet_contract::plan::Setting;
use k8s_openapi::api::apps::v1::StatefulSetStatus;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    controller::document,
    resource::{FleetStatus, fixture},
};

const NOW: Micros = Micros(1_800_000_000_000_000);

fn images() -> Images {
    Images { worker: "device-sim:1".into(), broker: "broker:1".into(), pull_policy: None }
}

/// Decides about a fleet whose cluster is `observed`.
fn decided_about(more: &str, observed: &Observed, known: Option<&Plan>) -> Steps {
    decided_with(more, observed, known, 0)
}

/// The same while so many devices are connected.
fn decided_with(more: &str, observed: &Observed, known: Option<&Plan>, connected: u32) -> Steps {
    let (fleet, owner, images) = (fixture::fleet(more), fixture::owner(), images());
    let document = document::resolve(&fleet, &owner, None, &images.worker).unwrap();
    let situation = Situation {
        fleet: &fleet,
        owner: &owner,
        document: &document,
        observed,
        plan: known,
        images: &images,
        storage: None,
        allowed: &AllowedBrokers::default(),
        connected,
        hold: None,
        is_others_turn: false,
        now: NOW,
    };
    decide(&situation)
}

/// An object as an API server would store it.
fn stored<K: DeserializeOwned + Resource>(object: &Object) -> Arc<K> {
    let mut stored: K = serde_json::from_value(object.body().clone()).unwrap();
    stored.meta_mut().uid = Some(format!("uid of {}", object.key()));
    Arc::new(stored)
}

/// The cluster after the steps: what an API server would show.
fn after(steps: &Steps, before: Observed) -> Observed {
    let mut observed = before;
    for object in steps.objects.iter().chain(&steps.stateful_set) {
        match object.key().to_string().as_str() {
            "StatefulSet demo" => observed.stateful_set = Some(stored(object)),
            "StatefulSet demo-broker" => observed.broker.stateful_set = Some(stored(object)),
            "Service demo" => observed.service = Some(stored(object)),
            "Service demo-broker" => observed.broker.service = Some(stored(object)),
            "NetworkPolicy demo" => observed.policy = Some(stored(object)),
            "NetworkPolicy demo-broker" => observed.broker.policy = Some(stored(object)),
            "ConfigMap demo-broker" => observed.broker.access = Some(stored(object)),
            "PodDisruptionBudget demo" => observed.budget = Some(stored(object)),
            name if name == format!("ConfigMap {}", steps.revision.name) => {
                observed.documents.retain(|known| known.name_any() != steps.revision.name);
                observed.documents.push(stored(object));
            }
            other => panic!("{other} is no object of a fleet"),
        }
    }
    let is_deleted = |name: &str| steps.deletions.iter().any(|deletion| deletion.key.name == name);
    observed.documents.retain(|known| !is_deleted(&known.name_any()));
    observed.plan = Some((steps.plan.clone(), Some("1".into())));
    observed
}

fn reasons(steps: &Steps) -> Vec<&str> {
    steps.notes.iter().map(|note| note.reason.text()).collect()
}

fn replicas(steps: &Steps) -> Option<i64> {
    steps.stateful_set.as_ref()?.body()["spec"]["replicas"].as_i64()
}

fn deleted(steps: &Steps) -> Vec<String> {
    steps.deletions.iter().map(|deletion| deletion.key.to_string()).collect()
}

/// The ConfigMap of an old revision.
fn old_document(name: &str, number: u64) -> Arc<ConfigMap> {
    let mut object = config_map::document(&fixture::owner(), "", number, "{}", "{}");
    (object.metadata.name, object.metadata.uid) = (Some(name.into()), Some(format!("uid of {name}")));
    Arc::new(object)
}

#[test]
fn a_new_fleet_gets_everything_and_then_nothing_more() {
    let steps = decided_about("devices: 10\ndevicesPerPod: 4", &Observed::default(), None);
    assert_eq!((steps.objects.len(), replicas(&steps), steps.revision.number), (8, Some(3), 1));
    assert!(steps.is_new_plan && steps.plan.devices(NOW.after(LEAD)) == 10);
    assert_eq!(reasons(&steps), ["Created"]);
    let observed = after(&steps, Observed::default());
    let again = decided_about("devices: 10\ndevicesPerPod: 4", &observed, None);
    assert!(again.objects.is_empty() && again.stateful_set.is_none() && !again.is_new_plan);
    assert_eq!((again.revision.step, reasons(&again)), (RevisionStep::Keep, vec![]));
}

#[test]
fn every_number_of_devices_has_its_pods() {
    for (devices, pods) in [(0, 0), (1, 1), (499, 100), (500, 100), (501, 101), (7_919, 1_584)] {
        let steps = decided_about(&format!("devices: {devices}\ndevicesPerPod: 5"), &Observed::default(), None);
        assert_eq!((steps.replicas, replicas(&steps)), (pods, Some(pods.into())), "{devices}");
    }
}

/// A controller of the release before would begin a new run with a plan that it cannot read.
#[test]
fn a_plan_goes_back_to_an_older_format_when_what_needed_a_newer_one_is_over() {
    for (ago, goes_back) in [(30, false), (600, true)] {
        let mut plan = Plan::new(1, NOW.before(Span::from_secs(1_000)), 5);
        plan.set(NOW.before(Span::from_secs(ago)), Setting::Ramp { to: 10, over: Span::from_secs(1) });
        let observed = Observed { plan: Some((plan.clone(), None)), ..Observed::default() };
        let steps = decided_about("devices: 10", &observed, None);
        assert_eq!((steps.is_new_plan, steps.plan.version - plan.version), (goes_back, goes_back.into()), "{ago}");
        assert_eq!(json!(steps.plan)["format"].is_null(), goes_back, "{ago}");
    }
}

#[test]
fn growth_within_a_pod_changes_the_plan_and_no_pod() {
    let observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let steps = decided_about("devices: 900", &observed, None);
    assert!(steps.is_new_plan && steps.stateful_set.is_none() && steps.objects.is_empty());
    assert_eq!((steps.plan.version, steps.plan.devices_wanted()), (2, 900));
    assert_eq!(reasons(&steps), ["Scaled"]);
}

#[test]
fn live_numbers_travel_in_the_plan_alone() {
    let observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let steps = decided_about("devices: 10\npaused: true\nintervals: {'*': 100ms}", &observed, None);
    assert!(steps.is_new_plan && steps.stateful_set.is_none());
    assert_eq!((steps.revision.step, reasons(&steps)), (RevisionStep::Keep, vec!["Paused"]));
    let observed = after(&steps, observed);
    assert_eq!(reasons(&decided_about("devices: 10", &observed, None)), ["Resumed"]);
}

#[test]
fn our_own_write_counts_before_the_watch_shows_it() {
    let observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let grown = decided_about("devices: 20", &observed, None);
    let again = decided_about("devices: 20", &observed, Some(&grown.plan));
    assert!(!again.is_new_plan && again.plan == grown.plan);
}

#[test]
fn a_lost_plan_is_made_again_and_goes_on() {
    let mut fleet = fixture::fleet("devices: 10");
    fleet.status = Some(crate::resource::FleetStatus {
        run: Some(77),
        start: Some("2026-03-01T12:00:00.25Z".into()),
        plan_version: 9,
        ..Default::default()
    });
    let (owner, images) = (fixture::owner(), images());
    let document = document::resolve(&fleet, &owner, None, &images.worker).unwrap();
    let observed = Observed::default();
    let plan = decide(&Situation {
        fleet: &fleet,
        owner: &owner,
        document: &document,
        observed: &observed,
        plan: None,
        images: &images,
        storage: None,
        allowed: &AllowedBrokers::default(),
        connected: 0,
        hold: None,
        is_others_turn: false,
        now: NOW,
    })
    .plan;
    assert_eq!((plan.version, plan.run, plan.start), (10, 77, Micros(1_772_366_400_250_000)));
}

#[test]
fn an_undo_brings_an_old_document_back_as_the_newest() {
    let first = decided_about("devices: 10", &Observed::default(), None);
    let observed = after(&first, Observed::default());
    let second = decided_about("devices: 10\nlossAfter: 5s", &observed, None);
    assert_eq!((second.revision.number, second.revision.step), (2, RevisionStep::Create));
    assert_eq!(reasons(&second), ["RevisionRolled"]);
    assert!(second.stateful_set.is_some(), "another document rolls the pods");
    let undone = decided_about("devices: 10", &after(&second, observed), None);
    assert_eq!((undone.revision.number, undone.revision.step), (3, RevisionStep::Renumber));
    assert_eq!(undone.revision.name, first.revision.name);
}

fn pod(name: &str, document: &str) -> WorkerPod {
    WorkerPod {
        name: name.into(),
        uid: name.into(),
        ordinal: 0,
        ip: None,
        node: Some("node".into()),
        unreachable_since: None,
        reply: Reply::None,
        created: None,
        is_ready: true,
        has_run: true,
        is_terminating: false,
        document: Some(document.into()),
        secret: Some("demo-secrets".into()),
        unschedulable: None,
        diagnosis: None,
    }
}

#[test]
fn ten_revisions_are_kept_and_those_in_use() {
    let mut observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    observed.documents = (1..=14).map(|number| old_document(&format!("demo-old{number:02}"), number)).collect();
    observed.pods = vec![pod("demo-0", "demo-old02")];
    let steps = decided_about("devices: 10", &observed, None);
    assert_eq!(steps.revision.number, 15);
    let old = ["demo-old05", "demo-old04", "demo-old03", "demo-old01"];
    assert_eq!(deleted(&steps), old.map(|name| format!("ConfigMap {name}")));
}

#[test]
fn pods_of_a_lost_node_are_deleted_after_half_a_minute() {
    let seconds = |ago: i64| Timestamp::from_microsecond(i64::try_from(NOW.0).unwrap() - ago * 1_000_000).unwrap();
    let since = |name, ago| WorkerPod { unreachable_since: Some(seconds(ago)), ..pod(name, "d") };
    let evicted = |name, ago| WorkerPod { is_terminating: true, ..since(name, ago) };
    // Kubernetes evicts a pod by its name: before that, it might be the successor that is evicted.
    let pods = vec![pod("fine", "d"), evicted("lost", 31), since("evicted soon", 31), evicted("losing", 20)];
    let observed = Observed {
        pods,
        broker: ObservedBroker { pod: Some(since("broker", 36)), ..ObservedBroker::default() },
        ..Observed::default()
    };
    let steps = decided_about("devices: 10", &observed, None);
    assert_eq!(steps.forces.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["lost", "broker"]);
    assert_eq!(steps.look_again, Some(Duration::from_secs(4)));
    assert!(reasons(&steps).contains(&"PodForced"));
}

#[test]
fn a_worker_that_answers_is_left_alone_whatever_its_node_does() {
    let first = decided_about("devices: 10", &Observed::default(), None);
    let since = Timestamp::from_microsecond(i64::try_from(NOW.0).unwrap() - 600_000_000).unwrap();
    let cut_off = |reply, document: &str, ordinal| WorkerPod {
        unreachable_since: Some(since),
        reply,
        ordinal,
        is_terminating: true,
        ..pod("cut off", document)
    };
    let document = &first.revision.name;
    // Reply, document, shard; whether it is deleted by force, and whether it is asked to drain.
    for (reply, document, ordinal, is_forced, is_drained) in [
        (Reply::Runs, document.as_str(), 0, false, false),
        (Reply::Unasked, document, 0, false, false),
        (Reply::None, document, 0, true, false),
        // It is to be replaced, or not wanted any more.
        (Reply::Runs, "demo-old", 0, false, true),
        (Reply::Runs, document, 1, false, true),
        (Reply::Drained, document, 1, true, false),
        (Reply::Drained, "demo-old", 0, true, false),
    ] {
        let observed = Observed {
            pods: vec![cut_off(reply, document, ordinal)],
            ..after(&decided_about("devices: 10", &Observed::default(), None), Observed::default())
        };
        let steps = decided_about("devices: 10", &observed, None);
        let found = (!steps.forces.is_empty(), !steps.drains.is_empty());
        assert_eq!(found, (is_forced, is_drained), "{reply:?} {document} {ordinal}");
    }
}

#[test]
fn a_fleet_that_names_a_broker_needs_none_of_its_own() {
    let observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let steps = decided_about("devices: 10\nbroker: {url: broker.example}", &observed, None);
    let kinds = ["StatefulSet", "Service", "NetworkPolicy", "ConfigMap"];
    assert_eq!(deleted(&steps), kinds.map(|kind| format!("{kind} demo-broker")));
    assert!(steps.deletions.iter().all(|deletion| deletion.uid == format!("uid of {}", deletion.key)));
    assert_eq!(steps.broker_devices_max, None);
    assert_eq!(deleted(&decided_about("devices: 10", &observed, None)), [""; 0]);
}

#[test]
fn a_broker_keeps_the_memory_that_it_was_given() {
    let observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let steps = decided_about("devices: 1000000", &observed, None);
    assert!(steps.objects.is_empty(), "a scale restarts no broker");
    assert_eq!(steps.broker_devices_max, Some(2_048));
}

#[track_caller]
fn check_autoscaler(metrics: &Value, is_fit: bool) {
    let spec = json!({
        "maxReplicas": 900, "metrics": metrics,
        "scaleTargetRef": {"apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "name": "demo"},
    });
    let hpa = serde_json::from_value(json!({"metadata": {"name": "auto"}, "spec": spec})).unwrap();
    let observed = Observed { autoscalers: vec![Arc::new(hpa)], ..Observed::default() };
    let steps = decided_about("devices: 10", &observed, None);
    assert_eq!(!reasons(&steps).contains(&"UnfitAutoscaler"), is_fit, "{metrics}");
}

#[test]
fn only_an_average_of_its_own_scales_devices_rightly() {
    let external = |target: &str| json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": target, "averageValue": "1", "value": "1"}}}]);
    check_autoscaler(&external("AverageValue"), true);
    check_autoscaler(&external("Value"), false);
    check_autoscaler(
        &json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]),
        false,
    );
    check_autoscaler(&json!(null), false);
}

#[test]
fn an_object_that_differs_is_changed_by_its_uid_and_none_other() {
    let mut observed = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let service = Arc::make_mut(observed.service.as_mut().unwrap());
    service.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "other".to_owned())].into());
    let steps = decided_about("devices: 10", &observed, None);
    let uids: Vec<_> = steps.objects.iter().map(|object| (object.key().to_string(), object.uid())).collect();
    assert_eq!(uids, [("Service demo".to_owned(), Some("uid of Service demo"))]);
}

#[test]
fn an_unusual_way_to_write_a_quantity_costs_no_write() {
    let more = "devices: 10\npod: {cpu: 1000m, memory: 1024Mi, cpuLimit: '2000m'}";
    let mut observed = after(&decided_about(more, &Observed::default(), None), Observed::default());
    // What the API server makes of it.
    let mut stored = serde_json::to_value(observed.stateful_set.as_deref().unwrap()).unwrap();
    let resources = &mut stored["spec"]["template"]["spec"]["containers"][0]["resources"];
    *resources = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    observed.stateful_set = Some(Arc::new(serde_json::from_value(stored).unwrap()));
    assert!(decided_about(more, &observed, None).stateful_set.is_none());
}

/// What the access ConfigMap is to say, if it is to be written.
fn is_opened(steps: &Steps) -> Option<bool> {
    let object = steps.objects.iter().find(|object| object.key().to_string() == "ConfigMap demo-broker")?;
    object.body()["data"]["anonymous"].as_str()?.parse().ok()
}

#[test]
fn a_broker_admits_clients_without_credentials_only_while_old_workers_are_left() {
    let fresh = decided_about("devices: 10", &Observed::default(), None);
    assert_eq!(is_opened(&fresh), Some(false), "a new fleet has no old workers");
    let mut observed = after(&fresh, Observed::default());
    observed.pods = vec![WorkerPod { secret: None, ..pod("demo-0", "demo-old") }, pod("demo-1", "demo-new")];
    let open = decided_about("devices: 10", &observed, None);
    assert_eq!(is_opened(&open), Some(true));
    observed = after(&open, observed);
    assert_eq!(is_opened(&decided_about("devices: 10", &observed, None)), None, "nothing changes");
    observed.pods.remove(0);
    assert_eq!(is_opened(&decided_about("devices: 10", &observed, None)), Some(false));
}

#[test]
fn workers_are_not_replaced_while_their_broker_is() {
    let running = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let with_broker = |change: &dyn Fn(&mut StatefulSet)| {
        let mut broker = (**running.broker.stateful_set.as_ref().unwrap()).clone();
        change(&mut broker);
        Observed {
            broker: ObservedBroker { stateful_set: Some(Arc::new(broker)), ..running.broker.clone() },
            ..clone_of(&running)
        }
    };
    let changed = "devices: 10\nlossAfter: 5s";
    let is_replaced = |observed: &Observed, more: &str| decided_about(more, observed, None).stateful_set.is_some();
    assert!(is_replaced(&running, changed));
    let of_another_image = with_broker(&|broker| {
        let pod = broker.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        pod.containers[0].image = Some("broker:0".into());
    });
    assert!(!is_replaced(&of_another_image, changed), "the broker comes first");
    let on_its_way = with_broker(&|broker| {
        let revision = |name: &str| Some(name.to_owned());
        let status = StatefulSetStatus {
            current_revision: revision("old"),
            update_revision: revision("new"),
            ..StatefulSetStatus::default()
        };
        broker.status = Some(status);
    });
    assert!(!is_replaced(&on_its_way, changed));
    let scaled = decided_about("devices: 5000\nlossAfter: 5s", &on_its_way, None);
    assert_eq!(replicas(&scaled), Some(5), "a scale does not wait");
    let template = &scaled.stateful_set.as_ref().unwrap().body()["spec"]["template"];
    let before = serde_json::to_value(&running.stateful_set.as_ref().unwrap().spec.as_ref().unwrap().template).unwrap();
    assert_eq!(template, &before);
}

#[test]
fn workers_are_not_replaced_before_their_devices_are_back() {
    let running = after(&decided_about("devices: 10", &Observed::default(), None), Observed::default());
    let made = |name: &str, ago: u64| {
        let made = i64::try_from(NOW.0 - ago * 1_000_000).unwrap();
        WorkerPod { created: Some(Timestamp::from_microsecond(made).unwrap()), ..pod(name, "demo-old") }
    };
    let is_replaced = |broker_ago: u64, workers_ago: u64, connected: u32| {
        let (pod, pods) = (Some(made("demo-broker-0", broker_ago)), vec![made("demo-0", workers_ago)]);
        let broker = ObservedBroker { pod, ..running.broker.clone() };
        let observed = Observed { broker, pods, ..clone_of(&running) };
        let steps = decided_with("devices: 10\nlossAfter: 5s", &observed, None, connected);
        assert_eq!(steps.look_again.is_some(), steps.is_held);
        steps.stateful_set.is_some()
    };
    assert!(!is_replaced(5, 600, 9), "one is away");
    assert!(is_replaced(5, 600, 10), "all are back");
    assert!(is_replaced(61, 600, 9), "one that never comes back keeps nobody from a new document");
    assert!(is_replaced(5, 3, 0), "a new fleet, or workers that have been replaced already");
}

/// The workers and the broker of what was observed.
fn clone_of(observed: &Observed) -> Observed {
    Observed {
        stateful_set: observed.stateful_set.clone(),
        broker: observed.broker.clone(),
        plan: observed.plan.clone(),
        documents: observed.documents.clone(),
        ..Observed::default()
    }
}

#[test]
fn what_a_new_controller_wants_waits_for_the_fleets_turn_and_what_an_author_wants_does_not() {
    let (mut fleet, owner, old) = (fixture::fleet("devices: 10"), fixture::owner(), images());
    fleet.metadata.generation = Some(4);
    fleet.status = Some(FleetStatus { observed_generation: Some(4), ..FleetStatus::default() });
    let decided = |fleet: &Fleet, observed: &Observed, images: &Images, is_others_turn| {
        let document = document::resolve(fleet, &owner, None, &images.worker).unwrap();
        decide(&Situation {
            fleet,
            owner: &owner,
            document: &document,
            observed,
            plan: None,
            images,
            storage: None,
            allowed: &AllowedBrokers::default(),
            connected: 10,
            hold: None,
            is_others_turn,
            now: NOW,
        })
    };
    let first = decided(&fleet, &Observed::default(), &old, true);
    assert_eq!((first.turn, replicas(&first)), (Turn::None, Some(1)), "a new fleet replaces nothing");
    let observed = || after(&first, Observed::default());
    let steps = |fleet: &Fleet, images: &Images, is_others_turn| decided(fleet, &observed(), images, is_others_turn);
    assert_eq!(steps(&fleet, &old, false).turn, Turn::None);
    let new = Images { worker: "device-sim:2".into(), broker: "broker:2".into(), pull_policy: None };
    let waits = steps(&fleet, &new, true);
    assert_eq!((waits.turn, replicas(&waits), waits.look_again), (Turn::Waits, None, Some(RETURN_LOOK)));
    assert!(!waits.objects.iter().any(|object| object.key().to_string() == "StatefulSet demo-broker"));
    let rolls = steps(&fleet, &new, false);
    assert_eq!(rolls.turn, Turn::Rolls { done: 0, has_begun: false });
    fleet.metadata.generation = Some(5);
    assert_eq!(steps(&fleet, &new, true).turn, Turn::None, "its author has edited it");
}
