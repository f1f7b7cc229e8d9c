//! What the administrator does not allow is not made, and does not grow; what runs goes on.

use jiff::Timestamp;

use super::{
    PATIENCE,
    site::{Site, fleet},
};

/// A fleet at a broker of that address.
fn at(broker: &str) -> String {
    fleet("f", 2, 1, "").replace("mqtt://broker.example:1883", broker)
}

/// Whether there is anything of the fleet's that would run or say what runs.
fn is_made(site: &Site) -> bool {
    ["statefulset/f", "configmap/f-plan"].iter().any(|object| site.namespace.kubectl(["get", object]).is_ok())
}

/// Kubernetes knows the age of an object by the second: of two that were made in one, either may count as the older.
fn await_later_second(site: &Site, older: &str) {
    let made: Timestamp = site.field(&format!("fleet/{older}"), "{.metadata.creationTimestamp}").parse().unwrap();
    let is_over = || Ok((Timestamp::now().as_second() > made.as_second()).then_some(()));
    tests::eventually("the second is over in which the fleet was made", PATIENCE, is_over).unwrap();
}

#[test]
fn nobody_reaches_a_node_or_the_platform() {
    let site = Site::new("own");
    let _controller = site.controller("only");
    let brokers =
        ["mqtt://169.254.169.254:80", "ws://[::ffff:169.254.169.254]/latest", "mqtt://[fe80::1]", "mqtt://127.0.0.1"];
    for broker in brokers {
        site.namespace.apply(&at(broker)).unwrap();
        let message = site.condition("f", "Stalled", "True LimitExceeded");
        assert!(message.contains("is an address of the pod, its node or the platform"), "{broker}: {message}");
        assert!(!is_made(&site), "{broker}");
        site.namespace.kubectl(["delete", "fleet/f"]).unwrap();
    }
}

#[test]
fn a_fleet_is_not_led_to_a_broker_that_is_not_allowed() {
    let site = Site::new("brokers");
    let _controller = site.controller_with("only", &["--limit-brokers=10.0.0.0/8,*.example"]);
    site.namespace.apply(&at("mqtt://192.0.2.7")).unwrap();
    let message = site.condition("f", "Stalled", "True LimitExceeded");
    assert!(message.contains("the broker 192.0.2.7 is not allowed here"), "{message}");
    site.condition("f", "Ready", "False LimitExceeded");
    assert!(site.event("f", "LimitExceeded").starts_with("Warning "));
    assert!(!is_made(&site));

    site.namespace.apply(&at("mqtt://10.1.2.3")).unwrap();
    site.settles("f", 2, 2);
    site.condition("f", "Stalled", "False NothingRefused");
    let generation = || site.field("statefulset/f", "{.metadata.generation}");
    let (before, pods) = (generation(), site.field("pod/f-1", "{.metadata.uid}"));
    site.namespace.apply(&at("mqtt://192.0.2.7").replace("devices: 2", "devices: 9")).unwrap();
    site.condition("f", "Stalled", "True LimitExceeded");
    assert_eq!((generation(), site.field("pod/f-1", "{.metadata.uid}")), (before, pods), "what runs goes on");
    let environment = "{.spec.template.spec.containers[0].env[?(@.name==\"SIMCTL_ALLOWED_BROKERS\")].value}";
    assert_eq!(site.field("statefulset/f", environment), "10.0.0.0/8,*.example", "workers hold the limit, too");
}

#[test]
fn fleets_of_a_namespace_share_its_devices_and_the_older_come_first() {
    let site = Site::new("shared");
    let _controller = site.controller_with("only", &["--limit-devices-per-namespace=5"]);
    site.fleet("a", 3, 1, "");
    site.settles("a", 3, 3);
    await_later_second(&site, "a");
    site.fleet("b", 4, 1, "");
    let message = site.condition("b", "Stalled", "True LimitExceeded");
    assert!(message.contains("4 devices are asked for and 2 allowed"), "{message}");
    site.settles("b", 2, 2);
    assert_eq!(site.field("statefulset/b", "{.spec.replicas}"), "2");
    site.scale("b", 100_000);
    let is_told = |message: &str| message.contains("100000 devices are asked for and 2 allowed");
    let field = "{.status.conditions[?(@.type==\"Stalled\")].message}";
    site.namespace.wait_for("fleet/b", field, PATIENCE, is_told).unwrap();
    assert_eq!(site.field("statefulset/b", "{.spec.replicas}"), "2");

    site.scale("a", 5);
    site.settles("a", 5, 5);
    site.settles("b", 0, 0);
    site.scale("b", 4);
    site.namespace.kubectl(["delete", "fleet/a"]).unwrap();
    site.settles("b", 4, 4);
    site.condition("b", "Stalled", "False NothingRefused");
}

#[test]
fn fleets_of_a_namespace_share_its_messages() {
    let site = Site::new("messages");
    let _controller = site.controller_with("only", &["--limit-messages-per-second=3"]);
    site.fleet("a", 10, 1, "intervals: {'*': 1s}");
    let message = site.condition("a", "Stalled", "True LimitExceeded");
    assert!(message.contains("may send 3 messages a second"), "{message}");
    let replicas: u32 = site.field("statefulset/a", "{.spec.replicas}").parse().unwrap();
    assert!(replicas <= 3, "{replicas} pods of one device each");
    site.namespace.apply(&fleet("a", 10, 1, "intervals: {'*': 1h}")).unwrap();
    site.settles("a", 10, 10);
    site.condition("a", "Stalled", "False NothingRefused");
}
