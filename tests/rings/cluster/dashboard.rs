//! `simctl dashboard` leads to what is behind the Service of Grafana.

use std::process::Command;

use tests::process::{Process, Stream};

use super::{
    PATIENCE, TURNS, admin,
    fleet::{Fleet, PER_POD, document},
};

/// What a program in the cluster's network gets from a port of it.
fn fetch(port: &str, path: &str) -> String {
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    tests::command::text(&mut admin().run_in(Command::new("bash").args(["-c", &script]))).unwrap()
}

/// The fleet's broker stands in for Grafana: it serves HTTP in a real pod, by a port with a name.
#[test]
fn the_dashboard_is_reached_through_the_forwarded_port() {
    let _turn = TURNS.shared();
    let fleet = Fleet::apply("dashboard", &document(10, PER_POD));
    let service = "{apiVersion: v1, kind: Service, \
         metadata: {name: grafana, labels: {app.kubernetes.io/name: grafana}}, \
         spec: {selector: {app.kubernetes.io/component: broker}, ports: [{port: 80, targetPort: http}]}}";
    fleet.namespace.apply(service).unwrap();
    let namespace = fleet.namespace.name();
    let args = ["dashboard", "-n", namespace, "--grafana-namespace", namespace];
    let mut forwards = admin().run_in(&fleet.command(&args));
    let process = Process::spawn("dashboard", &mut forwards, fleet.dir()).unwrap();
    let line = process.wait_for_line(Stream::Stdout, PATIENCE, |line| line.starts_with("http://127.0.0.1:")).unwrap();
    let (port, rest) = line.trim_start_matches("http://127.0.0.1:").split_once('/').unwrap();
    assert_eq!(rest, format!("d/simctl-fleet-overview?var-namespace={namespace}&var-fleet=rooms"));
    // A browser takes several connections, one after the other and side by side.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(fetch(port, "/metrics").contains("simctl_broker_connections 11")));
        }
    });
    assert!(fetch(port, "/nowhere").contains("404"));
}
