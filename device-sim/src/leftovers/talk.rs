//! What is said over a connection that removes something, or looks what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use fleet_contract::time::Micros;

use super::{Found, Stays, Way, unreachable};
use crate::{
    blueprint::Identity,
    index::StreamIndex,
    observe::bodies,
    session::{
        Event, Message, Options, Pool, Refusal, Session, Terms,
        codec::{
            self, FrameError, PacketId, Protocol, PublishFrame, Qos, SUBACK_FAILURE,
            v5::{Alias, SubscribeOptions},
        },
        said,
    },
    transport::{Errand, Error, Read},
};

/// The largest packet that is read where no messages come.
pub(super) const SMALL: usize = 64 * 1024;

/// The largest packet that is read where they do: the largest that a document can have devices take.
pub(super) const LARGE: usize = 16 * 1024 * 1024;

/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 64;

/// For how long messages are awaited behind the answer to the last request: some brokers look for retained ones beside the
/// connection that asks.
const QUIET: Duration = Duration::from_millis(300);

/// The clock of a session that lasts for seconds and has a deadline of its own.
const NOW: Micros = Micros(0);

/// Empty messages are of no stream of a model: their topics differ, and none goes by an alias.
const STREAM: StreamIndex = StreamIndex::new(0);

/// A session while it lasts.
pub(super) struct Line<'a> {
    session: Session,
    pool: Pool,
    options: &'a Options,
    out: Vec<u8>,
}

/// What is said over a session.
pub(super) trait Talk {
    /// Takes in what the broker says, and answers; whether all is said.
    fn hear(&mut self, line: &mut Line<'_>, event: Event<'_>) -> Result<bool, FrameError>;
}

/// A connection with its session.
pub(super) struct Call<'a> {
    errand: Errand,
    line: Line<'a>,
    inbox: Vec<u8>,
    packet_max: usize,
}

impl<'a> Call<'a> {
    /// Connects and says CONNECT; a will is none, so that no end of the connection publishes it.
    pub(super) fn open(
        way: &Way,
        options: &'a Options,
        identity: &Identity<'_>,
        packet_max: usize,
    ) -> Result<Self, Stays> {
        let mut errand = way.open()?;
        let mut line = Line { session: Session::new(), pool: Pool::new(), options, out: Vec::new() };
        let connect = codec::Connect { will: None, ..identity.connect() };
        let written = line.session.connect(&connect, options, NOW, &mut line.out);
        written.map_err(|error| Stays::Unreachable(error.to_string()))?;
        errand.send(&line.out).map_err(|error| unreachable(&error))?;
        line.out.clear();
        let inbox = vec![0; errand.inbox(packet_max)];
        Ok(Self { errand, line, inbox, packet_max })
    }

    /// Talks until all is said.
    pub(super) fn hold(&mut self, talk: &mut impl Talk) -> Result<(), Stays> {
        loop {
            let read = self.errand.read(&mut self.inbox).map_err(|error| closed(&error))?;
            let (Read::More(length) | Read::Drained(length) | Read::Closed(length)) = read;
            if self.take(length, talk)? {
                return Ok(());
            }
            match read {
                Read::More(_) => {}
                Read::Drained(_) => self.errand.wait().map_err(|error| silent(&error))?,
                Read::Closed(_) => return Err(Stays::Closed("it says nothing".into())),
            }
        }
    }

    /// Goes on for as long as something comes.
    pub(super) fn listen(&mut self, talk: &mut impl Talk) -> Result<(), Stays> {
        self.errand.limit(QUIET);
        match self.hold(talk) {
            Err(Stays::Silent) => Ok(()),
            held => held,
        }
    }

    /// Says goodbye.
    pub(super) fn part(mut self) {
        self.line.out.clear();
        self.line.session.disconnect(NOW, &mut self.line.out);
        self.errand.part(&self.line.out, &mut self.inbox);
    }

    /// Takes in so many bytes that have come; whether all is said.
    fn take(&mut self, length: usize, talk: &mut impl Talk) -> Result<bool, Stays> {
        let Self { errand, line, inbox, packet_max } = self;
        let (protocol, mut rest, mut is_over) = (line.options.protocol, &inbox[..length], false);
        while !is_over && let Some((packet, taken)) = codec::read(rest, protocol, *packet_max).map_err(broken)? {
            rest = &rest[taken..];
            let said = said::by_broker(&packet).map(|(_, text)| format!("; it says \"{text}\"")).unwrap_or_default();
            let Line { session, pool, options, out } = line;
            is_over = match session.receive(pool, options, packet, NOW, out).map_err(broken)? {
                Event::Refused(refusal) => return Err(Stays::Refused(format!("{refusal}{said}"))),
                Event::Disconnected(reason) => {
                    return Err(Stays::Closed(format!("{}{said}", Refusal::Reason(reason))));
                }
                event => talk.hear(line, event).map_err(broken)?,
            };
        }
        errand.keep(rest);
        if !line.out.is_empty() {
            errand.send(&line.out).map_err(|error| closed(&error))?;
            line.out.clear();
        }
        Ok(is_over)
    }
}

fn broken(error: impl std::fmt::Display) -> Stays {
    Stays::Closed(format!("what it says is none of MQTT: {error}"))
}

fn closed(error: &Error) -> Stays {
    Stays::Closed(error.to_string())
}

fn silent(error: &Error) -> Stays {
    if error.kind() == io::ErrorKind::TimedOut { Stays::Silent } else { closed(error) }
}

/// Clears topics, one message each.
pub(super) struct Clearing<'t> {
    topics: &'t [String],
    /// What the broker has answered, by topic.
    answers: Vec<Option<Result<(), Stays>>>,
    /// The topic to clear next.
    next: usize,
    is_accepted: bool,
}

impl<'t> Clearing<'t> {
    pub(super) fn new(topics: &'t [String]) -> Self {
        Self { topics, answers: vec![None; topics.len()], next: 0, is_accepted: false }
    }

    /// What became of each topic, given how the talk has ended.
    ///
    /// # Errors
    /// When the broker has not accepted the session.
    pub(super) fn answers(self, held: Result<(), Stays>) -> Result<Vec<Result<(), Stays>>, Stays> {
        let why = match held {
            Ok(()) => Stays::Silent,
            Err(Stays::Closed(error)) if !self.is_accepted => return Err(Stays::Unreachable(error)),
            Err(Stays::Silent) if !self.is_accepted => {
                return Err(Stays::Unreachable("it did not answer in time".into()));
            }
            Err(stays) if !self.is_accepted => return Err(stays),
            Err(stays) => stays,
        };
        Ok(self.answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(why.clone()))).collect())
    }

    /// Sends as many as the broker takes at a time.
    fn publish(&mut self, line: &mut Line<'_>) -> Result<(), FrameError> {
        let terms = line.session.terms();
        if !terms.is_none_or(|terms| terms.is_retain_available) {
            // Who keeps no message has none to remove, and ends the connection of whoever asks for it.
            self.answers.fill(Some(Ok(())));
            return Ok(());
        }
        // The lowest that is acknowledged, if the broker takes it.
        let qos = terms.map_or(Qos::AtLeastOnce, |terms: &Terms| terms.maximum_qos.min(Qos::AtLeastOnce));
        while let Some(topic) = self.topics.get(self.next) {
            let seq = u32::try_from(self.next).unwrap_or(u32::MAX);
            let message = Message { stream: STREAM, seq, due: NOW, qos };
            let published = line.session.publish(&mut line.pool, line.options, message, NOW);
            let Ok(packet_id) = published else { break };
            write_empty(&mut line.out, line.options.protocol, topic, qos, packet_id)?;
            if packet_id.is_none() {
                self.answers[self.next] = Some(Ok(()));
            }
            self.next += 1;
        }
        Ok(())
    }

    fn answer(&mut self, seq: u32, answer: Result<(), Stays>) {
        if let Some(place) = usize::try_from(seq).ok().and_then(|seq| self.answers.get_mut(seq)) {
            *place = Some(answer);
        }
    }
}

impl Talk for Clearing<'_> {
    fn hear(&mut self, line: &mut Line<'_>, event: Event<'_>) -> Result<bool, FrameError> {
        match event {
            Event::Connected { .. } => self.is_accepted = true,
            Event::Acknowledged(message) => self.answer(message.seq, Ok(())),
            Event::Rejected(message, reason) => self.answer(message.seq, Err(Stays::Denied(reason))),
            _ => {}
        }
        if self.is_accepted {
            self.publish(line)?;
        }
        Ok(self.is_accepted && self.answers.iter().all(Option::is_some))
    }
}

/// Writes a retained message without a body.
fn write_empty(
    out: &mut Vec<u8>,
    protocol: Protocol,
    topic: &str,
    qos: Qos,
    packet_id: Option<PacketId>,
) -> Result<(), FrameError> {
    let mut frame = PublishFrame::begin(out, qos, true, false);
    out.extend_from_slice(topic.as_bytes());
    frame.end_topic(out, packet_id);
    if protocol == Protocol::V5 {
        frame.write_properties(out, Alias::None, |_| Ok(()))?;
    }
    frame.finish(out).map(drop)
}

/// Looks which topics have a retained message.
pub(super) struct Search<'t> {
    topics: &'t [String],
    wanted: BTreeSet<&'t str>,
    /// SUBSCRIBEs that wait for their answer, with their filters.
    asked: BTreeMap<PacketId, &'t [String]>,
    /// Those that have one, with the digest of its payload.
    kept: BTreeMap<String, u64>,
    unread: Vec<String>,
}

impl<'t> Search<'t> {
    pub(super) fn new(topics: &'t [String]) -> Self {
        let wanted = topics.iter().map(String::as_str).collect();
        Self { topics, wanted, asked: BTreeMap::new(), kept: BTreeMap::new(), unread: Vec::new() }
    }

    pub(super) fn found(self) -> Found {
        Found { kept: self.kept.into_keys().collect(), unread: self.unread }
    }

    /// The topics that have a retained message, with the digest of its payload.
    ///
    /// # Errors
    /// When the broker does not let the client read one of them.
    pub(super) fn digests(self) -> Result<BTreeMap<String, u64>, Stays> {
        match self.unread.first() {
            None => Ok(self.kept),
            Some(topic) => Err(Stays::Refused(format!("it may not subscribe to `{topic}`"))),
        }
    }

    fn subscribe(&mut self, line: &mut Line<'_>) {
        for filters in self.topics.chunks(FILTERS_PER_PACKET) {
            let options = SubscribeOptions { qos: Qos::AtMostOnce, ..SubscribeOptions::default() };
            let asked: Vec<_> = filters.iter().map(|filter| (filter.as_str(), options)).collect();
            let Line { session, pool, options, out } = line;
            match session.subscribe(pool, options.protocol, &asked, NOW, out) {
                Ok(packet_id) => drop(self.asked.insert(packet_id, filters)),
                // Larger than the broker takes.
                Err(_) => self.unread.extend_from_slice(filters),
            }
        }
    }

    fn subscribed(&mut self, packet_id: PacketId, codes: &[u8]) {
        let filters = self.asked.remove(&packet_id).unwrap_or_default();
        let refused = filters.iter().zip(codes).filter(|(_, code)| **code >= SUBACK_FAILURE);
        self.unread.extend(refused.map(|(filter, _)| filter.clone()));
    }
}

impl Talk for Search<'_> {
    fn hear(&mut self, line: &mut Line<'_>, event: Event<'_>) -> Result<bool, FrameError> {
        match event {
            Event::Connected { .. } => self.subscribe(line),
            Event::Subscribed { packet_id, codes } => self.subscribed(packet_id, codes),
            Event::Received(publish) if publish.retain && self.wanted.contains(publish.topic) => {
                self.kept.insert(publish.topic.into(), bodies::digest(publish.payload));
            }
            Event::Pong => return Ok(true),
            _ => {}
        }
        // Most brokers answer in the order in which they are asked, so that what they keep comes before this answer.
        if matches!(event, Event::Connected { .. } | Event::Subscribed { .. }) && self.asked.is_empty() {
            codec::write_pingreq(&mut line.out);
        }
        Ok(false)
    }
}
