//! The alerts, by `promtool`: that they load, and when they fire.

use tests::{command, project, prometheus::Tools};

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let tools = Tools::find_or_unpack().unwrap();
    let rules = project::root().join("dashboards/rules.yaml");
    command::run(tools.promtool().args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(rules)).unwrap();
    let cases = project::root().join("tests/rings/manifests/rules.test.yaml");
    command::run(tools.promtool().args(["test", "rules"]).arg(cases)).unwrap();
}
