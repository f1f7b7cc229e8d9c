//! The load test of a document: read, and checked together with its fleet.

use fleet_contract::{
    document::{self, Problem, Problems},
    fault::{Fault, Pods},
    load_test::{FACTOR_MAX, LoadTest, Unreachable, check, steep, unreachable},
    units::Span,
    unknown,
};
use load_controller::words;

use crate::{
    document::Document,
    exit::Failure,
    sources::{Object, Sources},
};

/// What a load test object says, before its fleet is known.
pub(crate) fn read(object: &Object) -> Result<LoadTest, Failure> {
    document::understand(&object.file, &object.tree).map_err(wrong)
}

/// The Fleet that a load test names, among the same objects.
pub(crate) fn fleet<'s>(sources: &'s Sources, object: &Object, test: &LoadTest) -> Result<&'s Object, Failure> {
    let fleets = sources.fleets();
    if let Some(found) = fleets.iter().copied().find(|fleet| fleet.name() == test.spec.fleet) {
        return Ok(found);
    }
    let message = unknown::message("fleet", &test.spec.fleet, fleets.iter().map(|fleet| fleet.name()));
    let problem = Problem::new("/spec/fleet", message);
    // Which always finds this one.
    located(object, vec![problem.clone()]).and(Err(Failure::document(problem.to_string())))
}

/// Finds all that is wrong with a load test, beside its fleet where that is known: a cluster may have it.
pub(crate) fn settle(object: &Object, test: &LoadTest, document: Option<&Document>) -> Result<(), Failure> {
    located(object, check(&test.spec, document.map(|document| &document.fleet.spec)))
}

/// Refuses a load test with a field that changes one while it goes on: on one machine verbs do that.
pub(crate) fn untouched(object: &Object, test: &LoadTest) -> Result<(), Failure> {
    let problem = test.spec.control().map(|field| {
        let message = format!(
            "expected no `{field}` on one machine, where `simctl pause`, `skip` and `abort` change a test that goes on, found it"
        );
        Problem::new(format!("/spec/{field}"), message)
    });
    located(object, problem.into_iter().collect())
}

/// Refuses what a load test does to pods that are not on this machine, and commands that nobody has allowed.
pub(crate) fn acts(object: &Object, test: &LoadTest, are_commands_allowed: bool) -> Result<(), Failure> {
    let problem = |(path, fault): (String, &Fault)| match fault {
        Fault::Hook(hook) if !are_commands_allowed => {
            let command = hook.command.join(" ");
            let message = format!("expected --allow-commands, with which the document may run `{command}`, found none");
            Some(Problem::new(format!("{path}/command"), message))
        }
        Fault::KillPods(kill) if kill.pods == Pods::Broker => {
            let message = "expected `workers` on one machine, where a `hook` can end a broker, found `broker`";
            Some(Problem::new(format!("{path}/pods"), message))
        }
        _ => None,
    };
    located(object, test.spec.faults().filter_map(problem).collect())
}

/// What of a right load test is not as its author may think: curves that rise faster than devices connect, and rates that no
/// factor reaches.
pub(crate) fn doubts(test: &LoadTest, document: &Document) -> Vec<String> {
    let spec = &document.fleet.spec;
    let steep = steep(&test.spec, spec.devices, spec.connect.rate).into_iter();
    let doubt = |(phase, given, needed): (&str, _, Span)| {
        format!(
            "phase {phase} lets devices come within {given}, and at connect.rate {} they take {}",
            spec.connect.rate,
            words::time(needed.as_secs_f64())
        )
    };
    let beyond = |Unreachable { phase, wanted, most, devices }: Unreachable<'_>| {
        format!(
            "phase {phase} asks for {}/s, and with {} its streams send at most {}/s, {} times what their intervals say",
            words::number(wanted.get()),
            words::devices(devices),
            words::number(most),
            words::number(FACTOR_MAX)
        )
    };
    steep.map(doubt).chain(unreachable(&test.spec, spec).into_iter().map(beyond)).collect()
}

fn located(object: &Object, problems: Vec<Problem>) -> Result<(), Failure> {
    Problems::locate(&object.file, &object.tree, problems).map_err(wrong)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` calls it")]
fn wrong(problems: Problems) -> Failure {
    Failure::document(problems.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Reader;

    const FLEET: &str = "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {name: lab}\nspec: {devices: 10, connect: {rate: \
                         5/s}, groups: [{name: all, model: thermometer}]}\n---\n";

    fn checked(test: &str) -> Result<Vec<String>, String> {
        let head = "apiVersion: simctl.io/v1alpha1\nkind: LoadTest\nmetadata: {name: t}\nspec:\n";
        let sources = Sources::of_text("t.yaml", &format!("{FLEET}{head}{test}"), None);
        let object = sources.load_tests()[0];
        let found = read(object).and_then(|test| {
            let document = crate::document::understand(&sources, fleet(&sources, object, &test)?, Reader::Machine)?;
            settle(object, &test, Some(&document))?;
            Ok(doubts(&test, &document))
        });
        found.map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_field_that_changes_a_test_while_it_goes_on_is_for_clusters() {
        let head = "apiVersion: simctl.io/v1alpha1\nkind: LoadTest\nmetadata: {name: t}\nspec:\n";
        for (field, name) in [("suspend: true", "suspend"), ("skip: a", "skip"), ("abort: true", "abort")] {
            let test = format!("  {{fleet: lab, phases: [{{name: a, duration: 1s}}], {field}}}\n");
            let sources = Sources::of_text("t.yaml", &format!("{FLEET}{head}{test}"), None);
            let object = sources.load_tests()[0];
            let told = untouched(object, &read(object).unwrap()).unwrap_err().to_string();
            assert!(
                told.starts_with(&format!("t.yaml:10:51: spec.{name}: expected no `{name}` on one machine")),
                "{told}"
            );
        }
    }

    #[test]
    fn a_command_runs_only_where_somebody_allows_it() {
        let head = "apiVersion: simctl.io/v1alpha1\nkind: LoadTest\nmetadata: {name: t}\nspec:\n";
        let told = |fault: &str, is_allowed| {
            let test = format!("  {{fleet: lab, phases: [{{name: a, duration: 1s, faults: [{fault}]}}]}}\n");
            let sources = Sources::of_text("t.yaml", &format!("{FLEET}{head}{test}"), None);
            let object = sources.load_tests()[0];
            acts(object, &read(object).unwrap(), is_allowed).map_err(|failure| failure.to_string())
        };
        let hook = "{kind: hook, command: [rm, -r, x]}";
        assert_eq!(
            told(hook, false),
            Err("t.yaml:10:71: spec.phases[0].faults[0].command: expected --allow-commands, with which the document may run \
                 `rm -r x`, found none"
                .into())
        );
        assert_eq!(told(hook, true), Ok(()));
        assert_eq!(told("{kind: kill-pods}", false), Ok(()));
        let broker = told("{kind: kill-pods, pods: broker}", true).unwrap_err();
        assert!(broker.contains("faults[0].pods: expected `workers` on one machine"), "{broker}");
    }

    #[test]
    fn a_load_test_is_checked_with_its_fleet() {
        let ramp = "  {fleet: lab, phases: [{name: a, duration: 1s, measure: true, devices: {from: 0, to: 21}}]}\n";
        assert_eq!(
            checked(ramp),
            Ok(vec!["phase a lets devices come within 1s, and at connect.rate 5/s they take 4.00 s".into()])
        );
        let rate = "  {fleet: lab, phases: [{name: a, duration: 1s, rate: {messages: 5000/s}}]}\n";
        let doubt = "phase a asks for 5,000/s, and with 10 devices its streams send at most 1,000/s, 1,000 times what their \
                     intervals say";
        assert_eq!(checked(rate), Ok(vec![doubt.into()]));
        for (test, expected) in [
            (
                "  {fleet: lap, phases: [{name: a, duration: 1s}]}\n",
                "t.yaml:10:4: spec.fleet: there is no fleet `lap`, did you mean `lab`? (there are `lab`)",
            ),
            (
                "  {fleet: lab, phases: [{name: a, duration: 1s, rate: {group: al, factor: 2}}]}\n",
                "t.yaml:10:56: spec.phases[0].rate.group: there is no group `al`, did you mean `all`? (there are `all`)",
            ),
            ("  {fleet: lab, phases: []}\n", "t.yaml:10:16: spec.phases: expected at least 1, found fewer"),
        ] {
            assert_eq!(checked(test), Err(expected.into()));
        }
    }
}
