//! The life of a load test: when it may begin, what its fleet needs before, and what people are told of it. Pure.
//!
//! ```text
//! Waiting ─► Preparing ─► Running ─► Settling ─► Passed, Failed, Invalid, Aborted
//!    └───────────┴─► CannotStart
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use fleet_contract::{
    document::Problem,
    fault::{Fault, KillPods, Pods},
    fleet::FleetSpec,
    load_test::{self, ConcurrencyPolicy, LoadTestSpec},
    time::Micros,
    units::Span,
};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::{
    conditions::{self, Word},
    document,
    reason::Reason,
    shortage,
    status::timestamp,
};
use crate::{
    report::Report,
    resource::{
        Fleet, LoadTest, LoadTestStatus,
        load_test::{COMPLETE, MessageCounts, PASSED, ThresholdCounts},
    },
    run::{
        phase::Phases,
        threshold::Outcome,
        verdict::{Reason as Found, Verdict},
    },
    words,
};

/// How long before its start a test is written into the plan, so that every worker knows of it in time.
pub const START_LEAD: Span = Span::from_secs(3);

/// How long a fleet may take to be as a test needs it, besides the time that its connect rate needs.
const PREPARATION: Span = Span::from_secs(180);

/// Reasons that the status tells; the report has all of them.
const REASONS_MAX: usize = 10;

/// What a fleet is held to while a test prepares or goes on: its own number of devices waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The devices that there are to be before the test begins; `None` once it has, because its plan says.
    pub devices: Option<u32>,
    /// The most devices that it has: there are pods for so many from before the start on.
    pub devices_most: u32,
}

impl Hold {
    /// What a test needs of a fleet of `devices`, before it begins.
    pub fn before(phases: &Phases, devices: u32) -> Self {
        let first = phases.devices_first(devices).unwrap_or(devices);
        let most = phases.devices_most(first).unwrap_or(first).max(first);
        Self { devices: Some(first), devices_most: most }
    }

    /// What it needs once it has begun.
    #[must_use]
    pub const fn begun(self) -> Self {
        Self { devices: None, ..self }
    }
}

/// What a test asks for, looked at alone; `Err` where it waits for nobody: it is wrong, given up, or held back.
pub fn stands_alone(test: &LoadTest) -> Result<LoadTestSpec, Stage<'static>> {
    let spec = test.document().map_err(|problems| Stage::CannotStart(document::lines(&problems).join("\n")))?.spec;
    if spec.abort {
        return Err(Stage::Aborted("it was aborted before its start".into()));
    }
    check(&spec, None).map_err(Stage::CannotStart)?;
    if spec.suspend { Err(Stage::Suspended) } else { Ok(spec) }
}

/// Why a test cannot start, beside its fleet if that is known, whatever happens; all of it, a line each.
pub fn check(spec: &LoadTestSpec, fleet: Option<&FleetSpec>) -> Result<(), String> {
    lines(&load_test::check(spec, fleet))
}

/// Why the acts of a test cannot be done in a cluster; a line each.
pub fn check_acts(spec: &LoadTestSpec, has_own_broker: bool) -> Result<(), String> {
    let problem = |(path, fault): (String, &Fault)| match fault {
        Fault::Hook(hook) if hook.image.is_none() => {
            Some(Problem::new(format!("{path}/image"), "expected the image that has the program, found none"))
        }
        Fault::KillPods(KillPods { pods: Pods::Broker, .. }) if !has_own_broker => {
            let message =
                "expected `workers`, found `broker`: the fleet has no broker of its own; a `hook` can end another one";
            Some(Problem::new(format!("{path}/pods"), message))
        }
        _ => None,
    };
    lines(&spec.faults().filter_map(problem).collect::<Vec<_>>())
}

fn lines(problems: &[Problem]) -> Result<(), String> {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// How far a fleet is on its way to where a test begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pods that there should be, those that are ready, and those that are to be replaced.
    pub pods: (u32, u32, u32),
    /// Workers that run the newest plan.
    pub loaded: u32,
    /// The devices that there are to be, those that are connected, and those that are about to leave.
    pub devices: (u32, u32, u32),
}

impl Progress {
    /// What a test still waits for; `None` where it can begin.
    pub fn lacks(&self) -> Option<String> {
        let Self { pods: (pods, ready, outdated), loaded, devices: (wanted, connected, leaving) } = *self;
        if outdated > 0 {
            return Some(format!("{outdated} of {pods} pods are to be replaced"));
        }
        if ready < pods {
            return Some(format!("{ready} of {pods} pods are ready"));
        }
        if loaded < pods {
            return Some(format!("{loaded} of {pods} workers have loaded the plan"));
        }
        // A device that is connected and not wanted is among those that are about to leave, where its worker has noticed.
        let still = leaving.max(connected.saturating_sub(wanted));
        if still > 0 {
            return Some(format!("{} still to leave", words::counted(still.into(), "device has", "devices have")));
        }
        let is_enough = connected >= shortage::enough(wanted);
        (!is_enough).then(|| format!("{connected} of {wanted} devices are connected"))
    }
}

/// When a fleet has taken too long to be as a test needs it that it prepares for since `since`.
pub fn deadline(since: Micros, fleet: &FleetSpec, devices: u32) -> Micros {
    since.after(PREPARATION).after(fleet.connect.rate.time_for(devices.into())).after(fleet.loss_after)
}

/// How far a test has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage<'a> {
    /// Something else goes on.
    Waiting(String),
    /// Somebody holds it back.
    Suspended,
    /// Its fleet is brought to where it begins.
    Preparing(String),
    /// Its phases go on.
    Running(&'a Report),
    /// The same, and somebody holds all messages back.
    Paused(&'a Report),
    /// Its phases are over, and the last messages are being judged.
    Settling(&'a Report),
    /// It is over.
    Over(&'a Report),
    /// It never began, and never will.
    CannotStart(String),
    /// It ended without a report.
    Aborted(String),
}

impl Stage<'_> {
    /// Whether nothing more comes of it.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Over(_) | Self::CannotStart(_) | Self::Aborted(_))
    }

    /// The report so far.
    pub const fn report(&self) -> Option<&Report> {
        match self {
            Self::Running(report) | Self::Paused(report) | Self::Settling(report) | Self::Over(report) => Some(report),
            _ => None,
        }
    }

    /// The conditions that say so.
    pub fn words(&self) -> Vec<Word> {
        let going = |reason, message: String| vec![Word::no(COMPLETE, reason, message)];
        match self {
            Self::Waiting(why) => going(Reason::Waiting, why.clone()),
            Self::Suspended => going(Reason::Suspended, "spec.suspend holds it back".into()),
            Self::Preparing(lack) => going(Reason::Preparing, lack.clone()),
            Self::Running(_) => going(Reason::Running, "its phases go on".into()),
            Self::Paused(_) => {
                going(Reason::Paused, "its phases go on, and spec.suspend holds all messages back".into())
            }
            Self::Settling(_) => {
                going(Reason::Settling, "its phases are over; the last messages are being judged".into())
            }
            Self::Over(report) => ended(verdict(report.verdict), told(&report.reasons)),
            Self::CannotStart(why) => ended(Reason::CannotStart, why.clone()),
            Self::Aborted(why) => ended(Reason::Aborted, why.clone()),
        }
    }
}

fn ended(reason: Reason, message: String) -> Vec<Word> {
    let passed = if reason == Reason::Passed { Word::yes } else { Word::no };
    vec![Word::yes(COMPLETE, reason, message.clone()), passed(PASSED, reason, message)]
}

const fn verdict(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Passed => Reason::Passed,
        Verdict::Failed => Reason::Failed,
        Verdict::Invalid => Reason::Invalid,
        // One that has ended has a verdict.
        Verdict::Aborted | Verdict::Pending => Reason::Aborted,
    }
}

fn told(reasons: &[Found]) -> String {
    let lines: Vec<String> = reasons.iter().take(REASONS_MAX).map(ToString::to_string).collect();
    if lines.is_empty() { "everything that was asked for has come of it".into() } else { lines.join("\n") }
}

/// The status of a test that nobody follows, because it has not begun or never will; `None` where it says so already.
pub fn unfollowed(test: &LoadTest, words: &[Word], is_over: bool, now: Micros) -> Option<LoadTestStatus> {
    let known = test.status.clone().unwrap_or_default();
    let generation = test.metadata.generation;
    let status = LoadTestStatus {
        observed_generation: generation,
        conditions: conditions::merge(&known.conditions, words, generation, timestamp(now)),
        end: is_over.then(|| known.end.clone().unwrap_or_else(|| now.to_string())),
        phase: None,
        ..known.clone()
    };
    (status != known).then_some(status)
}

/// The figures of a status; the conditions, and what does not change while a test goes on, are the caller's.
pub fn figures(known: &LoadTestStatus, report: &Report, phase: Option<&str>) -> LoadTestStatus {
    let counts = report.messages.all.raw();
    let judged = |wanted: Outcome| {
        let such = report.thresholds.iter().filter(|threshold| threshold.outcome == wanted);
        u32::try_from(such.count()).unwrap_or(u32::MAX)
    };
    LoadTestStatus {
        phase: phase.map(Into::into),
        messages: Some(MessageCounts {
            offered: counts.offered,
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            delivered: counts.delivered,
            lost: counts.lost,
        }),
        thresholds: Some(ThresholdCounts {
            passed: judged(Outcome::Passed),
            failed: judged(Outcome::Failed),
            pending: judged(Outcome::Pending),
        }),
        reasons: report.reasons.iter().take(REASONS_MAX).map(ToString::to_string).collect(),
        ..known.clone()
    }
}

/// The tests that go on or prepare, by their fleets; shared by the tasks of all fleets.
#[derive(Debug, Default)]
pub struct Going(Mutex<HashMap<ObjectRef<Fleet>, (String, ConcurrencyPolicy)>>);

impl Going {
    /// Notes that a test of a fleet goes on; `Err` says which other one of the namespace does not allow that, or is not allowed by
    /// it. `started` are those that another controller has started and this one may not have resumed yet.
    pub fn begin(
        &self,
        fleet: &ObjectRef<Fleet>,
        name: &str,
        policy: ConcurrencyPolicy,
        started: &[Arc<LoadTest>],
    ) -> Result<(), String> {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forbids =
            |other: ConcurrencyPolicy| ConcurrencyPolicy::Forbid == policy || other == ConcurrencyPolicy::Forbid;
        let here = going.iter().filter(|(other, _)| *other != fleet && other.namespace == fleet.namespace);
        let here = here.map(|(other, (test, policy))| (other.name.clone(), test.clone(), *policy));
        let elsewhere = started.iter().filter_map(|test| {
            let fleet_of = test.fleet().filter(|other| *other != fleet.name)?;
            let policy = test.spec.typed().map(|spec| spec.concurrency_policy).unwrap_or_default();
            Some((fleet_of.to_owned(), test.name_any(), policy))
        });
        if let Some((other, test, _)) = here.chain(elsewhere).find(|(.., policy)| forbids(*policy)) {
            return Err(format!(
                "load test {test} of fleet {other} goes on; with `concurrencyPolicy: Allow` in both, they go on together"
            ));
        }
        going.insert(fleet.clone(), (name.to_owned(), policy));
        Ok(())
    }

    /// Notes that a test goes on that was begun before, beside whatever goes on.
    pub fn resume(&self, fleet: &ObjectRef<Fleet>, name: &str, policy: ConcurrencyPolicy) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(fleet.clone(), (name.to_owned(), policy));
    }

    /// No test of a fleet goes on any more.
    pub fn end(&self, fleet: &ObjectRef<Fleet>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(fleet);
    }
}

/// The tests of a fleet that are not over: those that were started first, then the oldest first.
pub fn in_order(mut tests: Vec<Arc<LoadTest>>) -> Vec<Arc<LoadTest>> {
    tests.retain(|test| !test.is_complete() && test.metadata.deletion_timestamp.is_none());
    let age = |test: &LoadTest| test.metadata.creation_timestamp.as_ref().map(|time| time.0);
    tests.sort_by_key(|test| (test.started().is_none(), age(test), test.name_any()));
    tests
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn test(name: &str, fleet: &str, more: &serde_json::Value) -> Arc<LoadTest> {
        let mut text = json!({"metadata": {"name": name, "namespace": "load"}, "spec": {
            "fleet": fleet, "phases": [{"name": "a", "duration": "1s", "measure": true}],
        }});
        for (key, value) in more.as_object().unwrap() {
            text[key] = value.clone();
        }
        Arc::new(serde_json::from_value(text).unwrap())
    }

    #[test]
    fn there_are_pods_for_the_most_devices_from_before_the_start_on() {
        let phases = |text: &str| Phases::new(serde_saphyr::from_str(text).unwrap());
        let ramp = phases("[{name: a, duration: 1m, devices: {from: 0, to: 500}}, {name: b, duration: 1m}]");
        let hold = Hold::before(&ramp, 20);
        assert_eq!(hold, Hold { devices: Some(0), devices_most: 500 });
        assert_eq!(hold.begun(), Hold { devices: None, devices_most: 500 });
        assert_eq!(
            Hold::before(&phases("[{name: a, duration: 1m}]"), 20),
            Hold { devices: Some(20), devices_most: 20 }
        );
        let spike = phases("[{name: a, duration: 1m, devices: {spike: 90}}]");
        assert_eq!(Hold::before(&spike, 20), Hold { devices: Some(20), devices_most: 90 });
    }

    #[test]
    fn a_test_begins_when_nothing_is_lacking_any_more() {
        let ready = Progress { pods: (5, 5, 0), loaded: 5, devices: (500, 495, 0) };
        assert_eq!(ready.lacks(), None);
        for (progress, expected) in [
            (Progress { pods: (5, 5, 1), ..ready }, "1 of 5 pods are to be replaced"),
            (Progress { pods: (5, 4, 0), ..ready }, "4 of 5 pods are ready"),
            (Progress { loaded: 3, ..ready }, "3 of 5 workers have loaded the plan"),
            (Progress { devices: (500, 494, 0), ..ready }, "494 of 500 devices are connected"),
            (Progress { devices: (0, 1, 0), ..ready }, "1 device has still to leave"),
            (Progress { devices: (0, 3, 4), ..ready }, "4 devices have still to leave"),
            (Progress { devices: (0, 3, 0), ..ready }, "3 devices have still to leave"),
        ] {
            assert_eq!(progress.lacks().as_deref(), Some(expected));
        }
    }

    #[test]
    fn whoever_was_started_comes_first_and_then_the_oldest() {
        let made = |at: &str| json!({"name": at, "namespace": "load", "creationTimestamp": format!("2026-11-29T10:00:0{at}Z")});
        let mut started = made("3");
        started["annotations"] = json!({"simctl.io/started": "2026-11-29T10:00:00Z"});
        let over = json!({"conditions": [{
            "type": "Complete", "status": "True", "reason": "Passed", "message": "", "lastTransitionTime": "2026-11-29T10:00:00Z",
        }]});
        let tests = vec![
            test("2", "lab", &json!({"metadata": made("2")})),
            test("3", "lab", &json!({"metadata": started})),
            test("1", "lab", &json!({"metadata": made("1")})),
            test("0", "lab", &json!({"metadata": made("0"), "status": over})),
        ];
        let order: Vec<String> = in_order(tests).iter().map(|test| test.name_any()).collect();
        assert_eq!(order, ["3", "1", "2"]);
    }

    #[test]
    fn tests_of_a_namespace_go_on_together_only_if_all_allow_it() {
        let fleet = |namespace: &str, name: &str| ObjectRef::<Fleet>::new(name).within(namespace);
        let going = Going::default();
        let (allow, forbid) = (ConcurrencyPolicy::Allow, ConcurrencyPolicy::Forbid);
        assert_eq!(going.begin(&fleet("load", "a"), "t", allow, &[]), Ok(()));
        assert_eq!(going.begin(&fleet("load", "a"), "t", allow, &[]), Ok(()), "it may say so again");
        assert_eq!(going.begin(&fleet("load", "b"), "u", allow, &[]), Ok(()));
        assert!(going.begin(&fleet("load", "c"), "v", forbid, &[]).unwrap_err().starts_with("load test "));
        assert_eq!(going.begin(&fleet("other", "c"), "v", forbid, &[]), Ok(()));
        going.end(&fleet("load", "a"));
        going.end(&fleet("load", "b"));
        let started = [test("t", "a", &json!({}))];
        assert!(going.begin(&fleet("load", "c"), "v", allow, &started).unwrap_err().contains("load test t of fleet a"));
        assert_eq!(going.begin(&fleet("load", "a"), "t", allow, &started), Ok(()));
    }

    #[test]
    fn a_test_is_complete_at_any_end_and_passed_says_which() {
        let words = Stage::CannotStart("no".into()).words();
        let told = |words: &[Word]| words.iter().map(|word| (word.of, word.holds, word.reason)).collect::<Vec<_>>();
        assert_eq!(told(&words), [(COMPLETE, true, Reason::CannotStart), (PASSED, false, Reason::CannotStart)]);
        let passed = ended(Reason::Passed, String::new());
        assert_eq!(told(&passed), [(COMPLETE, true, Reason::Passed), (PASSED, true, Reason::Passed)]);
        assert_eq!(told(&Stage::Suspended.words()), [(COMPLETE, false, Reason::Suspended)]);
    }
}
