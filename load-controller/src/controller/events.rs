//! How people are told: a note as an event on the Fleet.
//!
//! Equal notes are one event with a count, as Kubernetes' own controllers do it. kube's recorder counts events of one
//! reason whatever their text, so each text has a recorder of its own.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::{apply::Writer, note::Note};
use crate::kube_error::told;
use crate::resource::names::FIELD_MANAGER;

/// The longest note that an event may carry is 1 kB.
const TEXT_MAX: usize = 1_000;

/// How many texts are counted; the next one begins anew, and costs an event more for each text that comes again.
const TEXTS_MAX: usize = 32;

/// The events of one fleet.
pub struct Events {
    identity: Arc<str>,
    recorders: HashMap<Note, Recorder>,
}

impl Events {
    /// Events that `identity` reports.
    pub fn new(identity: Arc<str>) -> Self {
        Self { identity, recorders: HashMap::new() }
    }

    /// Writes a note as an event; one that cannot be written is logged and no more, because nothing depends on it.
    pub async fn tell(&mut self, writer: &Writer, about: &ObjectReference, note: &Note) {
        let text = shortened(&note.text);
        let reason = note.reason.text();
        tracing::info!(fleet = about.name, namespace = about.namespace, reason, text, "event");
        let event = Event {
            type_: if note.is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            action: note.action.into(),
            note: Some(text),
            secondary: None,
        };
        if self.recorders.len() >= TEXTS_MAX && !self.recorders.contains_key(note) {
            self.recorders.clear();
        }
        let reporter = || Reporter { controller: FIELD_MANAGER.into(), instance: Some(self.identity.to_string()) };
        let recorder = self.recorders.entry(note.clone()).or_insert_with(|| writer.recorder(reporter()));
        if let Err(error) = writer.event(recorder, &event, about).await {
            tracing::warn!(fleet = about.name, reason, error = told(&error), "the event cannot be written");
            // Where somebody has deleted the event, its count cannot go on.
            self.recorders.remove(note);
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let end = (0..=TEXT_MAX - 4).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"ä".repeat(600));
        assert!(cut.len() <= TEXT_MAX && cut.ends_with("ä…"), "{} bytes", cut.len());
    }
}
