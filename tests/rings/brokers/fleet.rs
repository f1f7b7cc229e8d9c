//! The fleets of the ring, and how much of them makes a test.

use std::fs;

use tests::{run::Run, simctl::Simctl};

/// A fleet of thermometers: what `spec` and the stream `reading` have beside the rest, as YAML flows.
pub(crate) struct Fleet<'a> {
    /// Its own, because tests may share a broker, where a second device of a name would end the first one's session.
    pub(crate) name: &'a str,
    pub(crate) devices: u32,
    pub(crate) spec: &'a str,
    pub(crate) reading: &'a str,
    /// What each device subscribes to, as YAML flows with commas.
    pub(crate) subscriptions: &'a str,
}

impl Fleet<'_> {
    /// Starts it at this broker.
    #[track_caller]
    pub(crate) fn start(&self, url: &str) -> Run {
        Run::start_at(self.place(), &["-f", "fleet.yaml", "--broker", url]).unwrap()
    }

    /// A place whose `fleet.yaml` it is.
    #[track_caller]
    pub(crate) fn place(&self) -> Simctl {
        let Fleet { name, devices, spec, reading, subscriptions } = self;
        let simctl = Simctl::new().unwrap();
        let document = format!(
            "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: {name}}}\nspec:\n  devices: {devices}\n{spec}  \
             groups:\n    - {{name: room, share: 100%, model: thermometer, streams: {{reading: {{{reading}}}}}, \
             subscriptions: [{subscriptions}]}}\n"
        );
        fs::write(simctl.dir().join("fleet.yaml"), document).unwrap();
        simctl
    }
}

/// The `spec` of a fleet that comes back: its sessions are kept, and it connects again within a second.
pub(crate) const PERSISTENT: &str = "  lossAfter: 5s\n  connect: {rate: 200/s, keepAlive: 10s, session: persistent, \
                                     backoff: {base: 200ms, cap: 1s}}\n";
