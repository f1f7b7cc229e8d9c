//! Which session gets which message: the sessions, their subscriptions, and what flows between
//! them and the router.
//!
//! A message's way: connection → [`Hub::publish`] → router ([`Hub::route`], one task) → the
//! queue of each subscribed session → that session's connection. No arrow waits for a later one:
//! queues that are full drop and count, so a slow subscriber delays nobody.
//!
//! Locks are taken in the order table, session, and table, retained; none is held over an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rumqttc::QoS;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::batch::{Batch, Inbox, Waiting};
use crate::limits::Limits;
use crate::message::{Message, lower};
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::router::{Command, Delivery, FilterId, Router, RouterError};
use crate::session::{Bounds, Budget, Offer, Session};
use crate::store::{Kept, KeptSession, KeptSubscription};

/// What may wait for the router, in KiB. Publishers wait when it is full.
const ROUTER_ROOM_KIB: usize = 16 * 1024;

/// A session and the connection that holds it, if there is one.
#[derive(Debug)]
pub(crate) struct Seat {
    client_id: String,
    state: Mutex<State>,
    /// Tells the connection that there is something to send.
    pub(crate) wake: Notify,
}

#[derive(Debug)]
struct State {
    session: Session,
    holder: Option<Holder>,
}

#[derive(Debug)]
struct Holder {
    ticket: u64,
    evict: CancellationToken,
}

/// A connection's hold on a session. Ends with [`Hub::leave`].
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) seat: Arc<Seat>,
    pub(crate) session_present: bool,
    ticket: u64,
}

/// Why a CONNECT is refused for lack of room. The name is the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Full {
    Connections,
    Sessions,
}

/// The router has ended; nothing can be routed any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// A connection holds the session no longer: a newer one has taken it over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TakenOver;

#[derive(Debug, Default)]
struct Table {
    seats: HashMap<String, Arc<Seat>>,
    filters: HashMap<String, FilterId>,
    /// By index of the filter.
    members: Vec<Vec<Member>>,
    connections: usize,
    last_ticket: u64,
}

/// A session's subscription, as the filter sees it.
#[derive(Debug)]
struct Member {
    seat: Arc<Seat>,
    granted: QoS,
    /// The first message that was published after the subscription.
    since: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    table: Mutex<Table>,
    retained: Mutex<Retained>,
    next_sequence: AtomicU64,
    commands: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    bounds: Bounds,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> (Arc<Hub>, Inbox) {
        // Unbounded, but each command needs room, and room is bounded.
        let (commands, inbox) = mpsc::unbounded_channel();
        let hub = Hub {
            table: Mutex::default(),
            retained: Mutex::new(Retained::new(limits.retained)),
            next_sequence: AtomicU64::new(0),
            commands,
            room: Arc::new(Semaphore::new(ROUTER_ROOM_KIB)),
            bounds: Bounds {
                in_flight: limits.in_flight,
                queue: limits.queue_messages,
                budget: Budget::new(limits.queue_bytes),
            },
            limits: limits.clone(),
            metrics,
        };
        (Arc::new(hub), Inbox::new(inbox))
    }

    /// Gives the client its session: the one it left behind, or a new one. Whoever holds a session
    /// of this client is evicted through its token (MQTT-3.1.4-2).
    pub(crate) fn join(
        &self,
        client_id: &str,
        is_persistent: bool,
        evict: CancellationToken,
    ) -> Result<Attachment, Full> {
        let mut table = lock(&self.table);
        let existing = table.seats.get(client_id).cloned();
        let replaced = existing.as_ref().and_then(|seat| lock(&seat.state).holder.take());
        if let Some(holder) = replaced {
            holder.evict.cancel();
            table.connections -= 1;
            self.metrics.takeovers.inc();
        }
        if table.connections >= self.limits.connections {
            return Err(Full::Connections);
        }
        let kept = existing.filter(|seat| {
            let keeps = is_persistent && lock(&seat.state).session.is_persistent;
            if !keeps {
                self.forget(&mut table, seat);
            }
            keeps
        });
        let session_present = kept.is_some();
        let seat = match kept {
            Some(seat) => seat,
            None if table.seats.len() >= self.limits.sessions => return Err(Full::Sessions),
            None => self.seat(&mut table, client_id, Session::new(is_persistent, self.bounds.clone())),
        };
        table.connections += 1;
        table.last_ticket += 1;
        let ticket = table.last_ticket;
        lock(&seat.state).holder = Some(Holder { ticket, evict });
        Ok(Attachment { seat, session_present, ticket })
    }

    fn seat(&self, table: &mut Table, client_id: &str, session: Session) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            client_id: client_id.to_owned(),
            state: Mutex::new(State { session, holder: None }),
            wake: Notify::new(),
        });
        table.seats.insert(client_id.to_owned(), Arc::clone(&seat));
        self.metrics.sessions.inc();
        seat
    }

    /// Removes a session and its subscriptions.
    fn forget(&self, table: &mut Table, seat: &Arc<Seat>) {
        let mut state = lock(&seat.state);
        for (_, filter) in state.session.subscriptions.drain() {
            table.remove_member(filter, seat);
            self.metrics.subscriptions.dec();
        }
        if state.session.is_slow() {
            self.metrics.queues.slow_consumers.dec();
        }
        table.seats.remove(&seat.client_id);
        self.metrics.sessions.dec();
    }

    /// A client id for a client that brought none.
    pub(crate) fn unused_id(&self) -> String {
        let mut table = lock(&self.table);
        loop {
            table.last_ticket += 1;
            let id = format!("anonymous-{}", table.last_ticket);
            if !table.seats.contains_key(&id) {
                return id;
            }
        }
    }

    /// Ends a connection's hold. The session stays if it is persistent.
    pub(crate) fn leave(&self, attachment: &Attachment) {
        let mut table = lock(&self.table);
        let is_persistent = {
            let mut state = lock(&attachment.seat.state);
            if !state.is_held_by(attachment.ticket) {
                return;
            }
            state.holder = None;
            state.session.is_persistent
        };
        table.connections -= 1;
        if !is_persistent {
            self.forget(&mut table, &attachment.seat);
        }
    }

    /// Works on the session that the attachment holds.
    pub(crate) fn with<T>(
        &self,
        attachment: &Attachment,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Result<T, TakenOver> {
        let mut state = lock(&attachment.seat.state);
        if !state.is_held_by(attachment.ticket) {
            return Err(TakenOver);
        }
        let was_slow = state.session.is_slow();
        let result = work(&mut state.session);
        if was_slow && !state.session.is_slow() {
            self.metrics.queues.slow_consumers.dec();
            debug!(client = %attachment.seat.client_id, "slow consumer caught up");
        }
        Ok(result)
    }

    /// Accepts a message. Waits while the router is behind.
    pub(crate) async fn publish(&self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Result<(), Closed> {
        let room = self.room(topic.len() + payload.len()).await?;
        let mut message = Message {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: Bytes::copy_from_slice(payload),
            qos,
            sequence: 0,
        };
        if retain {
            self.retain(topic, &mut message);
        } else {
            message.sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        }
        let command = Command::Publish(message);
        self.commands.send((command, room)).map_err(|_| Closed)
    }

    /// Numbers and stores a message in one step, so that a subscription finds it either among the
    /// retained or among those that follow, and never in both.
    fn retain(&self, topic: &str, message: &mut Message) {
        let mut retained = lock(&self.retained);
        message.sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        if retained.put(topic, message).is_err() {
            self.metrics.refused.with_label_values(&["retained"]).inc();
        }
        let count = i64::try_from(retained.len()).unwrap_or(i64::MAX);
        self.metrics.retained.set(count);
    }

    /// Subscribes the session; offers it the retained messages (MQTT-3.3.1-6). Returns the granted
    /// quality of service, or nothing when the filter is refused.
    pub(crate) async fn subscribe(
        &self,
        attachment: &Attachment,
        filter: &str,
        wanted: QoS,
    ) -> Result<Option<QoS>, Closed> {
        if filter.starts_with("$share/") {
            self.metrics.refused.with_label_values(&["shared_subscription"]).inc();
            return Ok(None);
        }
        // Taken first: a new filter must reach the router before any message that is published
        // once another session could see the filter in the table.
        let room = self.room(filter.len()).await?;
        let mut table = lock(&self.table);
        let Some(id) = self.filter(&mut table, filter, room)? else { return Ok(None) };
        let seat = &attachment.seat;
        let mut state = lock(&seat.state);
        if state.is_held_by(attachment.ticket) {
            let stored = self.enrol(&mut table, seat, &mut state, filter, id, wanted);
            for message in stored {
                let offer = state.session.offer(&message, lower(message.qos, wanted), true);
                self.account(offer, seat);
            }
            seat.wake.notify_one();
        }
        Ok(Some(wanted))
    }

    /// The number of a filter, which the router learns at its first use; nothing when there are too many.
    fn filter(&self, table: &mut Table, filter: &str, room: OwnedSemaphorePermit) -> Result<Option<FilterId>, Closed> {
        if let Some(id) = table.filters.get(filter) {
            return Ok(Some(*id));
        }
        if table.filters.len() >= self.limits.filters {
            self.metrics.refused.with_label_values(&["filters"]).inc();
            return Ok(None);
        }
        let id = table.add_filter(filter);
        self.metrics.filters.inc();
        self.commands.send((Command::Subscribe(id, filter.to_owned()), room)).map_err(|_| Closed)?;
        Ok(Some(id))
    }

    /// Makes the session a member of the filter from the next message on. Returns what is retained up to there.
    ///
    /// A subscription that there was is replaced, and the flow of its messages goes on without a gap (MQTT-3.8.4-3).
    fn enrol(
        &self,
        table: &mut Table,
        seat: &Arc<Seat>,
        state: &mut State,
        filter: &str,
        id: FilterId,
        granted: QoS,
    ) -> Vec<Message> {
        let replaced = state.session.subscriptions.insert(filter.to_owned(), id);
        let replaced = replaced.and_then(|id| table.remove_member(id, seat));
        if replaced.is_none() {
            self.metrics.subscriptions.inc();
        }
        let (next, stored) = {
            let retained = lock(&self.retained);
            let next = self.next_sequence.load(Ordering::Relaxed);
            (next, retained.matching(filter))
        };
        let since = replaced.map_or(next, |member| member.since);
        table.members[id.index()].push(Member { seat: Arc::clone(seat), granted, since });
        stored
    }

    /// Ends the session's subscription to the filter, if there is one.
    pub(crate) fn unsubscribe(&self, attachment: &Attachment, filter: &str) {
        let mut table = lock(&self.table);
        let mut state = lock(&attachment.seat.state);
        if !state.is_held_by(attachment.ticket) {
            return;
        }
        if let Some(id) = state.session.subscriptions.remove(filter) {
            table.remove_member(id, &attachment.seat);
            self.metrics.subscriptions.dec();
        }
    }

    /// Takes over what an earlier process left behind. Before the first client is accepted.
    pub(crate) async fn restore(&self, kept: Kept) -> Result<(), Closed> {
        for stored in kept.retained {
            let topic = Bytes::copy_from_slice(stored.topic.as_bytes());
            let mut message = Message { topic, payload: stored.payload, qos: stored.qos, sequence: 0 };
            self.retain(&stored.topic, &mut message);
        }
        let room = self.limits.sessions;
        if kept.sessions.len() > room {
            warn!(kept = kept.sessions.len(), room, "there is room for some of the sessions that were kept only");
        }
        for session in kept.sessions.iter().take(room) {
            self.restore_session(session).await?;
        }
        Ok(())
    }

    async fn restore_session(&self, kept: &KeptSession) -> Result<(), Closed> {
        let session = Session::restored(kept, self.bounds.clone());
        let seat = self.seat(&mut lock(&self.table), &kept.client_id, session);
        for KeptSubscription { filter, qos } in &kept.subscriptions {
            let room = self.room(filter.len()).await?;
            let mut table = lock(&self.table);
            if let Some(id) = self.filter(&mut table, filter, room)? {
                // What is retained went to it when it subscribed.
                self.enrol(&mut table, &seat, &mut lock(&seat.state), filter, id, *qos);
            }
        }
        Ok(())
    }

    /// Everything that is to outlive this process. Complete once nobody publishes and [`Hub::routed`].
    pub(crate) fn kept(&self) -> Kept {
        let table = lock(&self.table);
        let mut sessions: Vec<KeptSession> = table
            .seats
            .values()
            .filter_map(|seat| {
                let state = lock(&seat.state);
                let subscriptions = table.granted(seat, &state.session);
                let kept = || KeptSession { client_id: seat.client_id.clone(), subscriptions, ..state.session.kept() };
                state.session.is_persistent.then(kept)
            })
            .collect();
        sessions.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
        Kept::new(lock(&self.retained).kept(), sessions)
    }

    /// Waits until everything that was accepted is in the queues of its sessions. Fails when the router has ended, since
    /// then some of it never will be.
    pub(crate) async fn routed(&self) -> Result<(), Closed> {
        let all = u32::try_from(ROUTER_ROOM_KIB).map_err(|_| Closed)?;
        self.room.acquire_many(all).await.map(drop).map_err(|_| Closed)
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Closed> {
        let kib = (bytes / 1024 + 1).min(ROUTER_ROOM_KIB);
        let kib = u32::try_from(kib).map_err(|_| Closed)?;
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        room.map_err(|_| Closed)
    }

    /// Routes what connections publish, until the router ends. Publishers then get [`Closed`].
    pub(crate) async fn route(&self, mut router: Router, mut inbox: Inbox) -> Result<(), RouterError> {
        let mut batch = Batch::new(self.limits.topics);
        while batch.fill(&mut inbox, &self.metrics).await {
            let outcome = router.route(&mut batch.commands, |delivery| self.deliver(&delivery)).await;
            batch.rooms.clear();
            if let Err(error) = outcome {
                self.room.close();
                return Err(error);
            }
            let queued = i64::try_from(self.bounds.budget.used()).unwrap_or(i64::MAX);
            self.metrics.queues.queued_bytes.set(queued);
        }
        Ok(())
    }

    /// Offers a message to every session that subscribed to its filter before it was published.
    fn deliver(&self, delivery: &Delivery) {
        let table = lock(&self.table);
        let members = &table.members[delivery.filter.index()];
        if delivery.skipped > 0 {
            let lost = delivery.skipped * members.len() as u64;
            let overrun = self.metrics.dropped.with_label_values(&["router_overrun"]);
            overrun.inc_by(lost);
        }
        let message = &delivery.message;
        for member in members.iter().filter(|m| message.sequence >= m.since) {
            let mut state = lock(&member.seat.state);
            let qos = lower(message.qos, member.granted);
            // The standard leaves QoS 0 to clients that are away to the server; like most, this
            // one does not keep it.
            if state.holder.is_some() || qos != QoS::AtMostOnce {
                let offer = state.session.offer(message, qos, false);
                self.account(offer, &member.seat);
                member.seat.wake.notify_one();
            }
        }
    }

    fn account(&self, offer: Offer, seat: &Seat) {
        if let Offer::Dropped { first } = offer {
            self.metrics.dropped.with_label_values(&["queue_full"]).inc();
            if first {
                self.metrics.queues.slow_consumers.inc();
                self.metrics.queues.slow_consumers_total.inc();
                warn!(
                    client = %seat.client_id,
                    "slow consumer: its queue is full and messages for it are dropped"
                );
            }
        }
    }
}

impl State {
    fn is_held_by(&self, ticket: u64) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.ticket == ticket)
    }
}

impl Table {
    fn add_filter(&mut self, filter: &str) -> FilterId {
        let id = FilterId::nth(self.members.len());
        self.filters.insert(filter.to_owned(), id);
        self.members.push(Vec::new());
        id
    }

    /// The filters of a session in their order, each with the granted quality of service.
    fn granted(&self, seat: &Arc<Seat>, session: &Session) -> Vec<KeptSubscription> {
        let of = |(filter, id): (&String, &FilterId)| {
            let member = self.members[id.index()].iter().find(|member| Arc::ptr_eq(&member.seat, seat))?;
            Some(KeptSubscription { filter: filter.clone(), qos: member.granted })
        };
        let mut granted: Vec<KeptSubscription> = session.subscriptions.iter().filter_map(of).collect();
        granted.sort_unstable_by(|one, other| one.filter.cmp(&other.filter));
        granted
    }

    fn remove_member(&mut self, filter: FilterId, seat: &Arc<Seat>) -> Option<Member> {
        let members = &mut self.members[filter.index()];
        let at = members.iter().position(|m| Arc::ptr_eq(&m.seat, seat));
        let removed = at.map(|at| members.swap_remove(at));
        if members.is_empty() {
            *members = Vec::new();
        }
        removed
    }
}

#[cfg(test)]
mod tests;

/// No code panics while it holds one of these locks; were it otherwise, the other sessions should
/// go on all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
