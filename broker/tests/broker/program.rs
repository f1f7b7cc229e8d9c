//! The program: flags, files, exit codes, signals, metrics over HTTP.

use assert_cmd::Command;
use rumqttc::QoS;

use crate::client::Client;
use crate::process::Process;

fn broker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_broker"))
}

/// What it says on stderr when it ends with this code.
#[track_caller]
fn complaint(flags: &[&str], code: i32) -> String {
    let output = broker().args(flags).assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_has_examples_and_variables() {
    let output = broker().arg("--help").assert().success().get_output().clone();
    let help = String::from_utf8(output.stdout).unwrap();
    for part in ["Examples:", "--listen '[::]:1883'", "SIMCTL_BROKER_USERS", "mosquitto"] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
}

#[test]
fn wrong_flags_and_files_end_with_2_and_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    assert!(complaint(&["--nonsense"], 2).contains("--nonsense"));
    assert!(complaint(&["--memory", "lots"], 2).contains("expected a size such as `200B`, `4KiB`"));
    assert!(complaint(&["--log", "=="], 2).contains("--log"));
    let file = path("broker.yaml", "listen: 127.0.0.1:0\nmemroy: 1GiB\n");
    let said = complaint(&["--config", &file], 2);
    assert!(said.contains("memroy") && said.contains("line 2"), "{said}");
    let users = path("users", "ada:secret\nbob\n");
    let said = complaint(&["--users", &users], 2);
    assert!(said.contains("users:2") && !said.contains("secret"), "{said}");
    assert!(complaint(&["--config", "/nonexistent"], 2).contains("/nonexistent"));
}

#[test]
fn an_address_in_use_ends_with_1_and_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = complaint(&["--listen", &address], 1);
    assert!(said.contains(&address) && said.contains("port 0"), "{said}");
    let said = complaint(&["--listen", "127.0.0.1:0", "--metrics", &address], 1);
    assert!(said.contains("--metrics"), "{said}");
}

#[tokio::test]
async fn it_serves_clients_and_figures_until_sigterm() {
    for signal in ["-TERM", "-INT"] {
        let process = Process::start(&[]);
        let mut client = Client::connect(process.address, "client").await;
        client.subscribe("a", QoS::AtLeastOnce).await;
        client.publish_retained("a", QoS::AtMostOnce, "hello").await;
        assert_eq!(client.payload().await, "hello");
        assert_eq!(process.get("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(process.get("/readyz"), (200, "ready\n".to_owned()));
        for (name, value) in [
            ("connections", 1),
            ("connections_total", 1),
            ("messages_in_total", 1),
            ("messages_out_total", 1),
            ("retained_messages", 1),
            ("subscriptions", 1),
            ("slow_consumers", 0),
        ] {
            assert_eq!(process.metric(&format!("simctl_broker_{name}")), value, "{name}");
        }
        assert!(process.metric("simctl_broker_bytes_in_total") > 20);
        assert_eq!(process.stop(signal).code(), Some(0));
        client.is_closed().await;
    }
}

#[tokio::test]
async fn a_configuration_file_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "ada:secret\n").unwrap();
    let config = folder.path().join("broker.yaml");
    let text = format!("users: {}\nlimits: {{packet: 1KiB}}\n", users.display());
    std::fs::write(&config, text).unwrap();
    let process = Process::start(&["--config", config.to_str().unwrap()]);
    let mut connect = crate::client::clean("client");
    connect.set_login("ada", "secret");
    let (mut client, _) = Client::connect_as(process.address, connect).await;
    let large = crate::client::publish("a", QoS::AtMostOnce, &"x".repeat(2_000));
    client.send(rumqttc::mqttbytes::v4::Packet::Publish(large)).await;
    client.is_closed().await;
    assert_eq!(process.stop("-TERM").code(), Some(0));
}

#[tokio::test]
async fn a_folder_keeps_sessions_over_a_stop_and_nothing_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data", folder.path().to_str().unwrap()];
    let mut process = Process::start(&flags);
    let (mut client, _) = Client::resume(process.address, "client").await;
    for (signal, is_kept) in [("-TERM", true), ("-KILL", false), ("-INT", true)] {
        client.subscribe("a", QoS::AtLeastOnce).await;
        // The folder is its own as long as it runs.
        assert!(complaint(&["--listen", "127.0.0.1:0", flags[0], flags[1]], 1).contains("--data"));
        process.stop(signal);
        process = Process::start(&flags);
        let (again, present) = Client::resume(process.address, "client").await;
        assert_eq!(present, is_kept, "{signal}");
        client = again;
    }
}

#[test]
fn a_folder_that_cannot_be_used_ends_with_1_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("sessions.json");
    std::fs::write(&state, "{}").unwrap();
    let flags =
        |folder: &std::path::Path| ["--listen", "127.0.0.1:0", "--data", folder.to_str().unwrap()].map(str::to_owned);
    let said = |folder: &std::path::Path| {
        let flags = flags(folder);
        complaint(&flags.each_ref().map(String::as_str), 1)
    };
    assert!(said(folder.path()).contains("move it away"), "{}", said(folder.path()));
    assert!(state.exists(), "nothing is lost");
    assert!(said(&state).contains("cannot make the folder"), "{}", said(&state));
}
