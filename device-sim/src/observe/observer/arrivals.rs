//! What the observer makes of the messages that it receives, and how it hands them to the shards.

use fleet_contract::{
    model::StampMode,
    stamp::{self, PROPERTY, Stamp},
    time::Micros,
};

use super::{Observer, Parts};
use crate::{
    index::StreamIndex,
    observe::{Arrival, Arrivals, Mark, bodies},
    session::codec::Publish,
};

/// The body of one in so many messages of a stream is compared with what was sent, the first one always.
const COMPARED_EACH: u32 = 64;

/// Other runs that are told apart.
const OTHER_RUNS_MAX: usize = 8;

/// What a message is to this worker.
enum Sight {
    /// One of its own devices has sent it in this epoch.
    Own(Arrival),
    /// It is of the fleet's run, but another worker's, another observer's, or an earlier process's, whose ledger is closed.
    OfTheRun,
    /// It is of the same devices and of a process that began later.
    Successor,
    /// It is of the same devices and of a process that began earlier and still sends.
    Predecessor,
    /// Something else.
    Foreign,
}

impl Observer {
    /// Takes a message.
    pub(super) fn arrived(&mut self, publish: &Publish<'_>, now: Micros) {
        // Retained messages are what was, not what arrives.
        if publish.retain {
            return;
        }
        match self.recognise(publish, now) {
            Sight::Own(arrival) => {
                // Shards take devices in turns, counted from the first one of the worker.
                let outlets = self.parts.outlets.len();
                let outlet = (arrival.device.number() - self.parts.shard.first) as usize % outlets;
                self.parts.outlets[outlet].batch.push(arrival);
            }
            Sight::OfTheRun => {}
            Sight::Successor => self.yield_to_successor(now),
            Sight::Predecessor => self.parts.watch.saw_rival(now),
            Sight::Foreign => self.parts.watch.update(|stats| stats.foreign += 1),
        }
    }

    /// A will carries no stamp, and may have the topic of a stream: what no device of this run has said may be one.
    fn recognise(&self, publish: &Publish<'_>, now: Micros) -> Sight {
        let sight = self.recognise_message(publish, now);
        match sight {
            Sight::Foreign | Sight::Own(Arrival { mark: Mark::Body(_), .. })
                if self.parts.blueprint.follows_wills() =>
            {
                self.recognise_will(publish, now).unwrap_or(sight)
            }
            _ => sight,
        }
    }

    fn recognise_will(&self, publish: &Publish<'_>, now: Micros) -> Option<Sight> {
        let device = self.parts.blueprint.will_of(publish.topic.as_bytes(), publish.payload)?;
        let may_repeat = now < self.asked.repeats_until;
        let is_own = self.parts.shard.contains(device.number()) && self.parts.is_here(device);
        let own = Sight::Own(Arrival { device, stream: StreamIndex::new(0), mark: Mark::Will, at: now, may_repeat });
        Some(if is_own { own } else { Sight::OfTheRun })
    }

    fn recognise_message(&self, publish: &Publish<'_>, now: Micros) -> Sight {
        let Parts { blueprint, run, shard, clock, .. } = &self.parts;
        let topic = publish.topic.as_bytes();
        let recognised = blueprint.indexed_groups().find_map(|(index, group)| {
            let (stream, device) = group.model.recognise(topic)?;
            (blueprint.group_index(device) == index).then(|| (group.model.stream(stream).stamp(), stream, device))
        });
        let Some((mode, stream, device)) = recognised else { return Sight::Foreign };
        // Where the addresses are those of one broker, each observer sees what all devices publish.
        if !shard.contains(device.number()) || !self.parts.is_here(device) {
            return Sight::OfTheRun;
        }
        let may_repeat = now < self.asked.repeats_until;
        let own = |mark| Sight::Own(Arrival { device, stream, mark, at: now, may_repeat });
        match mode {
            StampMode::None => own(Mark::Body(bodies::digest(publish.payload))),
            StampMode::Counter(field) => {
                stamp::find_counter(publish.payload, field).map_or(Sight::Foreign, |seq| own(Mark::Counter(seq)))
            }
            StampMode::Field | StampMode::Property => match find(mode, publish) {
                None => Sight::Foreign,
                Some(stamp) if stamp.run != *run => {
                    self.saw_other_run(&stamp, now);
                    Sight::Foreign
                }
                Some(Stamp { seq, due, epoch, .. }) if epoch == clock.epoch() => {
                    let body = seq.is_multiple_of(COMPARED_EACH).then(|| bodies::digest(publish.payload));
                    own(Mark::Stamp { seq, due, body })
                }
                Some(stamp) if stamp.epoch > clock.epoch() => Sight::Successor,
                // What was on its way when this process began is none of a rival's.
                Some(stamp) if stamp.due > clock.epoch().after(blueprint.loss_after) => Sight::Predecessor,
                Some(_) => Sight::OfTheRun,
            },
        }
    }

    /// Two processes cannot share the sessions of a device, so the older one leaves, with all devices.
    fn yield_to_successor(&mut self, now: Micros) {
        self.parts.watch.saw_rival(now);
        if !std::mem::replace(&mut self.is_superseded, true) {
            tracing::warn!(client_id = self.client_id, "a newer process runs the devices of this one, which leaves");
            self.parts.watch.update(|stats| stats.superseded = 1);
            self.tell(|| Arrivals::Superseded);
        }
    }

    fn saw_other_run(&self, stamp: &Stamp, now: Micros) {
        if stamp.due < self.parts.blueprint.start {
            return;
        }
        self.parts.watch.saw_rival(now);
        self.parts.watch.update(|stats| {
            let run = format!("{:08x}", stamp.run);
            if stats.other_runs.len() < OTHER_RUNS_MAX || stats.other_runs.contains_key(&run) {
                *stats.other_runs.entry(run).or_default() += 1;
            }
        });
    }

    /// Hands the batches to the shards.
    pub(super) fn hand_out(&mut self) {
        for outlet in &mut self.parts.outlets {
            if !outlet.batch.is_empty() {
                let empty = outlet.used.try_recv().unwrap_or_default();
                let batch = std::mem::replace(&mut outlet.batch, empty);
                outlet.send(Arrivals::Messages(batch));
            }
        }
    }

    /// Tells every shard, behind what has arrived before.
    pub(super) fn tell(&mut self, message: impl Fn() -> Arrivals) {
        self.hand_out();
        for outlet in &self.parts.outlets {
            outlet.send(message());
        }
    }
}

/// The stamp of a message, where its stream has it.
fn find(mode: &StampMode, publish: &Publish<'_>) -> Option<Stamp> {
    match mode {
        StampMode::Property => publish.properties.user(PROPERTY).and_then(|text| Stamp::parse(text.as_bytes())),
        _ => Stamp::find(publish.payload),
    }
}
