//! TLS, client certificates and WebSocket, as Mosquitto speaks them: OpenSSL and libwebsockets on the other side.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tests::{
    mosquitto::{Mosquitto, Settings},
    run::Run,
    simctl::Simctl,
};

use crate::PATIENCE;

/// Writes an authority `ca.pem`, a certificate for 127.0.0.1 `broker.pem` and one of the devices `device.pem`, with
/// their keys.
fn write_certificates(dir: &Path) {
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate of its authority's name for one that has signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority of the tests");
    fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let authority = Issuer::new(params, key);
    for (file, name) in [("broker", "127.0.0.1"), ("device", "device.example")] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(dir.join(file).with_extension("pem"), certificate.pem()).unwrap();
        fs::write(dir.join(file).with_extension("key"), key.serialize_pem()).unwrap();
    }
}

/// Mosquitto over TLS, with a document's `tls` beside it in a folder of simctl's own.
fn secure(settings: impl FnOnce(Settings, &Path) -> Settings) -> (Simctl, Mosquitto) {
    let simctl = Simctl::new().unwrap();
    let dir = simctl.dir().to_path_buf();
    write_certificates(&dir);
    let tls = Settings::new()
        .unwrap()
        .with("cafile", dir.join("ca.pem").display())
        .with("certfile", dir.join("broker.pem").display())
        .with("keyfile", dir.join("broker.key").display());
    let broker = Mosquitto::start(settings(tls, &dir)).unwrap();
    (simctl, broker)
}

fn write_fleet(simctl: &Simctl, url: &str, tls: &str) {
    let document = format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: lab}}\nspec:\n  devices: 200\n  \
         broker: {{url: '{url}'{tls}}}\n  groups:\n    - {{name: room, share: 100%, model: thermometer, \
         streams: {{reading: {{interval: 1s, jitter: 100ms, qos: 1}}}}}}\n"
    );
    fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
}

/// Two hundred devices at this address: what they send is delivered.
fn delivers(simctl: Simctl, url: &str, tls: &str) {
    write_fleet(&simctl, url, tls);
    let run = Run::start_at(simctl, &["-f", "fleet.yaml"]).unwrap();
    run.wait_for_devices(200).unwrap();
    run.wait_for_messages(1_000).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect("connections.accepted", 200);
    ended.report.expect("messages.acknowledged", ended.report.count("messages.sent"));
    ended.report.expect_all_delivered();
}

const TRUST: &str = ", tls: {ca: ca.pem}";
const IDENTITY: &str = ", tls: {ca: ca.pem, certificate: device.pem, key: device.key}";

#[test]
fn over_tls() {
    let (simctl, broker) = secure(|settings, _| settings);
    delivers(simctl, &format!("mqtts://127.0.0.1:{}", broker.port()), TRUST);
}

#[test]
fn over_tls_1_2() {
    let (simctl, broker) =
        secure(|settings, _| settings.with("tls_version", "tlsv1.2").with("ciphers", "ECDHE+AESGCM"));
    delivers(simctl, &format!("mqtts://127.0.0.1:{}", broker.port()), TRUST);
}

#[test]
fn with_client_certificates() {
    let (simctl, broker) = secure(|settings, _| settings.with("require_certificate", true));
    delivers(simctl, &format!("mqtts://127.0.0.1:{}", broker.port()), IDENTITY);
}

#[test]
fn with_client_certificates_by_flags_alone() {
    let (simctl, broker) = secure(|settings, _| settings.with("require_certificate", true));
    // The certificate is for 127.0.0.1, by whatever name the broker is reached.
    let url = format!("mqtts://localhost:{}", broker.port());
    let version = ["--model", "thermometer", "--interval", "1s", "--protocol", "5", "--broker", &url];
    let trust = ["--ca", "ca.pem", "--server-name", "127.0.0.1"];
    let identity = ["--certificate", "device.pem", "--key", "device.key"];
    let without = simctl.call(&[&["run"], &version[..], &trust].concat(), PATIENCE).unwrap();
    assert!(without.stderr.contains("requires a client certificate"), "{without:?}");
    let run = Run::start_at(simctl, &[&version[..], &trust, &identity].concat()).unwrap();
    run.wait_for_devices(100).unwrap();
    run.wait_for_messages(500).unwrap();
    let ended = run.stop().unwrap();
    ended.expect_passed();
    ended.report.expect("connections.accepted", 100);
    ended.report.expect_all_delivered();
}

#[test]
fn over_websocket() {
    let broker = Mosquitto::start(Settings::new().unwrap().with("protocol", "websockets")).unwrap();
    delivers(Simctl::new().unwrap(), &format!("ws://127.0.0.1:{}", broker.port()), "");
}

#[test]
fn over_secure_websocket() {
    let (simctl, broker) = secure(|settings, _| settings.with("protocol", "websockets"));
    delivers(simctl, &format!("wss://127.0.0.1:{}/mqtt", broker.port()), TRUST);
}

/// What the pre-flight says of a broker that it cannot speak to.
fn refusal(simctl: &Simctl, url: &str, tls: &str) -> String {
    write_fleet(simctl, url, tls);
    let refused = simctl.call(&["run", "-f", "fleet.yaml"], PATIENCE).unwrap();
    assert_ne!(refused.code, Some(0), "{refused:?}");
    refused.stderr
}

#[test]
fn what_is_wrong_is_said_with_the_remedy() {
    let (simctl, broker) = secure(|settings, _| settings.with("require_certificate", true));
    let url = format!("mqtts://127.0.0.1:{}", broker.port());
    let without = refusal(&simctl, &url, TRUST);
    assert!(without.contains("requires a client certificate"), "{without}");
    let other = url.replace("127.0.0.1", "localhost");
    let name = refusal(&simctl, &other, IDENTITY);
    assert!(
        name.contains("is for `127.0.0.1`, not for `localhost`") && name.contains("broker.tls.serverName"),
        "{name}"
    );
    let plain = Mosquitto::start(Settings::new().unwrap()).unwrap();
    let closed = refusal(&simctl, &format!("mqtts://127.0.0.1:{}", plain.port()), TRUST);
    assert!(closed.contains("is this port one without TLS?"), "{closed}");
}
