//! The fleets that the tests of this ring run: thermometers, and what a test needs to be different.

use tests::simctl::Simctl;

/// Thermometers that send once a second at `QoS` 1.
pub(super) const STEADY: [&str; 6] = ["--model", "thermometer", "--interval", "1s", "--qos", "1"];

/// Writes `fleet.yaml` into the place: 50 thermometers with `spec`, lines that are indented by two.
pub(super) fn written(simctl: &Simctl, spec: &str) {
    let text = format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: lab}}\nspec:\n  devices: 50\n  lossAfter: 3s\n\
         {spec}\n  groups:\n    - {{name: room, share: 100%, model: thermometer}}\n"
    );
    std::fs::write(simctl.dir().join("fleet.yaml"), text).unwrap();
}

/// A place with such a `fleet.yaml`.
pub(super) fn place(spec: &str) -> Simctl {
    let simctl = Simctl::new().unwrap();
    written(&simctl, spec);
    simctl
}

/// How devices connect that soon notice a loss and soon come back.
pub(super) const PROMPT: &str = "  connect: {rate: 200/s, keepAlive: 2s, backoff: {base: 200ms, cap: 1s}}";
