//! What happened to a run beside its phases, faults and outages: changes by hand, pauses, workers that ended.

use std::collections::BTreeMap;

use fleet_contract::time::Micros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::workers::Lost;

/// The most that are kept.
const MAX: usize = 256;

/// What happened, in its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    list: Vec<Event>,
    /// How many more there were than are kept.
    #[serde(default)]
    more: u32,
    /// Devices of workers that have ended, by shard, as long as fewer are back.
    #[serde(default)]
    missing: BTreeMap<u32, Missing>,
}

/// Devices that were connected when their worker ended, and are not all back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Missing {
    devices: u32,
    /// Up to when the event has their time.
    counted_until: Micros,
    /// The place of the event.
    event: usize,
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since the start of the run.
    pub at_seconds: f64,
    /// What.
    pub kind: EventKind,
    /// The same in words.
    pub message: String,
    /// Of a worker that ended unasked: how long devices that were connected to the end were missing, all together, to a reading, until
    /// as many were back, or it ended again, or the run drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_device_seconds: Option<f64>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// The number of devices was changed by hand.
    Scale,
    /// A rate was changed by hand.
    Rate,
    /// An interval was changed by hand.
    Interval,
    /// A fault was begun by hand.
    Fault,
    /// The fleet began to hold its messages back.
    Pause,
    /// It sends again.
    Resume,
    /// A phase was skipped.
    Skip,
    /// A worker ended unasked.
    WorkerLost,
}

/// Devices of the shard of one worker.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Shard {
    /// Those that are connected.
    pub(in crate::run) connected: u32,
    /// Those that the plan wants.
    pub(in crate::run) wanted: u32,
}

impl Event {
    /// What happened, as people read it: `worker lost`.
    pub fn what(&self) -> String {
        let kind: &str = self.kind.into();
        kind.replace('_', " ")
    }

    /// All that is known of it, in words.
    pub fn words(&self) -> String {
        match self.missing_device_seconds {
            Some(seconds) if seconds > 0.0 => format!("{}; missing for {seconds:.1} device-seconds", self.message),
            _ => self.message.clone(),
        }
    }
}

impl Events {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { list: Vec::new(), more: 0, missing: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, at_seconds: f64, kind: EventKind, message: String) {
        if self.list.len() < MAX {
            self.list.push(Event { at_seconds, kind, message, missing_device_seconds: None });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A worker has ended unasked, in a run that began at `start`. Its devices are missing from its last reading on; of the first
    /// seconds it is known that none was back.
    pub(super) fn lose(&mut self, start: Micros, now: Micros, lost: &Lost) {
        let event = self.list.len();
        self.push(now.since(start).as_secs_f64(), EventKind::WorkerLost, lost.to_string());
        let Some(noted) = self.list.get_mut(event) else { return };
        // What the one before it had lost and not all got back is missing by this end now.
        let before = self.missing.remove(&lost.ordinal);
        let devices = lost.devices.max(before.map_or(0, |before| before.devices));
        let since = before.map(|before| before.counted_until).or(lost.read_at).unwrap_or(now).max(start).min(now);
        let until = lost.replaced_at.unwrap_or(since).max(since).min(now);
        noted.missing_device_seconds = Some(f64::from(devices) * until.since(since).as_secs_f64());
        if devices > 0 {
            self.missing.insert(lost.ordinal, Missing { devices, counted_until: until, event });
        }
    }

    /// Counts the devices that are still missing at `now`: `of` tells how many a shard has connected, and how many of its first
    /// ones are wanted.
    pub(super) fn count_missing(&mut self, now: Micros, of: impl Fn(u32) -> Shard) {
        let list = &mut self.list;
        self.missing.retain(|ordinal, missing| {
            let Shard { connected, wanted } = of(*ordinal);
            let away = missing.devices.min(wanted).saturating_sub(connected);
            let seconds = now.since(missing.counted_until).as_secs_f64();
            missing.counted_until = now;
            if let Some(counted) = list.get_mut(missing.event).and_then(|event| event.missing_device_seconds.as_mut()) {
                *counted += f64::from(away) * seconds;
            }
            away > 0
        });
    }

    /// Those that are kept, which are the first ones.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// How many more there were.
    pub const fn more(&self) -> u32 {
        self.more
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::units::Span;

    use super::*;

    const START: Micros = Micros(1_000_000_000);

    fn at(seconds: u64) -> Micros {
        START.after(Span::from_secs(seconds))
    }

    /// Worker 3, which was read last after so many seconds and had so many devices connected then.
    fn lost(read_at: u64, devices: u32, replaced_at: Option<u64>) -> Lost {
        let (read_at, replaced_at) = (Some(at(read_at)), replaced_at.map(at));
        Lost { ordinal: 3, name: "lab-3".into(), devices, read_at, replaced_at }
    }

    /// The device-seconds of each event.
    fn missing(events: &Events) -> Vec<Option<f64>> {
        events.list().iter().map(|event| event.missing_device_seconds).collect()
    }

    #[test]
    fn devices_of_a_worker_that_ended_are_missing_until_as_many_are_back() {
        let mut events = Events::new();
        events.lose(START, at(7), &lost(5, 10, None));
        assert_eq!(missing(&events), [Some(0.0)]);
        for (second, connected) in [(7, 0), (8, 0), (9, 4), (10, 10), (11, 3)] {
            events.count_missing(at(second), |ordinal| {
                assert_eq!(ordinal, 3);
                Shard { connected, wanted: 100 }
            });
        }
        assert_eq!(
            missing(&events),
            [Some(36.0)],
            "10 for three seconds and 6 for one; what falls away later did not end with it"
        );
        let told =
            "lab-3 ended unasked, with 10 devices connected when it was read last; missing for 36.0 device-seconds";
        assert_eq!(events.list()[0].words(), told);
    }

    #[test]
    fn devices_are_missing_at_least_until_the_successor_began() {
        let mut events = Events::new();
        events.lose(START, at(9), &lost(5, 10, Some(8)));
        events.count_missing(at(9), |_| Shard { connected: 10, wanted: 100 });
        assert_eq!(missing(&events), [Some(30.0)]);
    }

    #[test]
    fn devices_that_are_not_wanted_any_more_are_not_missing() {
        let mut events = Events::new();
        events.lose(START, at(5), &lost(5, 10, None));
        events.count_missing(at(6), |_| Shard { connected: 0, wanted: 2 });
        events.count_missing(at(7), |_| Shard { connected: 0, wanted: 0 });
        events.count_missing(at(8), |_| Shard { connected: 0, wanted: 10 });
        assert_eq!(missing(&events), [Some(2.0)]);
    }

    #[test]
    fn a_successor_that_ends_too_takes_over_what_is_missing() {
        let mut events = Events::new();
        events.lose(START, at(5), &lost(5, 10, None));
        events.count_missing(at(7), |_| Shard { connected: 4, wanted: 100 });
        // It was read last when four of ten were back.
        events.lose(START, at(8), &lost(7, 4, None));
        events.count_missing(at(9), |_| Shard { connected: 0, wanted: 100 });
        events.count_missing(at(10), |_| Shard { connected: 10, wanted: 100 });
        assert_eq!(missing(&events), [Some(12.0), Some(20.0)], "no device counts twice");
    }

    #[test]
    fn what_was_kept_goes_on_elsewhere_and_what_an_earlier_release_kept_is_read() {
        let mut events = Events::new();
        events.lose(START, at(5), &lost(5, 10, None));
        let mut kept: Events = serde_json::from_str(&serde_json::to_string(&events).unwrap()).unwrap();
        kept.count_missing(at(6), |_| Shard { connected: 0, wanted: 100 });
        assert_eq!(missing(&kept), [Some(10.0)]);
        let earlier = r#"{"list": [{"at_seconds": 1.0, "kind": "worker_lost", "message": "lab-3 ended unasked"}]}"#;
        let mut earlier: Events = serde_json::from_str(earlier).unwrap();
        earlier.count_missing(at(6), |_| Shard { connected: 0, wanted: 100 });
        assert_eq!((missing(&earlier), earlier.list()[0].words().as_str()), (vec![None], "lab-3 ended unasked"));
        assert!(!serde_json::to_string(&earlier.list()[0]).unwrap().contains("missing_device_seconds"));
    }

    #[test]
    fn the_first_ones_are_kept_and_the_others_counted() {
        let mut events = Events::new();
        for number in 0..300_u32 {
            events.push(number.into(), EventKind::Scale, format!("{number} devices"));
        }
        assert_eq!((events.list().len(), events.more()), (256, 44));
        assert_eq!(events.list()[255].message, "255 devices");
    }
}
