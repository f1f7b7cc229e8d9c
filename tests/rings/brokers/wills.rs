//! The last will of a device: published when it goes without a word, and only then.

use rumqttc::{Packet, QoS};
use rustix::process::{Pid, Signal, kill_process};
use tests::peer::{Access, Make};

use crate::{client, fleet::Fleet};

fn spec(topic: &str) -> String {
    format!("  connect: {{rate: 200/s, will: {{topic: 'wills/{topic}/{{index}}', payload: 'gone {{id}}', qos: 1}}}}\n")
}

pub(crate) fn a_worker_that_is_killed_leaves_its_devices_wills(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let (_client, mut inbox) = client::subscribed(&*broker, "heir", "wills/lost/#");
    let run = Fleet { name: "lost", devices: 5, spec: &spec("lost"), reading: "interval: 1s", subscriptions: "" }
        .start(&broker.url());
    run.wait_for_devices(5).unwrap();
    let worker = i32::try_from(run.workers().unwrap()[0]).ok().and_then(Pid::from_raw).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    let mut wills: Vec<_> =
        (0..5).map(|_| client::message(&mut inbox)).map(|will| (will.topic, will.payload)).collect();
    wills.sort();
    let expected: Vec<_> =
        (0..5).map(|index| (format!("wills/lost/{index}"), format!("gone lost-{index}").into())).collect();
    assert_eq!(wills, expected);
}

pub(crate) fn a_device_that_leaves_in_order_has_none(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let (client, mut inbox) = client::subscribed(&*broker, "nobody's heir", "wills/left/#");
    let run = Fleet { name: "left", devices: 5, spec: &spec("left"), reading: "interval: 1s", subscriptions: "" }
        .start(&broker.url());
    run.wait_for_devices(5).unwrap();
    run.stop().unwrap().expect_passed();
    // What was published before comes before this.
    client.publish("wills/left/last", QoS::AtLeastOnce, false, "the end").unwrap();
    let first = client::wait_for(&mut inbox, |packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    });
    assert_eq!(first.topic, "wills/left/last");
}
