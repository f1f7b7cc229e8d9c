//! Messages that the broker keeps for those who come later.

use tests::peer::{Access, Make};

use crate::{client, fleet::Fleet};

pub(crate) fn a_new_subscriber_gets_the_last_message(make: Make) {
    let broker = make.lend(Access::Open).unwrap();
    let fleet = Fleet {
        name: "keeper",
        devices: 3,
        spec: "",
        reading: "interval: 500ms, qos: 1, retain: true, topic: 'kept/{index}'",
        subscriptions: "",
    };
    let run = fleet.start(&broker.url());
    run.wait_for_messages(9).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
    // RabbitMQ brings retained messages for exact topics alone.
    for index in 0..3 {
        let (_client, mut inbox) = client::subscribed(&*broker, &format!("late-{index}"), &format!("kept/{index}"));
        let kept = client::message(&mut inbox);
        assert!(kept.retain && !kept.payload.is_empty(), "{kept:?}");
    }
}
