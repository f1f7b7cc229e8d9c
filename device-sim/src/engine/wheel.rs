//! A hashed timer wheel: one timer a device, O(1) to set, move and fire, no allocation after it has grown.
//!
//! Timers fire at the first tick boundary (250 µs) at or after their instant, never before it.
//! The wheel spans 32,768 ticks, which are eight seconds; a timer further away stays in its slot for as many turns as it
//! needs.

use fleet_contract::{cost::SHORTEST_PAUSE, time::Micros, units::Span};

use super::slot::Slot;

/// A tick: no two looks at the timers are closer together.
const TICK_US: u64 = SHORTEST_PAUSE.0;
/// Slots of the wheel; a power of two.
const SLOTS: usize = 32_768;
const NONE: u32 = u32::MAX;

/// Timers of the devices 0 to n - 1 of a shard.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32]>,
    /// One bit a slot: whether it holds any timer.
    occupied: Box<[u64]>,
    timers: Vec<Timer>,
    /// The tick that fires next.
    next_tick: u64,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    at: Micros,
    next: u32,
    previous: u32,
    slot: u32,
}

impl Timer {
    const UNSET: Self = Self { at: Micros::NEVER, next: NONE, previous: NONE, slot: NONE };
}

impl Wheel {
    /// An empty wheel that starts turning at `now`.
    pub(super) fn new(now: Micros) -> Self {
        Self {
            heads: vec![NONE; SLOTS].into(),
            occupied: vec![0; SLOTS / 64].into(),
            timers: Vec::new(),
            next_tick: now.0 / TICK_US,
        }
    }

    /// Makes room for `devices` timers; those beyond are cleared.
    pub(super) fn resize(&mut self, devices: usize) {
        for index in devices..self.timers.len() {
            self.clear(Slot::new(index));
        }
        self.timers.resize(devices, Timer::UNSET);
        if self.timers.capacity() > 2 * devices + 1_024 {
            self.timers.shrink_to(devices);
        }
    }

    /// Sets the timer of `device` to `at`, wherever it stood.
    pub(super) fn set(&mut self, device: Slot, at: Micros) {
        if self.timers[device.place()].at == at {
            return;
        }
        self.clear(device);
        if at == Micros::NEVER {
            return;
        }
        let tick = at.0.div_ceil(TICK_US).max(self.next_tick);
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below SLOTS")]
        let slot = (tick % SLOTS as u64) as u32;
        let head = self.heads[slot as usize];
        let link = device.number();
        if head != NONE {
            self.timers[head as usize].previous = link;
        }
        self.timers[device.place()] = Timer { at, next: head, previous: NONE, slot };
        self.heads[slot as usize] = link;
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Takes the timer of `device` out.
    pub(super) fn clear(&mut self, device: Slot) {
        let Timer { next, previous, slot, .. } = std::mem::replace(&mut self.timers[device.place()], Timer::UNSET);
        if slot == NONE {
            return;
        }
        if next != NONE {
            self.timers[next as usize].previous = previous;
        }
        if previous == NONE {
            self.heads[slot as usize] = next;
            if next == NONE {
                self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.timers[previous as usize].next = next;
        }
    }

    /// Moves the timers that have come by `now` to the end of `fired`, and clears them.
    pub(super) fn turn(&mut self, now: Micros, fired: &mut Vec<Slot>) {
        let last = now.0 / TICK_US;
        // After a long sleep one full turn passes every slot.
        let first = self.next_tick.max((last + 1).saturating_sub(SLOTS as u64));
        self.next_tick = last + 1;
        for tick in first..=last {
            #[expect(clippy::cast_possible_truncation, reason = "the remainder is below SLOTS")]
            let slot = (tick % SLOTS as u64) as usize;
            let mut at = self.heads[slot];
            while at != NONE {
                let timer = self.timers[at as usize];
                if timer.at <= now {
                    let device = Slot::new(at as usize);
                    self.clear(device);
                    fired.push(device);
                }
                at = timer.next;
            }
        }
    }

    /// How long nothing fires: to the tick of the next occupied slot, at most one turn.
    pub(super) fn idle(&self, now: Micros) -> Span {
        let from = self.next_tick;
        let ticks = (0..SLOTS as u64 + 64)
            .step_by(64)
            .find_map(|ahead| self.first_in_word(from + ahead))
            .unwrap_or(from + SLOTS as u64);
        Micros(ticks.saturating_mul(TICK_US)).since(now)
    }

    /// The first occupied tick at or after `tick` within its word of 64 slots; the first word only from `tick` on.
    fn first_in_word(&self, tick: u64) -> Option<u64> {
        let tick = if tick == self.next_tick { tick } else { tick - tick % 64 };
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below SLOTS")]
        let slot = (tick % SLOTS as u64) as usize;
        let word = self.occupied[slot / 64] >> (slot % 64);
        (word != 0).then(|| tick + u64::from(word.trailing_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.turn(Micros(now), &mut fired);
        fired.sort_unstable();
        fired.into_iter().map(Slot::number).collect()
    }

    #[test]
    fn a_timer_fires_at_the_tick_after_its_instant_and_once() {
        let mut wheel = Wheel::new(Micros(0));
        wheel.resize(2);
        wheel.set(Slot::new(0), Micros(1_501));
        assert!(fired(&mut wheel, 1_500).is_empty());
        assert_eq!(wheel.idle(Micros(1_500)), Span(250));
        assert_eq!(fired(&mut wheel, 1_750), [0]);
        assert!(fired(&mut wheel, 9_000_000).is_empty());
    }

    #[test]
    fn an_overdue_timer_fires_at_the_next_turn() {
        let mut wheel = Wheel::new(Micros(5_000_000));
        wheel.resize(1);
        assert!(fired(&mut wheel, 5_000_000).is_empty());
        wheel.set(Slot::new(0), Micros(3));
        assert_eq!(fired(&mut wheel, 5_001_000), [0]);
    }

    #[test]
    fn shrinking_forgets_the_tail() {
        let mut wheel = Wheel::new(Micros(0));
        wheel.resize(3);
        (0..3).for_each(|device| wheel.set(Slot::new(device), Micros(7_000)));
        wheel.resize(1);
        assert_eq!(fired(&mut wheel, 8_000), [0]);
    }

    proptest! {
        #[test]
        fn every_timer_fires_exactly_when_a_sorted_list_says(
            steps in prop::collection::vec((0_usize..20, 0_u64..20_000_000, 0_u64..3_000_000), 1..80)
        ) {
            let mut wheel = Wheel::new(Micros(0));
            wheel.resize(20);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for (device, ahead, advance) in steps {
                wheel.set(Slot::new(device), Micros(now + ahead));
                model.insert(u32::try_from(device).unwrap(), now + ahead);
                let idle = wheel.idle(Micros(now)).0;
                let earliest = model.values().min().unwrap().max(&now);
                prop_assert!(now + idle <= earliest.div_ceil(TICK_US) * TICK_US + TICK_US);
                now += advance;
                let mut seen = fired(&mut wheel, now);
                // What came since the last tick may fire now or with the next one.
                let tick = now / TICK_US * TICK_US;
                let due: Vec<u32> = model.iter().filter(|(_, at)| **at <= tick).map(|(device, _)| *device).collect();
                for device in &due {
                    prop_assert!(seen.contains(device), "timer {device} did not fire by {now}");
                }
                for device in seen.drain(..) {
                    let at = model.remove(&device);
                    prop_assert!(at.is_some_and(|at| at <= now), "timer {device} fired at {now}, set to {at:?}");
                }
            }
        }
    }
}
