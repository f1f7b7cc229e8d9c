//! The verdict: what a run proved, and the exit code that says so to scripts.
//!
//! Reasons have one of five weights, and the heaviest decides:
//!
//! 1. The run was *aborted*: nothing was judged to the last message.
//! 2. The instrument *cannot count* (a law of conservation is broken, or somebody else has used its sessions): invalid, whatever
//!    else it says.
//! 3. A *fact* that no weakness of the generator can bring about, such as a message that the broker acknowledged
//!    and never delivered: failed, even when the timetable was late.
//! 4. The instrument is *not to be trusted* (late, throttled, blind, incomplete): invalid.
//! 5. A promise is *broken* as far as a sound instrument can tell: failed.
//!
//! Without any reason the run passed. No data is a reason, never a pass.

mod rules;

use std::fmt;

use fleet_contract::stats::Stats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    facts::{CutShort, RunFacts},
    stage::Stage,
    threshold::{Judgement, Outcome},
};

pub use rules::THROTTLED_SHARE_MAX;

/// What a process of the project ends with; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The run passed, or the command did what it was asked for.
    Passed = 0,
    /// Something else went wrong.
    Other = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The instrument cannot be trusted: generator, clock, observer, missing workers.
    Invalid = 96,
    /// A promise or threshold was broken, or the broker refused devices.
    Failed = 99,
    /// A document was wrong.
    Document = 104,
    /// The run was cut short, by a second Ctrl-C.
    Aborted = 105,
}

impl ExitCode {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code when something around the run failed, such as the files of the report: a pass becomes an error, while a
    /// verdict that is bad news already stays, since nothing that a script could do about a disk is more urgent.
    #[must_use]
    pub const fn incomplete(self) -> Self {
        match self {
            Self::Passed => Self::Other,
            other => other,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.code())
    }
}

/// What a run proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// Nothing yet: the run goes on.
    Pending,
    /// Every promise was kept, as far as was looked.
    Passed,
    /// A promise was broken.
    Failed,
    /// The instrument cannot be trusted.
    Invalid,
    /// The run was cut short.
    Aborted,
}

impl Verdict {
    /// How a process ends that has run to this verdict; without a verdict it has not passed.
    pub const fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::Passed,
            Self::Failed => ExitCode::Failed,
            Self::Invalid => ExitCode::Invalid,
            Self::Aborted => ExitCode::Aborted,
            Self::Pending => ExitCode::Other,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.into())
    }
}

/// What makes a run fail beside the default rules, because somebody asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FailOn {
    /// A lost message, whatever its quality of service
    Lost,
}

/// Why a run did not pass: one sentence with what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Reason {
    /// The rule that was broken; its name is stable.
    pub name: Rule,
    /// What it makes of the run if no heavier reason stands beside it.
    pub verdict: Verdict,
    /// What was expected and what was found.
    pub message: String,
}

impl Reason {
    fn new(name: Rule, message: String) -> Self {
        Self { name, verdict: name.weight().verdict(), message }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// A rule that every run is judged by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Rule {
    /// The run was cut short.
    Aborted,
    /// The counters break a law.
    Conservation,
    /// Messages were still in flight when the run had ended.
    Unsettled,
    /// QoS 1 or 2 messages that the broker had acknowledged never arrived.
    LostAcknowledged,
    /// QoS 1 or 2 messages did not arrive in time, or with [`FailOn::Lost`] any.
    Lost,
    /// QoS 2 messages arrived more than once (MQTT-4.3.3).
    DuplicatedQos2,
    /// Messages arrived after a later one of their stream (MQTT-4.6.0-6).
    Reordered,
    /// The broker refused devices.
    DevicesRefused,
    /// The broker refused a device a subscription.
    SubscriptionsRefused,
    /// The broker never answered what devices subscribed to.
    SubscriptionsUnanswered,
    /// Messages are larger than the broker takes.
    MessagesTooLarge,
    /// The broker most likely answers a message by ending the connection.
    MessagesUnwelcome,
    /// Messages arrived with another body than they were sent with.
    MessagesChanged,
    /// The broker sent packets that are larger than the document lets devices take.
    PacketsTooLarge,
    /// More messages than a few were not sent though their devices were connected.
    Withheld,
    /// Devices were not connected when the run ended, after their connections had failed or were lost.
    DevicesMissing,
    /// QoS 1 or 2 messages that nobody observed were never acknowledged.
    Unacknowledged,
    /// Not one message of QoS 1, or of QoS 2, was acknowledged, though all were observed.
    NeverAcknowledged,
    /// All messages were withheld.
    NothingSent,
    /// The generator was late.
    ScheduleLag,
    /// The generator was denied CPU time.
    CpuThrottled,
    /// The clock of the devices was not that of the world.
    ClockStepped,
    /// The clocks of workers were too far apart for them to begin phases together.
    ClocksApart,
    /// Another run took the sessions of devices over.
    SessionTakenOver,
    /// A fault did nothing, so that nothing was proved by it.
    FaultWithoutEffect,
    /// Devices were missing for reasons of the generator's own.
    DevicesFailed,
    /// The run ended before all devices had had their turn to connect.
    RampUnfinished,
    /// No message fell due.
    NothingOffered,
    /// The observer never subscribed, or followed no message to its end.
    NothingObserved,
    /// Most messages went unobserved although all were meant to be observed.
    MostlyUnobserved,
    /// A worker process ended unasked.
    WorkerLost,
    /// A threshold was not met.
    Threshold,
}

/// What a rule weighs against others; the first one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Aborted,
    CannotCount,
    Fact,
    Untrusted,
    Broken,
}

impl Rule {
    const fn weight(self) -> Weight {
        match self {
            Self::Aborted => Weight::Aborted,
            // Two that use one session take each other's acknowledgements and messages, which proves nothing against the broker.
            Self::Conservation | Self::Unsettled | Self::SessionTakenOver => Weight::CannotCount,
            Self::LostAcknowledged
            | Self::DuplicatedQos2
            | Self::Reordered
            | Self::DevicesRefused
            | Self::SubscriptionsRefused
            | Self::SubscriptionsUnanswered
            | Self::MessagesChanged
            | Self::MessagesUnwelcome
            | Self::MessagesTooLarge => Weight::Fact,
            Self::ScheduleLag
            | Self::CpuThrottled
            | Self::ClockStepped
            | Self::ClocksApart
            | Self::FaultWithoutEffect
            | Self::DevicesFailed
            | Self::PacketsTooLarge
            | Self::RampUnfinished
            | Self::NothingOffered
            | Self::NothingObserved
            | Self::MostlyUnobserved
            | Self::WorkerLost => Weight::Untrusted,
            Self::Lost
            | Self::Withheld
            | Self::DevicesMissing
            | Self::Unacknowledged
            | Self::NeverAcknowledged
            | Self::NothingSent
            | Self::Threshold => Weight::Broken,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.into())
    }
}

impl Weight {
    const fn verdict(self) -> Verdict {
        match self {
            Self::Aborted => Verdict::Aborted,
            Self::CannotCount | Self::Untrusted => Verdict::Invalid,
            Self::Fact | Self::Broken => Verdict::Failed,
        }
    }
}

/// Each threshold that is not met, and the one that has ended the run.
fn unmet(facts: &RunFacts, thresholds: &[Judgement<'_>]) -> impl Iterator<Item = Reason> {
    let failed = thresholds.iter().filter(|judgement| judgement.outcome == Outcome::Failed);
    let ended = match &facts.cut_short {
        CutShort::Threshold(text) => Some(format!("{text}, which ended the run")),
        CutShort::No | CutShort::Aborted => None,
    };
    let messages = ended.into_iter().chain(failed.map(ToString::to_string));
    messages.map(|message| Reason::new(Rule::Threshold, message))
}

/// Judges a run by the default rules, and by its thresholds as they were judged; the heaviest reasons come first.
///
/// While the run goes on the verdict is pending, and the reasons are those that there are already.
pub fn judge(stats: &Stats, facts: &RunFacts, thresholds: &[Judgement<'_>]) -> (Verdict, Vec<Reason>) {
    let mut reasons = rules::broken(stats, facts);
    reasons.extend(unmet(facts, thresholds));
    reasons.sort_by_key(|reason| reason.name.weight());
    let verdict = match (facts.stage, reasons.first()) {
        (Stage::Running | Stage::Paused | Stage::Draining, _) => Verdict::Pending,
        (Stage::Ended, Some(heaviest)) => heaviest.verdict,
        (Stage::Ended, None) => Verdict::Passed,
    };
    (verdict, reasons)
}

#[cfg(test)]
mod tests;
