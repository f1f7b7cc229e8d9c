//! The agent of a shard: what it remembers of each device, what it has under way, and how what it wants is done.
//!
//! A message that is sent again is made again. What an agent's body takes from its memory may have changed by then, so it is kept:
//! the input of the body, not the body, from the effect until the message is neither queued nor unacknowledged. After PUBREC only
//! PUBREL is sent again, so it may go then.

use std::collections::HashMap;

use fleet_contract::{time::Micros, units::Span};

use super::{Shard, roster::Roster};
use crate::{
    agent::{Agent, Effect, Effects, Site},
    blueprint::Blueprint,
    engine::{
        causes,
        device::{Queued, State},
        slot::Slot,
        world::World,
    },
    index::StreamIndex,
    session::{
        RequestError,
        codec::{PacketId, Protocol, Publish, v5::SubscribeOptions},
    },
};

/// The agent, and what there is of it beside each device.
pub(super) struct Agents<A: Agent> {
    pub(super) agent: A,
    /// By slot. Of an agent that remembers nothing this takes no memory.
    memories: Vec<A::Memory>,
    /// What bodies are made of that are under way; only devices that have any are in it.
    kept: HashMap<Slot, Vec<Kept>>,
    /// Payloads of the wills that agents have worded.
    wills: HashMap<Slot, Box<[u8]>>,
}

/// What the body of a message is made of. A stream has at most one message at an instant.
#[derive(Debug)]
struct Kept {
    stream: StreamIndex,
    due: Micros,
    input: Box<[u8]>,
}

impl<A: Agent> Agents<A> {
    pub(super) fn new(agent: A) -> Self {
        Self { agent, memories: Vec::new(), kept: HashMap::new(), wills: HashMap::new() }
    }

    /// The agent, and what it remembers of a device.
    #[inline]
    pub(super) fn of(&mut self, slot: Slot) -> (&A, &mut A::Memory) {
        (&self.agent, &mut self.memories[slot.place()])
    }

    /// What the body of a message is made of beside stamp and device, if there is anything and it is still kept.
    #[inline]
    pub(super) fn kept(&self, slot: Slot, stream: StreamIndex, due: Micros) -> Option<&[u8]> {
        if !A::ANSWERS {
            return None;
        }
        let kept = self.kept.get(&slot)?.iter().find(|kept| kept.stream == stream && kept.due == due)?;
        Some(&kept.input)
    }

    /// The payload of the next will of a device, if the agent has worded it.
    pub(super) fn will(&self, slot: Slot) -> Option<&[u8]> {
        self.wills.get(&slot).map(|payload| &**payload)
    }

    /// Takes the last device out.
    pub(super) fn remove_last(&mut self, last: Slot) {
        self.memories.pop();
        self.forget(last);
    }

    /// Gives memory back that is far more than they need.
    pub(super) fn trim(&mut self) {
        if self.memories.capacity() > 2 * self.memories.len() + 1_024 {
            self.memories.shrink_to_fit();
            self.kept.shrink_to_fit();
            self.wills.shrink_to_fit();
        }
    }

    /// Forgets what a device has under way.
    fn forget(&mut self, slot: Slot) {
        self.kept.remove(&slot);
        self.wills.remove(&slot);
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub(super) fn keep_nothing(&self) -> bool {
        self.kept.is_empty()
    }
}

/// Whose turn it is.
pub(super) fn site<'a, C>(blueprint: &'a Blueprint, roster: &Roster<C>, slot: Slot) -> Site<'a> {
    let group = roster.devices[slot].group;
    let model = &blueprint.group(group).model;
    Site { group, model, device: roster.index(slot), start: blueprint.start }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// A device has come to the shard, behind all others. Its agent remembers nothing of an earlier one.
    pub(super) fn come(&mut self, slot: Slot, now: Micros) {
        let site = site(&self.blueprint, &self.roster, slot);
        let memory = self.agents.agent.begin(&site, now, &mut self.buffers.effects);
        self.agents.memories.push(memory);
        self.carry_out(slot, now);
    }

    /// A device has left the fleet: if it comes again, it does so as one that was never there.
    pub(super) fn begin_anew(&mut self, slot: Slot, now: Micros) {
        if !A::ANSWERS {
            return;
        }
        self.agents.forget(slot);
        let site = site(&self.blueprint, &self.roster, slot);
        self.agents.memories[slot.place()] = self.agents.agent.begin(&site, now, &mut self.buffers.effects);
        self.carry_out(slot, now);
    }

    /// A session has begun: what the device says then belongs to it, in a pause, too. False when the connection was lost over it.
    pub(super) fn greet(&mut self, slot: Slot, is_kept: bool, now: Micros) -> bool {
        self.buffers.out.clear();
        let site = site(&self.blueprint, &self.roster, slot);
        let (agent, memory) = self.agents.of(slot);
        agent.on_connected(memory, &site, is_kept, now, &mut self.buffers.effects);
        self.carry_out(slot, now);
        self.write_out(slot, now)
    }

    /// A message has come to a device; what it answers is appended to `out`.
    pub(super) fn hear(&mut self, slot: Slot, message: &Publish<'_>, now: Micros) {
        if !A::ANSWERS || self.roster.devices[slot].state != State::Up {
            return;
        }
        let site = site(&self.blueprint, &self.roster, slot);
        let (agent, memory) = self.agents.of(slot);
        agent.on_message(memory, &site, message, now, &mut self.buffers.effects);
        self.carry_out(slot, now);
    }

    /// The connection of a device is over, and it stays in the fleet.
    pub(super) fn tell_lost(&mut self, slot: Slot, now: Micros) {
        if !A::ANSWERS {
            return;
        }
        let site = site(&self.blueprint, &self.roster, slot);
        let (agent, memory) = self.agents.of(slot);
        agent.on_lost(memory, &site, now, &mut self.buffers.effects);
        self.carry_out(slot, now);
    }

    /// Does what an agent wants; what is to be written is appended to `out`.
    pub(super) fn carry_out(&mut self, slot: Slot, now: Micros) {
        if self.buffers.effects.is_empty() {
            return;
        }
        let mut effects = std::mem::take(&mut self.buffers.effects);
        for effect in effects.iter() {
            self.carry_out_one(slot, effect, &effects, now);
        }
        effects.clear();
        self.buffers.effects = effects;
        self.let_go(slot);
    }

    fn carry_out_one(&mut self, slot: Slot, effect: Effect, effects: &Effects, now: Micros) {
        match effect {
            Effect::Publish { stream, kept } => self.say(slot, stream, effects.bytes(kept), now),
            Effect::Subscribe { filter, options } => {
                let asked = self.request(slot, Some(options), effects.text(filter), now);
                self.note_request(asked);
            }
            Effect::Unsubscribe { filter } => {
                let asked = self.request(slot, None, effects.text(filter), now);
                self.note_request(asked);
            }
            Effect::Timer { stream, at } => {
                let at_stream = self.roster.devices[slot].stream(stream);
                let state = &mut self.roster.streams[at_stream];
                state.next_due = at.max(state.last_due.after(Span(1)));
                // Whoever is not there has its timer set when it comes.
                if self.roster.devices[slot].state != State::Absent {
                    self.set_timer(slot);
                }
            }
            Effect::Will { payload } => {
                self.agents.wills.insert(slot, effects.bytes(payload).into());
            }
        }
    }

    /// Offers a message of an event stream or a birth message, which is due now.
    fn say(&mut self, slot: Slot, stream: StreamIndex, input: &[u8], now: Micros) {
        let at = self.roster.devices[slot].stream(stream);
        let state = &mut self.roster.streams[at];
        // What is kept of a message is found by stream and instant.
        let due = if A::ANSWERS { now.max(state.last_due.after(Span(1))) } else { now };
        state.last_due = due;
        if A::ANSWERS && !input.is_empty() {
            self.agents.kept.entry(slot).or_default().push(Kept { stream, due, input: input.into() });
        }
        self.offer_one(slot, Queued { due, stream }, false, now);
    }

    /// Appends SUBSCRIBE with these options, or UNSUBSCRIBE without, to `out`.
    fn request(
        &mut self,
        slot: Slot,
        options: Option<SubscribeOptions>,
        filter: &str,
        now: Micros,
    ) -> Result<PacketId, RequestError> {
        let (session, out) = (&mut self.roster.devices[slot].session, &mut self.buffers.out);
        match (options, self.blueprint.session.protocol) {
            (Some(options), protocol) => session.subscribe(&self.pool, protocol, &[(filter, options)], now, out),
            (None, Protocol::V311) => session.unsubscribe(&self.pool, &[filter], now, out),
            (None, Protocol::V5) => session.unsubscribe5(&self.pool, &[filter], now, out),
        }
    }

    fn note_request(&mut self, asked: Result<PacketId, RequestError>) {
        if let Err(error) = asked {
            causes::add(&mut self.counted.stats.received.refused, error.into(), 1);
        }
    }

    /// Lets go of what is kept of messages that are neither queued nor unacknowledged.
    pub(super) fn let_go(&mut self, slot: Slot) {
        if !A::ANSWERS {
            return;
        }
        let Some(kept) = self.agents.kept.get_mut(&slot) else { return };
        let device = &self.roster.devices[slot];
        kept.retain(|kept| {
            let is_it = |stream: StreamIndex, due: Micros| kept.stream == stream && kept.due == due;
            let mut queued = device.queue.iter().flat_map(|queue| queue.iter());
            let mut in_flight = device.session.unacknowledged(&self.pool);
            queued.any(|message| is_it(message.stream, message.due))
                || in_flight.any(|message| is_it(message.stream, message.due))
        });
        if kept.is_empty() {
            self.agents.kept.remove(&slot);
        }
    }
}
