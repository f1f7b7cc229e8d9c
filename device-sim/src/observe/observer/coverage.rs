//! What the observer subscribes to, and what it does when the fleet outgrows its worker.
//!
//! As long as a worker has every device, a few wildcards do. When the fleet grows beyond it they would bring the
//! messages of all other workers, too; then the worker's devices are subscribed to by name first and the wildcards
//! unsubscribed some time afterwards: a message that was published before the broker knew the names, and is still on
//! its way through it, matches only the wildcards. In between a message may come twice.

use fleet_contract::time::Micros;

use super::{Coverage, Observer, Parts, subscribe_options};
use crate::{
    index::DeviceIndex,
    observe::{
        Arrivals,
        filters::{self, Filter},
    },
    session::{
        Phase,
        codec::{PacketId, Protocol, SUBACK_FAILURE},
    },
};

/// Filters in one packet: few enough for any broker's limit.
const FILTERS_PER_PACKET: usize = 64;

impl Observer {
    /// The fleet has another size.
    pub(super) fn follow_devices(&mut self, devices: u32) {
        let before = std::mem::replace(&mut self.parts.devices, devices);
        // Without a session there is nothing to add to: with the next one all is subscribed to.
        if devices <= before || self.session.phase() != Phase::Up {
            return;
        }
        match self.asked.coverage {
            Coverage::Wildcards if self.are_wildcards_fit() => {}
            Coverage::Wildcards => self.subscribe_by_name(),
            Coverage::Names { .. } => self.subscribe_names(),
        }
    }

    /// Subscribes to everything, after a connect.
    pub(super) fn subscribe_all(&mut self) {
        self.asked.pending.clear();
        self.asked.leaving.clear();
        self.asked.unsubscribe_at = Micros::NEVER;
        self.asked.refusals = 0;
        if !self.asked.session_present {
            self.asked.superseded.clear();
            self.asked.repeats_until = Micros(0);
        }
        if self.asked.coverage == Coverage::Wildcards && self.are_wildcards_fit() {
            let filters = filters::wildcards(&self.parts.blueprint);
            self.subscribe(&filters);
        } else {
            self.subscribe_by_name();
        }
    }

    fn are_wildcards_fit(&self) -> bool {
        let Parts { blueprint, shard, devices, .. } = &self.parts;
        filters::are_wildcards_fit(blueprint, *shard, *devices)
    }

    /// Subscribes to all devices of the worker by name, in place of wildcards if the broker has those.
    fn subscribe_by_name(&mut self) {
        if self.asked.coverage == Coverage::Wildcards && self.session_present_or_subscribed() {
            self.asked.superseded = filters::wildcards(&self.parts.blueprint);
            self.asked.repeats_until = Micros::NEVER;
        }
        self.asked.coverage = Coverage::Names { up_to: self.parts.shard.first };
        self.subscribe_names();
    }

    /// Whether the broker's session has what was subscribed to before.
    fn session_present_or_subscribed(&self) -> bool {
        self.asked.session_present || self.parts.watch.is_subscribed() || !self.asked.pending.is_empty()
    }

    /// Subscribes to the topics of the devices that have come since the last time.
    fn subscribe_names(&mut self) {
        let Parts { blueprint, shard, devices, .. } = &self.parts;
        let from = match self.asked.coverage {
            Coverage::Names { up_to } => up_to,
            Coverage::Wildcards => shard.first,
        };
        let to = (shard.first + shard.share_of(*devices)).max(from);
        let filters =
            filters::topics(blueprint, (from..to).map(DeviceIndex::new).filter(|index| self.parts.is_here(*index)));
        self.asked.coverage = Coverage::Names { up_to: to };
        self.subscribe(&filters);
        // A worker without devices has nothing to wait for.
        if filters.is_empty() {
            self.all_answered(self.parts.clock.now());
        }
    }

    fn subscribe(&mut self, filters: &[Filter]) {
        let now = self.parts.clock.now();
        let mut out = std::mem::take(&mut self.line.out);
        for chunk in filters.chunks(FILTERS_PER_PACKET) {
            let with_options = chunk.iter().map(|(filter, qos)| (filter.as_str(), subscribe_options(*qos)));
            let with_options: Vec<_> = with_options.collect();
            match self.session.subscribe(&self.pool, self.options.protocol, &with_options, now, &mut out) {
                Ok(packet_id) => drop(self.asked.pending.insert(packet_id, chunk.to_vec())),
                Err(error) => self.refuse(format!("no valid SUBSCRIBE: {error}")),
            }
        }
        self.line.out = out;
        self.write();
        self.line.out.clear();
    }

    /// A SUBSCRIBE was answered.
    pub(super) fn subscribed(&mut self, packet_id: PacketId, codes: &[u8], now: Micros) {
        let Some(filters) = self.asked.pending.remove(&packet_id) else { return };
        let refused = filters.iter().zip(codes).find(|(_, code)| **code >= SUBACK_FAILURE);
        if let Some(((filter, _), _)) = refused {
            self.refuse(format!("the broker refused the subscription to `{filter}`"));
        }
        if self.asked.pending.is_empty() {
            self.all_answered(now);
        }
    }

    fn refuse(&mut self, error: String) {
        self.asked.refusals += 1;
        self.parts.watch.update(|stats| stats.error = Some(error));
    }

    /// Nothing that was asked for is open any more.
    fn all_answered(&mut self, now: Micros) {
        if self.asked.refusals > 0 {
            return;
        }
        self.parts.watch.set_covered(match self.asked.coverage {
            Coverage::Wildcards => u32::MAX,
            Coverage::Names { up_to } => up_to,
        });
        if !self.parts.watch.is_subscribed() {
            if self.asked.was_subscribed {
                let session_present = self.asked.session_present;
                self.tell(|| Arrivals::Back { session_present, at: now });
            }
            self.asked.was_subscribed = true;
            self.parts.watch.set_subscribed(true);
        }
        let is_unsubscribing = self.asked.unsubscribe_at != Micros::NEVER || !self.asked.leaving.is_empty();
        if !self.asked.superseded.is_empty() && !is_unsubscribing {
            // What takes longer is lost anyhow.
            self.asked.unsubscribe_at = now.after(self.parts.blueprint.loss_after);
        }
    }

    /// Unsubscribes the wildcards once names do.
    pub(super) fn unsubscribe_in_time(&mut self) {
        let now = self.parts.clock.now();
        if now < self.asked.unsubscribe_at || self.session.phase() != Phase::Up {
            return;
        }
        self.asked.unsubscribe_at = Micros::NEVER;
        let mut out = std::mem::take(&mut self.line.out);
        for chunk in self.asked.superseded.chunks(FILTERS_PER_PACKET) {
            let filters: Vec<_> = chunk.iter().map(|(filter, _)| filter.as_str()).collect();
            let asked = match self.options.protocol {
                Protocol::V311 => self.session.unsubscribe(&self.pool, &filters, now, &mut out),
                Protocol::V5 => self.session.unsubscribe5(&self.pool, &filters, now, &mut out),
            };
            match asked {
                Ok(packet_id) => drop(self.asked.leaving.insert(packet_id)),
                Err(error) => tracing::warn!(%error, "the observer keeps its wildcards until it connects again"),
            }
        }
        self.line.out = out;
        self.write();
        self.line.out.clear();
    }

    /// An UNSUBSCRIBE was answered; what the broker had matched before may still be on its way.
    pub(super) fn unsubscribed(&mut self, packet_id: PacketId, now: Micros) {
        if self.asked.leaving.remove(&packet_id) && self.asked.leaving.is_empty() {
            self.asked.superseded.clear();
            self.asked.repeats_until = now.after(self.parts.blueprint.loss_after);
        }
    }
}
