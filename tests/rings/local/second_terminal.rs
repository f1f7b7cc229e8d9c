//! What can be done from a second terminal while a fleet runs, and what is said when none does.

use tests::{eventually, report::Report, run::Run, simctl::Simctl};

use super::{PATIENCE, check_schema, fleet::STEADY};

fn steady() -> Run {
    let run = Run::start(&[&STEADY[..], &["--devices", "50"]].concat()).unwrap();
    run.wait_for_devices(50).unwrap();
    run
}

#[test]
fn a_paused_fleet_offers_nothing_and_keeps_its_sessions() {
    let run = steady();
    run.wait_for_messages(50).unwrap();
    run.must(&["pause"]).unwrap();
    // The timeline holds a reading for each second: two in a row without an offer are a pause.
    let offered = |report: &tests::report::Report| report.count("messages.offered");
    let first = run.report().unwrap();
    let started = first.seconds("elapsed_seconds");
    let settled = run
        .wait_until("a reading after the pause", |report| report.seconds("elapsed_seconds") >= started + 1.5)
        .unwrap();
    let later = run
        .wait_until("two more readings", |report| {
            report.seconds("elapsed_seconds") >= settled.seconds("elapsed_seconds") + 2.0
        })
        .unwrap();
    later.claim("nothing was offered in two seconds of the pause", offered(&later) == offered(&settled));
    later.expect("phase", "paused");
    let shown = run.must(&["status"]).unwrap().stdout;
    assert!(shown.contains("(paused)"), "{shown}");
    later.expect("devices.connected", 50);
    later.expect("reconnects", 0);
    run.must(&["resume"]).unwrap();
    run.wait_for_messages(offered(&later) + 50).unwrap().expect("phase", "running");
    let ended = run.stop().unwrap();
    let (paused, running) = (ended.report.seconds("paused_seconds"), ended.report.seconds("running_seconds"));
    let elapsed = ended.report.seconds("elapsed_seconds");
    ended.report.claim("the pause is in the report", paused >= 2.0 && paused + running <= elapsed);
    ended.expect_passed();
    ended.report.expect_all_delivered();
}

#[test]
fn a_shorter_interval_takes_effect_while_it_runs() {
    let run = steady();
    let before = run.wait_for_messages(50).unwrap();
    run.must(&["set", "interval=200ms"]).unwrap();
    // 50 devices at 5 messages a second instead of 1: 1,000 messages take 4 s instead of 20 s.
    let after = run.wait_for_messages(before.count("messages.sent") + 1_000).unwrap();
    let took = after.seconds("elapsed_seconds") - before.seconds("elapsed_seconds");
    after.claim(&format!("1,000 messages took less than 10 s, not {took} s"), took < 10.0);
    let wrong = run.call(&["set", "nothing.interval=1s"]).unwrap();
    assert!(wrong.code == Some(1) && wrong.stderr.contains("reading"), "{wrong:?}");
    run.stop().unwrap().report.expect_all_delivered();
}

#[test]
fn an_interval_beyond_the_machine_is_refused_and_one_that_held_briefly_judges_no_other() {
    let run = steady();
    let before = run.wait_for_messages(50).unwrap();
    let refused = run.call(&["set", "interval=1us"]).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("found about") && refused.stderr.contains("nothing was changed"), "{refused:?}");
    // Messages of 20 ms may be 5 ms late, those of a second 100 ms.
    run.must(&["set", "interval=20ms"]).unwrap();
    run.must(&["set", "interval=1s"]).unwrap();
    run.wait_for_messages(before.count("messages.sent") + 100).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect_all_delivered();
    ended
        .report
        .claim("the shorter interval is told", ended.report.seconds("manifest.shortest_interval_seconds") < 0.1);
}

#[test]
fn the_status_has_one_content_in_every_format() {
    let run = steady();
    let json = run.report().unwrap();
    for path in ["verdict", "messages.in_flight", "latency.publish_ack.p999", "generator", "manifest.seed"] {
        assert!(json.get(path).is_ok(), "{path} is missing in {json}");
    }
    json.expect("verdict", "pending");
    let yaml = run.must(&["status", "-o", "yaml"]).unwrap().stdout;
    assert!(yaml.starts_with("verdict: pending") && yaml.contains("connected: 50"), "{yaml}");
    let table = run.must(&["status"]).unwrap().stdout;
    let wide = run.must(&["status", "-o", "wide"]).unwrap().stdout;
    assert!(table.contains("50 of 50 connected") && wide.contains("50 of 50 connected"), "{table}\n{wide}");
    assert!(wide.contains("seed") && !table.contains("seed"), "{table}\n{wide}");
    run.stop().unwrap().expect_passed();
}

#[test]
fn a_device_shows_its_session_and_its_ledger() {
    let run = steady();
    run.wait_for_messages(100).unwrap();
    let device = run.must(&["device", "42", "-o", "json"]).unwrap().json().unwrap();
    assert_eq!((&device["index"], &device["state"]), (&42.into(), &"up".into()), "{device}");
    assert!(device["client_id"].as_str().unwrap().ends_with("-42"), "{device}");
    check_schema("device", &device);
    assert!(device["streams"][0]["sent"].as_u64().unwrap() > 0, "{device}");
    assert!(run.must(&["device", "42"]).unwrap().stdout.contains("device 42"));
    let id = device["client_id"].as_str().unwrap();
    assert!(run.must(&["device", id]).unwrap().stdout.contains("device 42"));
    for (device, expected) in [("50", "no device 50: the fleet"), ("nobody", "no device with the client id `nobody`")] {
        let unknown = run.call(&["device", device]).unwrap();
        assert!(unknown.code == Some(1) && unknown.stderr.contains(expected), "{unknown:?}");
        assert!(unknown.stderr.contains("has the devices 0 to 49"), "{unknown:?}");
    }
    run.stop().unwrap().expect_passed();
}

#[test]
fn a_verb_that_only_clusters_know_points_to_those_of_the_run() {
    let run = steady();
    for verb in [&["top"][..], &["get"], &["describe"]] {
        let finished = run.call(verb).unwrap();
        assert!(finished.code == Some(1) && finished.stdout.is_empty(), "{verb:?}: {finished:?}");
        for wanted in ["kubeconfig", "simctl status"] {
            assert!(finished.stderr.contains(wanted), "{verb:?}: {finished:?}");
        }
    }
    run.stop().unwrap().expect_passed();
}

#[test]
fn with_none_running_each_verb_says_so_and_what_to_do() {
    let simctl = Simctl::new().unwrap();
    let verbs = [&["scale", "5"][..], &["pause"], &["resume"], &["set", "interval=1s"], &["status"], &["device", "1"]];
    for verb in verbs.into_iter().chain([&["stop"][..]]) {
        let finished = simctl.call(verb, PATIENCE).unwrap();
        assert_eq!(finished.code, Some(1), "{verb:?}: {finished:?}");
        assert!(finished.stderr.contains("simctl run") && finished.stdout.is_empty(), "{verb:?}: {finished:?}");
    }
}

#[test]
fn of_two_runs_the_meant_one_is_named() {
    let run = steady();
    let mut other = run.beside("other", &[&STEADY[..], &["--devices", "7"]].concat()).unwrap();
    let pids = [run.process().pid(), other.pid()].map(|pid| pid.to_string());
    let report = |pid: &str| run.call(&["status", "--run", pid, "-o", "json"]).unwrap();
    eventually("the other run has its devices", PATIENCE, || {
        other.ensure_running()?;
        let status = report(&pids[1]);
        Ok((status.code == Some(0) && Report::of(&status)?.count("devices.connected") == 7).then_some(()))
    })
    .unwrap();

    // Nobody guesses which one is meant, not even for a look.
    for verb in [&["status"][..], &["scale", "3"], &["stop"]] {
        let finished = run.call(verb).unwrap();
        assert!(finished.code == Some(1) && finished.stderr.contains("several fleets"), "{finished:?}");
        assert!(pids.iter().all(|pid| finished.stderr.contains(pid)), "{finished:?}");
    }
    let nobody = run.call(&["status", "--run", "nobody"]).unwrap();
    assert!(nobody.code == Some(1) && nobody.stderr.contains("nobody"), "{nobody:?}");
    assert!(pids.iter().all(|pid| nobody.stderr.contains(pid)), "{nobody:?}");

    // What is done to one leaves the other alone.
    run.must(&["scale", "9", "--run", &pids[1]]).unwrap();
    Report::of(&report(&pids[1])).unwrap().expect("devices.desired", 9);
    Report::of(&report(&pids[0])).unwrap().expect("devices.desired", 50);
    run.must(&["stop", "--run", &pids[1]]).unwrap();
    assert_eq!(other.wait(PATIENCE).unwrap().code(), Some(0));
    // Now there is only one, and it needs no name.
    run.report().unwrap().expect("devices.connected", 50);
    run.stop().unwrap().expect_passed();
}
