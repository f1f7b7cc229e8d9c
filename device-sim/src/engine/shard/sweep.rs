//! Looks through the ledger for messages that have not arrived in time; a quarter of the devices at a time.

use fleet_contract::{
    stats::{LostMessage, Stats},
    time::Micros,
    units::Span,
};

use super::Shard;
use crate::engine::{device::State, world::World};

/// From one look to the next; four of them see every device.
const INTERVAL: Span = Span::from_millis(125);

impl<W: World> Shard<W> {
    /// Judges what is overdue, and gives the memory of those who left back.
    pub(super) fn sweep(&mut self) {
        let now = self.world.now();
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now.after(INTERVAL);
        let until = (self.sweep_from + self.devices.len().div_ceil(4)).min(self.devices.len());
        for slot in self.sweep_from..until {
            self.expire(slot, now);
        }
        self.sweep_from = if until == self.devices.len() { 0 } else { until };
        self.trim();
    }

    /// A message is lost `lossAfter` after it was sent, or after the device or the observer came back.
    fn expire(&mut self, slot: usize, now: Micros) {
        let limit = now.before(self.blueprint.loss_after);
        let device = &self.devices[slot];
        let is_settling = device.leave_at <= now || device.is_yet_to_come(now) || self.is_draining;
        let inlet = self.inlet(slot);
        let may_still_come =
            (device.state != State::Up || device.since > limit) || inlet.since > limit || !inlet.watch.is_subscribed();
        if may_still_come && !is_settling {
            return;
        }
        let group = &self.blueprint.groups[usize::from(device.group)];
        let index = self.slots.index(slot);
        for (number, stream) in group.model.streams().iter().enumerate() {
            let row = &mut self.streams[device.streams as usize + number].row;
            if row.is_settled() {
                continue;
            }
            let (lost, memory) = (&mut self.stats.lost, &mut self.lost_memory);
            row.expire(limit, &mut self.by_stream.at(group.first_stream + number).messages, |message| {
                #[expect(clippy::cast_possible_truncation, reason = "a model has fewer than 65,536 streams")]
                memory.insert(index, number as u16, message.seq);
                if lost.len() < Stats::LOST_MAX {
                    lost.push(LostMessage {
                        sent: message.sent,
                        device: index,
                        stream: stream.name().to_owned(),
                        seq: message.seq,
                        qos: stream.qos(),
                        acknowledged: message.acknowledged,
                    });
                }
            });
        }
        if device.state == State::Leaving {
            self.settle(slot, now);
        }
    }
}
