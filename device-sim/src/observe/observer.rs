//! The observer: a subscriber on a thread of its own, with a persistent session so that a lost connection does not
//! mean lost evidence.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

use fleet_contract::{model::StampMode, plan, stamp, stamp::Stamp, time::Micros, units::Span};
use mio::{Events, Poll, Token, Waker};

use super::{
    Arrival, Arrivals, ObserverWatch,
    filters::{self, Filter},
};
use crate::{
    clock::Clock,
    engine::blueprint::Blueprint,
    session::{
        Event, Options, Pool, Session,
        codec::{self, Connect, PacketId, Publish, SUBACK_FAILURE},
    },
    transport::{Connection, Read, Written, resolver::Resolver},
};

const SOCKET: Token = Token(0);
pub(crate) const WAKE: Token = Token(1);

/// Filters in one SUBSCRIBE: few enough for any broker's packet limit.
const FILTERS_PER_PACKET: usize = 64;

/// The largest message that can be followed.
const PACKET_MAX: usize = 1024 * 1024;

/// From a lost connection to the next attempt. There is one observer, so it need not be polite, and the sooner it is
/// back the less is unknown.
const RETRY: Span = Span::from_millis(200);

/// Other runs that are told apart.
const OTHER_RUNS_MAX: usize = 8;

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
    pub(crate) shard: plan::Shard,
    pub(crate) devices: u32,
    pub(crate) clock: Clock,
    pub(crate) poll: Poll,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) watch: Arc<ObserverWatch>,
}

/// A subscriber that follows the messages of a shard's devices.
pub(crate) struct Observer {
    parts: Parts,
    client_id: String,
    options: Options,
    session: Session,
    pool: Pool,
    connection: Option<Connection>,
    is_open: bool,
    /// Devices up to this index are subscribed to, if topics go by name; `None` with wildcards.
    named_up_to: Option<u32>,
    /// SUBSCRIBEs that wait for their SUBACK.
    pending: BTreeMap<PacketId, Vec<Filter>>,
    retry_at: Micros,
    attempts: u32,
    session_present: bool,
    was_subscribed: bool,
    inbox: Vec<u8>,
    out: Vec<u8>,
}

impl Observer {
    /// An observer that is not connected yet.
    pub(crate) fn new(parts: Parts) -> Self {
        let client_id = format!("{}-observer-{:08x}-{}", parts.blueprint.name, parts.run, parts.shard.first);
        // A silent connection must be noticed before what it hides is counted as lost.
        let keep_alive = Span(parts.blueprint.loss_after.0 / 3).clamp(Span::from_secs(1), Span::from_secs(30));
        let options = Options { keep_alive, clean: false, ..Options::default() };
        parts.watch.update(|stats| stats.wanted = 1);
        Self {
            client_id,
            options,
            session: Session::new(),
            pool: Pool::new(),
            connection: None,
            is_open: false,
            named_up_to: None,
            pending: BTreeMap::new(),
            retry_at: Micros(0),
            attempts: 0,
            session_present: false,
            was_subscribed: false,
            inbox: vec![0; 2 * PACKET_MAX],
            out: Vec::new(),
            parts,
        }
    }

    /// Follows messages until it is told to stop.
    ///
    /// # Errors
    ///
    /// When the operating system does not let it wait for readiness.
    pub(crate) fn run(mut self) -> io::Result<()> {
        // A predecessor that was killed has left its session, and with it subscriptions that may not be ours.
        if let Err(error) = self.forget_session() {
            tracing::debug!(%error, "no session of a predecessor was discarded");
        }
        let mut events = Events::with_capacity(8);
        loop {
            let now = self.parts.clock.now();
            self.parts.watch.tick(now);
            if self.connection.is_none() && self.retry_at <= now {
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
                    self.readable();
                }
            }
            self.expire();
        }
        self.leave();
        Ok(())
    }

    fn patience(&self, now: Micros) -> Duration {
        let next = match &self.connection {
            None => self.retry_at,
            Some(_) => self.session.deadline(&self.options).unwrap_or_else(|| now.after(Span::from_secs(1))),
        };
        next.since(now).min(Span::from_secs(1)).max(Span::from_millis(1)).as_duration()
    }

    /// Breaks when it is told to stop.
    fn take_commands(&mut self) -> ControlFlow<()> {
        while let Ok(command) = self.parts.commands.try_recv() {
            match command {
                Command::Stop => return ControlFlow::Break(()),
                Command::Devices(devices) => {
                    let before = std::mem::replace(&mut self.parts.devices, devices);
                    if devices > before && self.named_up_to.is_some() {
                        self.subscribe_named();
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn open(&mut self, now: Micros) {
        let address = self.parts.resolver.address(self.attempts);
        self.attempts = self.attempts.wrapping_add(1);
        self.is_open = false;
        match Connection::open(address, self.parts.poll.registry(), SOCKET) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.retry_at = now.after(self.options.connect_timeout);
            }
            Err(error) => self.lost(&format!("no connection to {address}: {error}")),
        }
    }

    fn writable(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let outcome = if self.is_open { connection.flush().map(|_| false) } else { connection.is_established() };
        match outcome {
            Ok(true) => {
                self.is_open = true;
                self.send_connect();
            }
            Ok(false) => {}
            Err(error) => self.lost(&format!("no connection to the broker: {error}")),
        }
    }

    fn send_connect(&mut self) {
        let now = self.parts.clock.now();
        let login = &self.parts.blueprint.observer_login;
        let user = login.user.as_ref().map(|user| observer_name(user.as_str(), &self.client_id));
        let connect = Connect {
            client_id: &self.client_id,
            user: user.as_deref(),
            password: login.password.as_deref(),
            will: None,
        };
        self.out.clear();
        match self.session.connect(&connect, &self.options, now, &mut self.out) {
            Ok(()) => self.write(),
            Err(error) => self.lost(&format!("no valid CONNECT: {error}")),
        }
    }

    fn write(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(error) = connection.write(&self.out) {
            self.lost(&format!("no connection to the broker: {error}"));
        }
    }

    fn readable(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        while self.is_open
            && let Some(connection) = &mut self.connection
        {
            let read = connection.read(&mut inbox);
            let (length, goes_on) = match read {
                Ok(Read::More(length)) => (length, true),
                Ok(Read::Drained(length) | Read::Closed(length)) => (length, false),
                Err(error) => {
                    self.lost(&format!("the connection broke: {error}"));
                    break;
                }
            };
            self.received(&inbox[..length]);
            if matches!(read, Ok(Read::Closed(_))) {
                self.lost("the broker closed the connection");
            }
            if !goes_on {
                break;
            }
        }
        self.inbox = inbox;
        self.hand_out();
    }

    fn received(&mut self, bytes: &[u8]) {
        let now = self.parts.clock.now();
        self.parts.watch.bytes.fetch_add(bytes.len() as u64, Relaxed);
        self.out.clear();
        let mut rest = bytes;
        loop {
            let (packet, length) = match codec::read(rest, PACKET_MAX) {
                Ok(None) => break,
                Ok(Some(read)) => read,
                Err(error) => return self.lost(&format!("the broker broke the protocol: {error}")),
            };
            rest = &rest[length..];
            match self.session.receive(&mut self.pool, &self.options, packet, now, &mut self.out) {
                Ok(Event::Received(publish)) => self.arrived(&publish, now),
                Ok(Event::Connected { session_present }) => {
                    self.session_present = session_present;
                    self.subscribe_all();
                }
                Ok(Event::Subscribed { packet_id, codes }) => self.subscribed(packet_id, codes, now),
                Ok(Event::Refused(code)) => return self.lost(&format!("the broker refused the observer: {code}")),
                Ok(_) => {}
                Err(error) => return self.lost(&format!("the broker broke the protocol: {error}")),
            }
        }
        if let Some(connection) = &mut self.connection {
            connection.keep(rest);
        }
        if !self.out.is_empty() {
            self.write();
        }
    }

    fn subscribe_all(&mut self) {
        self.pending.clear();
        let Parts { blueprint, shard, devices, .. } = &self.parts;
        if filters::are_wildcards_fit(blueprint, *shard, *devices) {
            let filters = filters::wildcards(blueprint);
            self.named_up_to = None;
            self.subscribe(&filters);
        } else {
            self.named_up_to = Some(shard.first);
            self.subscribe_named();
        }
    }

    /// Subscribes to the topics of the devices that have come since the last time.
    fn subscribe_named(&mut self) {
        let Parts { blueprint, shard, devices, .. } = &self.parts;
        let from = self.named_up_to.unwrap_or(shard.first);
        let to = shard.first + shard.share_of(*devices);
        let filters = filters::topics(blueprint, from, to);
        self.named_up_to = Some(to.max(from));
        self.subscribe(&filters);
    }

    fn subscribe(&mut self, filters: &[Filter]) {
        let now = self.parts.clock.now();
        let mut out = std::mem::take(&mut self.out);
        for chunk in filters.chunks(FILTERS_PER_PACKET) {
            let borrowed: Vec<_> = chunk.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
            match self.session.subscribe(&self.pool, &borrowed, now, &mut out) {
                Ok(packet_id) => drop(self.pending.insert(packet_id, chunk.to_vec())),
                Err(error) => {
                    self.parts.watch.update(|stats| stats.error = Some(format!("no valid SUBSCRIBE: {error}")));
                }
            }
        }
        self.out = out;
        self.write();
        self.out.clear();
    }

    fn subscribed(&mut self, packet_id: PacketId, codes: &[u8], now: Micros) {
        let Some(filters) = self.pending.remove(&packet_id) else { return };
        let refused = filters.iter().zip(codes).find(|(_, code)| **code == SUBACK_FAILURE);
        if let Some(((filter, _), _)) = refused {
            let error = format!("the broker refused the subscription to `{filter}`");
            self.parts.watch.update(|stats| stats.error = Some(error));
            return;
        }
        if self.pending.is_empty() && !self.parts.watch.is_subscribed() {
            if self.was_subscribed {
                let session_present = self.session_present;
                self.tell(|| Arrivals::Back { session_present, at: now });
            }
            self.was_subscribed = true;
            self.parts.watch.set_subscribed(true);
        }
    }

    fn arrived(&mut self, publish: &Publish<'_>, now: Micros) {
        // Retained messages are what was, not what arrives.
        if publish.retain {
            return;
        }
        match self.recognise(publish, now) {
            Some(arrival) => {
                // Shards take devices in turns, counted from the first one of the worker.
                let outlets = self.parts.outlets.len();
                let outlet = (arrival.device - self.parts.shard.first) as usize % outlets;
                self.parts.outlets[outlet].batch.push(arrival);
            }
            None => self.parts.watch.update(|stats| stats.foreign += 1),
        }
    }

    fn recognise(&self, publish: &Publish<'_>, now: Micros) -> Option<Arrival> {
        let Parts { blueprint, run, shard, clock, .. } = &self.parts;
        let topic = publish.topic.as_bytes();
        let (group, (stream, device)) = blueprint.groups.iter().enumerate().find_map(|(number, group)| {
            let (stream, device) = group.model.recognise(topic)?;
            (blueprint.group_index(device) == number).then_some((group, (stream, device)))
        })?;
        if !shard.contains(device) {
            return None;
        }
        let number = u16::try_from(stream).ok()?;
        match group.model.streams()[stream].stamp() {
            StampMode::None => None,
            StampMode::Counter(field) => {
                let seq = stamp::find_counter(publish.payload, field)?;
                Some(Arrival { device, stream: number, seq, due: None, at: now })
            }
            StampMode::Field => {
                let stamp = Stamp::find(publish.payload)?;
                if stamp.run != *run {
                    self.saw_other_run(&stamp, now);
                    return None;
                }
                // An earlier process of this worker sent it: its ledger is closed.
                let is_ours = stamp.epoch == clock.epoch();
                is_ours.then_some(Arrival { device, stream: number, seq: stamp.seq, due: Some(stamp.due), at: now })
            }
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
    fn hand_out(&mut self) {
        for outlet in &mut self.parts.outlets {
            if !outlet.batch.is_empty() {
                let empty = outlet.used.try_recv().unwrap_or_default();
                let batch = std::mem::replace(&mut outlet.batch, empty);
                outlet.send(Arrivals::Messages(batch));
            }
        }
    }

    fn tell(&mut self, message: impl Fn() -> Arrivals) {
        self.hand_out();
        for outlet in &self.parts.outlets {
            outlet.send(message());
        }
    }

    fn expire(&mut self) {
        let now = self.parts.clock.now();
        if self.connection.is_some() && !self.is_open && self.retry_at <= now {
            return self.lost("the broker does not answer");
        }
        self.out.clear();
        match self.session.expire(&self.options, now, &mut self.out) {
            Ok(()) if self.out.is_empty() => {}
            Ok(()) => self.write(),
            Err(dead) => self.lost(&dead.to_string()),
        }
    }

    fn lost(&mut self, error: &str) {
        let now = self.parts.clock.now();
        self.connection = None;
        self.is_open = false;
        self.session.lost(now);
        self.retry_at = now.after(RETRY);
        self.parts.resolver.refresh();
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
        self.out.clear();
        let now = self.parts.clock.now();
        self.session.disconnect(now, &mut self.out);
        if let Some(connection) = &mut self.connection
            && matches!(connection.write(&self.out), Ok(Written::All))
        {
            self.connection = None;
            if let Err(error) = self.forget_session() {
                tracing::debug!(%error, "the observer's session stays at the broker");
            }
        }
    }

    /// A clean session in place of the persistent one discards it (MQTT-3.1.2-6).
    fn forget_session(&self) -> io::Result<()> {
        let patience = Some(Duration::from_millis(500));
        let mut stream =
            TcpStream::connect_timeout(&self.parts.resolver.address(self.attempts), Duration::from_millis(500))?;
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let login = &self.parts.blueprint.observer_login;
        let user = login.user.as_ref().map(|user| observer_name(user.as_str(), &self.client_id));
        let connect = Connect {
            client_id: &self.client_id,
            user: user.as_deref(),
            password: login.password.as_deref(),
            will: None,
        };
        let mut out = Vec::new();
        codec::write_connect(&mut out, &connect, true, Span::ZERO).map_err(io::Error::other)?;
        stream.write_all(&out)?;
        stream.read_exact(&mut [0; 4])?;
        out.clear();
        codec::write_disconnect(&mut out);
        stream.write_all(&out)
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

/// The observer's user name: a template of the devices', with the observer in place of a device.
fn observer_name(template: &str, client_id: &str) -> String {
    template.replace("{id}", client_id).replace("{index}", "observer")
}
