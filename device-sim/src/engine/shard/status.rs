//! What a shard tells about itself and its devices.

use fleet_contract::{
    time::Micros,
    worker::{DeviceStatus, StreamStatus},
};

use super::{Reading, Shard, agents::site};
use crate::{
    agent::{Agent, Made},
    engine::{device::State, slot::Slot, world::World},
    index::{DeviceIndex, StreamIndex},
};

impl<W: World, A: Agent> Shard<W, A> {
    /// The statistics since the start, as of now.
    pub(super) fn reading(&mut self, now: Micros) -> Reading {
        self.counted.stats.sessions.count_until(now);
        self.counted.stats.faults.count_until(now);
        self.counted.exchange.leave(&mut self.counted.by_stream);
        let mut stats = self.counted.stats.clone();
        stats.devices.desired =
            if self.life.is_draining { 0 } else { self.roster.slots.count(self.course.population.at(now)) };
        // Whom the plan does not count any more, whether they leave now or are let go at the connect rate.
        stats.devices.leaving = self.roster.begun.count_from(Slot::new(stats.devices.desired as usize));
        stats.generator.shards = 1;
        let is_drained = self.life.is_draining && self.roster.devices.is_empty() && self.are_wills_settled();
        Reading { stats, is_drained }
    }

    /// How many devices have not tried to connect yet.
    pub(super) fn untried(&self) -> u32 {
        u32::try_from(self.roster.devices.iter().filter(|(_, device)| device.is_untried()).count()).unwrap_or(u32::MAX)
    }

    /// What is known of device `index`, if it is one of the shard's.
    pub(super) fn device_status(&mut self, index: DeviceIndex) -> Option<DeviceStatus> {
        let slot = self.roster.slot(index)?;
        let streams =
            StreamIndex::first(self.rows(slot).len()).map(|stream| self.stream_status(slot, stream)).collect();
        let device = &self.roster.devices[slot];
        let group = self.blueprint.group_of(index);
        let is_waiting = matches!(device.state, State::Offline);
        Some(DeviceStatus {
            index: index.number(),
            client_id: group.client_id.text(index.number()),
            group: group.name.clone(),
            model: group.model_name.clone(),
            state: <&str>::from(device.state).into(),
            last_error: device.last_error.map(Into::into),
            said: self.counted.said(index).cloned(),
            connects_at: is_waiting.then_some(device.times.connect_at),
            sessions: device.counts.sessions,
            in_flight: u32::from(device.session.in_flight()),
            streams,
        })
    }

    fn stream_status(&mut self, slot: Slot, stream: StreamIndex) -> StreamStatus {
        let index = self.roster.index(slot);
        let blueprint = std::sync::Arc::clone(&self.blueprint);
        let model = &blueprint.group_of(index).model;
        let compiled = model.stream(stream);
        let state = self.roster.stream(slot, stream);
        let (seq, due) = match state.row.next.checked_sub(1) {
            Some(last) => (last, state.last_due),
            None => (0, state.next_due.min(self.world.now())),
        };
        let in_flight = u32::try_from(state.row.in_flight()).unwrap_or(u32::MAX);
        let (sent, next_due) = (state.row.next, state.next_due);
        let stamp = self.stamp(seq, due);
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        model.write_topic(stream, index, &mut topic);
        let kept = self.agents.kept(slot, stream, due);
        // What an event was made of is gone once it is settled.
        if kept.is_some() || !compiled.is_event() {
            let (site, made) =
                (site(&blueprint, &self.roster, slot), Made::truly(stream, &stamp, kept.unwrap_or_default()));
            self.agents.agent.encode(&site, made, &mut self.buffers.scratch, &mut payload);
        }
        StreamStatus {
            name: compiled.name().to_owned(),
            topic: String::from_utf8_lossy(&topic).into_owned(),
            qos: compiled.qos() as u8,
            next_due: (next_due != Micros::NEVER).then_some(next_due),
            sent,
            settled: sent.saturating_sub(in_flight),
            in_flight,
            format: compiled.format(),
            payload: compiled.format().show(&payload),
            decoded: None,
        }
    }
}
