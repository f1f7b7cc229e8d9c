//! What people are told about a fleet.

use super::{conditions::Word, observe::WorkerPod, reason::Reason};
use crate::words;

/// Something that people would ask about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// Why the action was taken, in one word.
    pub reason: Reason,
    /// What was done, in one word.
    pub action: &'static str,
    /// A sentence.
    pub text: String,
}

impl Note {
    fn normal(reason: Reason, action: &'static str, text: String) -> Self {
        Self { is_warning: false, reason, action, text }
    }

    fn warning(reason: Reason, action: &'static str, text: String) -> Self {
        Self { is_warning: true, reason, action, text }
    }

    pub(super) fn created(devices: u32, per_pod: u32) -> Self {
        Self::normal(Reason::Created, "Create", format!("{} in {}", words::devices(devices), pods(devices, per_pod)))
    }

    pub(super) fn scaled(from: u32, to: u32, per_pod: u32) -> Self {
        let text = format!("{} → {} in {}", words::count(from.into()), words::devices(to), pods(to, per_pod));
        Self::normal(Reason::Scaled, "Scale", text)
    }

    pub(super) fn paused() -> Self {
        Self::normal(Reason::Paused, "Pause", "the devices hold their messages back".into())
    }

    pub(super) fn resumed() -> Self {
        Self::normal(Reason::Resumed, "Resume", "the devices send again".into())
    }

    pub(super) fn rolled(number: u64, name: &str) -> Self {
        Self::normal(Reason::RevisionRolled, "Roll", format!("revision {number} ({name}) replaces the pods one by one"))
    }

    pub(super) fn forced(pod: &WorkerPod) -> Self {
        let node = pod.node.as_deref().unwrap_or("its node");
        let text =
            format!("{node} does not answer: pod {} is deleted by force, so that it comes back elsewhere", pod.name);
        Self::warning(Reason::PodForced, "Delete", text)
    }

    pub(super) fn lost(ordinals: &[u32]) -> Self {
        let few: Vec<String> = ordinals.iter().take(10).map(ToString::to_string).collect();
        let more = if ordinals.len() > few.len() { ", …" } else { "" };
        let text = format!(
            "{} worker(s) ended without draining (pods {}{more}): the fate of their last messages is unknown",
            ordinals.len(),
            few.join(", ")
        );
        Self::warning(Reason::PodLost, "Count", text)
    }

    pub(super) fn unfit_autoscaler(name: &str) -> Self {
        let text = format!(
            "the autoscaler {name} computes with pods, and this fleet counts devices: use an External or Object metric \
             with a target of type AverageValue"
        );
        Self::warning(Reason::UnfitAutoscaler, "Scale", text)
    }

    pub(super) fn load_test(is_warning: bool, reason: Reason, text: &str) -> Self {
        Self { is_warning, reason, action: "Test", text: text.into() }
    }

    /// A condition that has changed to something that matters.
    pub(super) fn condition(is_warning: bool, reason: Reason, action: &'static str, word: &Word) -> Self {
        let text = word.event.as_ref().unwrap_or(&word.message).clone();
        Self { is_warning, reason, action, text }
    }
}

fn pods(devices: u32, per_pod: u32) -> String {
    words::counted(devices.div_ceil(per_pod.max(1)).into(), "pod", "pods")
}
