//! The arrows of the structure: which package and which module may name which, as ARCHITECTURE.md says. Code of tests
//! is not held to the rules.

mod names;

use std::{env, fs, process::Command};

use serde_json::Value;
use tests::project::root;

use names::breaches;

/// A package, those of ours that it and its tests may depend on, what it must not depend on, and why.
type Package = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str], &'static str);

const KUBERNETES: &[&str] = &["kube", "k8s-openapi"];
const MQTT: &[&str] = &["rumqttc", "rumqttd", "mio"];
const OUTSIDE: &[&str] =
    &["tokio", "mio", "socket2", "rustls", "hyper", "axum", "rumqttc", "rumqttd", "kube", "k8s-openapi"];
const PRODUCT: &[&str] = &["fleet-contract", "device-sim", "broker", "load-controller", "images"];

const PACKAGES: &[Package] = &[
    ("fleet-contract", &[], &[], OUTSIDE, "what processes agree on does no I/O"),
    ("device-sim", &["fleet-contract"], &["broker"], KUBERNETES, "the data plane does not know Kubernetes"),
    ("broker", &["fleet-contract"], &[], KUBERNETES, "the broker is a program of its own"),
    ("load-controller", &["fleet-contract"], &[], MQTT, "the control plane does not know MQTT"),
    ("simctl", PRODUCT, &[], MQTT, "the command line uses the others' libraries"),
    ("images", &[], &[], OUTSIDE, "images are written without an engine and without a network"),
    ("tests", &["images"], PRODUCT, KUBERNETES, "the harness judges programs from outside"),
    ("xtask", &["fleet-contract", "images", "tests"], &[], KUBERNETES, "what is generated comes from the contract"),
];

/// Modules, paths that they must not name, and why. Both are lists with spaces; the module `.` is the whole crate.
type Rule = (&'static str, &'static [&'static str], &'static str);

const CLOCK: &str = "Instant SystemTime UNIX_EPOCH Timestamp::now Zoned::now";
const NOW: &str = "Instant::now SystemTime::now UNIX_EPOCH Timestamp::now Zoned::now";
const FILES: &str = "std::fs std::env std::process::Command";
const NETWORK: &str = "TcpStream TcpListener UdpSocket UnixStream UnixListener ToSocketAddrs mio tokio hyper_util";
const ENGINE: &str = "crate::engine crate::transport crate::observe crate::clock";
const API_CALLS: &str = "kube::Api kube::Client kube::api kube::client tokio::net tokio::task";
const CLUSTER: &str = "kube k8s_openapi crate::controller crate::resource";

const RULES: &[(&str, &[Rule])] = &[
    ("device-sim/contract/src", &[(".", &[CLOCK, FILES, NETWORK, "std::io std::thread"], "no I/O, and no clock")]),
    (
        "device-sim/src",
        &[
            (
                "signal encode random",
                &[CLOCK, FILES, NETWORK, ENGINE, "crate::session"],
                "what a device sends follows from the time alone",
            ),
            ("model blueprint", &[CLOCK, FILES, NETWORK, ENGINE], "what a device sends follows from the time alone"),
            ("agent identity fault link", &[CLOCK, FILES, NETWORK, ENGINE], "no connection, no clock, no timer"),
            ("session", &[CLOCK, FILES, NETWORK, ENGINE, "std::io"], "the state machine has no socket, no timer"),
            ("session", &["crate::model crate::encode crate::signal"], "the state machine knows no payloads"),
            ("transport", &["crate::session crate::model crate::engine crate::observe"], "transports know no MQTT"),
            ("engine", &["tokio"], "the engine's threads are ordinary ones"),
            (
                "engine/shard",
                &[CLOCK, "crate::clock", "Mutex RwLock Condvar"],
                "the world has the clock; publishing takes no lock",
            ),
            ("observe", &["crate::engine crate::agent crate::worker"], "the engine uses the observer, not the reverse"),
            ("rehearsal leftovers", &["crate::engine tokio"], "they are single sessions and need no engine"),
            (
                "api worker metrics state record",
                &["crate::session crate::agent crate::model"],
                "they decide nothing about messages",
            ),
            (".", &["rumqttc"], "the device path does not use rumqttc's client"),
        ],
    ),
    ("broker/src", &[(".", &["rumqttd"], "no type of rumqttd leaves the router")]),
    (
        "load-controller/src",
        &[
            (
                "run",
                &[CLOCK, FILES, NETWORK, CLUSTER, "std::io crate::report crate::api::Client"],
                "a run does no I/O and reads no clock",
            ),
            ("limits", &[CLOCK, FILES, NETWORK, CLUSTER], "limits are pure: no API calls, no name server"),
            (
                "resource",
                &[CLOCK, FILES, NETWORK, API_CALLS, "crate::controller crate::report"],
                "objects are made without API calls and without a clock",
            ),
            ("report", &[FILES, NETWORK, CLUSTER, "std::io crate::api"], "a report is a function of the measurements"),
            ("api", &[CLUSTER, "crate::run crate::report"], "the client of workers decides nothing"),
            ("key", &[CLUSTER, FILES, NETWORK], "what is derived from a key needs no API calls"),
            ("lease http", &["crate::run crate::report crate::api"], "no figures and no changes over HTTP"),
        ],
    ),
    (
        "load-controller/src/controller",
        &[
            ("document plan conditions status note reason quantity", &[NOW, FILES, API_CALLS], "decisions are pure"),
            ("load_test object refusal diagnosis shortage turn", &[NOW, FILES, API_CALLS], "time is an argument"),
            (
                "observe apply",
                &["crate::controller::plan crate::controller::status crate::controller::conditions"],
                "what reads and writes the API server decides nothing",
            ),
        ],
    ),
    ("load-controller/simctl/src", &[("local", &["kube k8s_openapi"], "a local run needs no cluster")]),
];

/// Sources that may name what a rule forbids.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("device-sim/src/transport/errand.rs", "crate::session"),
    ("device-sim/src/engine/rumqttc", "tokio"),
    ("device-sim/src/engine/rumqttc", "rumqttc"),
    // The module of that name.
    ("device-sim/src/engine/builder.rs", "rumqttc"),
    ("device-sim/src/engine.rs", "rumqttc"),
    ("broker/src/router.rs", "rumqttd"),
    ("load-controller/src/report/files.rs", "std::fs"),
    ("load-controller/src/report/files.rs", "std::io"),
];

#[test]
fn packages_depend_only_on_those_below_them() {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members = metadata["packages"].as_array().unwrap();
    assert_eq!(members.len(), PACKAGES.len(), "each package of the workspace has a row here");
    let mut wrong = Vec::new();
    for member in members {
        let name = member["name"].as_str().unwrap();
        let row = PACKAGES.iter().find(|(package, ..)| *package == name);
        let (_, allowed, in_tests, never, why) = row.unwrap_or_else(|| panic!("no row for the package {name}"));
        for dependency in member["dependencies"].as_array().unwrap() {
            let (on, is_of_tests) = (dependency["name"].as_str().unwrap(), dependency["kind"] == "dev");
            let is_ours = PACKAGES.iter().any(|(package, ..)| *package == on);
            let is_allowed = !is_ours || allowed.contains(&on) || is_of_tests && in_tests.contains(&on);
            if !is_allowed || never.contains(&on) {
                wrong.push(format!("{name} depends on {on}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_name_only_those_below_them() {
    let (mut wrong, mut excepted) = (Vec::new(), Vec::new());
    for (folder, rules) in RULES {
        for (modules, never, why) in *rules {
            for module in modules.split_whitespace() {
                let place = if module == "." { (*folder).to_owned() } else { format!("{folder}/{module}") };
                let files = sources(&place);
                assert!(!files.is_empty(), "a rule speaks of {place}, which is not there");
                for file in files {
                    let source = fs::read_to_string(root().join(&file)).unwrap();
                    for (line, path, rule) in breaches(&file, &source, never) {
                        match EXCEPTIONS.iter().position(|(place, what)| *what == rule && is_within(&file, place)) {
                            Some(exception) => excepted.push(exception),
                            None => wrong.push(format!("{file}:{line} names {path}: {why}")),
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> =
        (0..EXCEPTIONS.len()).filter(|number| !excepted.contains(number)).map(|it| EXCEPTIONS[it]).collect();
    assert!(unused.is_empty(), "nothing needs these exceptions: {unused:?}");
}

/// The product's sources of a module: its file and those in its folder.
fn sources(place: &str) -> Vec<String> {
    let (mut found, mut folders) = (vec![format!("{place}.rs")], vec![place.to_owned()]);
    found.retain(|file| root().join(file).is_file());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).into_iter().flatten().map(Result::unwrap) {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_name() == "tests" || entry.file_name() == "tests.rs" {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(path);
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn is_within(file: &str, place: &str) -> bool {
    file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}
