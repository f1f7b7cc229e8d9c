//! Another client with the name of a device: the broker closes the device's connection, and the device comes back.

use rumqttc::Packet;
use tests::peer::{Access, Make};

use crate::{
    client,
    fleet::{Fleet, PERSISTENT},
};

pub(crate) fn a_device_whose_session_was_taken_over_loses_nothing(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let fleet =
        Fleet { name: "taken", devices: 10, spec: PERSISTENT, reading: "interval: 500ms, qos: 1", subscriptions: "" };
    let run = fleet.start(&broker.url());
    run.wait_for_devices(10).unwrap();
    run.wait_for_messages(40).unwrap();
    let (_client, mut rival) = client::connect(&*broker, "taken-0");
    client::wait_for(&mut rival, |packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
    let back = run.wait_until("the device is back", |report| report.count("reconnects") == 1).unwrap();
    run.wait_for_messages(back.count("messages.sent") + 40).unwrap();
    let ended = run.stop().unwrap();
    ended.report.expect("reconnects", 1);
    ended.report.expect("devices.connected", 10);
    ended.report.expect("messages.lost_acknowledged", 0);
    ended.report.expect_all_delivered();
    ended.expect_passed();
}
