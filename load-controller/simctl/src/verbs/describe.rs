//! `simctl describe`: all that a cluster knows of a fleet or a load test: conditions, pods, events.

mod load_test;

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::ResourceExt as _;
use load_controller::{
    resource::{Fleet, FleetStatus},
    run::verdict::ExitCode,
    words,
};

use crate::{
    cluster::{
        client::Cluster,
        fleets::FleetName,
        hindrance::{self, Observed},
        kinds::{self, Meant},
        load_tests::TestName,
        table::{age, broker},
    },
    flags::ClusterFlags,
    printer::{Palette, Printer, Tone, columns},
};

const EXAMPLES: &str = "\
Examples:
  simctl describe
  simctl describe fleet robotaxis -n load
  simctl describe loadtest/rush-hour";

/// Show all that the cluster knows of a fleet, with its pods and events, or of a load test
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names, such as `robotaxis`, `fleet/robotaxis` or `loadtest/rush-hour` [default: the only fleet]
    #[arg(value_name = "FLEET|LOADTEST")]
    objects: Vec<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// How many pods are listed; those in trouble come first.
const PODS_MAX: usize = 20;

impl Args {
    /// Prints each of them.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let meant = kinds::read(&self.objects)?;
        let cluster = Cluster::find(&self.cluster, printer).await?;
        match meant {
            Meant::Fleets(names) => fleets(&cluster, &names, printer).await?,
            Meant::LoadTests(names) => load_tests(&cluster, names, printer).await?,
        }
        Ok(ExitCode::Passed)
    }
}

async fn load_tests(cluster: &Cluster, names: Vec<TestName>, printer: Printer) -> anyhow::Result<()> {
    // Without a name the one that goes on is meant.
    let names: Vec<_> = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    for (position, name) in names.iter().enumerate() {
        let test = cluster.load_test(name.as_ref()).await?;
        let mut events = cluster.events_of(&test.name_any()).await?;
        events.retain(|event| event.involved_object.kind.as_deref() == Some("LoadTest"));
        let gap = if position > 0 { "\n\n" } else { "" };
        let text = load_test::text(&test, &events, Timestamp::now(), printer.palette());
        printer.data(format_args!("{gap}{text}"))?;
    }
    Ok(())
}

async fn fleets(cluster: &Cluster, names: &[FleetName], printer: Printer) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in names {
        found.push(cluster.fleet(Some(name)).await?);
    }
    if names.is_empty() {
        found.push(cluster.fleet(None).await?);
    }
    for (position, fleet) in found.iter().enumerate() {
        let observed = cluster.observe(fleet).await?;
        let gap = if position > 0 { "\n\n" } else { "" };
        printer.data(format_args!("{gap}{}", text(&observed, printer.palette())))?;
    }
    Ok(())
}

/// The fleet as text.
fn text(observed: &Observed, palette: Palette) -> String {
    let Observed { fleet, pods, events, now } = observed;
    let now = *now;
    let status = fleet.status.clone().unwrap_or_default();
    let mut text = String::new();
    for (name, fact) in facts(fleet, &status, now) {
        let _ = writeln!(text, "{} {fact}", palette.paint(Tone::Faint, format_args!("{name:<14}")));
    }
    let mut section = |title: &str, rows: &[Vec<String>]| write_section(&mut text, palette, title, rows);
    section("groups", &groups(fleet));
    section("conditions", &condition_rows(&status.conditions, now));
    section("worst pods", &worst(&status));
    section(&pods_title(pods), &pod_rows(pods, now));
    section("events", &event_rows(events, now));
    let hindrances = hindrance::find(observed);
    if !hindrances.is_empty() {
        let _ = write!(text, "\n{}\n", palette.paint(Tone::Warning, "what hinders"));
        hindrances.iter().for_each(|hindrance| text.push_str(&format!("  {hindrance}\n")));
    }
    text
}

fn facts(fleet: &Fleet, status: &FleetStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    let count = |number: u32| words::count(number.into());
    let mut facts = vec![("name", fleet.name_any()), ("namespace", fleet.namespace().unwrap_or_default())];
    if !fleet.labels().is_empty() {
        facts.push(("labels", pairs(fleet.labels())));
    }
    facts.extend([
        ("age", age(fleet.metadata.creation_timestamp.as_ref(), now)),
        (
            "devices",
            format!(
                "{} asked for, {} assigned, {} connected",
                count(fleet.devices()),
                count(status.devices),
                count(status.connected)
            ),
        ),
        ("pods", format!("{} of {} ready", count(status.pods_ready), count(status.pods))),
        ("broker", broker(fleet)),
        (
            "load",
            format!(
                "{} messages/s, {}/s",
                words::count(status.messages_per_second),
                words::bytes(status.bytes_per_second as f64)
            ),
        ),
        ("revision", format!("{}, plan version {}", status.revision, status.plan_version)),
    ]);
    facts.extend(status.start.clone().map(|start| ("start", start)));
    let spec = fleet.spec.typed();
    if spec.is_some_and(|spec| spec.paused) {
        facts.push(("paused", "yes; `simctl resume` goes on".into()));
    }
    if let Some(intervals) = spec.map(|spec| &spec.intervals).filter(|intervals| !intervals.is_empty()) {
        let list: Vec<_> = intervals.iter().map(|(stream, interval)| format!("{stream}={interval}")).collect();
        facts.push(("intervals", list.join(", ")));
    }
    facts.extend(status.last_error.clone().map(|error| ("last error", error)));
    facts
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).to_vec()
}

fn groups(fleet: &Fleet) -> Vec<Vec<String>> {
    let mut rows = vec![row(["NAME", "SHARE", "MODEL"])];
    let groups = fleet.spec.typed().into_iter().flat_map(|spec| &spec.groups);
    rows.extend(groups.map(|group| {
        let share = group.share.map_or_else(|| "rest".into(), |share| share.to_string());
        row([&group.name, &share, &group.model])
    }));
    rows
}

/// A table with a title; nothing where it has a heading alone.
fn write_section(text: &mut String, palette: Palette, title: &str, rows: &[Vec<String>]) {
    if rows.len() > 1 {
        let _ = write!(text, "\n{}\n", palette.paint(Tone::Strong, title));
        let table = columns(Palette::Plain, &[], rows);
        table.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
}

fn condition_rows(conditions: &[Condition], now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"])];
    rows.extend(conditions.iter().map(|condition| {
        let since = age(Some(&condition.last_transition_time), now);
        row([&condition.type_, &condition.status, &condition.reason, &since, &condition.message])
    }));
    rows
}

fn worst(status: &FleetStatus) -> Vec<Vec<String>> {
    let mut rows = vec![row(["POD", "CONNECTED", "DESIRED", "REASON"])];
    rows.extend(
        status
            .worst_pods
            .iter()
            .map(|worst| row([&worst.pod, &worst.connected.to_string(), &worst.desired.to_string(), &worst.reason])),
    );
    rows
}

fn pods_title(pods: &[Pod]) -> String {
    if pods.len() > PODS_MAX {
        format!("pods ({PODS_MAX} of {}, those in trouble first)", pods.len())
    } else {
        "pods".into()
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn pod_rows(pods: &[Pod], now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row(["NAME", "READY", "STATE", "RESTARTS", "NODE", "AGE"])];
    let mut order: Vec<&Pod> = pods.iter().collect();
    if pods.len() > PODS_MAX {
        order.sort_by_key(|pod| is_ready(pod));
    }
    rows.extend(order.into_iter().take(PODS_MAX).map(|pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let restarts: i32 = containers.into_iter().flatten().map(|container| container.restart_count).sum();
        row([
            &pod.name_any(),
            if is_ready(pod) { "yes" } else { "no" },
            &hindrance::word(pod),
            &restarts.to_string(),
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("-"),
            &age(pod.metadata.creation_timestamp.as_ref(), now),
        ])
    }));
    rows
}

fn event_rows(events: &[Event], now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![row(["AGE", "TYPE", "REASON", "FROM", "MESSAGE"])];
    rows.extend(events.iter().map(|event| {
        let seen = hindrance::last_seen(event).map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
        let series = event.series.as_ref().and_then(|series| series.count);
        let count = series.or(event.count).filter(|count| *count > 1);
        let when = age(seen.as_ref(), now);
        let source = event.source.as_ref().and_then(|source| source.component.clone());
        row([
            &count.map_or(when.clone(), |count| format!("{when} (x{count})")),
            event.type_.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            &event.reporting_component.clone().filter(|name| !name.is_empty()).or(source).unwrap_or_default(),
            event.message.as_deref().unwrap_or_default().trim(),
        ])
    }));
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fleet_with_pods_and_events() {
        let at = "2026-01-02T03:04:05Z";
        let fleet = json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "robotaxis", "namespace": "load", "labels": {"team": "maps"}, "creationTimestamp": at,
                         "generation": 2},
            "spec": {"devices": 500, "paused": true, "intervals": {"*": "200ms"},
                     "groups": [{"name": "taxi", "share": "90%", "model": "robotaxi"}, {"name": "rest", "model": "tank"}]},
            "status": {
                "observedGeneration": 2, "devices": 500, "desired": 500, "connected": 498, "pods": 1, "podsReady": 0,
                "revision": 3, "planVersion": 7, "messagesPerSecond": 1234, "bytesPerSecond": 40960,
                "conditions": [{"type": "Ready", "status": "False", "reason": "Connecting", "message": "2 are missing",
                                "lastTransitionTime": at}],
                "worstPods": [{"pod": "robotaxis-0", "connected": 498, "desired": 500, "reason": "connecting"}],
            },
        });
        let pod = json!({
            "metadata": {"name": "robotaxis-0", "creationTimestamp": at}, "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "device-sim", "image": "i", "imageID": "", "ready": true, "restartCount": 1}]},
        });
        let event = json!({
            "metadata": {"name": "e"}, "involvedObject": {}, "type": "Normal", "reason": "Scaled", "count": 3,
            "message": "100 to 500 devices", "reportingComponent": "load-controller", "lastTimestamp": at,
        });
        let observed = Observed {
            fleet: serde_json::from_value(fleet).unwrap(),
            pods: vec![serde_json::from_value(pod).unwrap()],
            events: vec![serde_json::from_value(event).unwrap()],
            now: "2026-01-02T03:09:10Z".parse().unwrap(),
        };
        insta::assert_snapshot!(text(&observed, Palette::Plain), @r"
        name           robotaxis
        namespace      load
        labels         team=maps
        age            5m5s
        devices        500 asked for, 500 assigned, 498 connected
        pods           0 of 1 ready
        broker         robotaxis-broker (its own)
        load           1,234 messages/s, 40.0 KiB/s
        revision       3, plan version 7
        paused         yes; `simctl resume` goes on
        intervals      *=200ms

        groups
          NAME  SHARE  MODEL
          taxi  90%    robotaxi
          rest  rest   tank

        conditions
          TYPE   STATUS  REASON      SINCE  MESSAGE
          Ready  False   Connecting  5m5s   2 are missing

        worst pods
          POD          CONNECTED  DESIRED  REASON
          robotaxis-0  498        500      connecting

        pods
          NAME         READY  STATE    RESTARTS  NODE  AGE
          robotaxis-0  no     Running  1         n1    5m5s

        events
          AGE        TYPE    REASON  FROM             MESSAGE
          5m5s (x3)  Normal  Scaled  load-controller  100 to 500 devices

        what hinders
          robotaxis-0 has 498 of 500: connecting
        ");
    }
}
