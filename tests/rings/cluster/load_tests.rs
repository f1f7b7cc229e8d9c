//! The example of the product on real pods, with the leader's pod and a worker's deleted by force in the middle of it.

use tests::{example, kubernetes::containers, report::Report, simctl::Finished};

use super::{
    TURNS, admin,
    fleet::{Fleet, NAME, PER_POD, name, uid},
    own_nodes, product,
};

/// Devices at its peak: two pods of them.
const MOST: u32 = 2 * PER_POD;

/// The fleet of the example, and its load test: seconds instead of minutes, `steady` for so long, devices for two pods, and five
/// messages a second from each.
fn rush_hour(steady: &str) -> (String, String) {
    let (few, most) =
        (format!("devices: 10\n  devicesPerPod: {PER_POD}\n  seed: 7\n  lossAfter: 5s"), format!("to: {MOST}"));
    let (named, meant) = (format!("metadata: {{name: {NAME}}}"), format!("fleet: {NAME}"));
    let steady = format!("steady, duration: {steady}");
    let changes = [
        ("metadata: {name: robotaxis}", named.as_str()),
        ("fleet: robotaxis", meant.as_str()),
        ("devices: 500", few.as_str()),
        ("rate: 100/s,", "rate: 500/s, keepAlive: 20s,"),
        ("model: robotaxi}", "model: robotaxi, streams: {state: {interval: 200ms, jitter: 0s, qos: 1}}}"),
        ("ramp, duration: 30s", "ramp, duration: 5s"),
        ("to: 500", most.as_str()),
        ("steady, duration: 1m", steady.as_str()),
        ("peak, duration: 20s", "peak, duration: 5s"),
        ("outage, duration: 10s", "outage, duration: 5s"),
        ("dark, duration: 15s", "dark, duration: 5s"),
        ("lasts: 10s", "lasts: 4s"),
        ("recovery, duration: 30s", "recovery, duration: 10s"),
        // A busy machine holds messages up.
        ("p99 < 250ms", "p99 < 30s"),
        // So few taxis may not brake hard once in five seconds.
        (
            "p99 < 1s\", phase: peak, stream: event, abortOnFail: {after: 10s}",
            "p99 < 30s\", phase: peak, stream: state, abortOnFail: {after: 2s}",
        ),
    ];
    let text = example("rush-hour.yaml", &changes).unwrap();
    let (fleet, test) = text.split_once("---\n").unwrap();
    (fleet.to_owned(), test.to_owned())
}

/// What of a report the same test has wherever it runs.
fn outcomes(report: &Report) -> Vec<String> {
    let phases = report.list("phases").iter().map(|phase| phase["name"].to_string());
    let thresholds = report.list("thresholds").iter().map(|it| format!("{}: {}", it["expect"], it["outcome"]));
    let faults = report.list("faults").iter().map(|it| format!("{} hits {}", it["name"], it["devices"]));
    phases.chain(thresholds).chain(faults).collect()
}

#[test]
fn the_example_goes_on_when_the_pods_of_the_leader_and_of_a_worker_are_deleted() {
    let _turn = TURNS.alone();
    let Some(_) = own_nodes("the end of a process in a container") else { return };
    let (taxis, test) = rush_hour("50s");
    let fleet = Fleet::apply("load-test", &taxis);
    let clients = fleet.clients();
    fleet.namespace.apply(&test).unwrap();
    let phase = |wanted: &str| {
        let path = "{.status.phase}";
        fleet.namespace.wait_for("loadtest/rush-hour", path, super::PATIENCE, |seen| seen == wanted).unwrap();
    };
    phase("steady");
    let leader = product::leader();
    admin().kubectl(["delete", "pod", "-n", product::NAMESPACE, name(&leader), "--grace-period=0", "--force"]).unwrap();
    let worker = fleet.pods().swap_remove(1);
    // Kubelet would let it say goodbye while another one runs its devices.
    containers::freeze(uid(&worker), "device-sim").unwrap();
    fleet.namespace.kubectl(["delete", "pod", name(&worker), "--grace-period=0", "--force", "--wait=false"]).unwrap();
    // It may be gone already.
    let _ = containers::kill(uid(&worker), "device-sim");
    let is_another = |fleet: &Fleet| fleet.pods().get(1).is_some_and(|pod| uid(pod) != uid(&worker));
    fleet.until("there is another pod", is_another);
    let over = fleet.simctl(&["wait", "loadtest/rush-hour", "--timeout", "3m"]);
    assert!(over.stdout.contains("Complete=True"), "{}", over.stdout);

    let shown = fleet.try_simctl(&["report", "loadtest/rush-hour", "-o", "json", "--exit-code"]);
    assert_eq!(shown.code, Some(96), "a worker has gone: {}", shown.stderr);
    let report = Report::of(&shown).unwrap();
    report.expect_conservation();
    report.expect("generator.workers_lost", 1);
    report.claim("the verdict says so", report.has_reason("worker_lost"));
    let (sent, unrecorded) = (report.count("messages.sent"), report.count("messages.unrecorded"));
    let of = |list: &str| report.list(list).iter().map(|part| part["sent"].as_u64().unwrap()).collect::<Vec<_>>();
    println!("FIGURE {sent} sent, up to {unrecorded} more, by phase {:?}", of("phases"));
    report.claim("each message is in one phase", of("phases").iter().sum::<u64>() == sent);
    // 50 devices and five messages a second each, and now and then one of another stream. Those of the worker that has gone are away
    // until there is another pod, and what nobody had read of it went with its record: a half and a quarter of the other half.
    let [_, steady, peak, _, _, recovery] = of("phases")[..] else { panic!("six phases") };
    report.claim("all have sent what was due", (7_800..=12_900).contains(&steady));
    report.claim("five times as much, and as before", (6_000..6_500).contains(&peak) && recovery > 2_000);
    assert!(report.count("reconnects") > 0);

    // The fleet is its own again, and has lost nothing but what the verdict says.
    fleet.until("the fleet has its own devices", |fleet| fleet.status("connected") == 10 && fleet.clients() == clients);
    let page = fleet.simctl(&["report", "loadtest/rush-hour", "-o", "html"]).stdout;
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("rush-hour"), "{} bytes", page.len());
}

#[test]
fn the_same_test_ends_alike_in_a_cluster_and_on_one_machine() {
    let _turn = TURNS.shared();
    let (taxis, test) = rush_hour("10s");
    let fleet = Fleet::start("both", &taxis);
    std::fs::write(fleet.dir().join("test.yaml"), format!("{taxis}---\n{test}")).unwrap();
    fleet.simctl(&["apply", "-f", "test.yaml"]);
    fleet.simctl(&["wait", "loadtest/rush-hour", "--timeout", "3m"]);
    let cluster = fleet.try_simctl(&["report", "loadtest/rush-hour", "-o", "json", "--exit-code"]);
    let output = fleet.command(&["run", "-f", "test.yaml", "-o", "json"]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let machine = Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    let both = [&cluster, &machine].map(|finished| Report::of(finished).unwrap());
    for (report, finished) in both.iter().zip([&cluster, &machine]) {
        // On a busy machine an instrument that was late says so.
        let is_late = finished.code == Some(96) && report.has_reason("schedule_lag");
        report.claim("it passes", finished.code == Some(0) || is_late);
        report.expect_conservation();
        let offered: Vec<_> = report.list("phases").iter().map(|phase| phase["offered"].to_string()).collect();
        println!("FIGURE {} offered by phase", offered.join(", "));
    }
    assert_eq!(outcomes(&both[0]), outcomes(&both[1]));
}
