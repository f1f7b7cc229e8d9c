//! FleetQueries on an API server that the test plays, answered by a whole controller.

use fleet_contract::plan::Plan;
use serde_json::Value;

use super::*;
use crate::controller::run::tests::{Leader, Server, eventually, make, plan};

const QUERIES: &str = "/apis/simctl.io/v1alpha1/namespaces/load/fleetqueries";

/// Makes a query, as `simctl` does.
fn ask(server: &Server, name: &str, spec: &Value) {
    let query = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "FleetQuery",
        "metadata": {"name": name, "namespace": "load", "creationTimestamp": "2026-03-01T12:00:00Z"},
        "spec": spec,
    });
    server.put(&format!("{QUERIES}/{name}"), query);
}

/// Asks the same again.
fn renew(server: &Server, name: &str, renewal: i64) {
    let mut query = query(server, name);
    query["spec"]["renew"] = renewal.into();
    server.put(&format!("{QUERIES}/{name}"), query);
}

/// The query as it is now; `null` where there is none.
fn query(server: &Server, name: &str) -> Value {
    server.get(&format!("{QUERIES}/{name}")).unwrap_or_default()
}

/// Which renewal was answered last.
fn answered(server: &Server, name: &str) -> Option<i64> {
    query(server, name)["status"]["observedRenewal"].as_i64()
}

/// How often that was written since it was asked last.
fn times(server: &Server, write: &str) -> usize {
    server.writes().iter().filter(|written| *written == write).count()
}

#[tokio::test(start_paused = true)]
async fn each_renewal_is_answered_once() {
    let server = Server::default();
    make(&server, "demo");
    let _leader = Leader::of(&server);
    eventually("the fleet has a plan", || plan(&server, "demo").is_some()).await;
    ask(&server, "q", &json!({"fleet": "demo", "what": "plan"}));
    for renewal in 0..3 {
        renew(&server, "q", renewal);
        eventually("it is answered", || answered(&server, "q") == Some(renewal)).await;
        let status = query(&server, "q")["status"].take();
        let plan: Plan = serde_json::from_str(status["answer"].as_str().unwrap()).unwrap();
        assert_eq!((plan.devices_wanted(), &status["error"]), (10, &Value::Null));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(times(&server, "PATCH fleetqueries/q/status"), 1, "renewal {renewal}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_renews_is_deleted_after_a_minute() {
    let server = Server::default();
    let _leader = Leader::of(&server);
    ask(&server, "q", &json!({"what": "pods"}));
    eventually("it is answered", || answered(&server, "q") == Some(0)).await;
    assert_eq!(query(&server, "q")["status"]["answer"], "{}");
    tokio::time::sleep(Duration::from_secs(50)).await;
    renew(&server, "q", 1);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(answered(&server, "q"), Some(1), "it has another minute");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(query(&server, "q"), Value::Null);
    assert_eq!(times(&server, "DELETE fleetqueries/q"), 1);
}

#[tokio::test(start_paused = true)]
async fn one_of_a_fleet_that_is_not_there_says_so() {
    let server = Server::default();
    make(&server, "demo");
    let _leader = Leader::of(&server);
    ask(&server, "q", &json!({"fleet": "nowhere", "what": "report"}));
    eventually("it is answered", || answered(&server, "q") == Some(0)).await;
    let status = query(&server, "q")["status"].take();
    assert_eq!(status["error"]["reason"], "NotFound");
    assert_eq!(status["error"]["message"], "there is no fleet nowhere in namespace load");
    assert_eq!(status["answer"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_says_so_and_is_answered_when_another_ends() {
    let server = Server::default();
    let _leader = Leader::of(&server);
    let last = format!("q{LIVE_MAX}");
    for number in 0..=LIVE_MAX {
        ask(&server, &format!("q{number}"), &json!({"what": "pods"}));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually("it waits", || query(&server, &last)["status"]["error"]["reason"] == "LimitExceeded").await;
    assert_eq!(answered(&server, &last), None);
    server.remove(&format!("{QUERIES}/q0"));
    eventually("it is answered", || answered(&server, &last) == Some(0)).await;
}
