//! Who may read a fleet's figures: who may `get` the fleet, by a FleetQuery, and nobody else in any way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    figures::{answered, ask, query},
    kubernetes::Client,
};

use super::{
    PATIENCE, admin,
    simctl::Hand,
    site::{Controller, Site},
};

/// How long a query lives without renewal.
const LIFE: Duration = Duration::from_secs(60);

/// A namespace with a fleet `f` of two silent pods, and its controller.
fn site(purpose: &str) -> (Site, Controller) {
    let site = Site::new(purpose);
    let controller = site.controller("load-controller");
    site.fleet("f", 4, 2, "");
    site.settles("f", 4, 2);
    (site, controller)
}

/// What `simctl status`, `top` and `device` show to somebody with a role of Kubernetes in the fleet's namespace.
fn reads_figures(role: &str) {
    let (site, _controller) = site(&format!("own-{role}"));
    let hand = Hand::with_role(&site, role);
    let report: Value = serde_json::from_str(&hand.does(&["status", "f", "-o", "json"])).unwrap();
    assert_eq!(report["devices"]["desired"], 4, "{report}");
    let top = hand.does(&["top", "--once"]);
    assert!(top.contains("f-0") && top.contains("f-1"), "{top}");
    // Nobody plays the pods' workers; the controller says so, and not that there is none.
    let device = hand.call(&["device", "f", "0"]);
    assert!(device.stderr.contains("the worker of device 0 does not answer"), "{device:?}");
    let left = site.namespace.kubectl(["get", "fleetqueries", "-o", "name"]).unwrap();
    assert!(left.is_empty(), "simctl deletes its queries: {left}");
}

/// What becomes of a query in a namespace where somebody with that role elsewhere has no rights.
fn reads_no_figures_elsewhere(role: &str) {
    let (site, elsewhere) = (Site::new(&format!("home-{role}")), Site::new(&format!("away-{role}")));
    elsewhere.fleet("f", 4, 2, "");
    let person = site.person(role);
    let error = creates(&person, &elsewhere, "q", &json!({"fleet": "f", "what": "report"})).unwrap_err().to_string();
    assert!(error.contains("forbidden") && error.contains("resource \"fleetqueries\""), "{error}");
    let error = person.kubectl(["get", "fleetquery/q", "-n", elsewhere.namespace.name()]).unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}

/// Makes a query as somebody.
fn creates(person: &Client, site: &Site, name: &str, spec: &Value) -> anyhow::Result<String> {
    let mut object = query(name, spec);
    object["metadata"]["namespace"] = site.namespace.name().into();
    person.apply(&object.to_string())
}

#[test]
fn view_reads_figures_of_its_namespace() {
    reads_figures("view");
}

#[test]
fn edit_reads_figures_of_its_namespace() {
    reads_figures("edit");
}

#[test]
fn admin_reads_figures_of_its_namespace() {
    reads_figures("admin");
}

#[test]
fn view_reads_no_figures_of_another_namespace() {
    reads_no_figures_elsewhere("view");
}

#[test]
fn edit_reads_no_figures_of_another_namespace() {
    reads_no_figures_elsewhere("edit");
}

#[test]
fn admin_reads_no_figures_of_another_namespace() {
    reads_no_figures_elsewhere("admin");
}

const QUERIES: &[&str] = &["--verb=create,get,patch,delete", "--resource=fleetqueries.simctl.io"];

#[test]
fn who_may_make_queries_but_not_get_fleets_is_refused_by_the_policy() {
    let site = Site::new("stranger");
    let person = site.person_with("stranger", &[QUERIES], ["create", "fleetqueries.simctl.io"]);
    for spec in [
        json!({"fleet": "f", "what": "report"}),
        json!({"fleet": "f", "what": "device", "device": 0}),
        json!({"what": "pods"}),
    ] {
        // Where the policy does not hold yet, the next attempt meets it.
        let refused = || Ok(creates(&person, &site, "q", &spec).err());
        let error = tests::eventually("the policy refuses it", PATIENCE, refused).unwrap().to_string();
        let user = format!("user stranger-of-{} may not get", site.namespace.name());
        assert!(error.contains("simctl-fleetqueries") && error.contains(&user), "{error}");
    }
}

#[test]
fn who_may_get_one_fleet_reads_the_figures_of_that_one_alone() {
    let (site, _controller) = site("one");
    site.fleet("g", 2, 2, "");
    let one: &[&str] = &["--verb=get", "--resource=fleets.simctl.io", "--resource-name=f"];
    let person = site.person_with("one", &[QUERIES, one], ["get", "fleets.simctl.io/f"]);
    creates(&person, &site, "mine", &json!({"fleet": "f", "what": "pods"})).unwrap();
    assert!(answered(&site.namespace, "mine").unwrap()["answer"].as_str().unwrap().contains("f-1"));
    for spec in [json!({"fleet": "g", "what": "pods"}), json!({"what": "pods"})] {
        let error = creates(&person, &site, "other", &spec).unwrap_err().to_string();
        assert!(error.contains("may not get"), "{error}");
    }
    // A query is about its fleet for ever.
    let error = creates(&person, &site, "mine", &json!({"fleet": "g", "what": "pods"})).unwrap_err().to_string();
    assert!(error.contains("may not get") || error.contains("only `renew` can change"), "{error}");
}

#[test]
fn who_may_not_get_the_fleet_any_more_cannot_renew() {
    let (site, _controller) = site("revoked");
    let fleets: &[&str] = &["--verb=get", "--resource=fleets.simctl.io"];
    let person = site.person_with("gone", &[QUERIES, fleets], ["get", "fleets.simctl.io"]);
    creates(&person, &site, "q", &json!({"fleet": "f", "what": "pods"})).unwrap();
    answered(&site.namespace, "q").unwrap();
    site.namespace.kubectl(["delete", "rolebinding", "gone-1"]).unwrap();
    let mut renewal = 0;
    let refused = || {
        renewal += 1;
        let patch = json!({"spec": {"renew": renewal}}).to_string();
        let renewed = ["-n", site.namespace.name(), "patch", "fleetquery/q", "--type=merge", "-p", &patch];
        Ok(person.kubectl(renewed).err())
    };
    let error = tests::eventually("a renewal is refused", PATIENCE, refused).unwrap().to_string();
    assert!(error.contains("may not get fleet f"), "{error}");
}

#[test]
fn who_may_view_finds_no_query_of_others_and_forges_no_answer() {
    let (site, _controller) = site("others");
    let namespace = site.namespace.name();
    let person = site.person("view");
    for args in [
        &["get", "fleetqueries", "-n", namespace][..],
        &["get", "fleetqueries", "-n", namespace, "--watch"],
        &["delete", "fleetqueries", "--all", "-n", namespace],
    ] {
        let error = person.kubectl(args).unwrap_err().to_string();
        assert!(error.contains("forbidden"), "{args:?}: {error}");
    }
    creates(&person, &site, "q", &json!({"fleet": "f", "what": "plan"})).unwrap();
    let forged = json!({"status": {"answer": "{}"}}).to_string();
    let forge = ["patch", "fleetquery/q", "-n", namespace, "--subresource=status", "--type=merge", "-p", &forged];
    let error = person.kubectl(forge).unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}

#[test]
fn who_may_view_cannot_keep_or_fill_a_query() {
    let site = Site::new("filled");
    let person = site.person("view");
    let spec = json!({"fleet": "f", "what": "plan"});
    for metadata in [
        json!({"name": "q", "finalizers": ["example.com/never"]}),
        json!({"name": "q", "annotations": {"example.com/fill": "x".repeat(2_000)}}),
    ] {
        let mut object = query("q", &spec);
        object["metadata"] = metadata;
        object["metadata"]["namespace"] = site.namespace.name().into();
        let error = person.apply(&object.to_string()).unwrap_err().to_string();
        assert!(error.contains("expected no finalizers"), "{error}");
    }
}

#[test]
fn a_query_that_makes_no_sense_is_refused_in_words_that_help() {
    let site = Site::new("senseless");
    for (spec, says) in [
        (json!({"fleet": "f", "what": "everything"}), "supported values: \"report\", \"pods\", \"plan\", \"device\""),
        (json!({"what": "report"}), "only `what: pods` can be about all fleets of the namespace"),
        (json!({"fleet": "f", "what": "device"}), "expected the index of a device"),
        (json!({"fleet": "f", "what": "pods", "device": 1}), "expected the index of a device"),
    ] {
        let error = site.namespace.apply(&query("q", &spec).to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{spec}: {error}");
    }
    site.namespace.apply(&query("q", &json!({"fleet": "f", "what": "pods", "renew": 3})).to_string()).unwrap();
    for (spec, says) in [
        (json!({"fleet": "g", "what": "pods", "renew": 3}), "only `renew` can change"),
        (json!({"what": "pods", "renew": 3}), "only `renew` can change"),
        (json!({"fleet": "f", "what": "pods", "renew": 2}), "expected a number that is not smaller than before"),
    ] {
        let error = site.namespace.apply(&query("q", &spec).to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{spec}: {error}");
    }
}

#[test]
fn a_renewal_is_answered_and_so_is_what_cannot_be() {
    let (site, _controller) = site("renewed");
    let spec = |renewal: u32| json!({"fleet": "f", "what": "report", "renew": renewal});
    site.namespace.apply(&query("q", &spec(0)).to_string()).unwrap();
    let first = answered(&site.namespace, "q").unwrap();
    site.namespace.apply(&query("q", &spec(7)).to_string()).unwrap();
    site.namespace.wait_for("fleetquery/q", "{.status.observedRenewal}", PATIENCE, |seen| seen == "7").unwrap();
    let second = answered(&site.namespace, "q").unwrap();
    assert!(second["answeredAt"].as_str() > first["answeredAt"].as_str(), "{first} {second}");
    site.namespace.apply(&query("absent", &json!({"fleet": "g", "what": "report"})).to_string()).unwrap();
    let absent = answered(&site.namespace, "absent").unwrap();
    assert_eq!((&absent["error"]["reason"], &absent["answer"]), (&"NotFound".into(), &Value::Null), "{absent}");
    let beyond = ask(&site.namespace, &json!({"fleet": "f", "what": "device", "device": 400})).unwrap_err().to_string();
    assert!(beyond.contains("no pod runs device 400"), "{beyond}");
}

#[test]
fn the_sixth_query_waits_and_the_eleventh_is_deleted() {
    let (site, _controller) = site("sixth");
    let name = |number: u32| format!("q-{number:02}");
    for number in 1..=6 {
        site.namespace.apply(&query(&name(number), &json!({"fleet": "f", "what": "plan"})).to_string()).unwrap();
    }
    (1..=5).for_each(|number| drop(answered(&site.namespace, &name(number)).unwrap()));
    let says = |seen: &str| seen.starts_with("LimitExceeded: 5 queries of namespace");
    let error = "{.status.error.reason}: {.status.error.message}";
    site.namespace.wait_for(&format!("fleetquery/{}", name(6)), error, PATIENCE, says).unwrap();
    site.namespace.kubectl(["delete", "fleetquery", &name(2)]).unwrap();
    let sixth = answered(&site.namespace, &name(6)).unwrap();
    assert!(sixth["answer"].is_string() && sixth["error"].is_null(), "{sixth}");

    let many: Vec<Value> =
        (20..60).map(|number| query(&name(number), &json!({"fleet": "f", "what": "plan"}))).collect();
    site.namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": many}).to_string()).unwrap();
    let is_bounded = || {
        let left = site.namespace.get(["fleetqueries"])?["items"].as_array().map_or(0, Vec::len);
        Ok((left == 10).then_some(()))
    };
    tests::eventually("five live queries and five that wait are left", PATIENCE, is_bounded).unwrap();
}

#[test]
fn a_query_is_gone_after_a_minute_without_renewal() {
    let (site, _controller) = site("minute");
    let start = Instant::now();
    site.namespace.apply(&query("q", &json!({"fleet": "f", "what": "plan"})).to_string()).unwrap();
    let is_gone = || Ok(site.namespace.kubectl(["get", "fleetquery/q"]).is_err().then_some(()));
    tests::eventually("the query is gone", LIFE + PATIENCE, is_gone).unwrap();
    let took = start.elapsed();
    println!("FIGURE a query is gone {took:.1?} after it was made");
    assert!(took >= LIFE && took < LIFE + Duration::from_secs(10), "{took:?}");
}

#[test]
fn without_a_controller_simctl_says_so_in_seconds() {
    let site = Site::new("nobody");
    site.fleet("f", 4, 2, "");
    let hand = Hand::of(&site);
    let start = Instant::now();
    let status = hand.call(&["status", "f"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(status.code, Some(1));
    assert!(status.stderr.contains("does not answer within 10 s; `kubectl get pods"), "{status:?}");
    let left = site.namespace.kubectl(["get", "fleetqueries", "-o", "name"]).unwrap();
    assert!(left.is_empty(), "{left}");
}

#[test]
fn who_may_not_ask_is_told_which_right_is_missing() {
    let site = Site::new("unasked");
    site.fleet("f", 4, 2, "");
    let fleets: &[&str] = &["--verb=get,list", "--resource=fleets.simctl.io"];
    let person = site.person_with("reader", &[fleets], ["list", "fleets.simctl.io"]);
    let status = Hand::as_person(&site, person).call(&["status", "f"]);
    assert_eq!(status.code, Some(1));
    for expected in ["cannot create resource \"fleetqueries\"", "kubectl auth can-i create fleetqueries.simctl.io"] {
        assert!(status.stderr.contains(expected), "expected `{expected}` in {status:?}");
    }
}

#[test]
fn a_pod_that_reaches_the_controller_reads_no_figures() {
    let (site, controller) = site("reached");
    let namespace = site.namespace.name();
    for what in ["report", "pods", "plan", "devices/0"] {
        let error = controller.get(&format!("/v1/fleets/{namespace}/f/{what}")).unwrap_err().to_string();
        assert!(error.contains("could not find the requested resource"), "{what}: {error}");
    }
    // Neither do the metrics say what a fleet's document does.
    let metrics = controller.get("/metrics").unwrap();
    assert!(metrics.contains("simctl_controller_fleet_devices"), "{metrics}");
    for secret in ["broker.example", "thermometer", "celsius"] {
        assert!(!metrics.contains(secret), "{secret}");
    }
}

#[test]
fn the_api_server_has_nothing_against_the_policy() {
    super::site::install();
    let of = ["get", "validatingadmissionpolicy", "simctl-fleetqueries", "-o"];
    let checked = || {
        let status = admin().kubectl([&of[..], &["jsonpath={.status.observedGeneration}"]].concat())?;
        Ok((!status.is_empty()).then_some(()))
    };
    tests::eventually("the policy is checked", PATIENCE, checked).unwrap();
    let warnings =
        admin().kubectl([&of[..], &["jsonpath={.status.typeChecking.expressionWarnings}"]].concat()).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
}
