//! Messages and requests on their way out, and the packet identifiers that they go under.

use fleet_contract::qos::Qos;
use fleet_contract::time::Micros;

use super::codec::v5::{self, SubscribeOptions};
use super::codec::{self, FrameError, PacketId, Protocol};
use super::{InFlight, Message, Options, Phase, Pool, Request, RequestError, Session, Stage, Terms, Withheld};

impl Session {
    /// Takes a message in, which the driver then encodes under the returned packet identifier.
    ///
    /// At QoS 0 there is no identifier, and nothing is kept.
    pub fn publish(
        &mut self,
        pool: &mut Pool,
        options: &Options,
        message: Message,
        now: Micros,
    ) -> Result<Option<PacketId>, Withheld> {
        if self.phase != Phase::Up {
            return Err(Withheld::Offline);
        }
        let Message { stream, seq, due, qos } = message;
        if qos == Qos::AtMostOnce {
            self.last_sent = now;
            return Ok(None);
        }
        if self.is_recovering() {
            return Err(Withheld::Recovering);
        }
        if self.in_flight >= options.window {
            return Err(Withheld::WindowFull);
        }
        if self.terms().is_some_and(Terms::is_exhausted) {
            return Err(Withheld::WindowFull);
        }
        let packet_id = self.next_packet_id(pool).ok_or(Withheld::WindowFull)?;
        if let Some(terms) = self.terms_mut() {
            terms.take_quota();
        }
        let stage = Stage::Published;
        let message = InFlight { due, sent: now, seq, stream, packet_id, qos, stage, dup: false };
        self.publishing.push(pool, message);
        self.in_flight += 1;
        self.last_sent = now;
        Ok(Some(packet_id))
    }

    /// The messages that wait for the broker's PUBACK or PUBREC, the oldest first.
    pub fn unacknowledged<'p>(&self, pool: &'p Pool) -> impl Iterator<Item = &'p InFlight> + use<'p> {
        self.publishing.iter(pool)
    }

    /// How many filters were asked for on this connection and are not yet answered.
    pub fn unanswered_filters(&self) -> usize {
        self.rare.iter().flat_map(|rare| &rare.requests).filter_map(|request| request.filters).sum()
    }

    /// Writes SUBSCRIBE; [`Event::Subscribed`](super::Event::Subscribed) answers it. A connection that is lost before takes
    /// the request with it. Of the options of a filter MQTT 3.1.1 has the QoS alone.
    pub fn subscribe(
        &mut self,
        pool: &Pool,
        protocol: Protocol,
        filters: &[(&str, SubscribeOptions)],
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, RequestError> {
        self.request(pool, Some(filters.len()), now, out, |id, out| match protocol {
            Protocol::V311 => {
                let filters: Vec<_> = filters.iter().map(|(filter, options)| (*filter, options.qos)).collect();
                codec::write_subscribe(out, id, &filters)
            }
            Protocol::V5 => v5::write_subscribe(out, id, filters),
        })
    }

    /// Writes UNSUBSCRIBE of MQTT 5; [`Event::Unsubscribed`](super::Event::Unsubscribed) answers it, or
    /// [`Event::NotUnsubscribed`](super::Event::NotUnsubscribed).
    pub fn unsubscribe5(
        &mut self,
        pool: &Pool,
        filters: &[&str],
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, RequestError> {
        self.request(pool, None, now, out, |id, out| v5::write_unsubscribe(out, id, filters))
    }

    /// Takes a message back that [`Session::publish`] or [`Session::next_resend`] has just handed out, because its
    /// packet is larger than the broker takes and was not written.
    pub fn retract(&mut self, pool: &mut Pool, packet_id: PacketId) -> Option<InFlight> {
        let find = |qos| self.publishing.take(pool, packet_id, qos);
        let (taken, message) = [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().find_map(find)?;
        self.settled(taken);
        Some(message)
    }

    /// Writes UNSUBSCRIBE; [`Event::Unsubscribed`](super::Event::Unsubscribed) answers it.
    pub fn unsubscribe(
        &mut self,
        pool: &Pool,
        filters: &[&str],
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Result<PacketId, RequestError> {
        self.request(pool, None, now, out, |id, out| codec::write_unsubscribe(out, id, filters))
    }

    fn request(
        &mut self,
        pool: &Pool,
        filters: Option<usize>,
        now: Micros,
        out: &mut Vec<u8>,
        write: impl FnOnce(PacketId, &mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<PacketId, RequestError> {
        if self.phase != Phase::Up {
            return Err(RequestError::Offline);
        }
        let packet_id = self.next_packet_id(pool).ok_or(RequestError::NoPacketId)?;
        let start = out.len();
        write(packet_id, out)?;
        if out.len() - start > self.maximum_packet_size() {
            out.truncate(start);
            return Err(RequestError::TooLarge);
        }
        self.rare.get_or_insert_default().requests.push(Request { packet_id, filters });
        self.last_sent = now;
        Ok(packet_id)
    }

    /// The next packet identifier that is not in use (MQTT-2.3.1-2), round and round.
    fn next_packet_id(&mut self, pool: &Pool) -> Option<PacketId> {
        if self.free_ids == 0 {
            self.find_free_ids(pool)?;
        }
        let packet_id = PacketId::new(self.next_id)?;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.free_ids -= 1;
        Some(packet_id)
    }

    /// Finds the next run of free identifiers. Once per run, so that a message costs no search.
    fn find_free_ids(&mut self, pool: &Pool) -> Option<()> {
        let mut used = [0_u64; 1 << 10];
        let mut mark = |id: PacketId| used[usize::from(id.get()) >> 6] |= 1 << (id.get() & 63);
        self.publishing.iter(pool).chain(self.releasing.iter(pool)).for_each(|message| mark(message.packet_id));
        self.rare.iter().flat_map(|rare| &rare.requests).for_each(|request| mark(request.packet_id));
        let is_free = |id: &u16| used[usize::from(*id) >> 6] & 1 << (id & 63) == 0;

        let mut round = (self.next_id..=u16::MAX).chain(1..self.next_id).skip_while(|id| !is_free(id));
        self.next_id = round.next()?;
        let more = round.take_while(is_free).count();
        self.free_ids = u16::try_from(1 + more).unwrap_or(u16::MAX);
        Some(())
    }
}
