//! Files of users that change while the broker runs.

use std::fs;
use std::path::PathBuf;

use broker::{Config, Users};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode};

use crate::client::{Client, Running, clean, code};

/// The files, in a folder that lives as long.
struct Files(tempfile::TempDir);

impl Files {
    fn new(users: &str, anonymous: &str) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.set("users", users);
        files.set("anonymous", anonymous);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn set(&self, name: &str, content: &str) {
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn broker(&self) -> Running {
        let users = Users::read(&self.path("users")).unwrap().or_anonymous(&self.path("anonymous")).unwrap();
        Running::of(Config { users: Some(users), ..Config::default() })
    }
}

fn login(user: &str, password: &str) -> Connect {
    let mut connect = clean("client");
    connect.set_login(user, password);
    connect
}

/// Connects again and again until the broker answers so.
async fn until_answered(broker: &Running, connect: &Connect, expected: ConnectReturnCode) {
    let reached = async { while code(broker.address, connect.clone()).await != expected {} };
    tokio::time::timeout(crate::client::PATIENCE, reached).await.expect("answered so in time");
}

#[tokio::test]
async fn a_changed_password_holds_from_the_next_connect_on() {
    let files = Files::new("ada:old\n", "false");
    let broker = files.broker();
    let mut connected = clean("stays");
    connected.set_login("ada", "old");
    let (mut connected, _) = Client::connect_as(broker.address, connected).await;
    files.set("users", "ada:old\nada:new\n");
    until_answered(&broker, &login("ada", "new"), ConnectReturnCode::Success).await;
    assert_eq!(code(broker.address, login("ada", "old")).await, ConnectReturnCode::Success);
    files.set("users", "ada:new\n");
    until_answered(&broker, &login("ada", "old"), ConnectReturnCode::BadUserNamePassword).await;
    connected.subscribe("a", QoS::AtLeastOnce).await;
    connected.publish("a", QoS::AtLeastOnce, "still here").await;
    assert_eq!(connected.payload().await, "still here");
    broker.stop().await;
}

#[tokio::test]
async fn clients_without_credentials_leave_when_they_are_needed() {
    let files = Files::new("ada:secret\n", "true");
    let broker = files.broker();
    let mut guest = Client::connect(broker.address, "guest").await;
    let mut ada = clean("ada");
    ada.set_login("ada", "secret");
    let (mut ada, _) = Client::connect_as(broker.address, ada).await;
    assert_eq!(code(broker.address, login("ada", "wrong")).await, ConnectReturnCode::BadUserNamePassword);
    files.set("anonymous", "false");
    guest.is_closed().await;
    assert_eq!(broker.metrics.closed_for("not_authorized"), 1);
    assert_eq!(code(broker.address, clean("guest")).await, ConnectReturnCode::NotAuthorized);
    ada.subscribe("a", QoS::AtLeastOnce).await;
    files.set("anonymous", "true");
    until_answered(&broker, &clean("guest"), ConnectReturnCode::Success).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_is_counted_once() {
    let files = Files::new("ada:secret\n", "false");
    let broker = files.broker();
    for (name, content, reason) in [("users", "", "empty"), ("users", "ada\n", "invalid"), ("anonymous", "", "invalid")]
    {
        let before = broker.metrics.unusable_for(reason);
        files.set(name, content);
        broker.until("the file is counted", |metrics| metrics.unusable_for(reason) == before + 1).await;
        assert_eq!(code(broker.address, login("ada", "secret")).await, ConnectReturnCode::Success);
        files.set("users", "ada:secret\n");
    }
    files.set("anonymous", "false");
    files.set("users", "ada:new\n");
    until_answered(&broker, &login("ada", "new"), ConnectReturnCode::Success).await;
    assert_eq!((broker.metrics.unusable_for("empty"), broker.metrics.unusable_for("invalid")), (1, 2));
    broker.stop().await;
}
