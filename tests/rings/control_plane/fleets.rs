//! Sixty fleets whose workers answer: what the controller keeps of each is small.

use std::mem::size_of;

use load_controller::run::timeline::{Point, Timeline};

use super::{
    PATIENCE,
    kubelet::Kubelet,
    site::{ROUND, Site},
    workers::{Broker, connects},
};

const FLEETS: u32 = 60;

/// In one pod each.
const DEVICES_EACH: u32 = 10;

/// What the controller may take of memory.
const MEMORY_MAX: u64 = 64 << 20;

#[test]
fn sixty_fleets_that_answer_cost_little_memory() {
    let site = Site::alone("fleets");
    let broker = Broker::start(&site);
    let controller = site.controller("load-controller");
    controller.leads(PATIENCE);
    let before = controller.process.memory().unwrap().rss;
    let names: Vec<String> = (0..FLEETS).map(|number| format!("f{number}")).collect();
    let documents: Vec<String> = names.iter().map(|name| broker.fleet(name, DEVICES_EACH, DEVICES_EACH)).collect();
    site.namespace.apply(&documents.join("---\n")).unwrap();
    let mut workers = Vec::new();
    for name in &names {
        site.settles(name, DEVICES_EACH, 1);
        workers.push(Kubelet::run(&site, name));
    }
    for name in &names {
        connects(&site, name, DEVICES_EACH);
    }
    // The readings of a round are those that are kept from then on.
    std::thread::sleep(ROUND);
    let rss = controller.process.memory().unwrap().rss;
    let timelines = (usize::try_from(FLEETS).unwrap() * Timeline::POINTS_MAX * size_of::<Point>()) as u64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "FIGURE {FLEETS} fleets of one worker: {:.1} MiB resident, {:.1} more than with none, and up to {:.1} more with \
         long timelines",
        mib(rss),
        mib(rss.saturating_sub(before)),
        mib(timelines)
    );
    assert!(rss <= MEMORY_MAX, "{rss} bytes");
}
