//! Looks through the ledger for messages that have not arrived in time; a quarter of the devices at a time.

use fleet_contract::{
    stats::{LostMessage, Stats},
    time::Micros,
    units::Span,
};

use super::Shard;
use crate::{
    agent::Agent,
    engine::{device::State, slot::Slot, world::World},
};

/// From one look to the next; four of them see every device.
const INTERVAL: Span = Span::from_millis(125);

impl<W: World, A: Agent> Shard<W, A> {
    /// Judges what is overdue, and gives the memory of those who left back.
    pub(super) fn sweep(&mut self) {
        let now = self.world.now();
        if now < self.watched.sweep_at {
            return;
        }
        self.watched.sweep_at = now.after(INTERVAL);
        let until = (self.watched.sweep_from + self.roster.devices.len().div_ceil(4)).min(self.roster.devices.len());
        for place in self.watched.sweep_from..until {
            self.expire(Slot::new(place), now);
        }
        self.sweep_wills(now);
        self.watched.sweep_from = if until == self.roster.devices.len() { 0 } else { until };
        self.trim();
    }

    /// A message is lost `lossAfter` after it was sent, or after the device or the observer came back.
    fn expire(&mut self, slot: Slot, now: Micros) {
        let limit = now.before(self.blueprint.loss_after);
        let device = &self.roster.devices[slot];
        let is_settling = device.times.leave_at <= now || device.is_yet_to_come(now) || self.life.is_draining;
        let inlet = self.inlet(slot);
        let may_still_come = (device.state != State::Up || device.times.since > limit || self.faults.slows(slot))
            || inlet.since > limit
            || !inlet.watch.is_subscribed();
        if may_still_come && !is_settling {
            return;
        }
        let group = self.blueprint.group(device.group);
        let index = self.roster.index(slot);
        for (stream, compiled) in group.model.indexed_streams() {
            let row = &mut self.roster.streams[device.stream(stream)].row;
            if row.is_settled() {
                continue;
            }
            let (lost, memory) = (&mut self.counted.stats.lost, &mut self.watched.lost_memory);
            let recorder = &mut self.recorder;
            row.expire(limit, &mut self.counted.by_stream.counts(group.place_of(stream)), |message| {
                recorder.note_change(now);
                memory.insert(index, stream, message.seq);
                if lost.len() < Stats::LOST_MAX {
                    lost.push(LostMessage {
                        sent: message.sent,
                        device: index.number(),
                        stream: compiled.name().to_owned(),
                        seq: message.seq,
                        qos: compiled.qos(),
                        acknowledged: message.acknowledged,
                        phase: message.phase,
                    });
                }
            });
        }
        if device.state == State::Leaving {
            self.settle(slot, now);
        }
    }
}
