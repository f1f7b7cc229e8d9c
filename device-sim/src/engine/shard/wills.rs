//! What a shard knows of the wills of its devices: when a session ends and how, what the observer brings, and which topics are to be
//! looked at for what the broker retains.
//!
//! Nothing here is on a message's way: sessions end and begin, and a sweep looks after what is overdue.

use std::collections::HashMap;

use fleet_contract::{stamp::Stamp, stats::Wills as Counts, time::Micros, units::Span};

use super::{Shard, agents::site, counted::Counted};
use crate::{
    agent::{Agent, Made},
    blueprint::Will,
    engine::{device::State, slot::Slot, world::World},
    index::DeviceIndex,
    observe::{
        bodies,
        ledger::Following,
        retained::{Found, Look, Looked},
        wills::{Debt, Fate, Presence, Standing},
    },
    session::codec::Qos,
};

/// So long after a device is back its topic is looked at.
const SETTLED: Span = Span::from_secs(1);

/// A look that is not answered by then is given up.
const ANSWER_PATIENCE: Span = Span::from_secs(20);

/// Topics that wait for their look at most; more are not looked at.
const PLANNED_MAX: usize = 65_536;

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The device ends the connection without a word.
    Closed,
    /// The device has said DISCONNECT.
    Said,
    /// The broker or the network has ended it.
    Theirs,
}

/// Topics whose retained messages are looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Devices that are back, and when their topics are to be looked at.
    pub(super) planned: HashMap<Slot, Micros>,
    /// Those that are looked at.
    pub(super) asked: HashMap<Slot, Asked>,
}

/// A look that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) at: Micros,
    /// The digests of what may be found.
    pub(super) may_be: Vec<u64>,
    pub(super) pass: Pass,
}

/// Which look at a topic it is. Brokers that send retained messages beside the answers of a connection may be slower with them than a
/// look waits, so that one look alone accuses nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    First,
    /// The first has found something else than what may be there.
    Second,
}

impl Looks {
    fn is_empty(&self) -> bool {
        self.planned.is_empty() && self.asked.is_empty()
    }
}

impl Counted {
    /// Counts what became of a will.
    fn note_will(&mut self, fate: Fate) {
        let (fault, count): (_, fn(&mut Counts)) = match fate {
            Fate::Expected(fault) => (fault, |wills| wills.expected += 1),
            Fate::Seen { since, at, fault } => {
                let time = at.since(since);
                self.by_stream.latency(since).offline_detection.record(time);
                if let Some(number) = fault {
                    self.stats.faults.of(number).offline_detection.record(time);
                }
                (fault, |wills| wills.seen += 1)
            }
            Fate::Missing(fault) => (fault, |wills| wills.missing += 1),
            Fate::Unknown(fault) => (fault, |wills| wills.unknown += 1),
            Fate::Late(fault) => (fault, |wills| wills.late += 1),
            Fate::Unexpected(fault) => (fault, |wills| wills.unexpected += 1),
            Fate::ByBroker => (None, |wills| wills.by_broker += 1),
        };
        self.count_will(fault, count);
    }

    fn count_will(&mut self, fault: Option<u32>, count: impl Fn(&mut Counts)) {
        count(&mut self.stats.wills);
        if let Some(number) = fault {
            count(&mut self.stats.faults.of(number).wills);
        }
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Whether the will of a device is followed to the observer.
    fn follows_will(&self, slot: Slot) -> bool {
        self.roster.devices[slot].is_observed && self.will(slot).is_some_and(|will| will.is_followed)
    }

    /// The will of a device, if it has one.
    fn will(&self, slot: Slot) -> Option<&Will> {
        self.blueprint.group(self.roster.devices[slot].group).will.as_ref()
    }

    /// The keep-alive after which a broker gives a silent device up (MQTT-3.1.2-24); `None` if it never does.
    fn given_up_after(&self, slot: Slot) -> Option<Span> {
        let terms = self.roster.devices[slot].session.terms();
        let keep_alive = match terms.and_then(|terms| terms.server_keep_alive) {
            Some(seconds) => Span::from_secs(seconds.into()),
            None => self.blueprint.session.keep_alive,
        };
        (keep_alive > Span::ZERO).then_some(Span(keep_alive.0 + keep_alive.0 / 2))
    }

    /// A debt of a session that ended at `since` and that the broker knows of at `known`.
    fn debt(&self, slot: Slot, since: Micros, known: Micros, standing: Standing) -> Debt {
        let from = known.after(self.blueprint.will_delay());
        let until = from.after(self.blueprint.loss_after);
        Debt { since, from, until, fault: self.lost_by(slot, since), standing }
    }

    /// The session of a device is over, or its CONNECT waits no longer for an answer.
    pub(super) fn note_session_over(&mut self, slot: Slot, over: Over, now: Micros) {
        if !self.follows_will(slot) {
            return;
        }
        let was_connected = self.roster.devices[slot].state.is_connected();
        self.counted.stats.wills.armed -= u32::from(was_connected);
        if was_connected && self.watched.wills.is_silent(slot) {
            // Not even a DISCONNECT goes, or it comes too late. The broker sees the end when it gives the device up, or when the network
            // is back, unless it has given it up already.
            let (wills, counted) = (&mut self.watched.wills, &mut self.counted);
            return wills.give_up(slot, &mut |fate| counted.note_will(fate));
        }
        match over {
            Over::Closed => {
                // A session without a life of its own ends with its connection, so that no delay holds its will (3.1.3.2.2).
                let is_delayed = self.blueprint.will_delay() > Span::ZERO;
                let standing = if is_delayed { Standing::Delayed } else { Standing::Owed };
                self.owe(slot, self.debt(slot, now, now, standing));
            }
            Over::Said => {
                let fault = self.lost_by(slot, now);
                self.watched.wills.disconnected(slot, fault);
                self.counted.count_will(fault, |wills| wills.deleted += 1);
                // Who closes while answers are under way resets the connection (RFC 2525, 2.17), and a broker that writes them may see
                // that before it reads the DISCONNECT: its will is no fault of its own then.
                if self.roster.devices[slot].session.in_flight() > 0 {
                    self.owe(slot, self.debt(slot, now, now, Standing::Brokers));
                }
            }
            Over::Theirs => self.owe(slot, self.debt(slot, now, now, Standing::Brokers)),
        }
        self.looks_may_find_will(slot);
    }

    /// No byte of a device goes any more: the broker learns by the keep-alive that it is gone.
    pub(super) fn note_silence(&mut self, slot: Slot, now: Micros) {
        if !self.roster.devices[slot].state.is_connected() || !self.follows_will(slot) {
            return;
        }
        let debt = if let Some(after) = self.given_up_after(slot) {
            self.debt(slot, now, now.after(after), Standing::Silent)
        } else {
            let never = Micros::NEVER;
            Debt { from: never, until: never, ..self.debt(slot, now, now, Standing::Silent) }
        };
        self.owe(slot, debt);
        self.looks_may_find_will(slot);
    }

    /// Bytes of a device go again.
    pub(super) fn note_heard_again(&mut self, slot: Slot, now: Micros) {
        let until = now.after(self.blueprint.will_delay()).after(self.blueprint.loss_after);
        let (wills, counted) = (&mut self.watched.wills, &mut self.counted);
        wills.heard_again(slot, now, until, &mut |fate| counted.note_will(fate));
    }

    fn owe(&mut self, slot: Slot, debt: Debt) {
        let index = self.roster.index(slot);
        let is_kept = self.will(slot).is_some_and(|will| will.qos > Qos::AtMostOnce);
        let is_seen = self.inlet(slot).watch.following(index, is_kept) != Following::Unobserved;
        let (wills, counted) = (&mut self.watched.wills, &mut self.counted);
        wills.ended(slot, debt, is_seen, &mut |fate| counted.note_will(fate));
    }

    /// The broker has accepted the session of a device.
    pub(super) fn note_session_begun(&mut self, slot: Slot, session_present: bool, now: Micros) {
        if !self.follows_will(slot) {
            return;
        }
        self.counted.stats.wills.armed += 1;
        self.watched.wills.begun(slot);
        if session_present {
            self.watched.wills.back(slot, now);
        }
    }

    /// The device has offered its birth message: what the broker retains is looked at when that has arrived, if the device had lost a
    /// session.
    pub(super) fn plan_look(&mut self, slot: Slot, had_lost: bool, now: Micros) {
        if !had_lost || !self.is_taken_back(slot) || !self.follows_will(slot) {
            return;
        }
        if self.watched.looks.asked.contains_key(&slot) {
            let birth = self.birth(slot);
            if let Some(asked) = self.watched.looks.asked.get_mut(&slot) {
                asked.may_be.extend(birth);
            }
        }
        if self.watched.looks.planned.len() < PLANNED_MAX {
            self.watched.looks.planned.insert(slot, now.after(SETTLED));
        }
    }

    /// A will has come.
    pub(super) fn will_arrived(&mut self, device: DeviceIndex, at: Micros, may_repeat: bool) {
        let Some(slot) = self.roster.slots.slot(device) else { return };
        let known = self.roster.slot(device);
        // One topic may bring the wills of devices that are not in the sample.
        if known.is_some_and(|slot| !self.follows_will(slot)) {
            return;
        }
        let presence = known.map_or(Presence::Away, |slot| self.presence(slot, at));
        let mut is_seen = false;
        let (wills, counted) = (&mut self.watched.wills, &mut self.counted);
        wills.arrived(slot, at, presence, may_repeat, &mut |fate| {
            is_seen |= matches!(fate, Fate::Seen { .. });
            counted.note_will(fate);
        });
        let Some(slot) = known.filter(|_| is_seen) else { return };
        let is_up = self.roster.devices[slot].state.is_connected();
        if !(is_up && self.is_taken_back(slot)) {
            let may_be = self.will_digest(slot).into_iter().collect();
            self.look(slot, may_be, Pass::First);
        }
    }

    fn presence(&self, slot: Slot, now: Micros) -> Presence {
        let device = &self.roster.devices[slot];
        // An earlier process of the run may have left sessions that the broker gives up by their keep-alive, or for the new ones.
        let is_late = self.world.epoch() > self.blueprint.start.after(SETTLED);
        let is_successor = self.watched.has_predecessor || is_late;
        let given_up_after = self.given_up_after(slot).unwrap_or_default();
        let late = Span(self.blueprint.loss_after.0 + self.blueprint.will_delay().0 + given_up_after.0);
        let is_young = device.counts.sessions == 1 && is_successor && device.times.since.after(late) > now;
        match device.state {
            _ if device.counts.sessions == 0 => Presence::New,
            State::Up | State::Leaving if is_young => Presence::New,
            State::Up | State::Leaving => Presence::Up,
            _ => Presence::Away,
        }
    }

    /// Judges wills that are overdue, and looks at topics whose time has come.
    pub(super) fn sweep_wills(&mut self, now: Micros) {
        if !self.watched.wills.is_empty() {
            let Self { watched, counted, roster, world, blueprint, life, recorder, .. } = self;
            let (inlets, is_draining) = (&watched.inlets, life.is_draining);
            let is_watched =
                |slot: Slot| is_draining || inlets[world.broker(roster.slots.index(slot))].watch.is_subscribed();
            watched.wills.expire(now, blueprint.loss_after, is_watched, &mut |fate| {
                recorder.note_change(now);
                counted.note_will(fate);
            });
        }
        if !self.watched.looks.is_empty() {
            self.watched.looks.asked.retain(|_, asked| asked.at.after(ANSWER_PATIENCE) > now);
            self.look_in_time(now);
        }
    }

    /// The observer of a broker has lost its connection, or the broker has forgotten its session: what it does not keep is gone.
    pub(super) fn wills_without_observer(&mut self, broker: usize, is_forgotten: bool) {
        let Self { watched, counted, roster, world, blueprint, .. } = self;
        let is_gone = |slot: Slot| {
            let index = roster.slots.index(slot);
            let will = blueprint.group_of(index).will.as_ref();
            let is_kept = will.is_some_and(|will| will.qos > Qos::AtMostOnce) && !is_forgotten;
            world.broker(index) == broker && !is_kept
        };
        watched.wills.observer_lost(is_gone, &mut |fate| counted.note_will(fate));
    }

    /// The observer of a broker is subscribed again.
    pub(super) fn wills_with_observer(&mut self, broker: usize, at: Micros) {
        let Self { watched, roster, world, blueprint, .. } = self;
        let is_of_it = |slot: Slot| world.broker(roster.slots.index(slot)) == broker;
        watched.wills.observer_back(is_of_it, at.after(blueprint.loss_after));
    }

    /// The fleet leaves: wills are waited for as long as messages are.
    pub(super) fn drain_wills(&mut self, now: Micros) {
        let (watched, counted) = (&mut self.watched, &mut self.counted);
        watched.looks.planned.clear();
        watched.wills.drain(now.after(self.blueprint.loss_after), &mut |fate| counted.note_will(fate));
    }

    /// Whether neither a will nor an answer about a retained message is waited for.
    pub(super) fn are_wills_settled(&self) -> bool {
        self.watched.wills.is_settled() && self.watched.looks.is_empty()
    }

    /// Whether the birth message of a device replaces what its will has left.
    fn is_taken_back(&self, slot: Slot) -> bool {
        self.will(slot).is_some_and(|will| will.is_looked_at && will.is_taken_back)
    }

    /// What the broker retains once the will has come.
    fn will_digest(&self, slot: Slot) -> Option<u64> {
        let will = self.will(slot)?;
        will.is_looked_at.then(|| bodies::digest(will.payload.text(self.roster.index(slot).number()).as_bytes()))
    }

    /// What the broker retains once the birth message has come, which is made once more.
    fn birth(&mut self, slot: Slot) -> Option<u64> {
        let stream = self.blueprint.group(self.roster.devices[slot].group).model.birth()?;
        let state = self.roster.stream(slot, stream);
        let (seq, due) = (state.row.next.checked_sub(1)?, state.last_due);
        let stamp: Stamp = self.stamp(seq, due);
        let site = site(&self.blueprint, &self.roster, slot);
        let (agent, buffers) = (&self.agents.agent, &mut self.buffers);
        buffers.body.clear();
        agent.encode(&site, Made::truly(stream, &stamp, &[]), &mut buffers.scratch, &mut buffers.body);
        Some(bodies::digest(&buffers.body))
    }

    /// A will may come while the topic is looked at.
    fn looks_may_find_will(&mut self, slot: Slot) {
        self.watched.looks.planned.remove(&slot);
        if let Some(digest) = self.will_digest(slot)
            && let Some(asked) = self.watched.looks.asked.get_mut(&slot)
        {
            asked.may_be.push(digest);
        }
    }

    /// Looks at the topics of devices that are back, once their birth messages have arrived and no will is waited for.
    fn look_in_time(&mut self, now: Micros) {
        let due: Vec<Slot> =
            self.watched.looks.planned.iter().filter(|(_, at)| **at <= now).map(|(slot, _)| *slot).collect();
        for slot in due {
            let Some(device) = self.roster.devices.get(slot) else {
                self.watched.looks.planned.remove(&slot);
                continue;
            };
            // What waits for a place in flight is not what was sent last.
            let is_sent = device.queued() == 0 && !device.session.is_recovering();
            let birth = self.blueprint.group(device.group).model.birth();
            let is_settled = is_sent && birth.is_none_or(|birth| self.roster.stream(slot, birth).row.is_settled());
            let is_busy = self.watched.looks.asked.contains_key(&slot) || self.watched.wills.is_owed(slot);
            if device.state != State::Up || !is_settled || is_busy {
                continue;
            }
            self.watched.looks.planned.remove(&slot);
            let may_be = self.birth(slot).into_iter().collect();
            self.look(slot, may_be, Pass::First);
        }
    }

    /// Asks for a look at what the broker retains on the topic of a device's will; one at a time.
    fn look(&mut self, slot: Slot, may_be: Vec<u64>, pass: Pass) {
        if may_be.is_empty() || self.watched.looks.asked.contains_key(&slot) {
            return;
        }
        let look = Look { device: self.roster.index(slot) };
        // Nobody waits for one that finds no place.
        let is_asked = self.inlet(slot).looks.as_ref().is_some_and(|looks| looks.try_send(look).is_ok());
        if is_asked {
            let at = self.world.now();
            self.watched.looks.asked.insert(slot, Asked { at, may_be, pass });
        }
    }

    /// A topic was looked at.
    pub(super) fn looked(&mut self, Looked { device, found }: Looked) {
        let Some(slot) = self.roster.slots.slot(device) else { return };
        let Some(Asked { may_be, pass, .. }) = self.watched.looks.asked.remove(&slot) else { return };
        let is_right = match found {
            Found::Unknown => return,
            Found::Nothing => false,
            Found::Message(digest) => may_be.contains(&digest),
        };
        if !is_right && pass == Pass::First {
            return self.look(slot, may_be, Pass::Second);
        }
        let fault = self.watched.wills.struck_by(slot);
        self.counted.count_will(fault, |wills| {
            *if is_right { &mut wills.retained_right } else { &mut wills.retained_wrong } += 1;
        });
    }
}
