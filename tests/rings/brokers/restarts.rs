//! A broker that is stopped loses nothing; one that is killed loses what the report then shows.

use std::net::SocketAddr;

use tests::{
    peer::Make,
    proxy::{Proxy, Traffic, Which},
    run::{Ended, Run},
};

use crate::fleet::{Fleet, PERSISTENT};

/// A hundred devices.
fn start(url: &str) -> Run {
    start_as(100, PERSISTENT, url)
}

/// So many devices, or as many as `scale` will say.
fn start_as(devices: u32, spec: &str, url: &str) -> Run {
    Fleet { name: "restarts", devices, spec, reading: "interval: 500ms, jitter: 100ms, qos: 1", subscriptions: "" }
        .start(url)
}

pub(crate) fn a_broker_that_was_stopped_and_started_loses_nothing(make: Make) {
    let mut broker = make.start().unwrap();
    let run = start(&broker.url());
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(400).unwrap();
    broker.stop().unwrap();
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    broker.start_again().unwrap();
    let back = run.wait_for_devices(100).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 400).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect("reconnects", 100);
    report.expect("latency.recovery.count", 100);
    report.claim("the outage is shown", report.count("outages.count") == 1);
    report.expect("messages.abandoned", 0);
    report.expect("messages.lost_acknowledged", 0);
    report.expect("messages.acknowledged", report.count("messages.sent"));
    report.expect_all_delivered();
    ended.expect_passed();
}

/// The devices reach the broker, the observer does not hear from it: so what the broker has acknowledged waits there for
/// the observer when it is killed.
#[track_caller]
fn killed_with_messages_for_the_observer(make: Make) -> Ended {
    let mut broker = make.start().unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap();
    // The observer looks after its connection three times in that time: it must not give the silent one up for another.
    let spec = PERSISTENT.replace("lossAfter: 5s", "lossAfter: 15s");
    let run = start_as(0, &spec, &proxy.url());
    run.wait_until("the observer is subscribed", |report| report.count("observer.subscribed") == 1).unwrap();
    // Without devices, the observer's is the only connection.
    proxy.set_traffic(Which::Existing, Traffic::Stall).unwrap();
    run.must(&["scale", "100"]).unwrap();
    run.wait_until("150 messages are acknowledged", |report| report.count("messages.acknowledged") >= 150).unwrap();
    broker.kill().unwrap();
    proxy.cut().unwrap();
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    broker.start_again().unwrap();
    let back = run.wait_for_devices(100).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 400).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect_conservation();
    ended.report.expect("messages.in_flight", 0);
    ended
}

/// The broker has them in its memory, and they die with it.
pub(crate) fn what_a_killed_broker_had_acknowledged_and_lost_is_shown(make: Make) {
    let ended = killed_with_messages_for_the_observer(make);
    let report = &ended.report;
    report.claim("what was acknowledged and lost is shown", report.count("messages.lost_acknowledged") >= 100);
    let named = report.list("lost_messages").iter().filter(|lost| lost["acknowledged"] == true).count();
    report.claim("some of the lost are named as acknowledged", named > 0);
    report.claim("the reason is named", report.has_reason("lost_acknowledged"));
    report.claim("gap and recovery are shown", {
        report.list("outages.list").iter().all(|outage| outage["recovery_seconds"].is_number())
            && report.count("outages.count") >= 1
    });
    ended.expect_verdict("failed", 99);
}

/// The broker has them on its disk, and brings them when it is back.
pub(crate) fn what_a_killed_broker_had_acknowledged_and_kept_is_delivered(make: Make) {
    let ended = killed_with_messages_for_the_observer(make);
    ended.report.expect("messages.lost_acknowledged", 0);
    ended.report.expect_all_delivered();
    ended.expect_passed();
}

pub(crate) fn after_a_kill_every_message_is_accounted_for(make: Make) {
    let mut broker = make.start().unwrap();
    let run = start(&broker.url());
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(400).unwrap();
    broker.kill().unwrap();
    run.wait_until("all devices are offline", |report| report.count("devices.connected") == 0).unwrap();
    broker.start_again().unwrap();
    let back = run.wait_for_devices(100).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 400).unwrap();
    let ended = run.stop().unwrap();
    let report = &ended.report;
    report.expect_conservation();
    report.expect("messages.in_flight", 0);
    let reconnects = report.count("reconnects");
    report.claim(
        "each device came back, and once where the broker keeps to the standard",
        match make {
            Make::Mochi => reconnects >= 100,
            Make::Mosquitto | Make::RabbitMq => reconnects == 100,
        },
    );
    let never = report.count("messages.lost_acknowledged").saturating_sub(report.count("messages.late"));
    report.claim("the verdict follows from what was acknowledged and lost", {
        report.has_reason("lost_acknowledged") == (never > 0)
    });
}
