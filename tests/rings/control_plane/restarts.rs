//! A controller that is killed leaves nothing undone and does nothing twice; of two, one acts.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    figures,
    process::{Signal, Stream},
    proxy::{Traffic, Which},
};

use super::{
    PATIENCE, admin,
    site::{Controller, ROUND, Site, TERM},
};

/// How long one may take to notice that nobody leads any more, on a machine that is busy.
const SOON: Duration = Duration::from_secs(6);

/// How long one may take to lead and to be found again after an outage: two attempts, and Kubernetes' own look at pods.
const AFTER_OUTAGE: Duration = Duration::from_secs(15);

#[test]
fn one_that_is_killed_in_the_middle_of_a_scale_goes_on_where_it_was() {
    let site = Site::new("killed");
    let mut controller = site.controller("only");
    site.fleet("f", 2, 1, "");
    site.settles("f", 2, 2);
    let (uid, start) = (site.field("pod/f-1", "{.metadata.uid}"), site.field("fleet/f", "{.status.start}"));
    site.scale("f", 300);
    let has_begun = |pods: &str| pods.parse::<u32>().is_ok_and(|pods| pods > 20);
    site.namespace.wait_for("statefulset/f", "{.status.replicas}", PATIENCE, has_begun).unwrap();
    controller.process.kill().unwrap();
    // Nobody looks; Kubernetes goes on with what it knows.
    site.scale("f", 200);

    let restarted = site.controller("only");
    restarted.leads(SOON);
    site.settles("f", 200, 200);
    assert_eq!(site.field("pod/f-1", "{.metadata.uid}"), uid, "pods that were there are left alone");
    assert_eq!(site.field("fleet/f", "{.status.start}"), start, "timetables count from the same instant");
    // For 2, 300 and 200 pods.
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "3");
    rests(&site, &restarted, "f");
}

#[test]
fn of_two_one_leads_and_the_other_takes_over() {
    let site = Site::new("two");
    let mut first = site.controller("a");
    first.leads(SOON);
    let mut second = site.controller("b");
    site.fleet("f", 10, 1, "");
    site.settles("f", 10, 10);
    assert_eq!((holder(&site), leaders(&site)), ("a".into(), "a".into()));
    let plan = figures::ask(&site.namespace, &json!({"fleet": "f", "what": "plan"})).unwrap();
    assert!(plan["version"].is_u64(), "{plan}");
    let calls = second.metric("simctl_controller_api_seconds_count");
    assert!(calls < 0.5, "only the one that leads answers: {calls} calls");

    first.process.kill().unwrap();
    let killed = Instant::now();
    second.leads(TERM + SOON);
    println!("after a SIGKILL the other one leads after {:.1} s", killed.elapsed().as_secs_f64());
    assert!(killed.elapsed() <= TERM + SOON);
    site.scale("f", 12);
    site.settles("f", 12, 12);
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "2", "a takeover writes nothing");

    // As the next container of its pod, it finds there that it leads.
    let again = site.controller("a");
    let leads_alone = || Ok((leaders(&site) == "b").then_some(()));
    tests::eventually("the pod of one that led says so no more", PATIENCE, leads_alone).unwrap();
    drop(again);

    let third = site.controller("c");
    let waits = |line: &str| line.contains("does not lead");
    third.process.wait_for_line(Stream::Stderr, PATIENCE, waits).unwrap();
    second.process.signal(Signal::TERM).unwrap();
    let told = Instant::now();
    third.leads(SOON);
    println!("after a SIGTERM the other one leads after {:.1} s", told.elapsed().as_secs_f64());
    assert!(second.process.wait(SOON).unwrap().success());
    assert_eq!(holder(&site), "c");
    site.namespace.wait_for("pod/c", "{.metadata.labels.simctl\\.io/leader}", PATIENCE, |it| it == "true").unwrap();
    // One that was killed could not take its label away; with it went its pod's readiness, and so its endpoint.
    assert_eq!(site.field("pod/b", "{.metadata.labels.simctl\\.io/leader}"), "");
    site.scale("f", 11);
    site.settles("f", 11, 11);
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "3");
    rests(&site, &third, "f");
}

/// Each write of the outage takes effect, and the controller learns nothing of it: among them is the one that takes its
/// label away.
#[test]
fn one_that_leads_again_after_an_outage_is_found_again() {
    let site = Site::new("outage");
    let detour = site.detour();
    let controller = site.controller_as("a", &detour.client);
    controller.leads(SOON);
    let answers = || admin().kubectl(["get", "--raw", &metrics_of_service(&site)]);
    let is_found = || Ok(answers().ok().filter(|text| text.contains("simctl_controller_leader 1")));
    tests::eventually("the Service leads to the one that leads", PATIENCE, is_found).unwrap();

    detour.proxy.set_traffic(Which::All, Traffic::Unanswered).unwrap();
    let stops = |line: &str| line.contains("this controller stops to lead");
    controller.process.wait_for_line(Stream::Stderr, TERM, stops).unwrap();
    // After that it pauses: nothing is under way whose answer could still come.
    let gives_up = |line: &str| line.contains("the pod cannot be labelled in time");
    controller.process.wait_for_line(Stream::Stderr, TERM, gives_up).unwrap();
    site.namespace.wait_for("pod/a", "{.metadata.labels.simctl\\.io/leader}", PATIENCE, str::is_empty).unwrap();
    assert_eq!(holder(&site), "a");
    detour.proxy.set_traffic(Which::All, Traffic::Forward).unwrap();
    let over = Instant::now();
    controller.leads(AFTER_OUTAGE);
    tests::eventually("the Service leads there again", AFTER_OUTAGE, is_found).unwrap();
    println!("after an outage the Service leads to the leader again after {:.1} s", over.elapsed().as_secs_f64());
    assert!(over.elapsed() <= AFTER_OUTAGE, "{:?}", over.elapsed());
}

fn metrics_of_service(site: &Site) -> String {
    format!("/api/v1/namespaces/{}/services/load-controller:http/proxy/metrics", site.namespace.name())
}

/// The chart deletes the service account last, and controllers that still end then must not make the Lease anew.
#[test]
fn the_lease_goes_with_the_service_account_of_the_controllers() {
    let site = Site::new("lease");
    // As an earlier release has left it: nobody's.
    let before = "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: load-controller}, \
                  spec: {holderIdentity: '', leaseDurationSeconds: 1}}";
    site.namespace.apply(before).unwrap();
    let controller = site.controller("only");
    controller.leads(SOON);
    let owner = site.field("lease/load-controller", "{.metadata.ownerReferences[*].kind}");
    assert_eq!((owner.as_str(), holder(&site).as_str()), ("ServiceAccount", "only"));

    site.namespace.kubectl(["delete", "serviceaccount", "load-controller"]).unwrap();
    let ends = |line: &str| line.contains("this controller stops to lead");
    controller.process.wait_for_line(Stream::Stderr, PATIENCE, ends).unwrap();
    let left = || site.namespace.kubectl(["get", "leases", "-o", "name"]);
    tests::eventually("the Lease is gone", PATIENCE, || Ok(left()?.is_empty().then_some(()))).unwrap();
}

/// Nothing is written any more once everything is as it should be.
fn rests(site: &Site, controller: &Controller, fleet: &str) {
    // The last thing that changes by itself: the connect round, in which no fake pod says anything, is over.
    site.condition(fleet, "Reconciling", "False Settled");
    site.condition(fleet, "Degraded", "True NoWorkerAnswers");
    let versions = || {
        ["fleet", "statefulset", "service"]
            .map(|kind| site.field(&format!("{kind}/{fleet}"), "{.metadata.resourceVersion}"))
    };
    let writes = || controller.metric("simctl_controller_api_seconds_count");
    let (before, written) = (versions(), writes());
    std::thread::sleep(ROUND);
    assert_eq!(versions(), before);
    assert!((writes() - written).abs() < 0.5, "{} writes though nothing changed", writes() - written);
}

fn holder(site: &Site) -> String {
    site.field("lease/load-controller", "{.spec.holderIdentity}")
}

/// The pods that are labelled as the one that leads.
fn leaders(site: &Site) -> String {
    let pods = site.namespace.get(["pods", "-l", "simctl.io/leader=true"]).unwrap();
    let names = pods["items"].as_array().unwrap().iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    names.collect::<Vec<_>>().join(" ")
}
