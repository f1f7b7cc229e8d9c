//! How people are told: a note as an event on the Fleet.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Reporter};

use super::{apply::Writer, error::told, note::Note};
use crate::resource::names::FIELD_MANAGER;

/// The longest note that an event may carry is 1 kB.
const TEXT_MAX: usize = 1_000;

/// Writes a note as an event; one that cannot be written is logged and no more, because nothing depends on it.
pub async fn tell(writer: &Writer, identity: &str, about: &ObjectReference, note: &Note) {
    let mut text = note.text.clone();
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX - 4).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    tracing::info!(fleet = about.name, namespace = about.namespace, reason = note.reason, text, "event");
    let event = Event {
        type_: if note.is_warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.into(),
        action: note.action.into(),
        note: Some(text),
        secondary: None,
    };
    let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: Some(identity.into()) };
    if let Err(error) = writer.event(reporter, &event, about).await {
        tracing::warn!(fleet = about.name, reason = note.reason, error = told(&error), "the event cannot be written");
    }
}
