//! The ledger: what became of each message that is followed, per device and stream.
//!
//! A row holds the messages that are not judged yet, so its size is bounded by rate · `lossAfter`, not by the number
//! of messages. Judgement is final: what arrives after it was counted as lost is late, and stays lost.

use std::collections::{HashSet, VecDeque};

use fleet_contract::{stats::Messages, time::Micros};

use crate::index::{DeviceIndex, StreamIndex};

/// How many lost messages of a shard are remembered to tell a late arrival from a duplicate.
const LOST_REMEMBERED: usize = 65_536;

/// A row of the ledger: the messages of one stream of one device, in the order of their sequence.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// The sequence of the stream's next message, whether that will be followed or not.
    pub(crate) next: u32,
    /// From `base` on, without gaps.
    window: VecDeque<Entry>,
    /// The sequence of the first message in the window.
    base: u32,
    /// One past the highest sequence that has arrived.
    arrived_end: u32,
    /// One past the highest sequence that nobody followed to its end: what arrives from before it need not have arrived before.
    unfollowed_end: u32,
}

/// By which the ledger tells the phases of a run apart, of which few are open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PhaseMark(u8);

impl PhaseMark {
    /// Of no phase.
    pub(crate) const NONE: Self = Self(0);

    /// How many bits it takes.
    const BITS: u32 = 6;

    /// A mark that is below 64.
    pub(crate) const fn new(mark: u8) -> Self {
        debug_assert!(mark < 1 << Self::BITS, "it has its place in an entry");
        Self(mark)
    }
}

/// The counters of a stream in each phase.
pub(crate) trait Counts {
    /// Those of the messages that fell due in a phase.
    fn of(&mut self, phase: PhaseMark) -> &mut Messages;

    /// The number of a phase, where its messages are told apart from those of the run.
    fn number(&self, phase: PhaseMark) -> Option<u32>;
}

/// A message that is not judged yet, or waits behind one that is not: when it was sent, its phase, and flags in the low bits.
#[derive(Debug, Clone, Copy)]
struct Entry(u64);

impl Entry {
    const FLAGS: u32 = 5;
    /// Time is left 53 bits of microseconds, until the year 2255.
    const LOW: u32 = Self::FLAGS + PhaseMark::BITS;
    /// Judged, or not followed at all.
    const SETTLED: u64 = 1;
    /// Acknowledged by the broker.
    const ACKNOWLEDGED: u64 = 2;
    /// Sent while the observer was away: only its persistent session may bring it.
    const GAP: u64 = 4;
    /// Of QoS 0: gone with the observer's connection.
    const FLEETING: u64 = 8;
    /// Its device has ended the connection before an acknowledgement, and does not send it again.
    const CUT: u64 = 16;

    const fn new(sent: Micros, phase: PhaseMark, flags: u64) -> Self {
        Self(sent.0 << Self::LOW | (phase.0 as u64) << Self::FLAGS | flags)
    }

    const fn sent(self) -> Micros {
        Micros(self.0 >> Self::LOW)
    }

    const fn phase(self) -> PhaseMark {
        PhaseMark((self.0 >> Self::FLAGS & ((1 << PhaseMark::BITS) - 1)) as u8)
    }

    const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// How a message is followed when it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// The observer is subscribed.
    Observed,
    /// The observer is away, but its session at the broker collects the message.
    InGap,
    /// Nobody follows it.
    Unobserved,
}

/// What an arrival meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The first arrival, in time; `reordered` when a later one of the stream came before.
    Delivered {
        /// Whether a later one came first.
        reordered: bool,
    },
    /// It came before.
    Duplicate,
    /// It was counted as lost.
    Late,
    /// Nobody followed it when it was sent, or it was counted as unknown, or it is as old as such a message: it proves nothing.
    Unfollowed,
    /// No message of this row.
    Foreign,
}

/// A message that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Its sequence.
    pub(crate) seq: u32,
    /// When it was sent.
    pub(crate) sent: Micros,
    /// Whether the broker had acknowledged it.
    pub(crate) acknowledged: bool,
    /// The number of the phase in which it counts.
    pub(crate) phase: Option<u32>,
}

impl Row {
    /// The row of a stream that goes on with `next`, after messages that are all judged and of which nothing else is
    /// remembered.
    pub(crate) fn after(next: u32) -> Self {
        Self { next, base: next, arrived_end: next, unfollowed_end: next, ..Self::default() }
    }

    /// Enters the next message; `seq` follows the last one without a gap, and `count` is that of its phase.
    pub(crate) fn sent(
        &mut self,
        seq: u32,
        sent: Micros,
        following: Following,
        is_qos_0: bool,
        (phase, count): (PhaseMark, &mut Messages),
    ) {
        if self.window.is_empty() {
            self.base = seq;
        }
        debug_assert_eq!(self.end(), seq, "sequences have no gaps");
        let mut flags = if is_qos_0 { Entry::FLEETING } else { 0 };
        if following == Following::Unobserved {
            count.unobserved += 1;
            flags |= Entry::SETTLED;
            self.unfollowed_end = seq.saturating_add(1);
        } else {
            count.observed += 1;
            flags |= if following == Following::InGap { Entry::GAP } else { 0 };
        }
        self.window.push_back(Entry::new(sent, phase, flags));
        self.settle();
    }

    /// Notes that the broker has acknowledged a message.
    pub(crate) fn acknowledged(&mut self, seq: u32) {
        if let Some(entry) = self.entry(seq) {
            entry.0 |= Entry::ACKNOWLEDGED;
        }
    }

    /// Whether the fate of a message of this row is sealed.
    pub(crate) fn is_judged(&self, seq: u32) -> bool {
        match seq.checked_sub(self.base).map(|offset| self.window.get(offset as usize)) {
            None => true,
            Some(entry) => entry.is_some_and(|entry| entry.is(Entry::SETTLED)),
        }
    }

    /// Judges an arrival; in `phase` counts what it brought if the message is not known any more.
    pub(crate) fn arrived(
        &mut self,
        seq: u32,
        is_lost: impl FnOnce() -> bool,
        phase: PhaseMark,
        counts: &mut impl Counts,
    ) -> Judgement {
        let reordered = seq < self.arrived_end;
        let (end, unfollowed_end) = (self.end(), self.unfollowed_end);
        let judgement = match self.entry(seq) {
            Some(entry) if !entry.is(Entry::SETTLED) => {
                entry.0 |= Entry::SETTLED;
                let count = counts.of(entry.phase());
                count.delivered += 1;
                count.reordered += u64::from(reordered);
                Judgement::Delivered { reordered }
            }
            None if seq.wrapping_sub(end) < u32::MAX / 2 => return Judgement::Foreign,
            _ if is_lost() => {
                counts.of(phase).late += 1;
                Judgement::Late
            }
            _ if seq < unfollowed_end => Judgement::Unfollowed,
            _ => {
                counts.of(phase).duplicated += 1;
                Judgement::Duplicate
            }
        };
        self.arrived_end = self.arrived_end.max(seq.saturating_add(1));
        self.settle();
        judgement
    }

    /// Its device ends the connection itself: a broker need not pass on what it cannot acknowledge any more. `is_sent_again` where
    /// the session stays, and the device sends again what is not acknowledged; that of QoS 0 it never does.
    pub(crate) fn cut(&mut self, is_sent_again: bool) {
        for entry in &mut self.window {
            if !entry.is(Entry::ACKNOWLEDGED) && (entry.is(Entry::FLEETING) || !is_sent_again) {
                entry.0 |= Entry::CUT;
            }
        }
    }

    /// Judges what was sent at or before `deadline` and has not arrived: it is lost, or unknown where its device is the reason.
    pub(crate) fn expire(&mut self, deadline: Micros, counts: &mut impl Counts, mut on_lost: impl FnMut(Lost)) {
        let base = self.base;
        for (offset, entry) in self.window.iter_mut().enumerate() {
            if entry.sent() > deadline {
                break;
            }
            if entry.is(Entry::SETTLED) {
                continue;
            }
            entry.0 |= Entry::SETTLED;
            #[expect(clippy::cast_possible_truncation, reason = "a window is shorter than 2^32")]
            let seq = base.wrapping_add(offset as u32);
            let acknowledged = entry.is(Entry::ACKNOWLEDGED);
            let count = counts.of(entry.phase());
            if entry.is(Entry::CUT) {
                count.unknown += 1;
                self.unfollowed_end = self.unfollowed_end.max(seq.saturating_add(1));
                continue;
            }
            count.lost += 1;
            count.lost_acknowledged += u64::from(acknowledged);
            on_lost(Lost { seq, sent: entry.sent(), acknowledged, phase: counts.number(entry.phase()) });
        }
        self.settle();
    }

    /// The observer lost its connection: nobody will learn what became of the messages of QoS 0 on the way.
    pub(crate) fn observer_lost(&mut self, counts: &mut impl Counts) {
        self.give_up(Entry::FLEETING, counts);
    }

    /// The observer is back, but the broker has forgotten its session: what was sent in the gap is unknown.
    pub(crate) fn observer_forgotten(&mut self, counts: &mut impl Counts) {
        self.give_up(Entry::GAP, counts);
    }

    /// Counts as unknown what is marked so. It may arrive for the first time later on: a device that has no acknowledgement sends it
    /// again, and a broker may have queued one of QoS 0 for the observer's session.
    fn give_up(&mut self, flag: u64, counts: &mut impl Counts) {
        let mut seq = self.base;
        for entry in &mut self.window {
            seq = seq.saturating_add(1);
            if entry.is(flag) && !entry.is(Entry::SETTLED) {
                entry.0 |= Entry::SETTLED;
                counts.of(entry.phase()).unknown += 1;
                self.unfollowed_end = self.unfollowed_end.max(seq);
            }
        }
        self.settle();
    }

    /// How many messages are not judged yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.window.iter().filter(|entry| !entry.is(Entry::SETTLED)).count()
    }

    /// Whether every message is judged.
    pub(crate) fn is_settled(&self) -> bool {
        self.window.is_empty()
    }

    fn end(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a window is shorter than 2^32")]
        self.base.wrapping_add(self.window.len() as u32)
    }

    fn entry(&mut self, seq: u32) -> Option<&mut Entry> {
        self.window.get_mut(seq.checked_sub(self.base)? as usize)
    }

    /// Forgets the judged messages at the front.
    fn settle(&mut self) {
        while self.window.front().is_some_and(|entry| entry.is(Entry::SETTLED)) {
            self.window.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        // A burst leaves its memory behind only while it lasts.
        if self.window.is_empty() && self.window.capacity() > 64 {
            self.window = VecDeque::new();
        }
    }
}

/// The lost messages of a shard that may still turn up late; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct LostMemory {
    order: VecDeque<(DeviceIndex, StreamIndex, u32)>,
    set: HashSet<(DeviceIndex, StreamIndex, u32)>,
}

impl LostMemory {
    /// Remembers a lost message.
    pub(crate) fn insert(&mut self, device: DeviceIndex, stream: StreamIndex, seq: u32) {
        if self.order.len() == LOST_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.order.push_back((device, stream, seq));
        self.set.insert((device, stream, seq));
    }

    /// Whether a message was counted as lost.
    pub(crate) fn contains(&self, device: DeviceIndex, stream: StreamIndex, seq: u32) -> bool {
        self.set.contains(&(device, stream, seq))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of one phase, or of several that nobody tells apart.
    impl Counts for Messages {
        fn of(&mut self, _: PhaseMark) -> &mut Messages {
            self
        }

        fn number(&self, _: PhaseMark) -> Option<u32> {
            None
        }
    }

    fn row(messages: u32, count: &mut Messages) -> Row {
        let mut row = Row::default();
        for seq in 0..messages {
            row.sent(seq, Micros(u64::from(seq)), Following::Observed, false, (PhaseMark::NONE, count));
        }
        row
    }

    #[test]
    fn what_arrives_in_order_leaves_nothing_behind() {
        let mut count = Messages::default();
        let mut row = row(3, &mut count);
        for seq in 0..3 {
            assert_eq!(
                row.arrived(seq, || false, PhaseMark::NONE, &mut count),
                Judgement::Delivered { reordered: false }
            );
        }
        assert!(row.is_settled());
        assert_eq!((count.observed, count.delivered), (3, 3));
    }

    #[test]
    fn what_nobody_followed_is_no_duplicate_when_it_arrives_all_the_same() {
        let mut count = Messages::default();
        let mut row = Row::default();
        row.sent(0, Micros(0), Following::Unobserved, false, (PhaseMark::NONE, &mut count));
        row.sent(1, Micros(0), Following::Observed, false, (PhaseMark::NONE, &mut count));
        row.sent(2, Micros(0), Following::Unobserved, false, (PhaseMark::NONE, &mut count));
        row.sent(3, Micros(0), Following::Observed, false, (PhaseMark::NONE, &mut count));
        // Its subscription holds at the broker before the observer knows.
        assert_eq!(row.arrived(0, || false, PhaseMark::NONE, &mut count), Judgement::Unfollowed);
        assert_eq!(row.arrived(1, || false, PhaseMark::NONE, &mut count), Judgement::Delivered { reordered: false });
        assert_eq!(row.arrived(2, || false, PhaseMark::NONE, &mut count), Judgement::Unfollowed);
        assert_eq!(row.arrived(3, || false, PhaseMark::NONE, &mut count), Judgement::Delivered { reordered: false });
        assert_eq!(row.arrived(3, || false, PhaseMark::NONE, &mut count), Judgement::Duplicate);
        assert_eq!((count.delivered, count.duplicated, count.unobserved), (2, 1, 2));
    }

    #[test]
    fn what_is_judged_is_known_whether_it_is_still_held_or_not() {
        let mut count = Messages::default();
        let mut row = row(3, &mut count);
        row.arrived(0, || false, PhaseMark::NONE, &mut count);
        row.arrived(2, || false, PhaseMark::NONE, &mut count);
        assert_eq!([0, 1, 2, 3].map(|seq| row.is_judged(seq)), [true, false, true, false]);
    }

    #[test]
    fn a_later_one_first_makes_the_earlier_one_reordered() {
        let mut count = Messages::default();
        let mut row = row(2, &mut count);
        row.arrived(1, || false, PhaseMark::NONE, &mut count);
        assert_eq!(row.arrived(0, || false, PhaseMark::NONE, &mut count), Judgement::Delivered { reordered: true });
        assert_eq!(row.arrived(0, || false, PhaseMark::NONE, &mut count), Judgement::Duplicate);
        assert_eq!((count.reordered, count.duplicated), (1, 1));
    }

    #[test]
    fn what_is_lost_stays_lost_and_its_arrival_is_late() {
        let mut count = Messages::default();
        let mut row = row(3, &mut count);
        row.acknowledged(1);
        let mut lost = Vec::new();
        row.expire(Micros(1), &mut count, |message| lost.push((message.seq, message.acknowledged)));
        assert_eq!(lost, [(0, false), (1, true)]);
        assert_eq!(row.arrived(0, || true, PhaseMark::NONE, &mut count), Judgement::Late);
        assert_eq!((count.lost, count.lost_acknowledged, count.late, count.delivered), (2, 1, 1, 0));
        assert_eq!(row.in_flight(), 1);
    }

    #[test]
    fn a_gap_of_the_observer_makes_only_what_it_must_unknown() {
        let mut count = Messages::default();
        let mut row = Row::default();
        row.sent(0, Micros(0), Following::Observed, true, (PhaseMark::NONE, &mut count));
        row.sent(1, Micros(0), Following::Observed, false, (PhaseMark::NONE, &mut count));
        row.observer_lost(&mut count);
        row.sent(2, Micros(0), Following::Unobserved, true, (PhaseMark::NONE, &mut count));
        row.sent(3, Micros(0), Following::InGap, false, (PhaseMark::NONE, &mut count));
        row.observer_forgotten(&mut count);
        assert_eq!((count.observed, count.unobserved, count.unknown), (3, 1, 2));
        assert_eq!(row.in_flight(), 1);
        assert_eq!(row.arrived(1, || false, PhaseMark::NONE, &mut count), Judgement::Delivered { reordered: false });
        assert!(row.is_settled());
    }

    #[test]
    fn what_is_unknown_came_once_when_it_arrives_after_all() {
        let mut count = Messages::default();
        let mut row = row(1, &mut count);
        row.sent(1, Micros(1), Following::InGap, false, (PhaseMark::NONE, &mut count));
        row.sent(2, Micros(2), Following::Observed, false, (PhaseMark::NONE, &mut count));
        row.observer_forgotten(&mut count);
        // Its device sends it again, to a broker that has lost it.
        assert_eq!(row.arrived(1, || false, PhaseMark::NONE, &mut count), Judgement::Unfollowed);
        assert_eq!(row.arrived(2, || false, PhaseMark::NONE, &mut count), Judgement::Delivered { reordered: false });
        assert_eq!(row.arrived(2, || false, PhaseMark::NONE, &mut count), Judgement::Duplicate);
        assert_eq!((count.unknown, count.delivered, count.duplicated, count.reordered), (1, 1, 1, 0));
    }

    #[test]
    fn what_was_cut_off_without_an_answer_accuses_no_broker() {
        let judged = |is_sent_again: bool| {
            let mut count = Messages::default();
            let mut row = row(3, &mut count);
            row.sent(3, Micros(3), Following::Observed, true, (PhaseMark::NONE, &mut count));
            row.acknowledged(0);
            row.arrived(1, || false, PhaseMark::NONE, &mut count);
            row.cut(is_sent_again);
            row.sent(4, Micros(4), Following::Observed, false, (PhaseMark::NONE, &mut count));
            row.expire(Micros(4), &mut count, |_| {});
            // One that the broker had taken after all, and that arrives late.
            assert_eq!(row.arrived(3, || false, PhaseMark::NONE, &mut count), Judgement::Unfollowed);
            (count.delivered, count.lost, count.lost_acknowledged, count.unknown, count.duplicated)
        };
        assert_eq!(judged(false), (1, 2, 1, 2, 0));
        assert_eq!(judged(true), (1, 3, 1, 1, 0));
    }

    #[test]
    fn a_sequence_that_was_never_sent_is_foreign() {
        let mut count = Messages::default();
        let mut row = row(1, &mut count);
        assert_eq!(row.arrived(1, || false, PhaseMark::NONE, &mut count), Judgement::Foreign);
        assert_eq!(count.delivered, 0);
    }

    proptest! {
        /// No message leaves the books: whatever happens, observed = delivered + lost + unknown + in flight.
        #[test]
        fn messages_are_conserved(steps in prop::collection::vec((0_u8..8, 0_u32..40), 1..300)) {
            let mut count = Messages::default();
            let (mut row, mut next, mut now) = (Row::default(), 0, 0_u64);
            let mut lost = HashSet::new();
            for (step, seq) in steps {
                now += 1;
                match step {
                    0 | 1 => {
                        let following = [Following::Observed, Following::InGap, Following::Unobserved][(seq % 3) as usize];
                        row.sent(next, Micros(now), following, seq % 2 == 0, (PhaseMark::NONE, &mut count));
                        next += 1;
                    }
                    2 | 3 => { row.arrived(seq, || lost.contains(&seq), PhaseMark::NONE, &mut count); }
                    4 => row.expire(Micros(now.saturating_sub(u64::from(seq))), &mut count, |message| { lost.insert(message.seq); }),
                    5 => row.observer_lost(&mut count),
                    6 => row.cut(seq % 2 == 0),
                    _ => row.acknowledged(seq),
                }
                prop_assert_eq!(count.in_flight(), row.in_flight() as u64);
                prop_assert_eq!(count.observed + count.unobserved, u64::from(next));
            }
        }
    }
}
