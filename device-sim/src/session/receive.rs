//! What the broker's packets mean, and the answers that they ask for.

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;

use super::codec::v5::{Properties, Reason};
use super::codec::{self, ConnackCode, Packet, PacketId, ProtocolError, Publish};
use super::pool::Taken;
use super::{Event, InFlight, Options, Phase, Pool, Refusal, Request, Session, Stage, Terms};

impl Session {
    /// Takes one packet of the broker's in, and writes the answer that it asks for.
    ///
    /// After an error the connection is to be closed (MQTT-4.8.0-1).
    pub fn receive<'p>(
        &mut self,
        pool: &mut Pool,
        options: &Options,
        packet: Packet<'p>,
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Result<Event<'p>, ProtocolError> {
        match self.phase {
            Phase::Connecting => return self.receive_connack(pool, options, packet, now),
            Phase::Up => {
                self.since = now;
                self.is_pinging = false;
            }
            Phase::Closing | Phase::Offline => return Ok(self.receive_late(pool, packet)),
        }
        let written = out.len();
        let event = match packet {
            Packet::Connack { .. } | Packet::Connack5 { .. } => return Err(ProtocolError::SecondConnack),
            Packet::Publish(publish) => self.receive_publish(publish, out),
            Packet::Puback(id) => self.receive_puback(pool, id),
            Packet::Pubrec(id) => self.receive_pubrec(pool, id, out),
            Packet::Pubrel(id) => self.receive_pubrel(id, out),
            Packet::Pubcomp(id) => self.receive_pubcomp(pool, id),
            Packet::Suback { packet_id, codes } => self.receive_suback(packet_id, codes)?,
            Packet::Unsuback(id) => self.receive_unsuback(id),
            Packet::Pingresp => Event::Pong,
            Packet::Rejected { packet_id, qos, reason } => self.receive_rejected(pool, packet_id, qos, reason),
            Packet::UnsubackFailure { packet_id, codes } => match self.receive_unsuback(packet_id) {
                Event::Unsubscribed(packet_id) => Event::NotUnsubscribed { packet_id, codes },
                event => event,
            },
            Packet::Disconnect { reason, .. } => {
                self.close(now);
                return Ok(Event::Disconnected(reason));
            }
            Packet::Auth { reason, properties } => challenged(options, reason, properties)?,
        };
        if out.len() > written {
            self.last_sent = now;
        }
        Ok(event)
    }

    fn receive_connack<'p>(
        &mut self,
        pool: &mut Pool,
        options: &Options,
        packet: Packet<'p>,
        now: Micros,
    ) -> Result<Event<'p>, ProtocolError> {
        let (session_present, refusal) = match packet {
            Packet::Connack { session_present, code } => {
                (session_present, (code != ConnackCode::Accepted).then_some(Refusal::Code(code)))
            }
            Packet::Connack5 { session_present, reason, .. } => {
                (session_present, reason.is_error().then_some(Refusal::Reason(reason)))
            }
            Packet::Auth { reason, properties } => return challenged(options, reason, properties),
            _ => return Err(ProtocolError::BeforeConnack),
        };
        if let Some(refusal) = refusal {
            self.close(now);
            return Ok(Event::Refused(refusal));
        }
        if session_present && options.clean {
            return Err(ProtocolError::SessionNotClean);
        }
        self.phase = Phase::Up;
        self.since = now;
        if !session_present {
            self.forget(pool, options);
        }
        if let Packet::Connack5 { properties, .. } = packet {
            self.agree(pool, properties);
        }
        self.start_recovery();
        Ok(Event::Connected { session_present })
    }

    /// Notes what the broker allows.
    fn agree(&mut self, pool: &Pool, properties: Properties<'_>) {
        let (terms, assigned) = Terms::read(properties, self.releasing.iter(pool).count());
        let rare = self.rare.get_or_insert_default();
        rare.terms = Some(terms);
        if let Some(assigned) = assigned {
            rare.assigned_id = Some(assigned.into());
        }
    }

    fn receive_publish<'p>(&mut self, publish: Publish<'p>, out: &mut Vec<u8>) -> Event<'p> {
        match (publish.qos, publish.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => codec::write_puback(out, id),
            (Qos::ExactlyOnce, Some(id)) => {
                codec::write_pubrec(out, id);
                let received = &mut self.rare.get_or_insert_default().received;
                if received.contains(&id) {
                    return Event::Repeated(id);
                }
                received.push(id);
            }
            _ => {}
        }
        Event::Received(publish)
    }

    fn receive_puback(&mut self, pool: &mut Pool, id: PacketId) -> Event<'static> {
        match self.publishing.take(pool, id, Qos::AtLeastOnce) {
            Some((taken, message)) => self.acknowledged(taken, message),
            None => Event::Unsolicited(id),
        }
    }

    /// The broker has no use for the message, and its identifier is free (§4.3.2, §4.3.3).
    fn receive_rejected(&mut self, pool: &mut Pool, id: PacketId, qos: Qos, reason: Reason) -> Event<'static> {
        match self.publishing.take(pool, id, qos) {
            Some((taken, message)) => {
                self.settled(taken);
                Event::Rejected(message, reason)
            }
            None => Event::Unsolicited(id),
        }
    }

    /// An unknown identifier is released too, so that the broker can forget it; unless it belongs
    /// to a message of QoS 1.
    fn receive_pubrec(&mut self, pool: &mut Pool, id: PacketId, out: &mut Vec<u8>) -> Event<'static> {
        let event = if self.release(pool, id) {
            Event::Progress
        } else if self.publishing.iter(pool).any(|message| message.packet_id == id) {
            return Event::Unsolicited(id);
        } else if self.releasing.iter(pool).any(|message| message.packet_id == id) {
            Event::Progress
        } else {
            Event::Unsolicited(id)
        };
        codec::write_pubrel(out, id);
        event
    }

    /// A PUBREL is always answered, for the broker may have missed the answer (MQTT-4.3.3-2).
    fn receive_pubrel(&mut self, id: PacketId, out: &mut Vec<u8>) -> Event<'static> {
        codec::write_pubcomp(out, id);
        let received = self.rare.as_mut().map(|rare| &mut rare.received);
        if let Some(received) = received
            && let Some(at) = received.iter().position(|&received| received == id)
        {
            received.remove(at);
        }
        Event::Progress
    }

    fn receive_pubcomp(&mut self, pool: &mut Pool, id: PacketId) -> Event<'static> {
        match self.releasing.take(pool, id, Qos::ExactlyOnce) {
            Some((taken, message)) => self.acknowledged(taken, message),
            None => Event::Unsolicited(id),
        }
    }

    fn receive_suback<'p>(&mut self, packet_id: PacketId, codes: &'p [u8]) -> Result<Event<'p>, ProtocolError> {
        let found = codes.len();
        match self.answered(packet_id, |request| request.filters.is_some()).and_then(|request| request.filters) {
            None => Ok(Event::Unsolicited(packet_id)),
            Some(expected) if expected == found => Ok(Event::Subscribed { packet_id, codes }),
            Some(expected) => Err(ProtocolError::SubackCount { expected, found }),
        }
    }

    fn receive_unsuback(&mut self, packet_id: PacketId) -> Event<'static> {
        match self.answered(packet_id, |request| request.filters.is_none()) {
            None => Event::Unsolicited(packet_id),
            Some(_) => Event::Unsubscribed(packet_id),
        }
    }

    /// Nothing may be sent any more, but what is delivered is delivered.
    fn receive_late(&mut self, pool: &mut Pool, packet: Packet<'_>) -> Event<'static> {
        match packet {
            Packet::Puback(id) => self.receive_puback(pool, id),
            Packet::Pubcomp(id) => self.receive_pubcomp(pool, id),
            Packet::Rejected { packet_id, qos, reason } => self.receive_rejected(pool, packet_id, qos, reason),
            Packet::Pubrec(id) => {
                self.release(pool, id);
                Event::Progress
            }
            _ => Event::Progress,
        }
    }

    /// Takes a request out that was answered; the box goes when it has become empty.
    fn answered(&mut self, packet_id: PacketId, is_of_kind: impl Fn(&Request) -> bool) -> Option<Request> {
        let rare = self.rare.as_mut()?;
        let is_answered = |request: &Request| request.packet_id == packet_id && is_of_kind(request);
        let at = rare.requests.iter().position(is_answered)?;
        let request = rare.requests.swap_remove(at);
        // A device asks once a session, and the next one is far away.
        if rare.requests.is_empty() {
            rare.requests = Vec::new();
        }
        // The list of received messages keeps its memory while it is in use.
        if rare.is_empty() {
            self.rare = None;
        }
        Some(request)
    }

    /// PUBREC came: the message is the broker's now.
    fn release(&mut self, pool: &mut Pool, id: PacketId) -> bool {
        let Some((taken, message)) = self.publishing.take(pool, id, Qos::ExactlyOnce) else {
            return false;
        };
        self.releasing.push(pool, InFlight { stage: Stage::Released, ..message });
        self.skip(taken);
        true
    }

    fn acknowledged(&mut self, taken: Taken, message: InFlight) -> Event<'static> {
        self.settled(taken);
        Event::Acknowledged(message)
    }

    /// A message is no longer in flight.
    pub(super) fn settled(&mut self, taken: Taken) {
        self.in_flight -= 1;
        self.skip(taken);
        if let Some(terms) = self.terms_mut() {
            terms.give_quota();
        }
    }
}

/// AUTH answers a CONNECT that has begun an authentication, and nothing else (MQTT-4.12.0-6).
fn challenged<'p>(options: &Options, reason: Reason, properties: Properties<'p>) -> Result<Event<'p>, ProtocolError> {
    match options.properties.authentication {
        Some(_) => Ok(Event::Challenged(reason, properties)),
        None => Err(ProtocolError::UnexpectedAuth),
    }
}
