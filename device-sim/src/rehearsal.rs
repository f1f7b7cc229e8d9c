//! One session as a device and one as the observer of a fleet, before any of them connects: does the broker let them in
//! under their own names, and let them subscribe?
//!
//! Nothing is acknowledged, so that a session which the broker has kept loses none of its messages; a session that the
//! broker did not have is ended again.

use std::{io, net::SocketAddr, time::Duration};

use fleet_contract::{
    fleet::Observe,
    plan::{Plan, Shard},
    time::Micros,
    worker::{Assignment, Document, observer_client_id},
};

use crate::{
    blueprint::{Blueprint, BlueprintError, Identity},
    index::DeviceIndex,
    observe::{filters, observer},
    session::{
        Event, Options, Pool, Refusal, Session,
        codec::{
            self, Protocol, SUBACK_FAILURE,
            v5::{Reason, SubscribeOptions},
        },
        said,
    },
    transport::{Errand, Error, Read, Route},
};

/// The largest packet that is read, and so the largest that the document can have devices take: a retained message may
/// come with the SUBACK.
const PACKET_MAX: usize = 16 * 1024 * 1024;

/// Filters in one SUBSCRIBE, as few as the observer asks for.
const FILTERS_PER_PACKET: usize = 64;

/// The clock of a session that lasts for seconds and has a deadline of its own.
const NOW: Micros = Micros(0);

/// Who signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A device.
    Device,
    /// The observer.
    Observer,
}

/// What the broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It accepts the session and grants all subscriptions.
    Accepted,
    /// It refuses the session, or ends it.
    Refused {
        /// Why.
        refusal: Refusal,
        /// MQTT 5: what it says of that.
        said: Option<String>,
    },
    /// It accepts the session and refuses a subscription.
    NotSubscribed {
        /// The filter.
        filter: String,
        /// Why; MQTT 3.1.1 knows no reasons.
        reason: Option<Reason>,
    },
    /// It accepts the session and answers no SUBSCRIBE.
    Silent,
}

/// A fleet whose clients can sign in.
#[derive(Debug)]
pub struct Rehearsal {
    blueprint: Blueprint,
    devices: u32,
}

impl Rehearsal {
    /// Compiles a fleet; files are those that its models replay.
    ///
    /// # Errors
    /// When a model is wrong, or a password cannot be had.
    pub fn new(document: Document) -> Result<Self, BlueprintError> {
        let devices = document.fleet.spec.devices;
        let plan = Plan::of(0, NOW, &document.fleet.spec);
        let assignment: Assignment = document.assign(plan, Shard::of(0, devices.max(1)));
        Ok(Self { blueprint: Blueprint::compile(&assignment)?, devices })
    }

    /// Whether there is such a client.
    pub fn has(&self, client: Client) -> bool {
        match client {
            Client::Device => true,
            Client::Observer => self.blueprint.observe != Observe::None && !self.filters(client, 0).is_empty(),
        }
    }

    /// The client id and the user name of a client at the address at `position`. Those of two addresses differ, for both
    /// may lead to one broker: the first device there, and the observer of that address.
    pub fn names(&self, client: Client, position: u32) -> (String, Option<String>) {
        let Identity { client_id, proof, .. } = self.identity(client, position);
        (client_id, proof.user)
    }

    fn identity(&self, client: Client, position: u32) -> Identity<'_> {
        match client {
            Client::Device => self.blueprint.device(first_at(position)),
            Client::Observer => {
                self.blueprint.observer(observer_client_id(&self.blueprint.name, 0, 0, NOW, position as usize))
            }
        }
    }

    fn options(&self, client: Client) -> Options {
        match client {
            Client::Device => self.blueprint.session.clone(),
            Client::Observer => observer::options(&self.blueprint),
        }
    }

    fn filters(&self, client: Client, position: u32) -> Vec<(String, SubscribeOptions)> {
        match client {
            Client::Device => {
                let device = first_at(position);
                let subscriptions = &self.blueprint.group_of(device).subscriptions;
                subscriptions.iter().map(|one| (one.filter.text(device.number()), one.options)).collect()
            }
            Client::Observer => {
                let shard = Shard::of(0, self.devices.max(1));
                let filters = if filters::are_wildcards_fit(&self.blueprint, shard, self.devices) {
                    filters::wildcards(&self.blueprint)
                } else {
                    filters::topics(&self.blueprint, (0..self.devices).map(DeviceIndex::new))
                };
                let asked = filters.into_iter().take(FILTERS_PER_PACKET);
                asked.map(|(filter, qos)| (filter, observer::subscribe_options(qos))).collect()
            }
        }
    }

    /// Signs in at the address at `position`, subscribes and leaves; blocks for as long as `patience`.
    ///
    /// # Errors
    /// When there is no session at all: no connection, no handshake, no answer, or none of MQTT.
    pub fn sign_in(
        &self,
        client: Client,
        position: u32,
        route: &Route,
        address: SocketAddr,
        patience: Duration,
    ) -> Result<Answer, Error> {
        let (identity, options) = (self.identity(client, position), self.options(client));
        let mut errand = Errand::open(route, address, patience)?;
        let mut call = Call { session: Session::new(), pool: Pool::new(), options, out: Vec::new() };
        call.session.connect(&identity.connect(), &call.options, NOW, &mut call.out).map_err(io::Error::other)?;
        errand.send(&call.out)?;
        let (answer, was_kept) = call.converse(&mut errand, &self.filters(client, position))?;
        if call.leave(&mut errand, was_kept) {
            self.forget(&identity, route, address, patience);
        }
        Ok(answer)
    }

    /// A clean session in place of one that persists discards it (MQTT-3.1.2-6).
    fn forget(&self, identity: &Identity<'_>, route: &Route, address: SocketAddr, patience: Duration) {
        let connect = codec::Connect { will: None, ..identity.connect() };
        if let Err(error) = crate::transport::introduce(route, address, Protocol::V311, &connect, patience) {
            tracing::debug!(%error, fleet = self.blueprint.name, "a session of the rehearsal stays at the broker");
        }
    }
}

/// A session while it is made.
struct Call {
    session: Session,
    pool: Pool,
    options: Options,
    out: Vec<u8>,
}

impl Call {
    /// Awaits CONNACK and the answer to SUBSCRIBE; also whether the broker had kept the session.
    fn converse(
        &mut self,
        errand: &mut Errand,
        filters: &[(String, SubscribeOptions)],
    ) -> Result<(Answer, bool), Error> {
        let mut inbox = vec![0; errand.inbox(PACKET_MAX)];
        let (mut is_accepted, mut was_kept) = (false, false);
        loop {
            let read = errand.read(&mut inbox)?;
            let (Read::More(length) | Read::Drained(length) | Read::Closed(length)) = read;
            let mut rest = &inbox[..length];
            while let Some((packet, taken)) = codec::read(rest, self.options.protocol, PACKET_MAX).map_err(broken)? {
                rest = &rest[taken..];
                let said = said::by_broker(&packet).map(|(_, text)| text);
                self.out.clear();
                match self.session.receive(&mut self.pool, &self.options, packet, NOW, &mut self.out).map_err(broken)? {
                    Event::Connected { session_present } => {
                        (is_accepted, was_kept) = (true, session_present);
                        if filters.is_empty() {
                            return Ok((Answer::Accepted, was_kept));
                        }
                        self.subscribe(errand, filters)?;
                    }
                    Event::Refused(refusal) => return Ok((Answer::Refused { refusal, said }, false)),
                    Event::Disconnected(reason) => {
                        return Ok((Answer::Refused { refusal: Refusal::Reason(reason), said }, was_kept));
                    }
                    Event::Subscribed { codes, .. } => return Ok((self.subscribed(filters, codes), was_kept)),
                    // What a kept session brings stays there: it is not acknowledged.
                    _ => {}
                }
            }
            if matches!(read, Read::Closed(_)) {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            errand.keep(rest);
            match errand.wait() {
                Err(Error::Io(error)) if is_accepted && error.kind() == io::ErrorKind::TimedOut => {
                    return Ok((Answer::Silent, was_kept));
                }
                waited => waited?,
            }
        }
    }

    fn subscribe(&mut self, errand: &mut Errand, filters: &[(String, SubscribeOptions)]) -> Result<(), Error> {
        self.out.clear();
        let filters: Vec<_> = filters.iter().map(|(filter, options)| (filter.as_str(), *options)).collect();
        let asked = self.session.subscribe(&self.pool, self.options.protocol, &filters, NOW, &mut self.out);
        asked.map_err(io::Error::other)?;
        errand.send(&self.out)
    }

    fn subscribed(&self, filters: &[(String, SubscribeOptions)], codes: &[u8]) -> Answer {
        let Some(((filter, _), code)) = filters.iter().zip(codes).find(|(_, code)| **code >= SUBACK_FAILURE) else {
            return Answer::Accepted;
        };
        let reason = (self.options.protocol == Protocol::V5).then(|| Reason::new(*code)).flatten();
        Answer::NotSubscribed { filter: filter.clone(), reason }
    }

    /// Says goodbye; whether a session is left that has to be discarded in another way.
    fn leave(&mut self, errand: &mut Errand, was_kept: bool) -> bool {
        self.out.clear();
        let leaves_one = !self.options.clean && !was_kept;
        let is_ended =
            leaves_one && self.options.protocol == Protocol::V5 && self.session.end(NOW, &mut self.out).is_ok();
        if !is_ended {
            self.session.disconnect(NOW, &mut self.out);
        }
        let is_up = !self.out.is_empty();
        errand.finish(&self.out);
        is_up && leaves_one && !is_ended
    }
}

/// The first device that connects to the address at `position`.
const fn first_at(position: u32) -> DeviceIndex {
    DeviceIndex::new(position)
}

fn broken(error: impl std::fmt::Display) -> Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is none of MQTT: {error}")).into()
}
