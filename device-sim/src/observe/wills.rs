//! The wills that devices owe, and what became of each: pure, as the ledger is.
//!
//! A device whose session ends without a DISCONNECT leaves its will to the broker (section 3.1.2.5 of MQTT 3.1.1 and 5). When it ended
//! is known to the shard that ended it; the observer brings what has come. A will that comes belongs to the oldest end that waits for
//! one, so that a lost one never makes the next look faster than it was.
//!
//! Of a session that the broker ended, nobody here knows when the broker did: its will is counted and not timed.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use fleet_contract::{time::Micros, units::Span};

/// What the broker owes after the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Debt {
    /// When the session ended, or the broker heard the last of the device.
    pub(crate) since: Micros,
    /// When the broker has to publish the will: after the will's delay, and after the keep-alive if nothing else tells it.
    pub(crate) from: Micros,
    /// When it is missing.
    pub(crate) until: Micros,
    /// The fault that ended the session.
    pub(crate) fault: Option<u32>,
    pub(crate) standing: Standing,
}

/// How sure it is that the broker publishes a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is to publish it.
    Owed,
    /// It is to publish it, unless the device is back before the will's delay is over: then it must not (MQTT-3.1.3-9).
    Delayed,
    /// No byte goes, and only the keep-alive tells the broker; a device that is heard again before that has lost nothing.
    Silent,
    /// It may have noticed a silence before it was over, or not.
    Possible,
    /// It has ended the session itself, or its answer to a CONNECT was not waited for.
    Brokers,
}

/// What became of a will; with the fault that it is owed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Expected(Option<u32>),
    Seen { since: Micros, at: Micros, fault: Option<u32> },
    Missing(Option<u32>),
    Unknown(Option<u32>),
    Late(Option<u32>),
    Unexpected(Option<u32>),
    ByBroker,
}

/// Where a device stands as its will comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has had no session yet, or is the first one of a process that follows another: that one may have left a will.
    New,
    /// Its session is up.
    Up,
    /// It has none.
    Away,
}

/// What is owed for one device.
#[derive(Debug, Default)]
struct Account {
    debts: VecDeque<Debt>,
    /// Wills that came while the session was up, which the broker may be ending.
    early: VecDeque<Micros>,
    /// Wills that were counted as missing, by the fault of the last.
    missed: u32,
    missed_by: Option<u32>,
    /// Whether all that the present session owes is owed for its silence, or has come for it.
    is_silent: bool,
}

impl Account {
    fn is_empty(&self) -> bool {
        self.debts.is_empty() && self.early.is_empty() && self.missed == 0 && !self.is_silent
    }
}

/// What is owed for the devices of a shard, by their places there; nothing of a device that owes nothing.
#[derive(Debug)]
pub(crate) struct Wills<Place> {
    accounts: HashMap<Place, Account>,
    /// By which fault each of them has lost its last session, of those that a fault has hit.
    struck: HashMap<Place, u32>,
}

impl<Place> Default for Wills<Place> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), struck: HashMap::new() }
    }
}

impl<Place: Copy + Eq + Hash> Wills<Place> {
    /// A session has ended without a DISCONNECT, or no byte of it goes any more. `is_seen` if the observer would see the will.
    pub(crate) fn ended(&mut self, place: Place, debt: Debt, is_seen: bool, tell: &mut impl FnMut(Fate)) {
        self.note_fault(place, debt.fault);
        let account = self.accounts.entry(place).or_default();
        if debt.standing == Standing::Brokers {
            // After a silence the broker ends what it had given up already.
            let may_be_owed = |debt: &Debt| matches!(debt.standing, Standing::Silent | Standing::Possible);
            if account.is_silent || account.debts.iter().any(may_be_owed) {
                return;
            }
            if account.early.pop_front().is_some() {
                return tell(Fate::ByBroker);
            }
        }
        account.is_silent = debt.standing == Standing::Silent;
        if debt.standing == Standing::Owed {
            tell(Fate::Expected(debt.fault));
            if !is_seen {
                tell(Fate::Unknown(debt.fault));
                return self.forget_if_empty(place);
            }
        } else if !is_seen {
            return self.forget_if_empty(place);
        }
        account.debts.push_back(debt);
    }

    /// A session has ended with a DISCONNECT, upon which the broker deletes the will (MQTT-3.14.4-3).
    pub(crate) fn disconnected(&mut self, place: Place, fault: Option<u32>) {
        self.note_fault(place, fault);
    }

    /// Whether all that the present session owes is owed for its silence, or has come for it: then its end owes nothing more.
    pub(crate) fn is_silent(&self, place: Place) -> bool {
        self.accounts.get(&place).is_some_and(|account| account.is_silent)
    }

    /// The device has given up a session of which no byte went: the broker learns that sooner or later.
    pub(crate) fn give_up(&mut self, place: Place, tell: &mut impl FnMut(Fate)) {
        if let Some(debt) = self.debts(place).find(|debt| debt.standing == Standing::Silent) {
            debt.standing = Standing::Owed;
            tell(Fate::Expected(debt.fault));
        }
    }

    /// The device has another session.
    pub(crate) fn begun(&mut self, place: Place) {
        if let Some(account) = self.accounts.get_mut(&place) {
            account.is_silent = false;
            self.forget_if_empty(place);
        }
    }

    /// Bytes go again: what was owed for a silence alone is owed no more, unless the keep-alive was over. `until` is when a will that
    /// comes of it has come.
    pub(crate) fn heard_again(&mut self, place: Place, now: Micros, until: Micros, tell: &mut impl FnMut(Fate)) {
        let Some(account) = self.accounts.get_mut(&place) else { return };
        for debt in &mut account.debts {
            if debt.standing == Standing::Silent {
                debt.until = debt.until.min(until).max(now);
                if debt.from <= now {
                    debt.standing = Standing::Owed;
                    tell(Fate::Expected(debt.fault));
                } else {
                    debt.standing = Standing::Possible;
                    account.is_silent = false;
                }
            } else if debt.until == Micros::NEVER {
                // Without a keep-alive the broker learns only now that the connection is closed.
                debt.until = until;
            }
        }
    }

    /// The broker has taken the device's session up again: a will whose delay is not over is not published.
    pub(crate) fn back(&mut self, place: Place, now: Micros) {
        if let Some(account) = self.accounts.get_mut(&place) {
            account.debts.retain(|debt| debt.standing != Standing::Delayed || debt.from <= now);
            self.forget_if_empty(place);
        }
    }

    /// A will has come. `may_repeat` if the observer's subscriptions may have brought it twice.
    pub(crate) fn arrived(
        &mut self,
        place: Place,
        at: Micros,
        presence: Presence,
        may_repeat: bool,
        tell: &mut impl FnMut(Fate),
    ) {
        let fault = self.struck.get(&place).copied();
        let account = self.accounts.entry(place).or_default();
        // What it waits for comes before what may come.
        let is_waited_for = |debt: &Debt| debt.standing != Standing::Brokers;
        let found = account.debts.iter().position(is_waited_for).or((!account.debts.is_empty()).then_some(0));
        match found.and_then(|position| account.debts.remove(position)) {
            Some(Debt { standing: Standing::Brokers, .. }) => tell(Fate::ByBroker),
            Some(Debt { since, fault, standing, .. }) => {
                if standing != Standing::Owed {
                    tell(Fate::Expected(fault));
                }
                tell(Fate::Seen { since, at, fault });
            }
            None if account.missed > 0 => {
                account.missed -= 1;
                tell(Fate::Late(account.missed_by));
            }
            None if may_repeat => {}
            None => match presence {
                Presence::New => tell(Fate::ByBroker),
                Presence::Up => account.early.push_back(at),
                Presence::Away => tell(Fate::Unexpected(fault)),
            },
        }
        self.forget_if_empty(place);
    }

    /// Judges what is overdue: a will that came while the session was up is unexpected after `patience`.
    /// One whose observer is away waits until that is back.
    pub(crate) fn expire(
        &mut self,
        now: Micros,
        patience: Span,
        is_watched: impl Fn(Place) -> bool,
        tell: &mut impl FnMut(Fate),
    ) {
        let struck = &self.struck;
        self.accounts.retain(|place, account| {
            for debt in &mut account.debts {
                if matches!(debt.standing, Standing::Delayed | Standing::Silent) && debt.from <= now {
                    debt.standing = Standing::Owed;
                    tell(Fate::Expected(debt.fault));
                }
            }
            let (missed, missed_by) = (&mut account.missed, &mut account.missed_by);
            let is_watched = account.debts.is_empty() || is_watched(*place);
            account.debts.retain(|debt| {
                if debt.until > now || !is_watched {
                    return true;
                }
                if debt.standing == Standing::Owed {
                    (*missed, *missed_by) = (missed.saturating_add(1), debt.fault);
                    tell(Fate::Missing(debt.fault));
                }
                false
            });
            while account.early.front().is_some_and(|at| at.after(patience) <= now) {
                account.early.pop_front();
                tell(Fate::Unexpected(struck.get(place).copied()));
            }
            !account.is_empty()
        });
    }

    /// The observer is away: wills that the broker does not keep for it are gone.
    pub(crate) fn observer_lost(&mut self, is_gone: impl Fn(Place) -> bool, tell: &mut impl FnMut(Fate)) {
        self.accounts.retain(|place, account| {
            if is_gone(*place) {
                let owed = account.debts.drain(..).filter(|debt| debt.standing == Standing::Owed);
                owed.for_each(|debt| tell(Fate::Unknown(debt.fault)));
            }
            !account.is_empty()
        });
    }

    /// The observer is back: what waits at the broker has until then to come.
    pub(crate) fn observer_back(&mut self, is_of_it: impl Fn(Place) -> bool, until: Micros) {
        let accounts = self.accounts.iter_mut().filter(|(place, _)| is_of_it(**place));
        for debt in accounts.flat_map(|(_, account)| &mut account.debts) {
            debt.until = debt.until.max(until);
        }
    }

    /// The fleet leaves: nothing is waited for beyond `until`. What is not owed by then stays unknown.
    pub(crate) fn drain(&mut self, until: Micros, tell: &mut impl FnMut(Fate)) {
        for debt in self.accounts.values_mut().flat_map(|account| &mut account.debts) {
            if debt.from > until && debt.standing == Standing::Owed {
                tell(Fate::Unknown(debt.fault));
                debt.standing = Standing::Possible;
            }
            debt.until = debt.until.min(until);
        }
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_settled(&self) -> bool {
        self.accounts.values().all(|account| account.debts.is_empty() && account.early.is_empty())
    }

    /// Whether nothing is known of any device.
    pub(crate) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether something is waited for of a device.
    pub(crate) fn is_owed(&self, place: Place) -> bool {
        self.accounts.get(&place).is_some_and(|account| !account.debts.is_empty())
    }

    /// By which fault a device has lost its last session.
    pub(crate) fn struck_by(&self, place: Place) -> Option<u32> {
        self.struck.get(&place).copied()
    }

    fn debts(&mut self, place: Place) -> impl Iterator<Item = &mut Debt> {
        self.accounts.get_mut(&place).into_iter().flat_map(|account| &mut account.debts)
    }

    fn note_fault(&mut self, place: Place, fault: Option<u32>) {
        match fault {
            Some(fault) => drop(self.struck.insert(place, fault)),
            None => drop(self.struck.remove(&place)),
        }
    }

    fn forget_if_empty(&mut self, place: Place) {
        if self.accounts.get(&place).is_some_and(Account::is_empty) {
            self.accounts.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: Span = Span(1_000);

    fn debt(since: u64, standing: Standing) -> Debt {
        let from = if matches!(standing, Standing::Delayed | Standing::Silent) { since + 500 } else { since };
        Debt { since: Micros(since), from: Micros(from), until: Micros(from).after(LOSS), fault: Some(7), standing }
    }

    /// What is told of devices to which these things happen.
    #[derive(Default)]
    struct Told {
        wills: Wills<u32>,
        fates: Vec<Fate>,
    }

    impl Told {
        fn ended(&mut self, since: u64, standing: Standing) -> &mut Self {
            self.wills.ended(1, debt(since, standing), true, &mut |fate| self.fates.push(fate));
            self
        }

        fn arrived(&mut self, at: u64, presence: Presence) -> &mut Self {
            self.wills.arrived(1, Micros(at), presence, false, &mut |fate| self.fates.push(fate));
            self
        }

        fn expire(&mut self, now: u64) -> &mut Self {
            self.wills.expire(Micros(now), LOSS, |_| true, &mut |fate| self.fates.push(fate));
            self
        }

        fn heard_again(&mut self, now: u64) -> &mut Self {
            let until = Micros(now).after(LOSS);
            self.wills.heard_again(1, Micros(now), until, &mut |fate| self.fates.push(fate));
            self
        }

        #[track_caller]
        fn check(&mut self, fates: &[Fate]) {
            assert_eq!(self.fates, fates);
        }
    }

    const EXPECTED: Fate = Fate::Expected(Some(7));
    const MISSING: Fate = Fate::Missing(Some(7));

    const fn seen(since: u64, at: u64) -> Fate {
        Fate::Seen { since: Micros(since), at: Micros(at), fault: Some(7) }
    }

    #[test]
    fn a_will_is_seen_once_and_missing_after_its_time() {
        Told::default()
            .ended(10, Standing::Owed)
            .arrived(30, Presence::Away)
            .expire(5_000)
            .check(&[EXPECTED, seen(10, 30)]);
        let mut lost = Told::default();
        lost.ended(10, Standing::Owed).expire(1_009).check(&[EXPECTED]);
        lost.expire(1_010).check(&[EXPECTED, MISSING]);
        assert!(lost.wills.is_settled());
        lost.arrived(2_000, Presence::Up).check(&[EXPECTED, MISSING, Fate::Late(Some(7))]);
        assert!(lost.wills.is_empty());
    }

    #[test]
    fn a_will_that_nobody_owes_is_unexpected_at_once_or_when_no_end_explains_it() {
        Told::default().arrived(5, Presence::Away).check(&[Fate::Unexpected(None)]);
        Told::default().arrived(5, Presence::New).check(&[Fate::ByBroker]);
        Told::default().arrived(5, Presence::Up).expire(1_004).check(&[]);
        Told::default().arrived(5, Presence::Up).expire(1_005).check(&[Fate::Unexpected(None)]);
        // The broker had ended the session, and the will was faster than that news.
        Told::default().arrived(5, Presence::Up).ended(6, Standing::Brokers).expire(9_000).check(&[Fate::ByBroker]);
        Told::default().ended(6, Standing::Brokers).arrived(7, Presence::Away).expire(9_000).check(&[Fate::ByBroker]);
        Told::default().ended(6, Standing::Brokers).expire(9_000).check(&[]);
    }

    #[test]
    fn of_two_ends_the_first_will_belongs_to_the_older() {
        let mut told = Told::default();
        told.ended(10, Standing::Owed).ended(20, Standing::Owed).arrived(25, Presence::Away).arrived(28, Presence::Up);
        told.check(&[EXPECTED, EXPECTED, seen(10, 25), seen(20, 28)]);
    }

    #[test]
    fn a_device_that_is_back_before_the_delay_is_over_owes_none() {
        let mut early = Told::default();
        early.ended(10, Standing::Delayed);
        early.wills.back(1, Micros(509));
        early.expire(9_000).check(&[]);
        let mut late = Told::default();
        late.ended(10, Standing::Delayed);
        late.wills.back(1, Micros(510));
        late.expire(511).arrived(600, Presence::Up).check(&[EXPECTED, seen(10, 600)]);
    }

    #[test]
    fn a_silence_is_owed_when_the_keep_alive_is_over_or_the_device_gives_up() {
        // Over before the broker could notice: if it did all the same, that counts.
        Told::default().ended(10, Standing::Silent).heard_again(300).expire(9_000).check(&[]);
        let noticed = [EXPECTED, seen(10, 320)];
        Told::default().ended(10, Standing::Silent).heard_again(300).arrived(320, Presence::Up).check(&noticed);
        // Then the broker closes what it had given up.
        let mut closed = Told::default();
        closed.ended(10, Standing::Silent).heard_again(300).ended(310, Standing::Brokers).arrived(320, Presence::Away);
        closed.expire(9_000).check(&noticed);
        Told::default()
            .ended(10, Standing::Silent)
            .expire(510)
            .heard_again(800)
            .expire(1_510)
            .check(&[EXPECTED, MISSING]);
        let mut given_up = Told::default();
        given_up.ended(10, Standing::Silent);
        given_up.wills.give_up(1, &mut |fate| given_up.fates.push(fate));
        given_up.arrived(400, Presence::Away).check(&[EXPECTED, seen(10, 400)]);
        // The will was faster than the device: its session owes nothing more, however it ends, and the next one does.
        let mut faster = Told::default();
        faster.ended(10, Standing::Silent).arrived(400, Presence::Up).check(&[EXPECTED, seen(10, 400)]);
        faster.wills.give_up(1, &mut |fate| faster.fates.push(fate));
        faster.heard_again(450).ended(460, Standing::Brokers).expire(9_000).check(&[EXPECTED, seen(10, 400)]);
        assert!(faster.wills.is_silent(1) && faster.wills.is_settled());
        faster.wills.begun(1);
        assert!(faster.wills.is_empty());
    }

    #[test]
    fn who_is_away_cannot_know() {
        let mut told = Told::default();
        told.wills.ended(1, debt(10, Standing::Owed), false, &mut |fate| told.fates.push(fate));
        told.check(&[EXPECTED, Fate::Unknown(Some(7))]);
        let mut told = Told::default();
        told.ended(10, Standing::Owed);
        told.wills.observer_lost(|_| false, &mut |fate| told.fates.push(fate));
        told.wills.observer_back(|_| true, Micros(5_000));
        told.expire(4_999).check(&[EXPECTED]);
        told.wills.observer_lost(|_| true, &mut |fate| told.fates.push(fate));
        told.check(&[EXPECTED, Fate::Unknown(Some(7))]);
    }

    #[test]
    fn a_drain_waits_no_longer_than_it_may() {
        let mut told = Told::default();
        told.ended(10, Standing::Owed).ended(20, Standing::Silent);
        told.wills.drain(Micros(100), &mut |fate| told.fates.push(fate));
        told.expire(100).check(&[EXPECTED, MISSING]);
        assert!(told.wills.is_settled());
    }
}
