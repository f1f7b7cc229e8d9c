//! Fake pods answer nothing: the controller says so, and stays small and quiet.

use std::time::{Duration, Instant};

use super::site::{Site, fleet};

/// What the controller may take of memory with 1,000 pods.
const MEMORY_MAX: u64 = 64 << 20;

/// What it may take of a core when nothing changes and nobody watches.
const CPU_MAX: f64 = 0.02;

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
    let pods: serde_json::Value =
        serde_json::from_str(&controller.get(&format!("/v1/fleets/{}/f/pods", site.namespace.name())).unwrap())
            .unwrap();
    assert_eq!(pods.as_array().unwrap().len(), 13);
    assert!(pods.as_array().unwrap().iter().all(|pod| pod["answers"] == false), "{pods}");
}

#[test]
fn a_thousand_pods_of_a_hundred_thousand_devices_cost_little() {
    let site = Site::alone("thousand");
    let controller = site.controller("only");
    let start = Instant::now();
    // At 1,000 a second devices would be on their way for 100 s, and their workers be asked each second.
    site.namespace.apply(&fleet("f", 100_000, 100, "").replace("rate: 1000/s", "rate: 100000/s")).unwrap();
    site.settles("f", 100_000, 1_000);
    let (settled, cpu) = (start.elapsed(), controller.process.cpu().unwrap().total());
    site.condition("f", "Degraded", "True NoWorkerAnswers");
    site.condition("f", "Progressing", "False Settled");
    let idle = idle_cores(&controller.process, Duration::from_secs(30));
    let memory = controller.process.memory().unwrap();
    println!(
        "FIGURE 1,000 pods of 100,000 devices after {:.1} s, with {:.2} s CPU of the controller; then {:.1} MiB resident and \
         {:.2} % of a core",
        settled.as_secs_f64(),
        cpu.as_secs_f64(),
        memory.rss as f64 / f64::from(1 << 20),
        idle * 100.0
    );
    assert!(memory.rss <= MEMORY_MAX, "{} bytes", memory.rss);
    assert!(idle <= CPU_MAX, "{idle} cores");
}

/// The share of a core that a process takes for a while.
fn idle_cores(process: &tests::process::Process, window: Duration) -> f64 {
    let (start, before) = (Instant::now(), process.cpu().unwrap());
    std::thread::sleep(window);
    process.cpu().unwrap().since(before).total().as_secs_f64() / start.elapsed().as_secs_f64()
}
