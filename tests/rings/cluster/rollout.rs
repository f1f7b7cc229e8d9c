//! A new image or document reaches the pods one by one, and goes back.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::json;

use super::{
    TURNS,
    fleet::{Fleet, PER_POD, document, name, uid},
    listener::Listener,
    own_nodes,
    product::next_image,
};

const DEVICES: u32 = 75;

/// What the broker saw while something happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    /// The fewest devices that were connected at a time.
    pub(super) least: u64,
    /// How often was looked.
    pub(super) looks: u64,
}

impl Watched {
    /// Counts devices at the broker, ten times a second, while `happens`; the observers' and witnesses' connections are
    /// no devices, so the fewest clients are set against those of the start.
    pub(super) fn during(fleet: &Fleet, happens: impl FnOnce()) -> Watched {
        let (devices, clients) = (fleet.status("connected"), fleet.clients().unwrap());
        let pods = fleet.pods().len() as u64;
        let others = clients - devices - pods;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut watched = Watched { least: u64::MAX, looks: 0 };
                while !is_over.load(Relaxed) {
                    if let Some(clients) = fleet.clients() {
                        // A pod that is away takes its observer along.
                        let present = clients.saturating_sub(others);
                        let whole = present / (u64::from(PER_POD) + 1);
                        let rest = (present % (u64::from(PER_POD) + 1)).saturating_sub(1);
                        watched.least = watched.least.min(whole * u64::from(PER_POD) + rest);
                        watched.looks += 1;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
                watched
            });
            happens();
            is_over.store(true, Relaxed);
            looks.join().unwrap()
        })
    }
}

/// Awaits that the roll-out is through and all devices are connected, and returns what `simctl rollout status` said.
fn settled(fleet: &Fleet) -> String {
    let said = fleet.simctl(&["rollout", "status", "--timeout", "5m"]).stdout;
    fleet.until_connected(DEVICES);
    said
}

#[test]
fn an_image_and_a_document_roll_pod_by_pod_and_are_undone() {
    let _turn = TURNS.shared();
    let Some(_) = own_nodes("an image of another name") else { return };
    let fleet = Fleet::apply("rollout", &document(0, PER_POD));
    let witness = Listener::start(&fleet);
    fleet.scale(DEVICES);
    let first = fleet.pods();

    let image = next_image();
    let watched = Watched::during(&fleet, || {
        fleet.api.patch(&fleet.path(), &json!({"spec": {"pod": {"image": image}}})).unwrap();
        println!("{}", settled(&fleet).trim());
    });
    let missing = u64::from(DEVICES).saturating_sub(watched.least);
    println!(
        "FIGURE a new image: at most {missing} of {DEVICES} devices were missing at a time, in {} looks",
        watched.looks
    );
    assert!(missing <= u64::from(PER_POD), "{watched:?}");
    let second = fleet.pods();
    assert!(second.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image));
    assert!(first.iter().zip(&second).all(|(one, other)| name(one) == name(other) && uid(one) != uid(other)));

    // Another document, and a scale in the middle of its way, which nothing takes back.
    let changed = document(DEVICES, PER_POD).replace("interval: 2s", "interval: 1s");
    let changed = changed.replace("spec:\n", &format!("spec:\n  pod: {{image: '{image}'}}\n"));
    let watched = Watched::during(&fleet, || {
        fleet.apply_again(&changed);
        println!("{}", settled(&fleet).trim());
    });
    assert!(u64::from(DEVICES).saturating_sub(watched.least) <= u64::from(PER_POD), "{watched:?}");
    let device: serde_json::Value = serde_json::from_str(&fleet.simctl(&["device", "3", "-o", "json"]).stdout).unwrap();
    assert_eq!(device["streams"][0]["name"], "reading", "{device}");

    let history = fleet.simctl(&["rollout", "history"]).stdout;
    assert_eq!(history.lines().filter(|line| line.trim_start().starts_with(char::is_numeric)).count(), 3, "{history}");
    fleet.simctl(&["rollout", "undo", "--to-revision", "1"]);
    println!("{}", settled(&fleet).trim());
    let spec = fleet.object()["spec"].clone();
    assert_eq!(spec["devices"], DEVICES);
    assert_eq!(spec["groups"][0]["streams"]["reading"]["interval"], "2s", "{spec}");
    assert!(spec["pod"]["image"].is_null(), "{spec}");
    assert_eq!(fleet.status("revision"), 4);
    fleet.expect_devices(DEVICES, PER_POD, 1);

    assert_eq!(fleet.broker("simctl_broker_wills_total"), Some(0), "nobody went without a word");
    fleet.scale(0);
    fleet.until("all pods are gone", |fleet| fleet.pods().is_empty());
    let report = fleet.report();
    report.expect_all_delivered();
    report.expect("generator.workers_lost", 0);
    let sent = report.count("messages.sent");
    let seen = witness.until(sent);
    assert_eq!((seen.missing, seen.again, seen.reordered, seen.wills), (0, 0, 0, 0), "{seen:?}");
    assert_eq!(seen.messages, sent, "{seen:?}");
    println!("the witness has seen all of {sent} messages");
}
