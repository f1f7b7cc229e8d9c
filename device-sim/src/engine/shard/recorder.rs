//! Records what the shard has counted, so that a successor of the process can tell it; see [`crate::record`].

use fleet_contract::{format::Format, stats::Stats, time::Micros, units::Span};

use super::Shard;
use crate::{
    agent::Agent,
    engine::{shard::counted::Counted, world::World},
    record::{Files, Record},
};

/// From the first change after a record to the next record.
const PACE: Span = Span::from_millis(50);

/// When a shard records what it has counted, and where.
pub(super) struct Recorder {
    /// `None` where nobody will look for it.
    files: Option<Files>,
    /// When the next record is due; [`Micros::NEVER`] while nothing has changed.
    due: Micros,
    /// What fell due up to here is counted.
    offered_until: Micros,
    /// Whether the last record could not be written.
    is_failing: bool,
    /// Whether the end is recorded.
    is_drained: bool,
}

impl Recorder {
    /// The first record is due at once: who dies soon has been there, too.
    pub(super) const fn new(files: Option<Files>, now: Micros) -> Self {
        let due = if files.is_some() { now } else { Micros::NEVER };
        Self { files, due, offered_until: now, is_failing: false, is_drained: false }
    }

    /// Whether anything is recorded.
    pub(super) const fn is_on(&self) -> bool {
        self.files.is_some()
    }

    /// Something has changed.
    pub(super) const fn note_change(&mut self, now: Micros) {
        if self.due.0 == Micros::NEVER.0 && self.files.is_some() {
            self.due = now.after(PACE);
        }
    }

    /// When the next record is due.
    pub(super) const fn due(&self) -> Micros {
        self.due
    }

    /// All that was due up to `until` was offered.
    pub(super) const fn offered(&mut self, until: Micros) {
        self.offered_until = until;
    }

    fn write(&mut self, record: &Record) {
        let Some(files) = &mut self.files else { return };
        self.due = Micros::NEVER;
        self.is_drained = record.is_drained;
        match files.write(record) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                // A record that is too old would be taken for the last one.
                files.clear();
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "what is counted cannot be recorded");
                }
            }
        }
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Records what has changed when it is time, before anything else happens in a turn, in which sockets may be ready.
    pub(super) fn begin_recorded_turn(&mut self, is_ready: bool) {
        let now = self.world.now();
        self.record_in_time(now);
        if is_ready || !self.buffers.unread.is_empty() {
            self.recorder.note_change(now);
        }
    }

    /// Records what has changed when it is time, before anything more is sent.
    pub(super) fn record_in_time(&mut self, now: Micros) {
        let is_over = self.life.is_draining && self.roster.devices.is_empty();
        let is_due = self.recorder.due <= now || is_over && !self.recorder.is_drained;
        if !is_due || self.recorder.files.is_none() {
            return;
        }
        let mut stats = self.counted.without_times();
        stats.devices.desired = self.roster.slots.count(self.course.population.at(now));
        let record = Record {
            format: Format::FIRST,
            run: self.course.plan.run,
            epoch: self.world.epoch(),
            slots: self.roster.slots,
            at: now,
            offered_until: self.recorder.offered_until,
            is_drained: is_over,
            stats,
        };
        self.recorder.write(&record);
    }
}

impl Counted {
    /// All counters since the start, without times and names of messages.
    fn without_times(&self) -> Stats {
        let Stats {
            devices,
            rejected,
            too_large,
            unwelcome,
            retained,
            receive_maximum,
            received,
            bytes,
            connections,
            faults,
            model_faults,
            wills,
            observer,
            generator,
            ..
        } = &self.stats;
        let mut stats = Stats {
            devices: *devices,
            rejected: rejected.clone(),
            too_large: too_large.clone(),
            unwelcome: unwelcome.clone(),
            retained: *retained,
            receive_maximum: *receive_maximum,
            received: received.clone(),
            bytes: *bytes,
            connections: connections.clone(),
            faults: faults.clone(),
            model_faults: model_faults.clone(),
            wills: *wills,
            observer: observer.clone(),
            generator: generator.clone(),
            ..Stats::default()
        };
        self.by_stream.count_in(&mut stats);
        stats
    }
}
