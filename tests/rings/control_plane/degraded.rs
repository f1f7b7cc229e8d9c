//! Fake pods answer nothing, and the controller says so.

use serde_json::json;
use tests::figures;

use super::site::Site;

#[test]
fn workers_that_do_not_answer_are_told_with_their_pods() {
    let site = Site::new("silent");
    let controller = site.controller("only");
    site.fleet("f", 25, 2, "");
    site.settles("f", 25, 13);
    let message = site.condition("f", "Degraded", "True NoWorkerAnswers");
    assert!(message.contains("none of 13 workers answers"), "{message}");
    assert!(site.event("f", "NoWorkerAnswers").starts_with("Warning "));
    site.condition("f", "Ready", "False PlanNotLoaded");
    let fleet = site.namespace.get(["fleet/f"]).unwrap();
    let worst = fleet["status"]["worstPods"].as_array().unwrap();
    assert_eq!(worst.len(), 10, "as many as a person reads");
    assert_eq!(
        (&worst[0]["desired"], &worst[0]["connected"], &worst[0]["reason"]),
        (&2.into(), &0.into(), &"Silent".into())
    );
    assert_eq!(fleet["status"]["connected"], 0);
    assert!(controller.metric("simctl_controller_pull_failures_total") >= 39.0, "each was asked three times");
    let pods = figures::ask(&site.namespace, &json!({"fleet": "f", "what": "pods"})).unwrap();
    assert_eq!(pods["f"].as_array().unwrap().len(), 13);
    assert!(pods["f"].as_array().unwrap().iter().all(|pod| pod["answers"] == false), "{pods}");
}
