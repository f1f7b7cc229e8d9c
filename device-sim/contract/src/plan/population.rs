//! How many devices a fleet has at any time, and when each of them is there.
//!
//! Device *i* is there while *i* < N(t). Where N grows from A to B from T on, device *i* comes at T + D · (i − A) / (B − A),
//! D being how long the growth takes, but no sooner than the connect rate lets it; where N shrinks, the last one goes first.
//! Each growth has the rate to itself, also while an earlier one is not over.
//! What the future does not hold is not asked: an instant is found by a search in a tree over the changes.

use std::ops::Range;

use crate::{
    time::Micros,
    units::{Rate, Span},
};

/// The devices that no leg moves: neighbour of any others in a tree of the lowest and the highest.
const NOBODY: Range<u32> = Range { start: u32::MAX, end: 0 };

/// A change of the number of devices: from what there is to `to`, in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Micros,
    pub(super) to: u32,
    pub(super) over: Span,
}

/// A change, with the number of devices before it and that which it comes to before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leg {
    change: Change,
    from: u32,
    reached: u32,
    /// How long it goes on: no longer than to the next one.
    lasts: Span,
}

impl Leg {
    /// N at an instant that is not before the leg.
    fn at(&self, at: Micros) -> u32 {
        let Change { at: begin, to, over, .. } = self.change;
        let step = to.abs_diff(self.from);
        let past = u128::from(at.since(begin).0) + 1;
        // How many have come, or gone: those whose instant is not after this one.
        let moved = match u128::from(over.0) {
            0 => step,
            over => u32::try_from((u128::from(step) * past).div_ceil(over)).map_or(step, |moved| moved.min(step)),
        };
        if to >= self.from { self.from + moved } else { self.from - moved }
    }

    /// Whether device `index` comes by this leg, or goes.
    fn moves(&self, index: u32) -> Option<Move> {
        if (self.from..self.reached).contains(&index) {
            return Some(Move::Comes);
        }
        (self.reached..self.from).contains(&index).then_some(Move::Goes)
    }

    /// How many go before device `index`, which is one that this leg moves.
    const fn turn(&self, index: u32) -> u32 {
        if self.change.to >= self.from { index - self.from } else { self.from - 1 - index }
    }

    /// When N counts device `index` in, or out.
    fn planned(&self, index: u32) -> Micros {
        let Change { at, to, over } = self.change;
        let (step, turn) = (u64::from(to.abs_diff(self.from)).max(1), u64::from(self.turn(index)));
        // A week of ten million devices still fits; a division of twice the bits takes four times as long.
        let past = over.0.checked_mul(turn).map_or_else(
            || u64::try_from(u128::from(over.0) * u128::from(turn) / u128::from(step)).unwrap_or(u64::MAX),
            |product| product / step,
        );
        at.after(Span(past))
    }

    /// When it connects, or leaves: no faster than the rate, counted in this leg alone.
    fn instant(&self, index: u32, rate: Rate) -> Micros {
        self.planned(index).max(self.change.at.after(rate.time_for(self.turn(index).into())))
    }

    /// When the last device that it moves has come or gone.
    fn settles(&self, rate: Rate) -> Micros {
        let moved = self.reached.abs_diff(self.from);
        self.change.at.after(self.lasts.max(rate.time_for(moved.saturating_sub(1).into())))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Comes,
    Goes,
}

/// A time in which a device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// When it connects.
    pub from: Micros,
    /// When it leaves; [`Micros::NEVER`] if it stays.
    pub until: Micros,
}

/// The number of devices as a function of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    legs: Vec<Leg>,
    rate: Rate,
    /// When each leg is over, with all before it and all devices that they move.
    over: Vec<Micros>,
    /// Which devices the legs below each node of a binary tree move. It has a power of two of leaves; the root is node 1, the
    /// children of node `i` are `2i` and `2i + 1`.
    tree: Vec<Range<u32>>,
}

impl Population {
    /// The number under these changes, the earliest first, of devices that connect at `rate`.
    pub(super) fn new(changes: impl IntoIterator<Item = Change>, rate: Rate) -> Self {
        let mut legs: Vec<Leg> = Vec::new();
        for change in changes {
            let from = match legs.last_mut() {
                None => 0,
                Some(last) => {
                    last.reached = last.before(change.at);
                    last.lasts = last.lasts.min(change.at.since(last.change.at));
                    last.reached
                }
            };
            legs.push(Leg { change, from, reached: change.to, lasts: change.over });
        }
        let leaves = legs.len().next_power_of_two();
        let moved = legs.iter().map(|leg| leg.from.min(leg.reached)..leg.from.max(leg.reached));
        let mut tree: Vec<Range<u32>> = std::iter::repeat_n(NOBODY, leaves).chain(moved).collect();
        tree.resize(2 * leaves, NOBODY);
        for node in (1..leaves).rev() {
            let (left, right) = (tree[2 * node].clone(), tree[2 * node + 1].clone());
            tree[node] = left.start.min(right.start)..left.end.max(right.end);
        }
        let mut over: Vec<Micros> = Vec::with_capacity(legs.len());
        for leg in &legs {
            over.push(leg.settles(rate).max(over.last().copied().unwrap_or_default()));
        }
        Self { legs, rate, over, tree }
    }

    /// How many devices there are at `at`.
    pub fn at(&self, at: Micros) -> u32 {
        let next = self.legs.partition_point(|leg| leg.change.at <= at);
        next.checked_sub(1).map_or(0, |leg| self.legs[leg].at(at))
    }

    /// How many there are in the end.
    pub fn last(&self) -> u32 {
        self.legs.last().map_or(0, |leg| leg.change.to)
    }

    /// The most that there are at any time from `from` on.
    pub fn most(&self, from: Micros) -> u32 {
        let next = self.legs.partition_point(|leg| leg.change.at <= from);
        let later = self.legs[next.saturating_sub(1)..].iter().map(|leg| leg.from.max(leg.reached));
        // The leg of `from` itself counts from there on.
        let current = next.checked_sub(1).map(|leg| self.at(from).max(self.legs[leg].reached));
        later.skip(usize::from(next > 0)).chain(current).max().unwrap_or(0)
    }

    /// When the last device has come or gone.
    pub fn settles(&self) -> Micros {
        self.over.last().copied().unwrap_or_default()
    }

    /// When device `index` is there, `now` or the next time; `None` if it does not come any more.
    pub fn stay(&self, index: u32, now: Micros) -> Option<Stay> {
        // What is over is not looked at; who is there since then has been there since ever.
        let (mut leg, devices) = self.settled(now);
        let mut from = (index < devices).then(|| self.legs[0].change.at);
        // A leave that is not over when a later change keeps the device after all.
        let mut pending: Option<Stay> = None;
        while let Some(position) = self.next_move(leg, index) {
            let found = &self.legs[position];
            leg = position + 1;
            let (planned, instant) = (found.planned(index), found.instant(index, self.rate));
            if let Some(stay) = pending.take() {
                if stay.until >= planned {
                    from = Some(stay.from);
                    continue;
                }
                if stay.until > now {
                    return Some(stay);
                }
            }
            match found.moves(index) {
                Some(Move::Comes) => from = Some(instant),
                Some(Move::Goes) => {
                    // Who would have come later does not come at all.
                    pending = from.take().filter(|from| *from < planned).map(|from| Stay { from, until: instant });
                }
                None => {}
            }
        }
        let stays = from.map(|from| Stay { from, until: Micros::NEVER });
        pending.filter(|stay| stay.until > now).or(stays)
    }

    /// The first leg from `from` on that moves device `index`.
    fn next_move(&self, from: usize, index: u32) -> Option<usize> {
        let leaves = self.tree.len() / 2;
        if from >= self.legs.len() {
            return None;
        }
        // Each leg begins where the one before has ended, so that one below a node moves what lies between its ends.
        let moves = |node: usize| self.tree[node].start <= index && index < self.tree[node].end;
        let mut node = from + leaves;
        loop {
            if moves(node) {
                while node < leaves {
                    node = if moves(2 * node) { 2 * node } else { 2 * node + 1 };
                }
                return Some(node - leaves);
            }
            // On to what lies to the right, by as much at once as begins there.
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
    }

    /// How many of the changes are over by `now`, with all devices that they move, and how many devices they come to.
    pub(super) fn settled(&self, now: Micros) -> (usize, u32) {
        let over = self.over.partition_point(|over| *over <= now);
        (over, over.checked_sub(1).map_or(0, |leg| self.legs[leg].reached))
    }
}

impl Leg {
    /// N just before a change that follows.
    fn before(&self, at: Micros) -> u32 {
        if self.change.over == Span::ZERO {
            return self.change.to;
        }
        match at.0.checked_sub(1).map(Micros).filter(|before| *before >= self.change.at) {
            Some(before) => self.at(before),
            None => self.from,
        }
    }
}
