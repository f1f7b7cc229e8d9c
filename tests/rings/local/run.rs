//! `simctl run` as a newcomer types it.

use std::net::{Ipv4Addr, TcpListener};

use tests::{
    null_broker::{self, NullBroker},
    run::{Run, to_the_end},
    simctl::Simctl,
};

use super::{PATIENCE, fleet::place};

#[test]
fn a_run_without_arguments_passes() {
    let ended = to_the_end(&["--duration", "5s"], PATIENCE).unwrap();
    ended.expect_verdict("passed", 0);
    let report = &ended.report;
    report.expect_all_delivered();
    report.expect("devices.desired", 100);
    report.expect("devices.connected", 100);
    report.expect("reconnects", 0);
    report.expect("messages.duplicated", 0);
    report.expect("manifest.embedded_broker", true);
    report.claim("latencies are measured", report.seconds("latency.end_to_end.p50") > 0.0);
    report.claim("each session's connect is timed", report.count("latency.connect.count") == 100);
    report.claim("QoS 1 is acknowledged", {
        report.count("messages.by_qos.1.acknowledged") == report.count("messages.by_qos.1.sent")
    });
}

#[test]
fn without_a_terminal_the_summary_is_plain_text() {
    let simctl = Simctl::new().unwrap();
    let ended = simctl.call(&["run", "--duration", "3s", "--devices", "20"], PATIENCE).unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in ["20 of 20 connected", "delivered", "schedule lag", "verdict"] {
        assert!(ended.stdout.contains(word), "{word:?} is not in {ended:?}");
    }
    assert!(!ended.stdout.contains('\x1b') && !ended.stderr.contains('\x1b'), "{ended:?}");
}

#[test]
fn every_quality_of_service_is_delivered() {
    for qos in ["0", "1", "2"] {
        let args = ["--model", "thermometer", "--interval", "1s", "--devices", "50", "--duration", "4s", "--qos", qos];
        let ended = to_the_end(&args, PATIENCE).unwrap();
        ended.expect_passed();
        ended.report.expect_all_delivered();
        ended.report.expect("messages.duplicated", 0);
        let sent = ended.report.count("messages.sent");
        ended.report.expect(&format!("messages.by_qos.{qos}.sent"), sent);
        ended.report.expect("messages.acknowledged", if qos == "0" { 0 } else { sent });
    }
}

#[test]
fn so_many_messages_are_sent_and_not_one_more() {
    for engine in ["native", "rumqttc"] {
        let args =
            ["--model", "thermometer", "--interval", "100ms", "--devices", "10", "--qos", "1", "--messages", "50"];
        let ended = to_the_end(&[&args[..], &["--engine", engine]].concat(), PATIENCE).unwrap();
        ended.expect_passed();
        ended.report.expect("messages.sent", 500);
        ended.report.expect("messages.acknowledged", 500);
    }
}

#[test]
fn the_largest_body_passes_the_embedded_broker() {
    let simctl = Simctl::new().unwrap();
    let document = "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {name: cameras}\nspec:\n  devices: 2\n  groups: \
                    [{name: camera, model: thermometer, streams: {reading: {interval: 500ms, qos: 1, size: 1MiB}}}]\n";
    std::fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
    let ended = Run::start_at(simctl, &["-f", "fleet.yaml", "--duration", "3s"]).unwrap().end(PATIENCE).unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
}

#[test]
fn fast_streams_pass() {
    for interval in ["20ms", "10ms", "5ms"] {
        let args = ["--model", "thermometer", "--interval", interval, "--devices", "5", "--duration", "3s"];
        let ended = to_the_end(&args, PATIENCE).unwrap();
        ended.expect_passed();
        ended.report.expect_all_delivered();
        let pause = ended.report.seconds("manifest.shortest_interval_seconds");
        let sent = ended.report.count("messages.sent") as f64;
        ended.report.claim("the rate is kept", sent > 5.0 * 2.5 / pause);
    }
}

#[test]
fn losses_of_qos_0_stand_in_the_first_lines_and_fail_on_request() {
    let simctl = place("  connect: {rate: 200/s}");
    let sink = NullBroker::start(null_broker::Settings::default(), simctl.dir()).unwrap();
    let url = sink.url();
    let args = ["run", "-f", "fleet.yaml", "--broker", &url, "--interval", "1s", "--qos", "0", "--duration", "3s"];
    let passed = simctl.call(&args, PATIENCE).unwrap();
    assert_eq!(passed.code, Some(0), "{passed:?}");
    let heading = passed.stdout.split("\nfleet ").last().unwrap().lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(heading.contains("\nlost ") && heading.contains("(100 %)"), "{passed:?}");
    let failed = simctl.call(&[&args[..], &["--fail-on", "lost"]].concat(), PATIENCE).unwrap();
    assert!(failed.code == Some(99) && failed.stdout.contains("lost: expected all"), "{failed:?}");
    let blind = simctl.call(&[&args[..], &["--fail-on", "lost", "--observe", "none"]].concat(), PATIENCE).unwrap();
    assert!(blind.code == Some(2) && blind.stderr.contains("beside --fail-on lost"), "{blind:?}");
}

#[test]
fn a_run_plays_the_date_that_it_is_given() {
    let start = "2026-06-21T12:00:00.000000Z";
    let args =
        ["--model", "thermometer", "--devices", "5", "--interval", "500ms", "--start", start, "--duration", "2s"];
    let run = Run::start(&args).unwrap();
    run.wait_for_messages(5).unwrap();
    let device = run.must(&["device", "0"]).unwrap();
    assert!(device.stdout.contains("\"timestamp\":\"2026-06-21T12:00:0"), "{device:?}");
    let ended = run.end(PATIENCE).unwrap();
    let report = &ended.report;
    report.claim("it begins at that very instant", report.text("manifest.started").starts_with("2026-06-21T12:00:00"));
    report.claim("latencies count by the same clock", report.seconds("latency.end_to_end.max") < 1.0);
    report.claim(
        "the note says when it was",
        report.list("notes").iter().any(|note| note.as_str().unwrap().contains("--start")),
    );
    report.expect_all_delivered();
    ended.expect_passed();
}

#[test]
fn two_runs_at_once_take_different_ports() {
    let [one, other] = [(); 2].map(|()| Run::start(&["--devices", "20"]).unwrap());
    let ports = [&one, &other].map(|run| run.wait_for_messages(20).unwrap().text("manifest.broker").to_owned());
    assert_ne!(ports[0], ports[1]);
    for run in [one, other] {
        let ended = run.stop().unwrap();
        ended.expect_passed();
        ended.report.expect_all_delivered();
    }
}

#[test]
fn a_taken_port_is_told_and_the_next_free_one_taken() {
    // Somebody else may hold it as well; taken is taken.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 1883));
    let ended = to_the_end(&["--devices", "10", "--duration", "2s"], PATIENCE).unwrap();
    let broker = ended.report.text("manifest.broker").to_owned();
    let port: u16 = broker.rsplit(':').next().unwrap().parse().unwrap();
    ended.report.claim("the port is one of the next", port > 1883 && port < 1983);
    let told = format!("port 1883 is taken, so the broker listens on port {port}");
    assert!(ended.stderr.contains(&told), "{}", ended.stderr);
}

#[test]
fn the_engine_to_compare_with_runs_the_same_fleet() {
    let args = ["--engine", "rumqttc", "--model", "thermometer", "--interval", "1s", "--qos", "1", "--devices", "50"];
    let ended = to_the_end(&[&args[..], &["--duration", "4s"]].concat(), PATIENCE).unwrap();
    let report = &ended.report;
    report.expect("manifest.engine", "rumqttc");
    report.expect("devices.connected", 50);
    report.expect("messages.acknowledged", report.count("messages.sent"));
    report.claim("messages were sent", report.count("messages.sent") >= 100);
}
