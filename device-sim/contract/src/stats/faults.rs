//! What faults have done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Latency, Sessions, Wills};
use crate::time::Micros;

/// What each fault has done, by its number; of more than [`Faults::KEPT`] only the newest are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Faults(BTreeMap<u32, FaultStats>);

/// What a fault has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultStats {
    /// Devices of the fleet that it has hit.
    pub devices: u64,
    /// What it has done to them: sessions ended, attempts to connect swallowed or spoilt, messages kept from falling due
    /// or from going, writes and reads made slower.
    pub effects: u64,
    /// Sessions that were lost by it, and what became of them.
    pub sessions: Sessions,
    /// How long it took each device to get a session back that was lost by it.
    pub recovery: Latency,
    /// What became of the wills of the devices that it hit.
    #[serde(skip_serializing_if = "Wills::is_empty")]
    pub wills: Wills,
    /// From the end of each session to its will at the observer.
    #[serde(skip_serializing_if = "Latency::is_empty")]
    pub offline_detection: Latency,
}

impl Faults {
    /// How many are known at most: four tests of as many faults as a test has.
    pub const KEPT: usize = 256;

    /// What a fault has done so far.
    pub fn of(&mut self, number: u32) -> &mut FaultStats {
        if !self.0.contains_key(&number) && self.0.len() >= Self::KEPT {
            self.0.pop_first();
        }
        self.0.entry(number).or_default()
    }

    /// What a fault has done so far, if it has begun.
    pub fn get(&self, number: u32) -> Option<&FaultStats> {
        self.0.get(&number)
    }

    /// Whether none has begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &FaultStats)> {
        self.0.iter().map(|(number, fault)| (*number, fault))
    }

    /// Adds what they have done elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        for (number, theirs) in &other.0 {
            let mine = self.of(*number);
            mine.devices += theirs.devices;
            mine.effects += theirs.effects;
            mine.sessions.merge(&theirs.sessions);
            mine.recovery.merge(&theirs.recovery);
            mine.wills.merge(&theirs.wills);
            mine.offline_detection.merge(&theirs.offline_detection);
        }
    }

    /// Counts the times away up to `now`.
    pub fn count_until(&mut self, now: Micros) {
        self.0.values_mut().for_each(|fault| fault.sessions.count_until(now));
    }

    /// Closes the books of a worker: none of its devices comes back.
    pub(super) fn end_epoch(&mut self, at: Micros) {
        for fault in self.0.values_mut() {
            fault.sessions.end_epoch(at);
            fault.wills.end_epoch();
        }
    }

    /// The same in little memory.
    pub(super) fn packed(self) -> Self {
        let packed = |(number, fault): (u32, FaultStats)| {
            let (recovery, offline_detection) = (fault.recovery.packed(), fault.offline_detection.packed());
            (number, FaultStats { recovery, offline_detection, ..fault })
        };
        Self(self.0.into_iter().map(packed).collect())
    }
}
