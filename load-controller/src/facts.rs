//! What is known of a run beside its statistics.

use fleet_contract::{
    fleet::{Fleet, Observe},
    stats::{Devices, Stats},
    time::Micros,
    units::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{phase::Phase, timeline::Timeline, verdict::FailOn};

/// Everything that a report says and that no worker measured.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The resolved document.
    pub fleet: Fleet,
    /// SHA-256 of the resolved document, in hexadecimal.
    pub document_hash: String,
    /// Tells the messages of this run from those of any other.
    pub run: u32,
    /// How far the run has come; only one that has ended is judged.
    pub phase: Phase,
    /// The instant that all timetables count from.
    pub started: Micros,
    /// Now, or the end of the run.
    pub now: Micros,
    /// How long it was asked to run; `None` means until it is stopped.
    pub duration: Option<Span>,
    /// The broker's address, or all of them with commas between; without credentials.
    pub broker: String,
    /// Whether that broker was started for this run.
    pub embedded_broker: bool,
    /// The engine that ran the devices.
    pub engine: String,
    /// The version of the program.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The machine that generated the load.
    pub host: Host,
    /// How many files one process may open.
    pub open_files_limit: u64,
    /// Which devices were observed.
    pub observe: Observe,
    /// The shortest interval of any periodic stream, live changes included.
    pub shortest_interval: Option<Span>,
    /// By how much the clocks of sender and observer may differ; zero where they are the same.
    pub clock_bound: Span,
    /// What makes it fail beside the default rules.
    pub fail_on: Vec<FailOn>,
    /// What the reader must know, such as what a stream's native counter cannot prove.
    pub notes: Vec<String>,
    /// Whether the run was cut short before it had drained.
    pub aborted: bool,
    /// One entry a second.
    pub timeline: Timeline,
    /// Worker processes that ended unasked.
    pub workers_lost: u32,
}

impl RunFacts {
    /// How long the run has lasted.
    pub const fn elapsed(&self) -> Span {
        self.now.since(self.started)
    }

    /// How long of that it was neither paused nor draining.
    pub fn running(&self) -> Span {
        let drains_from = self.timeline.running_until().filter(|_| !self.phase.follows_plan());
        let lasted = drains_from.unwrap_or(self.now).since(self.started);
        Span(lasted.0.saturating_sub(self.timeline.paused().0))
    }

    /// Its devices: those of now, and once it drains, when they leave by intent, those that it had before.
    pub fn devices(&self, stats: &Stats) -> Devices {
        self.timeline.devices().filter(|_| !self.phase.follows_plan()).unwrap_or(stats.devices)
    }
}

/// The machine that generated the load.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Host {
    /// The operating system and its processor architecture.
    pub os: String,
    /// The version of its kernel.
    pub kernel: String,
    /// How many processors the process may use.
    pub cpus: u32,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
}
