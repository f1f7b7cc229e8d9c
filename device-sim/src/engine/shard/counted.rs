//! What a shard has counted and timed, and where a reader gets it.

use std::{collections::BTreeMap, sync::Arc};

use fleet_contract::stats::Stats;

use super::noted::{Acknowledgements, Lags};
use crate::{
    blueprint::Blueprint,
    engine::{
        device::Trouble,
        streams::{Exchange, Streams},
    },
    fault::Cause,
    index::{DeviceIndex, GroupIndex, StreamIndex},
};

/// Of so many devices a shard keeps what the broker said to them.
const SAID_MAX: usize = 256;

/// What a shard has counted and timed.
pub(super) struct Counted {
    pub(super) stats: Stats,
    /// Messages and their times, by stream, since they were left for a reader last.
    pub(super) by_stream: Streams,
    /// Where these are left.
    pub(super) exchange: Arc<Exchange>,
    /// How late the messages of this batch of turns are.
    pub(super) lags: Lags,
    /// How long the acknowledgements of this turn took.
    pub(super) acknowledgements: Acknowledgements,
    /// What the broker said last to some of the devices.
    said: BTreeMap<DeviceIndex, String>,
}

impl Counted {
    /// Nothing yet.
    pub(super) fn new(by_stream: Streams, exchange: Arc<Exchange>) -> Self {
        Self {
            stats: Stats::default(),
            by_stream,
            exchange,
            lags: Lags::default(),
            acknowledgements: Acknowledgements::default(),
            said: BTreeMap::new(),
        }
    }

    /// Counts what a fault has done to a message of a stream of a group.
    pub(super) fn note_cause(&mut self, blueprint: &Blueprint, cause: Cause, group: GroupIndex, stream: StreamIndex) {
        match cause {
            Cause::Plan(number) => self.stats.faults.of(number).effects += 1,
            Cause::Model(what) => {
                let group = blueprint.group(group);
                let stream = group.model.stream(stream);
                self.stats.model_faults.note(&group.name, stream.name(), stream.qos(), what);
            }
        }
    }

    /// Keeps what the broker said to a device, of some devices.
    pub(super) fn note_said(&mut self, index: DeviceIndex, text: String) {
        if self.said.len() < SAID_MAX || self.said.contains_key(&index) {
            self.said.insert(index, text);
        }
    }

    /// What the broker said last to a device, if that was kept.
    pub(super) fn said(&self, index: DeviceIndex) -> Option<&String> {
        self.said.get(&index)
    }

    /// Counts a device under another trouble than before.
    pub(super) fn trade(&mut self, before: Trouble, trouble: Trouble) {
        for (kind, step) in [(before, -1), (trouble, 1)] {
            let gauge = match kind {
                Trouble::None => continue,
                Trouble::Refused => &mut self.stats.devices.refused,
                Trouble::Own => &mut self.stats.devices.failed,
            };
            *gauge = gauge.saturating_add_signed(step);
        }
    }
}
