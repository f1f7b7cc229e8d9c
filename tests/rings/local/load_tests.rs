//! Load tests on one machine: from the document to the exit code of a pipeline.

use std::fs;

use tests::{
    example,
    report::Report,
    run::{Ended, Run},
    simctl::Simctl,
};

use super::PATIENCE;

/// What of the example says what must come of it; nothing follows.
const THRESHOLDS: &str = "  thresholds:\n";

/// The example of the product with fewer devices, and seconds instead of minutes.
fn rush_hour() -> String {
    let changes = [
        ("devices: 500", "devices: 20\n  lossAfter: 2s"),
        ("rate: 100/s, backoff: {base: 500ms, cap: 10s}", "rate: 500/s, backoff: {base: 200ms, cap: 1s}"),
        ("ramp, duration: 30s", "ramp, duration: 2s"),
        ("to: 500", "to: 100"),
        ("steady, duration: 1m", "steady, duration: 4s"),
        ("peak, duration: 20s", "peak, duration: 3s"),
        ("outage, duration: 10s", "outage, duration: 2s"),
        ("dark, duration: 15s", "dark, duration: 3s"),
        ("lasts: 10s", "lasts: 2s"),
        ("recovery, duration: 30s", "recovery, duration: 3s"),
        // A busy machine holds messages up.
        ("p99 < 250ms", "p99 < 2s"),
        // So few taxis may not brake hard once in three seconds.
        (
            "p99 < 1s\", phase: peak, stream: event, abortOnFail: {after: 10s}",
            "p99 < 30s\", phase: peak, stream: state, abortOnFail: {after: 2s}",
        ),
    ];
    example("rush-hour.yaml", &changes).unwrap()
}

/// The same with these thresholds instead of its own.
fn with_thresholds(thresholds: &str) -> String {
    let text = rush_hour();
    let (test, _) = text.split_once(THRESHOLDS).unwrap();
    format!("{test}  thresholds: [{thresholds}]\n")
}

fn place(text: &str) -> Simctl {
    let simctl = Simctl::new().unwrap();
    fs::write(simctl.dir().join("rush-hour.yaml"), text).unwrap();
    simctl
}

fn run(text: &str, more: &[&str]) -> (Ended, String) {
    let simctl = place(text);
    let out = tempfile::tempdir().unwrap();
    let report = out.path().join("out");
    let args = ["-f", "rush-hour.yaml", "--report", report.to_str().unwrap()];
    let ended = Run::start_at(simctl, &[&args[..], more].concat()).unwrap().end(PATIENCE).unwrap();
    let junit = fs::read_to_string(report.join("junit.xml")).unwrap();
    assert!(fs::read_to_string(report.join("report.md")).unwrap().contains("rush-hour"));
    // What was run can be shown again, and run again.
    let again = Simctl::new().unwrap();
    let shown = |args: &[&str]| again.call(&[&["report", report.to_str().unwrap()], args].concat(), PATIENCE).unwrap();
    for (format, file) in
        [("junit", "junit.xml"), ("markdown", "report.md"), ("json", "report.json"), ("csv", "timeline.csv")]
    {
        let written = fs::read_to_string(report.join(file)).unwrap();
        assert_eq!(shown(&["-o", format]).stdout.trim_end(), written.trim_end(), "{format}");
    }
    assert_eq!((shown(&[]).code, shown(&["--exit-code"]).code), (Some(0), ended.code));
    fs::copy(report.join("fleet.yaml"), again.dir().join("again.yaml")).unwrap();
    let checked = again.call(&["validate", "-f", "again.yaml"], PATIENCE).unwrap();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked.stderr.contains("load test rush-hour of fleet robotaxis, 6 phases in 17.0 s, is right"),
        "{checked:?}"
    );
    (ended, junit)
}

fn outcomes(report: &Report) -> Vec<String> {
    let one = |it: &serde_json::Value| {
        format!("{}: {}", it["phase"].as_str().unwrap_or("-"), it["outcome"].as_str().unwrap_or_default())
    };
    report.list("thresholds").iter().map(one).collect()
}

#[test]
fn a_load_test_passes_by_its_thresholds() {
    let more = "    - {expect: 'sent.rate > 200/s', phase: peak, stream: state, abortOnFail: {after: 2s}}
    - {expect: 'recovery.p95 < 30s', fault: disconnect}
    - {expect: 'delivered > 0', phase: each}
";
    let text = format!("{}{more}", rush_hour());
    let (ended, junit) = run(&text, &["--threshold", "schedule_lag.max < 60s"]);
    let report = &ended.report;
    assert_eq!(
        outcomes(report),
        [
            "steady: passed",
            "peak: passed",
            "-: passed",
            "-: passed",
            "peak: passed",
            "-: passed",
            "steady: passed",
            "peak: passed",
            "recovery: passed",
            "-: passed"
        ],
        "{report}"
    );
    assert!(junit.contains("tests=\"11\" failures=\"0\"") && junit.contains("classname=\"rush-hour\""), "{junit}");
    report.expect("manifest.load_test", "rush-hour");
    report.expect("devices.desired", 100);
    let phases = report.list("phases");
    let recovered = phases[3]["latency"]["recovery"]["count"].as_u64().unwrap();
    report.claim("about a third lost their connections, and came back", (15..=45).contains(&recovered));
    let [disconnect, tunnel] = report.list("faults") else { panic!("two faults in {report}") };
    report.claim("by the fault, and it says so", disconnect["sessions_back"].as_u64() == Some(recovered));
    report.claim("the latency was within its threshold again", !disconnect["latency_back_seconds"].is_null());
    let (devices, effects) = (tunnel["devices"].as_u64().unwrap(), tunnel["effects"].as_u64().unwrap());
    report.claim("about a third were in the tunnel, with messages", (15..=45).contains(&devices) && effects > devices);
    report.claim("nothing is said of their sessions", tunnel["sessions_lost"] == 0);
    report.expect("messages.withheld", 0);
    report.expect_all_delivered();
    let rate = |number: usize, seconds: f64| phases[number]["offered"].as_u64().unwrap() as f64 / seconds;
    // A phase ends with its last microsecond, the last one, too.
    report.claim("the last phase is as fast as the second", (0.7..=1.3).contains(&(rate(5, 3.0) / rate(1, 4.0))));
    let times = rate(2, 3.0) / rate(1, 4.0);
    report.claim(&format!("the peak is {times} times the usual rate"), (3.5..=5.5).contains(&times));
    ended.expect_passed();
}

#[test]
fn a_threshold_that_is_not_met_fails_the_pipeline() {
    let thresholds = "{expect: 'end_to_end.p50 < 1us', phase: steady}, lost == 0, 'publish_ack.p50 < 10s'";
    let (ended, junit) = run(&with_thresholds(thresholds), &[]);
    assert_eq!(outcomes(&ended.report), ["steady: failed", "-: passed", "-: passed"]);
    ended.report.claim("it is a reason", ended.report.has_reason("threshold"));
    assert!(junit.contains("tests=\"4\" failures=\"1\""), "{junit}");
    assert!(
        junit
            .contains("<failure type=\"threshold\" message=\"expected end_to_end.p50 &lt; 1us in phase steady, found ")
    );
    assert!(ended.code == Some(99) || ended.report.has_reason("schedule_lag"), "{:?}", ended.code);
}

#[test]
fn a_threshold_ends_a_test_that_proves_nothing_more() {
    let threshold = "{expect: 'sent.rate > 1000000/s', phase: steady, abortOnFail: {after: 1s}}";
    let (ended, _) = run(&with_thresholds(threshold), &[]);
    let report = &ended.report;
    let elapsed = report.seconds("elapsed_seconds");
    report.claim(&format!("it ended after {elapsed} s"), (3.0..8.0).contains(&elapsed));
    let said = report
        .list("reasons")
        .iter()
        .any(|reason| reason["message"].as_str().is_some_and(|message| message.ends_with("which ended the run")));
    report.claim("it says why", said);
    assert!(ended.code == Some(99) || ended.report.has_reason("schedule_lag"), "{:?}", ended.code);
}

#[test]
fn a_time_that_is_too_long_ends_a_test_before_its_phase_is_over() {
    let threshold = "{expect: 'end_to_end.p99 < 1us', phase: steady, stream: state, abortOnFail: {after: 1s}}";
    let (ended, junit) = run(&with_thresholds(threshold), &[]);
    let report = &ended.report;
    let elapsed = report.seconds("elapsed_seconds");
    report.claim(&format!("it ended after {elapsed} s"), (3.0..8.0).contains(&elapsed));
    assert_eq!(outcomes(report), ["steady: failed"]);
    // Nobody answers within a microsecond, so that the first look after that second ends it.
    let expected = "expected end_to_end.p99 < 1us in phase steady, stream state, found ";
    let is_said = |reason: &serde_json::Value| {
        let message = reason["message"].as_str().unwrap_or_default();
        reason["name"] == "threshold" && message.starts_with(expected) && message.ends_with("which ended the run")
    };
    report.claim("it says why", report.list("reasons").iter().any(is_said));
    report.claim("the peak never came", report.list("phases").iter().skip(2).all(|phase| phase["offered"] == 0));
    assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
    assert!(ended.code == Some(99) || report.has_reason("schedule_lag"), "{:?}", ended.code);
}

#[test]
fn phases_are_skipped_and_a_test_is_aborted_from_another_terminal() {
    let phases =
        ["--phase", "ramp:0..100/10m", "--phase", "steady:10m", "--phase", "last:10m", "--threshold", "lost == 0"];
    let run = Run::start(&phases).unwrap();
    run.wait_until("it runs", |report| report.seconds("elapsed_seconds") > 1.0).unwrap();
    run.must(&["skip"]).unwrap();
    // As if the ramp had gone to its end.
    run.wait_for_devices(100).unwrap();
    run.must(&["skip"]).unwrap();
    let is_measured = |report: &Report| report.list("phases")[2]["offered"].as_u64() > Some(20);
    run.wait_until("the last phase is measured", is_measured).unwrap();
    run.must(&["skip"]).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    let report = &ended.report;
    let seconds: f64 = report.list("phases").iter().filter_map(|phase| phase["lasted_seconds"].as_f64()).sum();
    let running = report.seconds("running_seconds");
    report.claim(&format!("the phases took {seconds} s of {running} s"), (running - seconds).abs() < 1.0);
    report.expect("devices.connected", 100);
    ended.expect_passed();

    let run = Run::start_at(place(&rush_hour()), &["-f", "rush-hour.yaml"]).unwrap();
    run.wait_for_messages(20).unwrap();
    run.must(&["abort"]).unwrap();
    run.end(PATIENCE).unwrap().expect_verdict("aborted", 105);

    let run = Run::start(&["--devices", "1"]).unwrap();
    let refused = run.call(&["skip"]).unwrap();
    assert!(
        refused.code == Some(1) && refused.stderr.contains("expected a run with a phase that goes on"),
        "{refused:?}"
    );
    run.stop().unwrap();
}

#[test]
fn what_contradicts_a_load_test_is_refused() {
    let simctl = place(&rush_hour());
    for (args, expected) in [
        (&["--phase", "a:1s"][..], "found --phase as well; --fleet robotaxis runs its fleet without it"),
        (&["--duration", "1s"], "found --duration as well"),
        (&["--devices", "5"], "expected the load test to say how many devices there are, found --devices as well"),
        (&["--load-test", "other"], "found `other` in --load-test; there are rush-hour"),
        (&["--threshold", "lots == 0"], "did you mean `lost`?"),
    ] {
        let refused = simctl.call(&[&["run", "-f", "rush-hour.yaml"], args].concat(), PATIENCE).unwrap();
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    let alone = ["run", "-f", "rush-hour.yaml", "--fleet", "robotaxis", "--duration", "1s", "-o", "json"];
    let ended = simctl.call(&alone, PATIENCE).unwrap();
    let report = Report::of(&ended).unwrap();
    report.expect("devices.desired", 20);
    assert!(report.list("phases").is_empty());
}
