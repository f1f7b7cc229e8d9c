//! `simctl clean`: removes what a run has left at its broker.

use std::net::IpAddr;

use fleet_contract::fleet::{Observe, Protocol};
use load_controller::run::{phase::Phases, verdict::ExitCode};

use crate::{
    clean::{self, Request},
    exit::Failure,
    flags::FleetFlags,
    local::signals::Signals,
    printer::{Format, Printer},
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  simctl clean -f fleet.yaml
  simctl clean -f fleet.yaml --devices 5000       the run was scaled up to so many
  simctl clean -f fleet.yaml --broker mqtt://127.0.0.1:1884 -o json
  simctl clean -f fleet.yaml --observer robotaxis-observer-7f3a21c0-0-63e8f4a1b2c3d
  simctl run -f fleet.yaml --clean                the same, at the end of a run";

/// Remove what a run has left at its broker
///
/// Ends the persistent sessions of a fleet's devices, and removes the retained messages of its streams, births and wills: each
/// device that may have left something connects once with a clean session, as many at a time as the connect rate allows.
/// Flags and document are those of the run; they say what there may be, because brokers do not tell. Then an observer looks
/// whether the retained messages are gone. What stays is named, and the exit code is 1.
///
/// It is about a broker that this machine reaches: that which a fleet of a cluster has for itself is none, and goes with the
/// fleet. Whether the fleet runs elsewhere is not known; its devices would lose their sessions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetFlags,
    /// The load test that is meant, where the file holds several
    #[arg(long, value_name = "NAME", env = "SIMCTL_LOAD_TEST", requires = "file", conflicts_with = "fleet")]
    load_test: Option<String>,
    /// An observer whose session ends as well: a report names those of killed workers; may be given several times
    #[arg(long, value_name = "CLIENT_ID", value_delimiter = ',')]
    observer: Vec<String>,
    /// An address of this machine to connect from; may be given several times
    #[arg(long, value_name = "ADDRESS", env = "SIMCTL_SOURCE_ADDRESS", value_delimiter = ',')]
    source_address: Vec<IpAddr>,
    /// Also while the fleet runs on this machine, whose devices lose their sessions
    #[arg(long)]
    force: bool,
    /// How to print what was removed and what stays
    #[arg(short, long, value_name = "FORMAT", env = "SIMCTL_OUTPUT", default_value = "table")]
    output: Format,
}

impl Args {
    /// Removes, and says what.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let signals = Signals::listen()?;
        let request = self.request()?;
        if !self.force {
            clean::check_not_running(&request.document.fleet.metadata.name).await?;
        }
        let unknown = unknown_observers(&request);
        let cleaned = clean::clean(request, &signals.drain, printer).await?;
        if let Some(unknown) = unknown {
            printer.warn(unknown);
        }
        printer.value(self.output, &cleaned, || [cleaned.removed(), cleaned.left()].concat().join("\n"))?;
        Ok(if cleaned.is_complete() { ExitCode::Passed } else { ExitCode::Other })
    }

    fn request(&self) -> Result<Request, Failure> {
        let mut settings = Settings::to_run(&self.fleet, self.load_test.as_deref(), true)?;
        let phases =
            settings.load_test.as_ref().map_or_else(Phases::default, |test| Phases::new(test.spec.phases.clone()));
        settings.divide(phases);
        settings.check_passwords()?;
        let begin = format!("{}-observer-", settings.fleet().metadata.name);
        if let Some(other) = self.observer.iter().find(|observer| !observer.starts_with(&begin)) {
            return Err(Failure::usage(format!(
                "--observer: expected the client id of an observer of this fleet, which begins with `{begin}`, found `{other}`"
            )));
        }
        Ok(Request {
            document: settings.document,
            observers: self.observer.clone(),
            sources: self.source_address.clone(),
        })
    }
}

/// What nobody here can know: in MQTT 3.1.1 the broker keeps the session of an observer that was killed, and has a name for it that
/// holds the start of its process. In MQTT 5 it ends by itself.
fn unknown_observers(request: &Request) -> Option<String> {
    let fleet = &request.document.fleet;
    let is_kept =
        fleet.spec.observe != Observe::None && fleet.spec.protocol() == Protocol::V311 && !fleet.spec.has_own_broker();
    (is_kept && request.observers.is_empty()).then(|| {
        format!(
            "if the whole run was killed, the sessions of its observers may be left, and the broker goes on queueing for them; only \
             the broker knows their client ids, which begin with `{}-observer-`: name them with --observer",
            fleet.metadata.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(args: &[&str], observers: &[&str]) -> Option<String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line: Line = clap::Parser::parse_from([&["clean"], args].concat());
        let mut request = line.args.request().unwrap();
        request.observers = observers.iter().map(|&it| it.to_owned()).collect();
        unknown_observers(&request)
    }

    #[test]
    fn sessions_of_observers_that_nobody_can_name_are_told() {
        let broker = "--broker=mqtt://lab";
        let told = unknown(&[broker], &[]).unwrap();
        assert!(told.contains("begin with `demo-observer-`") && told.contains("--observer"), "{told}");
        assert_eq!(unknown(&[broker], &["demo-observer-1-0-2"]), None);
        assert_eq!(unknown(&[broker, "--protocol=5"], &[]), None);
        assert_eq!(unknown(&[broker, "--observe=none"], &[]), None);
        assert_eq!(unknown(&[], &[]), None);
    }
}
