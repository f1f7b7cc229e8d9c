//! A thousand pods of a hundred thousand devices: the controller stays small and quiet.

use std::time::Instant;

use super::{
    site::{ROUND, Site, fleet},
    workers::cost,
};

/// What the controller may take of memory with 1,000 pods.
const MEMORY_MAX: u64 = 64 << 20;

/// What it may take of a core when nothing changes and nobody watches.
const CPU_MAX: f64 = 0.02;

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
    site.condition("f", "Reconciling", "False Settled");
    let idle = tests::least_of(&CPU_MAX, || cost(&controller, ROUND).cores);
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
