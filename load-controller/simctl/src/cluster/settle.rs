//! Waiting until a fleet is what was asked for: with progress, a deadline, and what hinders.

use std::time::Duration;

use fleet_contract::units::Span;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use load_controller::{
    controller::{conditions::RECONCILING, reason::Reason},
    resource::{Fleet, FleetStatus, names::FLEET_LABEL},
    words,
};
use tokio::time::Instant;

use super::{
    client::{Cluster, ClusterError},
    hindrance::{self, Observed},
};
use crate::{printer::Printer, screen::Screen, view};

/// How often the fleet is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often its pods and events are, to say what hinders.
const LOOK_CLOSER: Duration = Duration::from_secs(3);
/// How often a line is said where there is no terminal.
const SAY: Duration = Duration::from_secs(5);

impl Cluster {
    /// Waits until *connected* equals `devices`; an error says what hinders.
    pub(crate) async fn until_connected(
        &self,
        name: &str,
        devices: u32,
        timeout: Span,
        printer: Printer,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(LOOK);
        let mut looked_closer = started;
        let mut hindrances = Vec::new();
        loop {
            ticks.tick().await;
            let fleet = self.fleet_named(name).await?;
            // Somebody else may have scaled meanwhile; then this wish is void.
            anyhow::ensure!(
                fleet.devices() == devices,
                "the fleet was scaled to {} meanwhile",
                words::count(fleet.devices().into())
            );
            let status = fleet.status.clone().unwrap_or_default();
            if is_tested(&status) {
                progress.clear();
                printer.say(TESTED);
                return Ok(());
            }
            if is_connected(&fleet, &status, devices) {
                progress.clear();
                let took = words::time(started.elapsed().as_secs_f64());
                let pods = words::counted(status.pods.into(), "pod", "pods");
                printer.say(format_args!("{} connected after {took}, in {pods}", words::devices(devices)));
                return Ok(());
            }
            if looked_closer.elapsed() >= LOOK_CLOSER {
                looked_closer = Instant::now();
                hindrances = hindrance::find(&self.observe(&fleet).await?);
            }
            progress.show(&lines(&status, devices, &hindrances));
            if started.elapsed() >= timeout.as_duration() {
                progress.clear();
                let hindrances = hindrance::find(&self.observe(&fleet).await?);
                anyhow::bail!(
                    "{} of {} are connected after {timeout}{}",
                    words::count(status.connected.into()),
                    words::devices(devices),
                    reasons(&hindrances)
                );
            }
        }
    }

    /// The fleet, its pods and its events.
    pub(crate) async fn observe(&self, fleet: &Fleet) -> Result<Observed, ClusterError> {
        let name = fleet.metadata.name.as_deref().unwrap_or_default();
        let (pods, events) = tokio::join!(self.pods_of(name), self.events_of(name));
        Ok(Observed { fleet: fleet.clone(), pods: pods?, events: events?, now: Timestamp::now() })
    }

    /// The pods of a fleet and of its broker, in the order of their ordinals.
    pub(crate) async fn pods_of(&self, name: &str) -> Result<Vec<Pod>, ClusterError> {
        let params = ListParams::default().labels(&format!("{FLEET_LABEL}={name}"));
        let mut pods = self.ask(self.api::<Pod>().list(&params)).await?.items;
        pods.sort_by_key(|pod| (component(pod), hindrance::ordinal(pod)));
        Ok(pods)
    }

    /// The events about the fleet and the objects of its name, the oldest first; none where they may not be read.
    pub(crate) async fn events_of(&self, name: &str) -> Result<Vec<Event>, ClusterError> {
        let params = ListParams::default().fields(&format!("involvedObject.name={name}"));
        match self.ask(self.api::<Event>().list(&params)).await {
            Ok(list) => {
                let mut events = list.items;
                events.sort_by_key(hindrance::last_seen);
                Ok(events)
            }
            Err(error) if error.is_forbidden() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Workers stand behind the broker that they need.
fn component(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get("app.kubernetes.io/component").cloned()
}

/// What becomes of a change while a load test of the fleet goes on.
pub(crate) const TESTED: &str = "a load test of the fleet goes on: the change is kept, and holds when it is over";

/// Whether a load test of the fleet goes on, so that changes wait.
pub(crate) fn is_tested(status: &FleetStatus) -> bool {
    let goes_on = Reason::LoadTestGoesOn.text();
    status.conditions.iter().any(|condition| condition.type_ == RECONCILING && condition.reason == goes_on)
}

/// Whether the controller has seen what the fleet asks for and all of it is there.
fn is_connected(fleet: &Fleet, status: &FleetStatus, devices: u32) -> bool {
    status.observed_generation >= fleet.metadata.generation && status.desired == devices && status.connected == devices
}

fn lines(status: &FleetStatus, wanted: u32, hindrances: &[String]) -> Vec<String> {
    let pods = format!("{} of {} pods ready", status.pods_ready, status.pods);
    let mut lines = vec![format!("{}, {pods}", view::progress(status.connected, wanted))];
    lines.extend(hindrances.iter().map(|hindrance| format!("  {hindrance}")));
    lines
}

/// Hindrances as the end of a sentence.
pub(crate) fn reasons(hindrances: &[String]) -> String {
    match hindrances {
        [] => "; nothing is wrong with its pods, so the broker is slow or --timeout too short".into(),
        [one] => format!("; {one}"),
        several => several.iter().map(|reason| format!("\n  {reason}")).collect(),
    }
}

/// How far something has come: in place on a terminal, else a line when it changes, at most every few seconds.
pub(crate) struct Progress {
    screen: Option<Screen>,
    printer: Printer,
    said: Option<(Instant, Vec<String>)>,
}

impl Progress {
    /// Nothing yet.
    pub(crate) fn new(printer: Printer) -> Self {
        let screen = (printer.is_terminal() && !printer.is_quiet()).then(Screen::take);
        Self { screen, printer, said: None }
    }

    /// Shows how it stands.
    pub(crate) fn show(&mut self, lines: &[String]) {
        if let Some(screen) = &mut self.screen {
            screen.draw(lines);
            return;
        }
        if self.said.as_ref().is_none_or(|(at, said)| at.elapsed() >= SAY && said != lines) {
            lines.iter().for_each(|line| self.printer.say(line));
            self.said = Some((Instant::now(), lines.to_vec()));
        }
    }

    /// Takes it away; what comes next stands in its place.
    pub(crate) fn clear(&mut self) {
        if let Some(mut screen) = self.screen.take() {
            screen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_status_about_the_change_itself_counts() {
        let mut fleet: Fleet = serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "a", "generation": 2}, "spec": {},
        }))
        .unwrap();
        let status = |generation| FleetStatus {
            observed_generation: generation,
            desired: 5,
            connected: 5,
            ..FleetStatus::default()
        };
        assert!(is_connected(&fleet, &status(Some(2)), 5) && is_connected(&fleet, &status(Some(3)), 5));
        assert!(!is_connected(&fleet, &status(Some(1)), 5) && !is_connected(&fleet, &status(Some(2)), 6));
        fleet.metadata.generation = Some(1);
        assert!(!is_connected(&fleet, &status(None), 5));
    }

    #[test]
    fn progress_has_its_hindrances_below() {
        let status = FleetStatus { connected: 250, pods: 5, pods_ready: 2, ..FleetStatus::default() };
        insta::assert_snapshot!(lines(&status, 500, &["3 pods cannot be scheduled: no room".into()]).join("\n"), @r"
        ██████████░░░░░░░░░░ 250 of 500 connected, 2 of 5 pods ready
          3 pods cannot be scheduled: no room
        ");
    }
}
