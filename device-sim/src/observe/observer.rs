//! The observer of one broker: a subscriber on a thread of its own, with a persistent session so that a lost connection does not
//! mean lost evidence.

mod arrivals;
mod coverage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    num::NonZeroU32,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use fleet_contract::{model::BODY_MAX, plan, time::Micros, units::Span, worker::observer_client_id};
use mio::{Events, Poll, Token, Waker};

use super::{Arrival, Arrivals, ObserverWatch, filters::Filter};
use crate::{
    blueprint::Blueprint,
    clock::Clock,
    index::DeviceIndex,
    session::{
        Event, Options, Pool, Session,
        codec::{
            self, PacketId, Protocol, Qos,
            v5::{ConnectProperties, Retained, SubscribeOptions},
        },
    },
    transport::{
        self, Connection, Read, Transport, Written,
        brokers::{Broker, Brokers},
    },
};

const SOCKET: Token = Token(0);
pub(crate) const WAKE: Token = Token(1);

/// The largest packet that the observer takes: the largest body that a document may ask for, and more than enough around
/// it for the longest topic and the properties of MQTT 5. Else it would lose what devices may send, and blame the broker.
const PACKET_MAX: usize = BODY_MAX as usize + 256 * 1024;

/// From a lost connection to the next attempt. There is one observer, so it need not be polite, and the sooner it is
/// back the less is unknown.
const RETRY: Span = Span::from_millis(200);

/// A session that ends so soon after it was accepted has not come to stay.
const YOUNG: Span = Span::from_secs(5);

/// The longest wait of an observer that is ended again and again soon after it was accepted: most likely by another
/// process with its client id, which is cut off at each attempt as well.
const RETRY_MAX: Span = Span::from_secs(60);

/// How long a broker may take to forget the observer's session.
const FORGET_PATIENCE: Duration = Duration::from_millis(500);

/// What the engine asks of an observer.
#[derive(Debug)]
pub(crate) enum Command {
    /// The fleet has grown: follow the devices up to this number.
    Devices(u32),
    /// Leave, and leave nothing at the broker.
    Stop,
}

/// Where arrivals go: one shard of the engine.
pub(crate) struct Outlet {
    /// Bounded; when it is full the observer waits, and so, in the end, does the broker.
    pub(crate) arrivals: SyncSender<Arrivals>,
    /// Empty batches, to be filled again.
    pub(crate) used: Receiver<Vec<Arrival>>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) batch: Vec<Arrival>,
}

/// What an observer is made of.
pub(crate) struct Parts {
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) run: u32,
    /// When the processes began that were in this place before.
    pub(crate) predecessors: BTreeSet<Micros>,
    pub(crate) shard: plan::Shard,
    pub(crate) devices: u32,
    pub(crate) clock: Clock,
    pub(crate) poll: Poll,
    pub(crate) brokers: Arc<Brokers>,
    /// Which of the brokers it observes.
    pub(crate) broker: usize,
    pub(crate) commands: Receiver<Command>,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) watch: Arc<ObserverWatch>,
}

impl Parts {
    /// The broker that it observes.
    fn broker(&self) -> &Broker {
        self.brokers.at(self.broker)
    }

    /// The client id of the observer beside the worker that began at `epoch` in this place.
    fn client_id(&self, epoch: Micros) -> String {
        observer_client_id(&self.blueprint.name, self.run, self.shard.first, epoch, self.broker)
    }

    /// Whether `device` is one of those that publish there.
    fn is_here(&self, device: DeviceIndex) -> bool {
        self.brokers.position(device) == self.broker
    }
}

/// A subscriber that follows the messages of a shard's devices, as far as they publish to one broker.
pub(crate) struct Observer {
    parts: Parts,
    client_id: String,
    options: Options,
    session: Session,
    pool: Pool,
    line: Line,
    asked: Asked,
    retry: Retry,
    /// Whether a newer process was seen to run the devices of this one.
    is_superseded: bool,
}

/// The connection of the moment, and memory for what goes over it.
struct Line {
    transport: Transport,
    connection: Option<Connection>,
    /// Whether its handshakes are done.
    is_open: bool,
    inbox: Vec<u8>,
    out: Vec<u8>,
}

/// What the broker was asked for.
struct Asked {
    coverage: Coverage,
    /// Wildcards that names have replaced, but that the broker still has.
    superseded: Vec<Filter>,
    /// When these are to be unsubscribed.
    unsubscribe_at: Micros,
    /// Until when a message may come twice because both a wildcard and its name match it.
    repeats_until: Micros,
    /// Requests of this connection that the broker has refused.
    refusals: u32,
    /// SUBSCRIBEs that wait for their SUBACK.
    pending: BTreeMap<PacketId, Vec<Filter>>,
    /// UNSUBSCRIBEs that wait for their UNSUBACK.
    leaving: BTreeSet<PacketId>,
    /// Whether the broker had kept the session.
    session_present: bool,
    was_subscribed: bool,
}

/// When the next attempt to connect is, and what came of the last ones.
struct Retry {
    at: Micros,
    attempts: u32,
    /// Since when the broker has accepted the session; `None` while it has not.
    accepted_at: Option<Micros>,
    /// Accepted sessions in a row that ended at once.
    young: u32,
}

impl Retry {
    /// There is no connection any more, or none was made.
    fn lost(&mut self, now: Micros) {
        self.accepted_at = None;
        self.at = now.after(RETRY);
    }

    /// The other side has ended the connection: the wait grows while it does so soon after it accepted the session.
    fn cut_off(&mut self, accepted: Option<Micros>, now: Micros) {
        if let Some(accepted) = accepted {
            self.young = if now.since(accepted) < YOUNG { self.young.saturating_add(1) } else { 0 };
        }
        let wait = Span(RETRY.0.saturating_mul(1 << self.young.min(16))).min(RETRY_MAX);
        self.at = now.after(wait);
    }
}

/// What an observer is subscribed to, or has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coverage {
    /// Every device of the fleet, by wildcards.
    Wildcards,
    /// Each device of the worker up to this index, by the names of its topics.
    Names { up_to: u32 },
}

/// How the sessions of observers behave.
pub(crate) fn options(blueprint: &Blueprint) -> Options {
    // A silent connection must be noticed before what it hides is counted as lost.
    let keep_alive = Span(blueprint.loss_after.0 / 3).clamp(Span::from_secs(1), Span::from_secs(30));
    let maximum_packet_size = u32::try_from(PACKET_MAX).ok().and_then(NonZeroU32::new);
    // As long as a message may be of use, and as long again: a broker goes on queueing for one that was killed.
    let session_expiry = u32::try_from((2 * blueprint.loss_after.0).div_ceil(1_000_000)).unwrap_or(u32::MAX);
    Options {
        keep_alive,
        clean: false,
        protocol: blueprint.session.protocol,
        properties: ConnectProperties { session_expiry, maximum_packet_size, ..Default::default() },
        ..Options::default()
    }
}

/// How an observer subscribes in MQTT 5: retained messages are what was, not what arrives.
pub(crate) fn subscribe_options(qos: Qos) -> SubscribeOptions {
    SubscribeOptions { qos, retained: Retained::Never, ..SubscribeOptions::default() }
}

impl Observer {
    /// An observer that is not connected yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let client_id = parts.client_id(parts.clock.epoch());
        let options = options(&parts.blueprint);
        parts.watch.update(|stats| stats.wanted = 1);
        Self {
            client_id,
            options,
            session: Session::new(),
            pool: Pool::new(),
            line: Line {
                transport: Transport::new(&parts.broker().route),
                connection: None,
                is_open: false,
                inbox: vec![0; 2 * PACKET_MAX],
                out: Vec::new(),
            },
            asked: Asked {
                coverage: Coverage::Wildcards,
                superseded: Vec::new(),
                unsubscribe_at: Micros::NEVER,
                repeats_until: Micros(0),
                refusals: 0,
                pending: BTreeMap::new(),
                leaving: BTreeSet::new(),
                session_present: false,
                was_subscribed: false,
            },
            retry: Retry { at: Micros(0), attempts: 0, accepted_at: None, young: 0 },
            is_superseded: false,
            parts,
        }
    }

    /// Follows messages until it is told to stop.
    ///
    /// # Errors
    ///
    /// When the operating system does not let it wait for readiness.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        self.forget_predecessors();
        loop {
            let now = self.parts.clock.now();
            self.parts.watch.tick(now);
            if self.line.connection.is_none() && self.retry.at <= now {
                self.open(now);
            }
            match self.parts.poll.poll(&mut events, Some(self.patience(now))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            if self.take_commands().is_break() {
                break;
            }
            for event in &events {
                if event.token() != SOCKET {
                    continue;
                }
                if event.is_writable() || event.is_error() {
                    self.writable();
                }
                if event.is_readable() || event.is_read_closed() {
                    self.readable(event.is_read_closed());
                }
            }
            self.expire();
            self.unsubscribe_in_time();
        }
        self.leave();
        Ok(())
    }

    fn patience(&self, now: Micros) -> Duration {
        let next = match &self.line.connection {
            None => self.retry.at,
            Some(_) => self.session.deadline(&self.options).unwrap_or_else(|| now.after(Span::from_secs(1))),
        };
        next.since(now).min(Span::from_secs(1)).max(Span::from_millis(1)).as_duration()
    }

    /// Breaks when it is told to stop.
    fn take_commands(&mut self) -> ControlFlow<()> {
        while let Ok(command) = self.parts.commands.try_recv() {
            match command {
                Command::Stop => return ControlFlow::Break(()),
                Command::Devices(devices) => self.follow_devices(devices),
            }
        }
        ControlFlow::Continue(())
    }

    fn open(&mut self, now: Micros) {
        let broker = self.parts.broker();
        let address = broker.resolver.address(self.retry.attempts);
        self.retry.attempts = self.retry.attempts.wrapping_add(1);
        let address = match address {
            Ok(address) => address,
            Err(none) => return self.lost(&none.to_string()),
        };
        self.line.is_open = false;
        // The observer stands beside the first device of its worker.
        let turn = self.parts.shard.first;
        match Connection::open(address, turn, &broker.route, self.parts.poll.registry(), SOCKET) {
            Ok(connection) => {
                self.line.connection = Some(connection);
                self.retry.at = now.after(self.options.connect_timeout);
            }
            Err(error) => self.lost(&format!("no connection to {address}: {error}")),
        }
    }

    fn writable(&mut self) {
        let Some(connection) = &mut self.line.connection else { return };
        if !self.line.is_open {
            return self.establish();
        }
        if let Err(error) = connection.flush() {
            self.lost(&format!("no connection to the broker: {error}"));
        }
    }

    fn establish(&mut self) {
        let Some(connection) = &mut self.line.connection else { return };
        match connection.establish(&mut self.line.transport) {
            Ok(true) => {
                self.line.is_open = true;
                let is_layered = connection.is_layered();
                self.send_connect();
                // What came behind the handshake has been announced already.
                if is_layered {
                    self.readable(true);
                }
            }
            Ok(false) => {}
            Err(error) => self.lost(&format!("no connection to the broker: {error}")),
        }
    }

    fn send_connect(&mut self) {
        let now = self.parts.clock.now();
        let identity = self.parts.blueprint.observer(self.client_id.clone());
        self.line.out.clear();
        match self.session.connect(&identity.connect(), &self.options, now, &mut self.line.out) {
            Ok(()) => self.write(),
            Err(error) => self.lost(&format!("no valid CONNECT: {error}")),
        }
    }

    fn write(&mut self) {
        let Some(connection) = &mut self.line.connection else { return };
        if let Err(error) = connection.write(&self.line.out, &mut self.line.transport) {
            self.lost(&format!("no connection to the broker: {error}"));
        }
    }

    /// Reads what there is. Where the broker sends nothing more (`is_ending`) the end is read, too: it is announced once,
    /// together with the last of what has come, perhaps.
    fn readable(&mut self, is_ending: bool) {
        if !self.line.is_open {
            return self.establish();
        }
        let mut inbox = std::mem::take(&mut self.line.inbox);
        while self.line.is_open
            && let Some(connection) = &mut self.line.connection
        {
            let read = connection.read(&mut inbox, &mut self.line.transport);
            connection.acknowledge();
            let (length, goes_on) = match read {
                Ok(Read::More(length)) => (length, true),
                Ok(Read::Drained(length)) => (length, is_ending && length > 0),
                Ok(Read::Closed(length)) => (length, false),
                Err(error) => {
                    self.cut_off(&format!("the connection broke: {error}"));
                    break;
                }
            };
            self.received(&inbox[..length]);
            if matches!(read, Ok(Read::Closed(_))) {
                self.cut_off("the broker closed the connection");
            }
            if !goes_on {
                break;
            }
        }
        self.line.inbox = inbox;
        self.hand_out();
    }

    fn received(&mut self, bytes: &[u8]) {
        let now = self.parts.clock.now();
        self.parts.watch.bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.line.out.clear();
        let mut rest = bytes;
        loop {
            let (packet, length) = match codec::read(rest, self.options.protocol, PACKET_MAX) {
                Ok(None) => break,
                Ok(Some(read)) => read,
                Err(error) => return self.lost(&format!("the broker broke the protocol: {error}")),
            };
            rest = &rest[length..];
            match self.session.receive(&mut self.pool, &self.options, packet, now, &mut self.line.out) {
                Ok(Event::Received(publish)) => self.arrived(&publish, now),
                Ok(Event::Connected { session_present }) => {
                    self.retry.accepted_at = Some(now);
                    self.asked.session_present = session_present;
                    self.subscribe_all();
                }
                Ok(Event::Subscribed { packet_id, codes }) => self.subscribed(packet_id, codes, now),
                Ok(Event::Unsubscribed(packet_id)) => self.unsubscribed(packet_id, now),
                Ok(Event::NotUnsubscribed { .. }) => {
                    tracing::warn!("the observer keeps its wildcards, which the broker does not take back");
                }
                Ok(Event::Disconnected(reason)) => {
                    return self.cut_off(&format!("the broker ended the connection: {reason}"));
                }
                Ok(Event::Refused(code)) => return self.lost(&format!("the broker refused the observer: {code}")),
                Ok(_) => {}
                Err(error) => return self.lost(&format!("the broker broke the protocol: {error}")),
            }
        }
        if let Some(connection) = &mut self.line.connection {
            connection.keep(rest);
        }
        if !self.line.out.is_empty() {
            self.write();
        }
    }

    /// The session of a process that was killed collects messages for nobody: one of MQTT 5 expires, one of 3.1.1 ends.
    fn forget_predecessors(&self) {
        if self.options.protocol != Protocol::V311 {
            return;
        }
        let forget = |epoch: &Micros| self.forget_session(&self.parts.client_id(*epoch));
        // Where one fails, the broker is away, and all of them would only take their time.
        if let Err(error) = self.parts.predecessors.iter().try_for_each(forget) {
            tracing::warn!(%error, "the session of an earlier observer stays at the broker");
        }
    }

    fn expire(&mut self) {
        let now = self.parts.clock.now();
        if self.line.connection.is_some() && !self.line.is_open && self.retry.at <= now {
            return self.lost("the broker does not answer");
        }
        self.line.out.clear();
        match self.session.expire(&self.options, now, &mut self.line.out) {
            Ok(()) if self.line.out.is_empty() => {}
            Ok(()) => self.write(),
            Err(dead) => self.lost(&dead.to_string()),
        }
    }

    /// The other side has ended the connection. If it does so again and again soon after it accepted the session, the
    /// broker has most likely given the session to another process with this client id.
    fn cut_off(&mut self, error: &str) {
        let now = self.parts.clock.now();
        let accepted = self.retry.accepted_at;
        self.lost(error);
        self.retry.cut_off(accepted, now);
    }

    fn lost(&mut self, error: &str) {
        let now = self.parts.clock.now();
        self.line.connection = None;
        self.line.is_open = false;
        self.session.lost(now);
        self.retry.lost(now);
        self.parts.broker().resolver.refresh();
        self.parts.watch.update(|stats| stats.error = Some(error.into()));
        if self.parts.watch.is_subscribed() {
            self.parts.watch.set_subscribed(false);
            self.parts.watch.update(|stats| {
                stats.losses += 1;
                stats.error = Some(error.into());
            });
            self.tell(|| Arrivals::Lost);
        }
    }

    /// Says DISCONNECT, and makes the broker forget the persistent session.
    fn leave(&mut self) {
        self.line.out.clear();
        let now = self.parts.clock.now();
        let is_forgotten = match self.options.protocol {
            Protocol::V311 => {
                self.session.disconnect(now, &mut self.line.out);
                false
            }
            Protocol::V5 => self.session.end(now, &mut self.line.out).is_ok(),
        };
        if let Some(connection) = &mut self.line.connection
            && matches!(connection.write(&self.line.out, &mut self.line.transport), Ok(Written::All))
            && !is_forgotten
        {
            self.line.connection = None;
            if let Err(error) = self.forget_session(&self.client_id) {
                tracing::debug!(%error, "the observer's session stays at the broker");
            }
        }
    }

    /// A clean session in place of the persistent one discards it (MQTT-3.1.2-6).
    fn forget_session(&self, client_id: &str) -> Result<(), transport::Error> {
        let identity = self.parts.blueprint.observer(client_id.to_owned());
        let broker = self.parts.broker();
        // A broker without an address has no session either.
        let Ok(address) = broker.resolver.address(self.retry.attempts) else { return Ok(()) };
        transport::introduce(&broker.route, address, Protocol::V311, &identity.connect(), FORGET_PATIENCE).map(drop)
    }
}

impl Outlet {
    fn send(&self, arrivals: Arrivals) {
        // A shard that has ended needs no arrivals, and nobody to wake it.
        if self.arrivals.send(arrivals).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::debug!(%error, "a shard was not woken");
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        document,
        format::Format,
        plan::{Plan, Shard},
        worker::Assignment,
    };

    use super::*;

    #[test]
    fn the_session_of_a_killed_observer_is_kept_for_twice_the_time_after_which_messages_are_lost() {
        for (loss_after, expected) in [("10s", 20), ("250ms", 1), ("1h", 7_200)] {
            let text = format!(
                "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  devices: 1\n  lossAfter: \
                 {loss_after}\n  broker: {{url: mqtt://192.0.2.1, protocol: '5'}}\n  groups: [{{name: all, model: m}}]\n  \
                 models: {{m: {{signals: {{x: {{kind: counter, rate: 1}}}}, streams: {{s: {{topic: 't/{{index}}', interval: 1s, \
                 payload: {{json: {{x: '{{x}}'}}}}}}}}}}}}\n"
            );
            let (fleet, _) = document::read("fleet.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
            let (plan, shard) = (Plan::new(7, Micros(0), 1), Shard::of(0, 1));
            let assignment = Assignment { format: Format::FIRST, fleet, plan, shard, files: [].into() };
            let options = options(&Blueprint::compile(&assignment).unwrap());
            assert_eq!((options.properties.session_expiry, options.clean), (expected, false), "{loss_after}");
        }
    }

    #[test]
    fn an_observer_that_is_cut_off_again_and_again_waits_longer_and_longer() {
        let mut retry = Retry { at: Micros(0), attempts: 0, accepted_at: None, young: 0 };
        let mut waits = Vec::new();
        let mut now = Micros(1_000_000_000);
        for lives in [10_000, 1_000, 1_000, 1_000, 10_000].map(Span::from_millis) {
            let accepted = now;
            now = now.after(lives);
            retry.cut_off(Some(accepted), now);
            waits.push(retry.at.since(now).0 / 1_000);
        }
        assert_eq!(waits, [200, 400, 800, 1_600, 200]);
        (0..20).for_each(|_| retry.cut_off(Some(now), now));
        assert_eq!(retry.at.since(now), RETRY_MAX);
    }
}
