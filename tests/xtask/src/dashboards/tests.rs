//! The rules that every dashboard and every alert is held to, and planted faults that show that they are.

mod promql;

use std::{collections::BTreeSet, fs};

use ::tests::project;
use fleet_contract::metric;
use serde_json::{Value, json};

use super::{Board, board::Row, files, panel, query};

/// The panels that Grafana has under these names since its release 8.
const PANELS: [&str; 4] = ["stat", "timeseries", "heatmap", "table"];

#[test]
fn the_committed_dashboards_are_the_generated_ones() {
    for (path, text) in files().unwrap() {
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is stale; run `cargo xtask dashboards`", path.display());
    }
}

#[test]
fn every_dashboard_follows_the_rules() {
    for (path, text) in files().unwrap() {
        let faults = faults(&serde_json::from_str(&text).unwrap());
        assert!(faults.is_empty(), "{}:\n{}", path.display(), faults.join("\n"));
    }
}

#[test]
fn no_two_dashboards_share_a_uid() {
    let folder = fs::read_dir(project::root().join("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let boards: Vec<_> = folder.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    let uids: BTreeSet<String> = boards
        .iter()
        .map(|path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap()["uid"].to_string())
        .collect();
    assert_eq!(uids.len(), boards.len());
    assert_eq!(boards.len(), files().unwrap().len(), "a dashboard that nobody generates");
}

#[test]
fn every_metric_of_the_workers_and_the_controller_is_on_a_dashboard() {
    let shown: String = files().unwrap().into_iter().map(|(_, text)| text).collect();
    for metric in metric::of_workers().chain(metric::controller::ALL.iter().copied()) {
        assert!(shown.contains(metric.name), "nobody sees {}", metric.name);
    }
}

#[test]
fn every_alert_follows_the_rules() {
    let text = fs::read_to_string(project::root().join("dashboards/rules.yaml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    let mut names = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name) && name.starts_with("Simctl"), "{name}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].as_str().is_some_and(|text| text.ends_with('.')), "{name}");
        }
        let faults = promql::faults_of_alert(rule["expr"].as_str().unwrap());
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}

/// What is wrong with a dashboard.
fn faults(board: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut claim = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    claim(board["uid"].as_str().is_some_and(|uid| uid.starts_with("simctl-")), "the uid lacks our prefix".into());
    claim(board["id"].is_null() && board.get("__inputs").is_none(), "it is bound to a database".into());
    claim(board["editable"] == false, "it is editable".into());
    claim((38..=39).contains(&board["schemaVersion"].as_u64().unwrap_or(0)), "another schema".into());
    for name in ["datasource", "namespace", "fleet", "quantile"] {
        let variable = board["templating"]["list"].as_array().unwrap().iter().find(|variable| variable["name"] == name);
        claim(variable.is_some(), format!("there is no variable {name}"));
        let is_fresh = variable.is_none_or(|variable| variable["type"] != "query" || variable["refresh"] == 2);
        claim(is_fresh, format!("the variable {name} is not read anew when the time range changes"));
    }
    let panels = panels(board);
    let mut ids = BTreeSet::new();
    for panel in &panels {
        claim(ids.insert(panel["id"].to_string()), format!("two panels have the id {}", panel["id"]));
    }
    faults.extend(panels.iter().filter(|panel| panel["type"] != "row").flat_map(faults_of_panel));
    faults.extend(overlaps(board["panels"].as_array().unwrap()));
    for row in board["panels"].as_array().unwrap() {
        faults.extend(overlaps(row["panels"].as_array().unwrap_or(&Vec::new())));
    }
    faults
}

/// All panels, also those in rows.
fn panels(board: &Value) -> Vec<Value> {
    let outer = board["panels"].as_array().unwrap();
    let inner = outer.iter().flat_map(|row| row["panels"].as_array().cloned().unwrap_or_default());
    outer.iter().cloned().chain(inner).collect()
}

fn faults_of_panel(panel: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let title = panel["title"].as_str().unwrap_or_default();
    let mut claim = |holds: bool, fault: &str| {
        if !holds {
            faults.push(format!("{title:?}: {fault}"));
        }
    };
    claim(!title.is_empty(), "it has no title");
    claim(panel["type"].as_str().is_some_and(|name| PANELS.contains(&name)), "an unknown type");
    claim(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "it has no description");
    claim(panel["fieldConfig"]["defaults"]["unit"].is_string(), "it has no unit");
    claim(panel["datasource"]["uid"] == "${datasource}", "its data source is not the chosen one");
    let targets = panel["targets"].as_array().cloned().unwrap_or_default();
    claim(!targets.is_empty(), "it asks nothing");
    for target in &targets {
        claim(target["datasource"]["uid"] == "${datasource}", "a query's data source is not the chosen one");
        let has_legend = target["legendFormat"].as_str().is_some_and(|legend| !legend.is_empty());
        claim(has_legend || panel["type"] == "table", "a query has no legend");
        for fault in promql::faults_of_panel(target["expr"].as_str().unwrap_or_default()) {
            claim(false, &fault);
        }
    }
    faults
}

/// Panels that lie on each other or outside of the grid.
fn overlaps(panels: &[Value]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut faults = Vec::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                if x >= 24 || !taken.insert((x, y)) {
                    faults.push(format!("{} lies on another panel or outside, at {x}, {y}", panel["title"]));
                }
            }
        }
    }
    faults
}

fn sound() -> Value {
    let query = query::of(fleet_contract::series::SENT.metric).rate();
    let panel = panel::stat("Sent", "Messages sent.", panel::Unit::MessagesPerSecond, query);
    let rows = vec![Row::open("Now", [panel])];
    let board = Board { uid: "simctl-x", title: "X", description: "Nothing.", chosen_from: metric::DEVICES, rows };
    board.render()
}

#[track_caller]
fn check_fault(plant: impl FnOnce(&mut Value), expected: &str) {
    let mut board = sound();
    assert_eq!(faults(&board), Vec::<String>::new());
    plant(&mut board);
    let found = faults(&board);
    assert!(found.iter().any(|fault| fault.contains(expected)), "{expected:?} is not in {found:?}");
}

#[test]
fn planted_faults_of_a_dashboard_are_found() {
    check_fault(|board| board["uid"] = json!("overview"), "prefix");
    check_fault(|board| board["id"] = json!(7), "database");
    check_fault(|board| board["editable"] = json!(true), "editable");
    check_fault(|board| board["templating"]["list"][1]["refresh"] = json!(1), "not read anew");
    check_fault(|board| board["templating"]["list"][3]["name"] = json!("q"), "no variable quantile");
    check_fault(|board| board["panels"][1]["id"] = json!(1), "two panels");
    check_fault(|board| board["panels"][1]["gridPos"]["x"] = json!(22), "outside");
    check_fault(|board| board["panels"][1]["gridPos"]["y"] = json!(0), "lies on another");
}

#[test]
fn planted_faults_of_a_panel_are_found() {
    check_fault(|board| board["panels"][1]["type"] = json!("graph"), "unknown type");
    check_fault(|board| board["panels"][1]["description"] = json!(""), "no description");
    check_fault(|board| board["panels"][1]["datasource"]["uid"] = json!("prometheus"), "data source");
    check_fault(|board| board["panels"][1]["targets"] = json!([]), "asks nothing");
    check_fault(|board| board["panels"][1]["targets"][0]["expr"] = json!("sum("), "is no PromQL");
    check_fault(|board| drop(board["panels"][1]["fieldConfig"]["defaults"]["unit"].take()), "no unit");
}
