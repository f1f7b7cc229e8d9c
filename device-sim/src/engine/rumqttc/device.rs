//! The task of one device: it connects, keeps its timetable, reconnects, settles and leaves.

use std::{
    future::{Future, ready},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    time::Duration,
};

use fleet_contract::{time::Micros, units::Span};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet};
use tokio::{
    select,
    sync::{SemaphorePermit, watch},
    time::{Instant, Sleep, sleep, timeout},
};

use super::{
    LONGEST_SLEEP, Orders, Shared,
    books::{Books, Turn},
    lock,
    options::{channel, network, options},
};
use crate::{
    engine::{course::Course, device::State},
    index::DeviceIndex,
};

/// One device, as its task sees it.
pub(super) struct Device {
    index: DeviceIndex,
    books: Arc<Mutex<Books>>,
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    course: Arc<Course>,
    /// Goes off at `alarm_at`.
    alarm: Pin<Box<Sleep>>,
    alarm_at: Micros,
}

impl Device {
    pub(super) fn new(
        index: DeviceIndex,
        books: Arc<Mutex<Books>>,
        shared: Arc<Shared>,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        let course = Arc::clone(&orders.borrow().course);
        // The roster starts devices from within the runtime, as a timer needs it.
        Self { index, books, shared, orders, course, alarm: Box::pin(sleep(Duration::ZERO)), alarm_at: Micros(0) }
    }

    /// Runs until the device has left the fleet, and returns its index.
    pub(super) async fn run(mut self) -> DeviceIndex {
        self.follow_orders();
        self.live().await;
        self.step(|books, turn| {
            books.withhold_held(turn);
            books.abandon(turn);
            books.state = State::Absent;
            if std::mem::replace(&mut books.lost_at, Micros::NEVER) != Micros::NEVER {
                turn.stripe.stats.sessions.left(turn.now);
            }
        });
        self.index
    }

    /// Connects whenever it has no session; `None` once the device has left.
    async fn live(&mut self) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let mut link: Option<(AsyncClient, EventLoop)> = None;
        loop {
            self.wait_for_connect().await?;
            let permit = self.keep_time(pace(&shared), None).await?;
            let attempt = lock(&self.books).attempts;
            let turn = shared.brokers.turn(self.index).wrapping_add(attempt);
            let broker = match shared.brokers.of(self.index).resolver.address(turn) {
                Ok(broker) => broker,
                Err(none) => {
                    self.step(|books, turn| books.without_address(turn, none));
                    continue;
                }
            };
            let (options, connect_bytes) = options(&shared.blueprint, self.index, broker);
            let (client, event_loop) = link.get_or_insert_with(|| {
                let (client, mut event_loop) = AsyncClient::new(options.clone(), channel(&shared.blueprint));
                event_loop.set_network_options(network(shared.blueprint.connect.timeout));
                (client, event_loop)
            });
            event_loop.mqtt_options = options;
            let is_connected = self.connect(event_loop, connect_bytes).await?;
            drop(permit);
            if is_connected {
                self.serve(client, event_loop).await?;
            }
        }
    }

    async fn wait_for_connect(&mut self) -> Option<()> {
        loop {
            let wait = lock(&self.books).connect_at.since(self.shared.clock.now());
            if wait == Span::ZERO {
                return Some(());
            }
            self.keep_time(sleep(wait.min(LONGEST_SLEEP).as_duration()), None).await?;
        }
    }

    /// Makes one attempt to connect; false when it failed.
    async fn connect(&mut self, event_loop: &mut EventLoop, connect_bytes: u64) -> Option<bool> {
        self.step(|books, turn| {
            books.state = State::Connecting;
            books.since = turn.now;
        });
        let patience = self.shared.blueprint.connect.timeout.as_duration();
        let answer = self.keep_time(timeout(patience, event_loop.poll()), None).await?;
        match answer.unwrap_or(Err(ConnectionError::NetworkTimeout)) {
            Ok(event) => {
                let session_present = matches!(&event, Event::Incoming(Packet::ConnAck(ack)) if ack.session_present);
                if !session_present {
                    // rumqttc keeps it, and would send nothing more until it is acknowledged, which is never.
                    event_loop.state.collision = None;
                }
                self.step(|books, turn| {
                    turn.stripe.stats.bytes.sent += connect_bytes;
                    books.take(turn, &event);
                    books.connected(turn, session_present);
                });
                Some(true)
            }
            Err(error) => {
                tracing::debug!(device = self.index.number(), %error, "an attempt to connect has failed");
                self.step(|books, turn| books.failed(turn, &error));
                Some(false)
            }
        }
    }

    /// Keeps an accepted session going until it is lost; `None` when the device has ended it itself.
    async fn serve(&mut self, client: &AsyncClient, event_loop: &mut EventLoop) -> Option<()> {
        self.step(|books, turn| books.catch_up(turn, client));
        loop {
            match self.keep_time(event_loop.poll(), Some(client)).await? {
                Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                    self.step(|books, turn| books.take(turn, &Event::Outgoing(Outgoing::Disconnect)));
                    return None;
                }
                Ok(event) => self.step(|books, turn| {
                    books.take(turn, &event);
                    books.catch_up(turn, client);
                }),
                Err(error) => {
                    tracing::debug!(device = self.index.number(), %error, "a session is lost");
                    // What was reported before the error is still to be read; it belongs to this connection.
                    let events = std::mem::take(&mut event_loop.state.events);
                    return self.step(|books, turn| {
                        for event in &events {
                            books.take(turn, event);
                        }
                        if books.state == State::Closing {
                            return None;
                        }
                        books.lost(turn, &error);
                        Some(())
                    });
                }
            }
        }
    }

    /// Waits for `future` and keeps the timetable meanwhile; `None` when the device has left.
    ///
    /// The future is never dropped to do something else: rumqttc loses a packet if it is stopped while it writes one.
    /// It has its turn before each message, so that the channel is full only if the event loop cannot go on.
    async fn keep_time<T>(&mut self, future: impl Future<Output = T>, client: Option<&AsyncClient>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let is_due = self.set_alarm();
            select! {
                biased;
                outcome = &mut future => return Some(outcome),
                () = ready(()), if is_due => {}
                Ok(()) = self.orders.changed() => self.follow_orders(),
                () = &mut self.alarm, if !is_due => {}
            }
            if !self.step(|books, turn| books.turn(turn, client)) {
                return None;
            }
        }
    }

    /// Sets the alarm to the next instant at which there is anything to do; true when that is now.
    fn set_alarm(&mut self) -> bool {
        let at = lock(&self.books).next_turn(self.shared.blueprint.loss_after);
        let wait = at.since(self.shared.clock.now());
        if wait == Span::ZERO {
            return true;
        }
        // One that went off early, after the longest sleep, is set again.
        if at != self.alarm_at || self.alarm.is_elapsed() {
            self.alarm_at = at;
            self.alarm.as_mut().reset(Instant::now() + wait.min(LONGEST_SLEEP).as_duration());
        }
        false
    }

    fn follow_orders(&mut self) {
        let Orders { course, is_draining } = self.orders.borrow_and_update().clone();
        self.course = course;
        self.step(|books, turn| books.follow(turn, is_draining));
    }

    fn step<T>(&self, act: impl FnOnce(&mut Books, &mut Turn<'_>) -> T) -> T {
        let mut books = lock(&self.books);
        let mut stripe = self.shared.stripe(self.index);
        let now = self.shared.clock.now();
        act(&mut books, &mut Turn { shared: &self.shared, course: &self.course, stripe: &mut stripe, now })
    }
}

impl Books {
    /// Does what is due; false when the device has left. `client` is that of an accepted session.
    fn turn(&mut self, turn: &mut Turn<'_>, client: Option<&AsyncClient>) -> bool {
        let Some(client) = client else {
            while self.offer_next(turn, None) {}
            return turn.now < self.leave_at;
        };
        match self.state {
            State::Leaving if self.is_settled() => {
                self.state = State::Closing;
                self.since = turn.now;
                return client.try_disconnect().is_ok();
            }
            State::Leaving | State::Closing => return turn.now < self.patience_ends(turn.shared.blueprint.loss_after),
            _ if self.leave_at <= turn.now => {
                self.withhold_held(turn);
                self.state = State::Leaving;
                self.since = turn.now;
            }
            _ => {
                self.catch_up(turn, client);
                self.offer_next(turn, Some(client));
            }
        }
        true
    }
}

/// Waits for a place among the attempts under way, then for the fleet's pace; first come, first served.
async fn pace(shared: &Shared) -> SemaphorePermit<'_> {
    let permit = shared.under_way.acquire().await.expect("the semaphore is never closed");
    let mut pacer = shared.pacer.lock().await;
    while let Err(later) = pacer.take(shared.clock.now()) {
        sleep(later.since(shared.clock.now()).as_duration()).await;
    }
    // The semaphore counts what is under way.
    pacer.release();
    permit
}
