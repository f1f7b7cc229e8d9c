//! What runs leave at a broker, and how `simctl clean` removes it.

use std::fs;

use rumqttc::QoS;
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use tests::{
    mosquitto::{Mosquitto, Settings},
    process::{Signal, Stream},
    run::Run,
    simctl::Finished,
};

use crate::{PATIENCE, client, fleet::Fleet};

const DEVICES: u32 = 5;

/// A fleet whose sessions persist, and whose readings, births and wills are retained.
fn start(broker: &Mosquitto, name: &str, protocol: &str, more: &[&str]) -> Run {
    let spec = format!(
        "  broker: {{url: mqtt://localhost, protocol: '{protocol}'}}\n  lossAfter: 1s\n  connect:\n    rate: 200/s\n    \
         session: persistent\n    birth: {{topic: 'kept/{name}/{{index}}/status', payload: here, retain: true}}\n    \
         will: {{topic: 'kept/{name}/{{index}}/status', payload: gone, retain: true}}\n"
    );
    let reading = format!("interval: 300ms, qos: 1, retain: true, topic: 'kept/{name}/{{index}}/reading'");
    let subscriptions = format!("{{topic: 'commands/{name}/{{index}}', qos: 1}}");
    let fleet = Fleet { name, devices: DEVICES, spec: &spec, reading: &reading, subscriptions: &subscriptions };
    let url = broker.url();
    let run = Run::start_at(fleet.place(), &[&["-f", "fleet.yaml", "--broker", &url], more].concat()).unwrap();
    run.wait_for_devices(DEVICES.into()).unwrap();
    // Each device has sent one by now.
    run.wait_for_messages(4 * u64::from(DEVICES)).unwrap();
    run
}

/// Ends a run and its workers without a word.
fn kill(run: &Run) {
    let workers = run.workers().unwrap();
    // It starts no other workers.
    run.signal(Signal::STOP).unwrap();
    for worker in workers {
        kill_process(i32::try_from(worker).ok().and_then(Pid::from_raw).unwrap(), Signal::KILL).unwrap();
    }
    run.signal(Signal::KILL).unwrap();
}

fn clean(run: &Run, broker: &Mosquitto, more: &[&str]) -> (Finished, Value) {
    let url = broker.url();
    let args = ["clean", "-f", "fleet.yaml", "--broker", &url, "-o", "json"];
    let finished = run.call(&[&args, more].concat()).unwrap();
    let cleaned = finished.json().unwrap_or_default();
    (finished, cleaned)
}

/// The topics of the messages that the broker keeps for new subscribers of `filter`, which covers `last`.
fn retained(broker: &Mosquitto, filter: &str, last: &str) -> Vec<String> {
    let (client, mut inbox) = client::subscribed(broker, "inspector", filter);
    client.publish(last, QoS::AtLeastOnce, false, "the end").unwrap();
    let topics = std::iter::from_fn(|| Some(client::message(&mut inbox)).filter(|message| message.topic != last));
    let mut topics: Vec<String> = topics.filter(|message| message.retain).map(|message| message.topic).collect();
    topics.sort();
    topics
}

/// The broker queues for a device while nobody is connected by its name.
fn is_queued_for(broker: &Mosquitto, device: &str, topic: &str) -> bool {
    let (sender, mut answers) = client::connect(broker, "commander");
    sender.publish(topic, QoS::AtLeastOnce, false, "wake up").unwrap();
    client::wait_for(&mut answers, |packet| matches!(packet, rumqttc::Packet::PubAck(_)).then_some(()));
    let mut options = rumqttc::MqttOptions::new(device, "127.0.0.1", broker.port());
    options.set_clean_session(false);
    let (client, mut inbox) = rumqttc::Client::new(options, 16);
    // What was queued comes before the answer to anything that is asked now.
    client.subscribe("nothing/at/all", QoS::AtMostOnce).unwrap();
    client::wait_for(&mut inbox, |packet| match packet {
        rumqttc::Packet::Publish(message) => Some(message.topic == topic),
        rumqttc::Packet::SubAck(_) => Some(false),
        _ => None,
    })
}

fn what_a_killed_run_has_left_is_removed(protocol: &str, name: &str) {
    let broker = Mosquitto::start(Settings::new().unwrap().with("connection_messages", true)).unwrap();
    let run = start(&broker, name, protocol, &[]);
    let (refused, _) = clean(&run, &broker, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("is running on this machine") && refused.stderr.contains("--force"), "{refused:?}");
    kill(&run);

    let [filter, last] = [format!("kept/{name}/#"), format!("kept/{name}/last")];
    assert_eq!(retained(&broker, &filter, &last).len(), 2 * DEVICES as usize);
    assert!(client::has_session(&broker, &format!("{name}-0")));
    assert!(is_queued_for(&broker, &format!("{name}-1"), &format!("commands/{name}/1")));
    let log = broker.process().output(Stream::Stderr).unwrap();
    let begin = format!("{name}-observer-");
    // The first one is that of the pre-flight.
    let observer = log.split_whitespace().rfind(|word| word.starts_with(&begin)).unwrap();
    assert!(client::has_session(&broker, observer));

    let (finished, cleaned) = clean(&run, &broker, &["--observer", observer]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let figures = ["sessions", "observers", "topics", "left"].map(|key| &cleaned[key]);
    assert_eq!(figures, [&json!(DEVICES), &json!(1), &json!(2 * DEVICES), &json!([])], "{cleaned}");

    assert_eq!(retained(&broker, &filter, &last), [""; 0]);
    assert!(!is_queued_for(&broker, &format!("{name}-1"), &format!("commands/{name}/1")));
    assert!(!client::has_session(&broker, observer));
    for index in [0, 2, 3, 4] {
        assert!(!client::has_session(&broker, &format!("{name}-{index}")), "{index}");
    }
}

#[test]
fn what_a_killed_run_has_left_is_removed_over_mqtt_3_1_1() {
    what_a_killed_run_has_left_is_removed("3.1.1", "old");
}

#[test]
fn what_a_killed_run_has_left_is_removed_over_mqtt_5() {
    what_a_killed_run_has_left_is_removed("5", "new");
}

/// Also of devices that have gone before the end.
#[test]
fn a_run_may_remove_at_its_end_what_it_leaves() {
    let broker = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let run = start(&broker, "tidy", "3.1.1", &["--clean"]);
    run.must(&["scale", "8"]).unwrap();
    run.wait_for_devices(8).unwrap();
    run.must(&["scale", "2"]).unwrap();
    run.wait_for_devices(2).unwrap();
    assert_eq!(retained(&broker, "kept/tidy/+/status", "kept/tidy/last/status").len(), 8);
    let ended = run.stop().unwrap();
    ended.expect_passed();
    for said in ["ended the sessions of 8 devices of fleet tidy", "removed the retained messages of 16 topics"] {
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let notes: Vec<_> = ended.report.list("notes").iter().filter_map(Value::as_str).collect();
    assert!(!notes.iter().any(|note| note.contains("stay at the broker")), "{notes:?}");
    assert_eq!(retained(&broker, "kept/tidy/#", "kept/tidy/last"), [""; 0]);
    assert!(!client::has_session(&broker, "tidy-7") && !client::has_session(&broker, "tidy-0"));
}

/// One that answers no MQTT 3.1.1 client that it drops its message, and says so in MQTT 5.
#[test]
fn a_topic_that_the_broker_does_not_let_a_device_clear_is_named() {
    for (protocol, why) in [("3.1.1", "still there"), ("5", "not_authorized")] {
        let rules = tempfile::NamedTempFile::new().unwrap();
        fs::write(&rules, "topic readwrite #\n").unwrap();
        let broker = Mosquitto::start(Settings::new().unwrap().acl_file(rules.path())).unwrap();
        let run = start(&broker, "guest", protocol, &[]);
        kill(&run);
        fs::write(&rules, "topic read #\ntopic readwrite kept/guest/+/status\ntopic readwrite kept/guest/3/#\n")
            .unwrap();
        broker.process().signal(Signal::HUP).unwrap();
        broker.process().wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("Reloading config")).unwrap();

        let (finished, cleaned) = clean(&run, &broker, &[]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert_eq!((&cleaned["sessions"], &cleaned["topics"]), (&json!(5), &json!(6)), "{cleaned}");
        let left = cleaned["left"].as_array().unwrap();
        assert_eq!((left.len(), &left[0]["what"], &left[0]["count"]), (1, &json!("retained_messages"), &json!(4)));
        assert!(left[0]["why"].as_str().unwrap().contains(why), "{cleaned}");
        let mut names: Vec<_> = left[0]["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, [0, 1, 2, 4].map(|index| format!("kept/guest/{index}/reading")));
    }
}
