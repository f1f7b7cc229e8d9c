//! `simctl wait`: until a fleet is as it should be, or a load test is over, for scripts.

use std::{str::FromStr, time::Duration};

use fleet_contract::units::Span;
use kube::ResourceExt;
use load_controller::{
    resource::{Fleet, LoadTest, LoadTestStatus, load_test::COMPLETE},
    run::verdict::ExitCode,
    words,
};
use tokio::time::Instant;

use crate::{
    cluster::{
        client::Cluster,
        fleets::FleetName,
        hindrance,
        kinds::{self, Meant},
        load_tests::{self, TestName},
        settle::{Progress, reasons},
        table::condition,
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl wait --for=connected
  simctl wait fleet/robotaxis --for=ready --timeout 2m
  simctl wait -l team=maps --for=condition=Degraded=False
  simctl wait fleet/robotaxis --for=delete
  simctl wait loadtest/rush-hour --timeout 30m && simctl report loadtest/rush-hour --exit-code";

/// Wait until fleets of a cluster are ready, connected, gone, or have a condition, or load tests are over
///
/// The exit code is 1 when they are not in time; what hinders is said.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Names, such as `robotaxis`, `fleet/robotaxis` or `loadtest/rush-hour` [default: the only fleet]
    #[arg(value_name = "FLEET|LOADTEST")]
    objects: Vec<String>,
    /// For what: `ready`, `connected`, `delete` or `condition=NAME[=STATUS]` [default: connected; of load tests:
    /// condition=Complete]
    #[arg(long = "for", value_name = "WHAT")]
    wish: Option<Wish>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "objects")]
    selector: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m")]
    timeout: Span,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    /// As many devices are connected as the fleet asks for.
    Connected,
    /// The fleet is gone.
    Deleted,
    /// A condition has a status.
    Condition { name: String, status: String },
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let condition = |name: &str, status: &str| Self::Condition { name: name.into(), status: status.into() };
        match text.split('=').collect::<Vec<_>>().as_slice() {
            ["connected"] => Ok(Self::Connected),
            ["ready"] => Ok(condition("Ready", "True")),
            ["delete"] => Ok(Self::Deleted),
            ["condition", name] if !name.is_empty() => Ok(condition(name, "True")),
            ["condition", name, status] if !name.is_empty() => Ok(condition(name, status)),
            _ => Err(format!("expected `ready`, `connected`, `delete` or `condition=NAME[=STATUS]`, found `{text}`")),
        }
    }
}

impl Wish {
    /// Whether a fleet, or its absence, is what is waited for.
    fn is_granted(&self, fleet: Option<&Fleet>) -> bool {
        let Some(fleet) = fleet else { return *self == Self::Deleted };
        let status = fleet.status.clone().unwrap_or_default();
        let is_fresh = status.observed_generation >= fleet.metadata.generation;
        match self {
            Self::Connected => is_fresh && status.desired == fleet.devices() && status.connected == fleet.devices(),
            Self::Deleted => false,
            Self::Condition { name, status: wanted } => {
                is_fresh && condition(&status, name).eq_ignore_ascii_case(wanted)
            }
        }
    }

    /// The end of a load test, whatever came of it.
    fn over() -> Self {
        Self::Condition { name: COMPLETE.into(), status: "True".into() }
    }

    /// The same of a load test's status.
    fn is_granted_of_test(&self, status: Option<&LoadTestStatus>) -> bool {
        let Some(status) = status else { return *self == Self::Deleted };
        let Self::Condition { name, status: wanted } = self else { return false };
        let found = status.conditions.iter().find(|condition| condition.type_ == *name);
        found.map_or("Unknown", |found| &found.status).eq_ignore_ascii_case(wanted)
    }

    fn words(&self) -> String {
        match self {
            Self::Connected => "connected".into(),
            Self::Deleted => "gone".into(),
            Self::Condition { name, status } => format!("{name}={status}"),
        }
    }
}

impl Args {
    /// Waits for one fleet after the other; together they have `--timeout`.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let meant = kinds::read(&self.objects)?;
        let cluster = Cluster::find(&self.cluster, printer).await?;
        let deadline = Instant::now() + self.timeout.as_duration();
        match meant {
            Meant::Fleets(names) => {
                let wish = self.wish.clone().unwrap_or(Wish::Connected);
                for name in self.chosen(&cluster, &wish, names).await? {
                    self.wait(&cluster, &name, &wish, deadline, printer).await?;
                    printer.data(format_args!("fleet.simctl.io/{name} {}", wish.words()))?;
                }
            }
            Meant::LoadTests(names) => {
                let wish = self.wish.clone().unwrap_or_else(Wish::over);
                if matches!(wish, Wish::Connected) {
                    return Err(Failure::usage("expected `condition=NAME` or `delete` for a load test").into());
                }
                let names: Vec<String> = match names.as_slice() {
                    [] => vec![cluster.load_test(None).await?.name_any()],
                    names => names.iter().map(|TestName(name)| name.clone()).collect(),
                };
                for name in names {
                    self.wait_for_test(&cluster, &name, &wish, deadline, printer).await?;
                    printer.data(format_args!("loadtest.simctl.io/{name} {}", wish.words()))?;
                }
            }
        }
        Ok(ExitCode::Passed)
    }

    /// Waits for one load test.
    async fn wait_for_test(
        &self,
        cluster: &Cluster,
        name: &str,
        wish: &Wish,
        deadline: Instant,
        printer: Printer,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        loop {
            ticks.tick().await;
            let test = match cluster.named::<LoadTest>(name).await {
                Ok(test) => Some(test),
                Err(error) if error.is_not_found() && *wish == Wish::Deleted => None,
                Err(error) => return Err(error.into()),
            };
            let status = test.as_ref().and_then(|test| test.status.clone()).unwrap_or_default();
            let (state, why) = load_tests::state(&status);
            if wish.is_granted_of_test(test.as_ref().map(|_| &status)) {
                progress.clear();
                return Ok(());
            }
            let sent = status.messages.as_ref().map_or(0, |messages| messages.sent);
            let phase = status.phase.as_ref().map(|phase| format!(", phase {phase}")).unwrap_or_default();
            let why = why.lines().next().unwrap_or_default();
            progress.show(&[format!("load test {name}: {state}{phase}, {} sent: {why}", words::messages(sent))]);
            // What is over never changes any more.
            if test.as_ref().is_some_and(LoadTest::is_complete) && *wish != Wish::Deleted {
                progress.clear();
                anyhow::bail!("load test {name} is over without {}: {state}: {why}", wish.words());
            }
            if Instant::now() >= deadline {
                progress.clear();
                anyhow::bail!("load test {name} is not {} after {}: {state}: {why}", wish.words(), self.timeout);
            }
        }
    }

    async fn chosen(&self, cluster: &Cluster, wish: &Wish, names: Vec<FleetName>) -> anyhow::Result<Vec<String>> {
        if !names.is_empty() {
            return Ok(names.into_iter().map(|FleetName(name)| name).collect());
        }
        if let Some(selector) = &self.selector {
            let found = cluster.select::<Fleet>(false, Some(selector)).await?;
            if found.is_empty() && *wish != Wish::Deleted {
                return Err(Failure::refused(format!("there is no fleet with the labels {selector}")).into());
            }
            return Ok(found.iter().map(ResourceExt::name_any).collect());
        }
        Ok(vec![cluster.fleet(None).await?.name_any()])
    }

    async fn wait(
        &self,
        cluster: &Cluster,
        name: &str,
        wish: &Wish,
        deadline: Instant,
        printer: Printer,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new(printer);
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        loop {
            ticks.tick().await;
            let fleet = match cluster.fleet_named(name).await {
                Ok(fleet) => Some(fleet),
                Err(error) if error.is_not_found() && *wish == Wish::Deleted => None,
                Err(error) => return Err(error.into()),
            };
            if wish.is_granted(fleet.as_ref()) {
                progress.clear();
                return Ok(());
            }
            let Some(fleet) = fleet else { continue };
            let status = fleet.status.clone().unwrap_or_default();
            let (connected, wanted) = (words::count(status.connected.into()), words::count(fleet.devices().into()));
            progress.show(&[format!(
                "fleet {name}: {connected} of {wanted} connected, {} of {} pods ready",
                status.pods_ready, status.pods
            )]);
            if Instant::now() >= deadline {
                progress.clear();
                let found = hindrance::find(&cluster.observe(&fleet).await?);
                anyhow::bail!("fleet {name} is not {} after {}{}", wish.words(), self.timeout, reasons(&found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(wish: &str, status: &serde_json::Value, expected: bool) {
        let fleet: Fleet = serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "a", "generation": 2},
            "spec": {"devices": 5}, "status": status,
        }))
        .unwrap();
        assert_eq!(wish.parse::<Wish>().unwrap().is_granted(Some(&fleet)), expected, "{wish}");
    }

    #[test]
    fn only_a_status_about_the_newest_document_counts() {
        check("connected", &json!({"observedGeneration": 2, "desired": 5, "connected": 5}), true);
        check("connected", &json!({"observedGeneration": 1, "desired": 5, "connected": 5}), false);
        check("connected", &json!({"observedGeneration": 2, "desired": 5, "connected": 4}), false);
    }

    #[test]
    fn conditions_are_named() {
        let status = json!({"observedGeneration": 2, "conditions": [
            {"type": "Ready", "status": "True", "reason": "r", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"},
        ]});
        check("ready", &status, true);
        check("condition=Ready=false", &status, false);
        check("condition=Degraded=unknown", &status, true);
        check("delete", &status, false);
        assert!("delete".parse::<Wish>().unwrap().is_granted(None));
        assert!("condition=".parse::<Wish>().is_err() && "soon".parse::<Wish>().is_err());
    }
}
