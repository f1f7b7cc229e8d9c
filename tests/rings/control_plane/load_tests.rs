//! Load tests on a real API server, with real workers and a real broker: who may write one, what waits for it, who goes on with
//! it, and what it leaves.

use std::time::Duration;

use fleet_contract::plan::Plan;
use serde_json::Value;
use tests::{example, kubernetes::Client, report::Report};

use super::{
    PATIENCE,
    clock::Clock,
    kubelet::Kubelet,
    simctl::Hand,
    site::{Site, fleet},
    workers::{Broker, connects},
};

/// The fleet of the example and its load test, in seconds: `f`, of six devices that send five messages a second each, with these
/// lines for its broker and its pods; the test has that name.
fn example_of(name: &str, lines: &str) -> (String, String) {
    let devices = format!("devices: 6\n  devicesPerPod: 10\n  lossAfter: 2s\n  intervals: {{'*': 200ms}}\n{lines}");
    let named = format!("metadata: {{name: {name}}}");
    let changes = [
        ("metadata: {name: robotaxis}", "metadata: {name: f}"),
        ("devices: 500", devices.as_str()),
        ("rate: 100/s,", "rate: 1000/s,"),
        ("metadata: {name: rush-hour}", named.as_str()),
        ("fleet: robotaxis", "fleet: f"),
        ("ramp, duration: 30s", "ramp, duration: 2s"),
        ("to: 500", "to: 20"),
        ("steady, duration: 1m", "steady, duration: 25s"),
        ("peak, duration: 20s", "peak, duration: 3s"),
        ("outage, duration: 10s", "outage, duration: 3s"),
        ("dark, duration: 15s", "dark, duration: 3s"),
        ("lasts: 10s", "lasts: 2s"),
        ("recovery, duration: 30s", "recovery, duration: 5s"),
        ("p99 < 250ms", "p99 < 5s"),
        // One that is not met, and lets the test go on; fleets of another model are tested by it, too.
        ("p99 < 1s\", phase: peak, stream: event, abortOnFail: {after: 10s}", "p99 < 1us\", phase: peak"),
    ];
    let text = example("rush-hour.yaml", &changes).unwrap();
    let (fleet, test) = text.split_once("---\n").unwrap();
    (fleet.to_owned(), test.to_owned())
}

/// A load test of the fleet `f`: that of the example, in seconds; `more` are further lines of its specification.
fn rush_hour(name: &str, more: &str) -> String {
    format!("{}{more}", example_of(name, "").1)
}

/// The fleet of that test, at a broker of ours and in pods that go to fake nodes.
fn taxis(broker: &Broker) -> String {
    let usual = broker.fleet("f", 6, 10);
    let is_wanted = |line: &&str| line.starts_with("  broker:") || line.starts_with("  pod:");
    let lines: Vec<&str> = usual.lines().filter(is_wanted).collect();
    assert_eq!(lines.len(), 2, "{usual}");
    example_of("rush", &lines.join("\n")).0
}

/// Awaits how far a test has come; the message of its condition.
fn state(site: &Site, name: &str, wanted: &[&str]) -> (String, String) {
    let find = |field: &str| format!("{{.status.conditions[?(@.type==\"Complete\")].{field}}}");
    let field = format!("{}: {}", find("reason"), find("message"));
    let is_wanted = |seen: &str| seen.split_once(": ").is_some_and(|(found, _)| wanted.contains(&found));
    let found = site.namespace.wait_for(&format!("loadtest/{name}"), &field, PATIENCE, is_wanted).unwrap();
    let (reason, message) = found.split_once(": ").unwrap();
    (reason.to_owned(), message.to_owned())
}

fn phase(site: &Site, name: &str, wanted: &str) {
    let phase = "{.status.phase}";
    site.namespace.wait_for(&format!("loadtest/{name}"), phase, PATIENCE, |seen| seen == wanted).unwrap();
}

#[test]
fn a_test_goes_on_with_another_controller_and_gives_its_fleet_back() {
    let site = Site::new("rush-hour");
    let (broker, hand) = (Broker::start(&site), Hand::of(&site));
    let first = site.controller("first");
    first.leads(PATIENCE);
    let path = hand.document("rush-hour.yaml", &format!("{}---\n{}", taxis(&broker), rush_hour("rush", "")));
    assert!(hand.does(&["apply", "-f", &path]).contains("loadtest.simctl.io/rush created"));

    // There are pods for the most devices before any of them comes.
    state(&site, "rush", &["Preparing"]);
    site.settles("f", 0, 2);
    let plan: Plan = serde_json::from_value(site.plan("f")).unwrap();
    assert_eq!(plan.devices_wanted(), 0);
    let mut workers = Kubelet::run(&site, "f");
    phase(&site, "rush", "steady");
    let second = site.controller("second");

    // A second one waits for it, and so does a scale.
    // Of devices that one pod runs: to that the fleet shrinks meanwhile, and no other worker is there.
    let later = rush_hour("later", "  suspend: true\n").replace("to: 20", "to: 10");
    site.namespace.apply(&later).unwrap();
    // Nobody waits for one that is held back.
    assert_eq!(state(&site, "later", &["Suspended"]).1, "spec.suspend holds it back");
    site.namespace.apply(&rush_hour("third", "")).unwrap();
    let (_, message) = state(&site, "third", &["Waiting"]);
    assert_eq!(message, "load test rush of this fleet comes first");
    hand.does(&["delete", "loadtest/third"]);
    for change in [&["scale", "fleet/f", "9"][..], &["set", "f", "interval=100ms"]] {
        let changed = hand.call(change);
        assert!(changed.code == Some(0) && changed.stderr.contains("a load test of the fleet goes on"), "{changed:?}");
    }

    drop(first);
    second.leads(PATIENCE);
    let waited = hand.call(&["wait", "loadtest/rush", "--timeout", "2m"]);
    assert!(waited.code == Some(0) && waited.stdout.contains("loadtest.simctl.io/rush Complete=True"), "{waited:?}");
    site.namespace.kubectl(["wait", "--for=condition=Complete", "loadtest/rush", "--timeout=1s"]).unwrap();

    let (reason, message) = state(&site, "rush", &["Failed", "Invalid"]);
    assert!(reason == "Failed" || message.contains("schedule_lag"), "{reason}: {message}");
    assert!(message.contains("expected end_to_end.p99 < 1us in phase peak"), "{message}");
    let shown = hand.call(&["report", "loadtest/rush", "-o", "json", "--exit-code"]);
    assert_eq!(shown.code, Some(if reason == "Failed" { 99 } else { 96 }), "{}", shown.stderr);
    let report = Report::of(&shown).unwrap();
    report.expect_conservation();
    report.expect("messages.lost", 0);
    let sent = report.count("messages.sent");
    let of = |list: &str| report.list(list).iter().map(|part| part["sent"].as_u64().unwrap()).collect::<Vec<_>>();
    println!("FIGURE a test over two controllers: {sent} sent, by phase {:?}", of("phases"));
    report.claim("each message is in one phase", of("phases").iter().sum::<u64>() == sent);
    report.claim("the timeline has all of them", of("timeline.points").iter().sum::<u64>() == sent);
    let outcomes: Vec<_> = report.list("thresholds").iter().map(|it| it["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["passed", "failed", "passed", "passed"]);
    // 20 devices for 25 s, five messages a second each; five times as many, and for three seconds. Now and then one of another
    // stream comes beside.
    let [_, steady, peak, ..] = of("phases")[..] else { panic!("six phases") };
    report.claim("the timetable was kept", (2_400..2_600).contains(&steady) && (1_400..1_600).contains(&peak));
    report.claim("connections were cut", report.count("reconnects") > 0);
    let junit = hand.does(&["report", "loadtest/rush", "-o", "junit"]);
    assert!(junit.contains("tests=\"5\"") && junit.contains("failures=\""), "{junit}");
    let table = hand.does(&["get", "loadtests"]);
    assert!(table.contains("STATE") && table.lines().any(|line| line.starts_with("rush ")), "{table}");
    let told = hand.does(&["describe", "loadtest/rush"]);
    assert!(told.contains("3 met, 1 not met, 0 to be judged") && told.contains("recovery"), "{told}");

    // Its fleet has the devices that somebody has asked for meanwhile.
    connects(&site, "f", 9);
    assert_eq!(state(&site, "later", &["Suspended"]).1, "spec.suspend holds it back");
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());

    // The next one can be told to begin, to skip and to end.
    hand.does(&["resume", "loadtest/later"]);
    phase(&site, "later", "ramp");
    hand.does(&["skip", "loadtest/later"]);
    phase(&site, "later", "steady");
    hand.does(&["abort", "loadtest/later"]);
    state(&site, "later", &["Aborted"]);
    assert_eq!(hand.call(&["report", "loadtest/later", "--exit-code"]).code, Some(105));
    connects(&site, "f", 9);
    let late = hand.call(&["abort", "loadtest/later"]);
    assert!(late.code == Some(1) && late.stderr.contains("load test later is over: Aborted"), "{late:?}");
    let again = hand.call(&["apply", "-f", &path]);
    assert!(
        again.stderr.contains("load test rush is over") && again.stderr.contains("does not run again"),
        "{again:?}"
    );

    // What is kept of a test goes with it.
    hand.does(&["delete", "loadtest/rush"]);
    let kept = ["configmaps", "-l", "simctl.io/load-test=rush"];
    let is_gone = || Ok(site.namespace.get(kept)?["items"].as_array().is_some_and(Vec::is_empty).then_some(()));
    tests::eventually("its ConfigMaps are gone", PATIENCE, is_gone).unwrap();
}

#[test]
fn a_worker_whose_clock_is_off_and_drifts_makes_a_test_invalid_and_is_named() {
    // More than a tenth of the shorter phase, and 50 ms a second more: in the seconds of the test far more than a way takes.
    const AHEAD: Duration = Duration::from_millis(400);
    const GAINS: u32 = 50_000;
    // A worker that is held up while it sets its clock has one that is behind, in seconds.
    const HELD_UP: f64 = 0.05;
    const TEST: &str = "
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {name: clocks}
spec:
  fleet: f
  phases:
    - {name: calm, duration: 2s}
    - {name: steady, duration: 10s, measure: true}
  thresholds: [lost == 0]
";
    let site = Site::new("clocks");
    let (broker, hand) = (Broker::start(&site), Hand::of(&site));
    let _controller = site.controller("only");
    let lab = broker.fleet("f", 20, 10).replace("  connect:", "  lossAfter: 2s\n  intervals: {'*': 200ms}\n  connect:");
    site.namespace.apply(&lab).unwrap();
    site.settles("f", 20, 2);
    let clock = Clock::new(AHEAD, GAINS);
    let mut workers = Kubelet::run_with_clock(&site, "f", "f-1", clock);
    connects(&site, "f", 20);
    let before = clock.ahead();
    site.namespace.apply(TEST).unwrap();
    let (_, message) = state(&site, "clocks", &["Invalid"]);
    let shown = hand.call(&["report", "loadtest/clocks", "-o", "json", "--exit-code"]);
    assert_eq!(shown.code, Some(96), "{message}: {}", shown.stderr);
    let report = Report::of(&shown).unwrap();
    let reasons = report.list("reasons");
    let why = reasons.iter().find(|reason| reason["name"] == "clocks_apart").and_then(|it| it["message"].as_str());
    report.claim("it names the worker", why.is_some_and(|why| why.contains("found that of f-1 ")));
    let clocks = report.list("manifest.clocks");
    let seconds = |clock: &Value, key: &str| clock[key].as_f64().unwrap();
    report.claim("both workers have a clock", clocks.len() == 2 && clocks[0]["worker"] == "f-1");
    let (ahead, bound) = (seconds(&clocks[0], "ahead_seconds"), seconds(&clocks[0], "bound_seconds"));
    println!(
        "FIGURE a clock that was ahead by {before:?}, and is by {:?}: found {ahead} s +- {bound} s",
        clock.ahead()
    );
    // The test has more readings than the controller keeps of a clock, so that it knows none from before by then.
    let range = before.as_secs_f64() + bound..=clock.ahead().as_secs_f64() + bound + HELD_UP;
    report.claim(&format!("{ahead} s is in {range:?}"), range.contains(&ahead));
    let (ahead, bound) = (seconds(&clocks[1], "ahead_seconds"), seconds(&clocks[1], "bound_seconds"));
    report.claim("the other one has the controller's", ahead.abs() <= bound + HELD_UP);
    // Each time is between two instants of one clock, so that no figure of the messages is wrong for it.
    report.expect_conservation();
    report.expect("messages.lost", 0);
    workers.workers().iter().for_each(|worker| worker.ensure_running().unwrap());
}

/// What somebody is told who writes a document; `None` where it is taken.
fn refusal(written: anyhow::Result<String>) -> Option<String> {
    written.err().map(|error| error.to_string())
}

/// The rule of whoever writes load tests, and the right that is awaited of them.
const WRITES_TESTS: [&str; 2] = ["--verb=create,get,update,patch", "--resource=loadtests.simctl.io"];
const MAY_TEST: [&str; 2] = ["create", "loadtests.simctl.io"];

/// The example in the namespace of a site, for somebody who has no other one.
fn placed(site: &Site, name: &str) -> String {
    let namespace = site.namespace.name();
    rush_hour(name, "").replace("metadata: {name:", &format!("metadata: {{namespace: {namespace}, name:"))
}

#[test]
fn whoever_may_not_update_a_fleet_may_not_test_it() {
    let site = Site::new("testers");
    site.fleet("f", 2, 2, "");
    let namespace = site.namespace.name();
    let fleets = ["--verb=get", "--resource=fleets.simctl.io"];
    let tester = site.person_with("tester", &[&fleets, &WRITES_TESTS], MAY_TEST);
    // The API server goes by a new policy some moments after it has stored it.
    let mut attempts = 0;
    let is_refused = || {
        attempts += 1;
        Ok(refusal(tester.apply(&placed(&site, &format!("attempt-{attempts}")))))
    };
    let told = tests::eventually("the policy holds", PATIENCE, is_refused).unwrap();
    assert!(told.contains("cannot update Fleet \"f\"") && told.contains("tester-of-"), "{told}");

    site.namespace.apply(&rush_hour("mine", "")).unwrap();
    let suspends = ["patch", "loadtest/mine", "--type=merge", "-p", r#"{"spec": {"suspend": true}}"#];
    let told = tester.kubectl([&["-n", namespace][..], &suspends].concat()).unwrap_err().to_string();
    assert!(told.contains("cannot update Fleet"), "who may not test may not hold a test back: {told}");
    tester.kubectl(["-n", namespace, "label", "loadtest/mine", "team=maps"]).unwrap();
}

#[test]
fn faults_beside_the_devices_take_the_rights_to_do_that_by_hand() {
    let site = Site::new("acts");
    site.fleet("f", 2, 2, "");
    let fleets = ["--verb=get,update", "--resource=fleets.simctl.io"];
    let deletes = ["--verb=delete", "--resource=pods"];
    let creates = ["--verb=create", "--resource=jobs.batch"];
    let tester = site.person_with("only-tester", &[&fleets, &WRITES_TESTS], MAY_TEST);
    let killer = site.person_with("killer", &[&fleets, &WRITES_TESTS, &deletes], MAY_TEST);
    let author = site.person_with("author", &[&fleets, &WRITES_TESTS, &creates], MAY_TEST);
    let of = |name: &str, fault: &str| {
        let text = placed(&site, name);
        assert!(text.contains("{kind: disconnect, share: 30%}"), "{text}");
        text.replace("{kind: disconnect, share: 30%}", fault)
    };
    let kill = "{kind: kill-pods, share: 50%}";
    let hook = "{kind: hook, image: 'localhost/tools:1', command: [/restart]}";
    let mut attempts = 0;
    let mut tries = |person: &Client, fault: &str| {
        attempts += 1;
        refusal(person.apply(&of(&format!("t{attempts}"), fault)))
    };
    // The API server goes by a new policy some moments after it has stored it.
    let refused = tests::eventually("the policy holds", PATIENCE, || Ok(tries(&tester, hook))).unwrap();
    assert!(refused.contains("only-tester-of-") && refused.contains("cannot create jobs"), "{refused}");
    for (person, fault, says) in [
        (&tester, kill, Some("cannot delete pods")),
        (&killer, kill, None),
        (&killer, hook, Some("cannot create jobs")),
        (&author, hook, None),
        (&author, kill, Some("cannot delete pods")),
        (&tester, "{kind: disconnect}", None),
    ] {
        match (tries(person, fault), says) {
            (told, None) => assert_eq!(told, None, "{fault}"),
            (Some(told), Some(says)) => assert!(told.contains(says), "{told}"),
            (None, Some(says)) => panic!("{fault} is taken, where the author {says}"),
        }
    }
    // Nor may one make a hook of a test that another has written.
    site.namespace.apply(&of("calm", "{kind: disconnect}")).unwrap();
    let told = refusal(tester.apply(&of("calm", hook))).unwrap();
    assert!(told.contains("cannot create jobs"), "{told}");
}

#[test]
fn a_test_that_was_started_stays_as_it_is() {
    let site = Site::new("started");
    site.fleet("f", 2, 2, "");
    site.namespace.apply(&rush_hour("t", "")).unwrap();
    site.namespace.apply(&rush_hour("t", "").replace("p99 < 5s", "p99 < 6s")).unwrap();
    let start = "simctl.io/started=2026-01-01T00:00:00Z";
    site.namespace.kubectl(["annotate", "loadtest/t", start]).unwrap();
    let patch = |patch: &str| site.namespace.kubectl(["patch", "loadtest/t", "--type=merge", "-p", patch]);
    for change in [
        r#"{"spec": {"fleet": "g"}}"#,
        r#"{"spec": {"phases": [{"name": "a", "duration": "1s"}]}}"#,
        r#"{"spec": {"thresholds": []}}"#,
        r#"{"spec": {"concurrencyPolicy": "Allow"}}"#,
        r#"{"spec": {"skip": "nowhere"}}"#,
        r#"{"metadata": {"annotations": {"simctl.io/started": null}}}"#,
        r#"{"metadata": {"annotations": {"simctl.io/started": "2026-02-02T00:00:00Z"}}}"#,
    ] {
        let told = refusal(patch(change)).unwrap_or_else(|| panic!("{change} is taken"));
        assert!(told.contains("stays") || told.contains("there is no phase \"nowhere\""), "{change}: {told}");
    }
    for change in [r#"{"spec": {"suspend": true}}"#, r#"{"spec": {"skip": "ramp"}}"#, r#"{"spec": {"abort": true}}"#] {
        patch(change).unwrap();
    }
    // A controller that comes to it finds nothing kept, and begins nothing.
    let _controller = site.controller("only");
    let (_, message) = state(&site, "t", &["Aborted"]);
    assert!(message.contains("does not run twice"), "{message}");
    site.settles("f", 2, 1);
}

#[test]
fn what_is_wrong_with_a_test_is_told_by_whoever_sees_it_first() {
    let site = Site::new("wrong-tests");
    let hand = Hand::of(&site);
    let lab = fleet("f", 2, 2, "");
    let of = |from: &str, to: &str| {
        let text = rush_hour("t", "");
        assert!(text.contains(from));
        hand.document("test.yaml", &format!("{lab}---\n{}", text.replace(from, to)))
    };
    let told = |path: &str| {
        let finished = hand.call(&["apply", "-f", path]);
        assert_eq!(finished.code, Some(104), "{finished:?}");
        finished.stderr
    };
    let at = |told: String, expected: &str| assert!(told.contains(expected), "{expected} is not in {told}");
    at(
        told(&of("phase: steady", "phase: stedy")),
        "spec.thresholds[0].phase: there is no phase `stedy`, did you mean `steady`?",
    );
    at(
        told(&of("duration: 25s", "duration: 8d")),
        "spec.phases[1].duration: expected more than no time and at most 168h",
    );
    at(told(&of("factor: 5", "factor: 5, group: some")), "spec.phases[2].rate.group: there is no group `some`");

    // kubectl sends what the schema lets through; the controller says the same.
    let _controller = site.controller("only");
    site.fleet("f", 2, 2, "");
    site.namespace.apply(&rush_hour("t", "").replace("phase: steady", "phase: stedy")).unwrap();
    let (_, message) = state(&site, "t", &["CannotStart"]);
    assert!(message.contains("there is no phase `stedy`"), "{message}");
    let passed = site.field("loadtest/t", "{.status.conditions[?(@.type==\"Passed\")].status}");
    assert_eq!(passed, "False");
    let unknown = site.namespace.apply(&rush_hour("u", "").replace("measure: true", "mesure: true")).unwrap_err();
    assert!(unknown.to_string().contains(".spec.phases[1].mesure: field not declared in schema"), "{unknown}");
    site.namespace.apply(&rush_hour("v", "").replace("fleet: f", "fleet: nowhere")).unwrap();
    let (_, message) = state(&site, "v", &["Waiting"]);
    assert!(message.starts_with("there is no fleet nowhere in namespace"), "{message}");
    let listed: Value = site.namespace.get(["loadtests"]).unwrap();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
}
