//! Faults, carried out: who is hit, what holds for them, and what it has done.
//!
//! All that a device without a fault pays is the look at one flag.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use fleet_contract::{fault::Ending, plan::Strike, stats::FaultStats, time::Micros, units::Span};
use foldhash::{HashMap, HashSet};

use super::{Shard, link::Link, wills::Over};
use crate::{
    agent::Agent,
    engine::{course::Course, device::State, slot::Slot, world::World},
    fault::{self, Aimed, ComesBack, Conditions, End},
    index::{DeviceIndex, StreamIndex},
};

/// So many devices that come back at once begin to connect in one turn, so that the messages of the others are not late.
const RUSH_PER_TURN: usize = 64;

/// After a failed attempt a device of a storm tries again so soon.
const RUSH_AGAIN: Span = Span::from_millis(100);

/// A session that ends so soon after the network is back was lost while it was away: only now is the device told.
const TOLD_WITHIN: Span = Span::from_secs(1);

/// What an attempt to connect is called that the network has swallowed.
pub(super) const BLACKHOLE: &str = "blackhole_fault";

/// The faults of a shard.
pub(super) struct Faults<C> {
    /// Those of the plan that have begun, by number.
    begun: BTreeSet<u32>,
    /// Those that last.
    active: Vec<Arc<Aimed>>,
    /// When the next one begins or ends.
    next: Micros,
    /// Whether devices are in the regions of faults that last, by the fault's number.
    within: HashMap<(u32, DeviceIndex), bool>,
    /// The devices for which conditions hold.
    hit: HashMap<Slot, Hit>,
    /// Which fault a device has lost its session by, until it has it back.
    lost_by: HashMap<Slot, u32>,
    /// Devices that the network has come back to, by which fault it was away, and until when an end of their session is owed
    /// to that.
    told: HashMap<Slot, (u32, Micros)>,
    /// Connections that devices have given up while no byte went: the other end is not to see them close until it does.
    given_up: Vec<C>,
    /// Devices that come back at once, in the order in which they lost their sessions.
    rush: VecDeque<Slot>,
    /// The devices that have lost a session by an act, with its number.
    hit_by_act: HashSet<(u32, Slot)>,
    /// Since when this process runs devices.
    since: Micros,
    /// When the process before this one was ended by an act.
    replaced: Option<Micros>,
}

/// What holds for a device that is hit.
#[derive(Debug, Default)]
pub(super) struct Hit {
    pub(super) conditions: Conditions,
    /// What is under way between it and the broker.
    pub(super) link: Link,
    /// Up to when its session has ended again and again.
    ended_until: Micros,
}

impl<C> Faults<C> {
    /// None that was over before `now`.
    pub(super) fn after(course: &Course, now: Micros) -> Self {
        let past = course.faults().iter().filter(|fault| fault.strike.at <= now && fault.strike.until <= now);
        let begun = past.map(|fault| fault.strike.number).collect();
        let mut faults = Self {
            begun,
            active: Vec::new(),
            next: Micros::NEVER,
            within: HashMap::default(),
            hit: HashMap::default(),
            lost_by: HashMap::default(),
            told: HashMap::default(),
            given_up: Vec::new(),
            rush: VecDeque::new(),
            hit_by_act: HashSet::default(),
            since: now,
            replaced: None,
        };
        faults.look_ahead(course);
        faults
    }

    /// When the next one begins or ends; never if none does.
    pub(super) const fn at(&self) -> Micros {
        self.next
    }

    /// Whether devices wait to come back at once.
    pub(super) fn is_rushing(&self) -> bool {
        !self.rush.is_empty()
    }

    /// Follows another plan: one that it does not know any more, or that is shorter in it, ends sooner.
    fn follow(&mut self, course: &Course) {
        let known = |number: u32| course.faults().iter().find(|fault| fault.strike.number == number);
        self.begun.retain(|number| known(*number).is_some());
        for active in &mut self.active {
            match known(active.strike.number) {
                Some(fault) => *active = Arc::clone(fault),
                None => Arc::make_mut(active).strike.until = Micros(0),
            }
        }
        self.look_ahead(course);
    }

    fn look_ahead(&mut self, course: &Course) {
        let begins = course.faults().iter().filter(|fault| !self.begun.contains(&fault.strike.number));
        let begins = begins.map(|fault| fault.strike.at);
        self.next = begins.chain(self.active.iter().map(|fault| fault.strike.until)).min().unwrap_or(Micros::NEVER);
    }

    /// Forgets who was in the regions of faults that do not last.
    fn forget_regions(&mut self) {
        let Self { within, active, .. } = self;
        within.retain(|(number, _), _| active.iter().any(|fault| fault.strike.number == *number));
    }

    /// The next one that has ended by now.
    fn ended(&mut self, now: Micros) -> Option<Arc<Aimed>> {
        let place = self.active.iter().position(|fault| fault.strike.until <= now)?;
        Some(self.active.remove(place))
    }

    /// The next one that has begun by now.
    fn begins(&mut self, course: &Course, now: Micros) -> Option<Arc<Aimed>> {
        let is_new = |fault: &&Arc<Aimed>| fault.strike.at <= now && !self.begun.contains(&fault.strike.number);
        let fault = Arc::clone(course.faults().iter().find(is_new)?);
        self.begun.insert(fault.strike.number);
        if !fault.is_instant() && fault.strike.until > now {
            self.active.push(Arc::clone(&fault));
        }
        Some(fault)
    }

    /// Whether a fault still lasts at an instant: it ends at the end of a turn, in which messages are said that fall due later.
    pub(super) fn lasts(&self, number: u32, at: Micros) -> bool {
        let active = self.active.iter().find(|fault| fault.strike.number == number);
        active.is_none_or(|fault| at < fault.strike.until)
    }

    /// What holds for a device that is hit.
    pub(super) fn hit(&self, slot: Slot) -> Option<&Hit> {
        self.hit.get(&slot)
    }

    /// The same, to be changed.
    pub(super) fn hit_mut(&mut self, slot: Slot) -> Option<&mut Hit> {
        self.hit.get_mut(&slot)
    }

    /// Whether links of devices are slow.
    pub(super) fn slow_links(&self) -> bool {
        self.active.iter().any(|fault| fault.slows_links())
    }

    /// Whether what a device sends takes longer than it does by itself.
    pub(super) fn slows(&self, slot: Slot) -> bool {
        self.conditions(slot).is_some_and(|conditions| conditions.cut_off.is_some() || !conditions.up.is_free())
    }

    /// The act that lasts: what is lost while it does is owed to it, unless another fault has done it.
    fn act(&self) -> Option<u32> {
        let act = self.active.iter().rev().find(|fault| fault.strike.fault.is_act());
        act.map(|fault| fault.strike.number)
    }

    /// When the next bytes arrive at either end of the link of a device.
    pub(super) fn arrives(&self, slot: Slot) -> Micros {
        let open = self.hit(slot).filter(|hit| hit.conditions.cut_off.is_none());
        open.map_or(Micros::NEVER, |hit| hit.link.next())
    }

    fn conditions(&self, slot: Slot) -> Option<&Conditions> {
        self.hit.get(&slot).map(|hit| &hit.conditions)
    }

    /// By which fault no byte of a device goes or comes.
    pub(super) fn cut_off(&self, slot: Slot) -> Option<u32> {
        self.conditions(slot)?.cut_off
    }

    /// By which fault a device signs in with a wrong password.
    pub(super) fn wrong_password(&self, slot: Slot) -> Option<u32> {
        self.conditions(slot)?.wrong_password
    }

    /// By which fault nothing of a stream falls due.
    pub(super) fn silent(&self, slot: Slot, stream: StreamIndex) -> Option<u32> {
        let silent = self.conditions(slot)?.silent.iter().find(|(silent, _)| *silent == stream);
        silent.map(|(_, number)| *number)
    }

    /// When the session of a device ends next, of one whose does again and again.
    pub(super) fn ends_again(&self, slot: Slot) -> Micros {
        let next = self.hit.get(&slot).and_then(|hit| Some(hit.conditions.again?.next(hit.ended_until)));
        next.unwrap_or(Micros::NEVER)
    }

    /// How long a device that is hit waits before it connects; `None` means as ever. `is_end` if a fault has just ended its
    /// session.
    pub(super) fn wait(&self, slot: Slot, is_end: bool) -> Option<Span> {
        match self.conditions(slot)?.comes_back {
            ComesBack::AtOnce => Some(if is_end { Span::ZERO } else { RUSH_AGAIN }),
            ComesBack::Paced if is_end => Some(Span::ZERO),
            ComesBack::Paced | ComesBack::AsEver => None,
        }
    }

    /// Forgets a device that is there no more.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.hit.remove(&slot);
        self.lost_by.remove(&slot);
        self.told.remove(&slot);
    }
}

impl<W: World, A: Agent> Shard<W, A> {
    /// Follows the faults of the plan that is the course now.
    pub(super) fn follow_faults(&mut self) {
        self.faults.follow(&self.course);
    }

    /// Begins the faults whose time has come.
    pub(super) fn begin_faults_in_time(&mut self) {
        let now = self.world.now();
        if now < self.faults.at() {
            return;
        }
        self.recorder.note_change(now);
        while let Some(fault) = self.faults.begins(&self.course, now) {
            self.begin_fault(&fault, now);
        }
        self.faults_have_changed(now);
    }

    /// Ends the faults whose time has come.
    pub(super) fn end_faults_in_time(&mut self) {
        let now = self.world.now();
        if now < self.faults.at() {
            return;
        }
        self.recorder.note_change(now);
        while let Some(fault) = self.faults.ended(now) {
            self.end_fault(&fault, now);
        }
        self.faults_have_changed(now);
    }

    fn faults_have_changed(&mut self, now: Micros) {
        self.set_pace(now);
        self.faults.forget_regions();
        self.faults.told.retain(|_, (_, until)| *until > now);
        self.faults.look_ahead(&self.course);
    }

    fn begin_fault(&mut self, fault: &Arc<Aimed>, now: Micros) {
        let (kind, number) = (fault::kind(&fault.strike.fault), fault.strike.number);
        // One that hits nobody has begun all the same.
        let _ = self.fault(number);
        if fault.strike.fault.is_act() {
            if fault.strike.fault.ends_workers() && fault.strike.at <= self.faults.since {
                self.replace_killed(fault, now);
            }
            return;
        }
        for slot in self.hit_by(fault) {
            if !fault.is_instant() {
                self.impose(slot, now);
            }
            if self.roster.devices[slot].state != State::Absent {
                self.fault(number).devices += 1;
            }
            if let Some(end) = kind.ends_session() {
                self.end_by_fault(slot, number, end);
            }
            if self.roster.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
    }

    /// This process has come in place of one that an act has ended: its devices lost their sessions with that.
    fn replace_killed(&mut self, fault: &Aimed, now: Micros) {
        let Strike { at, number, .. } = fault.strike;
        self.faults.replaced = Some(at);
        let was_there = |slot: &Slot| {
            let stay = self.course.population.stay(self.roster.index(*slot).number(), at);
            stay.is_some_and(|stay| stay.from < at) && self.roster.devices[*slot].state != State::Absent
        };
        for slot in self.roster.devices.slots().filter(was_there).collect::<Vec<_>>() {
            self.faults.lost_by.insert(slot, number);
            self.note_hit_by_act(slot, number);
            self.fault(number).sessions.lost(now);
        }
    }

    /// Counts a device as hit by an act, once: whom it hits shows only by what is lost.
    fn note_hit_by_act(&mut self, slot: Slot, number: u32) {
        if self.faults.hit_by_act.insert((number, slot)) {
            self.fault(number).devices += 1;
        }
    }

    fn end_fault(&mut self, fault: &Arc<Aimed>, now: Micros) {
        if fault.strike.fault.is_act() {
            return;
        }
        for slot in self.hit_by(fault) {
            self.impose(slot, now);
            if self.roster.devices[slot].state != State::Absent {
                self.set_timer(slot);
            }
        }
        if self.faults.hit.values().all(|hit| hit.conditions.cut_off.is_none()) {
            self.faults.given_up.clear();
        }
    }

    /// The devices that a fault hits.
    fn hit_by(&mut self, fault: &Aimed) -> Vec<Slot> {
        self.roster.devices.slots().filter(|slot| self.is_hit_by(*slot, fault)).collect()
    }

    /// Whether a fault hits a device. The signals of a device are looked at once, however often this is asked while the fault lasts.
    fn is_hit_by(&mut self, slot: Slot, fault: &Aimed) -> bool {
        let (index, group) = (self.roster.index(slot), self.roster.devices[slot].group);
        if !fault.hits(index, group) {
            return false;
        }
        let Some(region) = fault.region() else { return true };
        let model = &self.blueprint.group(group).model;
        let is_within = || region.has(index, group, model, &mut self.buffers.scratch);
        *self.faults.within.entry((fault.strike.number, index)).or_insert_with(is_within)
    }

    /// What a fault has done in this shard.
    fn fault(&mut self, number: u32) -> &mut FaultStats {
        self.counted.stats.faults.of(number)
    }

    /// A fault has done something.
    pub(super) fn note_effect(&mut self, number: u32) {
        self.fault(number).effects += 1;
    }

    /// Sets the conditions of a device anew by the faults that last.
    pub(super) fn impose(&mut self, slot: Slot, now: Micros) {
        let index = self.roster.index(slot);
        let group = self.roster.devices[slot].group;
        let mut conditions = Conditions::default();
        for place in 0..self.faults.active.len() {
            let fault = Arc::clone(&self.faults.active[place]);
            if self.is_hit_by(slot, &fault) {
                fault.impose(index, &self.blueprint.group(group).model, &mut conditions);
            }
        }
        let floods = self.faults.hit(slot).map(|hit| hit.conditions.floods.clone()).unwrap_or_default();
        let (before, was_slow) = (self.faults.cut_off(slot), self.faults.slows(slot));
        let (is_cut_off, is_hit) = (conditions.cut_off.is_some(), conditions != Conditions::default());
        if is_hit {
            self.faults.hit.entry(slot).or_insert_with(|| Hit { ended_until: now, ..Hit::default() });
        }
        if let Some(hit) = self.faults.hit.get_mut(&slot) {
            hit.conditions = conditions;
        }
        self.roster.devices[slot].is_hit = is_hit;
        self.roster.devices[slot].is_faulty = is_hit || self.blueprint.group(group).model.has_faults();
        let state = self.roster.devices[slot].state;
        let is_there = matches!(state, State::Connecting | State::Up | State::Leaving | State::Closing);
        if was_slow && !self.faults.slows(slot) && is_there {
            // What was under way has as long as any other from now on.
            self.roster.devices[slot].times.since = now;
        }
        if is_cut_off && before.is_none() {
            self.note_silence(slot, now);
        }
        self.follow_floods(slot, &floods, now);
        self.carry(slot, now);
        if let Some(number) = before.filter(|_| !is_cut_off) {
            self.faults.told.insert(slot, (number, now.after(TOLD_WITHIN)));
            self.note_heard_again(slot, now);
            self.reconnect_network(slot, now);
        }
        if !is_hit {
            self.faults.hit.remove(&slot);
        }
    }

    /// The network is back: what waited on both sides goes its way.
    fn reconnect_network(&mut self, slot: Slot, now: Micros) {
        let device = &mut self.roster.devices[slot];
        match (device.state, &device.connection) {
            (State::Opening, None) => self.open(slot, now),
            (State::Opening, Some(_)) => self.opening(slot, now),
            (State::Connecting | State::Up | State::Leaving | State::Closing, Some(_)) => {
                // What has come meanwhile is not announced again.
                self.buffers.unread.push(slot);
                if device.state == State::Up {
                    self.pump(slot, now);
                }
            }
            (_, None) | (State::Offline | State::Absent, Some(_)) => {}
        }
    }

    /// Whether no byte of a device goes or comes.
    pub(super) fn is_cut_off(&self, slot: Slot) -> bool {
        self.roster.devices[slot].is_hit && self.faults.cut_off(slot).is_some()
    }

    /// Keeps a connection from being made, of a device that the network has swallowed; whether it is one.
    pub(super) fn swallow_attempt(&mut self, slot: Slot, now: Micros) -> bool {
        let Some(number) = self.faults.cut_off(slot) else { return false };
        self.note_effect(number);
        self.roster.devices[slot].open(now);
        self.set_timer(slot);
        true
    }

    /// Gives the connection of a device up. Its end is not seen on the other side while no byte goes.
    pub(super) fn drop_connection(&mut self, slot: Slot) {
        let connection = self.roster.devices[slot].connection.take();
        if !self.roster.devices[slot].is_hit {
            return;
        }
        if let Some(hit) = self.faults.hit.get_mut(&slot) {
            hit.link.clear();
            if hit.conditions.cut_off.is_some() {
                self.faults.given_up.extend(connection);
            }
        }
    }

    /// Ends the session of a device by a fault, if it has one.
    fn end_by_fault(&mut self, slot: Slot, number: u32, End { by, reason, is_effect }: End) {
        if self.roster.devices[slot].state != State::Up {
            return;
        }
        let now = self.world.now();
        let mut over = Over::Closed;
        if !self.is_cut_off(slot) {
            match by {
                Ending::Disconnect => {
                    self.buffers.out.clear();
                    self.roster.devices[slot].session.disconnect(now, &mut self.buffers.out);
                    if !self.write_out(slot, now) {
                        return;
                    }
                    self.hurry(slot, now);
                    over = Over::Said;
                }
                Ending::Close => {}
                Ending::Reset => {
                    if let Some(connection) = &self.roster.devices[slot].connection {
                        self.world.reset(connection);
                    }
                }
            }
        }
        if is_effect {
            self.note_effect(number);
        }
        self.faults.lost_by.insert(slot, number);
        let is_sent_again = !self.blueprint.session.clean;
        self.rows_mut(slot).iter_mut().for_each(|stream| stream.row.cut(is_sent_again));
        self.end_as(slot, reason, over, now);
    }

    /// Ends the session of a device whose session ends again and again, if it is time.
    pub(super) fn end_again(&mut self, slot: Slot, now: Micros) {
        let Some(hit) = self.faults.hit.get_mut(&slot) else { return };
        let Some(again) = hit.conditions.again.filter(|again| again.next(hit.ended_until) <= now) else { return };
        hit.ended_until = now;
        self.end_by_fault(slot, again.number, again.end);
    }

    /// By which fault a device loses its session now, if it is one.
    pub(super) fn lost_by(&self, slot: Slot, now: Micros) -> Option<u32> {
        let told = || self.faults.told.get(&slot).filter(|(_, until)| *until > now).map(|(number, _)| *number);
        let by_fault = self.faults.lost_by.get(&slot).copied().or_else(|| self.faults.cut_off(slot)).or_else(told);
        by_fault.or_else(|| self.faults.act())
    }

    /// Notes which fault a device that has lost its session has lost it by, if it was one.
    pub(super) fn note_lost(&mut self, slot: Slot, now: Micros) {
        if let Some(number) = self.lost_by(slot, now) {
            if self.faults.act() == Some(number) {
                self.note_hit_by_act(slot, number);
            }
            self.faults.lost_by.insert(slot, number);
            self.fault(number).sessions.lost(now);
        }
    }

    /// A device has its first session in this process: where an act has ended the one before it, it had lost one.
    pub(super) fn note_first(&mut self, slot: Slot, now: Micros) {
        if let Some(at) = self.faults.replaced {
            self.note_back(slot, now.since(at), now);
        }
    }

    /// A device that has lost its session has it back.
    pub(super) fn note_back(&mut self, slot: Slot, away: Span, now: Micros) {
        if let Some(number) = self.faults.lost_by.remove(&slot) {
            let fault = self.fault(number);
            fault.sessions.back(now);
            fault.recovery.record(away);
        }
    }

    /// A device leaves that has lost its session.
    pub(super) fn note_left(&mut self, slot: Slot, now: Micros) {
        if let Some(number) = self.faults.lost_by.remove(&slot) {
            self.fault(number).sessions.left(now);
        }
    }

    /// Whether a device comes back at once, whatever the fleet's pace.
    pub(super) fn rushes(&self, slot: Slot) -> bool {
        let conditions = self.faults.conditions(slot);
        conditions.is_some_and(|conditions| conditions.comes_back == ComesBack::AtOnce)
    }

    /// Puts a device behind those that come back at once.
    pub(super) fn rush(&mut self, slot: Slot) {
        self.roster.devices[slot].is_queued = true;
        self.faults.rush.push_back(slot);
        self.set_timer(slot);
    }

    /// Lets some of those connect that come back at once.
    pub(super) fn admit_rush(&mut self) {
        for _ in 0..RUSH_PER_TURN {
            let Some(slot) = self.faults.rush.pop_front() else { return };
            let now = self.world.now();
            // It may have left meanwhile.
            if self.roster.devices.get(slot).is_some_and(|device| device.is_queued) {
                self.roster.devices[slot].is_queued = false;
                self.attempts.pacer.begin();
                self.open(slot, now);
            }
        }
    }
}
