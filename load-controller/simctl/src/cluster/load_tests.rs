//! The load tests of a cluster: which one is meant, how one is shown as a row, and how one is changed that goes on.

use std::str::FromStr;

use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use load_controller::{
    resource::{LoadTest, LoadTestStatus, load_test::COMPLETE},
    words,
};
use serde_json::{Value, json};

use super::{
    FIELD_MANAGER,
    client::{Cluster, ClusterError},
    objects::DryRun,
    table::{Columns, Row, age},
};
use crate::exit::Failure;

/// The name of a load test; `loadtest/rush-hour` and `rush-hour` are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestName(pub(crate) String);

impl FromStr for TestName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if !text.is_empty() => Ok(Self(text.to_owned())),
            Some((kind, name)) if is_kind(kind) && !name.is_empty() => Ok(Self(name.to_owned())),
            _ => Err(format!("expected the name of a load test such as `loadtest/rush-hour`, found `{text}`")),
        }
    }
}

/// Whether kubectl would know this word as the kind of load tests.
pub(crate) fn is_kind(word: &str) -> bool {
    matches!(word, "loadtest" | "loadtests" | "lt" | "loadtest.simctl.io" | "loadtests.simctl.io")
}

impl Row for LoadTest {
    const ONE: &'static str = "load test";

    fn heading(columns: Columns) -> Vec<String> {
        let namespace = columns.namespace.then_some("NAMESPACE");
        let always = ["NAME", "FLEET", "STATE", "PHASE", "SENT", "LOST", "FAILED", "AGE"];
        let wide = ["MET", "PENDING", "STARTED", "ENDED"].into_iter().filter(|_| columns.wide);
        namespace.into_iter().chain(always).chain(wide).map(String::from).collect()
    }

    fn right(columns: Columns) -> Vec<usize> {
        let shift = usize::from(columns.namespace);
        [4, 5, 6].map(|column| column + shift).to_vec()
    }

    fn row(&self, columns: Columns, now: Timestamp) -> Vec<String> {
        let status = self.status.clone().unwrap_or_default();
        let mut row: Vec<String> =
            columns.namespace.then(|| self.namespace().unwrap_or_default()).into_iter().collect();
        let known = |number: Option<u64>| number.map_or_else(|| "-".into(), words::count);
        let messages = status.messages.as_ref();
        let judged = status.thresholds.as_ref();
        row.extend([
            self.name_any(),
            self.fleet().unwrap_or("-").to_owned(),
            state(&status).0,
            status.phase.clone().unwrap_or_else(|| "-".into()),
            known(messages.map(|messages| messages.sent)),
            known(messages.map(|messages| messages.lost)),
            known(judged.map(|judged| judged.failed.into())),
            age(self.metadata.creation_timestamp.as_ref(), now),
        ]);
        if columns.wide {
            let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            row.extend([
                known(judged.map(|judged| judged.passed.into())),
                known(judged.map(|judged| judged.pending.into())),
                told(&status.start),
                told(&status.end),
            ]);
        }
        row
    }
}

/// How far a test has come, in a word, and why in a sentence.
pub(crate) fn state(status: &LoadTestStatus) -> (String, String) {
    let complete = status.conditions.iter().find(|condition| condition.type_ == COMPLETE);
    complete.map_or_else(
        || {
            (
                "Pending".into(),
                "the load controller has not looked at it; is it running? `simctl install` installs it".into(),
            )
        },
        |condition| (condition.reason.clone(), condition.message.clone()),
    )
}

impl Cluster {
    /// The load tests of the namespace.
    pub(crate) fn load_tests(&self) -> Api<LoadTest> {
        self.api()
    }

    /// The load test of that name, or the only one of the namespace that is not over.
    pub(crate) async fn load_test(&self, name: Option<&TestName>) -> anyhow::Result<LoadTest> {
        if let Some(TestName(name)) = name {
            return Ok(self.named(name).await?);
        }
        let listed = self.ask(self.load_tests().list(&ListParams::default())).await;
        let tests = listed.map_err(|error| self.untaught(error))?.items;
        let mut open: Vec<LoadTest> = tests.into_iter().filter(|test| !test.is_complete()).collect();
        // One that goes on comes before those that wait.
        if open.iter().filter(|test| test.started().is_some()).count() == 1 {
            open.retain(|test| test.started().is_some());
        }
        let names: Vec<String> = open.iter().map(|test| format!("loadtest/{}", test.name_any())).collect();
        match (open.pop(), open.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(Failure::refused(format!(
                "no load test goes on in namespace {}; `simctl get loadtests` shows those that are over",
                self.namespace()
            ))
            .into()),
            (Some(_), false) => Err(Failure::usage(format!(
                "expected the name of a load test, for {} are not over in namespace {}: {}",
                names.len(),
                self.namespace(),
                names.join(", ")
            ))
            .into()),
        }
    }

    /// Changes fields of a load test that is not over.
    pub(crate) async fn change_test(
        &self,
        test: &LoadTest,
        spec: Value,
        dry_run: Option<DryRun>,
    ) -> anyhow::Result<()> {
        let name = test.name_any();
        if test.is_complete() {
            let (state, _) = state(&test.status.clone().unwrap_or_default());
            return Err(Failure::refused(format!("load test {name} is over: {state}")).into());
        }
        if dry_run == Some(DryRun::Client) {
            return Ok(());
        }
        let params = PatchParams {
            dry_run: dry_run == Some(DryRun::Server),
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        // This very one, and no other of its name.
        let patch = Patch::Merge(json!({ "metadata": { "uid": test.uid() }, "spec": spec }));
        self.ask(self.load_tests().patch(&name, &params, &patch)).await.map_err(ClusterError::of_document)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::printer::{Palette, columns};

    #[test]
    fn names_are_written_as_kubectl_has_them() {
        for text in ["rush", "loadtest/rush", "lt/rush", "loadtests.simctl.io/rush"] {
            assert_eq!(text.parse(), Ok(TestName("rush".into())));
        }
        assert!("fleet/rush".parse::<TestName>().is_err() && "loadtest/".parse::<TestName>().is_err());
    }

    #[test]
    fn a_test_is_a_row() {
        let at = "2026-01-02T03:04:05Z";
        let test = |name: &str, status: Value| -> LoadTest {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "load", "creationTimestamp": at}, "spec": {"fleet": "robotaxis"},
                "status": status,
            }))
            .unwrap()
        };
        let goes_on = test(
            "rush-hour",
            json!({
                "phase": "steady", "messages": {"sent": 12_345, "lost": 2}, "thresholds": {"passed": 0, "failed": 1, "pending": 3},
                "conditions": [{"type": "Complete", "status": "False", "reason": "Running", "message": "", "lastTransitionTime": at}],
            }),
        );
        let now = "2026-01-02T03:09:10Z".parse().unwrap();
        let table = |shape: Columns| {
            let rows = [goes_on.row(shape, now), test("new", Value::Null).row(shape, now)];
            columns(Palette::Plain, &LoadTest::right(shape), &[&[LoadTest::heading(shape)], &rows[..]].concat())
        };
        insta::assert_snapshot!(table(Columns { namespace: false, wide: false }), @r"
        NAME       FLEET      STATE    PHASE     SENT  LOST  FAILED  AGE
        rush-hour  robotaxis  Running  steady  12,345     2       1  5m5s
        new        robotaxis  Pending  -            -     -       -  5m5s
        ");
    }
}
