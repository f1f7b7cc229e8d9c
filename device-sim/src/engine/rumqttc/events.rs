//! What rumqttc reports: packets sent and received, sessions accepted, refused and lost.

use std::io;

use fleet_contract::{qos::Qos, time::Micros};
use rumqttc::{ConnectReturnCode, ConnectionError, Event, Outgoing, Packet, StateError, mqttbytes};

use super::books::{Books, InFlight, Stage, Turn};
use crate::{
    engine::{
        causes,
        device::{Queued, State, Trouble},
        shard::{CLOSED, YOUNG},
    },
    session::{backoff, codec::ConnackCode},
    transport::{NoAddress, is_own, label},
};

/// The length of every packet that holds nothing but a packet identifier.
const ACKNOWLEDGEMENT_BYTES: u64 = 4;

/// The length of PINGREQ and DISCONNECT.
const BARE_BYTES: u64 = 2;

impl Books {
    /// Takes an event of an accepted session in.
    pub(super) fn take(&mut self, turn: &mut Turn<'_>, event: &Event) {
        match event {
            Event::Outgoing(outgoing) => self.sent(turn, outgoing),
            Event::Incoming(packet) => self.received(turn, packet),
        }
    }

    fn sent(&mut self, turn: &mut Turn<'_>, outgoing: &Outgoing) {
        let bytes = match outgoing {
            Outgoing::Publish(packet_id) => self.published(turn, *packet_id),
            Outgoing::PubAck(_) | Outgoing::PubRec(_) | Outgoing::PubRel(_) | Outgoing::PubComp(_) => {
                ACKNOWLEDGEMENT_BYTES
            }
            Outgoing::PingReq | Outgoing::Disconnect => BARE_BYTES,
            // A collision: the message goes out when the identifier is free, and is reported then.
            Outgoing::AwaitAck(_) | Outgoing::PingResp | Outgoing::Subscribe(_) | Outgoing::Unsubscribe(_) => 0,
        };
        turn.stripe.stats.bytes.sent += bytes;
    }

    /// A PUBLISH went out: again, or the next one of the channel.
    fn published(&mut self, turn: &mut Turn<'_>, packet_id: u16) -> u64 {
        let is_again = |other: &&mut InFlight| other.packet_id == packet_id && other.stage == Stage::Lost;
        if let Some(again) = self.in_flight.iter_mut().find(is_again) {
            again.stage = Stage::Sent;
            let message = again.message;
            self.messages(turn, Queued { due: message.due, stream: message.stream }).resent += 1;
            return message.bytes;
        }
        let Some(message) = self.waiting.pop_front() else { return 0 };
        if packet_id != 0 {
            self.in_flight.push_back(InFlight { message, packet_id, stage: Stage::Sent });
        }
        message.bytes
    }

    fn received(&mut self, turn: &mut Turn<'_>, packet: &Packet) {
        turn.stripe.stats.bytes.received += packet.size() as u64;
        match packet {
            Packet::PubAck(ack) => self.acknowledged(turn, ack.pkid, Stage::Sent),
            Packet::PubComp(ack) => self.acknowledged(turn, ack.pkid, Stage::Released),
            Packet::PubRec(ack) => match self.find(ack.pkid, Stage::Sent) {
                Some(at) => self.in_flight[at].stage = Stage::Released,
                None => turn.stripe.stats.connections.unsolicited += 1,
            },
            _ => {}
        }
    }

    fn acknowledged(&mut self, turn: &mut Turn<'_>, packet_id: u16, stage: Stage) {
        match self.find(packet_id, stage).and_then(|at| self.in_flight.remove(at)) {
            Some(InFlight { message, .. }) => {
                let (group, now) = (self.group(turn), turn.now);
                let stats = turn.stripe.by_stream.of(group, message.stream, message.due);
                stats.messages.acknowledged += 1;
                stats.latency.publish_ack.record(now.since(message.due));
            }
            None => turn.stripe.stats.connections.unsolicited += 1,
        }
    }

    /// Acknowledgements mostly come in order, so the first one is mostly it.
    fn find(&self, packet_id: u16, stage: Stage) -> Option<usize> {
        self.in_flight.iter().position(|message| message.packet_id == packet_id && message.stage == stage)
    }

    /// The broker has accepted the session; without one from before, rumqttc has forgotten all that it had.
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>, session_present: bool) {
        if !session_present {
            self.abandon(turn);
        }
        let stats = &mut turn.stripe.stats;
        stats.connections.accepted += 1;
        turn.stripe.by_stream.latency(self.connect_at).connect.record(turn.now.since(self.connect_at));
        let lost_at = std::mem::replace(&mut self.lost_at, Micros::NEVER);
        if lost_at != Micros::NEVER {
            stats.connections.reconnects += 1;
            turn.stripe.by_stream.latency(lost_at).recovery.record(turn.now.since(lost_at));
            stats.sessions.back(turn.now);
        }
        self.sessions += 1;
        self.state = State::Up;
        self.since = turn.now;
        self.trouble = Trouble::None;
        self.start_timetable(turn);
    }

    /// An attempt to connect has failed, or the broker has refused the session.
    pub(super) fn failed(&mut self, turn: &mut Turn<'_>, error: &ConnectionError) {
        let connections = &mut turn.stripe.stats.connections;
        let reason = if let ConnectionError::ConnectionRefused(code) = error {
            let reason = refusal(*code);
            causes::add(&mut connections.refused, reason, 1);
            self.trouble = Trouble::Refused;
            reason
        } else {
            let reason = reason(error);
            causes::add(&mut connections.failed, reason, 1);
            self.trouble = io_error(error).filter(|error| is_own(error)).map_or(Trouble::None, |_| Trouble::Own);
            turn.shared.brokers.of(self.index).resolver.refresh();
            reason
        };
        self.retry(turn, reason);
    }

    /// The broker's name has no address yet.
    pub(super) fn without_address(&mut self, turn: &mut Turn<'_>, none: NoAddress) {
        causes::add(&mut turn.stripe.stats.connections.failed, none.cause(), 1);
        turn.shared.brokers.of(self.index).resolver.refresh();
        if none != NoAddress::Unresolved {
            self.trouble = Trouble::Own;
            return self.retry(turn, none.cause());
        }
        let attempts = std::mem::take(&mut self.attempts);
        self.retry(turn, none.cause());
        self.attempts = attempts;
    }

    /// The connection of an accepted session is gone.
    pub(super) fn lost(&mut self, turn: &mut Turn<'_>, error: &ConnectionError) {
        let reason = reason(error);
        causes::add(&mut turn.stripe.stats.connections.lost, reason, 1);
        turn.shared.brokers.of(self.index).resolver.refresh();
        for message in &mut self.in_flight {
            if message.stage == Stage::Sent {
                message.stage = Stage::Lost;
            }
        }
        // A session that ends at once is no success; else two runs with the same ids would race for ever.
        if self.since.after(YOUNG) < turn.now {
            self.attempts = 0;
        }
        self.since = turn.now;
        self.lost_at = turn.now;
        turn.stripe.stats.sessions.lost(turn.now);
        self.retry(turn, reason);
    }

    /// Puts the next attempt off, longer after each failure.
    fn retry(&mut self, turn: &mut Turn<'_>, reason: &'static str) {
        let draw = turn.shared.blueprint.draws.waits.of(self.index).at(turn.now.0);
        let wait = backoff::delay(&turn.shared.blueprint.connect.backoff, self.attempts, draw.0);
        self.state = State::Offline;
        self.last_error = Some(reason);
        self.attempts = self.attempts.saturating_add(1);
        self.connect_at = turn.now.after(wait);
        if self.lost_at != Micros::NEVER {
            turn.stripe.stats.sessions.backoff_micros += wait.0;
        }
    }

    /// Counts what rumqttc has forgotten, or what it has when its device goes.
    pub(super) fn abandon(&mut self, turn: &mut Turn<'_>) {
        let group = self.group(turn);
        let in_flight = self.in_flight.drain(..).map(|in_flight| in_flight.message);
        for message in in_flight.chain(self.waiting.drain(..)) {
            if message.qos != Qos::AtMostOnce {
                turn.stripe.by_stream.of(group, message.stream, message.due).messages.abandoned += 1;
            }
        }
    }
}

/// The broker's code, under the name that the native engine gives it.
fn refusal(code: ConnectReturnCode) -> &'static str {
    let code = match code {
        ConnectReturnCode::Success => ConnackCode::Accepted,
        ConnectReturnCode::RefusedProtocolVersion => ConnackCode::UnacceptableProtocolVersion,
        ConnectReturnCode::BadClientId => ConnackCode::IdentifierRejected,
        ConnectReturnCode::ServiceUnavailable => ConnackCode::ServerUnavailable,
        ConnectReturnCode::BadUserNamePassword => ConnackCode::BadUserNameOrPassword,
        ConnectReturnCode::NotAuthorized => ConnackCode::NotAuthorized,
    };
    code.into()
}

/// The name of an error, for counters; the same as the native engine's where both know it.
fn reason(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::NetworkTimeout => "connect_timeout",
        ConnectionError::FlushTimeout => "flush_timeout",
        ConnectionError::ConnectionRefused(code) => refusal(*code),
        ConnectionError::NotConnAck(_) => "before_connack",
        ConnectionError::RequestsDone => "requests_done",
        ConnectionError::MqttState(StateError::ConnectionAborted) => CLOSED,
        ConnectionError::MqttState(StateError::AwaitPingResp) => "no_pingresp",
        ConnectionError::MqttState(StateError::Unsolicited(_)) => "unsolicited_acknowledgement",
        ConnectionError::MqttState(StateError::CollisionTimeout) => "collision_timeout",
        _ => io_error(error).map_or("protocol_error", label),
    }
}

fn io_error(error: &ConnectionError) -> Option<&io::Error> {
    match error {
        ConnectionError::Io(error)
        | ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) => Some(error),
        _ => None,
    }
}
