//! Whether this machine and the broker can do what is planned; asked before anything starts.
//!
//! The machine is read and the broker asked in [`machine`] and [`broker`]; what follows from it is decided here, from
//! values alone. Each failure names its remedy.

pub(crate) mod broker;
pub(crate) mod machine;

use fleet_contract::{broker_url::BrokerUrl, split::FILES_BESIDE_DEVICES};
use load_controller::{run::verdict::ExitCode, words};
use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::Estimate;
use machine::Machine;

/// The share of the available memory that a fleet may take; the rest is for others.
const FAIR_SHARE: f64 = 0.9;

/// The share of the ports that Linux before 6.3 gives to connections at once. From then on it tries the taken ones first,
/// one by one, at milliseconds of CPU for each connection, in which its thread sends nothing.
const QUICK_PORTS: f64 = 0.5;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: &'static str,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// What was found.
    pub(crate) found: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// All is well.
    Ok,
    /// It may go wrong.
    Warning,
    /// It will go wrong.
    Failed,
    /// It will go wrong because the broker says no.
    Refused,
}

impl Outcome {
    /// Whether nothing should start.
    const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Refused)
    }
}

impl Check {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    pub(crate) fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn refused(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Refused, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// The broker of a run, as far as it matters beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// The one that simctl starts within itself.
    Embedded,
    /// Somebody's, at these addresses.
    At(&'a [BrokerUrl]),
}

/// What this machine says to the plan; the broker is asked apart.
pub(crate) fn check(estimate: &Estimate, machine: &Machine, target: Target<'_>) -> Vec<Check> {
    let mut checks = vec![
        check_files(estimate, machine, target),
        check_ports(estimate, machine, target),
        check_memory(estimate, machine, target),
        check_cpu(estimate, machine),
    ];
    if matches!(target, Target::Embedded) {
        checks.push(check_embedded(estimate.devices));
    }
    checks
}

fn check_files(estimate: &Estimate, machine: &Machine, target: Target<'_>) -> Check {
    const NAME: &str = "open files";
    let limit = machine.open_files;
    let devices = u64::from(estimate.devices);
    let workers = words::counted(estimate.workers.into(), "worker process", "worker processes");
    let found = format!("{} a process allow {} in {workers}", words::count(limit), words::devices(estimate.devices));
    // The embedded broker holds its end of every connection within this one process.
    if matches!(target, Target::Embedded) && devices + FILES_BESIDE_DEVICES > limit {
        let remedy =
            format!("ulimit -n {} before simctl, or a broker of its own with --broker", devices + FILES_BESIDE_DEVICES);
        return Check::failed(
            NAME,
            format!(
                "the embedded broker needs {}, and {} are allowed",
                words::count(devices + FILES_BESIDE_DEVICES),
                words::count(limit)
            ),
            remedy,
        );
    }
    if limit < 2 * FILES_BESIDE_DEVICES {
        return Check::failed(
            NAME,
            format!("{limit} a process are too few for any fleet"),
            "ulimit -n 1024 before simctl",
        );
    }
    Check::ok(NAME, found)
}

fn check_ports(estimate: &Estimate, machine: &Machine, target: Target<'_>) -> Check {
    const NAME: &str = "ports";
    let Some(range) = &machine.ports else {
        return Check::ok(NAME, "the range of this system is not known");
    };
    let each = u64::from(range.end().saturating_sub(*range.start())) + 1;
    let (brokers, host) = match target {
        Target::Embedded => (1, "the embedded broker".to_owned()),
        Target::At([url]) => (1, url.host().to_owned()),
        Target::At(urls) => (urls.len() as u64, format!("{} addresses of brokers", urls.len())),
    };
    // A port of an address of ours serves a connection to each address of a broker.
    let available = each * brokers * machine.sources.max(1) as u64;
    let found = format!("{} of {} between here and {host}", words::count(estimate.ports), words::count(available));
    let remedy = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" (as root), several --source-address, several \
                  --broker, or spread the fleet over machines";
    if estimate.ports > available {
        Check::failed(NAME, found, remedy)
    } else if !machine.chooses_ports && estimate.ports as f64 > available as f64 * QUICK_PORTS {
        let slow = "beyond half of them each connect takes milliseconds of CPU before Linux 6.3";
        Check::warning(NAME, format!("{found}: {slow}"), remedy)
    } else {
        Check::ok(NAME, found)
    }
}

fn check_memory(estimate: &Estimate, machine: &Machine, target: Target<'_>) -> Check {
    const NAME: &str = "memory";
    let broker = match target {
        Target::Embedded => u64::from(estimate.devices) * ::broker::DEVICE_BYTES,
        Target::At(_) => 0,
    };
    let needed = estimate.memory_bytes + broker;
    let Some(available) = machine.memory_available else {
        return Check::ok(NAME, format!("about {} are needed; what is free is not known", words::bytes(needed as f64)));
    };
    let found = format!("about {} of {}", words::bytes(needed as f64), words::bytes(available as f64));
    if needed > available {
        Check::failed(NAME, found, "fewer devices, a larger memory limit, or more machines")
    } else if needed as f64 > available as f64 * FAIR_SHARE {
        Check::warning(NAME, found, "close to the limit: watch the memory in the live view")
    } else {
        Check::ok(NAME, found)
    }
}

fn check_cpu(estimate: &Estimate, machine: &Machine) -> Check {
    const NAME: &str = "cpu";
    let found = format!(
        "about {:.2} of {} for {} messages a second",
        estimate.cpu_cores,
        words::counted(machine.cpus.into(), "core", "cores"),
        words::number(estimate.messages_per_second)
    );
    if estimate.cpu_cores > f64::from(machine.cpus) * FAIR_SHARE {
        Check::warning(
            NAME,
            found,
            "longer intervals, `observe: sample`, or more machines; else the run will be invalid",
        )
    } else {
        Check::ok(NAME, found)
    }
}

/// Why a running fleet cannot go from one load to another: the machine does not have the CPU. A smaller load is never
/// refused.
pub(crate) fn overload(now: &Estimate, asked: &Estimate, machine: &Machine) -> Option<String> {
    let is_too_much = asked.cpu_cores > f64::from(machine.cpus) && asked.cpu_cores > now.cpu_cores;
    is_too_much.then(|| {
        format!(
            "expected a load of at most {}, found about {} for {} messages a second; nothing was changed: take a longer \
             interval or fewer devices, or start the run with --yes",
            words::counted(machine.cpus.into(), "core", "cores"),
            words::number(asked.cpu_cores),
            words::number(asked.messages_per_second)
        )
    })
}

/// The most devices that the embedded broker takes.
pub(crate) const fn embedded_devices_max() -> usize {
    // One place is left to the observer.
    ::broker::Limits::devices(::broker::MEMORY_DEFAULT).saturating_sub(8)
}

/// Whether the embedded broker takes so many devices.
fn check_embedded(devices: u32) -> Check {
    const NAME: &str = "embedded broker";
    let most = embedded_devices_max();
    let found = format!("{} of at most {}", words::devices(devices), words::count(most as u64));
    if devices as usize <= most {
        return Check::ok(NAME, found);
    }
    Check::failed(
        NAME,
        found,
        "a broker of your own, such as Mosquitto: `apt-get install mosquitto`, `mosquitto -p 1884`, \
         then simctl run … --broker mqtt://127.0.0.1:1884",
    )
}

/// How a command ends whose pre-flight came to this: as a run would in which the broker refuses devices, if it does.
pub(crate) fn exit_code(checks: &[Check]) -> ExitCode {
    let has = |outcome| checks.iter().any(|check| check.outcome == outcome);
    match () {
        () if has(Outcome::Refused) => ExitCode::Failed,
        () if has(Outcome::Failed) => ExitCode::Other,
        () => ExitCode::Passed,
    }
}

/// What failed, as one error message; `None` when nothing did.
pub(crate) fn failures(checks: &[Check]) -> Option<String> {
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome.is_failure())
        .map(|check| {
            let remedy = check.remedy.as_deref().map(|remedy| format!("\n  remedy: {remedy}")).unwrap_or_default();
            format!("{}: {}{remedy}", check.name, check.found)
        })
        .collect();
    (!failed.is_empty()).then(|| failed.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            open_files: 20_000,
            ports: Some(32_768..=60_999),
            chooses_ports: true,
            sources: 0,
            memory_available: Some(4 << 30),
            cpus: 2,
        }
    }

    fn estimate(devices: u32) -> Estimate {
        Estimate {
            fleet: "demo".into(),
            devices,
            groups: Vec::new(),
            messages_per_second: f64::from(devices),
            bytes_per_second: f64::from(devices) * 200.0,
            cpu_cores: f64::from(devices) * 20e-6,
            memory_bytes: u64::from(devices) * 7_000 + (12 << 20),
            device_bytes: 7_000,
            ports: u64::from(devices) + 1,
            workers: devices.div_ceil(19_936).max(1),
            threads: 1,
            observed: 0.0,
            connect_seconds: 0.0,
        }
    }

    #[track_caller]
    fn check_outcomes(checks: &[Check], expected: &[(&str, Outcome)]) {
        let found: Vec<_> = checks.iter().map(|check| (check.name, check.outcome)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_small_fleet_is_fine() {
        use Outcome::Ok;
        let all = [("open files", Ok), ("ports", Ok), ("memory", Ok), ("cpu", Ok), ("embedded broker", Ok)];
        check_outcomes(&check(&estimate(100), &machine(), Target::Embedded), &all);
        assert_eq!(failures(&check(&estimate(100), &machine(), Target::Embedded)), None);
    }

    #[test]
    fn ports_end_before_files_do() {
        let url = ["mqtt://127.0.0.1".parse().unwrap()];
        let at = |chooses_ports, devices| {
            check_ports(&estimate(devices), &Machine { chooses_ports, ..machine() }, Target::At(&url)).outcome
        };
        assert_eq!([at(true, 28_231), at(true, 28_232)], [Outcome::Ok, Outcome::Failed]);
        assert_eq!(
            [at(false, 14_000), at(false, 14_200), at(false, 28_232)],
            [Outcome::Ok, Outcome::Warning, Outcome::Failed]
        );
    }

    #[test]
    fn a_port_of_each_source_serves_each_broker() {
        use Outcome::{Failed, Ok};
        let urls = ["mqtt://127.0.0.1:1".parse().unwrap(), "mqtt://127.0.0.1:2".parse().unwrap()];
        let from = |sources| {
            let machine = Machine { sources, ..machine() };
            check_ports(&estimate(100_000), &machine, Target::At(&urls)).outcome
        };
        assert_eq!([from(0), from(1), from(2)], [Failed, Failed, Ok]);
    }

    #[test]
    fn what_fails_names_its_remedy() {
        let few = Machine { open_files: 1_024, memory_available: Some(1 << 20), ..machine() };
        let checks = check(&estimate(5_000), &few, Target::Embedded);
        insta::assert_snapshot!(failures(&checks).unwrap(), @r"
        open files: the embedded broker needs 5,064, and 1,024 are allowed
          remedy: ulimit -n 5064 before simctl, or a broker of its own with --broker
        memory: about 670 MiB of 1.00 MiB
          remedy: fewer devices, a larger memory limit, or more machines
        embedded broker: 5,000 devices of at most 2,040
          remedy: a broker of your own, such as Mosquitto: `apt-get install mosquitto`, `mosquitto -p 1884`, then simctl run … --broker mqtt://127.0.0.1:1884
        ");
    }

    #[test]
    fn a_broker_that_says_no_ends_as_a_run_with_refused_devices_does() {
        let (ok, warning) = (Check::ok("a", "b"), Check::warning("a", "b", "c"));
        let (failed, refused) = (Check::failed("a", "b", "c"), Check::refused("a", "b", "c"));
        assert_eq!(exit_code(&[ok.clone(), warning]), ExitCode::Passed);
        assert_eq!(exit_code(&[ok.clone(), failed.clone()]), ExitCode::Other);
        assert_eq!(exit_code(&[failed, refused.clone()]), ExitCode::Failed);
        assert_eq!(failures(&[ok, refused]).unwrap(), "a: b\n  remedy: c");
    }

    #[test]
    fn what_is_not_known_does_not_fail() {
        let blind = Machine { ports: None, memory_available: None, ..machine() };
        assert_eq!(failures(&check(&estimate(1_000), &blind, Target::Embedded)), None);
    }

    #[test]
    fn a_remote_broker_is_not_bound_by_the_embedded_one() {
        let url = ["mqtt://127.0.0.1".parse().unwrap()];
        assert_eq!(failures(&check(&estimate(19_000), &machine(), Target::At(&url))), None);
    }
}
