//! An agent with all that an agent may have: it answers, sets a timer, moves a subscription, and words its wills.

use fleet_contract::{
    fleet,
    model::{Payload, Qos, StampMode, Stream},
    plan::Pace,
    time::Micros,
    units::Span,
};

use crate::{
    agent::{Agent, Effects, Made, Site, Telemetry},
    index::{GroupIndex, StreamIndex},
    model::Scratch,
    session::codec::{Publish, v5::SubscribeOptions},
};

/// The group whose devices echo what they hear, beside their telemetry.
const GROUP: &str = "echo";
/// From one ping to the next.
pub(super) const PACE: Span = Span::from_secs(1);
/// Whoever hears this moves to the other room.
pub(super) const MOVE: &[u8] = b"move";

const REPLY: &str = "echo.reply";
const PING: &str = "echo.ping";

/// Telemetry, and what the devices of one group do beside it.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    pub(super) echo: GroupIndex,
}

/// What a device remembers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// CONNECTs that are over.
    connects: u32,
    /// Messages that it has heard.
    heard: u32,
    /// Whether it is in the other room.
    has_moved: bool,
}

/// What a device in this room is subscribed to.
pub(super) fn room(device: u32, has_moved: bool) -> String {
    format!("rooms/{device}/{}", u8::from(has_moved))
}

fn event(topic: &str, qos: Qos) -> Stream {
    Stream {
        topic: topic.parse().unwrap(),
        payload: Payload::Text(" {stamp}".into()),
        qos,
        retain: false,
        stamp: StampMode::Field,
        interval: None,
        jitter: Span::ZERO,
        align: None,
        messages: None,
        trigger: None,
        check: None,
        at_least_every: None,
        at_most_every: None,
        size: None,
        properties: None,
        faults: Vec::new(),
    }
}

fn stream(site: &Site<'_>, name: &str) -> StreamIndex {
    site.model.indexed_streams().find(|(_, stream)| stream.name() == name).expect("a stream of the group").0
}

impl Beside {
    fn echoes(&self, site: &Site<'_>) -> bool {
        site.group == self.echo
    }
}

impl Agent for Beside {
    type Memory = Memory;
    const ANSWERS: bool = true;

    fn streams(&self, group: &fleet::Group) -> Vec<(String, Stream)> {
        let reply = event("{fleet}/{index}/reply", Qos::AtLeastOnce);
        let ping = event("{fleet}/{index}/ping", Qos::AtMostOnce);
        if group.name == GROUP { vec![(REPLY.into(), reply), (PING.into(), ping)] } else { Vec::new() }
    }

    fn words_will(&self, group: &fleet::Group) -> bool {
        group.name == GROUP
    }

    fn begin(&self, site: &Site<'_>, now: Micros, out: &mut Effects) -> Memory {
        if self.echoes(site) {
            out.will(b"0");
            out.timer(stream(site, PING), now.after(PACE));
        }
        Memory::default()
    }

    fn next_due(&self, site: &Site<'_>, stream: StreamIndex, pace: &Pace, from: Micros) -> Micros {
        Telemetry.next_due(site, stream, pace, from)
    }

    fn on_due(
        &self,
        _: &mut Memory,
        site: &Site<'_>,
        due_stream: StreamIndex,
        due: Micros,
        scratch: &mut Scratch,
        out: &mut Effects,
    ) -> bool {
        if self.echoes(site) && due_stream == stream(site, PING) {
            out.timer(due_stream, due.after(PACE));
        }
        Telemetry.on_due(&mut (), site, due_stream, due, scratch, out)
    }

    fn on_connected(&self, memory: &mut Memory, site: &Site<'_>, is_kept: bool, now: Micros, out: &mut Effects) {
        Telemetry.on_connected(&mut (), site, is_kept, now, out);
        if self.echoes(site) {
            out.subscribe(&room(site.device.number(), memory.has_moved), SubscribeOptions::default());
        }
    }

    fn on_message(&self, memory: &mut Memory, site: &Site<'_>, message: &Publish<'_>, _: Micros, out: &mut Effects) {
        memory.heard += 1;
        out.publish(stream(site, REPLY), &[memory.heard.to_string().as_bytes(), &b" "[..], message.payload].concat());
        if message.payload == MOVE {
            out.unsubscribe(&room(site.device.number(), memory.has_moved));
            memory.has_moved = !memory.has_moved;
            out.subscribe(&room(site.device.number(), memory.has_moved), SubscribeOptions::default());
        }
    }

    fn on_lost(&self, memory: &mut Memory, site: &Site<'_>, _: Micros, out: &mut Effects) {
        memory.connects += 1;
        if self.echoes(site) {
            out.will(memory.connects.to_string().as_bytes());
        }
    }

    fn encode(&self, site: &Site<'_>, made: Made<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        out.extend_from_slice(made.kept);
        Telemetry.encode(site, made, scratch, out);
    }
}
